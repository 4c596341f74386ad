//! A whole proxy in the test's process, as `sluicegate run` with these flags, on free ports.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluicegate::app::{App, Stopped};
use sluicegate::cli::RunArgs;
use sluicegate::config;
use sluicegate::queue::handle::Queue;
use sluicegate::queue::shadow::ShadowTimes;
use sluicegate::status::Status;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// No wait of a test lasts longer; a healthy one is over in a small part of it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A running proxy.
pub(crate) struct Proxy {
    /// Data listener.
    pub(crate) data: SocketAddr,
    /// Admin listener.
    pub(crate) admin: SocketAddr,
    /// Its queues.
    pub(crate) queues: Vec<Arc<Queue>>,
    /// What it tells about itself.
    pub(crate) status: Arc<Status>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Stopped>,
}

/// Starts a proxy in front of these receivers (`URL` or `NAME=URL`), with further flags set by `flags`.
pub(crate) async fn proxy(upstreams: &[String], flags: impl FnOnce(&mut RunArgs)) -> Proxy {
    shadowed(upstreams, ShadowTimes::default(), flags).await
}

/// The same with other times for what is measured towards `discard:`.
pub(crate) async fn shadowed(
    upstreams: &[String],
    times: ShadowTimes,
    flags: impl FnOnce(&mut RunArgs),
) -> Proxy {
    let mut args = RunArgs {
        upstream: upstreams.to_vec(),
        listen: Some(([127, 0, 0, 1], 0).into()),
        web_listen_address: Some(([127, 0, 0, 1], 0).into()),
        ..RunArgs::default()
    };
    flags(&mut args);
    start(&args, times).await
}

/// Starts a proxy with this configuration file, and further flags.
pub(crate) async fn configured(yaml: &str, flags: impl FnOnce(&mut RunArgs)) -> Proxy {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(&file, yaml).expect("the file is written");
    proxy(&[], |args| {
        args.config_file = Some(file.path().to_owned());
        flags(args);
    })
    .await
}

async fn start(args: &RunArgs, times: ShadowTimes) -> Proxy {
    let loaded = config::load(args).unwrap_or_else(|problems| panic!("{problems}"));
    let app = App::build_with(&loaded.config, times).await;
    let app = app.expect("the proxy starts");
    let (data, admin) = (app.data_addr().unwrap(), app.admin_addr().unwrap());
    let (queues, status) = (app.queues().to_vec(), app.status());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(app.run(async {
        // A dropped sender stops it too: a failed test leaves nothing running.
        drop(stopped.await);
    }));
    Proxy {
        data,
        admin,
        queues,
        status,
        stop,
        running,
    }
}

impl Proxy {
    /// Where senders deliver.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.data)
    }

    /// A metric's value, summed over its series that carry all of these `name="value"` texts.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.status.metrics();
        let named = text.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with([' ', '{']) && labels.iter().all(|label| rest.contains(label))
        });
        named
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits until `done`, looking every few milliseconds.
    pub(crate) async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while !done(self) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "in vain: {what}\n{}",
                self.books()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until nothing is pending.
    pub(crate) async fn drained(&self) {
        self.until("nothing is pending", |proxy| {
            proxy.queues.iter().all(|q| q.is_idle())
        })
        .await;
    }

    /// Elements pending anywhere.
    pub(crate) fn pending(&self) -> u64 {
        let of = |queue: &Arc<Queue>| queue.books().pending.total().total();
        self.queues.iter().map(of).sum()
    }

    /// Elements that any queue has to account for.
    pub(crate) fn received(&self) -> u64 {
        let of = |queue: &Arc<Queue>| queue.books().received.total();
        self.queues.iter().map(of).sum()
    }

    /// Bytes of the log in use, and how many it may have.
    pub(crate) fn log_bytes(&self) -> (u64, u64) {
        let log = self.status.ingest.log.occupancy();
        (log.bytes, log.limit)
    }

    /// The books of all queues, for messages.
    pub(crate) fn books(&self) -> String {
        let queue = |queue: &Arc<Queue>| format!("{}: {:?}", queue.name(), queue.books());
        self.queues.iter().map(queue).collect::<Vec<_>>().join("\n")
    }

    /// The books balance, and every list in every queue is what it is made of.
    pub(crate) fn assert_sound(&self) {
        for queue in &self.queues {
            assert_eq!(queue.books().conservation_error(), 0, "{}", self.books());
            queue
                .audit()
                .unwrap_or_else(|error| panic!("{}: {error}", queue.name()));
        }
    }

    /// Stops it, as SIGTERM does.
    pub(crate) async fn stop(self) -> Stopped {
        drop(self.stop);
        self.running.await.expect("the proxy does not panic")
    }
}

/// The body of what this address answers to a GET.
pub(crate) async fn get(address: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("it answers");
    answer
        .split_once("\r\n\r\n")
        .expect("headers and body")
        .1
        .to_owned()
}
