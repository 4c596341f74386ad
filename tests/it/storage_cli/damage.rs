//! What `verify` says of folders that are not whole.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sluicegate::log::disk::fs::Fs as _;
use sluicegate::log::disk::look::LookFs;
use sluicegate::queue::journal::file;
use sluicegate::storage::cli::Ended;

use super::{json, storage, text};
use crate::storage_kept::copy;

const FIRST: &str = "00000000000000000001.segment";
const SECOND: &str = "00000000000000000005.segment";
const LAST: &str = "00000000000000000009.segment";
const EU: &str = "eu.0000000003.journal";

fn flip(folder: &Path, name: &str, at: usize) {
    let path = folder.join(name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// Where a record stands, and how long its prefix and header are.
fn place(folder: &Path, seq: u64) -> (usize, usize) {
    let (_, found) = json(folder, "inspect", &[&seq.to_string()]);
    let number = |name: &str| found["records"][0][name].as_u64().unwrap() as usize;
    (number("offset"), number("head_bytes"))
}

/// The damage that is found, which is not none.
fn damage(folder: &Path) -> Vec<Value> {
    let (ended, report) = json(folder, "verify", &[]);
    assert_eq!(ended, Ended::Damaged, "{report:#}");
    assert_eq!(report["whole"], false);
    report["damage"].as_array().unwrap().clone()
}

#[test]
fn a_whole_folder_is_whole_and_what_a_crash_left_is_only_told() {
    let folder = copy();
    let (ended, report) = json(folder.path(), "verify", &[]);
    assert_eq!(ended, Ended::Whole);
    assert_eq!(report["records"], 11);
    assert_eq!(report["damage"], serde_json::json!([]));
    let notes = report["notes"].as_array().unwrap();
    let files: Vec<_> = notes.iter().map(|note| note["file"].as_str()).collect();
    assert_eq!(files, [Some(LAST), Some("us.0000000001.journal")]);
}

#[test]
fn a_damaged_body_costs_its_record_and_says_who_still_wanted_it() {
    let folder = copy();
    let (at, head) = place(folder.path(), 6);
    flip(folder.path(), SECOND, at + head + 7);
    let found = damage(folder.path());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["kind"], "body");
    assert_eq!(found[0]["sequence"], 6);
    assert_eq!(found[0]["costs"]["samples"], 20);
    assert_eq!(found[0]["pending"], serde_json::json!({"eu": 20, "us": 15}));
    let (_, text) = text(folder.path(), "verify", &[]);
    assert!(
        text.contains("costs 20 samples, not settled: eu 20, us 15"),
        "{text}"
    );
    let (ended, page) = json(folder.path(), "inspect", &["6", "--labels"]);
    assert_eq!(ended, Ended::Damaged);
    assert_eq!(page["records"][0]["body"], "damaged");
}

#[test]
fn a_damaged_header_costs_what_the_footer_or_the_totals_say() {
    let folder = copy();
    let (at, _) = place(folder.path(), 2);
    flip(folder.path(), FIRST, at + 20);
    let found = damage(folder.path());
    assert_eq!(
        (&found[0]["kind"], &found[0]["sequence"]),
        (&"header".into(), &2.into())
    );
    assert_eq!(found[0]["costs"]["samples"], 12);

    // Without a footer the record behind it tells.
    let folder = copy();
    let (at, _) = place(folder.path(), 10);
    flip(folder.path(), LAST, at + 20);
    let found = damage(folder.path());
    assert_eq!(
        (&found[0]["kind"], &found[0]["sequence"]),
        (&"header".into(), &10.into())
    );
    assert_eq!(found[0]["costs"]["samples"], 8);
    assert_eq!(found[0]["pending"], serde_json::json!({"eu": 8, "us": 8}));
    let (_, listing) = json(folder.path(), "ls", &[]);
    assert_eq!(listing["segments"][2]["state"], "damaged");
    assert_eq!(listing["journals"][0]["pending"]["counts"]["samples"], 99);
}

#[test]
fn footers_and_copies_of_headers_are_damage_that_costs_nothing() {
    for (name, at, kind) in [
        (FIRST, 30, "segment_header"),
        (FIRST, 150, "segment_header"),
    ] {
        let folder = copy();
        flip(folder.path(), name, at);
        let found = damage(folder.path());
        assert_eq!((found.len(), &found[0]["kind"]), (1, &kind.into()));
        assert_eq!(found[0]["costs"]["samples"], 0);
    }
    let folder = copy();
    let length = fs::metadata(folder.path().join(FIRST)).unwrap().len() as usize;
    for at in [length - 100, length - 130] {
        let folder = copy();
        flip(folder.path(), FIRST, at);
        let found = damage(folder.path());
        assert_eq!(
            (found.len(), &found[0]["kind"]),
            (1, &"footer".into()),
            "{found:#?}"
        );
        assert_eq!(found[0]["costs"]["samples"], 0);
    }
}

#[test]
fn a_segment_that_is_gone_or_unreadable_is_missed_by_the_queues_that_want_it() {
    let folder = copy();
    fs::remove_file(folder.path().join(SECOND)).unwrap();
    let found = damage(folder.path());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["kind"], "missing");
    assert_eq!(found[0]["sequence"], 5);
    assert_eq!(found[0]["costs"]["samples"], 48);
    let wanted = serde_json::json!({"eu": 50, "us": 25});
    assert_eq!(found[0]["pending"], wanted);

    let folder = copy();
    flip(folder.path(), SECOND, 30);
    flip(folder.path(), SECOND, 150);
    let found = damage(folder.path());
    let kinds: Vec<_> = found.iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds, ["segment", "missing"]);
    assert_eq!(found[1]["pending"], wanted);

    // What all have settled may be deleted.
    let folder = copy();
    fs::remove_file(folder.path().join(EU)).unwrap();
    fs::remove_file(folder.path().join(FIRST)).unwrap();
    let (ended, report) = json(folder.path(), "verify", &[]);
    assert_eq!(ended, Ended::Whole, "{report:#}");
}

