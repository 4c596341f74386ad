//! How many shards a queue needs. Pure: observations in, number and reason out.
//!
//! Source: prometheus `storage/remote/queue_manager.go`, `calculateDesiredShards`. It differs in three
//! points. Prometheus guesses its backlog from timestamps, which explode when a sender replays old data; here
//! the pending elements are counted. Shrinking or growing costs nothing here, so no reshard is waited for. And
//! where senders wait for the receiver's answer, the backlog is theirs and nobody here can count it: what comes
//! in is then only what goes out, and the formula finds every number of shards right. So while all shards are
//! busy, there are as many as there are full batches to be sent (decision 0016).

use std::time::Duration;

use tokio::time::Instant;

/// Time between two looks.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Weight of the newest rate in the average.
const ALPHA: f64 = 0.2;
/// The number stays while the wish is within this share of it.
pub const TOLERANCE: f64 = 0.3;
/// Share of the backlog to be worked off each second, beside what comes in.
pub const CATCH_UP: f64 = 0.05;
/// Shards that are busy for this share of the time are all that there is: between two batches one is not.
const SATURATED: f64 = 0.8;
/// No shrinking while more than this behind.
pub const BEHIND: Duration = Duration::from_secs(10);

/// What was observed since the queue began; the sums only grow.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// Elements that came in.
    pub received: u64,
    /// Batched elements that have their verdict.
    pub settled: u64,
    /// Time that batches took from cut to verdict, retries and waits included.
    pub busy: Duration,
    /// Elements pending now.
    pub pending: u64,
    /// Age of the oldest of them.
    pub lag: Duration,
    /// Failed attempts.
    pub retries: u64,
    /// Full batches that could have been in flight, where senders wait for their answers; else 0. The most since
    /// the last look: senders that are answered together come together.
    pub batches_awaited: usize,
}

/// A decision with its sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Permits from now on.
    pub shards: usize,
    /// What the formula asks for, unrounded and unclamped; or what senders wait for, if that is more.
    pub desired: f64,
    /// Why the number is what it is.
    pub reason: Reason,
    /// The terms of the formula.
    pub sum: Sum,
}

/// The terms of the formula: `seconds_per_element × (data_in + CATCH_UP × pending)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// Elements that come in each second, averaged.
    pub data_in: f64,
    /// Elements that get their verdict each second, averaged.
    pub data_out: f64,
    /// Time that one element takes from cut to verdict, of all permits together; 0 when nothing was settled.
    pub seconds_per_element: f64,
    /// Elements pending.
    pub pending: u64,
}

/// Why a number of shards is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing was settled yet: there is no time per element to reckon with.
    NothingSent,
    /// The wish is within the tolerance.
    WithinTolerance,
    /// Fewer would do, but the queue is behind.
    CatchingUp,
    /// The receiver fails: more load would make it worse.
    ReceiverFailing,
    /// The wish, clamped, is what it is already.
    AtBound,
    /// It follows the wish.
    Followed,
    /// Senders wait for their answers, and all shards are busy: one for each full batch.
    SendersWait,
}

impl Reason {
    /// For logs and label values.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NothingSent => "nothing_sent",
            Self::WithinTolerance => "within_tolerance",
            Self::CatchingUp => "catching_up",
            Self::ReceiverFailing => "receiver_failing",
            Self::AtBound => "at_bound",
            Self::Followed => "followed",
            Self::SendersWait => "senders_wait",
        }
    }
}

/// A rate, averaged as Prometheus averages it.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    value: f64,
    started: bool,
}

impl Rate {
    fn tick(&mut self, events: f64, seconds: f64) -> f64 {
        let now = events / seconds;
        if self.started {
            self.value += ALPHA * (now - self.value);
        } else if events > 0.0 {
            (self.value, self.started) = (now, true);
        }
        self.value
    }
}

