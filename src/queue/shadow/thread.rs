//! The thread that measures, and what the reader tells it.
//!
//! The reader never waits for it: it counts what comes, and while a stretch is open hands requests over through a
//! channel of a fixed length. Is that full, the stretch ends there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::measure::{Meter, measure};
use super::recut::{Base, Held, Stretch};
use super::{Bounds, Cut, Seen, ShadowTimes, Tallies, add, may_begin, rest_after};
use crate::clock::{Instant, cpu_of_thread};
use crate::log::{Fetched, Record, Seq};
use crate::queue::handle::{Queue, WalkOptions};
use crate::wire::compression::{Encoding, encode_snappy};
use crate::wire::decoded::Decoded;

/// Requests on their way to the thread. With bodies of a megabyte it is the bound of the stretch that ends it.
const CHANNEL: usize = 64;
/// How often the thread looks whether it is over.
const TICK: Duration = Duration::from_millis(100);
/// What was worked in less is rested for later: a sleep has its own cost.
const WORK_LEAST: Duration = Duration::from_millis(2);
/// A stretch whose data ends early ends this much after its window.
const LATE: Duration = Duration::from_secs(5);
/// The first stretch also ends when nothing has come for so long: somebody waits to see something.
const QUIET: Duration = Duration::from_secs(2);

/// How a queue is to be measured.
#[derive(Clone, Debug)]
pub struct ShadowOptions {
    /// How long, and how much of a core.
    pub times: ShadowTimes,
    /// What a stretch may hold.
    pub bounds: Bounds,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// No sample has come yet.
    #[default]
    Waiting,
    /// It goes on.
    Measuring,
    /// The time is over, and nothing is measured any more.
    Ready,
}

/// Everything that was found, of one moment.
#[derive(Clone, Debug, Default)]
pub struct ShadowFacts {
    /// How far it is.
    pub stage: Stage,
    /// Since the first sample; at most the length.
    pub passed: Duration,
    /// How long it is to take.
    pub length: Duration,
    /// What came in that time.
    pub seen: Seen,
    /// Stretches that were measured.
    pub stretches: u64,
    /// The longest of them, from its first arrival to its last.
    pub longest: Duration,
    /// A stretch ended because it was as large as it may be.
    pub cramped: bool,
    /// What they came to.
    pub tallies: Tallies,
    /// Time of a core that the measuring took.
    pub cpu: Duration,
    /// Most bytes it held at once.
    pub memory_peak: usize,
    /// Bytes it holds now.
    pub memory: usize,
    /// Elements of a request, as the queue is set.
    pub batch: u32,
    /// How long data was to be held.
    pub windows: Vec<Duration>,
    /// Share of a core that it keeps to.
    pub share: f64,
}

#[derive(Default)]
struct Found {
    facts: ShadowFacts,
    began: Option<Instant>,
    /// The last request that was counted: what is read a second time is not.
    last: Seq,
}

/// What both sides know.
struct Shared {
    found: Mutex<Found>,
    /// The thread wants requests.
    open: AtomicBool,
    /// The queue is gone.
    over: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request on its way to the thread.
struct Offer {
    record: Arc<Record>,
    body: Option<Bytes>,
    decoded: Option<Arc<Decoded>>,
}

/// The reader's side.
pub struct Shadow {
    shared: Arc<Shared>,
    sender: SyncSender<Offer>,
    /// For the thread, until it is started.
    parts: Mutex<Option<(Receiver<Offer>, ShadowOptions)>>,
    length: Duration,
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl Shadow {
    /// Ready to be started.
    pub fn new(options: ShadowOptions, batch: u32) -> Self {
        let (sender, receiver) = sync_channel(CHANNEL);
        let facts = ShadowFacts {
            length: options.times.length,
            windows: options.times.windows.clone(),
            share: options.times.share,
            batch,
            ..ShadowFacts::default()
        };
        let found = Found {
            facts,
            ..Found::default()
        };
        Self {
            length: options.times.length,
            shared: Arc::new(Shared {
                found: Mutex::new(found),
                open: AtomicBool::new(true),
                over: AtomicBool::new(false),
            }),
            sender,
            parts: Mutex::new(Some((receiver, options))),
        }
    }

    /// Starts the thread, once.
    pub fn start(&self, queue: Weak<Queue>, name: &str, base: Base, walk: WalkOptions) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((receiver, options)) = parts.take() else {
            return;
        };
        let thread = Thread {
            name: name.to_owned(),
            queue,
            base,
            walk,
            options,
            receiver,
            shared: Arc::clone(&self.shared),
        };
        let started = std::thread::Builder::new()
            .name("shadow".to_owned())
            .spawn(move || thread.run());
        if let Err(error) = started {
            self.shared.open.store(false, Ordering::Relaxed);
            tracing::warn!(queue = name, %error, "no thread for the shadow report: there will be none");
        }
    }

