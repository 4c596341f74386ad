//! From a record into lanes: what the reader takes next, and what it leaves for later. Pure.
//!
//! The *lead* takes what is new. A lane that is full makes it wait, unless a permit is free and nothing
//! else is due: then the lane is *parked* and the lead goes on without it. One *laggard* pass at a time
//! goes back for parked lanes that are half empty, beginning at the oldest place where one was left, and a
//! lane that it brings up to the lead is unparked. So one stuck lane never stalls the rest, and no record
//! is decoded for nothing.

use std::ops::Range;
use std::sync::Arc;

use tokio::time::Instant;

use super::journal::JournalRun;
use super::lanes::KEYS_MAX;
use super::ledger::DropReason;
use super::mutants::{self, Mutant};
use super::nodes::{Element, Origin};
use super::state::{Absent, Laggard, QueueState, StallOn, Stalled};
use super::table::SeriesRef;
use crate::log::{Log, Record, Seq};
use crate::model::content::{Histogram, Sample};
use crate::model::counts::{Counts, Kind};
use crate::wire::decoded::{Decoded, SeriesRow};

/// What the reader should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Go on in the record where the lead had to stop; its decoded form is at hand.
    Resume,
    /// Fetch the first record from here on, for the lead.
    Lead(Seq),
    /// Fetch this record again, for parked lanes.
    Laggard(Seq),
    /// Fetch this record again: its sender is back.
    Requeue(Seq),
    /// Fetch this record for batches that were open when the last process ended.
    Replay(Seq),
    /// Nothing, until something is settled.
    Wait,
}

/// Who takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The lead.
    Lead,
    /// The pass for parked lanes.
    Laggard,
    /// For a sender that came back.
    Requeue,
    /// For batches that were open when the last process ended.
    Replay,
}

impl QueueState {
    /// What the reader should do next.
    pub fn plan(&mut self, now: Instant) -> Plan {
        if let Some(seq) = self.left.next_replay() {
            return Plan::Replay(seq);
        }
        self.replayed(now);
        while let Some(seq) = self.requeue.front() {
            if self.wants_reading(*seq) {
                return Plan::Requeue(*seq);
            }
            self.requeue.pop_front();
        }
        if !self.has_room() {
            return Plan::Wait;
        }
        self.laggard_turn = !self.laggard_turn;
        if self.laggard_turn
            && let Some(seq) = self.laggard_place()
        {
            return Plan::Laggard(seq);
        }
        let lead = self.lead_plan(now);
        if lead == Plan::Wait
            && let Some(seq) = self.laggard_place()
        {
            return Plan::Laggard(seq);
        }
        lead
    }

    /// The record is to be read.
    fn wants_reading(&self, seq: Seq) -> bool {
        let slot = self.records.slot(seq);
        slot.is_some_and(|slot| self.records.get(slot).wants_reading())
    }

    fn lead_plan(&mut self, now: Instant) -> Plan {
        if self.lead_waits_for_other_form() {
            return Plan::Wait;
        }
        let Some(stalled) = &self.stalled else {
            self.pass_settled();
            return Plan::Lead(self.lead);
        };
        let go_on = match stalled.on {
            StallOn::Lane(lane) => !self.lanes.is_full(lane) || self.may_park(now),
            StallOn::Keys => self.lanes.active_keys() < KEYS_MAX,
        };
        if go_on { Plan::Resume } else { Plan::Wait }
    }

    /// Records that the lead has come to before are settled whole, but for those tracked or left by the last
    /// process.
    fn pass_settled(&mut self) {
        if self.lead < self.entered {
            let (left, tracked) = (self.left.next(self.lead), self.records.next(self.lead));
            let next = [left, tracked].into_iter().flatten().min();
            self.lead = next.unwrap_or(self.entered).min(self.entered);
        }
    }

