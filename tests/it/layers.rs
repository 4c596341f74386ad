//! Guards over the sources: which part may use which, and what is found in one place only.
//!
//! The sentences are those of `docs/ARCHITECTURE.md`, "Invariants"; a test asserts that they stand there.
//! Tests inside `src` are not looked at: they may use what they like.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a part of the program may use, and the sentence that says so.
struct Layer {
    part: &'static str,
    uses: &'static [&'static str],
    because: &'static str,
}

const LEAF: &str = "`clock`, `units`, `vital` and `metrics` use no other part.";
const LISTEN: &str = "`listen` knows connections and nothing that comes over them.";
const PURE: &str = "`wire` and `model` use no stage, no clock and no metrics.";
const STAGE: &str = "`ingest`, `log` and `queue` never see the configuration.";
const MEET: &str = "`ingest` and `queue` do not know each other; they meet at `log`.";
const TOLD: &str =
    "`report` uses no other part: what people are told is plain values, filled by `status`.";
const OUTSIDE: &str = "No stage knows `app`, `admin`, `status`, `storage`, `cli` or `bench`.";

/// `use crate::…` edges that are allowed. What is in no row may not be used at all.
const LAYERS: &[Layer] = &[
    row("clock", &[], LEAF),
    row("units", &[], LEAF),
    row("vital", &[], LEAF),
    row("metrics", &[], LEAF),
    row("listen", &["clock"], LISTEN),
    row("logging", &["config"], OUTSIDE),
    row("model", &[], PURE),
    row("wire", &["model"], PURE),
    row("log", &["clock", "model", "vital", "wire"], STAGE),
    row(
        "ingest",
        &["clock", "listen", "log", "metrics", "model", "wire"],
        MEET,
    ),
    row(
        "queue",
        &["clock", "log", "metrics", "model", "vital", "wire"],
        MEET,
    ),
    row("config", &["units"], STAGE),
    row("report", &[], TOLD),
    row(
        "status",
        &[
            "clock", "config", "ingest", "listen", "log", "metrics", "queue", "report",
        ],
        OUTSIDE,
    ),
    row("admin", &["clock", "listen", "report", "status"], OUTSIDE),
    row("bench", &["units", "wire"], OUTSIDE),
    // The whole program and the bench around it, as a command line would put them together.
    row(
        "demo",
        &[
            "app", "bench", "cli", "clock", "config", "log", "logging", "report", "status", "units",
        ],
        OUTSIDE,
    ),
    // A folder is read as the log and its queues would read it, and posted with a queue's client.
    row(
        "storage",
        &["clock", "log", "model", "queue", "wire"],
        OUTSIDE,
    ),
    // Two query APIs are asked with a queue's client.
    row("verify", &["clock", "queue", "report", "units"], OUTSIDE),
    row(
        "cli",
        &["bench", "config", "report", "storage", "units", "verify"],
        OUTSIDE,
    ),
    row(
        "app",
        &[
            "admin", "clock", "config", "ingest", "listen", "log", "metrics", "model", "queue",
            "status", "wire",
        ],
        OUTSIDE,
    ),
    row(
        "run",
        &[
            "app", "cli", "clock", "config", "logging", "log", "queue", "report", "status",
        ],
        OUTSIDE,
    ),
];

const fn row(part: &'static str, uses: &'static [&'static str], because: &'static str) -> Layer {
    Layer {
        part,
        uses,
        because,
    }
}

/// Edges that are there and should not be. One that is gone must be taken out of this list.
const TO_GO: &[(&str, &str, &str)] = &[
    (
        "model",
        "wire",
        "a label pair is kept in its 1.0 bytes, and the function that writes them stands in wire",
    ),
    (
        "config",
        "cli",
        "the flags are a struct of clap's, which config puts over the file",
    ),
];

/// Plain functions over values: time comes in as an argument, effects are the caller's.
const PURE_FILES: &[&str] = &[
    "wire/",
    "model/",
    "units.rs",
    "admin/html.rs",
    "admin/page.rs",
    "admin/panels.rs",
    "admin/queue_panel.rs",
    "admin/shadow_panel.rs",
    "demo/outcome.rs",
    "demo/script.rs",
    "demo/told.rs",
    "demo/view.rs",
    "report/",
    "status/history.rs",
    "ingest/pace.rs",
    "listen/framing.rs",
    "queue/attempts.rs",
    "queue/autoscale.rs",
    "queue/batch.rs",
    "queue/convert.rs",
    "queue/dispatch.rs",
    "queue/gate.rs",
    "queue/grouping.rs",
    "queue/journal/codec.rs",
    "queue/journal/entry.rs",
    "queue/journal/mod.rs",
    "queue/journal/payload.rs",
    "queue/journal/recover.rs",
    "queue/lanes.rs",
    "queue/ledger.rs",
    "queue/metadata.rs",
    "queue/nodes.rs",
    "queue/protocol.rs",
    "queue/records.rs",
    "queue/restore.rs",
    "queue/shadow/measure.rs",
    "queue/shadow/mod.rs",
    "queue/shadow/recut.rs",
    "queue/state.rs",
    "queue/table.rs",
    "queue/take.rs",
    "queue/verdict.rs",
    "queue/whole.rs",
    "verify/answer.rs",
    "verify/diff.rs",
    "verify/gaps.rs",
    "verify/plan.rs",
    "verify/report.rs",
    "verify/series.rs",
    "verify/text.rs",
    "verify/totals.rs",
    "verify/tracker.rs",
];
const EFFECTS: &[&str] = &[
    "async ",
    ".await",
    "Instant::now",
    "SystemTime",
    "fastrand::f",
    "fastrand::u",
    "hyper::",
    "metrics::",
    "std::fs",
    "std::net",
    "tracing::",
    "tokio::net",
    "tokio::spawn",
    "tokio::sync",
    "tokio::task",
    "tokio::time::sleep",
    "tokio::time::timeout",
];
const PURE_FILE: &str =
    "Pure files have no `async`, no clock, no I/O, no logging and no metrics in them.";

/// Text that stands in few files only.
struct Only {
    text: &'static str,
    files: &'static [&'static str],
    because: &'static str,
}

