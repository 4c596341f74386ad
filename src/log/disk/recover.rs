//! What a folder holds when it is opened.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;

use super::fs::{File, Fs};
use super::mutants::{self, Mutant};
use super::scan::{Window, read, scan};
use super::segment::{
    self, Entry, HEADER_LEN, Header, RECORDS_MAX, TRAILER_LEN, Trailer, first_in_name,
};
use super::store::{Form, Known, Segment, StoreOptions};
use super::{Damage, Floor, OnFull, Opened, StorageError};
use crate::log::{Gone, Seq};
use crate::model::counts::{Counts, Kind};
use crate::model::runs::RunSet;

/// What the file `format` says.
pub(super) const FORMAT: &str = "sluicegate storage 1\n";
pub(super) const FORMAT_NAME: &str = "format";

/// What was found.
pub(super) struct Recovered {
    pub(super) known: Known,
    pub(super) opened: Opened,
}

/// One file that has the name of a segment.
pub(super) enum Found {
    Segment(Box<Whole>),
    /// It holds nothing, and never did.
    Nothing,
    /// It makes no sense.
    Unreadable,
    /// The system did not let it be read.
    Failed(io::Error),
}

/// A segment as it was found.
pub(super) struct Whole {
    pub(super) segment: Segment,
    /// Known if it had to be scanned.
    pub(super) entries: Option<Vec<Entry>>,
    /// Bytes behind its last record that are neither zeros nor a footer.
    pub(super) torn: u64,
    pub(super) damaged_footer: bool,
}

pub(super) fn recover(
    fs: &dyn Fs,
    options: &StoreOptions,
    floor: Floor,
) -> Result<Recovered, StorageError> {
    check_format(fs)?;
    let names = fs.list().map_err(|error| io_error("listing it", error))?;
    let mut damage = Damage::default();
    let mut next = floor.next.max(Seq(1));
    let mut wholes: BTreeMap<u64, Box<Whole>> = BTreeMap::new();
    for name in names {
        let Some(in_name) = first_in_name(&name) else {
            continue;
        };
        // No name is used again.
        next = next.max(in_name.next());
        match look(fs, &name, options.required.len()) {
            Found::Nothing => drop(fs.remove(&name)),
            // It may be whole: nothing is done to a folder that cannot be read.
            Found::Failed(error) => return Err(io_error("reading a segment", error)),
            Found::Unreadable => {
                damage.segment += 1;
                next = next.max(beyond(in_name));
            }
            Found::Segment(whole) => {
                let first = whole.segment.header.first;
                let twin = wholes.get(&first.0);
                if twin.is_some_and(|_| first != in_name) {
                    damage.segment += 1;
                    continue;
                }
                // Of two that say the same, the one whose name says it too.
                if wholes.insert(first.0, whole).is_some() {
                    damage.segment += 1;
                }
            }
        }
    }
    void(fs, &mut wholes);
    let synced = fs.sync_dir().is_ok();
    for whole in wholes.values_mut() {
        whole.segment.durable &= synced;
    }
    let torn_tail_bytes = wholes.values().map(|whole| whole.torn).sum();
    for whole in wholes.values_mut() {
        damage.torn_tail += u64::from(whole.torn > 0);
        damage.footer += u64::from(whole.damaged_footer);
        damage.header += miss_gaps(whole);
    }
    if let Some((_, last)) = wholes.last_key_value() {
        next = next.max(last.segment.end);
        if (last.torn > 0 || last.damaged_footer) && !mutants::present(Mutant::ReuseSequence) {
            next = next.max(beyond(last.segment.end));
        }
    }
    let totals = wholes.values().map(|whole| whole.segment.totals);
    let totals = totals.fold(floor.totals, larger);
    let segments: BTreeMap<_, _> = wholes
        .into_iter()
        .map(|(first, whole)| (first, whole.segment))
        .collect();
    let held = || segments.values().filter(|segment| segment.span() > 0);
    let end = held().next_back().map_or(Seq(1), |last| last.end);
    let opened = Opened {
        first: held().map(|held| held.header.first).next().unwrap_or(next),
        end,
        next,
        totals,
        records: segments.values().map(Segment::records).sum(),
        bytes: segments.values().map(|segment| segment.bytes).sum(),
        torn_tail_bytes,
        damage,
    };
    let known = Known {
        next,
        free_names: next,
        totals,
        bytes: opened.bytes,
        reserved: 0,
        wanted: 0,
        starved: 0,
        tenants: HashMap::new(),
        gone: gone_before(&segments, options),
        segments,
        active: Vec::new(),
        latest: options.opened.0,
        doomed: Vec::new(),
        untidy: true,
    };
    Ok(Recovered { known, opened })
}

