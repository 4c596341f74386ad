//! A folder that keeps its word and no more: what was not synced may be gone after a crash, whole, in part, or
//! sector by sector, and so may names. It can refuse, and a sync that failed marks pages clean, as Linux does:
//! the next one lies.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use sluicegate::log::disk::fs::{File, Fs};

/// What a disk writes whole or not at all.
const SECTOR: u64 = 512;

/// What is asked of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Create,
    Open,
    List,
    Rename,
    Remove,
    SyncDir,
    Write,
    Read,
    Truncate,
    Sync,
}

/// What it answers instead of doing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This error number.
    Errno(i32),
    /// For a write: so many bytes are written, then there is no room.
    Short(usize),
}

pub(crate) const EIO: Fault = Fault::Errno(5);
pub(crate) const ENOSPC: Fault = Fault::Errno(28);

type Plan = Box<dyn FnMut(Op, &str) -> Option<Fault> + Send>;

/// A folder in memory. Clones are the same folder.
#[derive(Clone)]
pub(crate) struct ModelFs {
    world: Arc<Mutex<World>>,
    held: Arc<(Mutex<bool>, Condvar)>,
}

struct World {
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since the folder was synced.
    name_changes: Vec<(String, Option<usize>)>,
    files: Vec<Inode>,
    plan: Option<Plan>,
    /// Bytes that all files may have.
    room: Option<u64>,
    rng: fastrand::Rng,
    done: Vec<Op>,
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What was changed since the file was synced.
    changes: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Size(u64),
}

impl ModelFs {
    pub(crate) fn new(seed: u64) -> Self {
        let world = World {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            files: Vec::new(),
            plan: None,
            room: None,
            rng: fastrand::Rng::with_seed(seed),
            done: Vec::new(),
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            held: Arc::new((Mutex::new(false), Condvar::new())),
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this is asked before anything is done, with the file's name.
    pub(crate) fn refuse(&self, plan: impl FnMut(Op, &str) -> Option<Fault> + Send + 'static) {
        self.world().plan = Some(Box::new(plan));
    }

    /// Nothing is refused any more.
    pub(crate) fn well(&self) {
        self.world().plan = None;
    }

    /// All files together have room for so many bytes.
    pub(crate) fn room(&self, bytes: Option<u64>) {
        self.world().room = bytes;
    }

    /// Bytes of all files.
    pub(crate) fn used(&self) -> u64 {
        self.world().used()
    }

    /// How often this was asked.
    pub(crate) fn times(&self, op: Op) -> usize {
        self.world().done.iter().filter(|done| **done == op).count()
    }

    /// Syncs wait from now on, or no longer.
    pub(crate) fn hold_syncs(&self, hold: bool) {
        *self.held.0.lock().unwrap_or_else(PoisonError::into_inner) = hold;
        self.held.1.notify_all();
    }

    /// Names of all files.
    pub(crate) fn names(&self) -> Vec<String> {
        self.world().names.keys().cloned().collect()
    }

    /// A file's bytes as a reader sees them.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let world = self.world();
        world.files[world.names[name]].now.clone()
    }

    /// Puts a file there, or other bytes into it, durable.
    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut world = self.world();
        let inode = Inode {
            durable: bytes.clone(),
            now: bytes,
            changes: Vec::new(),
        };
        world.files.push(inode);
        let file = world.files.len() - 1;
        world.names.insert(name.to_owned(), file);
        world.durable_names.insert(name.to_owned(), file);
    }

    /// Removes a file, durably.
    pub(crate) fn take(&self, name: &str) -> Vec<u8> {
        let bytes = self.bytes(name);
        let mut world = self.world();
        world.names.remove(name);
        world.durable_names.remove(name);
        bytes
    }

    /// A copy of the folder as a reader sees it, all of it durable.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new(0);
        for name in self.names() {
            copy.put(&name, self.bytes(&name));
        }
        copy
    }

    /// The folder after the power went: what was not synced is there or not, as chance has it. Handles of the
    /// old one go on with the old one.
    pub(crate) fn crash(&self, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = self.world();
        let mut names = world.durable_names.clone();
        let keep = Keep::new(&mut rng);
        for (name, file) in &world.name_changes {
            if !keep.this(&mut rng) {
                continue;
            }
            match file {
                Some(file) => drop(names.insert(name.clone(), *file)),
                None => drop(names.remove(name)),
            }
        }
        let after = Self::new(seed);
        for (name, file) in names {
            after.put(&name, world.files[file].after_crash(&mut rng));
        }
        after
    }
}

/// How much survives.
enum Keep {
    Nothing,
    All,
    Some,
}

impl Keep {
    fn new(rng: &mut fastrand::Rng) -> Self {
        match rng.u8(..4) {
            0 => Self::Nothing,
            1 => Self::All,
            _ => Self::Some,
        }
    }

    fn this(&self, rng: &mut fastrand::Rng) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Some => rng.bool(),
        }
    }
}

impl Inode {
    fn after_crash(&self, rng: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let keep = Keep::new(rng);
        apply(&mut bytes, &self.changes, |_| keep.this(rng));
        if rng.u8(..4) == 0 && bytes.len() < self.now.len() {
            // The size was written, the bytes were not.
            bytes.resize(self.now.len(), 0);
        }
        bytes
    }
}

