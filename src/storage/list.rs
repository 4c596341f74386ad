//! `storage ls`: a line for each segment and for each queue's journal.

use std::fmt;

use serde::Serialize;

use super::Folder;
use super::journals::{JournalFile, QueueJournal, State};
use super::show;
use super::wanted::{Pending, less};
use crate::log::disk::look::SeenSegment;
use crate::model::counts::Counts;
use crate::queue::journal::entry::JournalRun;

/// What a folder holds.
#[derive(Serialize)]
pub(super) struct Listing {
    path: String,
    in_use: bool,
    /// `None`: the folder does not say.
    format: Option<u32>,
    segments: Vec<SegmentLine>,
    journals: Vec<JournalLine>,
    /// Journals that a start has set aside because they made no sense.
    set_aside: Vec<String>,
    totals: Totals,
}

/// What is known of a segment without reading it whole.
#[derive(Serialize)]
pub(super) struct SegmentLine {
    pub(super) file: String,
    /// `active`, `sealed`, `unsealed`, `torn`, `damaged` or `blank`.
    pub(super) state: &'static str,
    #[serde(flatten)]
    pub(super) held: Option<Held>,
    pub(super) bytes: u64,
}

#[derive(Serialize)]
pub(super) struct Held {
    pub(super) first: u64,
    /// The last record; one less than `first` when there is none.
    pub(super) last: u64,
    pub(super) records: u64,
    /// Records missing between them.
    pub(super) missing: u64,
    #[serde(serialize_with = "show::counts")]
    pub(super) counts: Counts,
    pub(super) first_arrival: String,
    pub(super) last_arrival: String,
    pub(super) torn_bytes: u64,
}

#[derive(Serialize)]
struct JournalLine {
    queue: String,
    /// The file that counts; `None`: not one of them is whole.
    file: Option<String>,
    generation: u64,
    /// Of all files of the queue.
    bytes: u64,
    /// The oldest record with anything unsettled.
    cursor: u64,
    /// The first record the queue had not come to when it last wrote all it knew.
    entered: u64,
    pending: Pending,
    open: Open,
    #[serde(serialize_with = "show::counts")]
    delivered: Counts,
    #[serde(serialize_with = "show::counts")]
    unconfirmed: Counts,
    #[serde(serialize_with = "show::counts")]
    dropped: Counts,
    state: &'static str,
}

/// Batches without a verdict.
#[derive(Default, Serialize)]
struct Open {
    batches: u64,
    elements: u64,
}

#[derive(Default, Serialize)]
struct Totals {
    segments: u64,
    records: u64,
    #[serde(serialize_with = "show::counts")]
    counts: Counts,
    bytes: u64,
    journal_bytes: u64,
}

impl SegmentLine {
    pub(super) fn of(folder: &Folder, segment: &SeenSegment) -> Self {
        let state = if folder.is_active(segment) {
            "active"
        } else if segment.missing > 0 || segment.damaged_footer {
            "damaged"
        } else if segment.sealed {
            "sealed"
        } else if segment.torn_bytes > 0 {
            "torn"
        } else {
            "unsealed"
        };
        let counts = match folder.index(segment).filter(|_| segment.missing > 0) {
            Some(index) => index.places.iter().map(|place| place.admitted).sum(),
            None => less(segment.totals, segment.before),
        };
        Self {
            file: segment.name.clone(),
            state,
            held: Some(Held {
                first: segment.first.0,
                last: segment.end.0.saturating_sub(1),
                records: segment.records,
                missing: segment.missing,
                counts,
                first_arrival: show::utc(segment.arrivals_ms.0),
                last_arrival: show::utc(segment.arrivals_ms.1),
                torn_bytes: segment.torn_bytes,
            }),
            bytes: segment.bytes,
        }
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = match &self.held {
            Some(held) if held.records > 0 => vec![
                format!("{}..{}", held.first, held.last),
                held.records.to_string(),
                show::short(held.counts),
                show::bytes(self.bytes),
                held.first_arrival.clone(),
                held.last_arrival.clone(),
            ],
            _ => {
                let none = || "-".to_owned();
                let bytes = show::bytes(self.bytes);
                vec![none(), none(), none(), bytes, none(), none()]
            }
        };
        cells.extend([self.state.to_owned(), show::escaped(&self.file)]);
        cells
    }
}

