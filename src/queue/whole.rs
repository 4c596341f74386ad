//! Passthrough: a record's body goes out whole, as it came, one request for one. Pure.
//!
//! What would be a lane for series is a *line* for each tenant: its records, oldest first. One of a line is in
//! flight at a time, so that order holds through retries; but while senders wait for the receiver's answer
//! (`upstream`), they keep the order themselves, and all that they send goes out at once. A body is a batch like
//! any other: permit, gate, retry, verdict, journal and books are the same.
//!
//! What cannot go out as it came goes in the usual way, through lanes: a record that the last process, in the
//! other mode, has settled in part, or of which series were refused at the door. It keeps its place: the lead
//! does not come to a body before all such records in front of it are settled, nor to such a record before all
//! bodies in front of it are. See decision 0013.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::batch::{Batch, BatchId, Outcome, Run, Whole};
use super::lanes::{KEYS_MAX, KeyRef};
use super::records::Records;
use super::state::{QueueState, Status};
use super::take::Role;
use crate::log::{Log, Record, Seq, Tenant};
use crate::model::content::Content;
use crate::model::counts::Counts;
use crate::wire::decoded::Protocol;

/// What a record costs that is read and not sent, about: its header, and what is tracked of it.
const RECORD_BYTES: usize = 1024;
/// A body belongs to no separation key of the lanes.
const NO_KEY: KeyRef = KeyRef::MAX;

/// All lines of a queue.
#[derive(Default)]
pub struct Wholes {
    lines: HashMap<Arc<Tenant>, Line>,
    /// Lines of which the first may go, by that one's record.
    free: BTreeMap<Seq, Arc<Tenant>>,
    queued: Counts,
    /// Bytes of the bodies in lines.
    kept: usize,
    /// The first tenant that was seen, and whether there are others.
    tenants: (Option<Arc<Tenant>>, bool),
    /// Records that go the usual way, until they are settled.
    usual: BTreeSet<Seq>,
    lead_waits: Option<LeadWaits>,
}

/// The records of one tenant.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    queued: u64,
    flying: u32,
    /// Those of them beside which nothing else of the line may fly.
    alone: u32,
    /// What it stands under in the list of free lines.
    standing: Option<Seq>,
}

/// A record in its line.
pub(super) struct Waiting {
    record: Arc<Record>,
    slot: u32,
    sender_waits: bool,
    body: Option<Bytes>,
}

impl Waiting {
    fn seq(&self) -> Seq {
        self.record.seq
    }

    /// Its record, and how many ordinals that has.
    pub(super) fn all(&self) -> (Seq, u32) {
        (self.record.seq, self.record.ordinals())
    }

    fn kept(&self) -> usize {
        self.body.as_ref().map_or(0, Bytes::len)
    }
}

/// What must be settled before the lead goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeadWaits {
    /// All bodies in lines and in flight.
    Wholes,
    /// Records in front of this one that go the usual way.
    Usual(Seq),
}

/// What became of a record that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It stands in its line, or nothing is to be done with it now.
    Taken,
    /// It goes the usual way.
    Usual,
    /// Its turn comes later.
    Later,
}

impl Line {
    /// The first may go.
    fn is_free(&self) -> Option<Seq> {
        let first = self.waiting.front()?;
        let beside = first.sender_waits && self.alone == 0;
        (self.flying == 0 || beside).then(|| first.seq())
    }
}

impl Wholes {
    /// Elements in lines.
    pub fn queued(&self) -> Counts {
        self.queued
    }

    /// Bytes of the bodies in lines.
    pub fn kept_bytes(&self) -> usize {
        self.kept
    }

    /// When the oldest record in any line arrived.
    pub fn oldest(&self) -> Option<Instant> {
        let firsts = self.lines.values().filter_map(|line| line.waiting.front());
        firsts.map(|first| first.record.arrived).min()
    }

