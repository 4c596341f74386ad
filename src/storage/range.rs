//! Which records are asked for.

use std::str::FromStr;

use crate::log::Seq;
use crate::log::disk::look::SeenSegment;

/// Sequences from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: Seq,
    pub(super) to: Seq,
}

impl Range {
    /// All there are.
    pub(super) const ALL: Self = Self {
        from: Seq(0),
        to: Seq(u64::MAX),
    };

    pub(super) fn holds(&self, seq: Seq) -> bool {
        self.from <= seq && seq <= self.to
    }

    pub(super) fn meets(&self, segment: &SeenSegment) -> bool {
        segment.end > self.from && segment.first <= self.to
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("not a sequence or FROM..TO: {text:?} (for example 12 or 12..20)");
        let number = |text: &str| text.trim().parse().map(Seq).map_err(|_| refuse());
        let (from, to) = match text.split_once("..") {
            Some((from, to)) => (number(from)?, number(to)?),
            None => (number(text)?, number(text)?),
        };
        if from > to {
            return Err(refuse());
        }
        Ok(Self { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_both_ends_and_is_never_empty() {
        let range = |from, to| Range {
            from: Seq(from),
            to: Seq(to),
        };
        assert_eq!("12".parse(), Ok(range(12, 12)));
        assert_eq!("12..20".parse(), Ok(range(12, 20)));
        for bad in ["", "x", "20..12", "..5", "5..", "1-2", "-1"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
        assert!(range(12, 20).holds(Seq(20)) && !range(12, 20).holds(Seq(21)));
    }
}