    /// The reader has come to a request.
    pub fn offer(&self, fetched: &Fetched) {
        let record = &fetched.record;
        {
            let mut found = self.shared.lock();
            if found.facts.stage == Stage::Ready || record.seq <= found.last {
                return;
            }
            found.last = record.seq;
            let elements = record.admitted.total();
            if found.began.is_none() {
                if elements == 0 {
                    return;
                }
                found.began = Some(Instant::now());
                found.facts.stage = Stage::Measuring;
            }
            let bytes = u64::from(record.body_len);
            found.facts.seen.add(record.protocol, elements, bytes);
        }
        if !self.shared.open.load(Ordering::Acquire) {
            return;
        }
        let offer = Offer {
            record: Arc::clone(record),
            body: fetched.body.clone(),
            decoded: match fetched.body {
                Some(_) => None,
                None => fetched.decoded.clone(),
            },
        };
        match self.sender.try_send(offer) {
            Ok(()) => {}
            // What came before is a row without a gap.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.shared.open.store(false, Ordering::Release);
            }
        }
    }

    /// What was found so far.
    pub fn facts(&self) -> ShadowFacts {
        let found = self.shared.lock();
        let mut facts = found.facts.clone();
        if facts.stage == Stage::Measuring {
            let passed = found.began.map_or(Duration::ZERO, |began| began.elapsed());
            facts.passed = passed.min(self.length);
        }
        facts
    }
}

struct Thread {
    name: String,
    queue: Weak<Queue>,
    base: Base,
    walk: WalkOptions,
    options: ShadowOptions,
    receiver: Receiver<Offer>,
    shared: Arc<Shared>,
}

impl Thread {
    fn run(self) {
        let mut window = self.options.times.first;
        let longest = self.options.times.windows.iter().max().copied();
        while !self.is_over() {
            let Some(stretch) = self.collect(window) else {
                break;
            };
            self.shared.open.store(false, Ordering::Release);
            let before = cpu_of_thread();
            if stretch.came().elements > 0 {
                window = longest.unwrap_or(window);
                self.measured(&stretch);
            }
            drop(stretch);
            self.shared.lock().facts.memory = 0;
            if !self.rest(cpu_of_thread().saturating_sub(before)) {
                break;
            }
            // What is still on its way was offered before the pause.
            while self.receiver.try_recv().is_ok() {}
            self.shared.open.store(true, Ordering::Release);
        }
        self.shared.open.store(false, Ordering::Release);
        let over = self.shared.over.load(Ordering::Relaxed);
        let mut found = self.shared.lock();
        found.facts.cpu = cpu_of_thread();
        if over || found.began.is_none() {
            return;
        }
        found.facts.stage = Stage::Ready;
        found.facts.passed = self.options.times.length;
        let (stretches, seen) = (found.facts.stretches, found.facts.seen.all());
        drop(found);
        let (queue, samples) = (&self.name, seen.elements);
        tracing::info!(
            queue,
            samples,
            stretches,
            "shadow report ready: sluicegate status"
        );
    }

    /// The time is up, or the queue is gone.
    fn is_over(&self) -> bool {
        let passed = self.shared.lock().began.map(|began| began.elapsed());
        self.shared.over.load(Ordering::Relaxed)
            || passed.is_some_and(|passed| passed >= self.options.times.length)
    }