/// What was not there any more at start went for room, where that may happen; nobody wrote it down.
fn gone_before(
    segments: &BTreeMap<u64, Segment>,
    options: &StoreOptions,
) -> VecDeque<(Seq, Seq, Gone)> {
    let optional = options.required.iter().any(|required| !required);
    if options.on_full != OnFull::DropOldest && !optional {
        return VecDeque::new();
    }
    let mut end = Seq::default();
    let gaps = segments.values().filter_map(|segment| {
        let from = std::mem::replace(&mut end, segment.end);
        (from < segment.header.first).then_some((from, segment.header.first, Gone::ForRoom))
    });
    gaps.collect()
}

/// Where sequences go on when it is not known which were given from here on.
fn beyond(seq: Seq) -> Seq {
    Seq(seq.0.saturating_add(u64::from(RECORDS_MAX)))
}

fn larger(mut all: Counts, other: Counts) -> Counts {
    for kind in Kind::ALL {
        *all.slot(kind) = all.get(kind).max(other.get(kind));
    }
    all
}

fn io_error(what: &'static str, error: io::Error) -> StorageError {
    StorageError::Io { what, error }
}

/// Writes the format into a new folder; refuses a folder of another one.
pub(super) fn check_format(fs: &dyn Fs) -> Result<(), StorageError> {
    let names = fs.list().map_err(|error| io_error("listing it", error))?;
    if names.iter().any(|name| name == FORMAT_NAME) {
        let found = read_format(fs).map_err(|error| io_error("reading its format", error))?;
        if found == FORMAT.as_bytes() {
            return Ok(());
        }
        // The first start was cut short.
        let cut_short = FORMAT.as_bytes().starts_with(&found) || found.iter().all(|b| *b == 0);
        if !cut_short {
            let text = String::from_utf8_lossy(&found).trim_end().to_owned();
            return Err(StorageError::UnknownFormat(text));
        }
        fs.remove(FORMAT_NAME)
            .map_err(|error| io_error("removing a format that was cut short", error))?;
    }
    write_format(fs).map_err(|error| io_error("writing its format", error))
}

pub(super) fn read_format(fs: &dyn Fs) -> io::Result<Vec<u8>> {
    let file = fs.open(FORMAT_NAME)?;
    let mut found = vec![0; file.size()?.min(64) as usize];
    read(&*file, &mut found, 0)?;
    Ok(found)
}

fn write_format(fs: &dyn Fs) -> io::Result<()> {
    let file = fs.create(FORMAT_NAME)?;
    file.write_at(FORMAT.as_bytes(), 0)?;
    file.sync()?;
    fs.sync_dir()
}

