//! A batch that the receiver refused goes out again in parts, so that one bad element does not cost the
//! others. Pure.
//!
//! A receiver that rolls back (Prometheus, remote write 1.0) takes nothing of a request in which it dislikes one
//! sample. Halves of the batch are sent one after the other, those that are refused are halved again, until what
//! is refused is a single element. Halves end between two series as long as there are several: their parts are
//! independent. Within a series the earlier half goes first, and its parts before the later half.
//!
//! To everything else the batch stays what it was: in flight, open in the journal, with its lanes locked, until
//! the last part has its verdict. If the process dies meanwhile all of it is made again, as of any open batch.
//!
//! What it costs is bounded: a part of one element is not halved; where nobody knows whether the receiver keeps the
//! good part of a refused request, halving ends when all eight eighths were refused and nothing was taken; a batch is
//! halved no longer than [`LONGEST`], and a queue has a [`Budget`] of refusals.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Batch, BatchId, Outcome, Run, runs_of};
use super::cut::append;
use super::ledger::DropReason;
use super::nodes::Element;
use super::records::Records;
use super::state::{QueueState, Status};
use super::table::SeriesTable;
use crate::model::content::Content;
use crate::model::counts::{Counts, Kind};

/// What a receiver does with the rest of a request of which it refuses something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuses {
    /// It takes nothing of it.
    Whole,
    /// It keeps the good part: what is sent again was there already.
    OnlyTheBad,
    /// Nobody knows.
    Unclear,
    /// It has not looked at it, for it is too large.
    Unread,
}

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halving {
    /// The halves of a batch are tried, each by itself.
    Begins,
    /// The halves of a part are.
    GoesOn,
    /// The refusal stands; with the reason, if it is not that there is nothing to halve.
    Ends(Option<&'static str>),
}

/// Eighths are parts that were halved so often.
const EIGHTH: u32 = 3;
const EIGHTHS: u32 = 8;
/// After so long no part of a batch is halved any more: its lanes wait. Those that are there are asked for.
const LONGEST: Duration = Duration::from_secs(60);

/// Refusals that a queue may spend on halving.
///
/// A part that is taken gives one back. So a bad series now and then costs nothing (of a thousand samples some ten
/// parts are refused, and as many taken), and a receiver that dislikes everything is asked so often and no more.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: f64,
    at: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: Self::MOST,
            at: None,
        }
    }
}

impl Budget {
    const MOST: f64 = 20_000.0;
    const PER_SECOND: f64 = 20.0;

    /// One is spent, if there is one.
    fn spend(&mut self, now: Instant) -> bool {
        let since = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let earned = since.as_secs_f64() * Self::PER_SECOND;
        self.left = (self.left + earned).min(Self::MOST);
        self.at = Some(now);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }

    fn give_back(&mut self) {
        self.left = (self.left + 1.0).min(Self::MOST);
    }
}

/// A batch in parts.
#[derive(Debug)]
pub(super) struct Split {
    /// What is on its way, or waits for its next try; and the same as a batch.
    now: Part,
    made: Arc<Batch>,
    later: VecDeque<Part>,
    /// What became of the parts before.
    outcome: Outcome,
    since: Instant,
    eighths_refused: u32,
    taken: bool,
    in_vain: bool,
}

/// Some of a batch, next to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// Of the batch's series.
    series: Range<usize>,
    /// Of its origins; a part of one series may be some of its elements.
    elements: Range<usize>,
    /// Elements of the batch before these, by kind.
    before: Counts,
    /// How often it was halved.
    depth: u32,
    /// An attempt of these, or of more, had no answer.
    maybe_stored: bool,
}

impl Split {
    fn of(batch: &Arc<Batch>, maybe_stored: bool, now: Instant) -> Self {
        Self {
            now: Part {
                series: 0..batch.series.len(),
                elements: 0..batch.origins.len(),
                before: Counts::default(),
                depth: 0,
                maybe_stored,
            },
            made: Arc::clone(batch),
            later: VecDeque::new(),
            outcome: Outcome::default(),
            since: now,
            eighths_refused: 0,
            taken: false,
            in_vain: false,
        }
    }

    /// What is to be sent.
    pub(super) fn part(&self) -> &Arc<Batch> {
        &self.made
    }

