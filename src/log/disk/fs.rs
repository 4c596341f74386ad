//! The few things a log asks of a folder, so that tests can put a folder of their own in its place: one
//! that forgets what was not synced, tears, reorders and refuses.
//!
//! A name is a plain file name; nothing is followed, and nothing outside the folder is ever touched.

use std::fs::{OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// A folder.
pub trait Fs: Send + Sync {
    /// A new, empty file, to be read and written. It is an error if the name is taken.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// A file that is there, to be read and written.
    fn open(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Names of all plain files, in no order. What is no plain file is passed over.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Gives a file another name; a file that has it is replaced, in one step.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// After this, names that were created, changed and removed stay so, whatever happens.
    fn sync_dir(&self) -> io::Result<()>;

    /// Bytes that the file system still has for us.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A file of a folder.
pub trait File: Send + Sync {
    /// Writes all of `bytes` from `offset` on. After an error any part of them may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Fills `bytes` from `offset` on; `UnexpectedEof` where the file is shorter.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Its length, bytes.
    fn size(&self) -> io::Result<u64>;

    /// Cuts it to this length, or lengthens it with zeros.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// After this, what was written stays, whatever happens (`fdatasync`). After an error nothing is known of
    /// what was written since the last success, and a further sync of the same file may lie.
    fn sync(&self) -> io::Result<()>;
}

/// Name of the file whose lock says that the folder is in use.
pub(super) const LOCK: &str = "lock";
/// How often a folder in use is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(100);

/// A folder of the operating system, ours alone.
pub struct OsFs {
    path: PathBuf,
    dir: std::fs::File,
    lock: std::fs::File,
}

impl OsFs {
    /// Opens the folder, makes it if it is not there, and locks it: another process that has it is waited for
    /// up to `wait`, for a rolling update. Blocks.
    ///
    /// # Errors
    /// `ResourceBusy` when another process still has it then; else what the system says.
    pub fn open(path: &Path, wait: Duration) -> io::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        let lock = options()
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))?;
        let deadline = Instant::now() + wait;
        let mut said = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::info!(path = %path.display(), ?wait, "waiting for another process to give up the folder");
                    }
                    std::thread::sleep(LOCK_RETRY);
                }
                Err(TryLockError::WouldBlock) => {
                    let what = format!("{} is in use by another process", path.display());
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, what));
                }
            }
        }
        Ok(Self {
            dir: std::fs::File::open(path)?,
            path: path.to_owned(),
            lock,
        })
    }
}

impl OsFs {
    /// Lets another process have the folder. Nothing may be written after this.
    pub fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(path = %self.path.display(), %error, "the folder could not be unlocked");
        }
    }
}

/// Opened for us alone to read and write; a link in its place is an error.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

impl Fs for OsFs {
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = options().create_new(true).open(self.path.join(name))?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let path = self.path.join(name);
        let opened = options().open(&path);
        // What can only be read is read: writing to it fails then, and says so.
        let opened = opened.or_else(|error| match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                options().write(false).open(&path)
            }
            _ => Err(error),
        });
        Ok(Box::new(opened?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                // A name that is no text is none of ours.
                names.extend(entry.file_name().into_string().ok());
            }
        }
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.dir.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::fstatvfs(&self.dir)?;
        Ok(found.f_bavail * found.f_frsize)
    }
}

impl File for std::fs::File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
