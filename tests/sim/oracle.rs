//! What must hold, told by what a receiver would see, and by nothing that the queue says of itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use prost::Message;
use sluicegate::log::{Seq, Tenant};
use sluicegate::model::content::Entry;
use sluicegate::model::counts::{Counts, Kind};
use sluicegate::queue::batch::{Batch, BatchId, Outcome};
use sluicegate::queue::journal::Ticket;
use sluicegate::queue::ledger::{Books, DropReason};
use sluicegate::wire::pb::rw1;

use super::data::{Element, Request, series_text};

/// An element in the log.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) element: Element,
    pub(crate) seq: Seq,
    tenant: Arc<Tenant>,
}

/// Everything that ever came in.
#[derive(Default)]
pub(crate) struct Admitted {
    known: HashMap<u64, Known>,
    /// Admitted elements of each record.
    records: HashMap<Seq, Vec<u64>>,
    total: Counts,
    /// Records that were withdrawn at any time: their order is no longer promised.
    withdrawn: HashSet<Seq>,
    /// Records given up because their sender stayed away.
    expired: HashSet<Seq>,
    /// Records that could not be read again.
    pub(crate) unreadable: HashSet<Seq>,
}

impl Admitted {
    pub(crate) fn add(&mut self, request: &Request, seq: Seq) {
        let ids = self.records.entry(seq).or_default();
        for element in &request.elements {
            if element.admitted {
                ids.push(element.id);
            }
            let known = Known {
                element: element.clone(),
                seq,
                tenant: Arc::clone(&request.tenant),
            };
            self.known.insert(element.id, known);
        }
        self.total += request.admitted();
    }

    pub(crate) fn withdraw(&mut self, seq: Seq) {
        self.withdrawn.insert(seq);
    }

    pub(crate) fn expire(&mut self, seq: Seq) {
        self.expired.insert(seq);
    }
}

/// Place of an element in the order of its series.
type Rank = (Seq, (usize, usize, usize));

/// A batch that went out, in a journal.
struct Told {
    id: BatchId,
    ids: Vec<u64>,
    opened: Ticket,
    /// What it is made of again, if it is.
    again: Option<Again>,
    /// The entry that settled it, and how.
    done: Option<(Ticket, Outcome)>,
}

/// A batch that was open when the process died, and comes again.
#[derive(Clone)]
struct Again {
    /// Its number in `expected`.
    open: u64,
    /// What of it was unreadable this time. In another life it may be read.
    lost: Vec<u64>,
}

/// What one receiver has seen, and what it has said.
#[derive(Default)]
pub(crate) struct Oracle {
    /// All batches, if there is a journal.
    told: Vec<Told>,
    /// Batches that were open when the process died: each must come again, of the same elements.
    expected: BTreeMap<u64, BTreeSet<u64>>,
    /// So many of these there were.
    open: u64,
    /// Lane rules were other ones then.
    pub(crate) regrouped: bool,
    pub(crate) replayed: u64,
    live: HashMap<BatchId, Vec<u64>>,
    /// Of batches that were refused: what has a verdict already, as a part of its batch.
    parts: HashMap<BatchId, HashSet<u64>>,
    /// Series of live batches.
    busy: HashMap<Arc<str>, BatchId>,
    /// Elements that were in a batch at any time.
    seen: HashSet<u64>,
    settled: HashSet<u64>,
    /// By series, exemplars apart: they stand beside the samples of an entry.
    newest: HashMap<(Arc<str>, bool), Rank>,
    pub(crate) delivered: Counts,
    pub(crate) unconfirmed: Counts,
    pub(crate) refused: Counts,
    unrepresentable: Counts,
}

