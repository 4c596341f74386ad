//! What a demo came to: every sample accounted for. Pure.

use std::fmt;
use std::time::Duration;

use super::view::Most;
use crate::bench::compare::Comparison;
use crate::bench::load::LoadSummary;
use crate::report::words::{bytes, count, percent, time};
use crate::report::{QueuePart, Report};

/// The sums at the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// What was acknowledged, against what the receiver has.
    pub(super) compared: Comparison,
    /// Samples that the load was told will never be taken.
    pub(super) refused: u64,
    /// Samples still pending in Sluicegate.
    pub(super) pending: u64,
    /// Samples that Sluicegate took out.
    pub(super) dropped: u64,
    /// The books.
    pub(super) conservation_error: i64,
    /// The most that was seen.
    pub(super) most: Most,
    /// Bytes a sample, in and out.
    pub(super) per_sample: Option<(f64, f64)>,
    /// Compressed bytes of attempts that settled nothing, and of all.
    pub(super) sent_bytes: (u64, u64),
    /// How long it took.
    pub(super) took: Duration,
    /// It was ended before the script was over: perhaps before anything came.
    pub(super) cut_short: bool,
}

impl Outcome {
    /// Puts together what the load, the receiver and Sluicegate itself say. `pending` is what was left.
    pub(super) fn new(
        load: &LoadSummary,
        compared: Comparison,
        report: &Report,
        pending: u64,
    ) -> Self {
        let nothing = QueuePart::default();
        let queue = report.queues.first().unwrap_or(&nothing);
        let (books, wire) = (&queue.books, &queue.bytes);
        Self {
            compared,
            refused: load.samples.refused,
            pending,
            dropped: books
                .dropped
                .iter()
                .map(|dropped| dropped.count)
                .sum::<u64>()
                + books.unconfirmed
                + books.quarantined,
            conservation_error: books.conservation_error,
            per_sample: wire.per_sample_in.zip(wire.per_sample_out),
            sent_bytes: (wire.in_vain, wire.sent),
            ..Self::default()
        }
    }