    /// Slots of the records in lines, and their number of ordinals.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let lines = self.lines.values();
        let waiting = lines.flat_map(|line| &line.waiting);
        waiting.map(|waiting| (waiting.slot, waiting.record.ordinals()))
    }

    fn push(&mut self, waiting: Waiting) {
        let tenant = Arc::clone(&waiting.record.tenant);
        match &self.tenants.0 {
            None => self.tenants.0 = Some(Arc::clone(&tenant)),
            Some(first) => self.tenants.1 |= *first != tenant,
        }
        self.queued += waiting.record.counts;
        self.kept += waiting.kept();
        let line = self.lines.entry(Arc::clone(&tenant)).or_default();
        line.queued += waiting.record.counts.total();
        // Nearly always the end: only a record that was taken back out comes in behind younger ones.
        let place = line
            .waiting
            .partition_point(|other| other.seq() < waiting.seq());
        line.waiting.insert(place, waiting);
        self.restand(&tenant);
    }

    /// Takes the first of a line.
    fn pop(&mut self, tenant: &Arc<Tenant>) -> Option<Waiting> {
        let first = self.lines.get_mut(tenant)?.waiting.pop_front()?;
        self.forget(&first);
        Some(first)
    }

    /// Takes a record out of its line.
    fn take(&mut self, tenant: &Arc<Tenant>, slot: u32) -> Option<Waiting> {
        let line = self.lines.get_mut(tenant)?;
        let place = line
            .waiting
            .iter()
            .position(|waiting| waiting.slot == slot)?;
        let taken = line.waiting.remove(place)?;
        self.forget(&taken);
        self.restand(tenant);
        Some(taken)
    }

    fn forget(&mut self, taken: &Waiting) {
        self.queued -= taken.record.counts;
        self.kept -= taken.kept();
        if let Some(line) = self.lines.get_mut(&taken.record.tenant) {
            line.queued -= taken.record.counts.total();
        }
    }

    fn fly(&mut self, tenant: &Arc<Tenant>, sender_waits: bool) {
        let line = self.lines.entry(Arc::clone(tenant)).or_default();
        line.flying += 1;
        line.alone += u32::from(!sender_waits);
        self.restand(tenant);
    }

    fn land(&mut self, tenant: &Arc<Tenant>, sender_waits: bool) {
        if let Some(line) = self.lines.get_mut(tenant) {
            line.flying -= 1;
            line.alone -= u32::from(!sender_waits);
        }
        self.restand(tenant);
    }

    /// Brings a line's standing up to date; one that is of no use goes.
    fn restand(&mut self, tenant: &Arc<Tenant>) {
        let Some(line) = self.lines.get_mut(tenant) else {
            return;
        };
        let standing = line.is_free();
        let before = std::mem::replace(&mut line.standing, standing);
        let idle = line.waiting.is_empty() && line.flying == 0;
        if before != standing {
            if let Some(before) = before {
                self.free.remove(&before);
            }
            if let Some(now) = standing {
                self.free.insert(now, Arc::clone(tenant));
            }
        }
        if idle {
            self.lines.remove(tenant);
        }
    }

    /// What is in lines, but of one line no more than `most`: one that is stuck must not stall the rest.
    fn crowd(&self, most: u64) -> u64 {
        self.lines.values().map(|line| line.queued.min(most)).sum()
    }

    /// Every list against what it is made of.
    fn audit(&self) -> Result<(), String> {
        let (mut queued, mut kept, mut free) = (Counts::default(), 0, BTreeMap::new());
        for (tenant, line) in &self.lines {
            let waiting = || line.waiting.iter();
            let counts: Counts = waiting().map(|waiting| waiting.record.counts).sum();
            queued += counts;
            kept += waiting().map(Waiting::kept).sum::<usize>();
            let next = line.waiting.iter().skip(1);
            let sorted = waiting()
                .zip(next)
                .all(|(one, next)| one.seq() < next.seq());
            let idle = line.waiting.is_empty() && line.flying == 0;
            if counts.total() != line.queued || !sorted || idle || line.alone > line.flying {
                return Err(format!("the line of {tenant:?} is not what it is made of"));
            }
            free.extend(line.is_free().map(|seq| (seq, Arc::clone(tenant))));
        }
        if (queued, kept) != (self.queued, self.kept) || free != self.free {
            return Err("the lines are not what they are made of".to_owned());
        }
        Ok(())
    }
}

