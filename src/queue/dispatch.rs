//! From lanes to requests and back: which batch goes next, and what its verdict does. Pure.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Batch, BatchId, Outcome, Run, runs_of};
use super::cut::Cut;
use super::gate::{GateState, RETRY_AFTER_MAX};
use super::journal::Ticket;
use super::lanes::{KeyRef, LaneRef};
use super::ledger::DropReason;
use super::mutants::{self, Mutant};
use super::state::{Flight, QueueState, Status};
use crate::log::Log;
use crate::model::counts::{Counts, Kind};
use crate::wire::decoded::Protocol;

/// What the dispatcher should do next.
#[derive(Debug)]
pub enum Next {
    /// Send this batch; it has a permit now. The number counts its attempts from 0.
    Send(Arc<Batch>, u32),
    /// Nothing before then; `None`: not before something changes.
    Wait(Option<Instant>),
}

/// A batch has its verdict.
#[derive(Debug)]
pub struct Concluded {
    /// What became of all of it.
    pub outcome: Outcome,
    /// Where the journal's entry stands, which should be written before the batch is finished.
    pub ticket: Option<Ticket>,
}

/// Why a batch is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The request failed on its way or at the receiver.
    Failed,
    /// The receiver asked for patience (429, or any answer with Retry-After).
    Asked(Duration),
    /// The receiver refuses what is none of the data's fault (401, 403, 404, 3xx): held, and tried rarely.
    Held,
}

/// A batch that is held is tried again this much later than the longest backoff says.
const HELD_FACTOR: u32 = 5;
/// While a queue drains nothing waits longer for its next try, but for what a receiver asks.
const DRAIN_WAIT: Duration = Duration::from_secs(1);
/// After a 429 without Retry-After the endpoint is left alone this long.
pub const ASKED_DEFAULT: Duration = Duration::from_secs(1);

impl QueueState {
    /// What to send next, if anything may be sent.
    pub fn next_send(&mut self, now: Instant) -> Next {
        let mut due = self.lanes.due_at(now, self.eager());
        if let Some((at, _)) = due.as_mut().filter(|_| self.is_pressed()) {
            *at = now.min(*at);
        }
        if self.halted {
            return Next::Wait(None);
        }
        // At zero shards a lane that is due makes a permit of its own.
        if self.sending >= self.shards.max(usize::from(self.shards == 0)) {
            return Next::Wait(None);
        }
        let retry = self.retries.first().copied();
        let whole = self.free_whole();
        let due_at = whole.map(|_| now).or(due.map(|(at, _)| at));
        let earliest = [retry.map(|(at, _)| at), due_at]
            .into_iter()
            .flatten()
            .min();
        let Some(earliest) = earliest else {
            return Next::Wait(None);
        };
        if earliest > now {
            return Next::Wait(Some(earliest));
        }
        if let Err(from) = self.gate.admits(self.sending, now) {
            return Next::Wait(from);
        }
        self.gate.sent(now);
        self.sending += 1;
        let other = due_at.is_some_and(|at| at <= now);
        let is_turn = |(at, id): &(Instant, BatchId)| *at <= now && !(other && self.gives_way(*id));
        if let Some((at, id)) = retry.filter(is_turn) {
            self.retries.remove(&(at, id));
            let flight = self
                .flights
                .get_mut(&id)
                .expect("a batch that waits is in flight");
            flight.status = Status::Sending;
            self.part_waited = false;
            return Next::Send(Arc::clone(flight.out()), flight.attempts);
        }
        self.part_waited = true;
        if let Some(seq) = whole {
            return Next::Send(self.cut_whole(seq, now), 0);
        }
        let (_, key) = due.expect("what is earliest and no retry is a lane");
        Next::Send(self.cut(key, now), 0)
    }

    /// Others are due too, and had no turn since the last part: a batch in a thousand parts, each of which has to be
    /// asked for, does not keep everything else waiting.
    fn gives_way(&self, id: BatchId) -> bool {
        let split = self
            .flights
            .get(&id)
            .is_some_and(|flight| flight.split.is_some());
        split && !self.part_waited
    }

    fn cut(&mut self, key: KeyRef, now: Instant) -> Arc<Batch> {
        let cut = self.lanes.cut(key, &mut self.table, &mut self.nodes);
        self.fly(cut, None, false, now)
    }

    /// Makes a batch of a cut. `id` if it had one before, in the last process.
    pub(super) fn fly(
        &mut self,
        cut: Cut,
        id: Option<BatchId>,
        maybe_stored: bool,
        now: Instant,
    ) -> Arc<Batch> {
        let id = id.unwrap_or(BatchId(self.next_batch));
        self.next_batch = self.next_batch.max(id.0 + 1);
        let runs = runs_of(cut.origins.clone());
        let came_as_v2 = runs
            .iter()
            .any(|run| self.records.get(run.record).record.protocol == Protocol::V2);
        let batch = Batch {
            id,
            key: cut.key,
            tenant: Arc::clone(&self.lanes.separation(cut.key).tenant),
            series: cut.series,
            counts: cut.content.counts(),
            content: cut.content,
            origins: cut.origins,
            runs,
            came_as_v2,
            maybe_stored,
            arrived: cut.arrived,
            cut: now,
            whole: None,
        };
        self.launch(batch, cut.lanes)
    }

