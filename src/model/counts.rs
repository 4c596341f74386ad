//! Elements counted by kind. Never add samples to exemplars: the ledger balances each kind by itself.

use std::ops::{Add, AddAssign, Sub, SubAssign};

/// What an element is. Metadata is state, not traffic, and is counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A float sample.
    Sample,
    /// A native histogram, integer or float.
    Histogram,
    /// An exemplar.
    Exemplar,
}

impl Kind {
    /// All kinds, in the order of a record's ordinals.
    pub const ALL: [Self; 3] = [Self::Sample, Self::Histogram, Self::Exemplar];

    /// The value of the `kind` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sample => "sample",
            Self::Histogram => "histogram",
            Self::Exemplar => "exemplar",
        }
    }
}

/// Elements by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// Float samples.
    pub samples: u64,
    /// Histogram samples.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

impl Counts {
    /// `n` elements of one kind.
    #[must_use]
    pub fn of(kind: Kind, n: u64) -> Self {
        let mut counts = Self::default();
        *counts.slot(kind) = n;
        counts
    }

    /// The count of one kind.
    pub fn get(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Sample => self.samples,
            Kind::Histogram => self.histograms,
            Kind::Exemplar => self.exemplars,
        }
    }

    /// The count of one kind, to be changed.
    pub fn slot(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Sample => &mut self.samples,
            Kind::Histogram => &mut self.histograms,
            Kind::Exemplar => &mut self.exemplars,
        }
    }

    /// Elements of all kinds: what `max_samples_per_send` and `capacity` count, as Prometheus does.
    pub fn total(&self) -> u64 {
        self.samples + self.histograms + self.exemplars
    }

    /// No element at all.
    pub fn is_zero(&self) -> bool {
        self.total() == 0
    }

    /// The difference, of numbers that may have wrapped around.
    #[must_use]
    pub fn wrapping_sub(&self, other: Self) -> Self {
        Self {
            samples: self.samples.wrapping_sub(other.samples),
            histograms: self.histograms.wrapping_sub(other.histograms),
            exemplars: self.exemplars.wrapping_sub(other.exemplars),
        }
    }

    /// The kind of the element with this ordinal in a record that holds `self`.
    pub fn kind_of(&self, ordinal: u32) -> Kind {
        let ordinal = u64::from(ordinal);
        if ordinal < self.samples {
            Kind::Sample
        } else if ordinal < self.samples + self.histograms {
            Kind::Histogram
        } else {
            Kind::Exemplar
        }
    }

    /// Elements of each kind among the ordinals `from..to` of a record that holds `self`.
    #[must_use]
    pub fn in_range(&self, from: u32, to: u32) -> Self {
        let (from, to) = (u64::from(from), u64::from(to));
        let overlap = |start: u64, end: u64| to.min(end).saturating_sub(from.max(start));
        let (s, h) = (self.samples, self.samples + self.histograms);
        Self {
            samples: overlap(0, s),
            histograms: overlap(s, h),
            exemplars: overlap(h, self.total()),
        }
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.samples += other.samples;
        self.histograms += other.histograms;
        self.exemplars += other.exemplars;
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        self -= other;
        self
    }
}

impl SubAssign for Counts {
    fn sub_assign(&mut self, other: Self) {
        self.samples -= other.samples;
        self.histograms -= other.histograms;
        self.exemplars -= other.exemplars;
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinal_tells_its_kind_and_a_range_its_counts() {
        use Kind::{Exemplar, Histogram, Sample};
        let held = Counts {
            samples: 3,
            histograms: 2,
            exemplars: 1,
        };
        let kinds: Vec<_> = (0..6).map(|o| held.kind_of(o)).collect();
        assert_eq!(
            kinds,
            [Sample, Sample, Sample, Histogram, Histogram, Exemplar]
        );
        for (from, to) in [(0, 6), (1, 4), (2, 3), (3, 3), (4, 6), (0, 0), (5, 6)] {
            let counted: Counts = (from..to).map(|o| Counts::of(held.kind_of(o), 1)).sum();
            assert_eq!(held.in_range(from, to), counted, "{from}..{to}");
        }
    }
}