impl QueueState {
    /// Offers a record that was fetched, to go out whole.
    pub fn offer_whole(
        &mut self,
        role: Role,
        slot: u32,
        body: Option<&Bytes>,
        now: Instant,
    ) -> Offered {
        if !self.options.passthrough {
            return Offered::Usual;
        }
        let tracked = self.records.get(slot);
        let record = Arc::clone(&tracked.record);
        if tracked.withheld {
            self.pass_by(record.seq);
            return Offered::Taken;
        }
        let untouched = tracked.taken.is_empty() && tracked.settled.is_empty();
        if !untouched || !record.skipped.is_empty() {
            return self.offer_to_lanes(role, record.seq);
        }
        let waiting = self.waiting_of(slot, body);
        match role {
            Role::Replay => {
                if self.replay_whole(waiting, now) {
                    return Offered::Taken;
                }
                return self.offer_to_lanes(role, record.seq);
            }
            Role::Lead => {
                if self.usual_is_pending(record.seq) {
                    self.wholes.lead_waits = Some(LeadWaits::Usual(record.seq));
                    return Offered::Later;
                }
                self.lead = record.seq.next();
            }
            Role::Requeue => self.requeue.retain(|seq| *seq != record.seq),
            Role::Laggard => {
                if let Some(pass) = &mut self.laggard {
                    pass.at = record.seq.next();
                }
            }
        }
        self.take_whole(slot);
        self.wholes.push(waiting);
        Offered::Taken
    }

    fn offer_to_lanes(&mut self, role: Role, seq: Seq) -> Offered {
        if role == Role::Lead && !self.wholes.lines.is_empty() {
            self.wholes.lead_waits = Some(LeadWaits::Wholes);
            return Offered::Later;
        }
        self.wholes.usual.insert(seq);
        Offered::Usual
    }

    fn waiting_of(&self, slot: u32, body: Option<&Bytes>) -> Waiting {
        let record = Arc::clone(&self.records.get(slot).record);
        // What finds no room is fetched again when its turn comes.
        let room = (self.options.memory.lanes / 4).saturating_sub(self.wholes.kept);
        Waiting {
            slot,
            sender_waits: record.ack.is_some() && self.options.required,
            body: body.filter(|body| body.len() <= room).cloned(),
            record,
        }
    }

    /// All of it is in a line or in flight from now on.
    fn take_whole(&mut self, slot: u32) {
        let tracked = self.records.get_mut(slot);
        (tracked.read, tracked.held) = (true, true);
        tracked.taken.insert(0, tracked.record.ordinals());
        self.work.taken += tracked.record.counts.total();
    }

    fn untake_whole(&mut self, slot: u32) {
        let tracked = self.records.get_mut(slot);
        (tracked.read, tracked.held) = (false, false);
        tracked.taken.remove(0, tracked.record.ordinals());
    }

    /// Records that go the usual way are still in front of this one.
    fn usual_is_pending(&mut self, seq: Seq) -> bool {
        let records: &Records = &self.records;
        self.wholes.usual.retain(|seq| records.slot(*seq).is_some());
        self.wholes.usual.range(..seq).next().is_some()
    }

    /// The lead has come to a record whose turn comes later.
    pub(super) fn lead_waits_for_other_form(&mut self) -> bool {
        let waits = match self.wholes.lead_waits {
            None => return false,
            Some(LeadWaits::Wholes) => !self.wholes.lines.is_empty(),
            Some(LeadWaits::Usual(seq)) => self.usual_is_pending(seq),
        };
        if !waits {
            self.wholes.lead_waits = None;
        }
        waits
    }

    /// The lines have room for another record. A full one is read past only where there are several tenants.
    pub(super) fn wholes_have_room(&self) -> bool {
        let wholes = &self.wholes;
        let queued = wholes.queued.total();
        if !self.options.passthrough || queued == 0 && self.flights.is_empty() {
            return true;
        }
        let limits = &self.options.limits;
        let lane = u64::from(limits.lane);
        self.records.len() < self.options.memory.runs / RECORD_BYTES
            && wholes.lines.len() < KEYS_MAX
            && (queued < lane || wholes.tenants.1 && wholes.crowd(lane) < limits.queued)
    }

    /// The record whose body may go next, as far as memory allows.
    pub(super) fn free_whole(&self) -> Option<Seq> {
        let (seq, tenant) = self.wholes.free.first_key_value()?;
        let first = self.wholes.lines.get(tenant)?.waiting.front()?;
        let bytes = self.batch_bytes + first.record.body_len as usize;
        let fits = bytes <= self.options.memory.lanes || self.flights.is_empty();
        (first.sender_waits || fits).then_some(*seq)
    }

    /// Takes the first of the line that stands under this record.
    pub(super) fn cut_whole(&mut self, seq: Seq, now: Instant) -> Arc<Batch> {
        let tenant = self.wholes.free.get(&seq).cloned();
        let waiting = tenant.and_then(|tenant| self.wholes.pop(&tenant));
        let waiting = waiting.expect("a free line has a first");
        self.fly_whole(waiting, None, now)
    }

