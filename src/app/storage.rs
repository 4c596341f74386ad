//! The log that the configuration asks for, and what the last process left in it.
//!
//! A folder that cannot be used is no reason not to run: the process then keeps its word as without one
//! (`--ack upstream`), leaves the folder as it is, and says so loudly. Only a folder that another process
//! uses ends it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::parts::Shares;
use crate::clock::{Instant, wall_ms};
use crate::config::{self, AckMode, Config, StorageConfig};
use crate::log::chain::Chain;
use crate::log::disk::fs::{Fs, OsFs};
use crate::log::disk::health::Probe;
use crate::log::disk::{self, DiskLog, DiskOptions, Floor, Opened};
use crate::log::front::Front;
use crate::log::memory::MemoryLog;
use crate::log::repeats::Repeats;
use crate::log::{Log, Seq};
use crate::model::counts::Counts;
use crate::queue::handle::Resume;
use crate::queue::journal::entry::Checkpoint;
use crate::queue::journal::file;
use crate::queue::journal::recover::Recovered;
use crate::queue::journal::writer::JournalWriter;

/// The log, and what stands beside it.
pub(super) struct Storage {
    /// Where new records go.
    pub(super) front: Front,
    /// What queues read.
    pub(super) log: Arc<dyn Log>,
    /// The log on disk, if any of it is used.
    pub(super) disk: Option<Arc<DiskLog>>,
    /// The folder, to be given up at the end.
    pub(super) folder: Option<Arc<OsFs>>,
    /// What may come again.
    pub(super) repeats: Option<Arc<Repeats>>,
    /// Where each queue goes on.
    pub(super) resumes: Vec<Option<Resume>>,
    /// What a 2xx means, after all.
    pub(super) ack: AckMode,
    /// Why that is not what was asked for.
    pub(super) trouble: Option<String>,
}

/// What has to be closed before the folder can be opened again.
pub(super) struct Handles {
    disk: Option<Arc<DiskLog>>,
    folder: Option<Arc<OsFs>>,
    journals: Vec<Arc<JournalWriter>>,
}

impl Handles {
    /// Closes everything; blocks.
    pub(super) fn close(&self) {
        for journal in &self.journals {
            if !journal.close() {
                tracing::warn!("a settle journal could not be written to its end");
            }
        }
        if let Some(disk) = &self.disk {
            disk.close();
        }
        if let Some(folder) = &self.folder {
            folder.unlock();
        }
    }
}

/// What stood in the folder.
struct Found {
    folder: Arc<OsFs>,
    disk: Arc<DiskLog>,
    opened: Opened,
    journals: Vec<file::Opened>,
}

impl Storage {
    /// Opens it; blocks.
    ///
    /// # Errors
    /// When another process has the folder and does not give it up, or the system gives no threads.
    pub(super) fn open(config: &Config, shares: &Shares) -> Result<Self, String> {
        let Some(storage) = &config.storage else {
            return Ok(Self::in_memory(config, shares, config.ack, None));
        };
        // Without a log to write, a folder is of interest only for what is in it.
        if config.ack != AckMode::Fsync && !storage.path.is_dir() {
            return Ok(Self::in_memory(config, shares, config.ack, None));
        }
        match find(config, storage, shares) {
            Ok(found) => Self::on_disk(config, shares, found),
            Err(Trouble::InUse(what)) => Err(what),
            Err(Trouble::Unusable(what)) => {
                let path = storage.path.display();
                let what = format!(
                    "the log in {path} cannot be used, and nothing in it was touched: {what}; running with \
                     --ack upstream until this is mended and the process started again"
                );
                tracing::error!("{what}");
                let ack = AckMode::Upstream;
                Ok(Self::in_memory(config, shares, ack, Some(what)))
            }
        }
    }

    pub(super) fn handles(&self) -> Handles {
        let resumes = self.resumes.iter().flatten();
        Handles {
            disk: self.disk.clone(),
            folder: self.folder.clone(),
            journals: resumes.map(|resume| Arc::clone(&resume.journal)).collect(),
        }
    }

    fn in_memory(config: &Config, shares: &Shares, ack: AckMode, trouble: Option<String>) -> Self {
        let log = memory_log((Seq(1), Counts::default()), config, shares);
        Self {
            front: Front::Memory(Arc::clone(&log)),
            log,
            disk: None,
            folder: None,
            repeats: None,
            resumes: config.queues.iter().map(|_| None).collect(),
            ack,
            trouble,
        }
    }