const ONLY: &[Only] = &[
    Only {
        text: "\"sluicegate_",
        files: &["metrics.rs"],
        because: "Names of metrics stand in `metrics.rs` and nowhere else.",
    },
    Only {
        text: "StatusCode::",
        files: &["ingest/respond.rs", "admin/", "bench/"],
        because: "Only `ingest/respond.rs` turns what happened to a sender's request into a status code.",
    },
    Only {
        text: "wire::pb",
        files: &["bench/"],
        because: "The generated protobuf code is not on the way of a sample; tests and `bench` use it.",
    },
    Only {
        text: "SystemTime::now",
        files: &["clock.rs", "bench/"],
        because: "The wall clock is read in `clock.rs`.",
    },
];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// A source file without its tests and whole-line comments, by its path below `src`.
struct Source {
    path: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&src(), &mut found);
    assert!(found.len() > 50, "the sources are there: {}", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("src can be listed") {
        let path = entry.expect("src can be listed").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "tests" {
                collect(&path, found);
            }
            continue;
        }
        let is_test = name == "tests.rs" || name.contains("_tests.") || name.contains("_fixture.");
        if is_test || path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source file can be read");
        let inside = path.strip_prefix(src()).expect("it was found below src");
        found.push(Source {
            path: inside.to_string_lossy().into_owned(),
            code: without_tests(&text),
        });
    }
}

fn without_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next();
    let lines = code.unwrap_or_default().lines();
    let code: Vec<_> = lines
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    code.join("\n")
}

/// The part that a file belongs to: its folder, or its name.
fn part_of(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or_default();
    first.trim_end_matches(".rs")
}

/// Parts that this code names after `crate::`.
fn uses(code: &str) -> BTreeSet<&str> {
    let after = code.split("crate::").skip(1);
    after
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
        .inspect(|part| assert!(!part.is_empty(), "write `use crate::part::…`, one for each"))
        .collect()
}

#[test]
fn parts_use_only_what_they_may() {
    let mut wrong = Vec::new();
    let mut to_go: BTreeSet<_> = TO_GO.iter().map(|edge| (edge.0, edge.1)).collect();
    for source in sources() {
        let part = part_of(&source.path);
        if part == "main" || part == "lib" {
            continue;
        }
        let Some(layer) = LAYERS.iter().find(|layer| layer.part == part) else {
            wrong.push(format!("{}: `{part}` has no row in LAYERS", source.path));
            continue;
        };
        for used in uses(&source.code) {
            let known = TO_GO.iter().find(|edge| (edge.0, edge.1) == (part, used));
            if let Some(edge) = known {
                to_go.remove(&(edge.0, edge.1));
            } else if used != part && !layer.uses.contains(&used) {
                wrong.push(format!(
                    "{}: {part} -> {used}. {}",
                    source.path, layer.because
                ));
            }
        }
    }
    wrong.extend(to_go.iter().map(|(from, to)| {
        format!("{from} -> {to} is gone: take it out of TO_GO, and out of docs/ARCHITECTURE.md")
    }));
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn pure_files_have_no_effects() {
    let mut wrong = Vec::new();
    for source in sources() {
        let pure = PURE_FILES.iter().any(|file| source.path.starts_with(file));
        if !pure {
            continue;
        }
        for effect in EFFECTS
            .iter()
            .filter(|effect| source.code.contains(*effect))
        {
            wrong.push(format!("{}: `{effect}`. {PURE_FILE}", source.path));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn what_belongs_to_one_place_stands_nowhere_else() {
    let mut wrong = Vec::new();
    for source in sources() {
        for only in ONLY.iter().filter(|only| source.code.contains(only.text)) {
            if !only.files.iter().any(|file| source.path.starts_with(file)) {
                wrong.push(format!(
                    "{}: `{}`. {}",
                    source.path, only.text, only.because
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_page_of_the_architecture_says_the_same() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md");
    let page = fs::read_to_string(page).expect("docs/ARCHITECTURE.md is there");
    // Sentences may be wrapped there.
    let page: Vec<_> = page.split_whitespace().collect();
    let page = page.join(" ");
    let sentences = LAYERS
        .iter()
        .map(|layer| layer.because)
        .chain(ONLY.iter().map(|only| only.because))
        .chain([PURE_FILE]);
    for sentence in sentences {
        assert!(
            page.contains(sentence),
            "not in ARCHITECTURE.md: {sentence}"
        );
    }
    for file in PURE_FILES {
        let there = src().join(file);
        assert!(there.exists(), "{file} is in the list and not in src");
    }
    for (from, to, _) in TO_GO {
        let edge = format!("`{from}` → `{to}`");
        assert!(page.contains(&edge), "not in ARCHITECTURE.md: {edge}");
    }
}