    /// What does not hold, in words; nothing if all does.
    pub(super) fn faults(&self) -> Vec<String> {
        let found = &self.compared;
        let mut faults = Vec::new();
        let mut fault = |n: u64, what: &str| {
            if n > 0 {
                faults.push(format!("{} {what}", count(n)));
            }
        };
        // What is pending in the log is not lost, and not known as delivered either.
        fault(
            found.missing.saturating_sub(self.pending),
            "acknowledged samples are lost",
        );
        fault(self.pending, "samples were still pending when it ended");
        fault(found.order_violations, "samples came out of order");
        fault(
            found.wrong + found.conflicts,
            "samples came with other bits",
        );
        fault(found.never_sent, "samples came that nobody had sent");
        fault(self.refused, "samples were refused");
        fault(self.dropped, "samples were taken out");
        fault(
            self.conservation_error.unsigned_abs(),
            "is what the books are wrong by",
        );
        if found.acknowledged == 0 && !self.cut_short {
            faults.push("nothing was acknowledged at all".to_owned());
        }
        faults
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.compared;
        let lost = found.missing.saturating_sub(self.pending);
        let mut row =
            |name: &str, value: &str, means: &str| writeln!(f, "  {name:<14}{value:>12}   {means}");
        let number = |n: u64| count(n);
        row(
            "acknowledged",
            &number(found.acknowledged),
            "samples that the sender was told are safe",
        )?;
        row(
            "delivered",
            &number(found.acknowledged - found.missing),
            "of them found at the receiver, each by its series and time",
        )?;
        if self.pending > 0 {
            row(
                "pending",
                &number(self.pending),
                "in the log when it ended: without a verdict, whether they arrived or not",
            )?;
        }
        row("lost", &number(lost), "acknowledged, and nowhere")?;
        row(
            "out of order",
            &number(found.order_violations),
            "came after a newer one of their series",
        )?;
        row(
            "altered",
            &number(found.wrong + found.conflicts + found.never_sent),
            "came with other bits than were sent, or were never sent",
        )?;
        row(
            "twice",
            &number(found.duplicates),
            "came again, as the connection broke before their answer",
        )?;
        let books = self.conservation_error.to_string();
        row(
            "books",
            &books,
            "conservation error: what came in minus all that is accounted for",
        )?;
        if let Some((came, went)) = self.per_sample {
            let share = percent(went / came.max(f64::MIN_POSITIVE) - 1.0);
            let value = format!("{went:.1}");
            let means = format!(
                "out, {came:.1} in ({share}): 1.0 came, 2.0 went out, and a backlog merges"
            );
            row("bytes a sample", &value, &means)?;
        }
        let (in_vain, sent) = self.sent_bytes;
        let means = format!(
            "sent, {} of them in attempts that failed",
            bytes(in_vain as f64)
        );
        row("bytes", &bytes(sent as f64), &means)?;
        let means = format!(
            "was the longest lag, and {} samples the most that were pending",
            count(self.most.pending)
        );
        row("waited", &time(self.most.lag_seconds), &means)?;
        let faults = self.faults();
        let took = time(self.took.as_secs_f64());
        if faults.is_empty() {
            write!(
                f,
                "\nNothing was lost and nothing came out of order, in {took}."
            )
        } else {
            write!(f, "\nIt did not hold: {}.", faults.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Outcome {
        Outcome {
            compared: Comparison {
                acknowledged: 1_000,
                duplicates: 40,
                ..Comparison::default()
            },
            per_sample: Some((40.0, 19.0)),
            took: Duration::from_secs(83),
            ..Outcome::default()
        }
    }

    #[test]
    fn all_holds_when_everything_acknowledged_is_there_once_or_twice() {
        let outcome = good();
        assert_eq!(outcome.faults(), [] as [&str; 0]);
        let text = outcome.to_string();
        for part in [
            "delivered            1,000",
            "lost                     0",
            "(−52 %)",
            "1 min 23 s",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(
            text.ends_with("Nothing was lost and nothing came out of order, in 1 min 23 s."),
            "{text}"
        );
    }

    #[test]
    fn each_fault_is_told_and_fails_it() {
        type Spoil = fn(&mut Outcome);
        let cases: [(Spoil, &str); 10] = [
            (
                |o| o.compared.missing = 3,
                "3 acknowledged samples are lost",
            ),
            (
                |o| o.compared.order_violations = 1,
                "1 samples came out of order",
            ),
            (|o| o.compared.wrong = 1, "other bits"),
            (|o| o.compared.conflicts = 1, "other bits"),
            (|o| o.compared.never_sent = 1, "nobody had sent"),
            (|o| o.refused = 1, "refused"),
            (|o| o.dropped = 1, "taken out"),
            (
                |o| o.conservation_error = -2,
                "2 is what the books are wrong by",
            ),
            (|o| o.compared.acknowledged = 0, "nothing was acknowledged"),
            (
                |o| (o.pending, o.compared.missing) = (7, 7),
                "7 samples were still pending",
            ),
        ];
        for (spoil, told) in cases {
            let mut outcome = good();
            spoil(&mut outcome);
            assert_eq!(outcome.faults().len(), 1, "{told}");
            let text = outcome.to_string();
            assert!(
                text.contains("It did not hold: ") && text.contains(told),
                "{told}: {text}"
            );
        }
    }

    #[test]
    fn what_is_left_in_the_log_is_not_lost_and_an_end_before_the_first_sample_is_no_fault() {
        let mut left = good();
        (left.pending, left.compared.missing) = (7, 9);
        assert_eq!(left.faults()[0], "2 acknowledged samples are lost");
        let mut early = good();
        early.compared.acknowledged = 0;
        early.cut_short = true;
        assert_eq!(early.faults(), [] as [&str; 0]);
    }
}
