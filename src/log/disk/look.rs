//! A folder looked at from outside. Nothing in it is locked, written, renamed or removed, so a process may be
//! at work in it meanwhile; the segments are judged as a start judges them.

use std::collections::BTreeMap;
use std::fs::{OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::OFlags;

use super::examine::{Examined, examine};
use super::fs::{File, Fs, LOCK};
use super::recover::{FORMAT, FORMAT_NAME, Found, Whole, look, miss_gaps, read_format, void};
use super::segment::{Entry, HEADER_LEN, Header, first_in_name};
use super::store::Form;
use super::{StorageError, read, record, scan};
use crate::log::{Seq, Tenant};
use crate::model::counts::Counts;
use crate::model::runs::RunSet;
use crate::wire::compression::Encoding;
use crate::wire::decoded::Protocol;

/// A folder of the operating system, only to be read. Whatever would change it is an error.
pub struct LookFs {
    path: PathBuf,
}

impl LookFs {
    /// # Errors
    /// When there is no such folder, or it cannot be listed.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::read_dir(path)?;
        let path = path.to_owned();
        Ok(Self { path })
    }

    /// A process has it. One that runs does not notice the question; one that starts at this very moment may
    /// try its lock a tenth of a second later once more.
    pub fn is_in_use(&self) -> io::Result<bool> {
        let lock = match read_only().open(self.path.join(LOCK)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            lock => lock?,
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// A link in place of a file is an error.
fn read_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Fs for LookFs {
    fn create(&self, _: &str) -> io::Result<Box<dyn File>> {
        refused()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(Box::new(ReadOnly(read_only().open(self.path.join(name))?)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self) -> io::Result<()> {
        refused()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        refused()
    }
}

/// A file that is only read, and not synced either: that would be somebody else's wait.
struct ReadOnly(std::fs::File);

impl File for ReadOnly {
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        refused()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        File::read_at(&self.0, bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }
}

/// Whether the folder says that it has the format this program knows; `false` when it says nothing yet.
///
/// # Errors
/// When it says another one, or cannot be read.
pub fn has_format(fs: &dyn Fs) -> Result<bool, StorageError> {
    let what = "reading its format";
    let names = fs.list();
    let names = names.map_err(|error| StorageError::Io { what, error })?;
    if !names.iter().any(|name| name == FORMAT_NAME) {
        return Ok(false);
    }
    let found = read_format(fs).map_err(|error| StorageError::Io { what, error })?;
    if found == FORMAT.as_bytes() {
        return Ok(true);
    }
    // The first start was cut short.
    if FORMAT.as_bytes().starts_with(&found) || found.iter().all(|byte| *byte == 0) {
        return Ok(false);
    }
    let text = String::from_utf8_lossy(&found).trim_end().to_owned();
    Err(StorageError::UnknownFormat(text))
}

/// A file that has the name of a segment.
pub enum Seen {
    /// It is one.
    Segment(Box<SeenSegment>),
    /// It holds nothing, and never did: a start removes it.
    Blank {
        /// The file.
        name: String,
    },
    /// Neither copy of its header holds, it cannot be read, or another file says to be the same segment.
    Unreadable {
        /// The file.
        name: String,
        /// Its length, bytes.
        bytes: u64,
    },
}

/// A segment as it lies in a folder. What a later one makes void of it is not part of it.
pub struct SeenSegment {
    /// The file.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// The first record, by its header.
    pub first: Seq,
    /// One past the last.
    pub end: Seq,
    /// Records of older segments are void from here on.
    pub void_from: Seq,
    /// Totals before it, by its header.
    pub before: Counts,
    /// Totals at its end.
    pub totals: Counts,
    /// Arrival of its first and of its last record, milliseconds since the epoch.
    pub arrivals_ms: (i64, i64),
    /// Records that are there, as far as its footer or a scan knows.
    pub records: u64,
    /// Records missing between them.
    pub missing: u64,
    /// A footer that holds ends it.
    pub sealed: bool,
    /// A footer that does not hold ends it.
    pub damaged_footer: bool,
    /// Bytes behind its last record that hold none.
    pub torn_bytes: u64,
    header: Header,
    form: Form,
    entries: Option<Vec<Entry>>,
}

/// Where a record stands, and what is known of it without its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The record.
    pub seq: Seq,
    /// First byte in the file.
    pub at: u64,
    /// Bytes of prefix and header.
    pub head_bytes: u32,
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Wall clock, milliseconds since the epoch.
    pub arrival_ms: i64,
    /// Elements in it, those of skipped series included.
    pub counts: Counts,
    /// Those admitted.
    pub admitted: Counts,
    /// Admitted elements of all records up to and including this one.
    pub totals: Counts,
}

/// Where the records of a segment stand.
pub struct Index {
    /// In order.
    pub places: Vec<Place>,
    /// The footer that should have said so does not hold.
    pub damaged_footer: bool,
}

/// What a record's header says that is known from nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which message the body holds.
    pub protocol: Protocol,
    /// How the body is compressed.
    pub encoding: Encoding,
    /// Separating headers.
    pub tenant: Tenant,
    /// Ordinals of skipped series.
    pub skipped: RunSet,
    /// Checksum of the body.
    pub body_crc: u32,
    /// All else that it says is what the footer says.
    pub agrees: bool,
}

/// A record that was read.
pub struct SeenRecord {
    /// `None`: its header is damaged.
    pub told: Option<Told>,
    /// `None`: its body is damaged, or nobody knows whether it is.
    pub body: Option<Bytes>,
}

/// The segments of a folder, oldest first, and the files that only have the name of one.
///
/// Reads ends of sealed segments, and all of those that are not sealed.
pub fn segments(fs: &dyn Fs) -> io::Result<Vec<Seen>> {
    let mut wholes: BTreeMap<u64, Box<Whole>> = BTreeMap::new();
    let mut others = Vec::new();
    for name in fs.list()? {
        let Some(in_name) = first_in_name(&name) else {
            continue;
        };
        match look(fs, &name, 0) {
            Found::Nothing => others.push(Seen::Blank { name }),
            Found::Unreadable | Found::Failed(_) => others.extend(unreadable(fs, name)),
            Found::Segment(whole) => {
                let first = whole.segment.header.first;
                let taken = wholes.contains_key(&first.0);
                if taken && first != in_name {
                    others.extend(unreadable(fs, name));
                } else if let Some(twin) = wholes.insert(first.0, whole) {
                    others.extend(unreadable(fs, twin.segment.name));
                }
            }
        }
    }
    void(fs, &mut wholes);
    let segments = wholes.into_values().map(|mut whole| {
        let _known = miss_gaps(&mut whole);
        Seen::Segment(Box::new(SeenSegment::from(*whole)))
    });
    Ok(segments.chain(others).collect())
}

/// `None` when it is gone: the process at work here has deleted it.
fn unreadable(fs: &dyn Fs, name: String) -> Option<Seen> {
    match fs.open(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => {
            let bytes = opened.and_then(|file| file.size()).unwrap_or(0);
            Some(Seen::Unreadable { name, bytes })
        }
    }
}

impl From<Whole> for SeenSegment {
    fn from(whole: Whole) -> Self {
        let segment = whole.segment;
        Self {
            bytes: segment.bytes,
            first: segment.header.first,
            end: segment.end,
            void_from: segment.header.void_from,
            before: segment.header.before,
            totals: segment.totals,
            arrivals_ms: segment.arrivals_ms,
            records: segment.records(),
            missing: u64::from(segment.missing.len()),
            sealed: matches!(segment.form, Form::Sealed(_)),
            damaged_footer: whole.damaged_footer,
            torn_bytes: whole.torn,
            header: segment.header,
            form: segment.form,
            entries: whole.entries,
            name: segment.name,
        }
    }
}

impl SeenSegment {
    /// The segment's file.
    pub fn open(&self, fs: &dyn Fs) -> io::Result<Box<dyn File>> {
        fs.open(&self.name)
    }

    /// Which of the two copies of its header do not hold.
    pub fn damaged_headers(&self, file: &dyn File) -> [bool; 2] {
        let mut bytes = vec![0; HEADER_LEN as usize];
        match scan::read(file, &mut bytes, 0) {
            Ok(()) => Header::damaged_copies(&bytes),
            Err(_) => [true; 2],
        }
    }

    /// Where its records stand: by its footer, or else by going through it.
    pub fn index(&self, file: &dyn File) -> Index {
        let places = |entries: &[Entry]| {
            let entries = entries.iter().filter(|entry| entry.seq < self.end.0);
            entries.map(Place::from).collect()
        };
        if let Some(entries) = &self.entries {
            return Index {
                places: places(entries),
                damaged_footer: self.damaged_footer,
            };
        }
        let known = match &self.form {
            Form::Sealed(trailer) => read::load_footer(file, self.bytes, &self.header, trailer),
            Form::Active | Form::Scanned => None,
        };
        let damaged_footer = known.is_none();
        let entries = known.unwrap_or_else(|| scan::scan(file, self.bytes, &self.header).entries);
        Index {
            places: places(&entries),
            damaged_footer,
        }
    }

    /// Reads a record whole.
    pub fn read(&self, file: &dyn File, place: &Place) -> SeenRecord {
        let Examined { told, body } = examine(file, &self.header, &Entry::from(place));
        let told = told.map(|(head, tenant, skipped)| Told {
            agrees: (head.arrival_ms, head.counts, head.admitted, head.totals)
                == (place.arrival_ms, place.counts, place.admitted, place.totals),
            protocol: head.protocol,
            encoding: head.encoding,
            body_crc: head.body_crc,
            tenant,
            skipped,
        });
        SeenRecord { told, body }
    }
}

impl From<&Entry> for Place {
    fn from(entry: &Entry) -> Self {
        Self {
            seq: Seq(entry.seq),
            at: entry.at,
            head_bytes: entry.head,
            body_bytes: entry.body,
            arrival_ms: entry.arrival_ms,
            counts: record::wide(entry.counts),
            admitted: record::wide(entry.admitted),
            totals: entry.totals,
        }
    }
}

impl From<&Place> for Entry {
    fn from(place: &Place) -> Self {
        Self {
            seq: place.seq.0,
            at: place.at,
            head: place.head_bytes,
            body: place.body_bytes,
            arrival_ms: place.arrival_ms,
            counts: record::small(place.counts),
            admitted: record::small(place.admitted),
            totals: place.totals,
        }
    }
}
