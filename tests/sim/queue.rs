//! One queue as its reader and sender drive it, one step at a time, so that anything may happen between.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sluicegate::log::memory::MemoryLog;
use sluicegate::log::{Fetched, Log, Record, Seq};
use sluicegate::model::counts::{Counts, Kind};
use sluicegate::queue::batch::{Batch, Outcome, Whole};
use sluicegate::queue::convert::content_of;
use sluicegate::queue::dispatch::{Again, Concluded, Next};
use sluicegate::queue::journal::entry::Checkpoint;
use sluicegate::queue::journal::recover::Recovered;
use sluicegate::queue::ledger::DropReason;
use sluicegate::queue::split::{Halving, Refuses};
use sluicegate::queue::state::{QueueOptions, QueueState};
use sluicegate::queue::take::{Plan, Role};
use sluicegate::queue::whole::Offered;
use sluicegate::wire;
use sluicegate::wire::decoded::{Decoded, IdentityKey};
use tokio::time::Instant;

use super::data::WALK;
use super::disk::Disk;
use super::oracle::{Admitted, Oracle};

/// Where a reader is.
enum Reading {
    Plans,
    Planned(Plan, u64),
    Decodes {
        role: Role,
        slot: u32,
        fetched: Fetched,
        generation: u64,
    },
    /// Until something is settled, or until this record is there.
    Sleeps(Option<Seq>),
}

/// Where a dispatcher is.
#[derive(Clone, Copy)]
enum Dispatching {
    Asks,
    /// Until then, or until something changes.
    Sleeps(Option<Instant>),
}

/// A request on its way.
pub(crate) struct Attempt {
    pub(crate) batch: Arc<Batch>,
    /// It gets no answer before.
    pub(crate) until: Instant,
}

/// What a receiver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Written,
    Failed,
    Asked,
    Held,
    Conflict,
    Partly,
    NotIn1_0,
    OtherProtocol,
    /// Nothing of it was taken, as far as it is known.
    Refused(Refuses),
}

/// A queue with all around it.
pub(crate) struct Queue {
    pub(crate) state: Arc<Mutex<QueueState>>,
    pub(crate) options: QueueOptions,
    pub(crate) oracle: Oracle,
    pub(crate) attempts: Vec<Attempt>,
    reading: Reading,
    pub(crate) wake: Arc<Mutex<Woken>>,
    dispatching: Dispatching,
    /// A record that must be decoded again cannot be, once in so many.
    pub(crate) unreadable: Option<u8>,
    /// It keeps a journal.
    durable: bool,
    key: IdentityKey,
    /// Where bodies are.
    log: Arc<MemoryLog>,
    /// Bodies that went out whole.
    pub(crate) wholes: u64,
}

/// Who was told that something changed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Woken {
    reader: bool,
    dispatcher: bool,
}

impl Woken {
    pub(crate) fn both(&mut self) {
        *self = Self {
            reader: true,
            dispatcher: true,
        };
    }
}

