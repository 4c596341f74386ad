//! The load generator and the counting receiver.
