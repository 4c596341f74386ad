//! What became of every sample that the generator had to send, in memory and as a file.

use std::io::{self, BufRead, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::report::{LoadReport, LoadSummary};
use crate::bench::data::{DataOptions, DataSet, Item, What};
use crate::bench::ledger::{LedgerReader, LedgerWriter};

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

/// What the file's first line calls it.
const KIND: &str = "sluicegate bench load";

/// The data follow from their options, so the file has fates only.
#[derive(Serialize, Deserialize)]
struct Head {
    data: DataOptions,
    headers: Vec<(String, String)>,
}

/// A slot with the words of its fates.
#[derive(Serialize, Deserialize)]
struct Line {
    slot: u32,
    samples: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    markers: Vec<u64>,
}

impl LoadReport {
    /// Writes the ledger as [`crate::bench::ledger`] says, with all that is needed to know which samples they
    /// are.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_ledger(&self, out: impl Write) -> io::Result<()> {
        let data = DataOptions {
            start_ms: Some(self.data.start_ms()),
            ..self.data.options().clone()
        };
        let headers = self.headers.clone();
        let mut writer = LedgerWriter::begin(out, KIND, &Head { data, headers })?;
        let tracks = self.ledger.samples.iter().zip(&self.ledger.markers);
        for (slot, (samples, markers)) in (0..).zip(tracks) {
            if samples.is_empty() && markers.is_empty() {
                continue;
            }
            writer.line(&Line {
                slot,
                samples: samples.clone(),
                markers: markers.clone(),
            })?;
        }
        writer.end()
    }

    /// Reads what [`Self::write_ledger`] wrote. The numbers of the run are not in it: they are zero.
    ///
    /// # Errors
    /// What the system says, or why it is not such a file.
    pub fn read_ledger(input: impl BufRead) -> io::Result<Self> {
        let (mut reader, head) = LedgerReader::begin::<Head>(input, KIND)?;
        let start_ms = head.data.start_ms.unwrap_or_default();
        let data = Arc::new(DataSet::new(&head.data, start_ms));
        let mut ledger = Ledger::new(data.slots());
        while let Some(line) = reader.line::<Line>()? {
            let slot = line.slot as usize;
            if slot >= data.slots() {
                return Err(reader.refuse(&"these data have no such slot"));
            }
            ledger.samples[slot] = line.samples;
            ledger.markers[slot] = line.markers;
        }
        Ok(Self {
            summary: LoadSummary::default(),
            ledger,
            data,
            headers: head.headers,
        })
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