    /// Requests in a row, as long as the window, the bounds and the whole allow. `None`: the queue is gone.
    fn collect(&self, window: Duration) -> Option<Stretch> {
        let (mut stretch, mut until) = (Stretch::default(), None);
        let (bounds, first) = (self.options.bounds, window == self.options.times.first);
        let mut last = Instant::now();
        loop {
            match self.receiver.recv_timeout(TICK) {
                Ok(offer) => {
                    last = Instant::now();
                    until.get_or_insert_with(|| Instant::now() + window + LATE.min(window));
                    if let Some(held) = held_of(offer) {
                        stretch.push(held);
                    }
                    self.hold(stretch.bytes());
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                // The row was broken off, and all before that is here.
                Err(RecvTimeoutError::Timeout) if !self.shared.open.load(Ordering::Acquire) => {
                    return Some(stretch);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let full =
                stretch.bytes() >= bounds.bytes || stretch.came().elements >= bounds.elements;
            if full {
                self.shared.lock().facts.cramped = true;
            }
            let quiet = first && stretch.came().elements > 0 && last.elapsed() >= QUIET;
            let late = quiet || until.is_some_and(|until| Instant::now() >= until);
            if full || late || stretch.span() >= window || self.is_over() {
                return Some(stretch);
            }
        }
    }

    fn measured(&self, stretch: &Stretch) {
        let times = &self.options.times;
        let cuts = Cut::of(stretch.span(), self.base.limits.batch, &times.windows);
        let metadata = |tenant: &Arc<crate::log::Tenant>| {
            let queue = self.queue.upgrade();
            queue.map_or_else(Default::default, |queue| queue.lock().metadata_of(tenant))
        };
        let mut meter = Pace {
            thread: self,
            rested_at: cpu_of_thread(),
        };
        let measured = measure(
            stretch, &cuts, &self.base, &self.walk, &metadata, &mut meter,
        );
        let mut found = self.shared.lock();
        match measured {
            Ok(Some(tallies)) => {
                found.facts.stretches += 1;
                found.facts.longest = found.facts.longest.max(stretch.span());
                add(&mut found.facts.tallies, &tallies);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(queue = self.name, %error, "a request could not be read for the shadow report");
            }
        }
    }

    /// Until another stretch may begin. `false`: there will be none.
    fn rest(&self, last: Duration) -> bool {
        loop {
            let spent = cpu_of_thread();
            let passed = {
                let mut found = self.shared.lock();
                found.facts.cpu = spent;
                found.began.map_or(Duration::ZERO, |began| began.elapsed())
            };
            if self.is_over() {
                return false;
            }
            if may_begin(spent, last, passed, self.options.times.share) {
                return true;
            }
            std::thread::sleep(TICK);
        }
    }

    fn hold(&self, bytes: usize) {
        let mut found = self.shared.lock();
        found.facts.cpu = cpu_of_thread();
        found.facts.memory = bytes;
        found.facts.memory_peak = found.facts.memory_peak.max(bytes);
    }
}

/// A request to be kept. Where the log gave it decoded only, it is compressed again: what it weighed when it
/// came is in its record.
fn held_of(offer: Offer) -> Option<Held> {
    let Offer {
        record,
        body,
        decoded,
    } = offer;
    let (body, encoding) = match (body, decoded) {
        (Some(body), _) => (body, record.encoding),
        (None, Some(decoded)) => {
            let mut encoder = snap::raw::Encoder::new();
            let mut scratch = Vec::new();
            let body = encode_snappy(&mut encoder, &decoded.body, &mut scratch);
            (Bytes::copy_from_slice(body), Encoding::Snappy)
        }
        (None, None) => return None,
    };
    Some(Held {
        record,
        body,
        encoding,
    })
}

/// Keeps the thread to its share of a core.
struct Pace<'t> {
    thread: &'t Thread,
    rested_at: Duration,
}

impl Meter for Pace<'_> {
    fn cpu(&mut self) -> Duration {
        cpu_of_thread()
    }

    fn rest(&mut self, bytes: usize) -> bool {
        let worked = cpu_of_thread().saturating_sub(self.rested_at);
        if worked >= WORK_LEAST {
            self.thread.hold(bytes);
            std::thread::sleep(rest_after(worked, self.thread.options.times.burst));
            self.rested_at = cpu_of_thread();
        }
        !self.thread.shared.over.load(Ordering::Relaxed)
    }
}
