//! `sluicegate demo`, the real program: its script is survived and told, signals end it, and nothing is
//! left behind.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::LIMIT;

/// A small load, and a script of the least length.
const SMALL: [&str; 6] = ["--duration", "8s", "--nodes", "1", "--interval", "500ms"];

/// A demo that runs, with a place of its own for temporary files.
struct Demo {
    child: Child,
    out: BufReader<ChildStdout>,
    told: String,
    place: TempDir,
}

impl Demo {
    fn start(flags: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
            .arg("demo")
            .args(flags)
            .env_clear()
            .env("TMPDIR", place.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let out = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            out,
            told: String::new(),
            place,
        }
    }

    /// Reads on until a line has this text. It prints each second, so this waits for nothing else.
    fn until(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let from = self.told.len();
            let read = self.out.read_line(&mut self.told).unwrap();
            if self.told[from..].contains(text) {
                return;
            }
            let vain = read == 0 || Instant::now() > deadline;
            assert!(!vain, "never told {text:?}:\n{}", self.told);
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.expect("there is a kill command").success());
    }

    /// Names in the place for temporary files.
    fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.place.path()).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().to_string_lossy().into_owned()
        };
        entries.map(name).collect()
    }

    /// Reads to its end: exit code, and all it told.
    fn end(&mut self) -> (i32, String) {
        let (mut rest, mut errors) = (String::new(), String::new());
        self.out.read_to_string(&mut rest).unwrap();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        let code = self.child.wait().unwrap().code();
        let told = format!("{}{rest}{errors}", self.told);
        (code.expect("no signal killed it"), told)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // A failed test leaves nothing running; one that has ended cannot be killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The number in this row of the summary.
fn row(told: &str, name: &str) -> u64 {
    let (_, summary) = told
        .rsplit_once("\n\n  acknowledged")
        .unwrap_or_else(|| panic!("no summary:\n{told}"));
    let summary = format!("  acknowledged{summary}");
    let row = summary
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name));
    let number = row.and_then(|row| row.split_whitespace().next());
    let number = number.unwrap_or_else(|| panic!("no {name}:\n{told}"));
    number.replace(',', "").parse().unwrap()
}

fn assert_all_delivered(told: &str) {
    assert_eq!(row(told, "acknowledged"), row(told, "delivered"), "{told}");
    for name in ["lost", "out of order", "altered", "books"] {
        assert_eq!(row(told, name), 0, "{told}");
    }
    assert!(told.contains("Nothing was lost"), "{told}");
}

#[test]
fn the_script_is_survived_and_told_and_leaves_nothing_behind() {
    let mut demo = Demo::start(&SMALL);
    demo.until("folder");
    demo.until("in/s");
    assert_eq!(demo.left().len(), 1, "the folder: {}", demo.told);
    let (code, told) = demo.end();
    assert_eq!(code, 0, "{told}");
    assert_all_delivered(&told);
    // 820 series, each every half a second, and the last ones perhaps not.
    let acknowledged = row(&told, "acknowledged");
    assert!((8_000..=14_000).contains(&acknowledged), "{told}");
    for part in [
        "page      http://127.0.0.1:",
        "The receiver goes down",
        " × no connection",
        "The receiver is back. ",
        "becomes slow",
        "limits the rate",
        "The script is over",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(demo.left(), [] as [String; 0]);
}

#[test]
fn a_signal_in_the_outage_ends_it_with_all_that_is_acknowledged_delivered() {
    for signal in ["INT", "TERM", "HUP"] {
        let mut demo = Demo::start(&["--duration", "20s", "--nodes", "2", "--interval", "1s"]);
        demo.until("goes down");
        demo.until("no connection");
        demo.signal(signal);
        let asked = Instant::now();
        let (code, told) = demo.end();
        assert_eq!(code, 0, "{told}");
        assert!(told.contains("Ending, as asked"), "{told}");
        assert_all_delivered(&told);
        assert!(row(&told, "acknowledged") > 1_000, "{told}");
        assert!(asked.elapsed() < Duration::from_secs(20), "{told}");
        assert_eq!(demo.left(), [] as [String; 0]);
    }
}

#[test]
fn with_keep_it_goes_on_after_the_script_until_it_is_ended() {
    let flags: Vec<_> = SMALL.into_iter().chain(["--keep"]).collect();
    let mut demo = Demo::start(&flags);
    demo.until("The limit is gone");
    demo.until("  0:1");
    demo.signal("INT");
    let (code, told) = demo.end();
    assert_eq!(code, 0, "{told}");
    assert_all_delivered(&told);
    assert_eq!(demo.left(), [] as [String; 0]);
}

#[test]
fn it_ends_when_nobody_reads() {
    let mut demo = Demo::start(&["--duration", "1h", "--nodes", "1"]);
    demo.until("in/s");
    let Demo { child, out, .. } = &mut demo;
    // The pipe's only reader.
    let pipe = std::mem::replace(out, BufReader::new(silent()));
    drop(pipe);
    let deadline = Instant::now() + LIMIT;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(demo.left(), [] as [String; 0]);
}

/// The output of a program that says nothing.
fn silent() -> ChildStdout {
    let child = Command::new("true").stdout(Stdio::piped()).spawn();
    let mut child = child.expect("there is a true command");
    child.wait().unwrap();
    child.stdout.take().unwrap()
}

#[test]
fn what_cannot_start_says_why_and_leaves_nothing_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--web.listen-address"] {
        let mut demo = Demo::start(&[flag, &address]);
        let (code, told) = demo.end();
        assert_eq!(code, 1, "{told}");
        assert!(told.contains(&address) && told.contains(flag), "{told}");
        assert_eq!(demo.left(), [] as [String; 0]);
    }
    let mut nowhere = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    let nowhere = nowhere
        .arg("demo")
        .env_clear()
        .env("TMPDIR", "/nowhere/at/all");
    let output = nowhere.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("no temporary folder"), "{told}");
}

#[test]
fn nonsense_on_its_command_line_is_a_usage_error() {
    for flags in [
        ["--duration", "7s"],
        ["--duration", "2h"],
        ["--interval", "10ms"],
        ["--nodes", "0"],
        ["--nodes", "1001"],
        ["--listen", "here"],
    ] {
        let mut demo = Demo::start(&flags);
        let (code, told) = demo.end();
        assert_eq!(code, 64, "{flags:?}: {told}");
        assert!(told.contains(flags[0]), "{told}");
    }
}
