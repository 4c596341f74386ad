//! Lanes: ordered lines of series that travel together, at most one batch of each in flight.
//!
//! Because a lane is locked from the cut of a batch to its verdict, order within a series holds under any
//! concurrency, retry or failure. Pure: time comes in as an argument, and nothing here waits.
//!
//! # When a lane is due
//! Judged per separation key: its free lanes together hold a full batch, or the oldest element in them has
//! waited for the deadline. A full lane is due by itself, and in a drain every lane is.
//! What a batch then takes from them: [`super::cut`].

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::grouping::{Grouping, LANES, Separation};
use super::mutants::{self, Mutant};
use super::nodes::{NONE, Node, Nodes};
use super::table::{SeriesRef, SeriesTable};
use crate::log::Seq;

/// Number of a separation key.
pub type KeyRef = u32;
/// Number of a lane, over all keys.
pub type LaneRef = u32;

/// Separation keys with anything in a lane; beyond it the reader waits.
pub const KEYS_MAX: usize = 1000;

/// What the values of a separation take, about.
const KEY_TEXT: usize = 100;

/// How much lanes hold and batches take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// Elements that all lanes together may hold: `capacity × max_shards`.
    pub queued: u64,
    /// Elements one lane may hold.
    pub lane: u32,
    /// Elements a batch takes.
    pub batch: u32,
    /// Bytes a batch takes, as a 1.0 message before compression.
    pub batch_bytes: usize,
    /// How long the oldest element waits for company.
    pub deadline: Duration,
    /// How long elements wait in order to merge, whatever their number.
    pub window: Duration,
}

impl LaneLimits {
    /// Limits from the words of the configuration.
    ///
    /// A lane holds a sixteenth of the queue's capacity, and at least two batches, so that one stuck lane
    /// cannot fill the queue.
    pub fn new(
        capacity: u64,
        max_shards: u64,
        batch: u32,
        batch_bytes: usize,
        deadline: Duration,
    ) -> Self {
        let queued = capacity * max_shards.max(1);
        let lane = u32::try_from(queued / 16)
            .unwrap_or(u32::MAX)
            .max(2 * batch);
        Self {
            queued,
            lane,
            batch,
            batch_bytes,
            deadline,
            window: Duration::ZERO,
        }
    }

    /// The same with a window for merging.
    #[must_use]
    pub fn with_window(self, window: Duration) -> Self {
        Self { window, ..self }
    }
}

/// A series with something in its lane.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) series: SeriesRef,
    /// Record of its oldest element.
    pub(super) seq: Seq,
    /// When that record arrived.
    pub(super) arrived: Instant,
}

/// One lane.
pub(super) struct Lane {
    pub(super) key: KeyRef,
    pub(super) number: u8,
    pub(super) line: VecDeque<Waiting>,
    pub(super) queued: u32,
    /// Batches that hold it: one, or several after a rewind has moved series together.
    pub(super) locks: u32,
    /// First record with an element that the reader left for later.
    pub(super) parked: Option<Seq>,
    /// What its key counts it as, while it is free and holds something.
    pub(super) standing: Option<Standing>,
    /// What it adds to the elements in locked lanes.
    pub(super) locked: u32,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) struct Standing {
    pub(super) seq: Seq,
    pub(super) queued: u32,
    pub(super) full: bool,
}

pub(super) struct Key {
    pub(super) separation: Separation,
    /// By number; only while any is in use.
    pub(super) lanes: Option<Box<[LaneRef; LANES]>>,
    pub(super) live: u32,
    pub(super) series: u32,
    pub(super) free: BTreeSet<(Seq, LaneRef)>,
    pub(super) free_queued: u64,
    pub(super) free_full: u32,
    /// Under what it stands in the queue's two lists: its oldest record, and whether it is due by size.
    pub(super) standing: Option<(Seq, bool)>,
}

