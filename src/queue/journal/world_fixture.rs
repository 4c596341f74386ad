//! A queue without lanes for tests: it settles single elements at random, says so in entries, and knows,
//! element by element, what a journal of them has to come to.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::entry::{Checkpoint, Entry, JournalRun, Presettled, Settled, Unsettled};
use super::recover::Recovered;
use crate::log::Seq;
use crate::model::counts::{Counts, Kind};
use crate::model::runs::RunSet;
use crate::queue::batch::BatchId;
use crate::queue::ledger::{DropReason, Ledger};

/// What an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Free,
    Skipped,
    InFlight,
    Settled,
}

#[derive(Clone)]
struct Held {
    counts: Counts,
    elements: Vec<Is>,
}

impl Held {
    /// Ordinals of the elements that are one of these.
    fn those(&self, wanted: &'static [Is]) -> impl Iterator<Item = u32> {
        let all = self.elements.iter().enumerate();
        all.filter_map(|(o, is)| wanted.contains(is).then_some(o as u32))
    }

    fn count(&self, ordinals: impl IntoIterator<Item = u32>) -> Counts {
        let one = |o| Counts::of(self.counts.kind_of(o), 1);
        ordinals.into_iter().map(one).sum()
    }
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) rng: Rng,
    records: BTreeMap<Seq, Held>,
    next: Seq,
    totals: Counts,
    start_totals: Counts,
    ledger: Ledger,
    open: BTreeMap<BatchId, Vec<JournalRun>>,
    next_batch: u64,
    /// Of the last checkpoint.
    entered: Seq,
    entered_totals: Counts,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let first = Seq(1 + rng.u64(..1000));
        let start_totals = Counts {
            samples: rng.u64(..1_000_000),
            histograms: rng.u64(..1000),
            exemplars: rng.u64(..1000),
        };
        Self {
            rng,
            records: BTreeMap::new(),
            next: first,
            totals: start_totals,
            start_totals,
            ledger: Ledger::default(),
            open: BTreeMap::new(),
            next_batch: 1,
            entered: first,
            entered_totals: start_totals,
        }
    }

    /// Something happens that the journal is told of.
    pub(super) fn step(&mut self) -> Entry {
        loop {
            let entry = match self.rng.u32(..10) {
                0..2 => {
                    self.record();
                    None
                }
                2..5 => self.open(),
                5..8 => self.done(),
                _ => self.dropped(),
            };
            if let Some(entry) = entry {
                return entry;
            }
        }
    }

    fn record(&mut self) {
        let rng = &mut self.rng;
        let counts = Counts {
            samples: rng.u64(..12),
            histograms: rng.u64(..3),
            exemplars: rng.u64(..3),
        };
        let element = |_| {
            if rng.u32(..20) == 0 {
                Is::Skipped
            } else {
                Is::Free
            }
        };
        let elements = (0..counts.total()).map(element).collect();
        let held = Held { counts, elements };
        self.totals += held.count(held.those(&[Is::Free]));
        self.records.insert(self.next, held);
        self.next = Seq(self.next.0 + 1 + u64::from(self.rng.u32(..10) == 0));
    }

    /// Some elements that are in no batch; with them their runs.
    fn pick(&mut self) -> Option<(Vec<JournalRun>, Counts)> {
        let (mut runs, mut counts) = (Vec::new(), Counts::default());
        for _ in 0..self.rng.usize(1..4) {
            let records = self.records.iter_mut();
            let with_free = records.filter(|(_, held)| held.elements.contains(&Is::Free));
            let Some((seq, held)) = self.rng.choice(with_free.collect::<Vec<_>>()) else {
                break;
            };
            let mut picked: Vec<_> = held.those(&[Is::Free]).collect();
            picked.retain(|_| self.rng.u32(..3) > 0);
            counts += held.count(picked.iter().copied());
            runs.extend(runs_of(*seq, held.counts, &picked));
            for ordinal in picked {
                held.elements[ordinal as usize] = Is::InFlight;
            }
        }
        runs.sort_unstable_by_key(|run: &JournalRun| (run.seq, run.from));
        (!runs.is_empty()).then_some((runs, counts))
    }

    fn open(&mut self) -> Option<Entry> {
        let (runs, _) = self.pick()?;
        let batch = BatchId(self.next_batch);
        self.next_batch += 1;
        self.open.insert(batch, runs.clone());
        Some(Entry::Open { batch, runs })
    }

    fn done(&mut self) -> Option<Entry> {
        let batches: Vec<_> = self.open.keys().copied().collect();
        let batch = self.rng.choice(batches)?;
        let runs = self.open.remove(&batch)?;
        let counts = self.settle(&runs);
        let mut outcome = Settled::default();
        let mut left = counts;
        for part in 0..4 {
            let mut counts = Counts::default();
            for kind in Kind::ALL {
                let most = left.get(kind);
                *counts.slot(kind) = if part == 3 {
                    most
                } else {
                    self.rng.u64(..=most)
                };
            }
            left -= counts;
            match part {
                0 => outcome.delivered = counts,
                1 => outcome.quarantined = counts,
                2 => outcome.dropped = vec![(self.reason(), counts)],
                _ => outcome.unconfirmed = counts,
            }
        }
        self.ledger.delivered += outcome.delivered;
        self.ledger.unconfirmed += outcome.unconfirmed;
        self.ledger.quarantined += outcome.quarantined;
        for (reason, counts) in &outcome.dropped {
            self.ledger.drop(*reason, *counts);
        }
        Some(Entry::Done { batch, outcome })
    }

    fn dropped(&mut self) -> Option<Entry> {
        let (runs, counts) = self.pick()?;
        self.settle(&runs);
        let reason = self.reason();
        self.ledger.drop(reason, counts);
        Some(Entry::Dropped { reason, runs })
    }

    fn reason(&mut self) -> DropReason {
        DropReason::ALL[self.rng.usize(..DropReason::ALL.len())]
    }

    fn settle(&mut self, runs: &[JournalRun]) -> Counts {
        let mut all = Counts::default();
        for run in runs {
            let held = self.records.get_mut(&run.seq).expect("only known records");
            for ordinal in run.from..run.to {
                let was = std::mem::replace(&mut held.elements[ordinal as usize], Is::Settled);
                assert_eq!(was, Is::InFlight);
                assert_eq!(held.counts.kind_of(ordinal), run.kind);
            }
            all += held.count(run.from..run.to);
        }
        all
    }

    /// All that is known now.
    pub(super) fn checkpoint(&mut self) -> Checkpoint {
        (self.entered, self.entered_totals) = (self.next, self.totals);
        self.recovered().into_checkpoint()
    }

    /// What a journal comes to that said all of this.
    pub(super) fn recovered(&self) -> Recovered {
        let mut found = Recovered {
            start_totals: self.start_totals,
            cursor: self.entered,
            entered: self.entered,
            entered_totals: self.entered_totals,
            ledger: self.ledger.clone(),
            open: self.open.clone(),
            next_batch: self.next_batch,
            ..Recovered::default()
        };
        for (seq, held) in &self.records {
            if *seq >= self.entered {
                let counts = held.count(held.those(&[Is::Settled]));
                let runs = set_of(held.those(&[Is::Settled]));
                if !counts.is_zero() {
                    found.presettled.insert(*seq, Presettled { runs, counts });
                }
                continue;
            }
            let unsettled = held.count(held.those(&[Is::Free, Is::InFlight]));
            if !unsettled.is_zero() {
                found.cursor = found.cursor.min(*seq);
                let record = Unsettled {
                    seq: *seq,
                    settled: set_of(held.those(&[Is::Settled, Is::Skipped])),
                    unsettled,
                };
                found.records.insert(*seq, record);
            }
        }
        found
    }

    /// Every element that is settled.
    pub(super) fn settled(&self) -> BTreeSet<(Seq, u32)> {
        let all = self.records.iter();
        all.flat_map(|(seq, held)| held.those(&[Is::Settled]).map(|o| (*seq, o)))
            .collect()
    }

    /// Every element that a journal's outcome says is settled.
    pub(super) fn settled_in(&self, found: &Recovered) -> BTreeSet<(Seq, u32)> {
        let mut all = BTreeSet::new();
        for (seq, held) in &self.records {
            let settled: Box<dyn Fn(u32) -> bool> = if *seq < found.entered {
                match found.records.get(seq) {
                    Some(record) => Box::new(|o| record.settled.contains(o)),
                    None => Box::new(|_| true),
                }
            } else {
                match found.presettled.get(seq) {
                    Some(known) => Box::new(|o| known.runs.contains(o)),
                    None => Box::new(|_| false),
                }
            };
            let elements = held.those(&[Is::Free, Is::InFlight, Is::Settled]);
            let ordinals = elements.filter(|o| settled(*o));
            all.extend(ordinals.map(|o| (*seq, o)));
        }
        all
    }
}

fn set_of(ordinals: impl Iterator<Item = u32>) -> RunSet {
    let mut set = RunSet::default();
    ordinals.for_each(|o| set.insert(o, o + 1));
    set
}

/// One by one, so that it is not the code under test that splits them.
fn runs_of(seq: Seq, counts: Counts, ordinals: &[u32]) -> Vec<JournalRun> {
    let mut runs: Vec<JournalRun> = Vec::new();
    for ordinal in ordinals {
        let kind = counts.kind_of(*ordinal);
        match runs.last_mut() {
            Some(run) if run.to == *ordinal && run.kind == kind => run.to += 1,
            _ => runs.push(JournalRun {
                seq,
                from: *ordinal,
                to: ordinal + 1,
                kind,
            }),
        }
    }
    runs
}
