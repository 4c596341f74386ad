//! What a run has shown, and whether it holds.

use std::fmt;
use std::time::Duration;

use sluicegate::bench::compare::{Blame, Comparison, Repeated};
use sluicegate::bench::load::LoadSummary;
use sluicegate::bench::sink::{Repeat, SinkStats};

use crate::rig::{Ack, MAX_SAMPLES_PER_SEND, SHARDS};
use crate::scrape::{Scrape, Seen};

/// The time up to a kill, or from the last one to the end.
pub(crate) struct Epoch {
    /// What came again during it.
    pub(crate) repeats: Vec<Repeat>,
    /// Kills, and times that the receiver closed its connections, before its end.
    pub(crate) interruptions: u64,
}

impl Epoch {
    pub(crate) fn judge(&self, blame: &Blame<'_>) -> (u64, Repeated) {
        (self.interruptions, blame.judge(&self.repeats))
    }
}

/// Everything that is known at the end of a run.
pub(crate) struct Verdict {
    pub(crate) seed: u64,
    pub(crate) name: String,
    pub(crate) ack: Ack,
    /// The receiver has no out-of-order window, and rolls back whole requests.
    pub(crate) rules: bool,
    pub(crate) power_loss: bool,
    pub(crate) sender_repeats: bool,
    pub(crate) kills: u64,
    pub(crate) comparison: Comparison,
    pub(crate) sent: LoadSummary,
    pub(crate) stored: SinkStats,
    /// Of each epoch: interruptions before its end, and who repeated what came again.
    pub(crate) epochs: Vec<(u64, Repeated)>,
    pub(crate) seen: Seen,
    pub(crate) last: Scrape,
    pub(crate) recoveries: Vec<Duration>,
    pub(crate) peak_rss_kib: u64,
    pub(crate) took: Duration,
}

impl Verdict {
    /// Samples that came again, by who repeated them.
    pub(crate) fn repeated(&self) -> Repeated {
        let mut sum = Repeated::default();
        for (_, repeated) in &self.epochs {
            sum.by_sender += repeated.by_sender;
            sum.between += repeated.between;
        }
        sum
    }

    /// What does not hold; empty when everything does.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = self.seen.faults.clone();
        let mut insist = |holds: bool, what: &str| {
            if !holds {
                faults.push(what.to_owned());
            }
        };
        insist(
            self.comparison.is_sound(),
            "samples are lost, made up, altered or out of order",
        );
        insist(
            self.comparison.acknowledged > 0,
            "nothing was acknowledged, so nothing was tested",
        );
        // Without a log that outlives the process, what a sender repeats is new to the next life: it may
        // meet new samples in a batch, which is refused for it, and goes out in parts until only the repeat is.
        insist(
            self.comparison.refused_absent == 0,
            "samples were refused that are nowhere",
        );
        insist(
            self.comparison.indeterminate_absent == 0 || !self.sender_repeats,
            "the sender gave samples up",
        );
        insist(
            self.stored.violations.is_empty(),
            "the protocol was broken towards the receiver",
        );
        for name in ["dropped", "quarantined", "unconfirmed"] {
            let taken_out = self
                .last
                .sum(&format!("sluicegate_{name}_samples_total"), &[]);
            // With rules a repeat may be refused: it is there already, and the ledgers say so.
            insist(
                taken_out == 0.0 || self.rules,
                &format!("{taken_out} samples are {name}"),
            );
        }
        if !self.power_loss {
            faults.extend(excess(&self.epochs));
        }
        if self.ack == Ack::Fsync && !self.power_loss {
            faults.extend(self.books_of_all_lives());
        }
        faults
    }

    /// Where the books survive, they count what all lives together took and gave.
    fn books_of_all_lives(&self) -> Option<String> {
        let sum = |name: &str| {
            self.last
                .sum(&format!("sluicegate_{name}_samples_total"), &[])
        };
        let (received, delivered) = (sum("queue_received"), sum("delivered"));
        let acknowledged = self.comparison.acknowledged as f64;
        let stored = (self.stored.samples + self.stored.histograms) as f64;
        (received < acknowledged || delivered > stored).then(|| {
            format!(
                "the books say {received} received and {delivered} delivered; \
                 {acknowledged} were acknowledged and {stored} arrived"
            )
        })
    }

    /// Fails the test unless everything holds.
    pub(crate) fn assert_holds(&self) {
        let faults = self.faults();
        assert!(
            faults.is_empty(),
            "{}\n{self}{}\n{}\n{}\n{}",
            faults.join("\n"),
            self.comparison,
            self.sent,
            self.stored,
            self.last.books()
        );
    }

    fn recovery_ms(&self) -> (f64, f64) {
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        let ms = |at: usize| sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        (ms(sorted.len() / 2), ms(sorted.len().saturating_sub(1)))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Repeated { by_sender, between } = self.repeated();
        let (median, longest) = self.recovery_ms();
        let comparison = &self.comparison;
        writeln!(
            f,
            "seed={} mode={} kills={} A={} U={} D={} lost={} out_of_order={} refused_nowhere={} dup_by_sender={by_sender} \
             dup_between={between} max_rss_kib={} recovery_ms={median:.1}/{longest:.1} scrapes={} seconds={:.1}",
            self.seed,
            self.name,
            self.kills,
            comparison.acknowledged,
            comparison.indeterminate_stored + comparison.indeterminate_absent,
            self.stored.distinct(),
            comparison.missing,
            comparison.order_violations,
            comparison.refused_absent,
            self.peak_rss_kib,
            self.seen.scrapes,
            self.took.as_secs_f64(),
        )?;
        Ok(())
    }
}

/// What was in flight at an interruption may come again, and nothing else.
fn excess(epochs: &[(u64, Repeated)]) -> Option<String> {
    let mut between = 0;
    for (interruptions, repeated) in epochs {
        between += repeated.between;
        let allowed = interruptions * SHARDS * MAX_SAMPLES_PER_SEND;
        if between > allowed {
            return Some(format!(
                "{between} samples came again after {interruptions} interruptions, {allowed} may"
            ));
        }
    }
    None
}

#[test]
fn only_what_was_in_flight_at_an_interruption_may_come_again() {
    let one = SHARDS * MAX_SAMPLES_PER_SEND;
    let epoch = |interruptions, between| {
        let repeated = Repeated {
            by_sender: 1_000_000,
            between,
        };
        (interruptions, repeated)
    };
    assert_eq!(excess(&[epoch(0, 0), epoch(1, one), epoch(2, one)]), None);
    assert!(excess(&[epoch(0, 1)]).is_some());
    assert!(excess(&[epoch(0, 0), epoch(1, one + 1), epoch(2, 0)]).is_some());
}
