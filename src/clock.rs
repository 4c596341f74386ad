//! Time, in one place: everything else takes it as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

/// Wall clock, milliseconds since the epoch. Only for arrival times and what people read; intervals are
/// measured with [`Instant`], which no clock jump moves.
pub fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