    fn on_disk(config: &Config, shares: &Shares, found: Found) -> Result<Self, String> {
        let Found {
            folder,
            disk,
            opened,
            journals,
        } = found;
        let pending = |journal: &file::Opened| {
            let known = journal.recovered.as_ref();
            known.is_none_or(|recovered| recovered.cursor < opened.end)
        };
        let backlog = opened.records > 0 && journals.iter().any(pending);
        let path = config
            .storage
            .as_ref()
            .map(|storage| storage.path.as_path());
        say_what_was_found(path, &opened, &journals);
        warn_of_queues_that_left(&*folder, config, opened.totals);
        if config.ack != AckMode::Fsync && !backlog {
            disk.close();
            folder.unlock();
            return Ok(Self::in_memory(config, shares, config.ack, None));
        }
        let (front, log): (_, Arc<dyn Log>) = if config.ack == AckMode::Fsync {
            (Front::Disk(Arc::clone(&disk)), Arc::clone(&disk) as _)
        } else {
            let memory = memory_log(disk.end(), config, shares);
            let chain = Chain::new(Arc::clone(&disk), Arc::clone(&memory));
            (Front::Memory(memory), Arc::new(chain))
        };
        // Names that cannot be listed now were listed a moment ago.
        let names = folder.list().unwrap_or_default();
        let any_journal = names.iter().any(|name| file::queue_of(name).is_some());
        let resumes: Vec<_> = config
            .queues
            .iter()
            .zip(journals)
            .map(|(queue, journal)| {
                // A queue that is new begins at the end. If no queue has a journal, it is the journals that are
                // gone: then what is there is sent, perhaps a second time.
                let lost = !any_journal || !journal.set_aside.is_empty();
                let begin = || beginning(&disk, lost, opened.first);
                let recovered = journal.recovered.unwrap_or_else(begin);
                resume(&disk, &queue.name, journal.past, recovered, opened.end)
            })
            .collect::<Result<_, _>>()?;
        let kept: Vec<_> = resumes
            .iter()
            .map(|resume| Arc::clone(&resume.journal))
            .collect();
        let repeats = (config.ack == AckMode::Fsync)
            .then(|| Arc::new(Repeats::new(&disk, opened.end, Instant::now())));
        let (held, asked) = (Arc::downgrade(&disk), repeats.clone());
        disk.before_delete(Box::new(move || {
            // Bodies that may come again are compared with what is there, as long as nobody wants its room: neither
            // the log nor the disk.
            let roomy = || {
                held.upgrade()
                    .is_some_and(|log| log.occupancy().is_half_empty() && log.is_writable())
            };
            let wanted = asked
                .as_ref()
                .is_some_and(|repeats| repeats.is_asked(Instant::now()));
            !(wanted && roomy()) && kept.iter().all(|journal| journal.sync_now())
        }));
        Ok(Self {
            front,
            log,
            repeats,
            folder: Some(folder),
            disk: Some(disk),
            resumes: resumes.into_iter().map(Some).collect(),
            ack: config.ack,
            trouble: None,
        })
    }
}

/// Why a folder is not used.
enum Trouble {
    InUse(String),
    Unusable(String),
}

fn find(config: &Config, storage: &StorageConfig, shares: &Shares) -> Result<Found, Trouble> {
    let unusable = |error: &dyn std::fmt::Display| Trouble::Unusable(error.to_string());
    let fs = OsFs::open(&storage.path, storage.lock_wait).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => Trouble::InUse(error.to_string()),
        _ => unusable(&error),
    })?;
    let folder = Arc::new(fs);
    let fs = Arc::clone(&folder) as Arc<dyn Fs>;
    disk::check_format(&*fs).map_err(|error| unusable(&error))?;
    let mut journals = Vec::new();
    let mut floor = Floor {
        next: Seq(1),
        ..Floor::default()
    };
    for queue in &config.queues {
        let journal = file::open(&*fs, &queue.name).map_err(|error| unusable(&error))?;
        if let Some(recovered) = &journal.recovered {
            // Totals are known for the first record that the queue had not come to, and are no less later.
            floor.raise(recovered.highest(), recovered.entered_totals);
        }
        journals.push(journal);
    }
    let max_bytes = match storage.max_bytes {
        Some(given) => given.0,
        None => {
            let free = fs.free_bytes().map_err(|error| unusable(&error))?;
            let held = disk::held_bytes(&*fs).map_err(|error| unusable(&error))?;
            disk::default_max_bytes(free, held)
        }
    };
    let options = DiskOptions {
        max_bytes,
        on_full: match storage.on_full {
            config::OnFull::Backpressure => disk::OnFull::Backpressure,
            config::OnFull::DropOldest => disk::OnFull::DropOldest,
        },
        max_age: storage.max_age,
        handoff_limit: shares.handoff as usize,
        required: config.queues.iter().map(|queue| queue.required).collect(),
        now_ms: wall_ms(),
        probe: config.ack == AckMode::Fsync,
    };
    let (disk, opened) = DiskLog::open(fs, options, floor).map_err(|error| unusable(&error))?;
    Ok(Found {
        folder,
        disk,
        opened,
        journals,
    })
}