    /// A permit is free and no free lane is due: going on past a full lane gives it something to do.
    fn may_park(&self, now: Instant) -> bool {
        let due = self.lanes.due_at(now, self.eager());
        self.permit_is_free(now) && due.is_none_or(|(at, _)| at > now)
    }

    /// Where the laggard's next record is. Begins a pass if one is worth it, ends one that is through.
    fn laggard_place(&mut self) -> Option<Seq> {
        loop {
            if self.laggard.is_none() {
                let lanes = self.lanes.half_empty_parked();
                let at = lanes.iter().map(|(from, _)| *from).min()?;
                let lanes = lanes.into_iter().map(|(_, lane)| lane).collect();
                self.laggard = Some(Laggard { at, lanes });
            }
            let pass = self.laggard.as_ref()?;
            // A lane that is full has left the pass; what is before the places of the others is not theirs.
            let places = pass.lanes.iter().filter_map(|lane| self.left_at(*lane));
            let next = places.min().and_then(|at| self.records.next_untaken(at));
            if let Some((seq, _)) = next.filter(|(seq, _)| *seq < self.lead) {
                return Some(seq);
            }
            // Brought up to the lead: whatever is left of these lanes, the lead itself will take.
            let pass = self.laggard.take()?;
            pass.lanes.iter().for_each(|lane| self.lanes.unpark(*lane));
            if self.lanes.parked_lanes() == 0 {
                return None;
            }
        }
    }

    /// The state has been rewound when this changes: what was planned before is void.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Enters the record that the lead has come to. `None` when there is nothing in it to take.
    ///
    /// Records between the lead and this one are gone: settled whole, or, for a queue that is not
    /// required, given up for room.
    pub fn enter(&mut self, record: &Arc<Record>, log: &dyn Log) -> Option<u32> {
        let seq = record.seq;
        if let Some(slot) = self.records.slot(seq) {
            let wanted = self.records.get(slot).wants_reading();
            self.give_up_before(seq, log);
            self.lead = if wanted { seq } else { seq.next() };
            return wanted.then_some(slot);
        }
        self.give_up_before(seq, log);
        if seq < self.entered {
            let left = self.enter_left(record);
            self.lead = if left.is_some() { seq } else { seq.next() };
            return left;
        }
        self.lost_up_to(record.totals - record.admitted, log);
        (self.entered, self.entered_totals) = (seq.next(), record.totals);
        let slot = self.records.enter(Arc::clone(record));
        let later = self.absent.split_off(&seq.next());
        let absent = std::mem::replace(&mut self.absent, later).remove(&seq);
        match absent {
            None => return Some(slot),
            Some(Absent::Withheld) => self.records.get_mut(slot).withheld = true,
            Some(Absent::Expired) => self.drop_untaken(slot, DropReason::Withdrawn, log),
        }
        self.lead = seq.next();
        None
    }

    /// The log has nothing for the lead. Says whether there is something else to do than to wait.
    ///
    /// Records that the lead should have come to may have been given up for room: then they are booked, and
    /// the lead goes to the log's end. And while the lead rests, every turn is the laggard's.
    pub fn rest(&mut self, log: &dyn Log) -> bool {
        if let Some((end, totals)) = log.end_behind(self.lead) {
            self.give_up_before(end, log);
            if end > self.entered {
                self.lost_up_to(totals, log);
                (self.entered, self.entered_totals) = (end, totals);
            }
            self.lead = end;
            return true;
        }
        self.laggard_turn = false;
        self.has_room() && self.laggard_place().is_some()
    }

    /// Records that the lead has come to before, must read again, and finds gone.
    fn give_up_before(&mut self, seq: Seq, log: &dyn Log) {
        if self.lead < seq {
            for slot in self.records.between(self.lead, seq) {
                let reason = log.why_gone(self.records.get(slot).record.seq);
                self.drop_untaken(slot, reason.into(), log);
            }
            self.give_up_left(self.lead, seq, log);
        }
    }

