//! How numbers and times are printed.

use std::fmt::Write as _;

use serde::Serializer;
use serde::ser::SerializeStruct as _;

pub(super) use crate::clock::utc;
use crate::model::counts::{Counts, Kind};

/// Bytes, rounded for people.
pub(super) fn bytes(bytes: u64) -> String {
    let (mut number, mut unit) = (bytes as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if number < 1024.0 {
            break;
        }
        (number, unit) = (number / 1024.0, larger);
    }
    if unit == "B" {
        return format!("{bytes}B");
    }
    format!("{number:.1}{unit}")
}

/// Elements by kind, for a sentence: those there are none of are left out.
pub(super) fn words(counts: Counts) -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        let n = counts.get(kind);
        if n > 0 || (kind == Kind::Sample && counts.is_zero()) {
            let comma = if text.is_empty() { "" } else { ", " };
            let plural = if n == 1 { "" } else { "s" };
            write!(text, "{comma}{n} {}{plural}", kind.as_str()).expect("a string takes it");
        }
    }
    text
}

/// Elements by kind, for a column: `120+3h+2e`.
pub(super) fn short(counts: Counts) -> String {
    let mut text = counts.samples.to_string();
    for (n, letter) in [(counts.histograms, 'h'), (counts.exemplars, 'e')] {
        if n > 0 {
            write!(text, "+{n}{letter}").expect("a string takes it");
        }
    }
    text
}

/// Elements by kind, as an object.
pub(super) fn counts<S: Serializer>(counts: &Counts, to: S) -> Result<S::Ok, S::Error> {
    let mut object = to.serialize_struct("Counts", 3)?;
    object.serialize_field("samples", &counts.samples)?;
    object.serialize_field("histograms", &counts.histograms)?;
    object.serialize_field("exemplars", &counts.exemplars)?;
    object.end()
}

/// Text of a sender or a file name, with nothing in it that a terminal would obey.
pub(super) fn escaped(text: &str) -> String {
    text.escape_debug().to_string()
}

/// Rows under their titles; the columns in `right` end where their titles end.
pub(super) fn table(titles: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<_> = titles.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let titles: Vec<_> = titles.iter().map(|title| (*title).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "  " } else { "   " };
            if right.contains(&column) {
                write!(line, "{gap}{cell:>width$}")
            } else {
                write!(line, "{gap}{cell:<width$}")
            }
            .expect("a string takes it");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_before_and_after_the_epoch_and_on_leap_days() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
        for ms in [i64::MIN, i64::MAX] {
            assert!(utc(ms).ends_with('Z'), "a damaged time is no panic");
        }
    }

    #[test]
    fn numbers_are_short_for_people() {
        for (number, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.5KiB"),
            (10 << 30, "10.0GiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        let mixed = Counts {
            samples: 120,
            histograms: 3,
            exemplars: 1,
        };
        assert_eq!(words(mixed), "120 samples, 3 histograms, 1 exemplar");
        assert_eq!(words(Counts::default()), "0 samples");
        assert_eq!(short(mixed), "120+3h+1e");
    }
}