    /// A batch is about to go out.
    pub(super) fn launch(&mut self, batch: Batch, lanes: Vec<LaneRef>) -> Arc<Batch> {
        let (id, maybe_stored) = (batch.id, batch.maybe_stored);
        let batch = Arc::new(batch);
        self.journal.open(&batch, &self.records);
        if mutants::present(Mutant::DoneBeforeAnswer) {
            self.journal.say_done(&batch);
        }
        let bytes = batch_bytes(&batch);
        self.batch_bytes += bytes;
        let status = Status::Sending;
        let flight = Flight {
            batch: Arc::clone(&batch),
            lanes,
            status,
            attempts: 0,
            maybe_stored,
            bytes,
            split: None,
        };
        self.flights.insert(id, flight);
        batch
    }

    /// Where the journal's entry stands that must be safe before the batch goes out.
    pub fn open_ticket(&self, batch: BatchId) -> Option<Ticket> {
        self.journal.ticket(batch)
    }

    /// A batch is to be tried again: it keeps its lanes, not its permit. `jitter` in 0..1 makes the wait
    /// up to a tenth longer, never shorter. Returns the wait.
    pub fn again(&mut self, id: BatchId, why: Again, jitter: f64, now: Instant) -> Duration {
        self.sending -= 1;
        let flight = self
            .flights
            .get_mut(&id)
            .expect("a batch without a verdict is in flight");
        let (min, max) = (self.options.min_backoff, self.options.max_backoff);
        let doubled = min.saturating_mul(1 << flight.attempts.min(20)).min(max);
        flight.attempts += 1;
        self.work.retries += 1;
        self.work.retried += flight.out().counts;
        let wait = match why {
            Again::Failed => {
                self.gate.failed(id, jitter, now);
                doubled
            }
            Again::Asked(wait) => {
                let wait = wait.min(RETRY_AFTER_MAX);
                self.gate
                    .asked_to_wait(wait.mul_f64(1.0 + 0.1 * jitter), now);
                wait
            }
            Again::Held => {
                self.gate.failed(id, jitter, now);
                doubled
                    .max(min.saturating_mul(1 << (flight.attempts + 4).min(20)))
                    .min(max.saturating_mul(HELD_FACTOR))
            }
        };
        let mut wait = wait.mul_f64(1.0 + 0.1 * jitter);
        if self.draining && !matches!(why, Again::Asked(_)) {
            wait = wait.min(DRAIN_WAIT);
        }
        flight.status = Status::Waiting(now + wait);
        if mutants::present(Mutant::FreeOnRetry) {
            self.lanes.unlock(&std::mem::take(&mut flight.lanes));
        }
        self.retries.insert((now + wait, id));
        wait
    }

    /// Batches that wait are tried again within a second, however long they had meant to: the receiver is
    /// back, or there is little time left.
    pub(super) fn hurry(&mut self, now: Instant) {
        let soon = now + DRAIN_WAIT;
        let late: Vec<_> = self.retries.range((soon, BatchId(0))..).copied().collect();
        for (at, id) in late {
            self.retries.remove(&(at, id));
            self.retries.insert((soon, id));
            if let Some(flight) = self.flights.get_mut(&id) {
                flight.status = Status::Waiting(soon);
            }
        }
    }