impl Oracle {
    /// A batch goes out for the first time.
    pub(crate) fn cut(
        &mut self,
        batch: &Batch,
        opened: Option<Ticket>,
        required: bool,
        admitted: &Admitted,
    ) -> Result<(), String> {
        let mut ids = Vec::new();
        for entry in &batch.content.entries {
            let series = series_of(&batch.tenant, entry);
            for (id, timestamp, start) in elements_of(batch, entry) {
                let known = admitted
                    .known
                    .get(&id)
                    .ok_or_else(|| format!("element {id} was never received"))?;
                self.check(batch, known, (&series, timestamp, start), admitted)?;
                ids.push(id);
            }
        }
        if ids.len() as u64 != batch.counts.total() {
            return Err(format!(
                "batch {} counts {:?} but holds {}",
                batch.id.0,
                batch.counts,
                ids.len()
            ));
        }
        let again = self.check_replay(batch, &ids, required, admitted)?;
        if let Some(opened) = opened {
            self.told.push(Told {
                id: batch.id,
                ids: ids.clone(),
                opened,
                again,
                done: None,
            });
        }
        self.live.insert(batch.id, ids);
        Ok(())
    }

    /// A batch goes out once more, or a part of it that has no verdict yet and overtakes none.
    pub(crate) fn again(&mut self, batch: &Batch, admitted: &Admitted) -> Result<(), String> {
        let all = self.live.get(&batch.id);
        let all: HashSet<_> = all.into_iter().flatten().copied().collect();
        let ids = ids_of(batch);
        if ids.len() as u64 != batch.counts.total() || !ids.iter().all(|id| all.contains(id)) {
            return Err(format!("batch {} goes out again as {ids:?}", batch.id.0));
        }
        let mut newest = HashMap::new();
        let before = self.parts.get(&batch.id).into_iter().flatten();
        for known in before.clone().map(|id| &admitted.known[id]) {
            let (rank, line) = rank_of(known);
            let newest = newest.entry(line).or_insert(rank);
            *newest = (*newest).max(rank);
        }
        for id in &ids {
            let known = &admitted.known[id];
            let (rank, line) = rank_of(known);
            let goes_back = newest.get(&line).is_some_and(|newest| rank < *newest);
            if goes_back && !admitted.withdrawn.contains(&known.seq) {
                return Err(format!("batch {}: element {id} goes back", batch.id.0));
            }
        }
        if let Some(id) = before.into_iter().find(|id| ids.contains(id)) {
            return Err(format!("batch {}: element {id} has a verdict", batch.id.0));
        }
        Ok(())
    }

    /// A part of a batch has its verdict.
    pub(crate) fn part_settled(&mut self, part: &Batch) {
        self.parts.entry(part.id).or_default().extend(ids_of(part));
    }

    /// Only a batch that was open may be stored already, and it comes again as it was.
    fn check_replay(
        &mut self,
        batch: &Batch,
        ids: &[u64],
        required: bool,
        admitted: &Admitted,
    ) -> Result<Option<Again>, String> {
        let part_of = |expected: &BTreeSet<u64>| ids.iter().any(|id| expected.contains(id));
        let was = self.expected.iter().find(|(_, expected)| part_of(expected));
        let Some((&open, expected)) = was else {
            let sound = !batch.maybe_stored;
            return sound.then_some(None).ok_or_else(|| {
                format!(
                    "batch {} was never out, and is said to be stored",
                    batch.id.0
                )
            });
        };
        let there = |id: &&u64| !admitted.unreadable.contains(&admitted.known[*id].seq);
        let whole = expected.iter().filter(there).all(|id| ids.contains(id));
        if !batch.maybe_stored
            || !ids.iter().all(|id| expected.contains(id))
            || !(whole || self.regrouped || !required)
        {
            return Err(format!(
                "a batch was open with {expected:?}, and comes again as batch {} with {ids:?}",
                batch.id.0
            ));
        }
        self.replayed += 1;
        let lost = expected.iter().copied().filter(|id| !ids.contains(id));
        let lost = lost.collect();
        if !self.regrouped {
            self.expected.remove(&open);
        }
        Ok(Some(Again { open, lost }))
    }