impl JournalLine {
    fn of(folder: &Folder, queue: &QueueJournal) -> Self {
        let known = queue.known.clone().unwrap_or_default();
        let file = queue.file();
        let runs = known.open.values().flatten();
        let length = |run: &JournalRun| u64::from(run.to - run.from);
        Self {
            queue: queue.name.clone(),
            file: file.map(|file| file.name.clone()),
            generation: file.map_or(0, |file| file.generation),
            bytes: queue.files.iter().map(|file| file.bytes).sum(),
            cursor: known.cursor.0,
            entered: known.entered.0,
            pending: queue.pending(folder),
            open: Open {
                batches: known.open.len() as u64,
                elements: runs.map(length).sum(),
            },
            delivered: known.ledger.delivered,
            unconfirmed: known.ledger.unconfirmed,
            dropped: known.ledger.dropped.iter().copied().sum(),
            state: state_of(folder, queue, file),
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            show::escaped(&self.queue),
            self.cursor.to_string(),
            self.entered.to_string(),
            show::short(self.pending.counts),
            format!("{} ({})", self.open.batches, self.open.elements),
            show::short(self.delivered),
            show::bytes(self.bytes),
            self.state.to_owned(),
            self.file.as_deref().map_or("-".to_owned(), show::escaped),
        ]
    }
}

fn state_of(folder: &Folder, queue: &QueueJournal, file: Option<&JournalFile>) -> &'static str {
    let broken = |file: &JournalFile| matches!(file.state, State::Damaged(_));
    match file.map(|file| &file.state) {
        _ if queue.files.iter().any(broken) => "damaged",
        Some(State::Whole(damage, odd)) if damage.places > 0 || *odd > 0 => "damaged",
        Some(_) if folder.in_use => "active",
        Some(State::Whole(damage, _)) if damage.tail > 0 => "torn",
        Some(_) => "whole",
        None => "unfinished",
    }
}

impl Listing {
    pub(super) fn of(folder: &Folder) -> Self {
        let lines = folder.segments.iter();
        let mut segments: Vec<_> = lines.map(|seen| SegmentLine::of(folder, seen)).collect();
        let journals = folder.journals.queues.iter();
        let journals: Vec<_> = journals
            .map(|queue| JournalLine::of(folder, queue))
            .collect();
        let mut totals = Totals {
            segments: segments.len() as u64,
            journal_bytes: journals.iter().map(|journal| journal.bytes).sum(),
            ..Totals::default()
        };
        for held in segments.iter().filter_map(|line| line.held.as_ref()) {
            totals.records += held.records;
            totals.counts += held.counts;
        }
        let others = folder.no_segments.iter().map(|(name, bytes)| SegmentLine {
            file: name.clone(),
            state: if bytes.is_some() { "damaged" } else { "blank" },
            held: None,
            bytes: bytes.unwrap_or(0),
        });
        segments.extend(others);
        totals.bytes = segments.iter().map(|line| line.bytes).sum();
        Self {
            path: folder.path.display().to_string(),
            in_use: folder.in_use,
            format: folder.has_format.then_some(1),
            segments,
            journals,
            set_aside: folder.journals.set_aside.clone(),
            totals,
        }
    }
}

const SEGMENT_TITLES: [&str; 8] = [
    "SEQUENCES",
    "RECORDS",
    "SAMPLES",
    "BYTES",
    "FIRST ARRIVAL",
    "LAST ARRIVAL",
    "STATE",
    "FILE",
];
const JOURNAL_TITLES: [&str; 9] = [
    "QUEUE",
    "CURSOR",
    "ENTERED",
    "PENDING",
    "OPEN BATCHES",
    "DELIVERED",
    "BYTES",
    "STATE",
    "FILE",
];

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.format {
            Some(format) => format!("format {format}"),
            None => "no format file".to_owned(),
        };
        let used = if self.in_use {
            "in use by a running process"
        } else {
            "not in use"
        };
        writeln!(f, "{}: {format}, {used}\n", self.path)?;
        let rows: Vec<_> = self.segments.iter().map(SegmentLine::cells).collect();
        let table = show::table(&SEGMENT_TITLES, &[1, 2, 3], &rows);
        writeln!(f, "segments\n{table}")?;
        let rows: Vec<_> = self.journals.iter().map(JournalLine::cells).collect();
        let table = show::table(&JOURNAL_TITLES, &[1, 2, 3, 4, 5, 6], &rows);
        writeln!(f, "journals\n{table}")?;
        for name in &self.set_aside {
            writeln!(f, "set aside: {}", show::escaped(name))?;
        }
        let totals = &self.totals;
        write!(
            f,
            "total: {} segments, {} records, {}, {}; journals {}",
            totals.segments,
            totals.records,
            show::words(totals.counts),
            show::bytes(totals.bytes),
            show::bytes(totals.journal_bytes)
        )
    }
}
