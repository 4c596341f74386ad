//! From what a queue knows to what its journal says.

use std::sync::Arc;

use tokio::time::Instant;

use super::*;
use crate::log::{Record, Tenant};
use crate::wire::compression::Encoding;
use crate::wire::decoded::Protocol;

const COUNTS: Counts = Counts {
    samples: 4,
    histograms: 2,
    exemplars: 3,
};

fn record(seq: u64, skipped: RunSet) -> Arc<Record> {
    Arc::new(Record {
        seq: Seq(seq),
        arrival_ms: 0,
        arrived: Instant::now(),
        protocol: Protocol::V1,
        encoding: Encoding::Snappy,
        tenant: Arc::new(Tenant::default()),
        counts: COUNTS,
        skipped,
        admitted: COUNTS,
        totals: COUNTS,
        body_len: 0,
        ack: None,
    })
}

fn run(seq: u64, from: u32, to: u32, kind: Kind) -> JournalRun {
    let seq = Seq(seq);
    JournalRun {
        seq,
        from,
        to,
        kind,
    }
}

#[test]
fn a_run_is_split_where_the_kind_changes() {
    let held = [(4, 2, 3), (0, 2, 3), (3, 0, 4), (0, 0, 5), (5, 0, 0)];
    for (samples, histograms, exemplars) in held {
        let counts = Counts {
            samples,
            histograms,
            exemplars,
        };
        let all = counts.total() as u32;
        for (from, to) in (0..all).flat_map(|from| (from..=all).map(move |to| (from, to))) {
            let what = format!("{from}..{to} of {counts:?}");
            let split: Vec<_> = JournalRun::split(Seq(7), counts, from, to).collect();
            let ordinals = split.iter().flat_map(|run| run.from..run.to);
            assert!(ordinals.eq(from..to), "{what}");
            for run in &split {
                assert!(
                    (run.from..run.to).all(|o| counts.kind_of(o) == run.kind),
                    "{what}"
                );
                assert_eq!(run.seq, Seq(7));
            }
            let mut kinds: Vec<_> = split.iter().map(|run| run.kind).collect();
            kinds.dedup();
            assert_eq!(kinds.len(), split.len(), "{what}: no more parts than kinds");
        }
    }
}

#[test]
fn runs_are_said_by_record_whatever_slots_the_records_have() {
    let mut records = Records::default();
    let first = records.enter(record(1, RunSet::default()));
    let second = records.enter(record(2, RunSet::default()));
    records.leave(first);
    let third = records.enter(record(3, RunSet::default()));
    assert!(third < second, "its slot has been another's");
    let of = |record, from, to| Run { record, from, to };
    let runs = [of(third, 0, 1), of(third, 3, 5), of(second, 8, 9)];
    let expected = [
        run(2, 8, 9, Kind::Exemplar),
        run(3, 0, 1, Kind::Sample),
        run(3, 3, 4, Kind::Sample),
        run(3, 4, 5, Kind::Histogram),
    ];
    assert_eq!(journal_runs(&runs, &records), expected);
}

#[test]
fn what_is_unsettled_of_a_record_leaves_out_what_was_skipped_and_settled() {
    let mut records = Records::default();
    let slot = records.enter(record(5, RunSet::range(0, 2)));
    let (from, to) = (3, 7);
    records.settle(Run {
        record: slot,
        from,
        to,
    });
    let unsettled = Unsettled::from(records.get(slot));
    let left = Counts {
        samples: 1,
        histograms: 0,
        exemplars: 2,
    };
    assert_eq!((unsettled.seq, unsettled.unsettled), (Seq(5), left));
    let settled: Vec<_> = unsettled.settled.iter().collect();
    assert_eq!(settled, [(0, 2), (3, 7)]);
}

#[test]
fn what_became_of_a_batch_is_said_in_all_its_parts() {
    let of = |n| Counts::of(Kind::Sample, n);
    let outcome = Outcome {
        delivered: of(1),
        unconfirmed: of(2),
        dropped: vec![(DropReason::Rejected, of(3)), (DropReason::TooLarge, of(4))],
        ..Outcome::default()
    };
    let settled = Settled::from(&outcome);
    assert_eq!((settled.delivered, settled.unconfirmed), (of(1), of(2)));
    assert_eq!(settled.dropped, outcome.dropped);
    assert_eq!(settled.quarantined, Counts::default());
}
