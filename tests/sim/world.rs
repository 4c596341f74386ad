//! A log, its queues, senders and receivers, and everything that may happen to them in any order.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sluicegate::ingest::attach::{Attachments, Awaited, BodyId, ORPHAN_FOR, Waiting};
use sluicegate::log::ack::Ack;
use sluicegate::log::memory::{MemoryLog, Reservation};
use sluicegate::log::{Log, NewRecord, Readers, Seq};
use sluicegate::model::runs::RunSet;
use sluicegate::queue::split::Refuses;
use sluicegate::queue::state::QueueState;
use sluicegate::wire;
use sluicegate::wire::compression::Encoding;
use sluicegate::wire::decoded::{Decoded, IdentityKey};
use tokio::time::Instant;

use super::data::{Request, Source, WALK};
use super::disk::Disk;
use super::oracle::{Admitted, ids_of};
use super::queue::{Answer, Queue, Woken, locked};
use super::setup::{self, Setup};

/// A sender that waits for its answer, or that will come again.
struct Sender {
    waiting: Option<Waiting>,
    seq: Seq,
    id: BodyId,
}

/// What was seen over a run: a simulation that exercises nothing proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) elements: u64,
    pub(crate) batches: u64,
    pub(crate) parked: u64,
    pub(crate) laggard: u64,
    pub(crate) rewinds: u64,
    pub(crate) retries: u64,
    pub(crate) withdrawn: u64,
    pub(crate) taken_over: u64,
    pub(crate) evicted: u64,
    pub(crate) keys: u64,
    pub(crate) healing: u64,
    pub(crate) restarts: u64,
    pub(crate) replayed: u64,
    pub(crate) wholes: u64,
    pub(crate) splits: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.elements += other.elements;
        self.batches += other.batches;
        self.parked += other.parked;
        self.laggard += other.laggard;
        self.rewinds += other.rewinds;
        self.retries += other.retries;
        self.withdrawn += other.withdrawn;
        self.taken_over += other.taken_over;
        self.evicted += other.evicted;
        self.keys = self.keys.max(other.keys);
        self.healing += other.healing;
        self.restarts += other.restarts;
        self.replayed += other.replayed;
        self.wholes += other.wholes;
        self.splits += other.splits;
    }
}

/// Elements beyond which nothing more comes in: a longer backlog shows nothing new.
const BACKLOG: u64 = 2000;

/// Elements of which strict receivers dislike one.
const BAD: u64 = 61;

pub(crate) struct World {
    rng: fastrand::Rng,
    source: Source,
    setup: Setup,
    key: IdentityKey,
    log: Arc<MemoryLog>,
    /// The log and the journals outlive the process.
    disk: Option<Arc<Disk>>,
    queues: Vec<Queue>,
    readers: Everyone,
    attachments: Arc<Attachments>,
    senders: Vec<Sender>,
    admitted: Arc<Mutex<Admitted>>,
    /// The queue's own audit is asked too.
    audits: bool,
    /// How likely receivers are to answer well, in percent.
    health: u8,
    /// Receivers refuse whole requests for some of their elements.
    refuses: bool,
    /// They dislike one element in [`BAD`], whenever it comes.
    strict: bool,
    seen: Seen,
}

/// A queue, to be told something.
struct Told {
    state: Arc<Mutex<QueueState>>,
    wake: Arc<Mutex<Woken>>,
}

/// Tells every queue, as ingest does.
struct Everyone {
    queues: Vec<Told>,
    log: Arc<MemoryLog>,
    admitted: Arc<Mutex<Admitted>>,
}

impl Everyone {
    fn each(&self, tell: impl Fn(&mut QueueState)) {
        for queue in &self.queues {
            tell(&mut locked(&queue.state));
            locked(&queue.wake).both();
        }
    }
}

impl Readers for Everyone {
    fn withdraw(&self, seq: Seq) {
        locked(&self.admitted).withdraw(seq);
        self.each(|state| state.withdraw(seq));
    }

    fn take_over(&self, seq: Seq) {
        self.each(|state| state.take_over(seq));
    }

