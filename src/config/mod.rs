//! What the operator wrote, made into values that cannot hold nonsense.
