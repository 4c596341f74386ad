//! What became of every sample that the generator had to send.

use crate::bench::data::{Item, What};

/// What is known of a sample once its request is done with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It was never on the wire.
    #[default]
    Unsent,
    /// A 2xx said that it was written.
    Acknowledged,
    /// It was on the wire and no final answer came: stored or not, nobody can say.
    Indeterminate,
    /// The receiver refused it for good; parts of a refused request may still be stored.
    Refused,
}

impl Fate {
    fn from_bits(bits: u64) -> Self {
        match bits & FATE {
            1 => Self::Acknowledged,
            2 => Self::Indeterminate,
            3 => Self::Refused,
            _ => Self::Unsent,
        }
    }

    fn bits(self) -> u64 {
        match self {
            Self::Unsent => 0,
            Self::Acknowledged => 1,
            Self::Indeterminate => 2,
            Self::Refused => 3,
        }
    }
}

/// Scrapes in one word, at four bits each.
const PER_WORD: u32 = 16;
/// The fate's bits, and above them the one that says "repeated".
const FATE: u64 = 0b011;
const REPEATED: u64 = 0b100;

/// Fate of every sample, and whether it was on the wire more than once: four bits for each slot and scrape.
///
/// A day of scrapes each 15 s takes 2880 bytes a slot. Exemplars are counted elsewhere, not here.
#[derive(Debug, Default)]
pub struct Ledger {
    samples: Vec<Vec<u64>>,
    markers: Vec<Vec<u64>>,
}

impl Ledger {
    /// An empty ledger for so many slots.
    pub fn new(slots: usize) -> Self {
        Self {
            samples: vec![Vec::new(); slots],
            markers: vec![Vec::new(); slots],
        }
    }

    /// Notes what became of an item.
    pub fn record(&mut self, item: Item, fate: Fate) {
        self.change(item, FATE, fate.bits());
    }

    /// Notes that an item was on the wire more than once: a receiver may have it twice by the sender's doing.
    pub fn record_repeated(&mut self, item: Item) {
        self.change(item, REPEATED, REPEATED);
    }

    fn change(&mut self, item: Item, mask: u64, bits: u64) {
        let track = match item.what {
            What::Sample => &mut self.samples,
            What::Marker => &mut self.markers,
            What::Exemplar => return,
        };
        let words = &mut track[item.slot as usize];
        let (word, shift) = (
            (item.scrape / PER_WORD) as usize,
            item.scrape % PER_WORD * 4,
        );
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        words[word] = (words[word] & !(mask << shift)) | (bits << shift);
    }

    /// What became of an item.
    pub fn fate(&self, item: Item) -> Fate {
        Fate::from_bits(self.bits(item))
    }

    /// Whether an item was on the wire more than once.
    pub fn is_repeated(&self, item: Item) -> bool {
        self.bits(item) & REPEATED != 0
    }

    fn bits(&self, item: Item) -> u64 {
        let track = match item.what {
            What::Sample => &self.samples,
            What::Marker => &self.markers,
            What::Exemplar => return 0,
        };
        let word = track[item.slot as usize].get((item.scrape / PER_WORD) as usize);
        word.map_or(0, |word| word >> (item.scrape % PER_WORD * 4))
    }

    /// All items of a slot that were on the wire, by time; a marker before the sample it came with.
    pub fn of_slot(&self, slot: u32) -> impl Iterator<Item = (Item, Fate)> + '_ {
        let words = self.samples[slot as usize]
            .len()
            .max(self.markers[slot as usize].len());
        let both =
            move |scrape| [What::Marker, What::Sample].map(|what| Item { slot, scrape, what });
        (0..words as u32 * PER_WORD)
            .flat_map(both)
            .map(|item| (item, self.fate(item)))
            .filter(|(_, fate)| *fate != Fate::Unsent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_gives_back_what_was_recorded() {
        let mut ledger = Ledger::new(2);
        let item = |scrape, what| Item {
            slot: 1,
            scrape,
            what,
        };
        let noted = [
            (item(0, What::Sample), Fate::Acknowledged),
            (item(15, What::Sample), Fate::Refused),
            (item(31, What::Sample), Fate::Indeterminate),
            (item(32, What::Marker), Fate::Acknowledged),
            (item(32, What::Sample), Fate::Refused),
            (item(500, What::Sample), Fate::Acknowledged),
        ];
        ledger.record(item(31, What::Sample), Fate::Acknowledged);
        for (item, fate) in noted {
            ledger.record(item, fate);
        }
        assert_eq!(ledger.of_slot(1).collect::<Vec<_>>(), noted);
        ledger.record_repeated(item(31, What::Sample));
        ledger.record(item(31, What::Sample), Fate::Acknowledged);
        assert_eq!(ledger.fate(item(31, What::Sample)), Fate::Acknowledged);
        assert!(ledger.is_repeated(item(31, What::Sample)));
        assert!(!ledger.is_repeated(item(15, What::Sample)));
        assert_eq!(ledger.of_slot(0).count(), 0);
        assert_eq!(ledger.fate(item(33, What::Sample)), Fate::Unsent);
    }
}