    fn expire(&self, seq: Seq) {
        locked(&self.admitted).expire(seq);
        self.each(|state| state.expire(seq, &*self.log));
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let setup = Setup::new(&mut rng);
        let source = Source::new(&mut rng, setup.many_keys);
        let key = IdentityKey::fixed(seed);
        let required: Vec<_> = setup.queues.iter().map(|queue| queue.required).collect();
        let log = MemoryLog::new(setup.log_limit, setup.handoff_limit, &required);
        let disk = setup
            .durable
            .then(|| Arc::new(Disk::new(Arc::clone(&log), required.len())));
        let queue =
            |options: &_| Queue::new(Clone::clone(options), key.clone(), &log, disk.as_deref());
        let mut queues: Vec<_> = setup.queues.iter().map(queue).collect();
        for queue in &mut queues {
            queue.unreadable = setup.unreadable.then_some(10);
        }
        let admitted = Arc::<Mutex<Admitted>>::default();
        let tell = queues.iter().map(|queue| Told {
            state: Arc::clone(&queue.state),
            wake: Arc::clone(&queue.wake),
        });
        Self {
            readers: Everyone {
                queues: tell.collect(),
                log: Arc::clone(&log),
                admitted: Arc::clone(&admitted),
            },
            health: rng.choice([0, 50, 90, 99]).unwrap_or(50),
            rng,
            source,
            setup,
            key,
            log,
            disk,
            queues,
            attachments: Arc::default(),
            senders: Vec::new(),
            admitted,
            audits: true,
            refuses: true,
            strict: seed.is_multiple_of(3),
            seen: Seen::default(),
        }
    }

    /// With receivers as they were when some seeds were found: nothing they answer makes halves of a batch.
    pub(crate) fn without_refusals(seed: u64) -> Self {
        Self {
            refuses: false,
            strict: false,
            ..Self::new(seed)
        }
    }

    /// Without the queue's own audit: only what a receiver sees, and the books.
    #[cfg(feature = "mutants")]
    pub(crate) fn from_outside(seed: u64) -> Self {
        Self {
            audits: false,
            ..Self::new(seed)
        }
    }

    /// Everything at random, then everything healed.
    pub(crate) async fn run(mut self) -> Result<Seen, String> {
        for step in 0..self.setup.steps {
            let done = self.step().await.and_then(|acted| {
                // Where nothing happened there is nothing to check.
                if acted { self.check() } else { Ok(()) }
            });
            done.map_err(|what| format!("step {step}: {what}"))?;
        }
        self.heal().await?;
        self.finish()?;
        Ok(self.seen)
    }

    /// Something that may happen at any time. `false`: nothing did.
    async fn step(&mut self) -> Result<bool, String> {
        let at = self.rng.usize(..self.queues.len());
        match self.rng.u8(..100) {
            0..15 => self.send(),
            15..50 => {
                let admitted = &mut locked(&self.admitted);
                let log = log_of(self.disk.as_ref(), &self.log);
                return Ok(self.queues[at].read(log, admitted, &mut self.rng));
            }
            50..70 => {
                let hang = if self.rng.u8(..100) < self.setup.hangs {
                    60_000
                } else {
                    self.rng.u64(..200)
                };
                let admitted = &locked(&self.admitted);
                return self.queues[at].dispatch(admitted, Duration::from_millis(hang));
            }
            70..88 => return Ok(self.answer(at)),
            88..94 => {
                let ms = self.rng.choice([1, 40, 700, 6000]).unwrap_or(1);
                tokio::time::advance(Duration::from_millis(ms)).await;
            }
            94..97 if self.setup.upstream => self.answer_sender()?,
            94..96 if self.setup.durable => self.touch_disk(),
            94..97 => self.health = self.rng.choice([0, 50, 99, 99]).unwrap_or(50),
            97 | 98 if !self.setup.changes => self.send(),
            97 => {
                let shards = self.rng.choice([0, 1, 100]).unwrap_or(1);
                self.queues[at].lock().pin_shards(shards);
                self.queues[at].wake().both();
            }
            98 => {
                let rules = setup::rules(&mut self.rng);
                self.queues[at].lock().rewind(rules);
                self.queues[at].wake().both();
            }
            _ => self.seldom(at).await,
        }
        Ok(true)
    }

    /// Entries become safe, or the process dies.
    fn touch_disk(&mut self) {
        let Some(disk) = &self.disk else { return };
        if self.rng.u8(..4) > 0 {
            return disk.sync();
        }
        self.seen.restarts += 1;
        let admitted = locked(&self.admitted);
        for queue in &mut self.queues {
            let mut options = queue.options.clone();
            queue.oracle.regrouped |= self.setup.changes;
            if self.setup.changes && self.rng.bool() {
                options.rules = setup::rules(&mut self.rng);
            }
            if self.setup.modes {
                options.passthrough = self.rng.bool();
            }
            queue.restart(options, disk, &admitted, &mut self.rng);
        }
    }

