//! `storage verify`: every checksum of every segment and journal, and whether all of it adds up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::finding::{Finding, Kind, Report};
use super::journals::{JournalFile, QueueJournal, State};
use super::wanted::{Hole, holes_between, holes_in, less, wanted_by};
use super::{Folder, show};
use crate::log::disk::fs::File;
use crate::log::disk::look::{Index, SeenSegment};
use crate::model::counts::Counts;

/// What a process is writing just now is looked at again after this, and so often.
const AGAIN: (Duration, usize) = (Duration::from_millis(200), 3);

/// Goes through a folder.
pub(super) struct Check<'f, P: FnMut(u64, u64)> {
    folder: &'f Folder,
    found: Vec<Finding>,
    records: u64,
    bytes: u64,
    /// Told bytes done and all bytes, often.
    progress: P,
}

/// Looks at everything.
pub(super) fn verify(folder: &Folder, progress: impl FnMut(u64, u64)) -> Report {
    let mut check = Check {
        folder,
        found: Vec::new(),
        records: 0,
        bytes: 0,
        progress,
    };
    check.files();
    for segment in &folder.segments {
        check.segment(segment);
    }
    check.between();
    for queue in &folder.journals.queues {
        check.journal(queue);
    }
    let journals = folder.journals.queues.iter();
    let is_note = |finding: &Finding| finding.kind == Kind::Note;
    let (notes, damage): (Vec<_>, Vec<_>) = check.found.into_iter().partition(is_note);
    Report {
        path: folder.path.display().to_string(),
        in_use: folder.in_use,
        whole: damage.is_empty(),
        segments: folder.segments.len() as u64,
        records: check.records,
        journals: journals.map(|queue| queue.files.len() as u64).sum(),
        bytes: check.bytes,
        damage,
        notes,
    }
}

