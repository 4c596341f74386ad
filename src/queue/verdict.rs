//! One table from a receiver's answer to what is done about it. Pure.
//!
//! | answer | action |
//! |---|---|
//! | 2xx to 1.0 | written |
//! | 2xx to 1.0 with a web page | held: a login form or an ingress answered, not a receiver |
//! | 2xx to 2.0, Written headers | written as far as they say; the rest is `not_written` |
//! | 2xx to 2.0, no Written header | the receiver read it as an empty 1.0 message: the same batch as 1.0 |
//! | 415 to 2.0; 400 without Written headers to a receiver that has not proved 2.0 | the same batch as 1.0 |
//! | 409 | the good part is stored (Thanos), nobody says which: `unconfirmed`, never sent again |
//! | 408, 425, 429, 5xx, no answer | again, later |
//! | 3xx, 401, 403, 404, 405, 407, 410, 415 to 1.0, 421 | held: nothing of the data's fault |
//! | 413 | its halves, each by itself; a single element is `too_large` |
//! | other 4xx to 2.0, Written headers | `rejected`, but for what they say was kept |
//! | other 4xx, of a receiver that keeps the good part | `rejected` |
//! | other 4xx | its halves, each by itself; a single element is `rejected` |
//!
//! A sender's own body (passthrough) whose sender waits is not made into 1.0: where another message would go out
//! the sender is told 415. One whose sender does not wait any more is; of zstd too, on a 415.
//!
//! A batch that may be stored already is never judged by a refusal: what remains unknown is `unconfirmed`.
//! Sources: remote-write 1.0 "Retries & Backoff"; 2.0 "Required Written Response Headers", "Partial
//! Write", "Unsupported Request Content"; prometheus `storage/remote/client.go`, `Store`.

use std::time::Duration;

use super::batch::Outcome;
use super::client::{Answer, Response};
use super::dispatch::{ASKED_DEFAULT, Again};
use super::ledger::DropReason;
use super::split::Refuses;
use crate::model::counts::{Counts, Kind};
use crate::wire::decoded::Protocol;

/// What was sent, as far as the verdict depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// As which message.
    pub protocol: Protocol,
    /// Elements in the message.
    pub counts: Counts,
    /// An earlier attempt, or this one, may have stored them.
    pub maybe_stored: bool,
    /// This receiver has answered a 2.0 request with Written headers before.
    pub v2_proved: bool,
    /// It is a sender's own body in zstd, which not every receiver reads.
    pub foreign_zstd: bool,
    /// What the receiver does with the rest of a request of which it refuses something.
    pub refuses: Refuses,
    /// Where to go when the receiver does not take this kind of message.
    pub fallback: Fallback,
}

/// What follows when a receiver does not take a kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// The same as 1.0.
    V1,
    /// The user fixed 2.0: there is no other protocol to go to.
    None,
    /// The sender is told, and chooses another: the body is its own, and it waits.
    Sender,
}

/// What to do about a batch after one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is settled.
    Settled(Outcome),
    /// It is tried again. The text says why, for people.
    Again(Again, String),
    /// The same batch goes out as 1.0 at once. The text says why.
    AsV1(String),
    /// Its halves are tried, each by itself; where that leads nowhere, this is what becomes of it.
    Split(Refuses, Outcome),
}

/// Judges an attempt by its answer.
pub fn judge(answer: &Answer, sent: &Sent) -> Verdict {
    match answer {
        Answer::Response(response) => judge_response(response, sent),
        Answer::Failed(failure) => Verdict::Again(Again::Failed, failure.message.clone()),
    }
}

