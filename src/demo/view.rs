//! What is looked at each second: from one report to the next. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::report::{QueuePart, Report};

/// Sums of one look, to be compared with the next.
#[derive(Debug, Default)]
pub(super) struct Sums {
    at: Duration,
    admitted: u64,
    delivered: u64,
    answers: BTreeMap<String, u64>,
}

/// One moment, with what happened since the last one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct View {
    /// Since the demo began.
    pub(super) at: Duration,
    /// Samples admitted and delivered, a second.
    pub(super) in_per_second: f64,
    pub(super) out_per_second: f64,
    /// Samples that are not settled, and the age of the oldest in seconds.
    pub(super) pending: u64,
    pub(super) lag_seconds: f64,
    /// Requests permitted at a time, and what the formula asks for.
    pub(super) shards: u64,
    pub(super) desired: f64,
    /// Bytes of the log.
    pub(super) log_bytes: u64,
    /// Attempts that ended, by status code or by how they failed.
    pub(super) answers: Vec<(String, u64)>,
}

impl Sums {
    /// What this report shows, and what changed since the last one.
    pub(super) fn view(&mut self, report: &Report, at: Duration) -> View {
        let nothing = QueuePart::default();
        let queue = report.queues.first().unwrap_or(&nothing);
        let codes = queue.endpoint.codes.iter();
        let now = Self {
            at,
            admitted: report.senders.samples,
            delivered: queue.books.delivered,
            answers: codes.map(|part| (part.code.clone(), part.count)).collect(),
        };
        let before = std::mem::replace(self, now);
        let seconds = at.saturating_sub(before.at).as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let answers = self.answers.iter().filter_map(|(code, count)| {
            let known = before.answers.get(code).copied().unwrap_or(0);
            (*count > known).then(|| (code.clone(), count - known))
        });
        View {
            at,
            in_per_second: rate(self.admitted, before.admitted),
            out_per_second: rate(self.delivered, before.delivered),
            pending: queue.pending.total,
            lag_seconds: queue.lag_seconds,
            shards: queue.shards.actual,
            desired: queue.shards.desired,
            log_bytes: report.log.bytes,
            answers: answers.collect(),
        }
    }
}

/// The most that was seen in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Most {
    /// Samples pending.
    pub(super) pending: u64,
    /// Age of the oldest, in seconds.
    pub(super) lag_seconds: f64,
    /// Requests permitted at a time.
    pub(super) shards: u64,
    /// Answers of 429, all together.
    pub(super) limited: u64,
}

impl Most {
    /// Looks at one more moment.
    pub(super) fn see(&mut self, view: &View) {
        self.pending = self.pending.max(view.pending);
        self.lag_seconds = self.lag_seconds.max(view.lag_seconds);
        self.shards = self.shards.max(view.shards);
        let limited = view.answers.iter().filter(|(code, _)| code == "429");
        self.limited += limited.map(|(_, count)| count).sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{BooksPart, CodePart, EndpointPart, PendingPart, Senders};

    fn report(admitted: u64, delivered: u64, codes: &[(&str, u64)]) -> Report {
        let codes = codes.iter().map(|(code, count)| CodePart {
            code: (*code).to_owned(),
            count: *count,
            last_ms: 0,
        });
        Report {
            senders: Senders {
                samples: admitted,
                ..Senders::default()
            },
            queues: vec![QueuePart {
                lag_seconds: 1.5,
                pending: PendingPart {
                    total: admitted - delivered,
                    ..PendingPart::default()
                },
                books: BooksPart {
                    delivered,
                    ..BooksPart::default()
                },
                endpoint: EndpointPart {
                    codes: codes.collect(),
                    ..EndpointPart::default()
                },
                ..QueuePart::default()
            }],
            ..Report::default()
        }
    }

    #[test]
    fn a_view_has_what_happened_since_the_last_one() {
        let mut sums = Sums::default();
        let seconds = Duration::from_secs;
        sums.view(&report(1_000, 400, &[("204", 7)]), seconds(1));
        let codes = [("204", 7), ("429", 2)];
        let view = sums.view(&report(3_000, 1_000, &codes), seconds(3));
        assert_eq!((view.in_per_second, view.out_per_second), (1_000.0, 300.0));
        assert_eq!(view.answers, [("429".to_owned(), 2)]);
        assert_eq!((view.pending, view.lag_seconds), (2_000, 1.5));
        // Two looks at one moment divide by nothing.
        let same = sums.view(&report(3_000, 1_000, &codes), seconds(3));
        assert_eq!((same.in_per_second, same.answers.len()), (0.0, 0));
    }

    #[test]
    fn the_most_is_kept_and_429_is_summed() {
        let mut most = Most::default();
        let limited = |n| vec![("204".to_owned(), 9), ("429".to_owned(), n)];
        for (pending, n) in [(10, 1), (90, 2), (30, 0)] {
            most.see(&View {
                pending,
                answers: limited(n),
                ..View::default()
            });
        }
        assert_eq!((most.pending, most.limited), (90, 3));
    }
}
