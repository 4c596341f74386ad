//! How the disk is: errors by operation, how long syncs take, whether the log can be written.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Damage;
use super::fs::{File, Fs};
use super::lock;

/// Upper bounds of the classes that syncs are counted in, seconds.
pub const SYNC_BOUNDS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
];
/// Syncs timed at start, bytes written before each, and the time after which no further one begins.
const PROBE: (usize, usize, Duration) = (20, 4 << 10, Duration::from_secs(5));
const PROBE_NAME: &str = "probe";
/// A median sync above this is worth a word: it is what every request waits for.
const SLOW: Duration = Duration::from_millis(20);

/// A write, sync or removal that has not come back after this long: the disk hangs. It counts as one that takes
/// nothing, and holds nobody up.
pub const HANGS: Duration = Duration::from_secs(5);

/// What is told of a disk that has not answered since then.
pub fn silence(since: tokio::time::Instant) -> String {
    let seconds = since.elapsed().as_secs();
    format!("the disk has not answered for {seconds} s")
}

/// How the log on disk is.
#[derive(Clone, Debug)]
pub struct Health {
    /// Since when it cannot be written; `None` when it can.
    pub unwritable_since: Option<tokio::time::Instant>,
    /// The last error, whatever came after it.
    pub last_error: Option<String>,
    /// Errors by operation and name, as `fsync`, `EIO`.
    pub errors: Vec<(&'static str, String, u64)>,
    /// How long syncs took.
    pub syncs: Syncs,
    /// The syncs timed at start, once they are through.
    pub probe: Option<Probe>,
    /// What was found damaged.
    pub damage: Damage,
}

/// How long syncs of files took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Syncs {
    /// By class: up to each of [`SYNC_BOUNDS`], and above.
    pub classes: [u64; SYNC_BOUNDS.len() + 1],
    /// All of them together.
    pub seconds: f64,
    /// The last one.
    pub last: Duration,
}

impl Syncs {
    /// Number of syncs.
    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }

    fn took(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let class = SYNC_BOUNDS.partition_point(|bound| *bound < seconds);
        self.classes[class] += 1;
        self.seconds += seconds;
        self.last = time;
    }
}

/// Syncs timed at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// How many there were.
    pub syncs: usize,
    /// Half of them were not slower.
    pub median: Duration,
    /// The slowest.
    pub max: Duration,
}

impl Probe {
    /// What to tell the user, if the disk is slow.
    pub fn advice(&self) -> Option<String> {
        if self.median <= SLOW {
            return None;
        }
        let (median, max) = (self.median.as_millis(), self.max.as_millis());
        Some(format!(
            "a sync of this disk takes {median} ms (median of {}; the slowest took {max} ms). Every request waits \
             for one to two of them, so a sender gets about {:.1} requests a second through each of its \
             connections. Put --storage.path on a local disk, or give the sender more connections.",
            self.syncs,
            1000.0 / (1.5 * self.median.as_secs_f64() * 1000.0)
        ))
    }
}

/// What is counted about a folder.
#[derive(Default)]
pub struct Watch {
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    errors: BTreeMap<(&'static str, String), u64>,
    last_error: Option<String>,
    syncs: Syncs,
    probe: Option<Probe>,
}

impl Watch {
    /// Errors by operation and name.
    pub fn errors(&self) -> Vec<(&'static str, String, u64)> {
        let counted = lock(&self.counted);
        let errors = counted.errors.iter();
        errors
            .map(|((operation, name), count)| (*operation, name.clone(), *count))
            .collect()
    }

    /// The last error.
    pub fn last_error(&self) -> Option<String> {
        lock(&self.counted).last_error.clone()
    }

    /// How long syncs took.
    pub fn syncs(&self) -> Syncs {
        lock(&self.counted).syncs
    }

    /// The syncs timed at start.
    pub fn probe(&self) -> Option<Probe> {
        lock(&self.counted).probe
    }