    /// The process died; the journal kept so many entries.
    pub(crate) fn crashed(&mut self, kept: Ticket, admitted: &Admitted) {
        let mut told = std::mem::take(&mut self.told);
        // What was never open on the disk never went out.
        told.retain(|batch| batch.opened <= kept);
        let replayed = self.replayed;
        *self = Self {
            replayed,
            regrouped: self.regrouped,
            open: self.open,
            // Some have not come again yet.
            expected: std::mem::take(&mut self.expected),
            ..Self::default()
        };
        for batch in told {
            match batch.done {
                Some((at, outcome)) if at <= kept => {
                    for id in &batch.ids {
                        self.seen.insert(*id);
                        self.rank(&admitted.known[id]);
                    }
                    self.live.insert(batch.id, batch.ids.clone());
                    self.settled(batch.id, &outcome, None, admitted);
                    self.told.push(Told {
                        done: Some((at, outcome)),
                        ..batch
                    });
                }
                _ => {
                    let again = batch.again.unwrap_or_else(|| {
                        self.open += 1;
                        Again {
                            open: self.open,
                            lost: Vec::new(),
                        }
                    });
                    // With other lane rules a part of it may be all that has come again so far.
                    let expected = self.expected.entry(again.open).or_default();
                    expected.extend(batch.ids.into_iter().chain(again.lost));
                }
            }
        }
    }

    fn rank(&mut self, known: &Known) {
        let (rank, line) = rank_of(known);
        let newest = self.newest.entry(line).or_insert(rank);
        *newest = (*newest).max(rank);
    }

    fn check(
        &mut self,
        batch: &Batch,
        known: &Known,
        (series, timestamp, start): (&str, i64, i64),
        admitted: &Admitted,
    ) -> Result<(), String> {
        let element = &known.element;
        let what = || {
            format!(
                "batch {}: element {} of record {} ({series})",
                batch.id.0, element.id, known.seq.0
            )
        };
        if !element.admitted || *element.series != *series || known.tenant != batch.tenant {
            return Err(format!("{} does not belong there: {element:?}", what()));
        }
        if (timestamp, start) != (element.timestamp, element.start) {
            return Err(format!("{} has changed: {timestamp} {start}", what()));
        }
        if !self.seen.insert(element.id) {
            return Err(format!("{} goes out twice", what()));
        }
        match self.busy.insert(Arc::clone(&element.series), batch.id) {
            Some(other) if other != batch.id => {
                return Err(format!("{} overtakes batch {}", what(), other.0));
            }
            _ => {}
        }
        let (rank, line) = rank_of(known);
        let newest = self.newest.entry(line).or_insert(rank);
        if rank < *newest && !admitted.withdrawn.contains(&known.seq) {
            return Err(format!("{} goes back: {rank:?} after {newest:?}", what()));
        }
        *newest = (*newest).max(rank);
        Ok(())
    }

    /// A batch has its verdict.
    pub(crate) fn settled(
        &mut self,
        id: BatchId,
        outcome: &Outcome,
        done: Option<Ticket>,
        admitted: &Admitted,
    ) {
        if let Some(done) = done {
            let mut open = self.told.iter_mut().filter(|told| told.done.is_none());
            if let Some(told) = open.find(|told| told.id == id) {
                told.done = Some((done, outcome.clone()));
            }
        }
        self.parts.remove(&id);
        let ids = self.live.remove(&id).expect("only a live batch is settled");
        for id in &ids {
            self.busy.remove(&admitted.known[id].element.series);
        }
        self.settled.extend(ids);
        self.delivered += outcome.delivered;
        self.unconfirmed += outcome.unconfirmed;
        for (reason, counts) in &outcome.dropped {
            match reason {
                DropReason::Unrepresentable => self.unrepresentable += *counts,
                _ => self.refused += *counts,
            }
        }
    }

    /// The books against what the receiver knows.
    pub(crate) fn compare(&self, books: &Books, admitted: &Admitted) -> Result<(), String> {
        let dropped = |reason: DropReason| books.ledger.dropped[reason as usize];
        let pairs = [
            ("received", books.received, admitted.total),
            ("delivered", books.ledger.delivered, self.delivered),
            ("unconfirmed", books.ledger.unconfirmed, self.unconfirmed),
            ("rejected", dropped(DropReason::Rejected), self.refused),
            (
                "unrepresentable",
                dropped(DropReason::Unrepresentable),
                self.unrepresentable,
            ),
        ];
        for (what, booked, true_count) in pairs {
            if booked != true_count {
                return Err(format!(
                    "{what}: booked {booked:?}, in truth {true_count:?}"
                ));
            }
        }
        Ok(())
    }