    async fn seldom(&mut self, at: usize) {
        match self.rng.u8(..8) {
            0 => {
                self.queues[at].lock().drain();
                self.queues[at].wake().both();
            }
            1..4 => {
                tokio::time::advance(ORPHAN_FOR / 2).await;
                self.attachments.expire(Instant::now(), &self.readers);
            }
            _ => self.health = self.rng.choice([0, 50, 99]).unwrap_or(50),
        }
    }

    /// A request comes in.
    fn send(&mut self) {
        if self.setup.upstream && self.rng.u8(..3) == 0 && self.come_again() {
            return;
        }
        if self.pending() > BACKLOG && !self.setup.many_keys {
            return;
        }
        let request = self.source.request(&mut self.rng);
        let bytes = request.message.len() as u64;
        // A sender that does not get room at once goes away again.
        let Some(room) = poll_once(self.log.reserve(
            bytes,
            &request.tenant,
            Duration::from_secs(5),
        )) else {
            return;
        };
        if self.rng.u8(..20) == 0 {
            return;
        }
        let room = room.expect("room is given, or waited for");
        let decoded = wire::walk(request.message.to_vec(), request.protocol, &WALK, &self.key);
        let decoded = Arc::new(decoded.expect("what was encoded is readable"));
        assert_eq!(decoded.admitted(), request.admitted());
        if decoded.admitted().is_zero() && decoded.metadata.is_empty() {
            return;
        }
        if !self.setup.upstream {
            self.append(&request, decoded, None, room);
            return;
        }
        let (protocol, tenant) = (request.protocol, &request.tenant);
        let id = BodyId::of(
            &request.message,
            protocol,
            Encoding::Snappy,
            tenant,
            &self.key,
        );
        // Requests with nothing but metadata may be the same.
        if self.attachments.attach(id, &self.readers).is_some() {
            assert!(decoded.admitted().is_zero(), "each element is new");
            return;
        }
        let required = self
            .setup
            .queues
            .iter()
            .filter(|queue| queue.required)
            .count();
        let awaited = || Awaited {
            ack: Arc::new(Ack::new(required)),
            admitted: decoded.admitted(),
            invalid: None,
        };
        let copy = Arc::clone(&decoded);
        let attachments = Arc::clone(&self.attachments);
        let (log, admitted) = (Arc::clone(&self.log), Arc::clone(&self.admitted));
        let append = move |ack| {
            append_to(&log, &admitted, &request, copy, Some(ack), room);
        };
        let (waiting, attached) = attachments.append(id, &self.readers, awaited(), append);
        assert_eq!(attached, None);
        let seq = waiting.awaited.ack.seq();
        self.senders.push(Sender {
            waiting: Some(waiting),
            seq,
            id,
        });
        if self.rng.u8(..4) == 0 {
            let twice = |_| panic!("a copy is stored twice");
            let (waiting, _) = attachments.append(id, &self.readers, awaited(), twice);
            self.senders.push(Sender {
                waiting: Some(waiting),
                seq,
                id,
            });
        }
    }

    fn append(
        &self,
        request: &Request,
        decoded: Arc<Decoded>,
        ack: Option<Arc<Ack>>,
        room: Reservation,
    ) {
        append_to(&self.log, &self.admitted, request, decoded, ack, room);
    }

    /// A sender that got no answer sends its request again.
    fn come_again(&mut self) -> bool {
        let away = self
            .senders
            .iter()
            .position(|sender| sender.waiting.is_none());
        let Some(place) = away else { return false };
        let Sender { id, seq, .. } = self.senders.swap_remove(place);
        // Its time may be over: then it would be a new request.
        if let Some((waiting, _)) = self.attachments.attach(id, &self.readers) {
            self.seen.taken_over += 1;
            assert_eq!(waiting.awaited.ack.seq(), seq);
            self.senders.push(Sender {
                waiting: Some(waiting),
                seq,
                id,
            });
        }
        true
    }

    /// A waiting sender is answered, told to come back, or hangs up.
    fn answer_sender(&mut self) -> Result<(), String> {
        if self.senders.is_empty() {
            return Ok(());
        }
        let place = self.rng.usize(..self.senders.len());
        let sender = &mut self.senders[place];
        let (seq, Some(waiting)) = (sender.seq, sender.waiting.take()) else {
            return Ok(());
        };
        if waiting.awaited.ack.outcome().waiting == 0 {
            waiting.answered();
            self.senders
                .retain(|other| other.seq != seq || other.waiting.is_some());
            let admitted = locked(&self.admitted);
            let mut required = self.queues.iter().filter(|queue| queue.options.required);
            let all = required.all(|queue| queue.oracle.has_settled(seq, &admitted, queue.sends()));
            return if all {
                Ok(())
            } else {
                Err(format!("record {} was acknowledged too early", seq.0))
            };
        }
        self.seen.withdrawn += 1;
        match self.rng.u8(..3) {
            0 => drop(waiting),
            _ => waiting.told_to_come_back(Instant::now(), &self.readers),
        }
        Ok(())
    }