    /// Elements that have no verdict yet, and those that have: together the batch.
    pub(super) fn counted(&self) -> u64 {
        let later = self.later.iter().map(|part| part.elements.len() as u64);
        self.outcome.total().total() + self.now.elements.len() as u64 + later.sum::<u64>()
    }

    /// What follows was refused with what is on its way.
    fn give_up(&mut self, outcome: &mut Outcome, whole: &Batch, records: &Records) -> Vec<Run> {
        let rest: Vec<_> = self.later.drain(..).collect();
        let origins = rest
            .into_iter()
            .flat_map(|part| &whole.origins[part.elements]);
        let origins: Vec<_> = origins.copied().collect();
        let counts = counts_of(&origins, records);
        let refused = |(reason, _): &&mut (DropReason, _)| *reason != DropReason::Unrepresentable;
        match outcome.dropped.iter_mut().find(refused) {
            Some((_, dropped)) => *dropped += counts,
            None => outcome.unconfirmed += counts,
        }
        runs_of(origins)
    }

    /// Two parts in place of one. Those of one series come next; others wait until all as large have had their turn.
    fn halve(&mut self, whole: &Batch, records: &Records) {
        let (first, second) = halves(&self.now, whole, records);
        if first.series == second.series {
            self.later.push_front(second);
            self.later.push_front(first);
        } else {
            self.later.extend([first, second]);
        }
    }

    /// The next part is `now`; `false` if that was the last.
    fn go_on(&mut self, whole: &Batch, (table, records): (&SeriesTable, &Records)) -> bool {
        let Some(next) = self.later.pop_front() else {
            return false;
        };
        self.now = next;
        self.made = Arc::new(made_of(&self.now, whole, table, records));
        true
    }
}

/// A part of several series ends between two of them, near its middle; one of a single series in its middle.
fn halves(part: &Part, whole: &Batch, records: &Records) -> (Part, Part) {
    let middle = part.elements.start + part.elements.len() / 2;
    let (series, at) = if part.series.len() == 1 {
        ((part.series.clone(), part.series.clone()), middle)
    } else {
        let (mut series, mut at) = (part.series.start, part.elements.start);
        loop {
            let count = whole.series[series].1 as usize;
            // Neither half is empty.
            let last = series + 1 == part.series.end;
            if last || (at + count > middle && series > part.series.start) {
                break;
            }
            (series, at) = (series + 1, at + count);
        }
        ((part.series.start..series, series..part.series.end), at)
    };
    let before = part.before + counts_of(&whole.origins[part.elements.start..at], records);
    let first = Part {
        series: series.0,
        elements: part.elements.start..at,
        depth: part.depth + 1,
        ..part.clone()
    };
    let second = Part {
        series: series.1,
        before,
        elements: at..part.elements.end,
        depth: part.depth + 1,
        maybe_stored: part.maybe_stored,
    };
    (first, second)
}

fn counts_of(origins: &[(u32, u32)], records: &Records) -> Counts {
    let one = |(record, ordinal): &(u32, u32)| Counts::of(kind_of(*record, *ordinal, records), 1);
    origins.iter().map(one).sum()
}

fn kind_of(record: u32, ordinal: u32, records: &Records) -> Kind {
    records.get(record).record.counts.kind_of(ordinal)
}

/// A batch of just these elements.
fn made_of(part: &Part, whole: &Batch, table: &SeriesTable, records: &Records) -> Batch {
    let origins = &whole.origins[part.elements.clone()];
    let (mut content, mut series) = (Content::default(), Vec::new());
    let (mut at, mut left) = (part.before, origins);
    for (of, count) in &whole.series[part.series.clone()] {
        let count = left.len().min(*count as usize);
        let (here, further) = left.split_at(count);
        let labels = &table.get(*of).labels;
        let mut open = None;
        for (record, ordinal) in here {
            let kind = kind_of(*record, *ordinal, records);
            let element = element_of(&whole.content, kind, at.get(kind) as usize);
            append(element, labels, &mut open, &mut content);
            *at.slot(kind) += 1;
        }
        content.entries.extend(open);
        series.push((*of, count as u32));
        left = further;
    }
    Batch {
        id: whole.id,
        key: whole.key,
        tenant: Arc::clone(&whole.tenant),
        series,
        counts: content.counts(),
        content,
        origins: origins.to_vec(),
        runs: runs_of(origins.to_vec()),
        came_as_v2: whole.came_as_v2,
        maybe_stored: part.maybe_stored,
        arrived: whole.arrived,
        cut: whole.cut,
        whole: None,
    }
}