    /// Records never entered are gone: everything up to these totals of the log.
    fn lost_up_to(&mut self, totals: Counts, log: &dyn Log) {
        let lost = totals - self.entered_totals;
        if !lost.is_zero() {
            self.ledger.drop(log.why_gone(self.entered).into(), lost);
            self.gap = true;
        }
    }

    /// Goes on in the record where the lead had to stop.
    pub fn resume(&mut self, now: Instant, log: &dyn Log) {
        if let Some(Stalled { slot, decoded, .. }) = self.stalled.take() {
            self.take(Role::Lead, slot, &decoded, now, log);
        }
    }

    /// A record that should have been read again is gone: it was given up for room.
    pub fn gone(&mut self, seq: Seq, reason: DropReason, now: Instant, log: &dyn Log) {
        self.requeue.retain(|waiting| *waiting != seq);
        if let Some(slot) = self.records.slot(seq) {
            self.drop_untaken(slot, reason, log);
        } else if let Some(left) = self.left.take(seq) {
            self.ledger.drop(reason, left.unsettled);
            self.gap = true;
            self.unneeded.push(seq);
        }
        self.forgo_replay(seq, now);
    }

    /// Counts a decode that was done for a reader.
    pub fn decoded_again(&mut self, role: Role) {
        match role {
            Role::Lead => self.work.decoded_lead += 1,
            Role::Laggard | Role::Requeue => self.work.decoded_laggard += 1,
            Role::Replay => self.work.decoded_replay += 1,
        }
    }

    /// Takes a record's untaken elements into lanes, as far as the role allows.
    pub fn take(
        &mut self,
        role: Role,
        slot: u32,
        decoded: &Arc<Decoded>,
        now: Instant,
        log: &dyn Log,
    ) {
        if role == Role::Replay {
            return self.replay(slot, decoded, now);
        }
        let tracked = self.records.get_mut(slot);
        let record = Arc::clone(&tracked.record);
        if !std::mem::replace(&mut tracked.read, true) {
            self.metadata.absorb(&record.tenant, decoded);
        }
        let stalled = self.take_rows(role, slot, &record, decoded, now);
        self.lanes.settle_pushes();
        match role {
            Role::Lead => match stalled {
                Some(on) => {
                    self.stalled = Some(Stalled {
                        slot,
                        decoded: Arc::clone(decoded),
                        on,
                    });
                }
                None => self.lead = record.seq.next(),
            },
            Role::Laggard => {
                if let Some(pass) = &mut self.laggard {
                    pass.at = record.seq.next();
                }
            }
            Role::Requeue => self.requeue.retain(|waiting| *waiting != record.seq),
            Role::Replay => {}
        }
        self.leave_if_settled(slot, log);
        self.look_at_memory();
    }

    /// Takes series by series; what made the lead stop, if it had to.
    fn take_rows(
        &mut self,
        role: Role,
        slot: u32,
        record: &Arc<Record>,
        decoded: &Decoded,
        now: Instant,
    ) -> Option<StallOn> {
        let salt = self.tenant_salt(&record.tenant);
        // Most records are taken whole at once: then no element has to be looked up.
        let fresh = self.records.get(slot).taken.is_empty();
        let mut at = Ordinals::new(decoded);
        for row in &decoded.series {
            let place = at.advance(row);
            if !fresh && self.row_is_taken(slot, &place) {
                continue;
            }
            if row.invalid.is_some() {
                self.leave_out_invalid(slot, &place);
                continue;
            }
            let series = self.series_of(row, decoded, record, salt);
            let (key, number) = {
                let entry = self.table.get(series);
                (entry.key, entry.lane)
            };
            if role == Role::Lead && !self.lanes.key_has_room(key) {
                return Some(StallOn::Keys);
            }
            let lane = self.lanes.open_to_push(key, number);
            match self.may_take(role, lane, record.seq, now) {
                Take::Yes => {}
                Take::Later => continue,
                Take::Stall => return Some(StallOn::Lane(lane)),
            }
            let target = Target {
                series,
                lane,
                slot,
                fresh,
            };
            self.take_row(target, &place, record, decoded);
        }
        None
    }

