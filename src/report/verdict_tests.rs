use super::super::example::{NOW_MS, outage, queue, well};
use super::super::{DamagePart, Drain, Dropped, ErrorPart, SenderAnswer};
use super::*;

/// What is changed in a report that is well, and what is then said: level, id, sentence.
type Case = (fn(&mut Report), Level, &'static str, &'static str);

fn answer(report: &mut Report, code: u16, reason: &str, age_ms: i64) {
    report.senders.answers.push(SenderAnswer {
        code,
        reason: reason.to_owned(),
        count: 3,
        last_ms: NOW_MS - age_ms,
    });
}

fn fails(queue: &mut QueuePart, code: &str, attempts: u64, for_ms: i64) {
    queue.endpoint.failing = Some(super::super::FailingPart {
        since_ms: NOW_MS - for_ms,
        attempts,
        code: code.to_owned(),
        code_since_ms: NOW_MS - for_ms,
        why: String::new(),
    });
}

fn behind(queue: &mut QueuePart, drain: DrainState, seconds: Option<f64>) {
    queue.lag_seconds = 720.0;
    queue.pending.total = 1_240_000;
    queue.drain = Drain {
        state: drain,
        seconds,
    };
}

fn several(report: &mut Report) {
    report.queues.push(QueuePart {
        name: "us".to_owned(),
        required: false,
        lag_seconds: 1.5,
        ..queue()
    });
}

fn verdict_of(change: fn(&mut Report)) -> Vec<Finding> {
    let mut report = well();
    change(&mut report);
    findings(&report)
}

