//! Values with a unit, parsed and printed the way Prometheus writes them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes. Parses `8MiB`, `1GB`, `512`, `64KiB`; prints the largest exact binary unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 13] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (number, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.trim_end(), *factor)))
            .unwrap_or((text, 1));
        let refuse = || format!("not a size: {text:?} (write for example 64MiB, 2GiB or 1000000)");
        let number: u64 = number.parse().map_err(|_| refuse())?;
        number.checked_mul(factor).map(Self).ok_or_else(refuse)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in &UNITS[..4] {
            if self.0 >= *factor && self.0.is_multiple_of(*factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A duration in Prometheus' notation: `5s`, `1h30m`, `30ms`, `0`. A year is 365 days, a week 7.
///
/// Source: prometheus/common `model.ParseDuration`. Units must come in falling order, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

const SPANS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("not a duration: {text:?} (write for example 30ms, 5s or 1h30m)");
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let (mut rest, mut millis, mut next_unit) = (text, 0u64, 0);
        if rest.is_empty() {
            return Err(refuse());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at(letters);
            let place = SPANS[next_unit..]
                .iter()
                .position(|(name, _)| *name == unit);
            let place = next_unit + place.ok_or_else(refuse)?;
            let number: u64 = number.parse().map_err(|_| refuse())?;
            let part = number.checked_mul(SPANS[place].1).ok_or_else(refuse)?;
            millis = millis.checked_add(part).ok_or_else(refuse)?;
            next_unit = place + 1;
            rest = tail;
        }
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return write!(f, "0s");
        }
        for (unit, size) in SPANS {
            // Weeks and years only when nothing would be left over: `100d` reads better than `14w2d`.
            if matches!(unit, "y" | "w") && !millis.is_multiple_of(size) {
                continue;
            }
            if millis >= size {
                write!(f, "{}{unit}", millis / size)?;
                millis %= size;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_with_binary_and_decimal_units_and_print_exactly() {
        for (text, bytes, printed) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("1GB", 1_000_000_000, "1000000000"),
            ("2Gi", 2 << 30, "2GiB"),
            ("512", 512, "512"),
            ("10 KiB", 10 << 10, "10KiB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(
                (size.0, size.to_string().as_str()),
                (bytes, printed),
                "{text}"
            );
        }
        for bad in ["", "MiB", "-1", "1.5GiB", "99999999999TiB", "1XB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_parse_and_print_as_prometheus_writes_them() {
        for (text, millis, printed) in [
            ("30ms", 30, "30ms"),
            ("5s", 5_000, "5s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1m30s500ms", 90_500, "1m30s500ms"),
            ("1y", 31_536_000_000, "1y"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0, Duration::from_millis(millis), "{text}");
            assert_eq!(span.to_string(), printed);
        }
        for bad in [
            "",
            "5",
            "s",
            "5x",
            "1m1h",
            "1s1s",
            "1.5s",
            "-1s",
            "99999999999999y",
        ] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
