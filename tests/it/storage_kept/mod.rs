//! The folder of the released format, `tests/data/storage-v1`: every later build reads it, and loses nothing.
//!
//! It is never made anew. A format that differs gets a folder of its own beside it, and this one stays.

pub(crate) mod recipe;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sluicegate::log::Seq;
use sluicegate::log::disk::fs::OsFs;
use sluicegate::log::disk::store::{Store, StoreOptions};
use sluicegate::log::disk::{Damage, Floor};
use sluicegate::model::counts::{Counts, Kind};
use sluicegate::model::runs::RunSet;
use sluicegate::queue::batch::BatchId;
use sluicegate::queue::journal::entry::{Presettled, Unsettled};
use sluicegate::queue::journal::file;
use sluicegate::queue::journal::recover::Recovered;
use sluicegate::queue::ledger::{DropReason, Ledger};
use sluicegate::units::{ByteSize, Span};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::capture::{Capture, Seen};
use crate::harness::proxy;
use recipe::{Element, Given, RECORDS, run, samples, text_of};

/// Where it is kept.
fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/storage-v1")
}

/// All files of a folder.
pub(crate) fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

/// A copy of it, to be written to.
pub(crate) fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files_of(&kept()) {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn totals_up_to(seq: u64) -> Counts {
    (1..=seq).map(|seq| Given::new(seq).admitted()).sum()
}

/// `cargo test --test it the_kept_folder_is_written -- --ignored`, once for a format.
#[test]
#[ignore = "writes tests/data/storage-v1, which is released and stays"]
fn the_kept_folder_is_written() {
    let made = tempfile::tempdir().unwrap();
    recipe::write(made.path());
    std::fs::create_dir_all(kept()).unwrap();
    for (name, bytes) in files_of(made.path()) {
        std::fs::write(kept().join(name), bytes).unwrap();
    }
}

#[test]
fn what_is_written_now_is_byte_by_byte_what_was_released() {
    let made = tempfile::tempdir().unwrap();
    recipe::write(made.path());
    let (made, kept) = (files_of(made.path()), files_of(&kept()));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&made), names(&kept));
    for (name, bytes) in made {
        let differs = bytes.iter().zip(&kept[&name]).position(|(a, b)| a != b);
        assert!(bytes == kept[&name], "{name} differs at {differs:?}");
    }
}

#[test]
fn every_record_of_the_kept_folder_is_what_it_was() {
    let folder = copy();
    let fs = Arc::new(OsFs::open(folder.path(), Duration::ZERO).unwrap());
    let now = (Instant::now(), recipe::WALL);
    let options = StoreOptions::new(64 << 10, vec![true], now);
    let (store, opened) = Store::open(fs, options, Floor::default()).expect("it is readable");
    assert_eq!((opened.first, opened.end), (Seq(1), Seq(RECORDS + 1)));
    assert_eq!(opened.records, RECORDS);
    assert_eq!(opened.totals, totals_up_to(RECORDS));
    let torn = Damage {
        torn_tail: 1,
        ..Damage::default()
    };
    assert_eq!(opened.damage, torn);
    assert!(opened.torn_tail_bytes > 100, "{opened:?}");
    assert!(opened.next > Seq(RECORDS + 1), "12 may have been given");
    for seq in 1..=RECORDS {
        let given = Given::new(seq);
        let (record, body) = store.fetch(Seq(seq)).expect("it is there");
        assert_eq!(record.seq, Seq(seq));
        assert_eq!(record.arrival_ms, given.arrival_ms());
        assert_eq!(record.protocol, given.protocol);
        assert_eq!(record.encoding, given.encoding);
        assert_eq!(*record.tenant, given.tenant);
        assert_eq!(record.counts, given.counts());
        assert_eq!(record.admitted, given.admitted());
        assert_eq!(record.skipped, given.skipped());
        assert_eq!(record.totals, totals_up_to(seq));
        assert_eq!(body.as_deref(), Some(&*given.body()), "{seq}");
    }
    assert!(store.fetch(Seq(RECORDS + 1)).is_none());
    assert_eq!(store.damage(), torn, "reading found no more");
}

