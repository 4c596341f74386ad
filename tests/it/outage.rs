//! Receivers that are dead or slow for long: memory stays where it is, nothing is lost, and the receiver
//! that is slow is never idle.
//!
//! The short form compresses the outage to seconds; `SLUICEGATE_LONG=1` to minutes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sluicegate::bench::data::{DataOptions, Profile};
use sluicegate::bench::load::{self, LoadOptions, Speed};
use sluicegate::bench::sink::{Behaviour, Delay, Down, Sink, SinkHandle, SinkOptions, When};
use sluicegate::units::{ByteSize, Span};
use tokio_util::sync::CancellationToken;

use crate::harness::{LIMIT, proxy};

fn long() -> bool {
    std::env::var_os("SLUICEGATE_LONG").is_some()
}

fn data() -> DataOptions {
    DataOptions {
        profile: Profile::Kubernetes,
        nodes: 50,
        ..DataOptions::default()
    }
}

fn sink(behaviour: Behaviour) -> SinkHandle {
    let verify = Some(data());
    Sink::start(SinkOptions {
        verify,
        behaviour,
        ..SinkOptions::default()
    })
    .expect("it listens")
}

/// The program itself, in a process of its own.
struct Program {
    child: Child,
    data: String,
    admin: String,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
            .args([
                "run",
                "--listen",
                "127.0.0.1:0",
                "--web.listen-address",
                "127.0.0.1:0",
            ])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let out = child.stdout.take().expect("its output is read");
        let line = BufReader::new(out)
            .lines()
            .next()
            .expect("it says when it is ready")
            .unwrap();
        let address = |name: &str| {
            let word = line.split(' ').find_map(|word| word.strip_prefix(name));
            word.unwrap_or_else(|| panic!("{name} in {line}"))
                .to_owned()
        };
        Self {
            data: address("data="),
            admin: address("admin="),
            child,
        }
    }

    /// Resident memory now, in bytes.
    fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("Linux says");
        let kib = line
            .split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("in kB") << 10
    }

    /// Pending elements and the conservation error, as a scrape tells them.
    async fn pending(&self) -> (f64, f64) {
        let names = ["pending_samples{", "conservation_error{"];
        self.sums(names).await.into()
    }

    /// A tenth of the log is still free.
    async fn log_is_filling(&self) -> bool {
        let [held, most] = self.sums(["storage_bytes ", "storage_limit_bytes "]).await;
        held < most * 0.9
    }

    async fn sums(&self, names: [&str; 2]) -> [f64; 2] {
        let text = crate::harness::get(&self.admin, "/metrics").await;
        names.map(|name| {
            let name = format!("sluicegate_{name}");
            let lines = text.lines().filter(|line| line.starts_with(&name));
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A failed test leaves nothing running.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_outage_leaves_memory_flat_and_under_its_limit_and_loses_nothing() {
    const BUDGET: u64 = 64 << 20;
    let sink = sink(Behaviour {
        down: Some(Down::Refused),
        ..Behaviour::default()
    });
    let program = Program::start(&[
        "--upstream",
        &sink.url(),
        "--ack",
        "memory",
        "--memory.limit",
        &ByteSize(BUDGET).to_string(),
        "--max-samples-per-send",
        "1000",
        "--capacity",
        "5000",
        "--max-shards",
        "100",
    ]);
    let outage = Duration::from_secs(if long() { 240 } else { 28 });
    let options = LoadOptions {
        url: format!("http://{}/api/v1/write", program.data),
        data: data(),
        senders: 8,
        speed: Speed::Full,
        flush_deadline: Duration::ZERO,
        ..LoadOptions::default()
    };
    let cancel = CancellationToken::new();
    let sending = tokio::spawn(load::run(options, cancel.clone()));
    // However long a busy machine takes to fill the log: what is asked for begins then.
    let deadline = tokio::time::Instant::now() + 2 * LIMIT;
    let mut ticks = tokio::time::interval(outage / 24);
    let mut filling = Vec::new();
    while program.log_is_filling().await {
        assert!(tokio::time::Instant::now() < deadline, "{filling:?}");
        ticks.tick().await;
        filling.push(program.resident());
    }
    let mut resident = Vec::new();
    for _ in 0..24 {
        ticks.tick().await;
        resident.push(program.resident());
    }
    cancel.cancel();
    let report = sending.await.unwrap().expect("the load runs");
    let (pending, error) = program.pending().await;
    assert_eq!(error, 0.0, "the books balance");
    assert!(pending > 100_000.0, "a log's worth is pending: {pending}");
    let mib = |bytes: &u64| bytes >> 20;
    println!(
        "resident MiB: {:?}",
        resident.iter().map(mib).collect::<Vec<_>>()
    );
    let most = |resident: &[u64]| resident.iter().copied().max().unwrap_or(0);
    let peak = most(&filling).max(most(&resident));
    assert!(peak < BUDGET, "peak {} MiB of 64", peak >> 20);
    // Some ten seconds after the log is full the allocator has given back what it does not need.
    let settled = &resident[resident.len() / 2..];
    let (low, high) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
    assert!(
        high - low < BUDGET / 10,
        "flat: between {low} and {high} in the second half"
    );
    sink.set_behaviour(Behaviour::default());
    let deadline = tokio::time::Instant::now() + 2 * LIMIT;
    while program.pending().await != (0.0, 0.0) {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{:?}",
            program.pending().await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let comparison = sink.missing(&report);
    assert_eq!(
        comparison.missing, 0,
        "all that was admitted is delivered: {comparison:?}"
    );
    assert!(comparison.is_sound(), "{comparison:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_full_log_a_slow_receiver_is_never_idle_and_gets_full_batches() {
    let shards = 4;
    let delay = Delay {
        base: Duration::from_millis(300),
        jitter: Duration::ZERO,
        when: When::BeforeStoring,
    };
    let sink = sink(Behaviour {
        delay: Some(delay),
        ..Behaviour::default()
    });
    let proxy = proxy(&[sink.url()], |args| {
        args.ack = Some("memory".to_owned());
        args.memory_limit = Some(ByteSize(48 << 20));
        args.queue.min_shards = Some(shards);
        args.queue.max_shards = Some(shards);
        args.queue.max_samples_per_send = Some(1000);
        args.queue.batch_send_deadline = Some(Span(Duration::from_secs(5)));
    })
    .await;
    let cancel = CancellationToken::new();
    let options = LoadOptions {
        url: proxy.url(),
        data: data(),
        senders: 8,
        speed: Speed::Full,
        flush_deadline: Duration::ZERO,
        ..LoadOptions::default()
    };
    let sending = tokio::spawn(load::run(options, cancel.clone()));
    proxy
        .until("the log is full", |proxy| {
            let log = proxy.status.ingest.log.occupancy();
            log.bytes > log.limit / 10 * 9
        })
        .await;
    let before = sink.stats();
    let mut busy = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..if long() { 3000 } else { 400 } {
        ticks.tick().await;
        busy.push(proxy.queues[0].snapshot().gauges.busy as f64);
    }
    let after = sink.stats();
    let mean = busy.iter().sum::<f64>() / busy.len() as f64;
    let requests = after.stored_requests - before.stored_requests;
    let filled = (after.samples - before.samples) as f64 / requests as f64;
    println!("{mean:.2} of {shards} permits busy, {filled:.0} of 1000 elements a request");
    let share = mean / shards as f64 * filled / 1000.0;
    // What is missing is the time between a verdict and the next request; a busy machine stretches it.
    let least = if long() { 0.95 } else { 0.85 };
    assert!(
        share >= least,
        "the receiver is used at {share:.3} of its speed"
    );
    cancel.cancel();
    drop(sending.await);
    proxy.assert_sound();
    drop(proxy);
}