    fn answer(&mut self, at: usize) -> bool {
        let (now, queue) = (Instant::now(), &mut self.queues[at]);
        let ready: Vec<_> = (0..queue.attempts.len())
            .filter(|n| queue.attempts[*n].until <= now)
            .collect();
        let Some(place) = self.rng.choice(ready) else {
            return false;
        };
        let answer = if self.rng.u8(..100) < self.health {
            Answer::Written
        } else {
            use Answer::{
                Asked, Conflict, Failed, Held, NotIn1_0, OtherProtocol, Partly, Refused, Written,
            };
            let all = [
                Failed,
                Failed,
                Failed,
                Asked,
                Held,
                Conflict,
                Partly,
                NotIn1_0,
                OtherProtocol,
                Written,
                Refused(Refuses::Whole),
                Refused(Refuses::Unclear),
                Refused(Refuses::Unread),
            ];
            let known = if self.refuses { &all } else { &all[..10] };
            self.rng.choice(known).copied().unwrap_or(Failed)
        };
        let batch = &queue.attempts[place].batch;
        let dislikes = self.strict && ids_of(batch).iter().any(|id| id.is_multiple_of(BAD));
        let answer = if answer == Answer::Written && dislikes {
            Answer::Refused(Refuses::Whole)
        } else {
            answer
        };
        let admitted = &locked(&self.admitted);
        let (disk, log) = (self.disk.as_deref(), log_of(self.disk.as_ref(), &self.log));
        queue.answer(place, answer, disk, (log, admitted, &mut self.rng));
        true
    }

    /// What must hold after every step.
    fn check(&mut self) -> Result<(), String> {
        let admitted = &locked(&self.admitted);
        for queue in &self.queues {
            let name = &queue.options.name;
            let state = queue.lock();
            let books = state.books(log_of(self.disk.as_ref(), &self.log));
            let error = books.conservation_error();
            if error != 0 {
                return Err(format!(
                    "{name}: sluicegate_conservation_error is {error}: {books:?}"
                ));
            }
            queue
                .oracle
                .compare(&books, admitted)
                .map_err(|what| format!("{name}: {what}"))?;
            if self.audits {
                state.audit().map_err(|what| format!("{name}: {what}"))?;
            }
            self.seen.keys = self.seen.keys.max(state.gauges().keys as u64);
        }
        let occupancy = self.log.occupancy();
        // What a record's skipped ordinals take is known only once it is walked.
        if occupancy.bytes > occupancy.limit + 1024 && occupancy.records > 1 {
            return Err(format!("the log holds too much: {occupancy:?}"));
        }
        Ok(())
    }

    /// All senders leave, all receivers are well: in a bounded number of steps nothing is pending.
    async fn heal(&mut self) -> Result<(), String> {
        self.senders.clear();
        tokio::time::advance(ORPHAN_FOR).await;
        self.attachments.expire(Instant::now(), &self.readers);
        self.check()?;
        let mut left = 2000 + 40 * self.pending();
        loop {
            self.seen.healing += 1;
            left = left
                .checked_sub(1)
                .ok_or_else(|| format!("not healed: {}", self.describe()))?;
            let mut progress = false;
            for queue in &mut self.queues {
                let admitted = &mut locked(&self.admitted);
                let log = log_of(self.disk.as_ref(), &self.log);
                progress |= queue.read(log, admitted, &mut self.rng);
                progress |= queue.dispatch(admitted, Duration::ZERO)?;
                if !queue.attempts.is_empty() {
                    let disk = self.disk.as_deref();
                    let log = log_of(self.disk.as_ref(), &self.log);
                    queue.answer(0, Answer::Written, disk, (log, admitted, &mut self.rng));
                    progress = true;
                }
            }
            // With many keys a check takes its time.
            let every = if self.setup.many_keys { 301 } else { 31 };
            if self.seen.healing.is_multiple_of(every) {
                self.check()
                    .map_err(|what| format!("while healing: {what}"))?;
            }
            if !progress && self.is_idle() {
                return self.check();
            }
            if !progress {
                let next = self.queues.iter().filter_map(Queue::wakes_at).min();
                let next = next.ok_or_else(|| format!("stuck: {}", self.describe()))?;
                let wait = next.saturating_duration_since(Instant::now());
                tokio::time::advance(wait.max(Duration::from_millis(1))).await;
            }
        }
    }

