//! The journals of a folder: which file of each queue counts, and what it says.
//!
//! The rule is the one of a start: of a queue's files the newest whole one counts.

use std::collections::BTreeMap;
use std::io;

use crate::log::disk::fs::Fs;
use crate::queue::journal::codec::{Damage, Frames, HeaderError, read_header};
use crate::queue::journal::entry::Entry;
use crate::queue::journal::recover::Recovered;

const SUFFIX: &str = ".journal";
const DAMAGED: &str = ".damaged";
/// A larger file is none of ours.
const FILE_MOST: u64 = 1 << 30;
/// How often a folder is listed again because a file went meanwhile: a process replaces its journals.
const TRIES: usize = 5;

/// All journals of a folder.
#[derive(Default)]
pub(super) struct Journals {
    /// By name.
    pub(super) queues: Vec<QueueJournal>,
    /// Files that a start has set aside.
    pub(super) set_aside: Vec<String>,
}

/// The journal of one queue.
pub(super) struct QueueJournal {
    /// The queue.
    pub(super) name: String,
    /// Its files, newest first.
    pub(super) files: Vec<JournalFile>,
    /// What the newest whole one says; `None` when there is none.
    pub(super) known: Option<Recovered>,
}

/// A file of a journal.
pub(super) struct JournalFile {
    pub(super) name: String,
    pub(super) generation: u64,
    pub(super) bytes: u64,
    pub(super) state: State,
}

/// What a file turned out to be.
pub(super) enum State {
    /// It begins with a checkpoint. What is wrong behind it, and how many entries did not fit.
    Whole(Damage, u64),
    /// A crash came before it was durable, so no entry was ever written to it.
    Unfinished,
    /// It makes no sense, and why.
    Damaged(String),
}

impl QueueJournal {
    /// The file that counts.
    pub(super) fn file(&self) -> Option<&JournalFile> {
        let whole = |file: &&JournalFile| matches!(file.state, State::Whole(..));
        self.files.iter().find(whole)
    }
}

impl Journals {
    /// Reads the journals of all queues.
    pub(super) fn read(fs: &dyn Fs) -> io::Result<Self> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match Self::read_once(fs) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries > 0 => {}
                read => return read,
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.set_aside.is_empty()
    }

    fn read_once(fs: &dyn Fs) -> io::Result<Self> {
        let mut journals = Self::default();
        let mut queues: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
        for name in fs.list()? {
            if let Some(kept) = name.strip_suffix(DAMAGED)
                && parts_of(kept).is_some()
            {
                journals.set_aside.push(name);
            } else if let Some((queue, number)) = parts_of(&name) {
                queues.entry(queue).or_default().push((number, name));
            }
        }
        for (queue, mut names) in queues {
            names.sort_unstable_by(|a, b| b.cmp(a));
            journals.queues.push(read_queue(fs, queue, names)?);
        }
        Ok(journals)
    }
}

fn read_queue(fs: &dyn Fs, queue: String, names: Vec<(u64, String)>) -> io::Result<QueueJournal> {
    let (mut files, mut known) = (Vec::new(), None);
    for (generation, name) in names {
        let (bytes, (state, said)) = match read_file(fs, &name) {
            Ok(bytes) => (bytes.len() as u64, judge(&bytes, &queue)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            Err(error) => (0, damaged(format!("cannot be read: {error}"))),
        };
        known = known.or(said);
        files.push(JournalFile {
            name,
            generation,
            bytes,
            state,
        });
    }
    Ok(QueueJournal {
        name: queue,
        files,
        known,
    })
}

fn read_file(fs: &dyn Fs, name: &str) -> io::Result<Vec<u8>> {
    let file = fs.open(name)?;
    let size = file.size()?;
    if size > FILE_MOST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; size as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn damaged(what: impl Into<String>) -> (State, Option<Recovered>) {
    (State::Damaged(what.into()), None)
}

fn judge(bytes: &[u8], queue: &str) -> (State, Option<Recovered>) {
    let (header, length) = match read_header(bytes) {
        Ok(header) => header,
        Err(HeaderError::UnknownVersion(version)) => {
            return damaged(format!(
                "of format {version}, which this program does not know"
            ));
        }
        Err(HeaderError::Damaged) if bytes.iter().all(|byte| *byte == 0) => {
            return (State::Unfinished, None);
        }
        Err(HeaderError::Damaged) => return damaged("its header is damaged"),
    };
    if header.queue != queue {
        return damaged(format!("it is of the queue {:?}", header.queue));
    }
    let mut frames = Frames::new(&bytes[length..], header.salt);
    let Some(first) = frames.next() else {
        return (State::Unfinished, None);
    };
    let Entry::Checkpoint(checkpoint) = first else {
        return damaged("its checkpoint is damaged");
    };
    let mut known = Recovered::from(*checkpoint);
    frames.by_ref().for_each(|entry| known.apply(entry));
    (State::Whole(frames.damage(), known.odd), Some(known))
}

/// Queue and number, if this is the name of a journal's file.
fn parts_of(name: &str) -> Option<(String, u64)> {
    let (queue, digits) = name.strip_suffix(SUFFIX)?.rsplit_once('.')?;
    let plain = digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| plain)?;
    Some((decoded(queue)?, number))
}

/// Percent-decoding.
fn decoded(text: &str) -> Option<String> {
    let (mut out, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            out.push((digit()? * 16 + digit()?) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_of_the_queue_and_generation_that_its_name_says() {
        for (name, parts) in [
            ("eu.0000000012.journal", Some(("eu", 12))),
            ("a%2Eb%20c.0000000001.journal", Some(("a.b c", 1))),
            ("a.b.0000000001.journal", Some(("a.b", 1))),
            ("eu.12.journal", None),
            ("eu.000000001x.journal", None),
            ("eu.0000000012.journal.damaged", None),
            ("eu%2.0000000012.journal", None),
            ("00000000000000000001.segment", None),
        ] {
            let parts = parts.map(|(queue, number)| (queue.to_owned(), number));
            assert_eq!(parts_of(name), parts, "{name}");
        }
    }
}
