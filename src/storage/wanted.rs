//! What a queue has not settled, held against the records that are there. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Folder;
use super::journals::QueueJournal;
use crate::log::Seq;
use crate::log::disk::look::{Index, Place, SeenSegment};
use crate::model::counts::{Counts, Kind};
use crate::queue::journal::recover::Recovered;

/// Records that are not there, between others or behind the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    /// The first.
    pub(super) from: Seq,
    /// One past the last.
    pub(super) to: Seq,
    /// The log's totals before it.
    pub(super) before: Counts,
    /// The log's totals behind it.
    pub(super) after: Counts,
}

impl Hole {
    /// Elements that were in it.
    pub(super) fn counts(&self) -> Counts {
        less(self.after, self.before)
    }
}

/// What is left of `a` without `b`, by kind; nothing below zero.
pub(super) fn less(a: Counts, b: Counts) -> Counts {
    let mut left = Counts::default();
    for kind in Kind::ALL {
        *left.slot(kind) = a.get(kind).saturating_sub(b.get(kind));
    }
    left
}

fn larger(a: Counts, b: Counts) -> Counts {
    a + less(b, a)
}

/// What a queue has not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Pending {
    /// Records with anything unsettled that are there.
    pub(super) records: u64,
    /// Unsettled elements in them.
    #[serde(serialize_with = "super::show::counts")]
    pub(super) counts: Counts,
}

impl QueueJournal {
    /// Elements of this record that the queue has not settled. Without a journal: all.
    pub(super) fn unsettled(&self, place: &Place) -> Counts {
        let Some(known) = &self.known else {
            return place.admitted;
        };
        if place.seq < known.entered {
            let listed = known.records.get(&place.seq);
            return listed.map_or_else(Counts::default, |listed| listed.unsettled);
        }
        let settled = known.presettled.get(&place.seq);
        settled.map_or(place.admitted, |settled| {
            less(place.admitted, settled.counts)
        })
    }

    /// Elements of records in this hole that the queue had not settled. Without a journal nobody knows what
    /// of them it had: none then.
    pub(super) fn wanted_of(&self, hole: &Hole) -> Counts {
        let Some(known) = &self.known else {
            return Counts::default();
        };
        let listed = known.records.range(hole.from..hole.to);
        let mut wanted: Counts = listed.map(|(_, listed)| listed.unsettled).sum();
        if hole.to > known.entered {
            let before = if known.entered > hole.from {
                larger(hole.before, known.entered_totals)
            } else {
                hole.before
            };
            let from = hole.from.max(known.entered);
            let settled = known.presettled.range(from..hole.to);
            let settled: Counts = settled.map(|(_, settled)| settled.counts).sum();
            wanted += less(less(hole.after, before), settled);
        }
        wanted
    }

    /// It was at work on a record from here on.
    pub(super) fn mentions(&self, from: Seq) -> bool {
        self.known.as_ref().is_some_and(|known| {
            let mut open = known.open.values().flatten();
            known.presettled.range(from..).next().is_some()
                || known.records.range(from..).next().is_some()
                || open.any(|run| run.seq >= from)
        })
    }

    /// What it has to send of the records that are there.
    pub(super) fn pending(&self, folder: &Folder) -> Pending {
        let mut pending = Pending::default();
        for segment in &folder.segments {
            if !self.wants_any_of(segment) {
                continue;
            }
            if self.wants_all_of(segment) {
                pending.records += segment.records;
                pending.counts += less(segment.totals, segment.before);
                continue;
            }
            let Some(index) = folder.index(segment) else {
                continue;
            };
            for place in &index.places {
                let unsettled = self.unsettled(place);
                pending.records += u64::from(!unsettled.is_zero());
                pending.counts += unsettled;
            }
        }
        pending
    }

    /// Nothing of it is settled, and nothing between its records is missing.
    fn wants_all_of(&self, segment: &SeenSegment) -> bool {
        let untouched = |known: &Recovered| {
            let (from, to) = (segment.first, segment.end);
            known.entered <= from && known.presettled.range(from..to).next().is_none()
        };
        segment.missing == 0 && self.known.as_ref().is_none_or(untouched)
    }

    pub(super) fn wants_any_of(&self, segment: &SeenSegment) -> bool {
        self.known.as_ref().is_none_or(|known| {
            let listed = known.records.range(segment.first..segment.end).next();
            segment.end > known.entered || listed.is_some()
        })
    }
}

/// Records missing between those of a segment.
pub(super) fn holes_in(segment: &SeenSegment, index: &Index) -> Vec<Hole> {
    let (mut holes, mut at, mut totals) = (Vec::new(), segment.first, segment.before);
    for place in &index.places {
        if place.seq > at {
            holes.push(Hole {
                from: at,
                to: place.seq,
                before: totals,
                after: less(place.totals, place.admitted),
            });
        }
        (at, totals) = (place.seq.next(), place.totals);
    }
    holes
}

/// Records that are not there between two segments, before the first and behind the last one. As a rule they
/// were settled by all, and deleted. Nothing is in a gap whose totals are the same on both sides.
pub(super) fn holes_between(folder: &Folder) -> Vec<Hole> {
    let (mut holes, mut at, mut totals) = (Vec::new(), Seq(1), Counts::default());
    for segment in &folder.segments {
        if segment.first > at && segment.before != totals {
            holes.push(Hole {
                from: at,
                to: segment.first,
                before: totals,
                after: segment.before,
            });
        }
        (at, totals) = (segment.end, segment.totals);
    }
    // What came since the segments were read is not missing.
    if !folder.in_use {
        let known = folder.journals.queues.iter();
        let (mut end, mut after) = (at, totals);
        for known in known.filter_map(|queue| queue.known.as_ref()) {
            end = end.max(known.highest());
            after = larger(after, known.entered_totals);
        }
        if end > at {
            holes.push(Hole {
                from: at,
                to: end,
                before: totals,
                after,
            });
        }
    }
    holes
}

/// By queue, what it had not settled; queues that had settled all are left out.
pub(super) fn wanted_by(
    folder: &Folder,
    of: impl Fn(&QueueJournal) -> Counts,
) -> BTreeMap<String, u64> {
    let queues = folder.journals.queues.iter();
    let wanted = queues.map(|queue| (queue.name.clone(), of(queue).total()));
    wanted.filter(|(_, wanted)| *wanted > 0).collect()
}