    fn may_take(&mut self, role: Role, lane: u32, seq: Seq, now: Instant) -> Take {
        match role {
            Role::Lead if self.lanes.parked(lane).is_some() => return Take::Later,
            Role::Laggard if !self.in_pass(lane) => return Take::Later,
            // The pass will come to it, after what is older.
            Role::Requeue if self.left_at(lane).is_some_and(|left| left <= seq) => {
                return Take::Later;
            }
            _ if !self.lanes.is_full(lane) => return Take::Yes,
            Role::Lead => {
                self.lanes.settle_pushes();
                if !self.may_park(now) {
                    return Take::Stall;
                }
                self.work.parked += 1;
                self.lanes.park(lane, seq);
            }
            // Left here: a pass under way, which may be past this place, does not bring it up to the lead.
            Role::Laggard | Role::Requeue | Role::Replay => {
                self.lanes.park(lane, seq);
                if let Some(pass) = &mut self.laggard {
                    pass.lanes.remove(&lane);
                }
            }
        }
        Take::Later
    }

    /// From where on the elements of a parked lane are untaken.
    fn left_at(&self, lane: u32) -> Option<Seq> {
        let parked = self.lanes.parked(lane)?;
        match &self.laggard {
            Some(pass) if pass.lanes.contains(&lane) => Some(parked.max(pass.at)),
            _ => Some(parked),
        }
    }

    fn in_pass(&self, lane: u32) -> bool {
        self.laggard
            .as_ref()
            .is_some_and(|pass| pass.lanes.contains(&lane))
    }

    fn row_is_taken(&self, slot: u32, place: &Place) -> bool {
        let taken = &self.records.get(slot).taken;
        place
            .ranges()
            .into_iter()
            .flatten()
            .all(|ordinal| taken.contains(ordinal))
    }

    /// The table's entry of a series, made if it is new.
    pub(super) fn series_of(
        &mut self,
        row: &SeriesRow,
        decoded: &Decoded,
        record: &Record,
        salt: u128,
    ) -> SeriesRef {
        let id = row.id ^ salt;
        if let Some(known) = self.table.find(id) {
            return known;
        }
        let mut labels = Vec::new();
        decoded.labels(row, &mut labels);
        let labels = self.table.intern(&labels);
        let rules = &self.options.rules;
        let key = self
            .lanes
            .key_for_series(rules.separation(&record.tenant, &labels));
        let lane = rules.lane(&labels);
        self.table.insert(id, labels, key, lane)
    }

    fn take_row(&mut self, target: Target, place: &Place, record: &Record, decoded: &Decoded) {
        for (kind, range) in Kind::ALL.into_iter().zip(place.ranges()) {
            if range.is_empty() {
                continue;
            }
            if !self.sends(kind) {
                self.not_sent(target.slot, kind, range);
                continue;
            }
            for ordinal in range.clone() {
                if !target.fresh && self.records.get(target.slot).taken.contains(ordinal) {
                    continue;
                }
                let element = element_of(decoded, record.counts, kind, ordinal);
                let Target {
                    series, lane, slot, ..
                } = target;
                let origin = Origin {
                    record: slot,
                    ordinal,
                    series: series.0,
                };
                let node = self.nodes.insert(element, origin);
                let when = (record.seq, record.arrived);
                self.lanes
                    .push(lane, (series, node), when, &mut self.table, &mut self.nodes);
                self.work.taken += 1;
            }
            if mutants::present(Mutant::TakeTwice) && range.len() == 2 {
                continue;
            }
            self.records
                .get_mut(target.slot)
                .taken
                .insert(range.start, range.end);
        }
    }

    fn sends(&self, kind: Kind) -> bool {
        match kind {
            Kind::Sample => true,
            Kind::Histogram => self.options.send_histograms,
            Kind::Exemplar => self.options.send_exemplars,
        }
    }

