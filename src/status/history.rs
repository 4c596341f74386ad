//! How fast things went lately: sums looked at each second, kept for five minutes. Pure and bounded.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Instant;
use crate::queue::facts::Sums;

/// The short time, looked at each second; and the long one, looked at every ten.
pub(super) const SHORT: Duration = Duration::from_secs(10);
/// The long time.
pub(super) const LONG: Duration = Duration::from_secs(300);
const LONG_STEP: Duration = Duration::from_secs(10);
/// Looks kept of each: one more than fit, to have two ends.
const SHORT_LOOKS: usize = 12;
const LONG_LOOKS: usize = 31;
/// A time shorter than this tells no rate.
const LEAST: Duration = Duration::from_millis(900);
/// A look may come late, and still ends the time it was meant to end.
const SLACK: Duration = Duration::from_millis(500);

/// One look at the sums.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// When.
    pub(super) at: Instant,
    /// Elements admitted.
    pub(super) samples: u64,
    /// Compressed bytes of them.
    pub(super) bytes: u64,
    /// Requests admitted.
    pub(super) requests: u64,
    /// Each queue's.
    pub(super) queues: Vec<Sums>,
}

/// The looks of the last five minutes.
#[derive(Debug, Default)]
pub(super) struct History {
    short: VecDeque<Look>,
    long: VecDeque<Look>,
}

impl History {
    /// One more look.
    pub(super) fn push(&mut self, look: Look) {
        let due = |last: &Look| look.at - last.at + SLACK >= LONG_STEP;
        if self.long.back().is_none_or(due) {
            self.long.push_back(look.clone());
        }
        self.short.push_back(look);
        while self.short.len() > SHORT_LOOKS {
            self.short.pop_front();
        }
        while self.long.len() > LONG_LOOKS {
            self.long.pop_front();
        }
    }

    /// By how much a sum grew over `time`, and the seconds it took; over less where less is known.
    pub(super) fn growth(&self, time: Duration, sum: impl Fn(&Look) -> u64) -> Option<(u64, f64)> {
        let last = self.short.back()?;
        let within = |look: &&Look| last.at - look.at <= time + SLACK;
        let looks = self.long.iter().chain(&self.short);
        let first = looks.filter(within).min_by_key(|look| look.at)?;
        let passed = last.at - first.at;
        let grown = sum(last).saturating_sub(sum(first));
        (passed >= LEAST).then_some((grown, passed.as_secs_f64()))
    }

    /// The same, a second.
    pub(super) fn rate(&self, time: Duration, sum: impl Fn(&Look) -> u64) -> Option<f64> {
        let (grown, seconds) = self.growth(time, sum)?;
        Some(grown as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(start: Instant, seconds: f64, samples: u64) -> Look {
        Look {
            at: start + Duration::from_secs_f64(seconds),
            samples,
            bytes: 0,
            requests: 0,
            queues: Vec::new(),
        }
    }

    fn told(history: &History, time: Duration) -> Option<f64> {
        history.rate(time, |look| look.samples)
    }

    #[test]
    fn a_rate_needs_two_looks_and_is_over_what_is_known() {
        let (mut history, start) = (History::default(), Instant::now());
        assert_eq!(told(&history, SHORT), None);
        history.push(look(start, 0.0, 100));
        assert_eq!(told(&history, SHORT), None);
        history.push(look(start, 2.0, 300));
        assert_eq!(told(&history, SHORT), Some(100.0));
        assert_eq!(told(&history, LONG), Some(100.0));
    }

    #[test]
    fn both_times_forget_what_is_older_and_memory_is_bounded() {
        let (mut history, start) = (History::default(), Instant::now());
        // A thousand a second for an hour, then nothing for a minute; looks come a little late.
        for second in 0..3660u32 {
            let samples = u64::from(second.min(3600)) * 1000;
            history.push(look(start, f64::from(second) * 1.001, samples));
        }
        assert_eq!(told(&history, SHORT), Some(0.0));
        let long = told(&history, LONG).unwrap();
        assert!((760.0..840.0).contains(&long), "240 of 300 s: {long}");
        assert!(history.short.len() <= SHORT_LOOKS && history.long.len() <= LONG_LOOKS);
    }

    #[test]
    fn a_pause_of_the_process_and_a_sum_that_shrinks_break_nothing() {
        let (mut history, start) = (History::default(), Instant::now());
        history.push(look(start, 0.0, 100));
        history.push(look(start, 500.0, 50));
        assert_eq!(
            told(&history, SHORT),
            None,
            "nothing is known of the last ten seconds"
        );
        history.push(look(start, 501.0, 40));
        assert_eq!(told(&history, LONG), Some(0.0));
    }
}
