//! What a batch takes from its key's lanes, and in which order.
//!
//! A cut begins at the lane with the oldest element and takes series by series, each with all it has,
//! oldest first. What room is left is filled from few further lanes: those that fit whole, the fullest
//! first, so that a request touches few lanes and leaves the others to further permits.

use std::sync::Arc;

use tokio::time::Instant;

use super::grouping::Grouping;
use super::lanes::{KeyRef, LaneRef, Lanes};
use super::mutants::{self, Mutant};
use super::nodes::{Element, NONE, Nodes};
use super::table::{Series, SeriesRef, SeriesTable};
use crate::log::Seq;
use crate::model::content::{Content, Entry};
use crate::model::counts::Kind;
use crate::model::labels::Labels;

/// A cut: what a batch is made of.
pub struct Cut {
    /// Separation key.
    pub key: KeyRef,
    /// Lanes that are now locked.
    pub lanes: Vec<LaneRef>,
    /// Series, and how many elements of each.
    pub series: Vec<(SeriesRef, u32)>,
    /// The content, in the order for the encoder.
    pub content: Content,
    /// Slot and ordinal of each element, in the order of `series`.
    pub origins: Vec<(u32, u32)>,
    /// When the oldest element arrived.
    pub arrived: Instant,
}

impl Lanes {
    /// Cuts a batch from the free lanes of a key that has any, and locks the lanes it takes from.
    pub fn cut(&mut self, key: KeyRef, table: &mut SeriesTable, nodes: &mut Nodes) -> Cut {
        let mut pick = Pick {
            room: self.limits.batch,
            bytes: self.limits.batch_bytes,
            series: Vec::new(),
            lanes: Vec::new(),
            arrived: self.oldest_arrival(key),
        };
        let (_, first) = *self
            .key(key)
            .free
            .first()
            .expect("a due key has a free lane");
        self.pick_from(first, &mut pick, table, nodes);
        if pick.room > 0 {
            self.fill(key, &mut pick, table, nodes);
        }
        if mutants::present(Mutant::SkipLock) {
            pick.lanes.remove(0);
        }
        for lane in &pick.lanes {
            self.lane_mut(*lane).locks += 1;
        }
        for lane in &pick.lanes {
            self.restand(*lane);
        }
        self.order(&mut pick.series, table, nodes);
        let mut cut = Cut {
            key,
            lanes: pick.lanes,
            content: Content::default(),
            origins: Vec::with_capacity(self.limits.batch as usize),
            arrived: pick.arrived,
            series: pick
                .series
                .iter()
                .map(|picked| (picked.series, picked.count))
                .collect(),
        };
        for (series, count) in &cut.series {
            let writer = Writer {
                content: &mut cut.content,
                origins: &mut cut.origins,
            };
            writer.take(*series, *count, table, nodes);
            self.queued -= u64::from(*count);
        }
        cut
    }

    /// Fills a batch from further lanes: whole ones that fit, the fullest first; and if it is still not
    /// half full, a part of the smallest that does not.
    fn fill(&mut self, key: KeyRef, pick: &mut Pick, table: &SeriesTable, nodes: &Nodes) {
        let free = self
            .key(key)
            .free
            .iter()
            .map(|(_, lane)| (self.lane(*lane).queued, *lane));
        let mut others: Vec<_> = free
            .filter(|(_, lane)| !pick.lanes.contains(lane))
            .collect();
        others.sort_unstable_by(|a, b| b.cmp(a));
        let mut too_large = None;
        for (queued, lane) in others {
            if queued > pick.room {
                too_large = Some(lane);
                continue;
            }
            if !self.pick_from(lane, pick, table, nodes) {
                return;
            }
        }
        if let Some(lane) = too_large.filter(|_| pick.room > self.limits.batch / 2) {
            self.pick_from(lane, pick, table, nodes);
        }
    }

    /// Picks series from the front of a lane while they fit. Says whether more may follow.
    fn pick_from(
        &mut self,
        lane: LaneRef,
        pick: &mut Pick,
        table: &SeriesTable,
        nodes: &Nodes,
    ) -> bool {
        let held = self.lanes[lane as usize]
            .as_mut()
            .expect("a free lane is there");
        let mut taken = 0;
        let mut open = true;
        // What may not go in this batch keeps its turn.
        let mut apart = Vec::new();
        while let Some(front) = held.line.front().copied() {
            let series = table.get(front.series);
            let together = together(series, pick.room, nodes);
            let (count, bytes) = pick.fitting(series.head, together, nodes, &series.labels);
            if count == 0 {
                open = false;
                break;
            }
            pick.take(
                Picked {
                    series: front.series,
                    count,
                    seq: front.seq,
                },
                bytes,
            );
            taken += count;
            held.line.pop_front();
            if count < together {
                // Only a series that is larger than a whole batch is split; the rest keeps its turn.
                held.line.push_front(front);
                open = false;
                break;
            }
            if count < series.queued {
                apart.push(front);
            }
        }
        while let Some(front) = apart.pop() {
            held.line.push_front(front);
        }
        if taken > 0 {
            held.queued -= taken;
            pick.lanes.push(lane);
        }
        open && pick.room > 0
    }

    /// Puts series in the order for the encoder.
    fn order(&self, series: &mut [Picked], table: &SeriesTable, nodes: &Nodes) {
        match self.grouping {
            Grouping::Target => series.sort_unstable_by(|a, b| {
                let (a, b) = (table.get(a.series), table.get(b.series));
                let numbers = || numbers(a).cmp(numbers(b));
                a.sort.cmp(&b.sort).then_with(numbers)
            }),
            Grouping::Arrival => series.sort_by_key(|picked| {
                (
                    picked.seq,
                    nodes.get(table.get(picked.series).head).ordinal(),
                )
            }),
        }
    }
}