fn judge_response(response: &Response, sent: &Sent) -> Verdict {
    let status = response.status;
    let written = written_of(response);
    match (status, sent.protocol) {
        (200..=299, Protocol::V1) if response.content_type_html => {
            held(response, "a web page answered, not a remote-write receiver")
        }
        (200..=299, Protocol::V1) => Verdict::Settled(delivered(sent.counts)),
        (200..=299, Protocol::V2) => match written {
            Some(written) => {
                Verdict::Settled(partly(written, sent, DropReason::NotWritten, response))
            }
            None => as_v1(response, sent, "no Written headers: 2.0 was not understood"),
        },
        (415, Protocol::V2) => as_v1(response, sent, "2.0 is not accepted"),
        (415, Protocol::V1) if sent.foreign_zstd => as_v1(response, sent, "zstd is not accepted"),
        // Of a body of its own the sender is told just what the receiver said.
        (400, Protocol::V2)
            if written.is_none() && !sent.v2_proved && sent.fallback != Fallback::Sender =>
        {
            as_v1(response, sent, "2.0 is not understood")
        }
        (409, _) => Verdict::Settled(Outcome {
            unconfirmed: sent.counts,
            ..Outcome::default()
        }),
        (408 | 425 | 429 | 500..=599, _) => again(response),
        (300..=399 | 401 | 403 | 404 | 405 | 407 | 410 | 415 | 421, _) => {
            held(response, "refused for no fault of the data")
        }
        (413, _) => {
            let outcome = partly(Counts::default(), sent, DropReason::TooLarge, response);
            Verdict::Split(Refuses::Unread, outcome)
        }
        (400..=499, protocol) => {
            let written = written.filter(|_| protocol == Protocol::V2);
            let kept = written.unwrap_or_default();
            let outcome = partly(kept, sent, DropReason::Rejected, response);
            match (written, sent.refuses) {
                (Some(_), _) | (None, Refuses::OnlyTheBad) => Verdict::Settled(outcome),
                (None, refuses) => Verdict::Split(refuses, outcome),
            }
        }
        _ => Verdict::Again(Again::Failed, format!("unknown status {status}")),
    }
}

/// The Written headers; one of them is enough to show that the receiver knows 2.0, and a missing one is
/// then zero (2.0 "Required Written Response Headers").
pub(super) fn written_of(response: &Response) -> Option<Counts> {
    let written = response.written;
    let any = written.samples.or(written.histograms).or(written.exemplars);
    any.map(|_| Counts {
        samples: written.samples.unwrap_or(0),
        histograms: written.histograms.unwrap_or(0),
        exemplars: written.exemplars.unwrap_or(0),
    })
}

fn delivered(counts: Counts) -> Outcome {
    Outcome {
        delivered: counts,
        ..Outcome::default()
    }
}

/// `written` of it is there, the rest is not.
fn partly(written: Counts, sent: &Sent, reason: DropReason, response: &Response) -> Outcome {
    let mut kept = Counts::default();
    for kind in Kind::ALL {
        *kept.slot(kind) = written.get(kind).min(sent.counts.get(kind));
    }
    let rest = sent.counts - kept;
    // A refusal of metadata alone is one, though it counts nothing.
    let refused_whole = sent.counts.is_zero() && !(200..300).contains(&response.status);
    if rest.is_zero() && !refused_whole {
        return delivered(sent.counts);
    }
    if sent.maybe_stored {
        // A repeat of what is stored is refused too: that says nothing about the first copy.
        return Outcome {
            delivered: kept,
            unconfirmed: rest,
            ..Outcome::default()
        };
    }
    let status = response.status;
    let said = if response.message.is_empty() {
        "no message"
    } else {
        &response.message
    };
    Outcome {
        delivered: kept,
        dropped: vec![(reason, rest)],
        refusal: Some(format!("receiver answered {status}: {said}")),
        ..Outcome::default()
    }
}

fn as_v1(response: &Response, sent: &Sent, why: &str) -> Verdict {
    match sent.fallback {
        Fallback::V1 => Verdict::AsV1(format!("{} {why}", response.status)),
        Fallback::None => held(response, why),
        // Even if an earlier attempt had no answer: what is not understood is not stored.
        Fallback::Sender => Verdict::Settled(Outcome {
            dropped: vec![(DropReason::Rejected, sent.counts)],
            refusal: Some(describe(response, why)),
            unsupported: true,
            ..Outcome::default()
        }),
    }
}

fn again(response: &Response) -> Verdict {
    let why = describe(response, "");
    let again = match (response.retry_after, response.status) {
        (Some(wait), _) if wait > Duration::ZERO => Again::Asked(wait),
        (_, 429) => Again::Asked(ASKED_DEFAULT),
        _ => Again::Failed,
    };
    Verdict::Again(again, why)
}

