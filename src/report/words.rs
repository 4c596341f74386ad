//! Numbers, times and foreign text, as people read them. Pure.

use std::time::{Duration, UNIX_EPOCH};

/// What stands where nothing is known.
pub const NOTHING: &str = "–";

/// With thousands separated: `12,400`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// In few characters: `1.2 M` from a million on.
pub fn short(n: u64) -> String {
    let scaled = |by: f64, unit: &str| format!("{:.1} {unit}", n as f64 / by);
    match n {
        0..=999_999 => count(n),
        1_000_000..=999_949_999 => scaled(1e6, "M"),
        999_950_000..=999_949_999_999 => scaled(1e9, "G"),
        _ => scaled(1e12, "T"),
    }
}

/// A rate: one decimal below ten.
pub fn rate(per_second: Option<f64>) -> String {
    match per_second {
        Some(rate) if rate >= 9.95 => short(rate.round() as u64),
        Some(rate) if rate > 0.0 => format!("{rate:.1}"),
        Some(_) => "0".to_owned(),
        None => NOTHING.to_owned(),
    }
}

/// Bytes in binary units: `1.2 GiB`.
pub fn bytes(n: f64) -> String {
    let sign = if n < 0.0 { "−" } else { "" };
    let mut rest = n.abs();
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        // What would be rounded to 1024 is one of the next unit.
        if rest < 1023.5 || unit == "TiB" {
            let decimals = usize::from(rest < 9.95 && unit != "B");
            return format!("{sign}{rest:.decimals$} {unit}");
        }
        rest /= 1024.0;
    }
    unreachable!("the last unit takes everything")
}

/// A duration in its two largest units: `0.3 s`, `12 s`, `3 min 20 s`, `4 d 6 h`.
pub fn time(seconds: f64) -> String {
    if !seconds.is_finite() || seconds >= 100.0 * 365.0 * 86_400.0 {
        return "over 100 years".to_owned();
    }
    let seconds = seconds.max(0.0);
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (days, hours) = (whole / 86_400, whole / 3600 % 24);
    let (minutes, rest) = (whole / 60 % 60, whole % 60);
    let pair = |a: u64, unit: &str, b: u64, smaller: &str| match b {
        0 => format!("{a} {unit}"),
        _ => format!("{a} {unit} {b} {smaller}"),
    };
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => pair(minutes, "min", rest, "s"),
        3600..86_400 => pair(hours, "h", minutes, "min"),
        _ => pair(days, "d", hours, "h"),
    }
}

/// A latency: milliseconds below a second.
pub fn latency(seconds: Option<f64>) -> String {
    match seconds {
        None => NOTHING.to_owned(),
        Some(seconds) if seconds >= 0.9995 => time(seconds),
        Some(seconds) if seconds >= 0.0095 => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) => format!("{:.1} ms", seconds * 1e3),
    }
}

/// A share in whole percent; below ten with one decimal.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let sign = if percent < 0.0 { "−" } else { "" };
    match percent.abs() {
        small if small >= 9.95 => format!("{sign}{small:.0} %"),
        small => format!("{sign}{small:.1} %"),
    }
}

/// A moment as people read it, seen from `now_ms`: the time of day, with its date if it is not of the last
/// day. UTC, as the logs.
pub fn moment(at_ms: i64, now_ms: i64) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(at_ms.max(0).cast_unsigned());
    // As HTTP writes it: `Fri, 15 May 2015 15:34:21 GMT`.
    let date = httpdate::fmt_http_date(at);
    let part = |range: std::ops::Range<usize>| date.get(range).unwrap_or_default();
    let day = if (now_ms - at_ms).abs() < 86_400_000 {
        String::new()
    } else {
        format!("{} ", part(5..16))
    };
    format!("{day}{} UTC", part(17..25))
}

/// A plural where there is one: `1 shard`, `2 shards`.
pub fn plural(n: u64, word: &str) -> String {
    format!("{} {word}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Foreign text, made safe for a terminal and a page: nothing in it moves a cursor, changes colours, breaks
/// the line or turns the reading direction.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let steers = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{61c}');
        if c.is_control() || steers {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
