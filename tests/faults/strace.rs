//! Faults in system calls, by strace: a kill at the n-th call, or an error or delay while attached.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::subject::signal;

/// Attaching takes a moment for each thread.
const ATTACH_LIMIT: Duration = Duration::from_secs(10);

/// Whether strace works here; says why not. (It may be missing, or forbidden by the kernel.)
pub(crate) fn works() -> bool {
    let traced = Command::new("strace")
        .args(["-f", "-D", "-qq", "-o", "/dev/null", "true"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let why = match traced {
        Ok(status) if status.success() => return true,
        Ok(status) => format!("strace does not work here: {status}"),
        Err(error) => format!("no strace here (apt-get install strace): {error}"),
    };
    println!("SKIP: {why}");
    false
}

/// Put before a program, it kills it with SIGKILL at the entry of each thread's `nth` such call.
///
/// With `-D` the program, not strace, is our child. `--seccomp-bpf` would be faster, and injects no signal.
pub(crate) fn killing_at(call: &str, nth: u32) -> Vec<OsString> {
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let trace = format!("trace={call}");
    let words = [
        "strace",
        "-f",
        "-D",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &inject,
    ];
    words.iter().map(OsString::from).collect()
}

/// Put before a program, it writes down these calls with the files and sockets that they are about.
pub(crate) fn writing_to(file: &Path, calls: &str, inject: Option<&str>) -> Vec<OsString> {
    let trace = format!("trace={calls}");
    let mut words: Vec<OsString> = [
        "strace", "-f", "-D", "-qq", "-yy", "-s", "512", "-e", &trace, "-o",
    ]
    .iter()
    .map(OsString::from)
    .collect();
    words.push(file.into());
    if let Some(inject) = inject {
        words.extend(["-e".into(), format!("inject={inject}").into()]);
    }
    words
}

/// A fault in the calls of a running process, until it is healed.
pub(crate) struct Fault {
    strace: Child,
    log: PathBuf,
}

impl Fault {
    /// Attaches to a process, with an expression such as `fdatasync:error=EIO`, and waits until it holds.
    ///
    /// # Panics
    /// Attaching is forbidden, or takes too long.
    pub(crate) async fn attach(id: u32, inject: &str, folder: &Path) -> Self {
        let calls = inject.split(':').next().expect("split gives at least one");
        let log = folder.join(format!("strace-{}.log", fastrand::u32(..)));
        let strace = Command::new("strace")
            .args([
                "-f",
                "-y",
                "-p",
                &id.to_string(),
                "-e",
                &format!("trace={calls}"),
            ])
            .args(["-e", &format!("inject={inject}"), "-o"])
            .arg(&log)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace starts");
        let mut fault = Self { strace, log };
        let began = Instant::now();
        while !all_traced(id) {
            let ended = fault.strace.try_wait().ok().flatten();
            assert!(ended.is_none(), "strace cannot attach: {ended:?}");
            assert!(began.elapsed() < ATTACH_LIMIT, "strace does not attach");
            sleep(Duration::from_millis(5)).await;
        }
        fault
    }

    /// Calls that were tampered with so far.
    pub(crate) fn hits(&self) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.matches("(INJECTED)").count() + log.matches("(DELAYED)").count()
    }

    /// Lets go of the process: its calls work again.
    pub(crate) fn heal(mut self) -> usize {
        signal(self.strace.id(), "INT");
        self.strace.wait().ok();
        self.hits()
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // INT, not KILL: it has to let go of the process. One that has ended cannot be told.
        if self.strace.try_wait().ok().flatten().is_none() {
            signal(self.strace.id(), "INT");
            self.strace.wait().ok();
        }
    }
}

/// Whether every thread of a process has a tracer.
fn all_traced(id: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else {
        return false;
    };
    threads.filter_map(Result::ok).all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        !status.contains("TracerPid:\t0\n")
    })
}
