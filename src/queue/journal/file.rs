//! The files of a journal: one counts, and it is replaced by a new *generation*, never rewritten.
//!
//! A generation is named `<queue>.<number>.journal`, the queue's name percent-encoded, the number of ten
//! digits or more. It begins with a checkpoint. Entries go to the newest only. An older one stays until the
//! newer is durable, its name too, so at every moment one of them is whole.
//!
//! A file that makes no sense is set aside under another name, never removed. Without any file the queue
//! knows nothing of what was settled, and sends everything in the log: again, perhaps, but all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use super::codec::{
    Damage, Frames, HEADER_LEAST, Header, HeaderError, TooLarge, put_frame, put_header, read_header,
};
use super::entry::Entry;
use super::recover::Recovered;
use crate::log::disk::fs::{File, Fs};

const SUFFIX: &str = ".journal";
const DAMAGED: &str = ".damaged";
/// A file larger than this is none of ours.
const FILE_MOST: u64 = 1 << 30;

/// What was found of a queue's journal.
#[derive(Debug, Default)]
pub struct Opened {
    /// What the newest whole file says; `None` when there is none.
    pub recovered: Option<Recovered>,
    /// What was wrong with that file.
    pub damage: Damage,
    /// Files that made no sense, each with what was wrong, under the name they have now.
    pub set_aside: Vec<(String, String)>,
    /// What the next file has to know.
    pub past: Past,
}

/// Files that a new generation replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// The highest number in use.
    pub(super) generation: u64,
    /// Names of files to be removed once a newer one is durable.
    pub(super) replaced: Vec<String>,
}

/// Why a journal was not opened. Nothing was changed.
#[derive(Debug)]
pub enum OpenError {
    /// A newer version of this program wrote the file.
    UnknownVersion {
        /// The file.
        name: String,
        /// The version of its format.
        version: u16,
    },
    /// The folder cannot be listed.
    Folder(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVersion { name, version } => write!(
                f,
                "{name} is of format {version}, which only a newer version of this program knows"
            ),
            Self::Folder(error) => write!(f, "the folder cannot be listed: {error}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::UnknownVersion { .. } => None,
            Self::Folder(error) => Some(error),
        }
    }
}

/// What a file turned out to be.
enum Found {
    Whole(Box<Recovered>, Damage),
    /// A crash came before it was durable, so no entry was ever written to it.
    Unfinished,
    Damaged(String),
    Unknown(u16),
}

/// Finds the journal of a queue and reads it; blocks.
///
/// # Errors
/// See [`OpenError`]. A file that cannot be read, or makes no sense, is no error: see [`Opened::set_aside`].
pub fn open(fs: &dyn Fs, queue: &str) -> Result<Opened, OpenError> {
    let names = fs.list().map_err(OpenError::Folder)?;
    let mut past = Past::default();
    let mut files = Vec::new();
    for name in names {
        let kept = name.strip_suffix(DAMAGED).unwrap_or(&name);
        let Some(number) = number_of(kept, queue) else {
            continue;
        };
        // The numbers of those set aside are not given again: their names would be.
        past.generation = past.generation.max(number);
        if kept == name {
            files.push((number, name));
        }
    }
    // Newest first.
    files.sort_unstable_by(|a, b| b.cmp(a));
    let mut found = Vec::new();
    for (_, name) in files {
        match look_at(fs, &name, queue) {
            Found::Unknown(version) => return Err(OpenError::UnknownVersion { name, version }),
            file => found.push((name, file)),
        }
    }
    Ok(choose(fs, found, past))
}

/// Queues that have a journal here and are not among these, and what it says. Nothing is changed; blocks.
///
/// # Errors
/// When the folder cannot be listed. A file that cannot be read, or makes no sense, says nothing.
pub fn of_others(fs: &dyn Fs, known: &[&str]) -> io::Result<BTreeMap<String, Option<Recovered>>> {
    let known: BTreeSet<_> = known.iter().map(|queue| encoded(queue)).collect();
    let mut others: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in fs.list()? {
        if let Some(queue) = queue_of(&name).filter(|queue| !known.contains(*queue)) {
            others.entry(queue.to_owned()).or_default().push(name);
        }
    }
    let newest = |mut files: Vec<String>| {
        files.sort_unstable_by(|a, b| b.cmp(a));
        files.iter().find_map(|name| whole(fs, name))
    };
    let said = others
        .into_iter()
        .map(|(queue, files)| match newest(files) {
            Some((name, recovered)) => (name, Some(recovered)),
            None => (queue, None),
        });
    Ok(said.collect())
}

/// A queue's name, and what its journal says, if this file is whole.
fn whole(fs: &dyn Fs, name: &str) -> Option<(String, Recovered)> {
    let bytes = read(fs, name).ok()?;
    let queue = read_header(&bytes).ok()?.0.queue;
    match judge(&bytes, &queue) {
        Found::Whole(recovered, _) => Some((queue, *recovered)),
        _ => None,
    }
}