    /// Makes a batch of a body. `again` if it had a number before, in the last process: it may be stored.
    fn fly_whole(&mut self, waiting: Waiting, again: Option<BatchId>, now: Instant) -> Arc<Batch> {
        let Waiting {
            record,
            slot,
            sender_waits,
            body,
        } = waiting;
        let id = again.unwrap_or(BatchId(self.next_batch));
        self.next_batch = self.next_batch.max(id.0 + 1);
        self.wholes.fly(&record.tenant, sender_waits);
        let run = Run {
            record: slot,
            from: 0,
            to: record.ordinals(),
        };
        let batch = Batch {
            id,
            key: NO_KEY,
            tenant: Arc::clone(&record.tenant),
            series: Vec::new(),
            content: Content::default(),
            origins: Vec::new(),
            // A body may carry metadata and nothing else.
            runs: [run].into_iter().filter(|run| run.to > 0).collect(),
            counts: record.counts,
            came_as_v2: record.protocol == Protocol::V2,
            maybe_stored: again.is_some(),
            arrived: record.arrived,
            cut: now,
            whole: Some(Whole {
                seq: record.seq,
                slot,
                protocol: record.protocol,
                encoding: record.encoding,
                sender_waits,
                bytes: record.body_len as usize,
                body,
            }),
        };
        self.launch(batch, Vec::new())
    }

    /// A batch that was open when the last process ended was just this body: it goes again, whole.
    pub(super) fn fly_whole_again(&mut self, waiting: Waiting, id: BatchId, now: Instant) {
        self.take_whole(waiting.slot);
        let batch = self.fly_whole(waiting, Some(id), now);
        let flight = self.flights.get_mut(&batch.id);
        let flight = flight.expect("what has just been made is in flight");
        flight.status = Status::Waiting(now);
        self.retries.insert((now, batch.id));
    }

    /// A body has its verdict: what its sender is told beside counts.
    pub(super) fn note_answer(&mut self, batch: &Batch, outcome: &Outcome) {
        if let Some(whole) = &batch.whole {
            let tracked = self.records.get_mut(whole.slot);
            tracked.held = false;
            tracked.unsupported = outcome.unsupported;
            tracked.message.clone_from(&outcome.refusal);
        }
    }

    /// A body has its verdict, and its line is free.
    pub(super) fn landed(&mut self, batch: &Batch, log: &dyn Log) {
        if let Some(whole) = &batch.whole {
            if batch.runs.is_empty() {
                self.leave_if_settled(whole.slot, log);
            }
            self.wholes.land(&batch.tenant, whole.sender_waits);
        }
    }

    /// Takes a record out of its line: its sender is told to come again.
    pub(super) fn withdraw_whole(&mut self, slot: u32) {
        let tenant = Arc::clone(&self.records.get(slot).record.tenant);
        if self.wholes.take(&tenant, slot).is_some() {
            self.untake_whole(slot);
        }
    }

    /// Empties the lines; the lead comes to all of it again.
    pub(super) fn clear_wholes(&mut self) {
        let waiting: Vec<u32> = self.wholes.waiting().map(|(slot, _)| slot).collect();
        for slot in waiting {
            self.withdraw_whole(slot);
        }
        self.wholes.lead_waits = None;
    }

    pub(super) fn audit_wholes(&self) -> Result<(), String> {
        self.wholes.audit()?;
        let flights = self.flights.values();
        let flying: Vec<u32> = flights
            .filter_map(|flight| Some(flight.batch.whole.as_ref()?.slot))
            .collect();
        let waiting = self.wholes.waiting().map(|(slot, _)| slot);
        let mut held: Vec<u32> = waiting.chain(flying.iter().copied()).collect();
        let mut marked: Vec<u32> = self
            .records
            .iter()
            .filter(|(_, tracked)| tracked.held)
            .map(|(slot, _)| slot)
            .collect();
        held.sort_unstable();
        marked.sort_unstable();
        if held != marked {
            return Err(format!(
                "bodies in lines and in flight: kept {marked:?}, counted {held:?}"
            ));
        }
        let counted: u32 = self.wholes.lines.values().map(|line| line.flying).sum();
        if flying.len() != counted as usize {
            return Err(format!(
                "bodies in flight: kept {counted}, counted {}",
                flying.len()
            ));
        }
        Ok(())
    }
}
