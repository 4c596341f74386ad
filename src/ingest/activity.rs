//! Requests under way.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Instant;

/// Requests under way, and when the last one ended: a stopping sidecar waits for its Prometheus to be done.
pub struct Activity(Mutex<(usize, Instant)>);

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new((0, Instant::now())))
    }
}

impl Activity {
    fn lock(&self) -> MutexGuard<'_, (usize, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn began(&self) {
        self.lock().0 += 1;
    }

    pub(super) fn ended(&self) {
        let mut activity = self.lock();
        *activity = (activity.0 - 1, Instant::now());
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.lock().0
    }

    /// How long there has been no request.
    pub fn idle_for(&self) -> Duration {
        let (in_flight, ended) = *self.lock();
        if in_flight > 0 {
            Duration::ZERO
        } else {
            ended.elapsed()
        }
    }
}
