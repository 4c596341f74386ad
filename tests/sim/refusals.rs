//! A receiver that refuses a whole request for some of its elements: what that costs the others.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sluicegate::log::ack::Ack;
use sluicegate::model::counts::{Counts, Kind};
use sluicegate::queue::lanes::LaneLimits;
use sluicegate::queue::ledger::DropReason;
use sluicegate::queue::split::Refuses;
use sluicegate::queue::state::QueueOptions;

use super::oracle::ids_of;
use super::queue::Answer;
use super::scenarios::{Stage, options};

/// Batches of up to a thousand elements, one shard.
fn stage() -> Stage {
    Stage::new(batches_of_a_thousand(), 0, 1 << 20)
}

fn batches_of_a_thousand() -> QueueOptions {
    QueueOptions {
        limits: LaneLimits {
            lane: 100_000,
            batch: 1000,
            deadline: Duration::ZERO,
            ..options().limits
        },
        min_shards: 1,
        max_shards: 1,
        ..options()
    }
}

/// What a receiver took, in its order, and how often it was asked.
#[derive(Default)]
struct Receiver {
    taken: Vec<u64>,
    requests: usize,
}

impl Receiver {
    /// Requests go out and are answered until none is left: refused where one of `bad` is in it.
    fn serve(&mut self, stage: &mut Stage, refuses: Refuses, bad: &BTreeSet<u64>) {
        let dislikes = |ids: &[u64]| ids.iter().any(|id| bad.contains(id));
        self.serve_as(stage, |ids| dislikes(ids).then_some(refuses));
    }

    fn serve_as(&mut self, stage: &mut Stage, judge: impl Fn(&[u64]) -> Option<Refuses>) {
        loop {
            stage.dispatch();
            let Some(attempt) = stage.queue.attempts.first() else {
                return;
            };
            self.requests += 1;
            let ids = ids_of(&attempt.batch);
            if let Some(refuses) = judge(&ids) {
                stage.answer_with(Answer::Refused(refuses));
            } else {
                self.taken.extend(ids);
                stage.answer_with(Answer::Written);
            }
            // A look at everything takes its time.
            if self.requests % 50 < 20 && self.requests < 1000 {
                stage.assert_sound();
            }
        }
    }
}

