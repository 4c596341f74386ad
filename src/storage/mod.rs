//! A folder of the log, looked at from outside: `sluicegate storage`.
//!
//! Nothing here writes to the folder, renames or removes in it, or holds its lock; a process may be at work in
//! it meanwhile. So the segments are read first and the journals after them: a journal that is newer than the
//! segments speaks of records that came since, never of records that were deleted since.

pub mod cli;
mod export;
mod finding;
mod inspect;
mod journals;
mod list;
mod pages;
mod post;
mod range;
mod show;
mod verify;
mod wanted;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::log::Seq;
use crate::log::disk::StorageError;
use crate::log::disk::look::{self, Index, LookFs, Seen, SeenSegment};
use crate::model::counts::Counts;
use journals::{Journals, QueueJournal};

/// A folder that was read.
struct Folder {
    path: PathBuf,
    fs: LookFs,
    /// A process has it.
    in_use: bool,
    /// It says that it has the format this program knows.
    has_format: bool,
    /// Oldest first.
    segments: Vec<SeenSegment>,
    /// Files that only have the name of one, with their bytes; `None`: never begun.
    no_segments: Vec<(String, Option<u64>)>,
    journals: Journals,
}

/// Why a folder cannot be read.
#[derive(Debug)]
enum FolderError {
    Io(io::Error),
    Storage(StorageError),
    /// There is nothing of ours in it.
    NotOurs,
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Storage(error) => error.fmt(f),
            Self::NotOurs => f.write_str("no folder of Sluicegate: no format, segment or journal"),
        }
    }
}

impl From<io::Error> for FolderError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Folder {
    /// Reads what is known of a folder without reading its records.
    fn open(path: &Path) -> Result<Self, FolderError> {
        let fs = LookFs::open(path)?;
        let has_format = look::has_format(&fs).map_err(FolderError::Storage)?;
        let in_use = match fs.is_in_use() {
            // Nothing else of it could be read either.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(error.into());
            }
            // A file system without locks: nobody can have one.
            in_use => in_use.unwrap_or(false),
        };
        let (mut segments, mut no_segments) = (Vec::new(), Vec::new());
        for seen in look::segments(&fs)? {
            match seen {
                Seen::Segment(segment) => segments.push(*segment),
                Seen::Blank { name } => no_segments.push((name, None)),
                Seen::Unreadable { name, bytes } => no_segments.push((name, Some(bytes))),
            }
        }
        let journals = Journals::read(&fs)?;
        if !has_format && segments.is_empty() && no_segments.is_empty() && journals.is_empty() {
            return Err(FolderError::NotOurs);
        }
        Ok(Self {
            path: path.to_owned(),
            fs,
            in_use,
            has_format,
            segments,
            no_segments,
            journals,
        })
    }

    /// One past the last record that the segments know of, and the log's totals there.
    fn end(&self) -> (Seq, Counts) {
        let last = self.segments.last();
        last.map_or((Seq(1), Counts::default()), |last| (last.end, last.totals))
    }

    /// A process is writing to this segment, as far as can be known: it is the last one.
    fn is_active(&self, segment: &SeenSegment) -> bool {
        let last = self.segments.last();
        self.in_use && !segment.sealed && last.is_some_and(|last| last.first == segment.first)
    }

    /// Where a segment's records stand; `None` when its file is gone, or cannot be opened.
    fn index(&self, segment: &SeenSegment) -> Option<Index> {
        let file = segment.open(&self.fs).ok()?;
        Some(segment.index(&*file))
    }

    /// The journal of this queue.
    fn queue(&self, name: &str) -> Option<&QueueJournal> {
        self.journals.queues.iter().find(|queue| queue.name == name)
    }
}
