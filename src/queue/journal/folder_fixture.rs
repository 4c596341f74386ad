//! A folder for tests: it forgets what was not synced, tears, refuses, and can be stopped at any operation.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::log::disk::fs::{File, Fs};

/// An operation that changes something, with the name of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Create(String),
    Write(String),
    Sync(String),
    Rename(String),
    Remove(String),
    SyncDir,
}

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// All up to some point, perhaps in the middle of a write.
    Prefix,
    /// Any part of any of it.
    Chaos,
    /// Nothing.
    Nothing,
}

type Refuse = Box<dyn FnMut(&Op) -> Option<io::ErrorKind> + Send>;

#[derive(Clone, Default)]
struct Inode {
    /// The name it was made with.
    name: String,
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync: where, and what.
    writes: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone)]
enum NameOp {
    Put(String, usize),
    Gone(String),
}

#[derive(Default)]
pub(super) struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_ops: Vec<NameOp>,
    /// All that was tried, with when it began.
    pub(super) log: Vec<(Op, Instant)>,
    failed: Vec<usize>,
    refuse: Option<Refuse>,
    stop_after: Option<usize>,
    /// Syncs wait.
    closed: bool,
    /// Syncs waiting now.
    pub(super) waiting: usize,
}

#[derive(Clone, Default)]
pub(super) struct Folder {
    state: Arc<(Mutex<State>, Condvar)>,
}

struct Handle {
    folder: Folder,
    inode: usize,
}

impl Folder {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    /// From now on operations for which this says so fail, without effect.
    pub(super) fn refuse(&self, refuse: impl FnMut(&Op) -> Option<io::ErrorKind> + Send + 'static) {
        self.lock().refuse = Some(Box::new(refuse));
    }

    pub(super) fn refuse_nothing(&self) {
        self.lock().refuse = None;
    }

    /// The operation with this number, and every one after it, fails; that one not without effect.
    pub(super) fn stop_after(&self, operations: usize) {
        self.lock().stop_after = Some(operations);
    }

    pub(super) fn gate(&self, closed: bool) {
        self.lock().closed = closed;
        self.state.1.notify_all();
    }

    /// Waits until it is so, whatever else goes on in the folder.
    pub(super) fn until(&self, so: impl Fn(&State) -> bool) {
        let (state, deadline) = (self.lock(), Instant::now() + Duration::from_secs(20));
        let wait = |state| {
            let left = deadline.saturating_duration_since(Instant::now());
            self.state.1.wait_timeout(state, left).unwrap().0
        };
        let mut state = state;
        while !so(&state) {
            assert!(Instant::now() < deadline, "{:?}", state.log);
            state = wait(state);
        }
    }

    pub(super) fn ops(&self) -> Vec<Op> {
        let state = self.lock();
        state.log.iter().map(|(op, _)| op.clone()).collect()
    }

    /// All that was tried, with whether it failed.
    pub(super) fn outcomes(&self) -> Vec<(Op, bool)> {
        let state = self.lock();
        let failed = |at| state.failed.contains(&at);
        let all = state.log.iter().enumerate();
        all.map(|(at, (op, _))| (op.clone(), failed(at))).collect()
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.lock();
        state.inodes[state.names[name]].now.clone()
    }

    /// Puts a file there as if it had always been there.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.lock();
        let inode = state.inodes.len();
        state.inodes.push(Inode {
            name: name.to_owned(),
            now: bytes.to_vec(),
            durable: bytes.to_vec(),
            writes: Vec::new(),
        });
        state.names.insert(name.to_owned(), inode);
        state.durable_names.insert(name.to_owned(), inode);
    }

    /// The folder as it is found after the power went.
    pub(super) fn after(&self, crash: Crash, rng: &mut Rng) -> Self {
        let state = self.lock();
        let mut names = state.durable_names.clone();
        let kept = kept(crash, state.name_ops.len(), rng);
        for (op, kept) in state.name_ops.iter().zip(kept) {
            match op {
                _ if !kept => {}
                NameOp::Put(name, inode) => drop(names.insert(name.clone(), *inode)),
                NameOp::Gone(name) => drop(names.remove(name)),
            }
        }
        let found = Self::default();
        for (name, inode) in names {
            let inode = &state.inodes[inode];
            let mut bytes = inode.durable.clone();
            let kept = kept_writes(crash, &inode.writes, rng);
            for (at, written) in kept {
                overwrite(&mut bytes, at, &written);
            }
            found.put(&name, &bytes);
        }
        found
    }

    fn begin(&self, op: &Op) -> (MutexGuard<'_, State>, io::Result<()>) {
        let mut state = self.lock();
        let number = state.log.len();
        state.log.push((op.clone(), Instant::now()));
        self.state.1.notify_all();
        if state.stop_after.is_some_and(|stop| number > stop) {
            return (state, Err(io::Error::other("stopped")));
        }
        let mut refuse = state.refuse.take();
        let refused = refuse.as_mut().and_then(|refuse| refuse(op));
        state.refuse = refuse;
        state.failed.extend(refused.map(|_| number));
        let result = refused.map_or(Ok(()), |kind| Err(kind.into()));
        (state, result)
    }

    /// An operation that is stopped in the middle has its effect and fails nevertheless.
    fn end(state: &State) -> io::Result<()> {
        match state.stop_after {
            Some(stop) if state.log.len() > stop => Err(io::Error::other("stopped")),
            _ => Ok(()),
        }
    }
}