const CASES: &[Case] = &[
    (
        |report| {
            let queue = &mut report.queues[0];
            behind(queue, DrainState::Stopped, None);
            (queue.lag_seconds, queue.shards.busy) = (14.0, 2);
            queue.endpoint.last_success_ms = None;
            queue.out_per_second.last_10s = Some(0.0);
            queue.pending.total = 4_824;
        },
        Level::Attention,
        "unanswered",
        "The receiver has answered nothing yet: 2 requests are on the way, the oldest sample is 14 s old; \
         4,824 samples wait in the log, room for 5 h 44 min at the present rate.",
    ),
    (
        |_| (),
        Level::Well,
        "well",
        "All well: 12,400 samples/s in and out, 0.3 s behind.",
    ),
    (
        |report| report.queues[0].out_per_second.last_10s = Some(11_000.0),
        Level::Well,
        "well",
        "All well: 12,400 samples/s in, 11,000 out, 0.3 s behind.",
    ),
    (
        several,
        Level::Well,
        "well",
        "All well: 12,400 samples/s in, to 2 receivers, at most 1.5 s behind.",
    ),
    (
        |report| report.queues[0].discards = true,
        Level::Well,
        "well",
        "All well: 12,400 samples/s in, counted and thrown away.",
    ),
    (
        |report| report.senders.last_ms = None,
        Level::Well,
        "waiting",
        "Ready, and nothing has arrived yet: let Prometheus write to http://127.0.0.1:9201/api/v1/write.",
    ),
    (
        |report| report.senders.last_ms = Some(NOW_MS - 300_000),
        Level::Attention,
        "silent",
        "No sender has delivered anything for 5 min (last at 14:00:00 UTC).",
    ),
    (
        |report| *report = outage(),
        Level::Trouble,
        "receiver_failing",
        "The receiver answers 503 since 14:02:11 UTC; 1.2 M samples wait in the log, room for 3 h 20 min at the \
         present rate.",
    ),
    (
        |report| {
            *report = outage();
            report.ack.mode = "upstream".to_owned();
        },
        Level::Trouble,
        "receiver_failing",
        "The receiver answers 503 since 14:02:11 UTC; 1.2 M samples wait, unacknowledged: their senders still have \
         them.",
    ),
    (
        |report| {
            *report = outage();
            report.log.room_seconds = None;
        },
        Level::Trouble,
        "receiver_failing",
        "The receiver answers 503 since 14:02:11 UTC; 1.2 M samples wait in the log, 1.0 GiB of 10 GiB used, and \
         nothing comes in.",
    ),
    (
        |report| {
            *report = outage();
            let failing = report.queues[0].endpoint.failing.as_mut().unwrap();
            failing.code_since_ms = NOW_MS - 60_000;
            failing.code = "connect".to_owned();
        },
        Level::Trouble,
        "receiver_failing",
        "The receiver cannot be reached since 14:04:00 UTC, and nothing is delivered since 14:02:11 UTC; 1.2 M \
         samples wait in the log, room for 3 h 20 min at the present rate.",
    ),
    (
        |report| {
            several(report);
            fails(&mut report.queues[1], "401", 9, 60_000);
        },
        Level::Attention,
        "receiver_failing",
        "The receiver of us (not required) refuses our credentials (401) since 14:04:00 UTC; 3,900 samples wait in \
         the log, room for 5 h 44 min at the present rate.",
    ),
    (
        |report| {
            let storage = report.storage.as_mut().unwrap();
            storage.writable = false;
            storage.unwritable_since_ms = Some(NOW_MS - 60_000);
            storage.last_error = Some("write: No space left on device (os error 28)".to_owned());
        },
        Level::Trouble,
        "log_unwritable",
        "The log cannot be written since 14:04:00 UTC (write: No space left on device (os error 28)): senders get \
         503.",
    ),
    (
        |report| {
            report.configuration.in_use = "none".to_owned();
            report.configuration.problems = vec!["x.yaml:1: remote_wriet: unknown".to_owned()];
        },
        Level::Trouble,
        "configuration",
        "No configuration that works, senders get 503 and keep what they have (x.yaml:1: remote_wriet: unknown).",
    ),
    (
        |report| {
            report.configuration.in_use = "last_good".to_owned();
            report.configuration.problems = ["--ack: maybe", "b", "c"].map(str::to_owned).to_vec();
        },
        Level::Trouble,
        "configuration",
        "The configuration has problems, and the last good one is in use (--ack: maybe; and 2 more).",
    ),
    (
        |report| report.storage_trouble = Some("the log in /x cannot be used".to_owned()),
        Level::Trouble,
        "storage",
        "Storage trouble, running without the log on disk: the log in /x cannot be used.",
    ),
    (
        |report| {
            report.log.bytes = report.log.limit_bytes;
            answer(report, 503, "queue_full", 14_000);
        },
        Level::Trouble,
        "log_full",
        "The log is full (10 GiB of 10 GiB): senders get 503 and keep what they have.",
    ),
    (
        |report| answer(report, 503, "memory", 1_000),
        Level::Attention,
        "memory",
        "The memory for requests is used up: some senders get 503 and come again.",
    ),
    (
        |report| report.queues[0].books.conservation_error = -1,
        Level::Trouble,
        "books",
        "The books do not balance by 1 sample: this is a bug of Sluicegate, please report it.",
    ),
    (
        |report| {
            let queue = &mut report.queues[0];
            queue.books.lost_5m = 1_200;
            for reason in ["rejected", "discarded"] {
                queue.books.dropped.push(Dropped {
                    reason: reason.to_owned(),
                    count: 1_200,
                });
            }
            queue.errors.push(ErrorPart {
                text: "receiver answered 400: out of order".to_owned(),
                ..ErrorPart::default()
            });
        },
        Level::Trouble,
        "samples_dropped",
        "1,200 samples were taken out in the last 5 min (rejected). Latest: receiver answered 400: out of order",
    ),
    (
        |report| {
            let queue = &mut report.queues[0];
            queue.endpoint.codes.push(super::super::CodePart {
                code: "429".to_owned(),
                count: 9,
                last_ms: NOW_MS - 1_000,
            });
            queue.out_per_second.last_10s = Some(8_000.0);
            queue.pending.total = 1;
        },
        Level::Attention,
        "rate_limited",
        "The receiver limits the rate (429, last at 14:04:59 UTC): 8,000 samples/s go out, 12,400 come in; 1 sample \
         waits in the log, room for 5 h 44 min at the present rate.",
    ),
    (
        |report| behind(&mut report.queues[0], DrainState::Draining, Some(180.0)),
        Level::Attention,
        "catching_up",
        "Catching up: 1.2 M samples wait, the oldest for 12 min; done in 3 min at the present rate.",
    ),
    (
        |report| {
            let queue = &mut report.queues[0];
            behind(queue, DrainState::Growing, None);
            queue.shards.actual = 50;
            queue.out_per_second.last_10s = Some(9_000.0);
        },
        Level::Attention,
        "falling_behind",
        "Falling behind: 12,400 samples/s in, 9,000 out with all 50 shards; 1.2 M samples wait, the oldest for 12 \
         min, room for 5 h 44 min at the present rate.",
    ),
    (
        |report| {
            behind(&mut report.queues[0], DrainState::Growing, None);
            report.log.room_seconds = Some(3_500.0);
        },
        Level::Trouble,
        "falling_behind",
        "Falling behind: 12,400 samples/s in, 12,400 out; 1.2 M samples wait, the oldest for 12 min, room for 58 min \
         20 s at the present rate.",
    ),
    (
        |report| {
            let queue = &mut report.queues[0];
            queue.endpoint.retried_share = Some(0.07);
            queue.errors.push(ErrorPart {
                text: "receiver answered 502".to_owned(),
                last_ms: NOW_MS - 1_000,
                ..ErrorPart::default()
            });
        },
        Level::Attention,
        "flaky",
        "7 % of the attempts in the last 5 min failed and were made again; nothing is lost by that. Latest: receiver \
         answered 502",
    ),
    (
        |report| {
            let queue = &mut report.queues[0];
            behind(queue, DrainState::Draining, Some(30.0));
            queue.lag_seconds = 16.0;
            queue.endpoint.retried_share = Some(0.24);
            queue.errors.push(ErrorPart {
                text: "connection refused".to_owned(),
                last_ms: NOW_MS - 1_000,
                ..ErrorPart::default()
            });
        },
        Level::Attention,
        "flaky",
        "24 % of the attempts in the last 5 min failed and were made again; nothing is lost by that, and 1.2 M \
         samples wait. Latest: connection refused",
    ),
    (
        |report| report.queues[0].journal_trouble = Some("write: EIO".to_owned()),
        Level::Attention,
        "journal",
        "The settle journal cannot be written (write: EIO): sending goes on, and after a crash more is sent twice.",
    ),
    (
        |report| {
            let damage = [("torn_tail", 1), ("body", 3)].map(|(part, count)| DamagePart {
                part: part.to_owned(),
                count,
            });
            report.storage.as_mut().unwrap().damage = damage.to_vec();
        },
        Level::Attention,
        "log_damaged",
        "The log on disk is damaged (3 × body): what could not be read is counted as unreadable.",
    ),
    (
        |report| report.storage.as_mut().unwrap().advice = Some("a sync takes 90 ms".to_owned()),
        Level::Attention,
        "slow_disk",
        "A sync takes 90 ms.",
    ),
    (
        |report| report.stopping = true,
        Level::Attention,
        "stopping",
        "Stopping: senders get 503, and what is pending is sent or kept.",
    ),
];

