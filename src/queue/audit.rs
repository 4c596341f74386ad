//! Everything that is counted or listed, against what it is made of. For tests and debug builds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::lanes::{KeyRef, Lane, LaneRef, Lanes};
use super::nodes::Nodes;
use super::state::{QueueState, Status};
use super::table::{SeriesRef, SeriesTable};
use crate::model::runs::RunSet;

/// An error unless both are equal.
#[allow(
    clippy::needless_pass_by_value,
    reason = "callers compare what they have just counted"
)]
fn same<T: PartialEq + std::fmt::Debug>(what: &str, kept: T, counted: T) -> Result<(), String> {
    if kept == counted {
        return Ok(());
    }
    Err(format!("{what}: kept {kept:?}, counted {counted:?}"))
}

impl QueueState {
    /// Compares all of it; the first difference found.
    pub fn audit(&self) -> Result<(), String> {
        self.lanes.audit(&self.table, &self.nodes)?;
        self.audit_flights()?;
        self.audit_records()?;
        self.audit_wholes()?;
        let open = self.flights.values();
        let open = open.filter(|flight| !matches!(flight.status, Status::Concluded(_)));
        self.journal
            .audit(open.map(|flight| &*flight.batch), &self.records)
    }

    fn audit_flights(&self) -> Result<(), String> {
        let flights = || self.flights.iter();
        let waiting = flights().filter_map(|(id, flight)| match flight.status {
            Status::Waiting(at) => Some((at, *id)),
            Status::Sending | Status::Concluded(_) => None,
        });
        let waiting: BTreeSet<_> = waiting.collect();
        same("batches that wait", &self.retries, &waiting)?;
        let sending = flights().filter(|(_, flight)| flight.status == Status::Sending);
        same("permits", self.sending, sending.count())?;
        let bytes = flights().map(|(_, flight)| flight.bytes).sum();
        same("bytes of batches", self.batch_bytes, bytes)?;
        for (id, flight) in flights() {
            let concluded = matches!(flight.status, Status::Concluded(_));
            if let Some(split) = flight.split.as_ref().filter(|_| !concluded) {
                let what = format!("batch {}: elements of its parts", id.0);
                same(&what, split.counted(), flight.batch.counts.total())?;
            }
        }
        let (mut locks, mut in_flight) = (BTreeMap::new(), HashMap::<_, u32>::new());
        for (id, flight) in flights() {
            for lane in &flight.lanes {
                *locks.entry(*lane).or_insert(0) += 1;
            }
            for (series, count) in &flight.batch.series {
                if in_flight.insert(*series, *count).is_some() {
                    return Err(format!("batch {}: shares a series with another", id.0));
                }
            }
        }
        same("locks", self.lanes.locks(), locks)?;
        for (at, series) in self.table.iter() {
            let counted = in_flight.remove(&at).unwrap_or(0);
            same("elements of a series in flight", series.in_flight, counted)?;
        }
        same(
            "series in flight that the table does not know",
            0,
            in_flight.len(),
        )
    }

    fn audit_records(&self) -> Result<(), String> {
        let mut held: HashMap<u32, RunSet> = HashMap::new();
        for (_, series) in self.table.iter() {
            let (mut at, mut left) = (series.head, series.queued);
            while left > 0 {
                let node = self.nodes.get(at);
                held.entry(node.record)
                    .or_default()
                    .insert(node.ordinal(), node.ordinal() + 1);
                (at, left) = (node.next, left - 1);
            }
        }
        for run in self.flights.values().flat_map(|flight| &flight.batch.runs) {
            held.entry(run.record).or_default().insert(run.from, run.to);
        }
        for (slot, count) in self.wholes.waiting() {
            held.entry(slot).or_default().insert(0, count);
        }
        for (slot, tracked) in self.records.iter() {
            let seq = tracked.record.seq;
            let mut taken = held.remove(&slot).unwrap_or_default();
            tracked
                .settled
                .iter()
                .for_each(|(from, to)| taken.insert(from, to));
            if taken != tracked.taken {
                return Err(format!(
                    "record {}: taken is not queued, in flight or settled",
                    seq.0
                ));
            }
            let over = tracked.settled.covers(tracked.record.ordinals());
            // One of which nothing was admitted waits to be read, or to be sent, for its metadata.
            if over && tracked.read && !tracked.held {
                return Err(format!("record {}: settled whole, and still there", seq.0));
            }
            // What the lead has left behind is somebody's: the laggard's, or a sender's that comes again.
            let left = seq < self.lead && tracked.wants_reading();
            if left && self.lanes.parked_lanes() == 0 && !self.requeue.contains(&seq) {
                return Err(format!("record {}: nobody will take the rest of it", seq.0));
            }
        }
        same("records in lanes or batches that are gone", 0, held.len())
    }
}