/// Keeps the averages between two looks.
#[derive(Debug)]
pub struct Autoscaler {
    last: Observed,
    at: Instant,
    data_in: Rate,
    data_out: Rate,
    out_duration: Rate,
}

impl Autoscaler {
    /// Begins at `now`.
    pub fn new(now: Instant) -> Self {
        let last = Observed {
            received: 0,
            settled: 0,
            busy: Duration::ZERO,
            pending: 0,
            lag: Duration::ZERO,
            retries: 0,
            batches_awaited: 0,
        };
        Self {
            last,
            at: now,
            data_in: Rate::default(),
            data_out: Rate::default(),
            out_duration: Rate::default(),
        }
    }

    /// Looks at what was observed, and decides between `min` and `max` permits.
    pub fn decide(
        &mut self,
        observed: Observed,
        current: usize,
        (min, max): (usize, usize),
        now: Instant,
    ) -> Decision {
        let seconds = (now - self.at).as_secs_f64().max(0.001);
        let last = std::mem::replace(&mut self.last, observed);
        self.at = now;
        let delta = |now: u64, before: u64| now.saturating_sub(before) as f64;
        let data_in = self
            .data_in
            .tick(delta(observed.received, last.received), seconds);
        let data_out = self
            .data_out
            .tick(delta(observed.settled, last.settled), seconds);
        let busy = observed.busy.saturating_sub(last.busy).as_secs_f64();
        let out_duration = self.out_duration.tick(busy, seconds);
        let mut sum = Sum {
            data_in,
            data_out,
            seconds_per_element: 0.0,
            pending: observed.pending,
        };
        if data_out <= 0.0 {
            let shards = current.clamp(min, max);
            return Decision {
                shards,
                desired: current as f64,
                reason: Reason::NothingSent,
                sum,
            };
        }
        sum.seconds_per_element = out_duration / data_out;
        let desired = sum.seconds_per_element * (data_in + CATCH_UP * observed.pending as f64);
        let formula = desired.ceil().max(0.0) as usize;
        let in_use = busy / seconds;
        let awaited = match observed.batches_awaited {
            0 => 0,
            batches if in_use >= SATURATED * current as f64 => batches,
            // The averages are of before there were so many.
            _ => in_use.ceil() as usize,
        };
        let wish = formula.max(awaited);
        let within = |share: f64| current as f64 * share;
        let reason =
            if within(1.0 - TOLERANCE) <= wish as f64 && wish as f64 <= within(1.0 + TOLERANCE) {
                Reason::WithinTolerance
            } else if wish < current && observed.lag > BEHIND {
                Reason::CatchingUp
            } else if wish > current && observed.retries > last.retries {
                Reason::ReceiverFailing
            } else if wish.clamp(min, max) == current {
                Reason::AtBound
            } else if awaited > formula {
                Reason::SendersWait
            } else {
                Reason::Followed
            };
        let follow = matches!(reason, Reason::Followed | Reason::SendersWait);
        let shards = if follow { wish } else { current }.clamp(min, max);
        Decision {
            shards,
            desired: desired.max(awaited as f64),
            reason,
            sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: (usize, usize) = (1, 50);

    /// Ten seconds at a rate in and out, each batch of 2000 taking 300 ms.
    fn ten_seconds(rate: u64, pending: u64, lag: u64) -> Observed {
        let settled = rate * 10;
        Observed {
            received: rate * 10,
            settled,
            busy: Duration::from_millis(settled / 2000 * 300),
            pending,
            lag: Duration::from_secs(lag),
            retries: 0,
            batches_awaited: 0,
        }
    }

    fn decide(observed: Observed, current: usize) -> Decision {
        let start = Instant::now();
        Autoscaler::new(start).decide(observed, current, BOUNDS, start + INTERVAL)
    }

    #[test]
    fn the_worked_examples_of_prometheus_come_out() {
        let steady = decide(ten_seconds(20_000, 0, 0), 1);
        assert_eq!((steady.shards, steady.reason), (3, Reason::Followed));
        assert!((steady.desired - 3.0).abs() < 0.01, "{}", steady.desired);
        let Sum {
            data_in,
            seconds_per_element,
            ..
        } = steady.sum;
        let sum = seconds_per_element * data_in;
        assert!(
            (steady.desired - sum).abs() < 1e-9,
            "the sum is what it says"
        );
        let behind = decide(ten_seconds(20_000, 1_200_000, 60), 1);
        assert_eq!(
            behind.shards, 12,
            "60 s behind: 0.15 ms x (20 000 + 0.05 x 1.2 M)"
        );
    }

    #[test]
    fn it_stays_within_the_tolerance_and_the_bounds() {
        for current in [3, 4] {
            let decision = decide(ten_seconds(20_000, 0, 0), current);
            assert_eq!(
                (decision.shards, decision.reason),
                (current, Reason::WithinTolerance)
            );
        }
        let flood = decide(ten_seconds(20_000, 100_000_000, 0), 50);
        assert_eq!((flood.shards, flood.reason), (50, Reason::AtBound));
    }

    #[test]
    fn it_does_not_shrink_while_behind_nor_grow_while_the_receiver_fails() {
        let behind = decide(ten_seconds(20_000, 0, 11), 20);
        assert_eq!((behind.shards, behind.reason), (20, Reason::CatchingUp));
        assert_eq!(decide(ten_seconds(20_000, 0, 10), 20).shards, 3);
        let failing = Observed {
            retries: 1,
            ..ten_seconds(20_000, 1_200_000, 60)
        };
        assert_eq!(decide(failing, 1).reason, Reason::ReceiverFailing);
    }

    #[test]
    fn while_senders_wait_for_busy_shards_there_is_one_for_each_full_batch() {
        // One shard, 2000 every 300 ms: it is all that can come in, and the formula is content with it.
        let throttled = ten_seconds(6_600, 0, 0);
        assert_eq!(decide(throttled, 1).reason, Reason::WithinTolerance);
        let waiting = |batches_awaited, current| {
            let observed = Observed {
                batches_awaited,
                ..throttled
            };
            decide(observed, current)
        };
        let grown = waiting(13, 1);
        assert_eq!((grown.shards, grown.reason), (13, Reason::SendersWait));
        assert!((grown.desired - 13.0).abs() < 1e-9);
        assert_eq!(waiting(70, 1).shards, 50, "within the bounds");
        assert_eq!(waiting(1, 1).shards, 1, "what is in flight is awaited too");
        // With shards to spare the formula knows better.
        assert_eq!(waiting(13, 2).reason, Reason::Followed);
        // The averages take a while to know what more shards have brought.
        let start = Instant::now();
        let mut autoscaler = Autoscaler::new(start);
        let first = Observed {
            batches_awaited: 20,
            ..throttled
        };
        let grown = autoscaler.decide(first, 1, BOUNDS, start + INTERVAL);
        assert_eq!(grown.shards, 20);
        let second = Observed {
            received: first.received + 2_000_000,
            settled: first.settled + 2_000_000,
            busy: first.busy + Duration::from_secs(100),
            ..first
        };
        let kept = autoscaler.decide(second, 20, BOUNDS, start + 2 * INTERVAL);
        assert_eq!((kept.shards, kept.reason), (10, Reason::SendersWait));
        let failing = Observed {
            batches_awaited: 13,
            retries: 1,
            ..throttled
        };
        assert_eq!(decide(failing, 1).reason, Reason::ReceiverFailing);
    }

    #[test]
    fn with_nothing_settled_it_stays() {
        let stuck = Observed {
            settled: 0,
            busy: Duration::ZERO,
            ..ten_seconds(20_000, 0, 0)
        };
        assert_eq!(decide(stuck, 7).reason, Reason::NothingSent);
    }
}