#[test]
fn the_journals_of_the_kept_folder_say_what_they_said() {
    let folder = copy();
    let fs = OsFs::open(folder.path(), Duration::ZERO).unwrap();
    let presettled = |seq, to| {
        let known = Presettled {
            runs: RunSet::range(0, to),
            counts: samples(to.into()),
        };
        (Seq(seq), known)
    };
    let eu = Recovered {
        cursor: Seq(1),
        entered: Seq(1),
        ledger: Ledger {
            delivered: samples(30),
            ..Ledger::default()
        },
        presettled: [presettled(1, 20), presettled(3, 10)].into(),
        open: [(BatchId(3), vec![run(3, 10, 15), run(5, 0, 5)])].into(),
        next_batch: 4,
        ..Recovered::default()
    };
    let opened = file::open(&fs, "eu").unwrap();
    assert_eq!(opened.recovered, Some(eu));
    assert_eq!((opened.damage.tail, opened.set_aside.len()), (0, 0));

    let mut ledger = Ledger {
        delivered: samples(84),
        ..Ledger::default()
    };
    ledger.drop(DropReason::Rejected, samples(2));
    let left = Unsettled {
        seq: Seq(6),
        settled: RunSet::range(0, 5),
        unsettled: samples(15),
    };
    let us = Recovered {
        cursor: Seq(6),
        entered: Seq(7),
        entered_totals: samples(97),
        ledger,
        records: [(Seq(6), left)].into(),
        presettled: [presettled(9, 4)].into(),
        open: [(BatchId(7), vec![run(6, 5, 8)])].into(),
        next_batch: 9,
        ..Recovered::default()
    };
    let opened = file::open(&fs, "us").unwrap();
    assert_eq!(opened.recovered, Some(us));
    assert!(opened.damage.tail > 0 && opened.damage.places == 0);
}

/// The elements of a request.
pub(crate) fn elements_of(seen: &Seen) -> Vec<Element> {
    let mut all = Vec::new();
    if !seen.is_v2() {
        for one in seen.v1().timeseries {
            let text = text_of(&one.labels);
            let element = |kind, at, value: f64| (kind, text.clone(), at, value.to_bits());
            let samples = one.samples.iter();
            all.extend(samples.map(|s| element(Kind::Sample, s.timestamp, s.value)));
            let histograms = one.histograms.iter();
            all.extend(histograms.map(|h| element(Kind::Histogram, h.timestamp, 0.0)));
            let exemplars = one.exemplars.iter();
            all.extend(exemplars.map(|e| element(Kind::Exemplar, e.timestamp, e.value)));
        }
        return all;
    }
    let request = seen.v2();
    for one in &request.timeseries {
        let symbol = |n: &u32| &request.symbols[*n as usize];
        let pairs = one.labels_refs.chunks(2);
        let mut pairs: Vec<_> = pairs
            .map(|pair| format!("{}={}", symbol(&pair[0]), symbol(&pair[1])))
            .collect();
        pairs.sort();
        let text = pairs.join(",");
        let element = |kind, at, value: f64| (kind, text.clone(), at, value.to_bits());
        let samples = one.samples.iter();
        all.extend(samples.map(|s| element(Kind::Sample, s.timestamp, s.value)));
        let histograms = one.histograms.iter();
        all.extend(histograms.map(|h| element(Kind::Histogram, h.timestamp, 0.0)));
        let exemplars = one.exemplars.iter();
        all.extend(exemplars.map(|e| element(Kind::Exemplar, e.timestamp, e.value)));
    }
    all
}

pub(crate) fn sorted(mut elements: Vec<Element>) -> Vec<Element> {
    elements.sort();
    elements
}

/// The elements of these ordinals of a record.
fn picked(seq: u64, from: usize, to: usize) -> Vec<Element> {
    Given::new(seq).elements()[from..to].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_started_on_the_kept_folder_delivers_exactly_what_is_pending() {
    let folder = copy();
    let (eu, us) = (Capture::start().await, Capture::start().await);
    let upstreams = [format!("eu={}", eu.url()), format!("us={}", us.url())];
    let proxy = proxy(&upstreams, |args| {
        args.storage_path = Some(folder.path().to_owned());
        args.storage_max_bytes = Some(ByteSize(4 << 20));
        args.queue.batch_send_deadline = Some(Span(Duration::from_millis(100)));
    })
    .await;
    proxy.drained().await;
    proxy.assert_sound();
    for (queue, receiver, open, delivered) in [
        (
            "eu",
            &eu,
            [picked(3, 10, 15), picked(5, 0, 5)].concat(),
            137,
        ),
        ("us", &us, picked(6, 5, 8), 135),
    ] {
        let seen = receiver.seen();
        let sent: Vec<_> = seen.iter().flat_map(elements_of).collect();
        assert_eq!(sorted(sent), sorted(recipe::pending(queue)), "{queue}");
        let alone = |request: &Seen| sorted(elements_of(request)) == sorted(open.clone());
        assert!(seen.iter().any(alone), "{queue}: the open batch is alone");
        // The tenant's samples go with its header, and nobody else's do.
        for request in &seen {
            let of_tenant = |element: &Element| element.2 == recipe::WALL + 30_000;
            let all = elements_of(request);
            let tenant = request.header("x-scope-orgid") == Some("team-a");
            assert!(all.iter().all(|element| of_tenant(element) == tenant));
        }
        let books = proxy.queues.iter().find(|each| each.name() == queue);
        let books = books.unwrap().books();
        assert_eq!(books.ledger.delivered.samples, delivered, "{books:?}");
        assert_eq!(books.received, totals_up_to(RECORDS), "{books:?}");
    }
    proxy.stop().await;
}