    /// Elements pending, over all queues.
    fn pending(&self) -> u64 {
        let pending = |queue: &Queue| {
            queue
                .lock()
                .books(log_of(self.disk.as_ref(), &self.log))
                .pending
                .total()
                .total()
        };
        self.queues.iter().map(pending).sum()
    }

    fn is_idle(&self) -> bool {
        self.queues.iter().all(|queue| {
            let state = queue.lock();
            // Metadata by itself, in a body that goes out whole, is not counted as pending.
            state.is_idle(log_of(self.disk.as_ref(), &self.log)) && state.gauges().records == 0
        })
    }

    fn describe(&self) -> String {
        let lines = self.queues.iter().map(|queue| {
            let state = queue.lock();
            format!(
                "{:?}\n{:?}",
                state.books(log_of(self.disk.as_ref(), &self.log)).pending,
                state.gauges()
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn finish(&mut self) -> Result<(), String> {
        let admitted = locked(&self.admitted);
        for queue in &self.queues {
            let (name, mut state) = (&queue.options.name, queue.lock());
            let books = state.books(log_of(self.disk.as_ref(), &self.log));
            let kept = (queue.options.required, queue.sends());
            queue
                .oracle
                .nothing_is_missing(&books, &admitted, kept)
                .map_err(|what| format!("{name}: {what}"))?;
            let gauges = state.gauges();
            let left = [
                gauges.busy,
                gauges.waiting,
                gauges.lanes,
                gauges.locked,
                gauges.parked,
                gauges.keys,
                gauges.records,
            ];
            if left != [0; 7] || queue.oracle.live() > 0 {
                return Err(format!("{name}: something is left: {gauges:?}"));
            }
            self.seen.replayed += queue.oracle.replayed;
            self.seen.wholes += queue.wholes;
            let work = state.work();
            self.seen.batches += work.batches_done;
            self.seen.parked += work.parked;
            self.seen.laggard += work.decoded_laggard;
            self.seen.rewinds += work.rewinds;
            self.seen.retries += work.retries;
            self.seen.splits += work.splits;
            self.seen.elements += books.received.total();
            self.seen.evicted += books.ledger.dropped
                [sluicegate::queue::ledger::DropReason::LogFull as usize]
                .total();
            state.rewind(queue.options.rules.clone());
            if state.gauges().series > 0 {
                return Err(format!("{name}: series are left that are no cache"));
            }
        }
        if let Some(disk) = &self.disk {
            disk.sync();
        }
        let occupancy = self.log.occupancy();
        if (occupancy.bytes, occupancy.records) != (0, 0) {
            return Err(format!("the log keeps {occupancy:?}"));
        }
        Ok(())
    }
}

/// The log as queues see it.
pub(crate) fn log_of<'l>(disk: Option<&'l Arc<Disk>>, log: &'l Arc<MemoryLog>) -> &'l dyn Log {
    match disk {
        Some(disk) => &**disk,
        None => &**log,
    }
}

pub(crate) fn append_to(
    log: &MemoryLog,
    admitted: &Mutex<Admitted>,
    request: &Request,
    decoded: Arc<Decoded>,
    ack: Option<Arc<Ack>>,
    room: Reservation,
) -> Seq {
    let record = NewRecord {
        arrival_ms: 0,
        encoding: Encoding::Snappy,
        tenant: Arc::clone(&request.tenant),
        skipped: skipped_of(&decoded),
        body: request.message.clone(),
        decoded,
        ack,
    };
    let record = log.append(record, room);
    locked(admitted).add(request, record.seq);
    record.seq
}

/// Ordinals of the series that are refused by themselves.
fn skipped_of(decoded: &Decoded) -> RunSet {
    let counts = decoded.counts();
    let mut next = [
        0,
        counts.samples as u32,
        (counts.samples + counts.histograms) as u32,
    ];
    let mut skipped = RunSet::default();
    for row in &decoded.series {
        let held = [
            row.counts.samples,
            row.counts.histograms,
            row.counts.exemplars,
        ];
        for (next, held) in next.iter_mut().zip(held) {
            if row.invalid.is_some() {
                skipped.insert(*next, *next + held);
            }
            *next += held;
        }
    }
    skipped
}

/// The result of a future that is ready at once; dropped if it is not.
pub(crate) fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}
