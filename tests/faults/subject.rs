//! The program under test: started, watched, killed and started again at the same address.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::sleep;

/// A program that is not listening after so long never will.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Ports below are often taken by services.
const LOWEST_PORT: u16 = 10_000;
/// First local port of outgoing connections, where the system does not say.
const EPHEMERAL_DEFAULT: u16 = 32_768;

/// How to start a program, and where it is found then.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) command: Vec<OsString>,
    /// Where senders deliver.
    pub(crate) data: SocketAddr,
    /// Where its metrics are; `None` if nobody reads them.
    pub(crate) admin: Option<SocketAddr>,
    /// Path that takes remote write.
    pub(crate) path: &'static str,
    /// What it prints is added to this file.
    pub(crate) log: PathBuf,
}

/// One life of the program. It is killed when this is dropped.
pub(crate) struct Life {
    child: Child,
    started: Instant,
}

impl Subject {
    /// Where senders deliver.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.data, self.path)
    }

    /// Starts a life.
    pub(crate) fn spawn(&self) -> io::Result<Life> {
        let log = open_log(&self.log)?;
        let child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let started = Instant::now();
        Ok(Life { child, started })
    }

    /// The last lines that it printed.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Life {
    /// Waits until the address accepts connections: how long that took since the start.
    ///
    /// # Errors
    /// It ended by itself, or takes too long.
    pub(crate) async fn accepting(&mut self, address: SocketAddr) -> Result<Duration, String> {
        loop {
            if TcpStream::connect(address).await.is_ok() {
                return Ok(self.started.elapsed());
            }
            if let Some(status) = self.ended() {
                return Err(format!("it ended by itself: {status}"));
            }
            if self.started.elapsed() > START_LIMIT {
                return Err(format!("not accepting after {START_LIMIT:?}"));
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory it ever had resident, in KiB; 0 once it has ended.
    pub(crate) fn peak_rss_kib(&self) -> u64 {
        peak_rss_kib(self.id())
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Asks it to end with SIGTERM: exit status and time it took.
    ///
    /// # Errors
    /// It is still there after `limit`.
    pub(crate) async fn terminate(
        mut self,
        limit: Duration,
    ) -> Result<(ExitStatus, Duration), String> {
        let asked = Instant::now();
        signal(self.id(), "TERM");
        loop {
            if let Some(status) = self.ended() {
                return Ok((status, asked.elapsed()));
            }
            if asked.elapsed() > limit {
                return Err(format!("still there {limit:?} after SIGTERM"));
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    fn end(&mut self) {
        // One that has ended cannot be killed, and is waited for all the same.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end();
    }
}

/// Peak resident memory of a process in KiB; 0 if there is no such process.
pub(crate) fn peak_rss_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Sends a signal by the `kill` command: there is no way to do it in safe Rust.
pub(crate) fn signal(id: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &id.to_string()])
        .status();
    assert!(sent.expect("there is a kill command").success());
}

/// Free ports that stay free while nobody listens on them.
///
/// They are below the range from which the system picks ports of outgoing connections: one from within
/// could be given to a sender's connection while the program is down, or be connected with itself.
pub(crate) fn ports<const N: usize>() -> [SocketAddr; N] {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok());
    let first = first.unwrap_or(EPHEMERAL_DEFAULT).max(LOWEST_PORT + 1_000);
    let mut held = Vec::new();
    // All are held until the last is found, so that they differ.
    std::array::from_fn(|_| {
        loop {
            let address = SocketAddr::from(([127, 0, 0, 1], fastrand::u16(LOWEST_PORT..first)));
            if let Ok(listener) = TcpListener::bind(address) {
                held.push(listener);
                return address;
            }
        }
    })
}
