//! When an endpoint may be sent to at all, whatever number of shards there is. Pure.
//!
//! The gate closes when the receiver asks for it (429, Retry-After) and when three different batches fail
//! with no success between. Once the time is over one batch is let through; its success opens the gate for
//! two requests at a time, then four, and so on, so that a receiver that comes back is not run over.

use std::time::Duration;

use tokio::time::Instant;

use super::batch::BatchId;

/// Different batches that fail in a row before the gate closes by itself.
const FAILURES: usize = 3;
/// Requests at a time from which the gate is open.
const RAMP_MAX: usize = 64;
/// A receiver's Retry-After is believed up to this long.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// What an endpoint's gate is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateState {
    /// Any number of requests.
    Open,
    /// This many requests at a time: the receiver has just come back.
    Ramp(usize),
    /// None until then; after that one.
    Closed(Instant),
    /// One, which is on its way.
    Probing,
}

/// The gate of one endpoint.
#[derive(Debug)]
pub struct Gate {
    state: GateState,
    failed: Vec<BatchId>,
    closed_for: Duration,
    backoff: (Duration, Duration),
}

impl Gate {
    /// An open gate that, closing by itself, stays closed between `min` and `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            state: GateState::Open,
            failed: Vec::new(),
            closed_for: min,
            backoff: (min, max),
        }
    }

    /// What it is doing.
    pub fn state(&self) -> GateState {
        self.state
    }

    /// May a request go out while `in_flight` are? If not now, from when; `None`: when one returns.
    pub fn admits(&self, in_flight: usize, now: Instant) -> Result<(), Option<Instant>> {
        match self.state {
            GateState::Closed(until) if now < until => Err(Some(until)),
            GateState::Ramp(limit) if in_flight >= limit => Err(None),
            GateState::Probing => Err(None),
            GateState::Open | GateState::Ramp(_) | GateState::Closed(_) => Ok(()),
        }
    }

    /// A request goes out.
    pub fn sent(&mut self, now: Instant) {
        if let GateState::Closed(until) = self.state
            && now >= until
        {
            self.state = GateState::Probing;
        }
    }

    /// The receiver took a request, or said clearly that it does not want this one.
    pub fn succeeded(&mut self) {
        self.failed.clear();
        self.closed_for = self.backoff.0;
        self.state = match self.state {
            GateState::Probing => GateState::Ramp(2),
            GateState::Ramp(RAMP_MAX..) => GateState::Open,
            // One more for each: twice as many with each round trip.
            GateState::Ramp(limit) => GateState::Ramp(limit + 1),
            // What was sent before the gate closed may still succeed: the receiver's word stands.
            other => other,
        };
    }

    /// A request that was let through turned out to have nothing for the receiver: it proves nothing.
    pub fn unused(&mut self, now: Instant) {
        if self.state == GateState::Probing {
            self.state = GateState::Closed(now);
        }
    }

    /// The receiver asks to be left alone for a while.
    pub fn asked_to_wait(&mut self, wait: Duration, now: Instant) {
        let until = now + wait.min(RETRY_AFTER_MAX);
        self.state = match self.state {
            GateState::Closed(already) => GateState::Closed(already.max(until)),
            _ => GateState::Closed(until),
        };
    }

    /// A request failed. `jitter` in 0..1 makes the wait up to a tenth longer, never shorter.
    pub fn failed(&mut self, batch: BatchId, jitter: f64, now: Instant) {
        let probing = self.state == GateState::Probing;
        if !self.failed.contains(&batch) {
            self.failed.push(batch);
        }
        if matches!(self.state, GateState::Closed(_)) || !probing && self.failed.len() < FAILURES {
            return;
        }
        self.failed.clear();
        self.state = GateState::Closed(now + self.closed_for.mul_f64(1.0 + 0.1 * jitter));
        self.closed_for = (self.closed_for * 2).min(self.backoff.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(30);

    fn gate() -> (Gate, Instant) {
        (Gate::new(MIN, Duration::from_secs(5)), Instant::now())
    }

    #[test]
    fn two_failures_or_failures_with_a_success_between_leave_it_open() {
        let (mut gate, now) = gate();
        for round in 0..10 {
            gate.failed(BatchId(2 * round), 0.0, now);
            gate.failed(BatchId(2 * round + 1), 0.0, now);
            gate.succeeded();
        }
        for _ in 0..10 {
            gate.failed(BatchId(1), 0.0, now);
        }
        assert_eq!(
            gate.state(),
            GateState::Open,
            "one bad batch is not a dead receiver"
        );
    }

    #[test]
    fn three_different_failures_close_it_and_a_probe_opens_it_step_by_step() {
        let (mut gate, now) = gate();
        (0..3).for_each(|id| gate.failed(BatchId(id), 0.0, now));
        assert_eq!(gate.admits(0, now), Err(Some(now + MIN)));
        let later = now + MIN;
        assert_eq!(gate.admits(0, later), Ok(()));
        gate.sent(later);
        assert_eq!(gate.admits(1, later), Err(None), "one probe at a time");
        gate.failed(BatchId(0), 0.0, later);
        assert_eq!(
            gate.state(),
            GateState::Closed(later + 2 * MIN),
            "longer each time"
        );
        gate.sent(later + 2 * MIN);
        gate.succeeded();
        assert_eq!(gate.state(), GateState::Ramp(2));
        gate.succeeded();
        gate.succeeded();
        assert_eq!(gate.state(), GateState::Ramp(4), "two at a time, then four");
        (0..RAMP_MAX).for_each(|_| gate.succeeded());
        assert_eq!(
            gate.state(),
            GateState::Open,
            "however few shards there are"
        );
    }

    #[test]
    fn a_probe_that_never_reached_the_receiver_opens_nothing() {
        let (mut gate, now) = gate();
        gate.asked_to_wait(Duration::from_secs(2), now);
        let later = now + Duration::from_secs(2);
        gate.sent(later);
        gate.unused(later);
        assert_eq!(gate.admits(0, later), Ok(()), "the next one is the probe");
        gate.sent(later);
        assert_eq!(gate.state(), GateState::Probing);
    }

    #[test]
    fn a_receivers_wish_is_kept_whatever_succeeds_meanwhile_and_has_a_bound() {
        let (mut gate, now) = gate();
        gate.asked_to_wait(Duration::from_secs(2), now);
        gate.succeeded();
        gate.asked_to_wait(Duration::from_secs(1), now);
        assert_eq!(gate.admits(0, now), Err(Some(now + Duration::from_secs(2))));
        gate.asked_to_wait(Duration::from_secs(999_999), now);
        assert_eq!(gate.admits(0, now), Err(Some(now + RETRY_AFTER_MAX)));
    }
}