    /// Elements of a kind that the user asked not to send.
    fn not_sent(&mut self, slot: u32, kind: Kind, range: Range<u32>) {
        self.leave_out(slot, kind, range, DropReason::NotSent);
    }

    /// A series that is invalid by itself, in a body that passthrough let in whole: no batch of ours can carry it.
    fn leave_out_invalid(&mut self, slot: u32, place: &Place) {
        for (kind, range) in Kind::ALL.into_iter().zip(place.ranges()) {
            if !range.is_empty() {
                self.leave_out(slot, kind, range, DropReason::Unrepresentable);
            }
        }
    }

    fn leave_out(&mut self, slot: u32, kind: Kind, range: Range<u32>, reason: DropReason) {
        let tracked = self.records.get_mut(slot);
        let new = range.clone().filter(|o| !tracked.taken.contains(*o));
        let new: Vec<u32> = new.collect();
        tracked.taken.insert(range.start, range.end);
        tracked.settled.insert(range.start, range.end);
        let seq = tracked.record.seq;
        self.ledger.drop(reason, Counts::of(kind, new.len() as u64));
        self.journal.dropped(reason, || {
            let run = |ordinal| JournalRun {
                seq,
                from: ordinal,
                to: ordinal + 1,
                kind,
            };
            new.into_iter().map(run).collect()
        });
    }
}

enum Take {
    Yes,
    /// Left untaken.
    Later,
    /// The lead has to wait.
    Stall,
}

#[derive(Clone, Copy)]
struct Target {
    series: SeriesRef,
    lane: u32,
    slot: u32,
    fresh: bool,
}

/// The next ordinal of each kind while rows are walked.
pub(super) struct Ordinals {
    samples: u32,
    histograms: u32,
    exemplars: u32,
}

impl Ordinals {
    pub(super) fn new(decoded: &Decoded) -> Self {
        let counts = decoded.counts();
        let histograms = counts.samples as u32;
        Self {
            samples: 0,
            histograms,
            exemplars: histograms + counts.histograms as u32,
        }
    }

    pub(super) fn advance(&mut self, row: &SeriesRow) -> Place {
        let take = |next: &mut u32, count: u32| {
            let from = *next;
            *next += count;
            from..*next
        };
        Place {
            samples: take(&mut self.samples, row.counts.samples),
            histograms: take(&mut self.histograms, row.counts.histograms),
            exemplars: take(&mut self.exemplars, row.counts.exemplars),
        }
    }
}

/// The ordinals of one row.
pub(super) struct Place {
    samples: Range<u32>,
    histograms: Range<u32>,
    exemplars: Range<u32>,
}

impl Place {
    /// In the order of [`Kind::ALL`].
    pub(super) fn ranges(&self) -> [Range<u32>; 3] {
        [
            self.samples.clone(),
            self.histograms.clone(),
            self.exemplars.clone(),
        ]
    }
}

/// The element with this ordinal.
pub(super) fn element_of(decoded: &Decoded, counts: Counts, kind: Kind, ordinal: u32) -> Element {
    let ordinal = ordinal as usize;
    let histograms_from = counts.samples as usize;
    let exemplars_from = histograms_from + counts.histograms as usize;
    match kind {
        Kind::Sample => {
            let row = decoded.samples[ordinal];
            let start = decoded.starts.get(ordinal).copied().unwrap_or(0);
            Element::Sample(Sample {
                timestamp: row.timestamp,
                bits: row.bits,
                start,
            })
        }
        Kind::Histogram => {
            let row = decoded.histograms[ordinal - histograms_from];
            Element::Histogram(Histogram {
                message: decoded.bytes(row.place).into(),
                timestamp: row.timestamp,
                custom: row.custom,
                start: row.start,
            })
        }
        Kind::Exemplar => {
            Element::Exemplar(decoded.exemplar(decoded.exemplars[ordinal - exemplars_from]))
        }
    }
}
