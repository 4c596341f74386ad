//! What the simulation and a reading of the code have found, each by itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluicegate::log::ack::Ack;
use sluicegate::log::memory::MemoryLog;
use sluicegate::log::{Log, QueueIndex, Seq};
use sluicegate::queue::grouping::{Grouping, LaneRules};
use sluicegate::queue::lanes::LaneLimits;
use sluicegate::queue::ledger::DropReason;
use sluicegate::queue::state::{MemoryShares, QueueOptions};
use sluicegate::wire;
use sluicegate::wire::decoded::IdentityKey;

use super::data::{WALK, plain};
use super::disk::Disk;
use super::oracle::Admitted;
use super::queue::{Answer, Queue, is_ready, locked};
use super::world::{append_to, log_of, poll_once};

/// One queue, driven by hand.
pub(crate) struct Stage {
    pub(crate) log: Arc<MemoryLog>,
    /// The log and a journal, where they outlive the process.
    disk: Option<Arc<Disk>>,
    pub(crate) queue: Queue,
    pub(crate) admitted: Mutex<Admitted>,
    pub(crate) rng: fastrand::Rng,
    next_id: u64,
    key: IdentityKey,
}

pub(crate) fn options() -> QueueOptions {
    QueueOptions {
        name: "queue".to_owned(),
        index: QueueIndex(0),
        required: true,
        rules: rules(Grouping::Target),
        limits: LaneLimits {
            queued: 100_000,
            lane: 4,
            batch: 2,
            batch_bytes: 1 << 20,
            deadline: Duration::from_secs(3600),
            window: Duration::ZERO,
        },
        eager: false,
        min_shards: 4,
        max_shards: 4,
        min_backoff: Duration::from_millis(30),
        max_backoff: Duration::from_secs(5),
        memory: MemoryShares {
            lanes: 1 << 20,
            table: 1 << 20,
            runs: 1 << 20,
            metadata: 1 << 20,
        },
        send_exemplars: true,
        send_histograms: true,
        passthrough: false,
    }
}

fn rules(grouping: Grouping) -> LaneRules {
    LaneRules {
        grouping,
        separate_by: Vec::new(),
        spread: Vec::new(),
    }
}

impl Stage {
    /// `others`: more queues of the log, which do nothing.
    pub(crate) fn new(options: QueueOptions, others: usize, log_limit: u64) -> Self {
        let mut required = vec![options.required];
        required.resize(1 + others, true);
        let log = MemoryLog::new(log_limit, 1 << 20, &required);
        let key = IdentityKey::fixed(0);
        Self {
            queue: Queue::new(options, key.clone(), &log, None),
            log,
            disk: None,
            admitted: Mutex::default(),
            rng: fastrand::Rng::with_seed(0),
            next_id: 0,
            key,
        }
    }

    /// Its log and journal outlive the process.
    pub(crate) fn durable(options: QueueOptions, log_limit: u64) -> Self {
        let stage = Self::new(options, 0, log_limit);
        let disk = Arc::new(Disk::new(Arc::clone(&stage.log), 1));
        let options = stage.queue.options.clone();
        Self {
            queue: Queue::new(options, stage.key.clone(), &stage.log, Some(&disk)),
            disk: Some(disk),
            ..stage
        }
    }

    /// The process dies, and another goes on.
    pub(crate) fn restart(&mut self) {
        let disk = self.disk.as_ref().expect("something outlives it");
        let options = self.queue.options.clone();
        let admitted = &locked(&self.admitted);
        self.queue.restart(options, disk, admitted, &mut self.rng);
    }

    pub(crate) fn append(&mut self, rows: &[(&str, usize, usize)]) -> Seq {
        self.append_awaited(rows, None)
    }

    /// A request whose sender waits for `ack`.
    pub(crate) fn append_awaited(
        &mut self,
        rows: &[(&str, usize, usize)],
        ack: Option<Arc<Ack>>,
    ) -> Seq {
        let request = plain(rows, &mut self.next_id);
        let bytes = request.message.len() as u64;
        let room = poll_once(self.log.reserve(bytes, &request.tenant, Duration::ZERO));
        let room = room.expect("there is room").expect("there is room");
        let message = request.message.to_vec();
        let decoded = wire::walk(message, request.protocol, &WALK, &self.key);
        let decoded = Arc::new(decoded.expect("a sound request"));
        append_to(&self.log, &self.admitted, &request, decoded, ack, room)
    }