fn memory_log(behind: (Seq, Counts), config: &Config, shares: &Shares) -> Arc<MemoryLog> {
    let required: Vec<bool> = config.queues.iter().map(|queue| queue.required).collect();
    MemoryLog::behind(behind, shares.log, shares.handoff as usize, &required)
}

/// Where a queue without a journal begins.
fn beginning(disk: &DiskLog, lost: bool, first: Seq) -> Recovered {
    let (end, totals) = disk.end();
    let checkpoint = if lost {
        Checkpoint::beginning(first, disk.totals_before(first))
    } else {
        Checkpoint::beginning(end, totals)
    };
    Recovered::from(checkpoint)
}

/// Begins a new file of a queue's journal, which says what the last one said.
fn resume(
    disk: &DiskLog,
    queue: &str,
    past: file::Past,
    recovered: Recovered,
    log_end: Seq,
) -> Result<Resume, String> {
    let reserve = disk.reserve_file();
    let on_full = Arc::new(move || reserve.give_up().is_ok());
    let checkpoint = recovered.clone().into_checkpoint();
    let started = JournalWriter::start(disk.folder(), queue, past, checkpoint, on_full);
    let journal =
        started.map_err(|error| format!("the journal of {queue} gets no thread: {error}"))?;
    if !journal.sync_now() {
        tracing::warn!(
            queue,
            "the settle journal cannot be written yet; it is tried again"
        );
    }
    Ok(Resume {
        journal: Arc::new(journal),
        recovered,
        log_end,
    })
}

/// A queue that left the configuration holds nothing any more: what it had not sent goes with the segments.
fn warn_of_queues_that_left(folder: &dyn Fs, config: &Config, totals: Counts) {
    let known: Vec<_> = config
        .queues
        .iter()
        .map(|queue| queue.name.as_str())
        .collect();
    // What cannot be listed has shown when the log was opened.
    for (queue, said) in file::of_others(folder, &known).unwrap_or_default() {
        let pending = said.map(|said| said.pending(totals).total());
        if pending != Some(0) {
            tracing::warn!(
                queue,
                pending,
                "a queue of this name was here before, and is not in the configuration: what it had not sent is \
                 given up as its segments go; with its name in the configuration again it would be sent"
            );
        }
    }
}

fn say_what_was_found(path: Option<&Path>, opened: &Opened, journals: &[file::Opened]) {
    let path = path.unwrap_or_else(|| Path::new("")).display();
    let (records, bytes) = (opened.records, opened.bytes);
    tracing::info!(%path, records, bytes, "log on disk");
    let parts = opened.damage.kinds();
    for (part, found) in parts.into_iter().filter(|(_, found)| *found > 0) {
        // A write that a crash cut off was never acknowledged.
        if part == "torn_tail" {
            let bytes = opened.torn_tail_bytes;
            tracing::info!(%path, bytes, "the end of a segment was cut off by a crash");
        } else {
            tracing::error!(%path, part, found, "damage in the log");
        }
    }
    for (name, what) in journals.iter().flat_map(|journal| &journal.set_aside) {
        tracing::error!(%path, name, what, "a settle journal was damaged, and is set aside");
    }
}

/// How often the state of the disk is looked at.
pub(super) const WATCH_TICK: Duration = Duration::from_secs(1);

/// Tells people when the disk stops taking records, and when it takes them again.
pub(super) struct Watch {
    disk: Arc<DiskLog>,
    unwritable: bool,
    advised: bool,
}

impl Watch {
    pub(super) fn new(disk: Arc<DiskLog>) -> Self {
        Self {
            disk,
            unwritable: false,
            advised: false,
        }
    }

    pub(super) fn look(&mut self) {
        let health = self.disk.health();
        let unwritable = health.unwritable_since.is_some();
        if unwritable != self.unwritable {
            self.unwritable = unwritable;
            let error = health.last_error.clone().unwrap_or_default();
            if unwritable {
                tracing::error!(
                    error,
                    "the log cannot be written: senders get 503 until it can"
                );
            } else {
                tracing::info!("the log can be written again");
            }
        }
        let advice = health.probe.as_ref().and_then(Probe::advice);
        if let Some(advice) = advice.filter(|_| !self.advised) {
            self.advised = true;
            tracing::warn!("{advice}");
        }
    }
}