/// All lanes of a queue.
#[allow(clippy::struct_field_names, reason = "the lanes of all lanes")]
pub struct Lanes {
    pub(super) limits: LaneLimits,
    pub(super) grouping: Grouping,
    pub(super) keys: Vec<Option<Key>>,
    pub(super) free_keys: Vec<KeyRef>,
    pub(super) index: HashMap<Separation, KeyRef>,
    pub(super) active_keys: usize,
    pub(super) lanes: Vec<Option<Lane>>,
    pub(super) free_lanes: Vec<LaneRef>,
    pub(super) queued: u64,
    /// Elements in locked lanes.
    pub(super) locked_queued: u64,
    /// Keys with something in a free lane, by its age.
    pub(super) by_age: BTreeSet<(Seq, KeyRef)>,
    /// Those of them that are due by size.
    pub(super) by_size: BTreeSet<(Seq, KeyRef)>,
    pub(super) parked: BTreeSet<(Seq, LaneRef)>,
    /// Lanes that were opened for pushes since the last [`settle_pushes`](Self::settle_pushes).
    pub(super) touched: Vec<LaneRef>,
}

impl Lanes {
    /// No lanes yet.
    pub fn new(limits: LaneLimits, grouping: Grouping) -> Self {
        Self {
            limits,
            grouping,
            keys: Vec::new(),
            free_keys: Vec::new(),
            index: HashMap::new(),
            active_keys: 0,
            lanes: Vec::new(),
            free_lanes: Vec::new(),
            queued: 0,
            locked_queued: 0,
            by_age: BTreeSet::new(),
            by_size: BTreeSet::new(),
            parked: BTreeSet::new(),
            touched: Vec::new(),
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> &LaneLimits {
        &self.limits
    }

    /// Changes the limits; what is queued stays as it is.
    pub fn set_limits(&mut self, limits: LaneLimits) {
        self.limits = limits;
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].is_some() {
                self.restand(lane as LaneRef);
            }
        }
    }

    /// Elements in all lanes.
    pub fn queued(&self) -> u64 {
        self.queued
    }

    /// Separation keys with anything in a lane.
    pub fn active_keys(&self) -> usize {
        self.active_keys
    }

    /// Lanes in use.
    pub fn live(&self) -> usize {
        self.lanes.len() - self.free_lanes.len()
    }

    /// Lanes that batches hold.
    pub fn locked(&self) -> usize {
        self.lanes
            .iter()
            .flatten()
            .filter(|lane| lane.locks > 0)
            .count()
    }

    /// Heap bytes of the lanes, about.
    pub fn heap_bytes(&self) -> usize {
        let lines: usize = self.lanes.iter().flatten().map(|l| l.line.capacity()).sum();
        self.active_keys * LANES * size_of::<LaneRef>()
            + self.live() * size_of::<Lane>()
            + lines * size_of::<Waiting>()
    }

    /// Heap bytes of the keys, which stay as long as the table knows a series of theirs.
    pub fn key_bytes(&self) -> usize {
        self.index.len() * (size_of::<Key>() + size_of::<Separation>() + KEY_TEXT)
    }

    /// The key of a separation, which from now on has one more series.
    pub fn key_for_series(&mut self, separation: Separation) -> KeyRef {
        if let Some(key) = self.index.get(&separation).copied() {
            self.key_mut(key).series += 1;
            return key;
        }
        let key = Key {
            separation: separation.clone(),
            lanes: None,
            live: 0,
            series: 1,
            free: BTreeSet::new(),
            free_queued: 0,
            free_full: 0,
            standing: None,
        };
        let at = if let Some(at) = self.free_keys.pop() {
            self.keys[at as usize] = Some(key);
            at
        } else {
            self.keys.push(Some(key));
            self.keys.len() as KeyRef - 1
        };
        self.index.insert(separation, at);
        at
    }

    /// One series less; the key goes with its last series and lane.
    pub fn series_gone(&mut self, key: KeyRef) {
        let held = self.key_mut(key);
        held.series -= 1;
        self.drop_key_if_unused(key);
    }

    /// What a key separates.
    pub fn separation(&self, key: KeyRef) -> &Separation {
        &self.key(key).separation
    }

    fn drop_key_if_unused(&mut self, key: KeyRef) {
        let held = self.key(key);
        if held.series == 0 && held.live == 0 {
            let gone = self.keys[key as usize].take();
            if let Some(gone) = gone {
                self.index.remove(&gone.separation);
            }
            self.free_keys.push(key);
        }
    }

    pub(super) fn key(&self, key: KeyRef) -> &Key {
        self.keys[key as usize]
            .as_ref()
            .expect("a key with a series or a lane stays")
    }