fn some(names: &[String], samples: usize) -> Vec<(&str, usize, usize)> {
    let rows = names.iter().map(|name| (name.as_str(), samples, 0));
    rows.collect()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{n:04}")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_bad_sample_costs_no_other_and_two_requests_for_each_halving() {
    for bad in [1, 500, 777, 1000] {
        let (mut stage, mut receiver) = (stage(), Receiver::default());
        stage.append(&some(&names(1000), 1));
        stage.read();
        receiver.serve(&mut stage, Refuses::Whole, &BTreeSet::from([bad]));
        receiver.taken.sort_unstable();
        let others: Vec<_> = (1..=1000).filter(|id| *id != bad).collect();
        assert_eq!(receiver.taken, others);
        assert_eq!(stage.dropped(DropReason::Rejected), 1);
        // ⌈log₂ 1000⌉ halvings, and the request that was refused at first.
        assert!(receiver.requests <= 1 + 2 * 10, "{}", receiver.requests);
        assert!(stage.queue.lock().is_idle(&*stage.log));
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_series_the_older_half_goes_first_and_only_what_is_refused_by_itself_is_dropped() {
    let (mut stage, mut receiver) = (stage(), Receiver::default());
    stage.append(&[("a", 9, 2)]);
    stage.read();
    receiver.serve(&mut stage, Refuses::Whole, &BTreeSet::from([1, 2, 6]));
    let samples: Vec<_> = receiver.taken.iter().filter(|id| **id <= 9).collect();
    assert_eq!(samples, [&3, &4, &5, &7, &8, &9]);
    assert_eq!(receiver.taken.len(), 8, "two exemplars too");
    assert_eq!(stage.dropped(DropReason::Rejected), 3);
}

#[tokio::test(start_paused = true)]
async fn only_the_sender_of_what_is_refused_is_told() {
    let (mut stage, mut receiver) = (stage(), Receiver::default());
    let acks: Vec<_> = (0..3).map(|_| Arc::new(Ack::new(1))).collect();
    for ack in &acks {
        stage.append_awaited(&some(&names(10), 1), Some(Arc::clone(ack)));
    }
    stage.read();
    stage.queue.lock().drain();
    receiver.serve(&mut stage, Refuses::Whole, &BTreeSet::from([15, 18]));
    assert!(receiver.requests > 3, "all were in one batch");
    let refused: Vec<_> = acks.iter().map(|ack| ack.outcome().refused).collect();
    let two = Counts::of(Kind::Sample, 2);
    assert_eq!(refused, [Counts::default(), two, Counts::default()]);
    assert!(acks.iter().all(|ack| ack.outcome().waiting == 0));
}

#[tokio::test(start_paused = true)]
async fn where_the_good_part_may_be_kept_eight_eighths_that_are_refused_are_enough() {
    let (mut stage, mut receiver) = (stage(), Receiver::default());
    stage.append(&some(&names(1000), 1));
    stage.read();
    let in_each_eighth = (1..=1000).step_by(100).collect();
    receiver.serve(&mut stage, Refuses::Unclear, &in_each_eighth);
    assert_eq!(receiver.requests, 15);
    assert_eq!(stage.dropped(DropReason::Rejected), 1000);
    assert!(stage.queue.lock().is_idle(&*stage.log));

    stage.append(&some(&names(1000), 1));
    stage.read();
    let in_one = BTreeSet::from([1007]);
    receiver.serve(&mut stage, Refuses::Unclear, &in_one);
    assert_eq!(stage.dropped(DropReason::Rejected), 1001);
    assert_eq!(receiver.taken.len(), 999);
}

#[tokio::test(start_paused = true)]
async fn of_few_series_the_older_samples_alone_say_nothing_of_the_newer() {
    for (names, samples, bad) in [(names(1), 1000, 1..=8), (names(2), 500, 1..=500)] {
        let (mut stage, mut receiver) = (stage(), Receiver::default());
        stage.append(&some(&names, samples));
        stage.read();
        let dropped = bad.clone().count() as u64;
        receiver.serve(&mut stage, Refuses::Unclear, &bad.collect());
        assert_eq!(stage.dropped(DropReason::Rejected), dropped);
        assert_eq!(receiver.taken.len() as u64, 1000 - dropped);
        assert!(receiver.taken.is_sorted());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_says_nothing_of_what_is_in_it() {
    let (mut stage, mut receiver) = (stage(), Receiver::default());
    stage.append(&some(&names(1000), 1));
    stage.read();
    receiver.serve_as(&mut stage, |ids| match ids {
        _ if ids.len() > 50 => Some(Refuses::Unread),
        _ => ids.contains(&999).then_some(Refuses::Unclear),
    });
    assert_eq!(stage.dropped(DropReason::Rejected), 1);
    assert_eq!(receiver.taken.len(), 999);
}

/// Parts of it are in the receiver then, which refuses what has several samples of a series as a repeat.
#[tokio::test(start_paused = true)]
async fn a_process_that_dies_between_two_parts_costs_no_good_sample() {
    for refuses in [Refuses::Whole, Refuses::Unclear] {
        let mut stage = Stage::durable(batches_of_a_thousand(), 1 << 20);
        stage.append(&some(&names(500), 2));
        stage.read();
        let (bad, taken) = (999, RefCell::new(BTreeSet::<u64>::new()));
        let judge = |ids: &[u64]| {
            let mut taken = taken.borrow_mut();
            // Of each series the second sample may come again, as the newest may to a Prometheus.
            let repeat = |id: &u64| taken.contains(id) && id % 2 == 1;
            if ids.contains(&bad) || ids.iter().any(repeat) {
                return Some(refuses);
            }
            taken.extend(ids);
            None
        };
        for _ in 0..12 {
            stage.dispatch();
            let refused = judge(&ids_of(&stage.queue.attempts[0].batch));
            stage.answer_with(refused.map_or(Answer::Written, Answer::Refused));
        }
        assert!(taken.borrow().len() > 500, "parts were taken");
        stage.restart();
        stage.read();
        Receiver::default().serve_as(&mut stage, judge);
        assert_eq!(taken.borrow().len(), 999, "{refuses:?}");
        assert!(stage.queue.lock().is_idle(&*stage.log));
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_minute_no_part_is_halved_and_each_is_asked_for_once() {
    let (mut stage, mut receiver) = (stage(), Receiver::default());
    stage.append(&some(&names(1000), 1));
    stage.read();
    stage.dispatch();
    stage.answer_with(Answer::Refused(Refuses::Whole));
    for _ in 0..14 {
        stage.dispatch();
        stage.answer_with(Answer::Refused(Refuses::Whole));
    }
    tokio::time::advance(Duration::from_secs(61)).await;
    // Sixteen parts are there, of 62 or 63 elements.
    receiver.serve(&mut stage, Refuses::Whole, &BTreeSet::from([1, 500]));
    assert_eq!(receiver.requests, 16);
    let dropped = stage.dropped(DropReason::Rejected);
    assert!((124..=126).contains(&dropped), "{dropped}");
    assert_eq!(receiver.taken.len() as u64, 1000 - dropped);
    stage.assert_sound();
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_dislikes_everything_is_asked_a_bounded_number_of_times() {
    let (mut stage, mut receiver) = (stage(), Receiver::default());
    for _ in 0..30 {
        stage.append(&some(&names(1000), 1));
        stage.read();
        receiver.serve(&mut stage, Refuses::Whole, &(1..=30_000).collect());
    }
    assert_eq!(stage.dropped(DropReason::Rejected), 30_000);
    // Twenty thousand refusals lead to two requests more each, and each batch is asked for once.
    assert_eq!(receiver.requests, 30 + 2 * 20_000);
}

#[tokio::test(start_paused = true)]
async fn between_the_parts_of_a_refused_batch_others_have_their_turn() {
    let mut stage = stage();
    stage.append(&some(&names(100), 1));
    stage.read();
    stage.dispatch();
    for _ in 0..2 {
        stage.append(&[("other", 1, 0)]);
    }
    stage.read();
    stage.answer_with(Answer::Refused(Refuses::Whole));
    let mut turns = Vec::new();
    for _ in 0..3 {
        stage.dispatch();
        let ids = ids_of(&stage.queue.attempts[0].batch);
        turns.push(ids.iter().all(|id| *id <= 100));
        stage.answer_with(Answer::Written);
    }
    assert_eq!(turns, [true, false, true]);
}
