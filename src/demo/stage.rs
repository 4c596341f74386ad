//! The three parts, put together and taken apart.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::script::Scene;
use crate::app::{App, Stopped};
use crate::bench::compare::{Comparison, compare};
use crate::bench::data::DataOptions;
use crate::bench::load::{Load, LoadOptions, LoadReport, LoadSummary, Speed};
use crate::bench::sink::{Decoder, Sink, SinkHandle, SinkOptions};
use crate::cli::demo::DemoArgs;
use crate::cli::{QueueArgs, RunArgs};
use crate::config;
use crate::report::Report;
use crate::status::Status;
use crate::units::{ByteSize, Span};

/// Shards of the sender: a Prometheus with this load has one or two towards a receiver this near.
const SENDERS: usize = 2;
/// Elements in a request: few, so that a second has many, and its numbers do not jump.
const PER_SEND: usize = 500;
/// What is not full leaves after a second: something is to be seen each second.
const DEADLINE: Duration = Duration::from_secs(1);
/// The longest pause between attempts: the time that a receiver's return goes unnoticed.
const BACKOFF: Duration = Duration::from_secs(1);
/// Room for the log, far more than the script needs, and what it must have at least.
const LOG_BYTES: u64 = 1 << 30;
pub(super) const LOG_LEAST: u64 = 256 << 20;
const MEMORY_BYTES: u64 = 256 << 20;
/// Requests at a time. Two at least: one is just enough for the load, and would never catch up.
const SHARDS: (u64, u64) = (2, 20);
/// A stop comes when nothing is pending, or when the user has waited enough.
const STOP: Duration = Duration::from_secs(1);

/// Everything at work.
pub(super) struct Stage {
    pub(super) sink: SinkHandle,
    pub(super) data: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) status: Arc<Status>,
    /// Targets, series, and samples a second.
    pub(super) targets: usize,
    pub(super) series: u64,
    pub(super) flow: u64,
    enough: CancellationToken,
    give_up: CancellationToken,
    loading: JoinHandle<LoadReport>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Stopped>,
}

/// What is left when everything is taken apart.
pub(super) struct Left {
    pub(super) load: LoadSummary,
    pub(super) compared: Comparison,
    /// Just before the end.
    pub(super) report: Report,
    /// Samples left in the log.
    pub(super) pending: u64,
}

impl Stage {
    /// Starts all three, the log in this folder.
    ///
    /// # Errors
    /// A port or the folder cannot be used; in words.
    pub(super) async fn start(args: &DemoArgs, folder: &Path) -> Result<Self, String> {
        let data = DataOptions {
            nodes: args.nodes,
            interval: args.interval.0,
            metadata: true,
            ..DataOptions::default()
        };
        let sink = Sink::start(SinkOptions {
            decoder: Decoder::Scan,
            verify: Some(data.clone()),
            behaviour: Scene::First.behaviour(0),
            ..SinkOptions::default()
        });
        let sink = sink.map_err(|error| format!("the receiver cannot listen: {error}"))?;
        let loaded = config::load(&run_args(args, folder, &sink));
        let loaded = loaded.map_err(|problems| problems.to_string())?;
        crate::logging::start(&loaded.config.log);
        let app = App::build(&loaded.config).await?;
        let status = app.status();
        if let Some(trouble) = &status.storage_trouble {
            return Err(format!("no log on disk: {trouble}"));
        }
        let address = |addr: std::io::Result<SocketAddr>| addr.map_err(|error| error.to_string());
        let (to, admin) = (address(app.data_addr())?, address(app.admin_addr())?);
        let load = Load::new(LoadOptions {
            url: format!("http://{to}/api/v1/write"),
            data,
            senders: SENDERS,
            max_samples_per_send: PER_SEND,
            batch_send_deadline: DEADLINE,
            speed: Speed::Realtime,
            ..LoadOptions::default()
        });
        let load = load.map_err(|error| error.to_string())?;
        let (targets, series) = (load.data().targets(), load.data().slots() as u64);
        let (enough, give_up) = (load.enough(), CancellationToken::new());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(app.run(async {
            // A sender that is gone says the same.
            drop(stopped.await);
        }));
        Ok(Self {
            sink,
            data: to,
            admin,
            status,
            targets,
            series,
            flow: (series as f64 / args.interval.0.as_secs_f64()) as u64,
            enough,
            loading: tokio::spawn(load.run(give_up.clone())),
            give_up,
            stop,
            running,
        })
    }

    /// From now on the receiver does what this scene says.
    pub(super) fn set(&self, scene: Scene) {
        self.sink.set_behaviour(scene.behaviour(self.flow));
    }

    /// No more is scraped.
    pub(super) fn end_load(&self) {
        self.enough.cancel();
    }

    /// All that was scraped has been sent, and nothing is pending.
    pub(super) fn is_done(&self) -> bool {
        self.loading.is_finished() && self.status.queues.iter().all(|queue| queue.is_idle())
    }

    /// Ends everything, and compares. What is still pending is given up with the folder.
    ///
    /// # Errors
    /// A part has panicked.
    pub(super) async fn take_apart(self) -> Result<Left, String> {
        self.enough.cancel();
        self.give_up.cancel();
        let part = |error: tokio::task::JoinError| error.to_string();
        let load = self.loading.await.map_err(part)?;
        let report = self.status.report();
        drop(self.stop);
        let pending = self.running.await.map_err(part)?.pending;
        let sink = self.sink;
        // Millions of samples may have to be looked up.
        let looking = tokio::task::spawn_blocking(move || Left {
            compared: compare(&[&sink], &[&load]),
            load: load.summary,
            report,
            pending,
        });
        looking.await.map_err(part)
    }
}

/// What `sluicegate run` would be given.
fn run_args(args: &DemoArgs, folder: &Path, sink: &SinkHandle) -> RunArgs {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    RunArgs {
        upstream: vec![format!("receiver={}", sink.url())],
        listen: Some(args.listen.unwrap_or(free)),
        web_listen_address: Some(args.web_listen_address.unwrap_or(free)),
        storage_path: Some(folder.join("log")),
        storage_max_bytes: Some(ByteSize(LOG_BYTES)),
        memory_limit: Some(ByteSize(MEMORY_BYTES)),
        shutdown_deadline: Some(Span(STOP)),
        log_level: Some(args.log_level.clone()),
        queue: QueueArgs {
            protobuf_message: Some("auto".to_owned()),
            batch_send_deadline: Some(Span(DEADLINE)),
            max_backoff: Some(Span(BACKOFF)),
            min_shards: Some(SHARDS.0),
            max_shards: Some(SHARDS.1),
            ..QueueArgs::default()
        },
        ..RunArgs::default()
    }
}
