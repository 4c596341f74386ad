//! `sluicegate storage`, on the kept folder, on folders of the real log, and beside a running process.

mod beside;
mod damage;
mod export;

use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;
use sluicegate::cli::{Cli, Command};
use sluicegate::storage::cli::{Ended, run};

use crate::storage_kept::{copy, files_of};

/// Runs a command: how it ended, what it printed, what went wrong.
fn storage(arguments: &[&str]) -> (Ended, String, String) {
    let words = ["sluicegate", "storage"].iter().chain(arguments);
    let cli = Cli::read(words.map(OsString::from)).expect("a command line that makes sense");
    let Command::Storage(args) = cli.command else {
        panic!("not a storage command");
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = run(&args, &mut out, &mut err).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ended, text(out), text(err))
}

/// The same, of a command that prints JSON; and nothing in the folder has changed.
fn json(folder: &Path, command: &str, further: &[&str]) -> (Ended, Value) {
    let before = files_of(folder);
    let path = folder.to_str().unwrap();
    let mut arguments = vec![command, path, "-o", "json"];
    arguments.extend(further);
    let (ended, out, err) = storage(&arguments);
    assert_eq!(err, "");
    assert!(before == files_of(folder), "the folder is as it was");
    (ended, serde_json::from_str(&out).unwrap())
}

/// The same, printed for people.
fn text(folder: &Path, command: &str, further: &[&str]) -> (Ended, String) {
    let mut arguments = vec![command, folder.to_str().unwrap()];
    arguments.extend(further);
    let (ended, out, _) = storage(&arguments);
    (ended, out)
}

/// The program's exit code, and what it said on stderr.
fn code(arguments: &[&str]) -> (i32, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .arg("storage")
        .args(arguments)
        .output()
        .expect("it starts");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().expect("no signal killed it"), err)
}

#[test]
fn ls_tells_each_segment_and_each_queue_in_numbers() {
    let folder = copy();
    let (ended, listing) = json(folder.path(), "ls", &[]);
    assert_eq!(ended, Ended::Whole);
    assert_eq!(listing["in_use"], false);
    assert_eq!(listing["format"], 1);
    let segments = listing["segments"].as_array().unwrap();
    let states: Vec<_> = segments.iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["sealed", "sealed", "torn"]);
    let second = &segments[1];
    assert_eq!((&second["first"], &second["last"]), (&5.into(), &8.into()));
    assert_eq!(second["counts"]["samples"], 48);
    assert_eq!(second["counts"]["histograms"], 1);
    assert_eq!(second["first_arrival"], "2023-11-14T22:13:25.000Z");
    assert_eq!(second["last_arrival"], "2023-11-14T22:13:28.000Z");
    let eu = &listing["journals"][0];
    assert_eq!(eu["queue"], "eu");
    assert_eq!(eu["pending"]["counts"]["samples"], 107);
    assert_eq!(eu["open"]["batches"], 1);
    assert_eq!(eu["open"]["elements"], 10);
    let us = &listing["journals"][1];
    assert_eq!((&us["cursor"], &us["entered"]), (&6.into(), &7.into()));
    assert_eq!(us["pending"]["counts"]["samples"], 51);
    assert_eq!(us["pending"]["records"], 6);
    assert_eq!(us["delivered"]["samples"], 84);
    assert_eq!(us["dropped"]["samples"], 2);
    assert_eq!(listing["totals"]["records"], 11);
    assert_eq!(listing["totals"]["counts"]["samples"], 137);

    let (_, text) = text(folder.path(), "ls", &[]);
    assert!(text.contains("format 1, not in use"), "{text}");
    assert!(text.contains("48+1h+1e"), "{text}");
    let last = "total: 3 segments, 11 records, 137 samples, 1 histogram, 1 exemplar";
    assert!(text.contains(last), "{text}");
}