    pub(super) fn key_mut(&mut self, key: KeyRef) -> &mut Key {
        self.keys[key as usize]
            .as_mut()
            .expect("a key with a series or a lane stays")
    }

    pub(super) fn lane(&self, lane: LaneRef) -> &Lane {
        self.lanes[lane as usize]
            .as_ref()
            .expect("a lane in use stays")
    }

    pub(super) fn lane_mut(&mut self, lane: LaneRef) -> &mut Lane {
        self.lanes[lane as usize]
            .as_mut()
            .expect("a lane in use stays")
    }

    /// Would this series' lane be a new key above the limit?
    pub fn key_has_room(&self, key: KeyRef) -> bool {
        self.key(key).live > 0 || self.active_keys < KEYS_MAX
    }

    /// The lane with this number, made if need be.
    pub fn open(&mut self, key: KeyRef, number: u8) -> LaneRef {
        let lanes = self.key(key).lanes.as_ref();
        let known = lanes.map_or(NONE, |lanes| lanes[usize::from(number)]);
        if known != NONE {
            return known;
        }
        let lane = Lane {
            key,
            number,
            line: VecDeque::new(),
            queued: 0,
            locks: 0,
            parked: None,
            standing: None,
            locked: 0,
        };
        let at = if let Some(at) = self.free_lanes.pop() {
            self.lanes[at as usize] = Some(lane);
            at
        } else {
            self.lanes.push(Some(lane));
            self.lanes.len() as LaneRef - 1
        };
        let held = self.key_mut(key);
        held.lanes.get_or_insert_with(|| Box::new([NONE; LANES]))[usize::from(number)] = at;
        held.live += 1;
        if held.live == 1 {
            self.active_keys += 1;
        }
        at
    }

    fn close_if_unused(&mut self, lane: LaneRef) {
        let held = self.lane(lane);
        if held.queued > 0 || held.locks > 0 || held.parked.is_some() {
            return;
        }
        let (key, number) = (held.key, held.number);
        debug_assert!(held.line.is_empty() && held.standing.is_none());
        self.lanes[lane as usize] = None;
        self.free_lanes.push(lane);
        let held = self.key_mut(key);
        if let Some(lanes) = &mut held.lanes {
            lanes[usize::from(number)] = NONE;
        }
        held.live -= 1;
        if held.live == 0 {
            held.lanes = None;
            self.active_keys -= 1;
            self.drop_key_if_unused(key);
        }
    }

    /// Does the lane hold all it may? One that is gone does not.
    #[inline]
    pub fn is_full(&self, lane: LaneRef) -> bool {
        let held = self.lanes[lane as usize].as_ref();
        held.is_some_and(|held| held.queued >= self.limit_of(held))
    }

    /// How much a lane may hold.
    ///
    /// While locked lanes hold half of what all lanes may, a locked one is full with two batches: a
    /// request that hangs holds all the lanes it took from, and together they must not stall the rest.
    fn limit_of(&self, lane: &Lane) -> u32 {
        if lane.locks > 0 && self.locked_queued > self.limits.queued / 2 {
            2 * self.limits.batch
        } else {
            self.limits.lane
        }
    }

    /// Where the reader left this lane's elements, if it did.
    #[inline]
    pub fn parked(&self, lane: LaneRef) -> Option<Seq> {
        self.lane(lane).parked
    }

    /// The reader goes on past this lane, from this record on.
    pub fn park(&mut self, lane: LaneRef, from: Seq) {
        let before = self.lane_mut(lane).parked.replace(from);
        if let Some(before) = before {
            self.parked.remove(&(before, lane));
        }
        self.parked.insert((from, lane));
    }

    /// The reader takes this lane's elements again.
    pub fn unpark(&mut self, lane: LaneRef) {
        if let Some(from) = self.lane_mut(lane).parked.take() {
            self.parked.remove(&(from, lane));
            self.close_if_unused(lane);
        }
    }

    /// Parked lanes.
    pub fn parked_lanes(&self) -> usize {
        self.parked.len()
    }

