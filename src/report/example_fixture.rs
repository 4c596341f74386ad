//! A report for tests and for `docs/api.md`: an outage, with every field filled.

use super::*;

/// Wall clock of the example: 14:05:00 UTC on some day.
pub(crate) const NOW_MS: i64 = 1_899_986_700_000;

/// One queue with nothing to complain about.
pub(crate) fn well() -> Report {
    let mut report = Report {
        version: "0.1.0".to_owned(),
        now_ms: NOW_MS,
        uptime_seconds: 367_200.0,
        mode: "normal".to_owned(),
        ack: Ack {
            mode: "fsync".to_owned(),
            means: "A 2xx means that the request is on disk here, synced.".to_owned(),
        },
        senders: senders(),
        log: LogPart {
            kind: "disk".to_owned(),
            bytes: 3 << 20,
            limit_bytes: 10 << 30,
            records: 6,
            fill_bytes_per_second: Some(520_000.0),
            room_seconds: Some(20_640.0),
        },
        queues: vec![queue()],
        at_risk: ["process", "node", "pod"].map(at_risk).to_vec(),
        memory: Memory {
            limit_bytes: 1 << 30,
            parts: vec![MemoryPart {
                part: "lanes".to_owned(),
                bytes: 5 << 20,
            }],
        },
        process: Process {
            rss_bytes: Some(64 << 20),
            rss_peak_bytes: Some(96 << 20),
            ..Process::of(5_508.0, 0.0, 367_200.0, 4_560_000_000)
        },
        storage: Some(storage()),
        ..Report::default()
    };
    judge(&mut report);
    report
}

/// The receiver fails; what its answers say is not to be trusted.
pub(crate) fn outage() -> Report {
    let mut report = well();
    report.log.bytes = 1 << 30;
    report.log.room_seconds = Some(12_000.0);
    let queue = &mut report.queues[0];
    queue.out_per_second.last_10s = Some(0.0);
    queue.lag_seconds = 169.0;
    queue.pending = PendingPart {
        total: 1_240_000,
        unread: 730_000,
        queued: 500_000,
        in_flight: 10_000,
    };
    queue.drain.state = DrainState::Stopped;
    queue.endpoint.gate = "closed".to_owned();
    queue.endpoint.codes.push(CodePart {
        code: "503".to_owned(),
        count: 212,
        last_ms: NOW_MS - 400,
    });
    queue.endpoint.failing = Some(FailingPart {
        since_ms: NOW_MS - 169_000,
        attempts: 212,
        code: "503".to_owned(),
        code_since_ms: NOW_MS - 169_000,
        why: "receiver answered 503: upstream connect error".to_owned(),
    });
    queue.errors = vec![ErrorPart {
        first_ms: NOW_MS - 169_000,
        last_ms: NOW_MS - 400,
        count: 212,
        text: "receiver answered 503: upstream connect error".to_owned(),
    }];
    queue.books.dropped = vec![Dropped {
        reason: "rejected".to_owned(),
        count: 17,
    }];
    if let Some(storage) = &mut report.storage {
        storage.errors = vec![StorageErrors {
            operation: "fsync".to_owned(),
            error: "EIO".to_owned(),
            count: 1,
        }];
        storage.damage = vec![DamagePart {
            part: "torn_tail".to_owned(),
            count: 1,
        }];
    }
    judge(&mut report);
    report
}

/// Says how it is.
pub(crate) fn judge(report: &mut Report) {
    let mut findings = verdict::findings(report).into_iter();
    report.verdict = findings.next().expect("there is always a verdict");
    report.also = findings.collect();
}

fn senders() -> Senders {
    Senders {
        address: "127.0.0.1:9201".to_owned(),
        samples: 4_560_000_000,
        samples_per_second: rate(12_400.0),
        bytes: 187_000_000_000,
        bytes_per_second: rate(508_000.0),
        requests: 2_280_000,
        last_ms: Some(NOW_MS - 120),
        connections: 2,
        in_flight: 1,
        answers: vec![SenderAnswer {
            code: 204,
            reason: String::new(),
            count: 2_280_000,
            last_ms: NOW_MS - 120,
        }],
    }
}

fn rate(per_second: f64) -> Rate {
    Rate {
        last_10s: Some(per_second),
        last_5m: Some(per_second),
    }
}

/// A queue with nothing to complain about.
pub(crate) fn queue() -> QueuePart {
    QueuePart {
        name: "default".to_owned(),
        url: "https://receiver.example/api/v1/write".to_owned(),
        required: true,
        discards: false,
        out_per_second: rate(12_400.0),
        lag_seconds: 0.31,
        pending: PendingPart {
            total: 3_900,
            unread: 0,
            queued: 1_900,
            in_flight: 2_000,
        },
        drain: Drain::default(),
        ceiling: None,
        shards: Shards {
            actual: 3,
            busy: 1,
            desired: 2.3,
            min: 1,
            max: 50,
            waiting_batches: 0,
            reason: "within_tolerance".to_owned(),
            sum: ShardSum {
                seconds_per_sample: 0.000_184,
                in_per_second: 12_400.0,
                out_per_second: 12_400.0,
                catch_up: 0.05,
                pending: 3_900,
            },
        },
        endpoint: EndpointPart {
            gate: "open".to_owned(),
            knows_v2: "no".to_owned(),
            p50_seconds: Some(0.092),
            p99_seconds: Some(0.61),
            retried_share: Some(0.0),
            codes: vec![CodePart {
                code: "204".to_owned(),
                count: 2_280_000,
                last_ms: NOW_MS - 169_000,
            }],
            failing: None,
            last_success_ms: Some(NOW_MS - 169_000),
        },
        bytes: Bytes {
            sent: 120_000_000_000,
            sent_per_second: rate(326_000.0),
            in_vain: 40_000_000,
            per_sample_in: Some(41.0),
            per_sample_out: Some(26.3),
            saved: Some(67_000_000_000.0),
            saved_share: Some(0.358),
        },
        books: BooksPart {
            received: 4_560_000_000,
            delivered: 4_559_996_100,
            ..BooksPart::default()
        },
        errors: Vec::new(),
        journal_trouble: None,
        shadow: None,
    }
}

fn at_risk(event: &str) -> AtRisk {
    AtRisk {
        event: event.to_owned(),
        samples: 0,
        means: "What is acknowledged is on disk.".to_owned(),
    }
}

fn storage() -> Storage {
    Storage {
        path: "/var/lib/sluicegate".to_owned(),
        medium: "volume".to_owned(),
        writable: true,
        unwritable_since_ms: None,
        last_error: None,
        errors: Vec::new(),
        syncs: 1_836_000,
        sync_p50_seconds: Some(0.002),
        sync_p99_seconds: Some(0.01),
        advice: None,
        damage: Vec::new(),
    }
}
