//! Faults from outside, and ledgers on both sides.
//!
//! A sender like Prometheus and a receiver that checks every bit live in this process and are never faulted;
//! the program under test is a process of its own that is killed, starved and lied to. At the end what the
//! sender was told is held against what the receiver has.
//!
//! ```text
//! load (ledger of what was acknowledged) -> the program, one life after the other -> sink (what arrived)
//!                   `------------------------ compare ------------------------------------'
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `SLUICEGATE_FAULT_CYCLES` | kills in each test of kills (100; 40 with Prometheus' rules) |
//! | `SLUICEGATE_FAULT_SEED` | seed of the first run; printed, and drawn anew each time |
//! | `SLUICEGATE_FAULT_MODE` | `fsync` or `upstream`: only the tests of this mode |
//! | `SLUICEGATE_BIN` | the program under test, if not the one that was built with the tests |
//! | `SLUICEGATE_FAULT_FOLDER` | where the program's files go; a temporary folder otherwise |

#![expect(
    clippy::print_stdout,
    reason = "seeds and figures are what a run is for"
)]

mod disk;
mod kills;
mod machine;
#[cfg(feature = "mutants")]
mod mutants;
mod peers;
mod plan;
mod rig;
mod scrape;
mod strace;
mod subject;
mod syscalls;
mod timeline;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use rig::Ack;

/// How much of it, and which.
struct Wanted {
    cycles: u32,
    seed: u64,
}

/// The number in an environment variable, if it is set.
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
    )
}

fn wanted(cycles: u32) -> Wanted {
    let cycles = variable("SLUICEGATE_FAULT_CYCLES").map_or(cycles, |cycles| cycles as u32);
    let seed = variable("SLUICEGATE_FAULT_SEED");
    let seed = seed.unwrap_or_else(|| u64::from(fastrand::u32(..)));
    Wanted {
        cycles: cycles.max(1),
        seed,
    }
}

/// Whether tests of this mode are asked for.
fn mode_is(ack: Ack) -> bool {
    let mode = std::env::var("SLUICEGATE_FAULT_MODE").unwrap_or_default();
    match mode.as_str() {
        "" => true,
        "fsync" => ack == Ack::Fsync,
        "upstream" => ack == Ack::Upstream,
        _ => panic!("SLUICEGATE_FAULT_MODE is neither fsync nor upstream: {mode}"),
    }
}

/// The program under test.
fn program() -> PathBuf {
    let named = std::env::var_os("SLUICEGATE_BIN");
    PathBuf::from(named.unwrap_or_else(|| env!("CARGO_BIN_EXE_sluicegate").into()))
}

/// Whether the program has a log on disk; says so if not.
fn has_disk_log() -> bool {
    let help = Command::new(program())
        .args(["run", "--help"])
        .output()
        .expect("the program starts");
    let has = !String::from_utf8_lossy(&help.stdout).contains("log on disk (not built yet)");
    if !has {
        println!("SKIP: this build has no log on disk");
    }
    has
}

/// Tests take turns: each has the machine for itself, and its times mean something.
async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// A folder that stays when the test fails.
struct Folder(Option<TempDir>);

fn folder(name: &str) -> Folder {
    let base =
        std::env::var_os("SLUICEGATE_FAULT_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let made = tempfile::Builder::new()
        .prefix(&format!("sluicegate-{name}-"))
        .tempdir_in(base);
    Folder(Some(made.expect("a temporary folder")))
}

impl Folder {
    fn path(&self) -> &Path {
        self.0.as_ref().expect("it is there until the end").path()
    }

    /// The test holds: nothing is left behind.
    fn done(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(kept) = self.0.take() {
            println!("the program's files: {}", kept.keep().display());
        }
    }
}