    /// The reader reads until it sleeps.
    pub(crate) fn read(&mut self) {
        self.queue.wake().both();
        let admitted = &mut locked(&self.admitted);
        let log = log_of(self.disk.as_ref(), &self.log);
        for _ in 0..1000 {
            if !self.queue.read(log, admitted, &mut self.rng) {
                return;
            }
        }
        panic!("the reader never rests");
    }

    pub(crate) fn dispatch(&mut self) {
        self.queue.dispatch_all(&locked(&self.admitted));
    }

    /// The oldest attempt is answered.
    fn answer(&mut self) {
        self.answer_with(Answer::Written);
    }

    /// The oldest attempt is answered so.
    pub(crate) fn answer_with(&mut self, answer: Answer) {
        let log = log_of(self.disk.as_ref(), &self.log);
        let admitted = &locked(&self.admitted);
        let disk = self.disk.as_deref();
        self.queue
            .answer(0, answer, disk, (log, admitted, &mut self.rng));
    }

    /// Reads, sends and answers until nothing is left to do. Time stands still.
    fn run(&mut self) {
        for _ in 0..1000 {
            self.read();
            self.dispatch();
            if self.queue.attempts.is_empty() {
                return;
            }
            self.answer();
        }
        panic!("never done");
    }

    fn queued(&self) -> u64 {
        self.queue.lock().books(&*self.log).pending.queued.total()
    }

    fn untaken(&self) -> u64 {
        self.queue.lock().books(&*self.log).pending.untaken.total()
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.queue.lock().books(&*self.log).ledger.dropped[reason as usize].total()
    }

    pub(crate) fn assert_sound(&self) {
        assert_eq!(self.queue.lock().audit(), Ok(()));
        assert_eq!(self.queue.lock().books(&*self.log).conservation_error(), 0);
    }