/// The queue whose journal a file is, by its name; percent-encoded, where a name needs that.
pub fn queue_of(name: &str) -> Option<&str> {
    let (queue, number) = name.strip_suffix(SUFFIX)?.rsplit_once('.')?;
    (number.len() == 10 && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(queue)
}

/// The newest whole file counts.
fn choose(fs: &dyn Fs, found: Vec<(String, Found)>, past: Past) -> Opened {
    let any_whole = found.iter().any(|(_, f)| matches!(f, Found::Whole(..)));
    let mut opened = Opened {
        past,
        ..Opened::default()
    };
    for (name, file) in found {
        match file {
            Found::Whole(recovered, damage) => {
                if opened.recovered.is_none() {
                    (opened.recovered, opened.damage) = (Some(*recovered), damage);
                }
                opened.past.replaced.push(name);
            }
            Found::Unfinished if any_whole => opened.past.replaced.push(name),
            Found::Unfinished => set_aside(fs, &mut opened, name, "never finished".to_owned()),
            Found::Damaged(what) => set_aside(fs, &mut opened, name, what),
            // The caller has returned.
            Found::Unknown(_) => {}
        }
    }
    opened
}

/// Gives a file a name that nothing looks at. If that fails it stays where it is, and a newer one counts.
fn set_aside(fs: &dyn Fs, opened: &mut Opened, name: String, what: String) {
    let aside = format!("{name}{DAMAGED}");
    opened.set_aside.push(match fs.rename(&name, &aside) {
        Ok(()) => (aside, what),
        Err(error) => (name, format!("{what}; it cannot be renamed: {error}")),
    });
}

fn look_at(fs: &dyn Fs, name: &str, queue: &str) -> Found {
    match read(fs, name) {
        Ok(bytes) => judge(&bytes, queue),
        Err(error) => Found::Damaged(format!("cannot be read: {error}")),
    }
}

fn read(fs: &dyn Fs, name: &str) -> io::Result<Vec<u8>> {
    let file = fs.open(name)?;
    let size = file.size()?;
    if size > FILE_MOST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; size as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn judge(bytes: &[u8], queue: &str) -> Found {
    let (header, length) = match read_header(bytes) {
        Ok(header) => header,
        Err(HeaderError::UnknownVersion(version)) => return Found::Unknown(version),
        // What a crash leaves of a file whose first bytes never reached the disk.
        Err(HeaderError::Damaged)
            if bytes.len() < HEADER_LEAST + queue.len() || bytes.iter().all(|byte| *byte == 0) =>
        {
            return Found::Unfinished;
        }
        Err(HeaderError::Damaged) => return Found::Damaged("its header is damaged".to_owned()),
    };
    if header.queue != queue {
        return Found::Damaged(format!("it is of the queue {}", header.queue));
    }
    let mut frames = Frames::new(&bytes[length..], header.salt);
    let Some(first) = frames.next() else {
        return Found::Unfinished;
    };
    let Entry::Checkpoint(checkpoint) = first else {
        return Found::Damaged("its checkpoint is damaged".to_owned());
    };
    let mut recovered = Recovered::from(*checkpoint);
    for entry in frames.by_ref() {
        recovered.apply(entry);
    }
    Found::Whole(Box::new(recovered), frames.damage())
}

/// The file that entries go to.
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) file: Box<dyn File>,
    pub(super) salt: u32,
    /// Bytes of header and checkpoint.
    pub(super) begin: u64,
    /// Bytes written.
    pub(super) length: u64,
}

/// A generation that did not come to be.
pub(super) struct NotBegun {
    pub(super) error: io::Error,
    /// Something of it may be there after a crash, under this name.
    pub(super) left: Option<String>,
}

/// Makes a generation that begins with this entry, a checkpoint. When this returns it is durable, and so is
/// its name. Blocks.
pub(super) fn begin(
    fs: &dyn Fs,
    queue: &str,
    (number, salt): (u64, u32),
    checkpoint: &Entry,
) -> Result<Generation, NotBegun> {
    let name = name_of(queue, number);
    let header = Header {
        salt,
        queue: queue.to_owned(),
    };
    let nothing_left = |error| NotBegun { error, left: None };
    let mut bytes = Vec::new();
    put_header(&mut bytes, &header);
    put_frame(&mut bytes, salt, checkpoint).map_err(|TooLarge| {
        nothing_left(io::Error::other(
            "the checkpoint is too large to be written",
        ))
    })?;
    let file = fs.create(&name).map_err(nothing_left)?;
    let made = file
        .write_at(&bytes, 0)
        .and_then(|()| file.sync())
        .and_then(|()| fs.sync_dir());
    if let Err(error) = made {
        let undone = fs.remove(&name).and_then(|()| fs.sync_dir());
        let left = undone.is_err().then_some(name);
        return Err(NotBegun { error, left });
    }
    let length = bytes.len() as u64;
    Ok(Generation {
        number,
        name,
        file,
        salt,
        begin: length,
        length,
    })
}

fn name_of(queue: &str, number: u64) -> String {
    format!("{}.{number:010}{SUFFIX}", encoded(queue))
}

/// The number in a name, if it is one of this queue's.
fn number_of(name: &str, queue: &str) -> Option<u64> {
    let (whose, digits) = name.strip_suffix(SUFFIX)?.rsplit_once('.')?;
    let number = digits.parse().ok()?;
    (whose == encoded(queue) && name == name_of(queue, number)).then_some(number)
}

fn encoded(queue: &str) -> String {
    let byte = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    queue.bytes().map(byte).collect()
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
