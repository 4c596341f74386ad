//! Room kept back for settlement: a full disk refuses new records, and what was delivered can still be
//! written down.
//!
//! Who meets a full disk while writing settlement gives the reserve up and writes again. The log accepts
//! nothing until it is back.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::fs::Fs;

const NAME: &str = "reserve";
/// Most that is kept back.
const MAX: u64 = 1 << 20;
/// Zeros written at once.
const PIECE: usize = 64 << 10;

/// The reserve of a folder.
pub struct Reserve {
    fs: Arc<dyn Fs>,
    size: u64,
    there: AtomicBool,
    /// One gives up or restores at a time.
    turn: Mutex<()>,
}

impl Reserve {
    /// The reserve of a log of `max_bytes`: 1/16 of them, at most 1 MiB. It is made if it is not there; whether
    /// that went well says [`Self::is_there`].
    pub fn open(fs: Arc<dyn Fs>, max_bytes: u64) -> Arc<Self> {
        let size = (max_bytes / 16).min(MAX);
        let found = fs.open(NAME).and_then(|file| file.size());
        let reserve = Arc::new(Self {
            fs,
            size,
            there: AtomicBool::new(found.is_ok_and(|found| found == size)),
            turn: Mutex::new(()),
        });
        // Told by `is_there`, and tried again before the first record.
        drop(reserve.restore());
        reserve
    }

    /// It is there: the log may accept.
    pub fn is_there(&self) -> bool {
        self.there.load(Ordering::Acquire)
    }

    /// Bytes kept back.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes its room free. When this returns the file system has it.
    pub fn give_up(&self) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.there.store(false, Ordering::Release);
        match self.fs.remove(NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.fs.sync_dir(),
        }
    }

    /// Takes its room again, if it was given up.
    ///
    /// # Errors
    /// What the system says: as a rule that there is no room yet. It is as given up as before then.
    pub fn restore(&self) -> io::Result<()> {
        if self.is_there() {
            return Ok(());
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match self.fs.remove(NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = self.write();
        match written {
            Ok(()) => self.there.store(true, Ordering::Release),
            // What there is of it is in the way of others. If it cannot be removed now, the next turn tries.
            Err(_) => drop(self.fs.remove(NAME)),
        }
        written
    }

    fn write(&self) -> io::Result<()> {
        let file = self.fs.create(NAME)?;
        let zeros = vec![0; PIECE];
        let mut at = 0;
        while at < self.size {
            let piece = (self.size - at).min(PIECE as u64);
            file.write_at(&zeros[..piece as usize], at)?;
            at += piece;
        }
        file.sync()?;
        self.fs.sync_dir()
    }
}