#[test]
fn the_verdict_says_what_is_the_matter_in_one_sentence() {
    for (change, level, id, text) in CASES {
        let found = verdict_of(*change);
        let verdict = &found[0];
        assert_eq!(
            (verdict.level, &*verdict.id, &*verdict.text),
            (*level, *id, *text)
        );
        assert!(!verdict.text.contains('\n'));
    }
}

#[test]
fn a_blink_is_no_failure_and_old_news_is_none() {
    let quiet: &[fn(&mut Report)] = &[
        |report| fails(&mut report.queues[0], "503", 2, 60_000),
        |report| fails(&mut report.queues[0], "503", 50, 1_500),
        |report| answer(report, 503, "queue_full", 16_000),
        |report| answer(report, 400, "queue_full", 0),
        |report| behind(&mut report.queues[0], DrainState::Steady, None),
        |report| {
            behind(&mut report.queues[0], DrainState::Stopped, None);
            report.queues[0].lag_seconds = 19.0;
            report.queues[0].shards.busy = 0;
        },
        |report| {
            report.storage.as_mut().unwrap().damage = vec![DamagePart {
                part: "torn_tail".to_owned(),
                count: 1,
            }];
        },
        |report| {
            report.queues[0].endpoint.retried_share = Some(0.9);
            report.queues[0].errors.push(ErrorPart {
                last_ms: NOW_MS - 61_000,
                ..ErrorPart::default()
            });
        },
    ];
    for (at, change) in quiet.iter().enumerate() {
        let found = verdict_of(*change);
        assert_eq!(found[0].level, Level::Well, "{at}: {found:?}");
    }
}

#[test]
fn the_worst_comes_first_and_the_rest_is_said_too() {
    let found = verdict_of(|report| {
        *report = outage();
        report.senders.last_ms = Some(NOW_MS - 300_000);
        report.storage.as_mut().unwrap().writable = false;
        report.queues[0].books.conservation_error = 3;
        report.stopping = true;
    });
    let ids: Vec<_> = found.iter().map(|finding| &*finding.id).collect();
    assert_eq!(
        ids,
        [
            "log_unwritable",
            "books",
            "receiver_failing",
            "stopping",
            "silent"
        ],
        "of equals the first rule first, and one word about a receiver"
    );
}

#[test]
fn every_way_to_fail_has_its_words() {
    for (code, words) in [
        ("dns", "The name of the receiver is not found"),
        ("connect", "The receiver cannot be reached"),
        ("tls", "TLS with the receiver fails"),
        ("timeout", "The receiver does not answer in time"),
        ("closed", "The receiver closes the connection"),
        ("other", "Requests to the receiver fail"),
        ("403", "The receiver refuses our credentials (403)"),
        ("404", "The receiver does not know the path (404)"),
        ("429", "The receiver allows nothing (429)"),
        ("200", "The receiver answers like a web page (200)"),
        ("7xx", "The receiver answers 7xx"),
    ] {
        assert_eq!(failure("the receiver", code), words);
    }
}