    /// An attempt brought no answer, although all of it may have arrived.
    pub(super) fn may_be_stored(&mut self, id: BatchId) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.maybe_stored = true;
        }
    }

    pub(super) fn is_maybe_stored(&self, id: BatchId) -> bool {
        self.flights
            .get(&id)
            .is_some_and(|flight| flight.maybe_stored || flight.batch.maybe_stored)
    }

    /// The same batch goes out again at once, in another protocol; it keeps its permit.
    pub fn resent(&mut self, id: BatchId) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.attempts += 1;
        }
    }

    /// A batch has its verdict, and all that follows from it at once.
    pub fn settle(&mut self, id: BatchId, outcome: Outcome, now: Instant, log: &dyn Log) {
        if self.conclude(id, outcome, now).is_some() {
            self.finish(id, now, log);
        }
    }

    /// A batch, or a part of one that was refused, has its verdict: its permit is given back. With the last part,
    /// the journal is told; before it `None`.
    pub fn conclude(&mut self, id: BatchId, outcome: Outcome, now: Instant) -> Option<Concluded> {
        let flight = self.flights.get(&id).expect("a batch is settled once");
        debug_assert_eq!(
            outcome.total(),
            flight.out().counts,
            "an outcome accounts for all"
        );
        self.encoded.remove(&id);
        self.sending -= 1;
        if has_spoken(&outcome) {
            self.note_answered(now);
        } else {
            self.gate.unused(now);
        }
        let outcome = self.part_concluded(id, outcome, now)?;
        let ticket = self.journal.done(id, &outcome);
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.status = Status::Concluded(outcome.clone());
        }
        Some(Concluded { outcome, ticket })
    }

    /// The receiver took a request, or said clearly that it does not want this one.
    pub(super) fn note_answered(&mut self, now: Instant) {
        // It is over: those that wait need not sleep on. The gate's ramp keeps them in line.
        if self.gate.state() == GateState::Probing {
            self.hurry(now);
        }
        self.gate.succeeded();
    }

    /// The elements of a batch that has its verdict are settled, and its lanes freed.
    pub fn finish(&mut self, id: BatchId, now: Instant, log: &dyn Log) {
        let flight = self.flights.remove(&id).expect("a batch is settled once");
        let Status::Concluded(outcome) = &flight.status else {
            unreachable!("a batch is finished after its verdict")
        };
        self.book(&flight, outcome, now);
        if mutants::present(Mutant::SettleTwice) {
            self.book(&flight, outcome, now);
        }
        self.batch_bytes -= flight.bytes;
        self.note_answer(&flight.batch, outcome);
        if flight.split.is_none() {
            self.note_refused(&flight.batch.runs, outcome);
        }
        for run in &flight.batch.runs {
            self.settle_run(*run);
        }
        let mut last = None;
        for run in &flight.batch.runs {
            if last != Some(run.record) {
                self.leave_if_settled(run.record, log);
                last = Some(run.record);
            }
        }
        self.landed(&flight.batch, log);
        for (series, count) in &flight.batch.series {
            self.table.get_mut(*series).in_flight -= count;
        }
        self.lanes.unlock(&flight.lanes);
    }

    fn book(&mut self, flight: &Flight, outcome: &Outcome, now: Instant) {
        let batch = &flight.batch;
        self.ledger.book(outcome);
        self.work.batches_done += 1;
        self.work.batches_failed += u64::from(outcome.refusal.is_some());
        self.work.settled += batch.counts.total();
        // One in parts has no permit most of the time, and more of them would not help it.
        if flight.split.is_none() {
            self.work.busy += now - batch.cut;
        }
        self.work.degraded += outcome.degraded;
    }

    /// What was refused of these runs is told to the senders that wait for their records. Of a request that was
    /// refused in part nobody says which elements: they are booked to its records in order, so that the sums are right.
    pub(super) fn note_refused(&mut self, runs: &[Run], outcome: &Outcome) {
        let (mut refused, message) = (refused_of(outcome), outcome.refusal.as_ref());
        for run in runs {
            let tracked = self.records.get_mut(run.record);
            let held = tracked.record.counts.in_range(run.from, run.to);
            for kind in Kind::ALL {
                let part = held.get(kind).min(refused.get(kind));
                *refused.slot(kind) -= part;
                *tracked.refused.slot(kind) += part;
                if part > 0 && tracked.message.is_none() {
                    tracked.message = message.cloned();
                }
            }
        }
    }

    fn settle_run(&mut self, run: Run) {
        if mutants::present(Mutant::ForgetRun) && run.from % 7 == 3 {
            return;
        }
        self.records.settle(run);
    }
}

/// Elements that the receiver refused for good: what a waiting sender is told.
fn refused_of(outcome: &Outcome) -> Counts {
    if outcome.refusal.is_none() {
        return Counts::default();
    }
    let refusals = outcome.dropped.iter().filter(|(reason, _)| {
        matches!(
            reason,
            DropReason::Rejected | DropReason::NotWritten | DropReason::TooLarge
        )
    });
    refusals.map(|(_, counts)| *counts).sum()
}

/// The receiver had a part in it: a batch that the protocol cannot carry at all never goes out, nor does a body
/// that the log has lost.
fn has_spoken(outcome: &Outcome) -> bool {
    let not_sent = |reason| {
        use DropReason::{LogFull, TooOld, Unreadable, Unrepresentable};
        matches!(reason, Unrepresentable | Unreadable | LogFull | TooOld)
    };
    let dropped = outcome.dropped.iter().any(|(reason, _)| !not_sent(*reason));
    dropped || !(outcome.delivered + outcome.unconfirmed).is_zero()
}

/// Heap bytes of a batch, about: content and its compressed body.
fn batch_bytes(batch: &Batch) -> usize {
    if let Some(whole) = &batch.whole {
        // While its sender waits, the body is in the log in memory, which answers for it.
        return if whole.sender_waits { 0 } else { whole.bytes };
    }
    let content = &batch.content;
    let histograms = content
        .histograms
        .iter()
        .map(|h| size_of_val(h) + 2 * h.message.len());
    let exemplars = content
        .exemplars
        .iter()
        .map(|e| size_of_val(e) + 2 * e.labels.len());
    content.entries.len() * 64
        + content.samples.len() * 40
        + batch.origins.len() * 8
        + batch.runs.len() * 12
        + histograms.sum::<usize>()
        + exemplars.sum::<usize>()
}
