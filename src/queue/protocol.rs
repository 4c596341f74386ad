//! As which message a batch goes out. Pure.
//!
//! `as_received` sends 2.0 if anything in the batch came as 2.0 and the receiver takes it. `auto` tries 2.0
//! with one batch and goes on once its answer has proved it. Every answer is judged: a receiver that turns
//! out not to know 2.0 gets 1.0 for a day, and is asked once more after that.

use std::time::Duration;

use tokio::time::Instant;

use crate::wire::decoded::Protocol;

/// How long a receiver that did not know 2.0 is not asked again.
pub const V1_FOR: Duration = Duration::from_secs(24 * 3600);

/// What the user wants to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolMode {
    /// What came in.
    AsReceived,
    /// 2.0 wherever it is proved.
    Auto,
    /// Always this one.
    Fixed(Protocol),
}

/// What is known of one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing yet.
    Unproved,
    /// One batch is on its way as 2.0 to find out.
    Probing,
    /// It answered 2.0 with Written headers.
    Proved,
    /// It does not know 2.0; asked again from then on.
    V1Until(Instant),
}

/// Chooses the message for each batch.
#[derive(Debug)]
pub struct ProtocolChoice {
    mode: ProtocolMode,
    known: Known,
}

impl ProtocolChoice {
    /// Nothing is known yet.
    pub fn new(mode: ProtocolMode) -> Self {
        Self {
            mode,
            known: Known::Unproved,
        }
    }

    /// What is known.
    pub fn known(&self) -> Known {
        self.known
    }

    /// The user fixed 2.0.
    pub fn v2_fixed(&self) -> bool {
        self.mode == ProtocolMode::Fixed(Protocol::V2)
    }

    /// The message for a batch.
    pub fn choose(&mut self, came_as_v2: bool, now: Instant) -> Protocol {
        let wanted = match self.mode {
            ProtocolMode::Fixed(protocol) => return protocol,
            ProtocolMode::AsReceived => came_as_v2,
            ProtocolMode::Auto => true,
        };
        if !wanted {
            return Protocol::V1;
        }
        match self.known {
            Known::V1Until(until) if now < until => Protocol::V1,
            Known::Proved => Protocol::V2,
            // What came as 2.0 may hold what 1.0 cannot carry, so it does not wait for the probe.
            Known::Probing if self.mode == ProtocolMode::Auto && !came_as_v2 => Protocol::V1,
            _ => {
                self.known = Known::Probing;
                Protocol::V2
            }
        }
    }

    /// A 2.0 request was answered with Written headers.
    pub fn proved(&mut self) {
        self.known = Known::Proved;
    }

    /// A 2.0 request showed that the receiver does not know it. Says whether that is news.
    pub fn disproved(&mut self, now: Instant) -> bool {
        let news = !matches!(self.known, Known::V1Until(until) if now < until);
        self.known = Known::V1Until(now + V1_FOR);
        news
    }

    /// The attempt that asked found out nothing: the next batch asks.
    pub fn undecided(&mut self) {
        if self.known == Known::Probing {
            self.known = Known::Unproved;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Protocol::{V1, V2};

    #[test]
    fn as_received_follows_the_batch_until_the_receiver_shows_it_does_not_know_2_0() {
        let now = Instant::now();
        let mut choice = ProtocolChoice::new(ProtocolMode::AsReceived);
        assert_eq!(
            (choice.choose(false, now), choice.choose(true, now)),
            (V1, V2)
        );
        assert!(choice.disproved(now));
        assert!(!choice.disproved(now), "told once");
        assert_eq!(choice.choose(true, now), V1);
        let tomorrow = now + V1_FOR + Duration::from_secs(1);
        assert_eq!(choice.choose(true, tomorrow), V2, "asked again after a day");
    }

    #[test]
    fn auto_asks_with_one_batch_and_goes_on_when_it_is_proved() {
        let now = Instant::now();
        let mut choice = ProtocolChoice::new(ProtocolMode::Auto);
        assert_eq!(
            (choice.choose(false, now), choice.choose(false, now)),
            (V2, V1)
        );
        choice.undecided();
        assert_eq!(
            choice.choose(false, now),
            V2,
            "a lost probe is followed by another"
        );
        choice.proved();
        assert_eq!(
            (choice.choose(false, now), choice.choose(false, now)),
            (V2, V2)
        );
    }

    #[test]
    fn a_fixed_protocol_stays() {
        let now = Instant::now();
        let mut choice = ProtocolChoice::new(ProtocolMode::Fixed(V2));
        choice.disproved(now);
        assert_eq!(choice.choose(false, now), V2);
    }
}
