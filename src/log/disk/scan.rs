//! A segment without a footer, from header to header.

use std::io;
use std::time::Duration;

use super::fs::File;
use super::record::{self, Head, MAGIC, PREFIX};
use super::segment::{Entry, HEADER_LEN, Header, RECORDS_MAX};

/// Bytes read at once.
const WINDOW: usize = 64 << 10;
/// What is read by itself where a window cannot be read whole.
const PIECE: usize = 4 << 10;

/// What a scan found.
pub(super) struct Scan {
    pub(super) entries: Vec<Entry>,
    /// Where the last record ends.
    pub(super) end: u64,
    /// Something else than zeros stands behind it.
    pub(super) torn: bool,
}

/// Looks for all records of a segment.
pub(super) fn scan(file: &dyn File, size: u64, header: &Header) -> Scan {
    let seed = record::seed(header.salt);
    let mut bytes = Window::new(file, size);
    let mut entries: Vec<Entry> = Vec::new();
    let (mut at, mut expected, mut totals) = (HEADER_LEN, header.first.0, header.before);
    let last = header.first.0 + u64::from(RECORDS_MAX);
    while let Some((start, head, length)) = bytes.next_record(at, seed, |head| {
        (expected..last).contains(&head.seq) && is_after(head, totals)
    }) {
        let entry = Entry {
            seq: head.seq,
            at: start,
            head: length,
            body: head.body_len,
            arrival_ms: head.arrival_ms,
            counts: record::small(head.counts),
            admitted: record::small(head.admitted),
            totals: head.totals,
        };
        if entry.end() > size {
            // The file ends within it; a header behind it there can't be.
            break;
        }
        (at, expected, totals) = (entry.end(), head.seq + 1, head.totals);
        entries.push(entry);
    }
    Scan {
        torn: !bytes.is_zero_from(at),
        entries,
        end: at,
    }
}

/// Its totals go on from those of the record before.
fn is_after(head: &Head, totals: crate::model::counts::Counts) -> bool {
    let covers = |all: u64, own: u64, before: u64| all >= own && all - own >= before;
    let (all, own) = (head.totals, head.admitted);
    covers(all.samples, own.samples, totals.samples)
        && covers(all.histograms, own.histograms, totals.histograms)
        && covers(all.exemplars, own.exemplars, totals.exemplars)
}

/// How often a read that fails is tried again: at first at once, then after a pause. A disk that cannot read
/// for a moment has lost nothing.
const READ_TRIES: (u32, u32, Duration) = (8, 40, Duration::from_millis(25));

/// Reads a file's bytes; an error is tried again for about a second.
pub(super) fn read(file: &dyn File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    let (at_once, most, pause) = READ_TRIES;
    let mut tried = 0;
    loop {
        let error = match file.read_at(bytes, at) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        tried += 1;
        if error.kind() == io::ErrorKind::UnexpectedEof || tried >= most {
            return Err(error);
        }
        if tried == at_once {
            tracing::warn!(%error, "the log cannot be read; trying again");
        }
        if tried >= at_once {
            std::thread::sleep(pause);
        }
    }
}

/// A part of a file in memory, which moves along. What cannot be read is zeros.
pub(super) struct Window<'a> {
    file: &'a dyn File,
    size: u64,
    at: u64,
    bytes: Vec<u8>,
    /// Something could not be read.
    failed: bool,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn File, size: u64) -> Self {
        Self {
            file,
            size,
            at: 0,
            bytes: Vec::new(),
            failed: false,
        }
    }

    /// Up to `length` bytes from `at` on: fewer where the file ends.
    pub(super) fn get(&mut self, at: u64, length: usize) -> &[u8] {
        let length = (self.size.saturating_sub(at)).min(length as u64) as usize;
        let held = self.at..self.at + self.bytes.len() as u64;
        if !(held.contains(&at) && at + length as u64 <= held.end) {
            let want = (self.size.saturating_sub(at)).min(length.max(WINDOW) as u64);
            self.bytes.resize(want as usize, 0);
            self.at = at;
            self.failed |= want > 0 && !fill(self.file, &mut self.bytes, at);
        }
        let start = (at - self.at) as usize;
        &self.bytes[start..start + length]
    }

    /// The record that begins at `at`, or else the next one behind, that is a record and `fits`.
    fn next_record(
        &mut self,
        at: u64,
        seed: u32,
        fits: impl Fn(&Head) -> bool,
    ) -> Option<(u64, Head, u32)> {
        let mut at = at;
        loop {
            if let Some((head, length)) = self.record_at(at, seed)
                && fits(&head)
            {
                return Some((at, head, length));
            }
            at = self.find_magic(at + 1)?;
        }
    }

    fn record_at(&mut self, at: u64, seed: u32) -> Option<(Head, u32)> {
        let prefix: [u8; PREFIX] = self.get(at, PREFIX).try_into().ok()?;
        let length = record::header_len(&prefix, seed)?;
        if at + (PREFIX + length) as u64 > self.size {
            return None;
        }
        let header = self.get(at + PREFIX as u64, length);
        let (head, ..) = record::decode(&prefix, header, seed)?;
        Some((head, (PREFIX + length) as u32))
    }

    /// Where the next bytes stand that may begin a record.
    fn find_magic(&mut self, from: u64) -> Option<u64> {
        let mut from = from;
        while from + PREFIX as u64 <= self.size {
            let held = self.get(from, PREFIX).len();
            let window = &self.bytes[(from - self.at) as usize..];
            if let Some(found) = window.windows(MAGIC.len()).position(|at| at == MAGIC) {
                return Some(from + found as u64);
            }
            // The next window begins before the end of this one: a magic may stand across.
            from += (window.len().max(held) - (MAGIC.len() - 1)) as u64;
        }
        None
    }

    /// Nothing but zeros from here to the end, all of which could be read.
    pub(super) fn is_zero_from(&mut self, from: u64) -> bool {
        let mut from = from;
        while from < self.size {
            let bytes = self.get(from, WINDOW);
            if bytes.iter().any(|byte| *byte != 0) {
                return false;
            }
            from += bytes.len() as u64;
        }
        !self.failed
    }
}

/// Reads what can be read; `false` if that is not all.
fn fill(file: &dyn File, bytes: &mut [u8], at: u64) -> bool {
    if read(file, bytes, at).is_ok() {
        return true;
    }
    for (index, piece) in bytes.chunks_mut(PIECE).enumerate() {
        if read(file, piece, at + (index * PIECE) as u64).is_err() {
            piece.fill(0);
        }
    }
    false
}