    /// All of a record is settled here, but for what the queue was told not to send.
    pub(crate) fn has_settled(
        &self,
        seq: Seq,
        admitted: &Admitted,
        sends: impl Fn(Kind) -> bool,
    ) -> bool {
        let mut ids = admitted.records[&seq].iter();
        admitted.unreadable.contains(&seq)
            || ids.all(|id| self.settled.contains(id) || !sends(admitted.known[id].element.kind))
    }

    /// At the end: what never went out was dropped for a reason that holds for its record.
    pub(crate) fn nothing_is_missing(
        &self,
        books: &Books,
        admitted: &Admitted,
        (required, sends): (bool, impl Fn(Kind) -> bool),
    ) -> Result<(), String> {
        let dropped = |reason: DropReason| books.ledger.dropped[reason as usize];
        let mut missing = [Counts::default(); 3];
        for id in admitted
            .records
            .values()
            .flatten()
            .filter(|id| !self.seen.contains(id))
        {
            let known = &admitted.known[id];
            let one = Counts::of(known.element.kind, 1);
            if !sends(known.element.kind) {
                missing[0] += one;
            } else if admitted.expired.contains(&known.seq) {
                missing[1] += one;
            } else if !required || admitted.unreadable.contains(&known.seq) {
                missing[2] += one;
            } else {
                return Err(format!(
                    "element {id} of record {} never went out",
                    known.seq.0
                ));
            }
        }
        // A record may be evicted, not wanted and expired at once: only the sum is certain.
        let reasons = [
            DropReason::NotSent,
            DropReason::Withdrawn,
            DropReason::LogFull,
            DropReason::Unreadable,
        ];
        let booked: Counts = reasons.into_iter().map(dropped).sum();
        let truth: Counts = missing.into_iter().sum();
        if booked != truth {
            return Err(format!(
                "{truth:?} never went out, {booked:?} are booked so: {missing:?}"
            ));
        }
        if required && !dropped(DropReason::LogFull).is_zero() {
            return Err("a required queue gave something up for room".to_owned());
        }
        Ok(())
    }

    /// A batch that went out and has no verdict.
    pub(crate) fn is_live(&self, batch: BatchId) -> bool {
        self.live.contains_key(&batch)
    }

    /// Batches without a verdict.
    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }

    /// Histograms of a batch that 1.0 cannot carry.
    pub(crate) fn custom(&self, batch: &Batch, admitted: &Admitted) -> u64 {
        let ids = self.live[&batch.id].iter();
        ids.filter(|id| admitted.known[id].element.custom).count() as u64
    }
}

/// Where an element stands in its line.
fn rank_of(known: &Known) -> (Rank, (Arc<str>, bool)) {
    let element = &known.element;
    let line = (Arc::clone(&element.series), element.kind == Kind::Exemplar);
    ((known.seq, element.place), line)
}

/// The elements of a batch, by their numbers; none of a body that goes out whole.
pub(crate) fn ids_of(batch: &Batch) -> Vec<u64> {
    let entries = batch.content.entries.iter();
    let elements = entries.flat_map(|entry| elements_of(batch, entry));
    elements.map(|(id, ..)| id).collect()
}

fn series_of(tenant: &Tenant, entry: &Entry) -> String {
    let text = |bytes| std::str::from_utf8(bytes).expect("labels are text");
    let pairs = entry.labels.pairs().iter();
    series_text(
        tenant,
        pairs.map(|pair| (text(pair.name()), text(pair.value()))),
    )
}

/// Id, timestamp and start timestamp of an entry's elements, in the order in which they are written.
fn elements_of(batch: &Batch, entry: &Entry) -> Vec<(u64, i64, i64)> {
    let content = &batch.content;
    let samples = content.samples_of(entry).iter();
    let histograms = content.histograms_of(entry).iter().map(|histogram| {
        let message = rw1::Histogram::decode(&*histogram.message).expect("a histogram");
        (message.sum.to_bits(), histogram.timestamp, 0)
    });
    let exemplars = content.exemplars_of(entry).iter();
    samples
        .map(|sample| (sample.bits, sample.timestamp, sample.start))
        .chain(histograms)
        .chain(exemplars.map(|exemplar| (exemplar.bits, exemplar.timestamp, 0)))
        .collect()
}
