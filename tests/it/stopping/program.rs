//! The real program, started, signalled and listened to.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::LIMIT;

/// The program, running.
pub(crate) struct Program {
    child: Child,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<String>>,
    printed: Receiver<String>,
    ended: Receiver<()>,
}

pub(crate) fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command
        .arg("run")
        .args(flags)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Program {
    /// Starts it, with free ports besides these flags, and waits for the line that says it is ready.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut all = vec!["--web.listen-address", "127.0.0.1:0"];
        if !flags.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(flags);
        Self::spawn(command(&all))
    }

    /// The same, with so many files that it may have open.
    pub(crate) fn start_with_files(flags: &[&str], files: u32) -> Self {
        let mut all = vec![
            "--web.listen-address",
            "127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
        ];
        all.extend(flags);
        let program = command(&all);
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(format!("ulimit -n {files}; exec \"$0\" \"$@\""))
            .arg(program.get_program())
            .args(program.get_args())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self::spawn(shell)
    }

    /// Starts it, and waits until it says that it stands by.
    pub(crate) fn start_standing_by(flags: &[&str]) -> Self {
        let free = [
            "--web.listen-address",
            "127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
        ];
        Self::spawn_until(command(&[&free, flags].concat()), "standby")
    }

    fn spawn(command: Command) -> Self {
        Self::spawn_until(command, "ready")
    }

    fn spawn_until(mut command: Command, word: &str) -> Self {
        let mut child = command.spawn().expect("it starts");
        let (mut stdout, mut stderr) = (
            BufReader::new(child.stdout.take().unwrap()),
            child.stderr.take().unwrap(),
        );
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let (log, (told, ended)) = (Arc::new(Mutex::new(String::new())), channel());
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = stderr.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..read]);
                written.lock().unwrap().push_str(&text);
            }
            // The test may be over.
            told.send(()).ok();
        });
        let (print, printed) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test may be over.
                print.send(line).ok();
            }
        });
        let (data, admin) = addresses(&line, word);
        Self {
            child,
            data,
            admin,
            log,
            printed,
            ended,
        }
    }

    /// Waits until it says once more that it is ready, at other addresses.
    pub(crate) fn is_ready_again(&mut self) {
        let line = self.printed.recv_timeout(LIMIT).expect("it says so");
        (self.data, self.admin) = addresses(&line, "ready");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.expect("there is a kill command").success());
    }

    /// Waits until the log has this text.
    pub(crate) async fn says(&self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.log().contains(text) {
            assert!(
                Instant::now() < deadline,
                "never said {text}: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for its end: exit code, and all it logged.
    pub(crate) fn end(mut self) -> (i32, String) {
        self.ended.recv_timeout(LIMIT).expect("it ends");
        let code = self.child.wait().unwrap().code();
        (code.expect("no signal killed it"), self.log())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A failed test leaves nothing running; one that has ended cannot be killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Reads `sluicegate WORD data=ADDR admin=ADDR`.
fn addresses(line: &str, word: &str) -> (SocketAddr, SocketAddr) {
    let rest = line.strip_prefix(&format!("sluicegate {word} data="));
    let (data, admin) = rest
        .and_then(|rest| rest.trim_end().split_once(" admin="))
        .unwrap_or_else(|| panic!("not the {word} line: {line:?}"));
    (data.parse().unwrap(), admin.parse().unwrap())
}

/// Runs to its end: exit code, what it printed, what it logged.
pub(crate) fn run(flags: &[&str]) -> (i32, String, String) {
    let output = command(flags).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("no signal killed it");
    (code, text(&output.stdout), text(&output.stderr))
}
