//! Time, in one place: everything else takes it as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

pub use tokio::time::Instant;

/// Wall clock, milliseconds since the epoch. Only for arrival times and what people read; intervals are
/// measured with [`Instant`], which no clock jump moves.
pub fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// Time of a core that this thread has taken since it began.
pub fn cpu_of_thread() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

/// The same of the whole process since it began.
pub fn cpu_of_process() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}