fn element_of(content: &Content, kind: Kind, at: usize) -> Element {
    match kind {
        Kind::Sample => Element::Sample(content.samples[at]),
        Kind::Histogram => Element::Histogram(content.histograms[at].clone()),
        Kind::Exemplar => Element::Exemplar(content.exemplars[at].clone()),
    }
}

impl QueueState {
    /// The receiver refused a batch, or a part of one: its halves are tried instead, each by itself, unless nothing is
    /// gained by it any more.
    pub fn split(&mut self, id: BatchId, refuses: Refuses, now: Instant) -> Halving {
        let flight = self.flights.get_mut(&id).expect("a batch is in flight");
        if flight.batch.whole.is_some() || flight.out().counts.total() < 2 {
            return Halving::Ends(None);
        }
        if !self.split_budget.spend(now) {
            return Halving::Ends(Some("too much was refused lately to try its halves"));
        }
        let maybe_stored = flight.maybe_stored || flight.batch.maybe_stored;
        let begins = flight.split.is_none();
        if begins {
            // Its largest part is as large as half of it, and there is a list of parts.
            self.batch_bytes += flight.bytes;
            flight.bytes *= 2;
        }
        let new = || Box::new(Split::of(&flight.batch, maybe_stored, now));
        let split = flight.split.get_or_insert_with(new);
        // What is refused of a batch that may be stored is not told to its sender: there it goes on to the end.
        if !maybe_stored && now.saturating_duration_since(split.since) > LONGEST {
            return Halving::Ends(Some("its batch was halved for a minute"));
        }
        split.now.maybe_stored |= maybe_stored;
        split.eighths_refused += u32::from(split.now.depth == EIGHTH && refuses != Refuses::Unread);
        // Of a batch that the last process had in parts, some may be there, and refused for that.
        let unclear = refuses == Refuses::Unclear && !flight.batch.maybe_stored;
        split.in_vain = unclear && !split.taken && split.eighths_refused == EIGHTHS;
        if split.in_vain {
            return Halving::Ends(Some("all eighths of its batch were refused"));
        }
        split.halve(&flight.batch, &self.records);
        self.work.splits += 1;
        self.sending -= 1;
        self.encoded.remove(&id);
        self.note_answered(now);
        self.next_part(id, now);
        if begins {
            Halving::Begins
        } else {
            Halving::GoesOn
        }
    }

    /// A part has its verdict. `None`: others have none yet.
    pub(super) fn part_concluded(
        &mut self,
        id: BatchId,
        mut outcome: Outcome,
        now: Instant,
    ) -> Option<Outcome> {
        let flight = self.flights.get_mut(&id).expect("a batch is in flight");
        let Some(split) = flight.split.as_mut() else {
            return Some(outcome);
        };
        let mut runs = split.made.runs.clone();
        if !outcome.delivered.is_zero() {
            split.taken = true;
            self.split_budget.give_back();
        }
        if split.in_vain {
            runs.extend(split.give_up(&mut outcome, &flight.batch, &self.records));
        }
        split.outcome.add(&outcome);
        self.note_refused(&runs, &outcome);
        if self.next_part(id, now) {
            return None;
        }
        let flight = self.flights.get_mut(&id)?;
        flight
            .split
            .as_mut()
            .map(|split| std::mem::take(&mut split.outcome))
    }

    /// The next part waits for a permit; `false` if there is none.
    fn next_part(&mut self, id: BatchId, now: Instant) -> bool {
        let flight = self.flights.get_mut(&id).expect("a batch is in flight");
        let Some(split) = flight.split.as_mut() else {
            return false;
        };
        if !split.go_on(&flight.batch, (&self.table, &self.records)) {
            return false;
        }
        flight.maybe_stored = split.now.maybe_stored;
        flight.attempts = 0;
        flight.status = Status::Waiting(now);
        self.retries.insert((now, id));
        true
    }
}
