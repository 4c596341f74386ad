//! Other programs behind the same kills, between the same ledgers: what they lose of what they acknowledged.
//!
//! `tests/faults/peers.sh` gets them and runs this. Their figures are measured, not judged.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;
use sluicegate::bench::Protocol;
use sluicegate::bench::data::DataOptions;
use sluicegate::bench::load::Speed;
use tokio::time::sleep;

use crate::kills::live_and_die;
use crate::plan::{self, Cycle, Receiver};
use crate::rig::{Ack, MAX_SAMPLES_PER_SEND, Rig, SHARDS, Setup};
use crate::scrape::Scrape;
use crate::subject::{Subject, ports};
use crate::{Wanted, folder, turn, wanted};

/// Lives end so long after the program accepts.
const LIFE_MS: std::ops::RangeInclusive<u64> = 500..=3_000;
/// A program from which nothing came for so long has nothing more to give: none waits longer than a minute
/// between two attempts.
const QUIET: Duration = Duration::from_secs(75);
const QUIET_LIMIT: Duration = Duration::from_secs(300);

/// 1640 series, each ten times a second, with the clock's own timestamps: Prometheus sends on only what is
/// newer than its start.
fn data(seed: u64) -> DataOptions {
    DataOptions {
        seed,
        nodes: 2,
        interval: Duration::from_millis(100),
        ..DataOptions::default()
    }
}

/// A peer, told to send as the program under test is told: the same shards and batches.
fn peer(kind: &str, program: &Path, upstream: &str, folder: &Path) -> Subject {
    let [data] = ports();
    let shards = SHARDS.to_string();
    let storage = folder.join("storage").display().to_string();
    let arguments: Vec<String> = match kind {
        "vmagent" | "vmagent-debian" => {
            let mut arguments = vec![
                format!("-httpListenAddr={data}"),
                format!("-remoteWrite.url={upstream}"),
                format!("-remoteWrite.tmpDataPath={storage}"),
                format!("-remoteWrite.queues={shards}"),
                format!("-remoteWrite.maxRowsPerBlock={MAX_SAMPLES_PER_SEND}"),
                "-remoteWrite.flushInterval=50ms".to_owned(),
            ];
            // The newer one would begin with a protocol of its own, which the receiver does not know.
            if kind == "vmagent" {
                arguments.push("-remoteWrite.forcePromProto=true".to_owned());
            }
            arguments
        }
        "prometheus-2" | "prometheus-3" => {
            let config = folder.join("prometheus.yml");
            let text = format!(
                "remote_write:\n- url: {upstream}\n  queue_config:\n    min_shards: {shards}\n    \
                 max_shards: {shards}\n    max_samples_per_send: {MAX_SAMPLES_PER_SEND}\n    \
                 batch_send_deadline: 50ms\n    max_backoff: 200ms\n"
            );
            std::fs::write(&config, text).expect("the folder takes files");
            let agent = if kind == "prometheus-2" {
                "--enable-feature=agent"
            } else {
                "--agent"
            };
            vec![
                agent.to_owned(),
                format!("--config.file={}", config.display()),
                format!("--web.listen-address={data}"),
                "--web.enable-remote-write-receiver".to_owned(),
                format!("--storage.agent.path={storage}"),
            ]
        }
        _ => panic!("no such peer: {kind}"),
    };
    let mut command = vec![OsString::from(program)];
    command.extend(arguments.iter().map(OsString::from));
    let log = folder.join("program.log");
    Subject {
        command,
        data,
        admin: None,
        path: "/api/v1/write",
        log,
    }
}

/// Waits until nothing comes any more.
async fn quiet(rig: &Rig) {
    let began = Instant::now();
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < QUIET && began.elapsed() < QUIET_LIMIT {
        let now = rig.stored().samples;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/peers.sh runs it"]
async fn what_a_peer_loses() {
    let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (kind, receiver) = (
        variable("SLUICEGATE_PEER"),
        variable("SLUICEGATE_PEER_RECEIVER"),
    );
    let Wanted { cycles, seed } = wanted(10);
    let _turn = turn().await;
    let folder = folder("peer");
    let ack = if kind == "sluicegate-fsync" {
        Ack::Fsync
    } else {
        Ack::Upstream
    };
    let setup = Setup {
        name: format!("{kind} receiver={receiver}"),
        protocol: Protocol::V1,
        data: data(seed),
        speed: Speed::Realtime,
        ..Setup::new(ack, seed, folder.path())
    };
    let mut rig = if kind.starts_with("sluicegate-") {
        Rig::new(setup)
    } else {
        let sink = Rig::sink(&setup);
        let program = PathBuf::from(variable("SLUICEGATE_PEER_BIN"));
        let subject = peer(&kind, &program, &sink.url(), folder.path());
        Rig::of_subject(setup, sink, subject)
    };
    let mut rng = Rng::with_seed(seed);
    for _ in 0..cycles {
        let drawn = plan::cycle(&mut rng, LIFE_MS);
        let receiver = if receiver == "up" {
            Receiver::Up
        } else {
            drawn.receiver
        };
        live_and_die(&mut rig, Cycle { receiver, ..drawn }).await;
    }
    rig.heal_receiver();
    rig.start();
    rig.accepting().await;
    rig.end_of_load().await;
    quiet(&rig).await;
    rig.life.take().expect("it was started").kill();
    let verdict = rig.verdict(Scrape::default()).await;
    print!("{verdict}");
    folder.done();
}