/// Which of so many are kept.
fn kept(crash: Crash, of: usize, rng: &mut Rng) -> Vec<bool> {
    let prefix = rng.usize(..=of);
    let kept = |at| match crash {
        Crash::Prefix => at < prefix,
        Crash::Chaos => rng.bool(),
        Crash::Nothing => false,
    };
    (0..of).map(kept).collect()
}

fn kept_writes(crash: Crash, writes: &[(usize, Vec<u8>)], rng: &mut Rng) -> Vec<(usize, Vec<u8>)> {
    let kept = kept(crash, writes.len(), rng);
    let mut all: Vec<_> = Vec::new();
    for ((at, bytes), kept) in writes.iter().zip(&kept) {
        if *kept {
            all.push((*at, bytes.clone()));
        } else if crash != Crash::Nothing {
            // Torn: its beginning, or in chaos any piece of it.
            let from = if crash == Crash::Chaos {
                rng.usize(..=bytes.len())
            } else {
                0
            };
            let to = rng.usize(from..=bytes.len());
            all.push((at + from, bytes[from..to].to_vec()));
            if crash == Crash::Prefix {
                break;
            }
        }
    }
    all
}

fn overwrite(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if !bytes.is_empty() {
        file.resize(file.len().max(at + bytes.len()), 0);
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Fs for Folder {
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let (mut state, result) = self.begin(&Op::Create(name.to_owned()));
        result?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode {
            name: name.to_owned(),
            ..Inode::default()
        });
        state.names.insert(name.to_owned(), inode);
        state.name_ops.push(NameOp::Put(name.to_owned(), inode));
        Self::end(&state)?;
        let folder = self.clone();
        Ok(Box::new(Handle { folder, inode }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let inode = *self.lock().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let folder = self.clone();
        Ok(Box::new(Handle { folder, inode }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (mut state, result) = self.begin(&Op::Rename(from.to_owned()));
        result?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        state.name_ops.push(NameOp::Put(to.to_owned(), inode));
        state.name_ops.push(NameOp::Gone(from.to_owned()));
        Self::end(&state)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (mut state, result) = self.begin(&Op::Remove(name.to_owned()));
        result?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.name_ops.push(NameOp::Gone(name.to_owned()));
        Self::end(&state)
    }

    fn sync_dir(&self) -> io::Result<()> {
        let (mut state, result) = self.begin(&Op::SyncDir);
        result?;
        // Stopped in the middle: perhaps done, perhaps not.
        Self::end(&state)?;
        state.durable_names = state.names.clone();
        state.name_ops.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl File for Handle {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let name = self.folder.lock().inodes[self.inode].name.clone();
        let (mut state, result) = self.folder.begin(&Op::Write(name));
        // What is refused may have been written in part.
        let (at, written) = (
            offset as usize,
            result.as_ref().map_or(bytes.len() / 2, |()| bytes.len()),
        );
        if result.is_ok() || state.stop_after.is_none() {
            let inode = &mut state.inodes[self.inode];
            overwrite(&mut inode.now, at, &bytes[..written]);
            inode.writes.push((at, bytes[..written].to_vec()));
        }
        result?;
        Folder::end(&state)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.folder.lock();
        let from = state.inodes[self.inode].now.get(offset as usize..);
        let found = from.and_then(|from| from.get(..bytes.len()));
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.folder.lock().inodes[self.inode].now.len() as u64)
    }

    fn truncate(&self, _size: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        let name = self.folder.lock().inodes[self.inode].name.clone();
        let (mut state, mut result) = self.folder.begin(&Op::Sync(name));
        state.waiting += 1;
        self.folder.state.1.notify_all();
        while state.closed {
            state = self.folder.state.1.wait(state).unwrap();
        }
        state.waiting -= 1;
        result = result.and_then(|()| Folder::end(&state));
        let luck = state.log.len().is_multiple_of(2);
        let inode = &mut state.inodes[self.inode];
        if result.is_err() && luck {
            // The system takes the pages for clean: what was not synced is gone, and nobody hears of it.
            inode.writes.clear();
        }
        result?;
        inode.durable = inode.now.clone();
        inode.writes.clear();
        Ok(())
    }
}