#[test]
fn inspect_tells_a_records_header_and_shows_payload_only_when_asked() {
    let folder = copy();
    let (ended, found) = json(folder.path(), "inspect", &["2..4"]);
    assert_eq!(ended, Ended::Whole);
    let records = found["records"].as_array().unwrap();
    let sequences: Vec<_> = records.iter().map(|one| &one["sequence"]).collect();
    assert_eq!(sequences, [2, 3, 4]);
    let second = &records[0];
    assert_eq!(second["protocol"], "2.0");
    assert_eq!(second["encoding"], "snappy");
    assert_eq!(second["tenant"][0][1], "team-a");
    assert_eq!(second["pending"]["eu"], 12);
    assert!(second["pending"]["us"].is_null(), "settled there");
    assert_eq!(records[1]["encoding"], "zstd");
    assert_eq!(records[1]["pending"]["eu"], 10);
    assert_eq!(records[2]["skipped"][0], serde_json::json!([2, 3]));
    assert_eq!(records[2]["totals"]["samples"], 57);

    let (_, plain) = text(folder.path(), "inspect", &["4"]);
    assert!(!plain.contains("kept_seconds"), "{plain}");
    let (_, labels) = text(folder.path(), "inspect", &["4", "--labels"]);
    let series = "{__name__=\"kept_seconds\",instance=\"10.0.0.5:9100\",job=\"node\"} 1 sample";
    assert!(labels.contains(series), "{labels}");
    assert!(labels.contains("refused: no __name__ label"), "{labels}");

    let segment = ["--segment", "00000000000000000005.segment"];
    let (ended, found) = json(folder.path(), "inspect", &segment);
    assert_eq!(ended, Ended::Whole);
    assert_eq!(found["records"].as_array().unwrap().len(), 4);
    assert_eq!(found["segments"][0]["headers"], 2);
    assert_eq!(found["segments"][0]["totals_before"]["samples"], 57);

    let (ended, text) = text(folder.path(), "inspect", &["99"]);
    assert_eq!(ended, Ended::Damaged);
    assert!(text.contains("no such record"), "{text}");
}

#[test]
fn what_a_sender_wrote_cannot_speak_to_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let nasty = "\u{1b}[2J\"\n";
    let series = crate::requests::series(
        crate::requests::labels("nasty", &[("evil", nasty)]),
        &[(1, 1.0)],
    );
    beside::written(folder.path(), vec![series], nasty);
    let (ended, text) = text(folder.path(), "inspect", &["1", "--labels"]);
    assert_eq!(ended, Ended::Whole, "{text}");
    assert!(text.contains("evil=") && text.contains("\\u{1b}"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn exit_codes_are_those_of_the_help() {
    let folder = copy();
    let path = folder.path().to_str().unwrap();
    assert_eq!(code(&["ls", path]).0, 0);
    assert_eq!(code(&["verify", path]).0, 0);
    assert_eq!(code(&["inspect", path, "99"]).0, 1);
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    for nonsense in [
        &["ls"][..],
        &["inspect", path],
        &["inspect", path, "4..1"],
        &["export", path],
        &["export", path, "--out", out, "--to-url", "http://x/"],
        &["export", path, "--out", out, "--queue", "asia"],
        &["export", path, "--to-url", "ftp://x/"],
    ] {
        assert_eq!(code(nonsense).0, 64, "{nonsense:?}");
    }
    let none = folder.path().join("none");
    let empty = tempfile::tempdir().unwrap();
    let file = folder.path().join("format");
    for unreadable in [&none, empty.path(), &file] {
        let (code, err) = code(&["verify", unreadable.to_str().unwrap()]);
        assert_eq!(code, 74, "{err}");
        assert!(err.contains("sluicegate storage: "), "{err}");
    }
    std::fs::write(&file, "sluicegate storage 9\n").unwrap();
    let (code, err) = code(&["ls", path]);
    assert_eq!(code, 74);
    assert!(err.contains("sluicegate storage 9"), "{err}");
}