    fn failed(&self, operation: &'static str, error: &io::Error) {
        let mut counted = lock(&self.counted);
        let count = counted
            .errors
            .entry((operation, errno_name(error)))
            .or_default();
        *count += 1;
        counted.last_error = Some(format!("{operation}: {error}"));
    }
}

/// A name for what went wrong, as `errno(3)` has it.
pub fn errno_name(error: &io::Error) -> String {
    let name = match error.raw_os_error() {
        Some(1) => "EPERM",
        Some(2) => "ENOENT",
        Some(5) => "EIO",
        Some(13) => "EACCES",
        Some(17) => "EEXIST",
        Some(23) => "ENFILE",
        Some(24) => "EMFILE",
        Some(27) => "EFBIG",
        Some(28) => "ENOSPC",
        Some(30) => "EROFS",
        Some(116) => "ESTALE",
        Some(122) => "EDQUOT",
        Some(other) => return format!("E{other}"),
        None => return format!("{:?}", error.kind()),
    };
    name.to_owned()
}

/// A folder that is watched: errors are counted, syncs timed.
pub struct Watched {
    fs: Arc<dyn Fs>,
    watch: Arc<Watch>,
}

impl Watched {
    /// This folder, watched, and what is counted.
    pub fn watch(fs: Arc<dyn Fs>) -> (Arc<dyn Fs>, Arc<Watch>) {
        let watch = Arc::new(Watch::default());
        let watched = Self {
            fs,
            watch: Arc::clone(&watch),
        };
        (Arc::new(watched), watch)
    }

    fn file(&self, file: Box<dyn File>) -> Box<dyn File> {
        Box::new(WatchedFile {
            file,
            watch: Arc::clone(&self.watch),
        })
    }
}

fn counted<T>(watch: &Watch, operation: &'static str, result: io::Result<T>) -> io::Result<T> {
    use io::ErrorKind::{AlreadyExists, NotFound};
    // What is not there, or there already, is an answer.
    let is_answer = |error: &io::Error| matches!(error.kind(), NotFound | AlreadyExists);
    result.inspect_err(|error| {
        if !is_answer(error) {
            watch.failed(operation, error);
        }
    })
}

impl Fs for Watched {
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = counted(&self.watch, "create", self.fs.create(name))?;
        Ok(self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = counted(&self.watch, "open", self.fs.open(name))?;
        Ok(self.file(file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        counted(&self.watch, "list", self.fs.list())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        counted(&self.watch, "rename", self.fs.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        counted(&self.watch, "unlink", self.fs.remove(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        counted(&self.watch, "fsync_dir", self.fs.sync_dir())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        counted(&self.watch, "statfs", self.fs.free_bytes())
    }
}

struct WatchedFile {
    file: Box<dyn File>,
    watch: Arc<Watch>,
}

impl File for WatchedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        counted(&self.watch, "write", self.file.write_at(bytes, offset))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        counted(&self.watch, "read", self.file.read_at(bytes, offset))
    }

    fn size(&self) -> io::Result<u64> {
        counted(&self.watch, "stat", self.file.size())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        counted(&self.watch, "truncate", self.file.truncate(size))
    }

    fn sync(&self) -> io::Result<()> {
        let began = Instant::now();
        let synced = counted(&self.watch, "fsync", self.file.sync());
        lock(&self.watch.counted).syncs.took(began.elapsed());
        synced
    }
}

/// Times some syncs in a file of its own, until `stop`. Errors end it: whoever writes meets them too.
pub(super) fn probe(fs: &dyn Fs, watch: &Watch, stop: &AtomicBool) {
    let times = time_syncs(fs, stop).unwrap_or_default();
    // What is left of it does no harm, and is removed at the next start.
    drop(fs.remove(PROBE_NAME));
    let mut sorted = times;
    sorted.sort_unstable();
    let (Some(median), Some(max)) = (sorted.get(sorted.len() / 2), sorted.last()) else {
        return;
    };
    let probe = Probe {
        syncs: sorted.len(),
        median: *median,
        max: *max,
    };
    lock(&watch.counted).probe = Some(probe);
    match probe.advice() {
        Some(advice) => tracing::warn!("{advice}"),
        None => tracing::info!(median = ?probe.median, max = ?probe.max, "syncs of the disk timed"),
    }
}

fn time_syncs(fs: &dyn Fs, stop: &AtomicBool) -> io::Result<Vec<Duration>> {
    if let Err(error) = fs.remove(PROBE_NAME)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let file = fs.create(PROBE_NAME)?;
    let (syncs, length, most) = PROBE;
    let bytes = vec![0x5a; length];
    let (began, mut times) = (Instant::now(), Vec::new());
    while times.len() < syncs && began.elapsed() < most && !stop.load(Ordering::Relaxed) {
        file.write_at(&bytes, (times.len() * length) as u64)?;
        let before = Instant::now();
        file.sync()?;
        times.push(before.elapsed());
    }
    Ok(times)
}
