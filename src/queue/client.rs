//! One HTTP POST to a receiver.