    /// A lane in flight and full behind it, and a record left in the log for it, which is parked.
    fn parked() -> (Self, Seq) {
        let mut stage = Self::new(options(), 0, 1 << 20);
        stage.append(&[("a", 2, 0)]);
        stage.read();
        stage.dispatch();
        stage.append(&[("a", 4, 0)]);
        let left = stage.append(&[("a", 1, 0)]);
        stage.read();
        assert_eq!(stage.queue.lock().gauges().parked, 1);
        (stage, left)
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_into_which_nothing_came_does_not_stay() {
    let options = QueueOptions {
        send_exemplars: false,
        ..options()
    };
    let mut stage = Stage::new(options, 0, 1 << 20);
    stage.append(&[("a", 0, 3)]);
    stage.read();
    let gauges = stage.queue.lock().gauges();
    assert_eq!((gauges.lanes, gauges.keys, gauges.records), (0, 0, 0));
    assert_eq!(stage.dropped(DropReason::NotSent), 3);
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_record_withdrawn_again_before_it_is_read_again_holds_up_nobody() {
    let mut stage = Stage::new(options(), 0, 1 << 20);
    let first = stage.append(&[("a", 1, 0)]);
    stage.read();
    stage.queue.lock().withdraw(first);
    stage.queue.lock().take_over(first);
    stage.queue.lock().withdraw(first);
    stage.append(&[("b", 1, 0)]);
    stage.read();
    assert_eq!((stage.queued(), stage.untaken()), (1, 1));
    stage.queue.lock().take_over(first);
    stage.read();
    assert_eq!((stage.queued(), stage.untaken()), (2, 0));
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_record_settled_while_it_waits_to_be_read_again_holds_up_nobody() {
    let mut stage = Stage::new(options(), 1, 1 << 20);
    let first = stage.append(&[("a", 2, 0)]);
    stage.read();
    stage.dispatch();
    stage.queue.lock().withdraw(first);
    stage.queue.lock().take_over(first);
    stage.answer();
    stage.append(&[("b", 1, 0)]);
    stage.read();
    assert_eq!(stage.queued(), 1);
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_record_taken_over_comes_after_what_its_parked_lane_has_left_in_the_log() {
    let (mut stage, _) = Stage::parked();
    let again = stage.append(&[("a", 1, 0)]);
    stage.read();
    locked(&stage.admitted).withdraw(again);
    stage.queue.lock().withdraw(again);
    stage.queue.lock().take_over(again);
    // The lane is half empty now, and the record that is asked for first is not its oldest.
    stage.answer();
    stage.dispatch();
    stage.queue.lock().drain();
    stage.run();
    assert!(stage.queue.lock().is_idle(&*stage.log));
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn parked_lanes_are_served_while_the_lead_has_nothing_to_read() {
    let (mut stage, _) = Stage::parked();
    stage.queue.lock().drain();
    stage.run();
    assert!(stage.queue.lock().is_idle(&*stage.log));
    assert_eq!(stage.queue.lock().gauges().lanes, 0);
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_pass_for_lanes_far_apart_does_not_read_what_lies_between() {
    let mut stage = Stage::new(options(), 0, 1 << 20);
    for lane in ["a", "b", "c"] {
        stage.append(&[(lane, 2, 0)]);
    }
    stage.read();
    stage.dispatch();
    for lane in ["a", "b", "c"] {
        stage.append(&[(lane, 4, 0)]);
    }
    // What is left in the log of each is in one piece; that of "c", which gets no answer, stands in the middle.
    for (lane, records) in [("a", 6), ("c", 200), ("b", 6)] {
        for _ in 0..records {
            stage.append(&[(lane, 1, 0)]);
        }
    }
    stage.read();
    assert_eq!(stage.queue.lock().gauges().parked, 3);
    let before = stage.queue.lock().work().decoded_laggard;
    stage.answer();
    stage.answer();
    stage.dispatch();
    stage.read();
    let read = stage.queue.lock().work().decoded_laggard - before;
    assert!((4..20).contains(&read), "{read} records read for two lanes");
    stage.queue.lock().drain();
    stage.run();
    assert!(stage.queue.lock().is_idle(&*stage.log));
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_for_room_is_booked_when_the_lead_has_gone_back() {
    let options = QueueOptions {
        required: false,
        ..options()
    };
    for more_comes in [false, true] {
        let mut stage = Stage::new(options.clone(), 0, 2000);
        let first = stage.append(&[("a", 1, 0)]);
        stage.append(&[("b", 1, 0)]);
        stage.read();
        stage.queue.lock().rewind(rules(Grouping::Arrival));
        let tenant = sluicegate::log::Tenant::default();
        let room = poll_once(stage.log.reserve(1200, &tenant, Duration::ZERO));
        assert!(room.expect("made by giving up").is_ok());
        assert!(
            !is_ready(stage.log.appended(first)),
            "nothing to wake up for"
        );
        if more_comes {
            stage.append(&[("c", 1, 0)]);
        }
        stage.read();
        assert_eq!(stage.dropped(DropReason::LogFull), 2);
        assert_eq!(
            (stage.untaken(), stage.queued()),
            (0, u64::from(more_comes))
        );
        stage.assert_sound();
    }
}

#[tokio::test(start_paused = true)]
async fn room_that_came_free_is_room_again_while_anything_is_in_flight() {
    let mut options = options();
    (options.memory.runs, options.limits.lane) = (12 << 10, 1000);
    let mut stage = Stage::new(options, 0, 1 << 20);
    for _ in 0..200 {
        stage.append(&[("a", 2, 0)]);
    }
    stage.read();
    assert!(stage.queued() < 400, "run sets make the reader wait");
    stage.run();
    stage.append(&[("a", 2, 0)]);
    stage.read();
    stage.dispatch();
    // As many as it takes for the memory to be looked at again.
    for _ in 0..34 {
        stage.append(&[("b", 1, 0)]);
    }
    stage.read();
    assert_eq!((stage.queue.attempts.len(), stage.queued()), (1, 34));
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_full_does_not_wait_for_company() {
    let mut options = options();
    options.limits = LaneLimits {
        queued: 20,
        lane: 2000,
        batch: 1000,
        ..options.limits
    };
    let mut stage = Stage::new(options, 0, 1 << 20);
    stage.append(&[("a", 10, 0)]);
    stage.read();
    stage.dispatch();
    assert!(stage.queue.attempts.is_empty(), "there is time");
    stage.append(&[("b", 10, 0)]);
    stage.append(&[("c", 10, 0)]);
    stage.read();
    stage.dispatch();
    assert_eq!(stage.queue.attempts.len(), 1);
    assert_eq!(stage.queue.attempts[0].batch.counts.total(), 20);
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn large_records_fill_the_memory_one_by_one() {
    let mut options = options();
    options.memory.lanes = 60 << 10;
    options.limits = LaneLimits {
        lane: 100_000,
        batch: 10_000,
        ..options.limits
    };
    let mut stage = Stage::new(options, 0, 1 << 20);
    for _ in 0..10 {
        stage.append(&[("a", 1500, 0)]);
    }
    stage.read();
    assert_eq!(
        stage.queued(),
        1500,
        "48,000 bytes, and the slab would have to grow"
    );
    stage.queue.lock().drain();
    stage.run();
    assert!(stage.queue.lock().is_idle(&*stage.log));
    stage.assert_sound();
}