impl Lanes {
    /// Batches that hold each lane.
    fn locks(&self) -> BTreeMap<LaneRef, u32> {
        let lanes = self.lanes.iter().enumerate();
        let held = lanes.filter_map(|(at, lane)| Some((at as LaneRef, lane.as_ref()?.locks)));
        held.filter(|(_, locks)| *locks > 0).collect()
    }

    /// Every list against what it is made of.
    pub(super) fn audit(&self, table: &SeriesTable, nodes: &Nodes) -> Result<(), String> {
        let mut total = 0;
        let mut parked = BTreeSet::new();
        let mut of_keys: BTreeMap<KeyRef, Vec<(LaneRef, &Lane)>> = BTreeMap::new();
        for (at, lane) in self.lanes.iter().enumerate() {
            let Some(lane) = lane else { continue };
            let at = at as LaneRef;
            audit_lane(lane, table, nodes).map_err(|what| format!("lane {at}: {what}"))?;
            total += u64::from(lane.queued);
            parked.extend(lane.parked.map(|from| (from, at)));
            of_keys.entry(lane.key).or_default().push((at, lane));
        }
        same("elements in lanes", self.queued, total)?;
        let locked = self.lanes.iter().flatten().filter(|lane| lane.locks > 0);
        let locked: u64 = locked.map(|lane| u64::from(lane.queued)).sum();
        same("elements in locked lanes", self.locked_queued, locked)?;
        same("nodes", nodes.counts().total(), total)?;
        same("parked lanes", &self.parked, &parked)?;
        same("keys with lanes", self.active_keys, of_keys.len())?;
        let in_lines: usize = self
            .lanes
            .iter()
            .flatten()
            .map(|lane| lane.line.len())
            .sum();
        let queued = table.iter().filter(|(_, series)| series.queued > 0).count();
        same("series in lines", in_lines, queued)?;
        self.audit_keys(&of_keys, table)
    }

    fn audit_keys(
        &self,
        of_keys: &BTreeMap<KeyRef, Vec<(LaneRef, &Lane)>>,
        table: &SeriesTable,
    ) -> Result<(), String> {
        let mut series = BTreeMap::<KeyRef, u32>::new();
        for (_, known) in table.iter() {
            *series.entry(known.key).or_default() += 1;
        }
        let (mut by_age, mut by_size) = (BTreeSet::new(), BTreeSet::new());
        let keys = self.keys.iter().enumerate();
        for (at, key) in keys.filter_map(|(at, key)| Some((at as KeyRef, key.as_ref()?))) {
            let lanes = of_keys.get(&at).map_or(&[][..], Vec::as_slice);
            let free = || {
                lanes
                    .iter()
                    .filter_map(|(at, lane)| Some((*at, lane.standing?)))
            };
            same(
                "series of a key",
                key.series,
                series.remove(&at).unwrap_or(0),
            )?;
            same("lanes of a key", key.live as usize, lanes.len())?;
            same("a key in use", key.live > 0 || key.series > 0, true)?;
            let queued = free().map(|(_, standing)| u64::from(standing.queued)).sum();
            same("elements in free lanes", key.free_queued, queued)?;
            let full = free().filter(|(_, standing)| standing.full).count();
            same("free lanes that are full", key.free_full as usize, full)?;
            let listed: BTreeSet<_> = free().map(|(at, standing)| (standing.seq, at)).collect();
            same("free lanes", &key.free, &listed)?;
            if let Some((oldest, _)) = listed.first() {
                by_age.insert((*oldest, at));
                let full_batch = queued >= u64::from(self.limits.batch);
                if full_batch && self.limits.window.is_zero() || full > 0 {
                    by_size.insert((*oldest, at));
                }
            }
        }
        same("keys by age", &self.by_age, &by_age)?;
        same("keys by size", &self.by_size, &by_size)?;
        same("series without a key", 0, series.len())
    }
}

fn audit_lane(lane: &Lane, table: &SeriesTable, nodes: &Nodes) -> Result<(), String> {
    let mut queued = 0;
    let mut seen = BTreeSet::<SeriesRef>::new();
    for waiting in &lane.line {
        let series = table.get(waiting.series);
        let (mut node, mut linked) = (series.head, 0);
        while linked < series.queued {
            linked += 1;
            let last = node;
            node = nodes.get(node).next;
            if linked == series.queued && last != series.tail {
                return Err("the tail is not the last element".to_owned());
            }
        }
        queued += series.queued;
        if (series.key, series.lane) != (lane.key, lane.number) || !seen.insert(waiting.series) {
            return Err("holds a series twice, or one of another lane".to_owned());
        }
    }
    same("elements", lane.queued, queued)?;
    let mut pairs = lane.line.iter().zip(lane.line.iter().skip(1));
    if !pairs.all(|(a, b)| a.seq <= b.seq) {
        return Err("its line is not in order of age".to_owned());
    }
    if queued == 0 && lane.locks == 0 && lane.parked.is_none() {
        return Err("is of no use".to_owned());
    }
    let free = lane.locks == 0 && queued > 0;
    same("free", lane.standing.is_some(), free)
}