impl Queue {
    /// A queue; one that keeps a journal, if `disk` is the log.
    pub(crate) fn new(
        options: QueueOptions,
        key: IdentityKey,
        log: &Arc<MemoryLog>,
        disk: Option<&Disk>,
    ) -> Self {
        let state = match disk {
            Some(disk) => {
                let (end, totals) = disk.end();
                let beginning = Recovered::from(Checkpoint::beginning(end, totals));
                let sink = disk.begin(options.index, end, totals);
                QueueState::restored(options.clone(), beginning, end, sink, disk)
            }
            None => QueueState::new(options.clone(), Seq(1), log.totals()),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            options,
            oracle: Oracle::default(),
            attempts: Vec::new(),
            reading: Reading::Plans,
            wake: Arc::default(),
            dispatching: Dispatching::Asks,
            unreadable: None,
            durable: disk.is_some(),
            key,
            log: Arc::clone(log),
            wholes: 0,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, QueueState> {
        locked(&self.state)
    }

    pub(crate) fn wake(&self) -> MutexGuard<'_, Woken> {
        locked(&self.wake)
    }

    pub(crate) fn sends(&self) -> impl Fn(Kind) -> bool + use<> {
        let (histograms, exemplars) = (self.options.send_histograms, self.options.send_exemplars);
        move |kind| match kind {
            Kind::Sample => true,
            Kind::Histogram => histograms,
            Kind::Exemplar => exemplars,
        }
    }

    /// One step of the reader, as `queue/reader.rs` takes it. `false`: it sleeps.
    pub(crate) fn read(
        &mut self,
        log: &dyn Log,
        admitted: &mut Admitted,
        rng: &mut fastrand::Rng,
    ) -> bool {
        let now = Instant::now();
        self.reading = match std::mem::replace(&mut self.reading, Reading::Plans) {
            Reading::Sleeps(on) => {
                let appended = on.is_some_and(|seq| is_ready(log.appended(seq)));
                if !std::mem::take(&mut self.wake().reader) && !appended {
                    self.reading = Reading::Sleeps(on);
                    return false;
                }
                Reading::Plans
            }
            Reading::Plans => {
                let mut state = self.lock();
                state.checkpoint_if_wanted(log);
                Reading::Planned(state.plan(now), state.generation())
            }
            Reading::Planned(plan, generation) => self.follow(plan, generation, log, now),
            Reading::Decodes {
                role,
                slot,
                fetched,
                generation,
            } => {
                self.take(role, slot, fetched, generation, (log, admitted, rng));
                Reading::Plans
            }
        };
        true
    }

    fn follow(&mut self, plan: Plan, generation: u64, log: &dyn Log, now: Instant) -> Reading {
        let (role, seq) = match plan {
            Plan::Wait => return Reading::Sleeps(None),
            Plan::Resume => {
                self.lock().resume(now, log);
                self.wake().dispatcher = true;
                return Reading::Plans;
            }
            Plan::Lead(seq) => (Role::Lead, seq),
            Plan::Laggard(seq) => (Role::Laggard, seq),
            Plan::Requeue(seq) => (Role::Requeue, seq),
            Plan::Replay(seq) => (Role::Replay, seq),
        };
        let fetched = log.fetch(self.options.index, seq);
        let fetched = match (role, fetched) {
            (Role::Lead, None) if self.lock().rest(log) => return Reading::Plans,
            (Role::Lead, None) => return Reading::Sleeps(Some(seq)),
            (Role::Lead, Some(fetched)) => fetched,
            (_, fetched) => {
                let Some(fetched) = fetched.filter(|fetched| fetched.record.seq == seq) else {
                    self.lock().gone(seq, DropReason::LogFull, now, log);
                    self.wake().dispatcher = true;
                    return Reading::Plans;
                };
                fetched
            }
        };
        let mut state = self.lock();
        if state.generation() != generation {
            return Reading::Plans;
        }
        let slot = match role {
            Role::Lead => state.enter(&fetched.record, log),
            Role::Laggard | Role::Requeue => state.slot_of(fetched.record.seq),
            Role::Replay => state.enter_replay(&fetched.record),
        };
        match slot {
            Some(slot) => Reading::Decodes {
                role,
                slot,
                fetched,
                generation,
            },
            None => Reading::Plans,
        }
    }

    fn take(
        &mut self,
        role: Role,
        slot: u32,
        fetched: Fetched,
        generation: u64,
        (log, admitted, rng): (&dyn Log, &mut Admitted, &mut fastrand::Rng),
    ) {
        let record = Arc::clone(&fetched.record);
        if self.options.passthrough {
            let mut state = self.lock();
            if state.generation() != generation || state.slot_of(record.seq) != Some(slot) {
                return;
            }
            let now = Instant::now();
            match state.offer_whole(role, slot, fetched.body.as_ref(), now) {
                Offered::Usual => {}
                Offered::Later => return,
                Offered::Taken => {
                    drop(state);
                    self.wake().dispatcher = true;
                    return;
                }
            }
        }
        let fails = self.unreadable.is_some_and(|once| rng.u8(..once) == 0);
        let Some(decoded) = fetched.decoded.or_else(|| {
            (!fails).then(|| {
                self.decode(
                    role,
                    &record,
                    &fetched.body.expect("memory is never damaged"),
                )
            })
        }) else {
            admitted.unreadable.insert(record.seq);
            let now = Instant::now();
            self.lock()
                .gone(record.seq, DropReason::Unreadable, now, log);
            self.wake().dispatcher = true;
            return;
        };
        let mut state = self.lock();
        if state.generation() != generation || state.slot_of(record.seq) != Some(slot) {
            return;
        }
        if state.is_withheld(slot) {
            return state.pass_by(record.seq);
        }
        state.take(role, slot, &decoded, Instant::now(), log);
        drop(state);
        self.wake().dispatcher = true;
    }

    fn decode(&self, role: Role, record: &Record, body: &[u8]) -> Arc<Decoded> {
        self.lock().decoded_again(role);
        let message = body.to_vec();
        Arc::new(
            wire::walk(message, record.protocol, &WALK, &self.key).expect("it was read before"),
        )
    }

    /// One step of the dispatcher, as `queue/sender.rs` takes it. `false`: it sleeps.
    pub(crate) fn dispatch(&mut self, admitted: &Admitted, hang: Duration) -> Result<bool, String> {
        let now = Instant::now();
        if let Dispatching::Sleeps(until) = self.dispatching {
            let over = until.is_some_and(|until| until <= now);
            if !std::mem::take(&mut self.wake().dispatcher) && !over {
                return Ok(false);
            }
        }
        let next = self.lock().next_send(now);
        match next {
            Next::Wait(until) => self.dispatching = Dispatching::Sleeps(until),
            Next::Send(batch, attempt) => {
                self.dispatching = Dispatching::Asks;
                if attempt == 0 && !self.oracle.is_live(batch.id) {
                    let seen = match &batch.whole {
                        None => None,
                        Some(whole) => match self.as_seen(&batch, whole) {
                            Some(seen) => Some(seen),
                            None => {
                                self.lose(&batch);
                                return Ok(true);
                            }
                        },
                    };
                    let batch = seen.as_ref().unwrap_or(&batch);
                    // A batch that was open before has its entry already.
                    let ticket = self.lock().open_ticket(batch.id).unwrap_or_default();
                    let ticket = self.durable.then_some(ticket);
                    let required = self.options.required;
                    self.oracle.cut(batch, ticket, required, admitted)?;
                } else if batch.whole.is_none() {
                    self.oracle.again(&batch, admitted)?;
                }
                self.wake().reader = true;
                self.attempts.push(Attempt {
                    batch,
                    until: now + hang,
                });
            }
        }
        Ok(true)
    }

    /// What a receiver sees of a body that goes out whole. `None`: the log has given it up.
    fn as_seen(&mut self, batch: &Batch, whole: &Whole) -> Option<Batch> {
        let body = whole.body.clone().or_else(|| {
            let fetched = self.log.fetch(self.options.index, whole.seq);
            let fetched = fetched.filter(|fetched| fetched.record.seq == whole.seq);
            fetched.and_then(|fetched| fetched.body)
        })?;
        self.wholes += 1;
        let decoded = wire::walk(body.to_vec(), whole.protocol, &WALK, &self.key);
        let (content, left_out) = content_of(&decoded.expect("it was read before"));
        assert!(
            left_out.is_zero(),
            "a body with invalid series goes the usual way"
        );
        Some(Batch {
            id: batch.id,
            key: batch.key,
            tenant: Arc::clone(&batch.tenant),
            series: Vec::new(),
            content,
            origins: Vec::new(),
            runs: batch.runs.clone(),
            counts: batch.counts,
            came_as_v2: batch.came_as_v2,
            maybe_stored: batch.maybe_stored,
            arrived: batch.arrived,
            cut: batch.cut,
            whole: None,
        })
    }

    /// A body cannot be sent, because it is not there any more.
    fn lose(&mut self, batch: &Batch) {
        let outcome = Outcome {
            dropped: vec![(DropReason::LogFull, batch.counts)],
            ..Outcome::default()
        };
        let now = Instant::now();
        let log = Arc::clone(&self.log);
        self.lock().settle(batch.id, outcome, now, &*log);
        self.wake().both();
    }

    /// Requests go out until nothing may.
    pub(crate) fn dispatch_all(&mut self, admitted: &Admitted) {
        self.wake().dispatcher = true;
        while self
            .dispatch(admitted, Duration::ZERO)
            .expect("a sound batch")
        {}
    }

    /// When the dispatcher wakes by itself.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        match self.dispatching {
            Dispatching::Asks => None,
            Dispatching::Sleeps(until) => until,
        }
    }

    /// An attempt gets its answer.
    pub(crate) fn answer(
        &mut self,
        place: usize,
        answer: Answer,
        disk: Option<&Disk>,
        (log, admitted, rng): (&dyn Log, &Admitted, &mut fastrand::Rng),
    ) {
        let now = Instant::now();
        let Attempt { batch, .. } = self.attempts.swap_remove(place);
        if let (Some(disk), Some(ticket)) = (disk, self.lock().open_ticket(batch.id)) {
            // Nothing goes out, so nothing is answered, before its entry is safe.
            disk.sync_to(self.options.index, ticket);
        }
        let counts = batch.counts;
        let mut outcome = Outcome::default();
        let again = match answer {
            Answer::Failed => Some(Again::Failed),
            Answer::Asked => Some(Again::Asked(Duration::from_millis(rng.u64(1..90_000)))),
            Answer::Held => Some(Again::Held),
            Answer::OtherProtocol => {
                self.lock().resent(batch.id);
                self.attempts.push(Attempt { batch, until: now });
                return;
            }
            Answer::Written => {
                outcome.delivered = counts;
                None
            }
            Answer::Conflict => {
                outcome.unconfirmed = counts;
                None
            }
            Answer::Partly => {
                for kind in Kind::ALL {
                    *outcome.delivered.slot(kind) = rng.u64(..=counts.get(kind));
                }
                outcome.dropped = vec![(DropReason::Rejected, counts - outcome.delivered)];
                outcome.refusal = Some("because".to_owned());
                None
            }
            Answer::Refused(refuses) => {
                let halving = self.lock().split(batch.id, refuses, now);
                if !matches!(halving, Halving::Ends(_)) {
                    self.wake().both();
                    return;
                }
                outcome.dropped = vec![(DropReason::Rejected, counts)];
                outcome.refusal = Some("because".to_owned());
                None
            }
            Answer::NotIn1_0 => {
                let custom = Counts::of(Kind::Histogram, self.oracle.custom(&batch, admitted));
                outcome.dropped = vec![(DropReason::Unrepresentable, custom)];
                outcome.delivered = counts - custom;
                None
            }
        };
        if let Some(again) = again {
            let wait = self.lock().again(batch.id, again, rng.f64(), now);
            assert!(
                wait > Duration::ZERO && wait <= Duration::from_secs(67),
                "{again:?}: {wait:?}"
            );
            self.wake().dispatcher = true;
            return;
        }
        let mut state = self.lock();
        let concluded = state.conclude(batch.id, outcome, now);
        let Some(Concluded { outcome, .. }) = concluded else {
            drop(state);
            self.oracle.part_settled(&batch);
            self.wake().both();
            return;
        };
        let done = disk.map(|disk| disk.written(self.options.index));
        if disk.is_some() && rng.bool() {
            // Its entry is on its way into the journal, and a checkpoint may come first.
            state.checkpoint_if_wanted(log);
        }
        state.finish(batch.id, now, log);
        state.checkpoint_if_wanted(log);
        drop(state);
        self.oracle.settled(batch.id, &outcome, done, admitted);
        self.wake().both();
    }

    /// The process is gone, and another goes on from what the disk has.
    pub(crate) fn restart(
        &mut self,
        options: QueueOptions,
        disk: &Disk,
        admitted: &Admitted,
        rng: &mut fastrand::Rng,
    ) {
        let (recovered, kept) = disk.crash(options.index, rng);
        self.oracle.crashed(kept, admitted);
        // A body may hold series of several separation keys: as batches it comes again in parts.
        self.oracle.regrouped |= self.options.passthrough != options.passthrough;
        let sink = disk.sink(options.index);
        let end = disk.end().0;
        *self.lock() = QueueState::restored(options.clone(), recovered, end, sink, disk);
        self.options = options;
        self.attempts.clear();
        (self.reading, self.dispatching) = (Reading::Plans, Dispatching::Asks);
        self.wake().both();
    }
}

/// A lock that a failed assertion elsewhere does not spoil.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls once, as a task that has just been woken does.
pub(crate) fn is_ready(future: impl Future) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    matches!(pin!(future).poll(&mut context), Poll::Ready(_))
}