impl<P: FnMut(u64, u64)> Check<'_, P> {
    /// Files that are not what they are called.
    fn files(&mut self) {
        let folder = self.folder;
        if !folder.has_format {
            let text = "the file that says the format is missing, or was cut short";
            self.found.push(Finding::new(Kind::Note, text));
        }
        for (name, bytes) in &folder.no_segments {
            let finding = match bytes {
                Some(_) => Finding::new(
                    Kind::Segment,
                    "it cannot be read as a segment: neither copy of its header holds, or another file says to \
                     be the same",
                ),
                None => Finding::new(Kind::Note, "it was never begun, and holds nothing"),
            };
            self.found.push(finding.within(name, 0));
        }
        for name in &folder.journals.set_aside {
            let finding = Finding::new(Kind::Note, "a journal that an earlier start set aside");
            self.found.push(finding.within(name, 0));
        }
    }

    fn segment(&mut self, segment: &SeenSegment) {
        let folder = self.folder;
        let Ok(file) = segment.open(&folder.fs) else {
            // It was there a moment ago.
            if !folder.in_use {
                let finding = Finding::new(Kind::Segment, "it cannot be opened");
                self.found.push(finding.within(&segment.name, 0));
            }
            return;
        };
        let index = segment.index(&*file);
        let mut damage = self.records_of(segment, &*file, &index);
        if folder.is_active(segment) {
            // Records may have been half written when they were read.
            for _ in 0..AGAIN.1 {
                if damage.is_empty() {
                    break;
                }
                std::thread::sleep(AGAIN.0);
                let again = self.records_of(segment, &*file, &index);
                damage.retain(|finding| again.contains(finding));
            }
        } else {
            self.ends_of(segment, &*file, &index);
        }
        self.records += index.places.len() as u64;
        self.bytes += segment.bytes;
        self.found.extend(damage);
        for hole in holes_in(segment, &index) {
            let text = format!(
                "records {}..{} cannot be found between others",
                hole.from.0,
                hole.to.0 - 1
            );
            let finding = self.hole(Kind::Header, &hole, text);
            self.found.push(finding.within(&segment.name, 0));
        }
    }

    /// What stands before and behind the records.
    fn ends_of(&mut self, segment: &SeenSegment, file: &dyn File, index: &Index) {
        let name = &segment.name;
        for (copy, damaged) in segment.damaged_headers(file).into_iter().enumerate() {
            if damaged {
                let text = "a copy of the segment's header is damaged; the other one holds";
                let finding = Finding::new(Kind::SegmentHeader, text);
                self.found.push(finding.within(name, copy as u64 * 128));
            }
        }
        let end = index.places.last();
        let end = end.map_or(256, |last| {
            last.at + u64::from(last.head_bytes) + u64::from(last.body_bytes)
        });
        if index.damaged_footer {
            let text = "the footer is damaged; nothing is lost by that alone";
            self.found
                .push(Finding::new(Kind::Footer, text).within(name, end));
        } else if segment.torn_bytes > 0 {
            let text = format!(
                "a torn end of {} bytes that hold no whole record: as a rule a write that a crash cut off, and \
                 that was never acknowledged",
                segment.torn_bytes
            );
            self.found
                .push(Finding::new(Kind::Note, text).within(name, end));
        }
    }

    /// What is wrong with the records of a segment.
    fn records_of(
        &mut self,
        segment: &SeenSegment,
        file: &dyn File,
        index: &Index,
    ) -> Vec<Finding> {
        let all: u64 = self.folder.segments.iter().map(|each| each.bytes).sum();
        let (mut found, mut at, mut totals) = (Vec::new(), segment.first, segment.before);
        for place in &index.places {
            let record = segment.read(file, place);
            let wrong = match (&record.told, &record.body) {
                (None, _) => Some((Kind::Header, "the record's header is damaged")),
                (Some(_), None) => Some((Kind::Body, "the record's body is damaged")),
                (Some(told), Some(_)) if !told.agrees => {
                    Some((Kind::Totals, "the record's header and the footer disagree"))
                }
                // Behind records that are missing they cannot be known to go on.
                _ if place.seq == at && place.totals != totals + place.admitted => Some((
                    Kind::Totals,
                    "its totals are not those before it and its own together",
                )),
                _ => None,
            };
            if let Some((kind, text)) = wrong {
                let mut finding = Finding::new(kind, text).within(&segment.name, place.at);
                finding = finding.of_record(self.folder, place);
                if kind == Kind::Totals {
                    // Its bytes are there.
                    (finding.costs, finding.pending) = (Counts::default(), BTreeMap::new());
                }
                found.push(finding);
            }
            (at, totals) = (place.seq.next(), place.totals);
            (self.progress)(self.bytes + place.at, all);
        }
        found
    }

    /// What is missing or does not go on from one segment to the next.
    fn between(&mut self) {
        let folder = self.folder;
        for pair in folder.segments.windows(2) {
            let (one, next) = (&pair[0], &pair[1]);
            let goes_on = next.first != one.end || next.before == one.totals;
            if !goes_on || less(next.before, one.totals) + one.totals != next.before {
                let text = "the totals before it are not those at the end of the segment before";
                let finding = Finding::new(Kind::Totals, text);
                self.found.push(finding.within(&next.name, 0));
            }
        }
        for hole in holes_between(folder) {
            let at_end = hole.from >= folder.end().0;
            let queues = &folder.journals.queues;
            let mentioned = at_end && queues.iter().any(|queue| queue.mentions(hole.from));
            let (from, to) = (hole.from.0, hole.to.0 - 1);
            let text = format!(
                "records {from}..{to} are not in the log, and a queue has not settled all of them: given up for \
                 room or age, kept in memory only, or lost"
            );
            let finding = self.hole(Kind::Missing, &hole, text);
            // What all queues have settled is deleted sooner or later.
            if !finding.pending.is_empty() || mentioned {
                self.found.push(finding);
            } else if at_end {
                let text = format!(
                    "queues have come to record {to}, and the log ends before {from}: what lies between was kept in \
                     memory only, or is lost; it is settled"
                );
                self.found.push(Finding::new(Kind::Note, text));
            }
        }
    }

    fn hole(&self, kind: Kind, hole: &Hole, text: String) -> Finding {
        Finding {
            sequence: Some(hole.from.0),
            costs: hole.counts(),
            pending: wanted_by(self.folder, |queue| queue.wanted_of(hole)),
            ..Finding::new(kind, text)
        }
    }

    fn journal(&mut self, queue: &QueueJournal) {
        let mut newest = true;
        for file in &queue.files {
            self.bytes += file.bytes;
            self.found.extend(self.journal_file(file, newest));
            newest = false;
        }
        if queue.known.is_none() {
            let name = show::escaped(&queue.name);
            let text = format!(
                "no whole journal of the queue {name}: it would send all that is in the log, much of it perhaps \
                 a second time"
            );
            self.found.push(Finding::new(Kind::Journal, text));
        }
    }

    fn journal_file(&self, file: &JournalFile, newest: bool) -> Vec<Finding> {
        let finding = |kind, text: String| Finding::new(kind, text).within(&file.name, 0);
        match &file.state {
            State::Damaged(what) => vec![finding(Kind::Journal, what.clone())],
            State::Unfinished => {
                let text = "it was never finished; an older one counts";
                vec![finding(Kind::Note, text.to_owned())]
            }
            State::Whole(damage, odd) => {
                let mut found = Vec::new();
                if damage.places > 0 || *odd > 0 {
                    let text = format!(
                        "entries are damaged or missing ({} places, {} bytes, {odd} entries that do not fit): \
                         nothing is lost by that, some will be sent again",
                        damage.places, damage.skipped
                    );
                    found.push(finding(Kind::Journal, text));
                }
                if damage.tail > 0 && !(self.folder.in_use && newest) {
                    let text = format!(
                        "a torn end of {} bytes: as a rule a write that a crash cut off; what it said is sent \
                         again",
                        damage.tail
                    );
                    found.push(finding(Kind::Note, text));
                }
                found
            }
        }
    }
}