/// Makes those changes, sector by sector, that are kept.
fn apply(bytes: &mut Vec<u8>, changes: &[Change], mut keep: impl FnMut(u64) -> bool) {
    for change in changes {
        match change {
            Change::Size(size) => {
                if keep(*size) {
                    bytes.resize(*size as usize, 0);
                }
            }
            Change::Write(at, written) => {
                let (mut from, end) = (*at, *at + written.len() as u64);
                while from < end {
                    let to = (from / SECTOR * SECTOR + SECTOR).min(end);
                    if keep(from) {
                        let part = &written[(from - at) as usize..(to - at) as usize];
                        put(bytes, from, part);
                    }
                    from = to;
                }
            }
        }
    }
}

fn put(bytes: &mut Vec<u8>, at: u64, part: &[u8]) {
    let end = at as usize + part.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at as usize..end].copy_from_slice(part);
}

impl World {
    fn ask(&mut self, op: Op, name: &str) -> io::Result<()> {
        match self.fault(op, name) {
            Some(Fault::Errno(number)) => Err(io::Error::from_raw_os_error(number)),
            Some(Fault::Short(_)) => Err(io::Error::from_raw_os_error(28)),
            None => Ok(()),
        }
    }

    fn fault(&mut self, op: Op, name: &str) -> Option<Fault> {
        self.done.push(op);
        self.plan.as_mut().and_then(|plan| plan(op, name))
    }

    fn used(&self) -> u64 {
        let sizes = self.names.values().map(|file| self.files[*file].now.len());
        sizes.sum::<usize>() as u64
    }

    fn missing(name: &str) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, name.to_owned())
    }

    fn link(&mut self, name: &str, file: Option<usize>) {
        match file {
            Some(file) => drop(self.names.insert(name.to_owned(), file)),
            None => drop(self.names.remove(name)),
        }
        self.name_changes.push((name.to_owned(), file));
    }
}

impl ModelFs {
    fn handle(&self, name: &str, file: usize) -> Box<dyn File> {
        Box::new(Handle {
            fs: self.clone(),
            name: name.to_owned(),
            file,
        })
    }
}

impl Fs for ModelFs {
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut world = self.world();
        world.ask(Op::Create, name)?;
        if world.names.contains_key(name) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                name.to_owned(),
            ));
        }
        world.files.push(Inode::default());
        let file = world.files.len() - 1;
        world.link(name, Some(file));
        Ok(self.handle(name, file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut world = self.world();
        world.ask(Op::Open, name)?;
        let file = world.names.get(name).copied();
        file.map(|file| self.handle(name, file))
            .ok_or_else(|| World::missing(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut world = self.world();
        world.ask(Op::List, "")?;
        Ok(world.names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.ask(Op::Rename, from)?;
        let file = world.names.get(from).copied();
        let file = file.ok_or_else(|| World::missing(from))?;
        world.link(to, Some(file));
        world.link(from, None);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        world.ask(Op::Remove, name)?;
        if !world.names.contains_key(name) {
            return Err(World::missing(name));
        }
        world.link(name, None);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut world = self.world();
        world.ask(Op::SyncDir, "")?;
        world.durable_names = world.names.clone();
        world.name_changes.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let world = self.world();
        Ok(world
            .room
            .map_or(1 << 40, |room| room.saturating_sub(world.used())))
    }
}

struct Handle {
    fs: ModelFs,
    name: String,
    file: usize,
}

impl File for Handle {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.fs.world();
        let mut fault = world.fault(Op::Write, &self.name);
        if let Some(room) = world.room {
            let size = world.files[self.file].now.len() as u64;
            let grows = (offset + bytes.len() as u64).saturating_sub(size);
            let free = room.saturating_sub(world.used());
            if grows > free && fault.is_none() {
                fault = Some(Fault::Short(bytes.len() - (grows - free) as usize));
            }
        }
        let written = match fault {
            None => bytes.len(),
            Some(Fault::Short(written)) => written.min(bytes.len()),
            // After an error any part may have been written.
            Some(Fault::Errno(_)) => world.rng.usize(..=bytes.len()),
        };
        let inode = &mut world.files[self.file];
        put(&mut inode.now, offset, &bytes[..written]);
        inode
            .changes
            .push(Change::Write(offset, bytes[..written].to_vec()));
        match fault {
            None => Ok(()),
            Some(Fault::Errno(number)) => Err(io::Error::from_raw_os_error(number)),
            Some(Fault::Short(_)) => Err(io::Error::from_raw_os_error(28)),
        }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut world = self.fs.world();
        world.ask(Op::Read, &self.name)?;
        let now = &world.files[self.file].now;
        let found = now.get(offset as usize..offset as usize + bytes.len());
        let found = found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.fs.world().files[self.file].now.len() as u64)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut world = self.fs.world();
        world.ask(Op::Truncate, &self.name)?;
        let inode = &mut world.files[self.file];
        inode.now.resize(size as usize, 0);
        inode.changes.push(Change::Size(size));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        {
            let (held, changed) = &*self.fs.held;
            let held = held.lock().unwrap_or_else(PoisonError::into_inner);
            drop(changed.wait_while(held, |held| *held));
        }
        let mut world = self.fs.world();
        let refused = world.ask(Op::Sync, &self.name);
        let mut rng = world.rng.clone();
        let inode = &mut world.files[self.file];
        let changes = std::mem::take(&mut inode.changes);
        if refused.is_ok() {
            apply(&mut inode.durable, &changes, |_| true);
            return Ok(());
        }
        // What was not written is forgotten all the same, and a reader may see it or not.
        apply(&mut inode.durable, &changes, |_| rng.bool());
        if rng.bool() {
            inode.now = inode.durable.clone();
        }
        world.rng = rng;
        refused
    }
}