    /// Parked lanes that are half empty, with the place where each was left.
    pub fn half_empty_parked(&self) -> Vec<(Seq, LaneRef)> {
        let half_empty = |lane: LaneRef| {
            let held = self.lane(lane);
            held.queued <= self.limit_of(held) / 2
        };
        let parked = self.parked.iter().copied();
        parked.filter(|(_, lane)| half_empty(*lane)).collect()
    }

    /// Adds an element at the end of its series and lane. Lists are brought up to date by
    /// [`settle_pushes`](Self::settle_pushes), once for many pushes.
    #[inline]
    pub fn push(
        &mut self,
        lane: LaneRef,
        (series, node): (SeriesRef, u32),
        (seq, arrived): (Seq, Instant),
        table: &mut SeriesTable,
        nodes: &mut Nodes,
    ) {
        let entry = table.get_mut(series);
        if entry.queued == 0 {
            (entry.head, entry.tail) = (node, node);
        } else if mutants::present(Mutant::PushFront) {
            nodes.link(node, entry.head);
            entry.head = node;
        } else {
            nodes.link(entry.tail, node);
            entry.tail = node;
        }
        entry.queued += 1;
        let first = entry.queued == 1;
        let held = self.lane_mut(lane);
        if first {
            // Nearly always the end: only a record that was taken back out comes in behind younger ones.
            let place = match held.line.back() {
                Some(last) if last.seq > seq => held.line.partition_point(|other| other.seq <= seq),
                _ => held.line.len(),
            };
            let waiting = Waiting {
                series,
                seq,
                arrived,
            };
            held.line.insert(place, waiting);
        }
        held.queued += 1;
        self.queued += 1;
    }

    /// The lane with this number, for pushes.
    pub fn open_to_push(&mut self, key: KeyRef, number: u8) -> LaneRef {
        let lane = self.open(key, number);
        if self.touched.last() != Some(&lane) {
            self.touched.push(lane);
        }
        lane
    }

    /// Brings the lists up to date after pushes; a lane that was opened and got nothing is closed.
    pub fn settle_pushes(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for lane in touched.drain(..) {
            self.restand(lane);
            self.close_if_unused(lane);
        }
        self.touched = touched;
    }

    /// Brings a lane's standing in its key up to date, and the key's in the queue.
    pub(super) fn restand(&mut self, lane: LaneRef) {
        let full_at = self.limits.lane;
        let held = self.lane_mut(lane);
        let front = held.line.front().filter(|_| held.locks == 0);
        let standing = front.map(|front| Standing {
            seq: front.seq,
            queued: held.queued,
            full: held.queued >= full_at,
        });
        let before = std::mem::replace(&mut held.standing, standing);
        let locked = if held.locks > 0 { held.queued } else { 0 };
        let locked_before = std::mem::replace(&mut held.locked, locked);
        let key = held.key;
        self.locked_queued = self.locked_queued + u64::from(locked) - u64::from(locked_before);
        if before == standing {
            return;
        }
        let held = self.key_mut(key);
        if let Some(before) = before {
            held.free_queued -= u64::from(before.queued);
            held.free_full -= u32::from(before.full);
            if standing.is_none_or(|now| now.seq != before.seq) {
                held.free.remove(&(before.seq, lane));
            }
        }
        if let Some(now) = standing {
            held.free_queued += u64::from(now.queued);
            held.free_full += u32::from(now.full);
            if before.is_none_or(|before| now.seq != before.seq) {
                held.free.insert((now.seq, lane));
            }
        }
        self.restand_key(key);
    }

    fn restand_key(&mut self, key: KeyRef) {
        let (batch, merging) = (u64::from(self.limits.batch), self.limits.window);
        let held = self.key_mut(key);
        // What waits in order to merge is not sent for its number alone.
        let full_batch = merging.is_zero() && held.free_queued >= batch;
        let by_size = full_batch || held.free_full > 0;
        let standing = held.free.first().map(|(seq, _)| (*seq, by_size));
        let before = std::mem::replace(&mut held.standing, standing);
        if before == standing {
            return;
        }
        if let Some((seq, by_size)) = before {
            self.by_age.remove(&(seq, key));
            if by_size {
                self.by_size.remove(&(seq, key));
            }
        }
        if let Some((seq, by_size)) = standing {
            self.by_age.insert((seq, key));
            if by_size {
                self.by_size.insert((seq, key));
            }
        }
    }

