//! How fast a log drains: what a sender that finds it full is told.

use std::time::Duration;

use tokio::time::Instant;

/// Bounds of the Retry-After that a full log answers, seconds.
const RETRY_AFTER: (f64, f64) = (1.0, 5.0);
/// Time over which the drain rate is averaged.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// Bytes a second at which the log drains, averaged.
pub(super) struct DrainRate {
    per_second: f64,
    freed: u64,
    since: Instant,
}

impl DrainRate {
    pub(super) fn new() -> Self {
        Self {
            per_second: 0.0,
            freed: 0,
            since: Instant::now(),
        }
    }

    pub(super) fn freed(&mut self, bytes: u64) {
        self.freed += bytes;
        let elapsed = self.since.elapsed();
        if elapsed >= Duration::from_secs(1) {
            let now = self.freed as f64 / elapsed.as_secs_f64();
            let weight = (elapsed.as_secs_f64() / RATE_WINDOW.as_secs_f64()).min(1.0);
            self.per_second += weight * (now - self.per_second);
            (self.freed, self.since) = (0, Instant::now());
        }
    }

    /// A little later for some than for others, so that they do not come back together.
    pub(super) fn retry_after(&self, missing: u64) -> Duration {
        let seconds = missing as f64 / self.per_second.max(1.0);
        let jitter = 1.0 + 0.5 * fastrand::f64();
        Duration::from_secs_f64((seconds * jitter).clamp(RETRY_AFTER.0, RETRY_AFTER.1))
    }
}
