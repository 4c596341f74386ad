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

/// Wall clock as text: UTC, to the millisecond.
pub fn utc(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days since 0000-03-01, in eras of 400 years (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The other way round: UTC as [`utc`] writes it, with or without decimals.
pub fn parse_utc(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, decimals) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let millis: i64 = format!("{decimals:0<3}").get(..3)?.parse().ok()?;
    if !(0..=9999).contains(&year) {
        return None;
    }
    // Years begin in March, so that a leap day is the last one.
    let (years, months) = (year - i64::from(month <= 2), (month + 9) % 12);
    let (era, of_era) = (years.div_euclid(400), years.rem_euclid(400));
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100;
    let days = days + (153 * months + 2) / 5 + day - 1 - 719_468;
    let ms = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis;
    // A 30th of February, an hour 24 and three digits of a year come out otherwise than they went in.
    let again = utc(ms);
    let same = again.strip_prefix(&text[..19.min(text.len())]).is_some();
    same.then_some(ms)
}
