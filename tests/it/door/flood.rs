//! Many at once, against the real program: what they cost, and what is left for the others.

use std::time::{Duration, Instant};

use super::Door;
use crate::harness::LIMIT;
use crate::requests::{Connection, Post, V1, get, good};
use crate::stopping::program::Program;

const MIB: u64 = 1 << 20;

/// A line of `/proc/PID/status`, in bytes.
fn memory(program: &Program, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", program.id())).expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim_matches([':', '\t', ' ', 'k', 'B']).parse().ok());
    kib.map(|kib: u64| kib << 10).expect("a number of kB")
}

async fn metric(program: &Program, name: &str) -> f64 {
    let text = get(program.admin, "/metrics").await.body;
    let named = text.lines().filter(|line| line.starts_with(name));
    named
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_slow_senders_stay_within_the_memory_and_let_a_good_one_in() {
    let door = Door::open().await;
    let url = door.sink.url();
    let program = Program::start(&["--upstream", &url, "--memory.limit", "64MiB"]);
    assert_eq!(good("before").send(program.data).await.status, 204);
    let before = memory(&program, "VmRSS");
    let mut slow = Vec::new();
    for n in 0..1_000 {
        let mut connection = Connection::open(program.data).await;
        // Some have no head, some half of one, some a large body that stops somewhere.
        let sent = match n % 5 {
            0 => 0,
            1 => 20_000,
            2 => 100,
            3 => 3_000,
            _ => 100_000,
        };
        let head = Post::raw(V1, Vec::new()).with("X-Long", &"x".repeat(10_000));
        let head = head.head(30 << 20);
        let bytes = [head, vec![0xff; 20_000]].concat();
        connection.write(&bytes[..sent.min(bytes.len())]).await;
        if sent > bytes.len() {
            connection.write(&vec![0xff; sent - bytes.len()]).await;
        }
        slow.push(connection);
    }
    // Those that sent much have taken the memory for bodies: until they have made way, 503 is an answer.
    for n in 0..20 {
        let began = Instant::now();
        let post = good(&format!("good {n}"));
        while Connection::open(program.data).await.maybe(&post).await != Some(204) {
            assert!(began.elapsed() < LIMIT, "it never gets in");
        }
    }
    let (peak, rise) = (
        memory(&program, "VmHWM"),
        memory(&program, "VmRSS") - before,
    );
    println!(
        "peak {} MiB, {} MiB more than before",
        peak / MIB,
        rise / MIB
    );
    assert!(peak < 64 * MIB, "{peak}");
    drop(slow);
    assert_eq!(door.sink.stats().samples, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_leave_file_descriptors_for_the_log_and_the_receivers() {
    let door = Door::open().await;
    let (url, folder) = (door.sink.url(), tempfile::tempdir().unwrap());
    let flags = [
        "--upstream",
        &url,
        "--storage.path",
        folder.path().to_str().unwrap(),
    ];
    let program = Program::start_with_files(&flags, 220);
    program.says("the limit of open files").await;
    let mut idle = Vec::new();
    for n in 0..300 {
        let mut connection = Connection::open(program.data).await;
        if n < 100 {
            connection.maybe(&good(&format!("idle {n}"))).await;
        }
        idle.push(connection);
    }
    // Nobody who gets on is told that there is no file left.
    let mut delivered = 0;
    for n in 0..1_000 {
        let mut connection = Connection::open(program.data).await;
        if connection.maybe(&good(&format!("good {n}"))).await == Some(204) {
            delivered += 1;
        }
        if delivered == 20 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(delivered, 20);
    assert_eq!(metric(&program, "sluicegate_storage_writable").await, 1.0);
    assert_eq!(
        metric(&program, "sluicegate_storage_errors_total").await,
        0.0
    );
    let log = program.log();
    assert!(!log.contains("cannot accept"), "{log}");
}