#[test]
fn the_end_of_the_log_is_missed_when_a_journal_knows_of_more() {
    let folder = copy();
    fs::remove_file(folder.path().join(LAST)).unwrap();
    let found = damage(folder.path());
    assert_eq!(found[0]["kind"], "missing", "{found:#?}");
    assert_eq!(found[0]["sequence"], 9);
}

#[test]
fn damage_in_a_journal_is_found_and_the_one_that_counts_is_that_of_a_start() {
    let folder = copy();
    let length = fs::metadata(folder.path().join(EU)).unwrap().len() as usize;
    for at in [9, length / 2] {
        let folder = copy();
        flip(folder.path(), EU, at);
        let found = damage(folder.path());
        assert!(
            found.iter().all(|one| one["kind"] == "journal"),
            "{found:#?}"
        );
        let fs = LookFs::open(folder.path()).unwrap();
        let started = file::open(&fs, "eu").unwrap();
        let (_, listing) = json(folder.path(), "ls", &[]);
        let eu = &listing["journals"][0];
        assert_eq!(eu["file"].is_null(), started.recovered.is_none());
        let known = started.recovered.unwrap_or_default();
        assert_eq!(eu["delivered"]["samples"], known.ledger.delivered.samples);
        assert_eq!(eu["open"]["batches"], known.open.len());
    }
    // Behind a newer one that was never finished an older one counts.
    let folder = copy();
    fs::write(folder.path().join("eu.0000000004.journal"), [0; 40]).unwrap();
    let (_, listing) = json(folder.path(), "ls", &[]);
    assert_eq!(listing["journals"][0]["file"], EU);
    let (ended, _) = json(folder.path(), "verify", &[]);
    assert_eq!(ended, Ended::Whole);
}

#[test]
fn no_byte_of_a_sealed_segment_or_of_a_journal_can_change_unseen() {
    let whole = copy();
    for (name, all) in [(FIRST, true), (SECOND, true), (EU, true), (LAST, false)] {
        let path = whole.path().join(name);
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(13) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, flipped).unwrap();
            let (ended, out, _) = storage(&["verify", whole.path().to_str().unwrap()]);
            // Zeros that fill up the two copies of a header say nothing.
            let filling = name.ends_with("segment") && at < 256 && at % 128 >= 72;
            // The end of what was not sealed looks like what a crash leaves; of a journal the last entry.
            let end = !all || name == EU && at >= bytes.len() - 21;
            let seen = ended == Ended::Damaged || filling || end;
            assert!(seen, "{name}, byte {at}: {out}");
        }
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_folder_cut_short_anywhere_is_read_without_a_panic() {
    let folder = copy();
    for name in [SECOND, LAST, EU] {
        let path = folder.path().join(name);
        let bytes = fs::read(&path).unwrap();
        for length in (0..bytes.len()).step_by(61) {
            fs::write(&path, &bytes[..length]).unwrap();
            for command in ["verify", "ls"] {
                let (ended, ..) = storage(&[command, folder.path().to_str().unwrap()]);
                assert_ne!(ended, Ended::Unreadable, "{name}, {length} bytes");
            }
        }
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_look_refuses_whatever_would_change_the_folder() {
    let folder = copy();
    let fs = LookFs::open(folder.path()).unwrap();
    assert!(fs.create("new").is_err() && fs.remove(FIRST).is_err());
    assert!(fs.rename(FIRST, "other").is_err() && fs.sync_dir().is_err());
    let file = fs.open(FIRST).unwrap();
    assert!(file.write_at(b"x", 0).is_err() && file.truncate(0).is_err());
    assert!(file.sync().is_err());
    std::os::unix::fs::symlink(folder.path().join(FIRST), folder.path().join("link")).unwrap();
    assert!(fs.open("link").is_err(), "no link is followed");
}