    /// When the first key is due: now or earlier means it can be cut. `eager` makes every key with
    /// anything in a free lane due at once: in a drain, and while senders wait for their answers.
    pub fn due_at(&self, now: Instant, eager: bool) -> Option<(Instant, KeyRef)> {
        let (_, oldest) = *self.by_age.first()?;
        let wait = self.limits.deadline.max(self.limits.window);
        let waited = self.oldest_arrival(oldest) + wait;
        // Merging never takes longer than memory allows.
        let crowded = !self.limits.window.is_zero() && self.queued > self.limits.queued / 5 * 4;
        if eager || crowded || waited <= now {
            return Some((now, oldest));
        }
        match self.by_size.first() {
            Some((_, key)) => Some((now, *key)),
            None => Some((waited, oldest)),
        }
    }

    pub(super) fn oldest_arrival(&self, key: KeyRef) -> Instant {
        let (_, lane) = *self
            .key(key)
            .free
            .first()
            .expect("a key in the list has a free lane");
        self.lane(lane)
            .line
            .front()
            .expect("a free lane in the list holds something")
            .arrived
    }

    /// When the oldest element in any lane arrived.
    pub fn oldest(&self) -> Option<Instant> {
        let fronts = self
            .lanes
            .iter()
            .flatten()
            .filter_map(|lane| lane.line.front());
        fronts.map(|front| front.arrived).min()
    }

    /// Frees the lanes of a batch that has its verdict.
    pub fn unlock(&mut self, lanes: &[LaneRef]) {
        for lane in lanes {
            let held = self.lane_mut(*lane);
            debug_assert!(
                held.locks > 0,
                "a batch's lanes are locked until its verdict"
            );
            held.locks -= 1;
        }
        for lane in lanes {
            self.restand(*lane);
            self.close_if_unused(*lane);
        }
    }

    /// Locks a lane for a batch in flight whose series have moved here.
    pub fn lock(&mut self, lane: LaneRef) {
        self.lane_mut(lane).locks += 1;
        self.restand(lane);
    }

    /// Takes the elements of one record out of the lanes, and says which.
    pub fn withdraw(
        &mut self,
        record: u32,
        seq_of: impl Fn(u32) -> (Seq, Instant),
        table: &mut SeriesTable,
        nodes: &mut Nodes,
    ) -> Vec<u32> {
        let mut ordinals = Vec::new();
        for lane in 0..self.lanes.len() {
            let Some(held) = &mut self.lanes[lane] else {
                continue;
            };
            let before = ordinals.len();
            held.line.retain_mut(|waiting| {
                let some = unlink(record, waiting.series, &mut ordinals, table, nodes);
                let series = table.get(waiting.series);
                if some && series.queued > 0 {
                    (waiting.seq, waiting.arrived) = seq_of(nodes.get(series.head).record);
                }
                series.queued > 0
            });
            let gone = (ordinals.len() - before) as u32;
            if gone > 0 {
                held.line
                    .make_contiguous()
                    .sort_by_key(|waiting| waiting.seq);
                held.queued -= gone;
                self.queued -= u64::from(gone);
                self.restand(lane as LaneRef);
                self.close_if_unused(lane as LaneRef);
            }
        }
        ordinals
    }
}

/// Unlinks a record's elements from a series and frees them. Says whether there were any.
fn unlink(
    record: u32,
    series: SeriesRef,
    ordinals: &mut Vec<u32>,
    table: &mut SeriesTable,
    nodes: &mut Nodes,
) -> bool {
    let entry = table.get_mut(series);
    let (mut node, mut left, mut kept) = (entry.head, entry.queued, Vec::new());
    while left > 0 {
        left -= 1;
        let Node {
            next, record: from, ..
        } = *nodes.get(node);
        if from == record {
            ordinals.push(nodes.get(node).ordinal());
            nodes.remove(node);
        } else {
            kept.push(node);
        }
        node = next;
    }
    kept.windows(2)
        .for_each(|pair| nodes.link(pair[0], pair[1]));
    entry.head = kept.first().copied().unwrap_or(NONE);
    entry.tail = kept.last().copied().unwrap_or(NONE);
    let some = entry.queued > kept.len() as u32;
    entry.queued = kept.len() as u32;
    some
}