/// What is in a file that has the name of a segment.
pub(super) fn look(fs: &dyn Fs, name: &str, queues: usize) -> Found {
    let opened = fs.open(name).or_else(|_| fs.open(name));
    let (file, size) = match opened.and_then(|file| file.size().map(|size| (file, size))) {
        Ok(found) => found,
        Err(error) => return Found::Failed(error),
    };
    let mut bytes = Window::new(&*file, size);
    let mut start = vec![0; size.min(HEADER_LEN) as usize];
    if let Err(error) = read(&*file, &mut start, 0) {
        return Found::Failed(error);
    }
    let Some(header) = Header::decode(&start) else {
        return if bytes.is_zero_from(0) {
            Found::Nothing
        } else {
            Found::Unreadable
        };
    };
    let mut segment = Segment {
        name: name.to_owned(),
        header,
        end: header.first,
        totals: header.before,
        arrivals_ms: (header.created_ms, header.created_ms),
        bytes: size,
        form: Form::Scanned,
        released: vec![RunSet::default(); queues],
        missing: RunSet::default(),
        tenants: HashMap::new(),
        impure: false,
        durable: true,
    };
    if let Some(trailer) = trailer(&*file, size, &header) {
        segment.end = Seq(header.first.0 + u64::from(trailer.records));
        segment.totals = trailer.totals;
        segment.arrivals_ms = (trailer.first_arrival_ms, trailer.last_arrival_ms);
        segment.form = Form::Sealed(trailer);
        return Found::Segment(Box::new(Whole {
            segment,
            entries: None,
            torn: 0,
            damaged_footer: false,
        }));
    }
    // What a process that was killed left in memory only: readers are about to see it.
    segment.durable = file.sync().is_ok();
    let scanned = scan(&*file, size, &header);
    segment.end_with(&scanned.entries);
    let sealed =
        scanned.torn && segment::has_footer(bytes.get(size.saturating_sub(TRAILER_LEN), 8));
    let torn = if scanned.torn && !sealed {
        size.saturating_sub(scanned.end)
    } else {
        0
    };
    Found::Segment(Box::new(Whole {
        segment,
        entries: Some(scanned.entries),
        torn,
        damaged_footer: sealed,
    }))
}

fn trailer(file: &dyn File, size: u64, header: &Header) -> Option<Trailer> {
    let at = size.checked_sub(TRAILER_LEN)?;
    let mut bytes = vec![0; TRAILER_LEN as usize];
    read(file, &mut bytes, at).ok()?;
    let trailer = Trailer::decode(&bytes, header)?;
    let holds = trailer.records <= RECORDS_MAX && (HEADER_LEN..=at).contains(&trailer.entries_at);
    holds.then_some(trailer)
}

/// Takes from each segment what a later one has made void.
pub(super) fn void(fs: &dyn Fs, wholes: &mut BTreeMap<u64, Box<Whole>>) {
    let mut void_from = Seq(u64::MAX);
    for whole in wholes.values_mut().rev() {
        let segment = &mut whole.segment;
        if segment.end > void_from {
            if whole.entries.is_none() {
                whole.entries = sealed_entries(fs, segment);
            }
            let entries = whole.entries.get_or_insert_default();
            entries.retain(|entry| entry.seq < void_from.0);
            segment.end_with(entries);
            segment.impure = true;
        }
        void_from = void_from.min(segment.header.void_from);
    }
}

fn sealed_entries(fs: &dyn Fs, segment: &Segment) -> Option<Vec<Entry>> {
    let Form::Sealed(trailer) = &segment.form else {
        return None;
    };
    let file = fs.open(&segment.name).ok()?;
    super::read::load_footer(&*file, segment.bytes, &segment.header, trailer)
}

/// Records that are missing between those that were found are given back by all. Says how many.
pub(super) fn miss_gaps(whole: &mut Whole) -> u64 {
    let Some(entries) = &whole.entries else {
        return 0;
    };
    whole.segment.miss_gaps(entries)
}

impl Segment {
    /// Ends with these records.
    fn end_with(&mut self, entries: &[Entry]) {
        let (first, last) = (entries.first(), entries.last());
        self.end = last.map_or(self.header.first, |last| Seq(last.seq + 1));
        self.totals = last.map_or(self.header.before, |last| last.totals);
        let created = self.header.created_ms;
        let arrival = |entry: Option<&Entry>| entry.map_or(created, |entry| entry.arrival_ms);
        self.arrivals_ms = (arrival(first), arrival(last));
    }

    /// Sequences of the segment that are not among these, which are all that there are of it. Says how many
    /// of them were not known to be missing.
    pub(super) fn miss_gaps(&mut self, entries: &[Entry]) -> u64 {
        let (mut expected, mut missing) = (self.header.first.0, 0);
        for entry in entries {
            if entry.seq > expected {
                missing += self.miss(expected, entry.seq);
            }
            expected = entry.seq + 1;
        }
        missing
    }
}