fn held(response: &Response, why: &str) -> Verdict {
    Verdict::Again(Again::Held, describe(response, why))
}

pub(super) fn describe(response: &Response, why: &str) -> String {
    let mut text = format!("receiver answered {}", response.status);
    if let Some(host) = &response.location_host {
        text += &format!(", a redirect to {host} that is not followed");
    }
    for part in [why, response.message.as_str()]
        .into_iter()
        .filter(|part| !part.is_empty())
    {
        text += ": ";
        text += part;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::client::Written;
    use super::super::client::{Failure, FailureKind};
    use super::*;

    const COUNTS: Counts = Counts {
        samples: 10,
        histograms: 2,
        exemplars: 1,
    };

    fn sent(protocol: Protocol) -> Sent {
        Sent {
            protocol,
            counts: COUNTS,
            maybe_stored: false,
            v2_proved: true,
            foreign_zstd: false,
            refuses: Refuses::Unclear,
            fallback: Fallback::V1,
        }
    }

    fn response(status: u16, written: Option<[u64; 3]>) -> Response {
        let written = written.map_or_else(Written::default, |[s, h, e]| Written {
            samples: Some(s),
            histograms: Some(h),
            exemplars: Some(e),
        });
        Response {
            status,
            retry_after: None,
            written,
            content_type_html: false,
            message: "because".to_owned(),
            location_host: None,
        }
    }

    fn of(status: u16, written: Option<[u64; 3]>, sent: &Sent) -> Verdict {
        judge(&Answer::Response(response(status, written)), sent)
    }

    fn outcome_of(verdict: Verdict) -> Outcome {
        match verdict {
            Verdict::Settled(outcome) | Verdict::Split(_, outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn rejected(verdict: &Verdict) -> (DropReason, Counts) {
        outcome_of(verdict.clone()).dropped[0]
    }

    #[test]
    fn every_2xx_of_1_0_is_written_but_for_a_web_page() {
        let v1 = sent(Protocol::V1);
        for status in [200, 202, 204] {
            assert_eq!(of(status, None, &v1), Verdict::Settled(delivered(COUNTS)));
        }
        // Prometheus would believe these headers of a 1.0 answer; the spec says they are not there.
        assert_eq!(
            of(204, Some([0, 0, 0]), &v1),
            Verdict::Settled(delivered(COUNTS))
        );
        let page = Response {
            content_type_html: true,
            ..response(200, None)
        };
        let verdict = judge(&Answer::Response(page), &v1);
        assert!(matches!(verdict, Verdict::Again(Again::Held, _)));
    }

    #[test]
    fn a_2xx_of_2_0_is_worth_what_its_headers_say() {
        let v2 = sent(Protocol::V2);
        assert_eq!(
            of(204, Some([10, 2, 1]), &v2),
            Verdict::Settled(delivered(COUNTS))
        );
        let verdict = of(204, Some([10, 2, 0]), &v2);
        assert_eq!(
            rejected(&verdict),
            (DropReason::NotWritten, Counts::of(Kind::Exemplar, 1))
        );
        assert_eq!(
            rejected(&of(200, Some([0, 0, 0]), &v2)),
            (DropReason::NotWritten, COUNTS)
        );
        assert!(matches!(of(204, None, &v2), Verdict::AsV1(_)));
        let fixed = Sent {
            fallback: Fallback::None,
            ..v2
        };
        assert!(matches!(
            of(204, None, &fixed),
            Verdict::Again(Again::Held, _)
        ));
    }

    #[test]
    fn a_receiver_that_does_not_know_2_0_gets_1_0() {
        let v2 = sent(Protocol::V2);
        assert!(matches!(of(415, None, &v2), Verdict::AsV1(_)));
        let unproved = Sent {
            v2_proved: false,
            ..v2
        };
        assert!(matches!(of(400, None, &unproved), Verdict::AsV1(_)));
        assert_eq!(
            rejected(&of(400, None, &v2)),
            (DropReason::Rejected, COUNTS)
        );
        assert!(matches!(
            of(415, None, &sent(Protocol::V1)),
            Verdict::Again(Again::Held, _)
        ));
    }

    #[test]
    fn refusals_of_the_data_are_dropped_and_counted_and_what_was_kept_is_delivered() {
        for (status, reason) in [
            (400, DropReason::Rejected),
            (422, DropReason::Rejected),
            (413, DropReason::TooLarge),
        ] {
            let verdict = of(status, None, &sent(Protocol::V1));
            assert_eq!(rejected(&verdict), (reason, COUNTS), "{status}");
            let outcome = outcome_of(verdict);
            assert_eq!(outcome.total(), COUNTS);
            assert_eq!(
                outcome.refusal.unwrap(),
                format!("receiver answered {status}: because")
            );
        }
        let partial = of(400, Some([9, 2, 1]), &sent(Protocol::V2));
        assert_eq!(
            rejected(&partial),
            (DropReason::Rejected, Counts::of(Kind::Sample, 1))
        );
        let lie = of(400, Some([999, 999, 999]), &sent(Protocol::V2));
        assert_eq!(
            lie,
            Verdict::Settled(delivered(COUNTS)),
            "never more than was sent"
        );
    }

    #[test]
    fn halves_are_tried_where_the_good_part_may_not_be_there_and_nobody_says_what_is() {
        let halves = |status, written, sent: &Sent| match of(status, written, sent) {
            Verdict::Split(refuses, _) => Some(refuses),
            Verdict::Settled(_) => None,
            other => panic!("{other:?}"),
        };
        let refusing = |refuses| Sent {
            refuses,
            ..sent(Protocol::V1)
        };
        for refuses in [Refuses::Whole, Refuses::Unclear] {
            for status in [400, 422] {
                assert_eq!(halves(status, None, &refusing(refuses)), Some(refuses));
            }
        }
        let keeps = refusing(Refuses::OnlyTheBad);
        assert_eq!(halves(400, None, &keeps), None);
        assert_eq!(
            halves(413, None, &keeps),
            Some(Refuses::Unread),
            "it was not looked at"
        );
        let v2 = sent(Protocol::V2);
        assert_eq!(halves(400, Some([9, 2, 1]), &v2), None, "the rest is there");
        assert_eq!(halves(400, None, &v2), Some(Refuses::Unclear));
        assert_eq!(halves(409, None, &refusing(Refuses::Whole)), None);
    }

    #[test]
    fn a_conflict_and_a_refused_repeat_leave_the_batch_unconfirmed() {
        let unconfirmed = Outcome {
            unconfirmed: COUNTS,
            ..Outcome::default()
        };
        let conflict = of(409, None, &sent(Protocol::V1));
        assert_eq!(conflict, Verdict::Settled(unconfirmed.clone()));
        let repeated = Sent {
            maybe_stored: true,
            ..sent(Protocol::V1)
        };
        assert_eq!(outcome_of(of(400, None, &repeated)), unconfirmed);
    }

    #[test]
    fn transient_answers_are_retried_and_configuration_errors_held() {
        let v1 = sent(Protocol::V1);
        for status in [408, 425, 500, 502, 503, 504, 529] {
            assert!(
                matches!(of(status, None, &v1), Verdict::Again(Again::Failed, _)),
                "{status}"
            );
        }
        for status in [301, 302, 307, 401, 403, 404, 405, 407, 410, 421] {
            assert!(
                matches!(of(status, None, &v1), Verdict::Again(Again::Held, _)),
                "{status}"
            );
        }
        let verdict = of(429, None, &v1);
        assert!(matches!(
            verdict,
            Verdict::Again(Again::Asked(ASKED_DEFAULT), _)
        ));
        let wait = Duration::from_secs(7);
        let asked = Response {
            retry_after: Some(wait),
            ..response(503, None)
        };
        let verdict = judge(&Answer::Response(asked), &v1);
        assert!(matches!(verdict, Verdict::Again(Again::Asked(w), _) if w == wait));
        let reset = Failure {
            kind: FailureKind::Closed,
            sent: true,
            message: "reset".to_owned(),
        };
        let verdict = judge(&Answer::Failed(reset), &v1);
        assert_eq!(verdict, Verdict::Again(Again::Failed, "reset".to_owned()));
    }
}