/// Its labels from the last to the first, each by its number. Compared many times in a cut: nothing is collected.
fn numbers(series: &Series) -> impl Iterator<Item = u32> {
    let pairs = series.labels.pairs().iter().rev();
    pairs.map(|pair| pair.number())
}

/// How many of a series' elements may go in one batch: no histogram behind a staleness marker.
///
/// The marker of a series of histograms is a float sample, as Prometheus sends it. Prometheus as receiver makes
/// a histogram of it when it commits a request, behind all histograms that the request has of the series
/// (`commitFloats` of `tsdb/head_append.go`, 3.14), finds it out of order there, and loses it without a word.
fn together(series: &Series, room: u32, nodes: &Nodes) -> u32 {
    let (mut at, mut is_stale) = (series.head, false);
    for count in 0..series.queued.min(room) {
        let node = nodes.get(at);
        match node.kind() {
            Kind::Histogram if is_stale => return count,
            Kind::Exemplar => {}
            Kind::Sample | Kind::Histogram => is_stale = nodes.is_stale(node),
        }
        at = node.next;
    }
    series.queued
}

/// A series that a cut takes from.
#[derive(Clone, Copy)]
struct Picked {
    series: SeriesRef,
    count: u32,
    /// Record of its oldest element.
    seq: Seq,
}

/// What a cut has picked so far.
struct Pick {
    room: u32,
    bytes: usize,
    series: Vec<Picked>,
    lanes: Vec<LaneRef>,
    arrived: Instant,
}

impl Pick {
    /// How many of a series' elements fit, all or none but for the first series of a batch; and the bytes.
    fn fitting(&self, head: u32, queued: u32, nodes: &Nodes, labels: &Labels) -> (u32, usize) {
        let mut bytes = labels.encoded_len() + 8;
        let (mut node, mut count) = (head, 0);
        while count < queued.min(self.room) {
            let more = nodes.wire_bytes(nodes.get(node));
            if bytes + more > self.bytes && (count > 0 || !self.series.is_empty()) {
                break;
            }
            bytes += more;
            count += 1;
            node = nodes.get(node).next;
        }
        if count < queued && !self.series.is_empty() {
            (0, 0)
        } else {
            (count, bytes)
        }
    }

    fn take(&mut self, picked: Picked, bytes: usize) {
        self.room -= picked.count;
        self.series.push(picked);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Moves elements from their series into a batch's content.
struct Writer<'c> {
    content: &'c mut Content,
    origins: &'c mut Vec<(u32, u32)>,
}

impl Writer<'_> {
    fn take(self, series: SeriesRef, count: u32, table: &mut SeriesTable, nodes: &mut Nodes) {
        let entry = table.get_mut(series);
        let mut open: Option<Entry> = None;
        for _ in 0..count {
            let at = entry.head;
            let node = *nodes.get(at);
            self.origins.push((node.record, node.ordinal()));
            entry.head = node.next;
            let element = nodes.remove(at);
            if mutants::present(Mutant::Leak) && node.ordinal() == 2 {
                self.origins.pop();
                continue;
            }
            if mutants::present(Mutant::RareLeak) && mutants::rarely() {
                continue;
            }
            append(element, &entry.labels, &mut open, self.content);
        }
        self.content.entries.extend(open);
        entry.queued -= count;
        entry.in_flight += count;
        if entry.queued == 0 {
            (entry.head, entry.tail) = (NONE, NONE);
        }
    }
}

/// Puts the next element of a series where it belongs: into the entry that is open, or into a new one.
pub(super) fn append(
    element: Element,
    labels: &Arc<Labels>,
    open: &mut Option<Entry>,
    content: &mut Content,
) {
    if open
        .as_ref()
        .is_none_or(|open| !joins(open, &element, content))
    {
        content.entries.extend(open.take());
    }
    let entry = open.get_or_insert_with(|| empty_entry(content, labels));
    put(element, entry, content);
}

pub(super) fn empty_entry(content: &Content, labels: &Arc<Labels>) -> Entry {
    let at = |len: usize| len as u32..len as u32;
    Entry {
        labels: Arc::clone(labels),
        samples: at(content.samples.len()),
        histograms: at(content.histograms.len()),
        exemplars: at(content.exemplars.len()),
    }
}

/// Puts an element behind the others of an entry, which is the last that the content has anything of.
pub(super) fn put(element: Element, entry: &mut Entry, content: &mut Content) {
    match element {
        Element::Sample(sample) => {
            content.samples.push(sample);
            entry.samples.end += 1;
        }
        Element::Histogram(histogram) => {
            content.histograms.push(histogram);
            entry.histograms.end += 1;
        }
        Element::Exemplar(exemplar) => {
            content.exemplars.push(exemplar);
            entry.exemplars.end += 1;
        }
    }
}

/// Samples of a series become one entry while their timestamps rise and no histogram stands between;
/// exemplars go with whatever entry is there.
fn joins(open: &Entry, element: &Element, content: &Content) -> bool {
    match element {
        Element::Exemplar(_) => true,
        Element::Sample(sample) => {
            let last = content.samples_of(open).last();
            open.histograms.is_empty() && last.is_none_or(|last| last.timestamp < sample.timestamp)
        }
        Element::Histogram(histogram) => {
            let last = content.histograms_of(open).last();
            open.samples.is_empty() && last.is_none_or(|last| last.timestamp < histogram.timestamp)
        }
    }
}
