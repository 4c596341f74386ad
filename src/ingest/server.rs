//! Accepts connections on the data listener and hands their requests to [`super::handler`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handler::{Ingest, handle};
use super::watch::{IDLE, Overdue, Pulse, Watched};
use crate::clock::Instant;
use crate::metrics::{self, Registry};

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Between two warnings of the same thing.
const QUIET: Duration = Duration::from_secs(60);
/// Headers of a request: far more than any sender needs.
const HEADERS_MAX: usize = 100;
/// Bytes of a request's headers.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Pause after the system refuses to accept (no file descriptors): what is open may finish.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The data listener.
pub struct DataServer {
    listener: TcpListener,
    ingest: Arc<Ingest>,
    connections: Arc<Semaphore>,
    open: Arc<AtomicUsize>,
    limit: usize,
    rejected: ::metrics::Counter,
    closed: Arc<Closed>,
}

/// Connections closed by us, by why.
struct Closed {
    headers: ::metrics::Counter,
    idle: ::metrics::Counter,
    stalled: ::metrics::Counter,
}

impl Closed {
    fn new(registry: &Registry) -> Self {
        let counter =
            |why: Overdue| registry.counter(&metrics::CONNECTIONS_CLOSED, &[why.as_str()]);
        Self {
            headers: counter(Overdue::Headers),
            idle: counter(Overdue::Idle),
            stalled: counter(Overdue::Stalled),
        }
    }

    fn count(&self, why: Overdue) {
        match why {
            Overdue::Headers => self.headers.increment(1),
            Overdue::Idle => self.idle.increment(1),
            Overdue::Stalled => self.stalled.increment(1),
        }
    }
}

impl DataServer {
    /// Binds the listener.
    pub async fn bind(
        addr: SocketAddr,
        ingest: Arc<Ingest>,
        max_connections: usize,
        registry: &Registry,
    ) -> std::io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(addr).await?,
            ingest,
            connections: Arc::new(Semaphore::new(max_connections)),
            open: Arc::default(),
            limit: max_connections,
            rejected: registry.counter(&metrics::CONNECTIONS_REJECTED, &[]),
            closed: Arc::new(Closed::new(registry)),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Number of open connections, as it changes.
    pub fn open_connections(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.open)
    }

    /// Serves until `stop`; then answers what is under way and closes.
    pub async fn serve(self, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let mut warned: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
                self.rejected.increment(1);
                drop(stream);
                if warned.is_none_or(|at| at.elapsed() >= QUIET) {
                    warned = Some(Instant::now());
                    let limit = self.limit;
                    tracing::warn!(
                        limit,
                        "connections are closed at once: as many are open as server.max_connections allows"
                    );
                }
                continue;
            };
            let (ingest, open, stop) = (
                Arc::clone(&self.ingest),
                Arc::clone(&self.open),
                stop.clone(),
            );
            let closed = Arc::clone(&self.closed);
            connections.spawn(async move {
                open.fetch_add(1, Ordering::Relaxed);
                serve_connection(stream, ingest, stop, &closed).await;
                open.fetch_sub(1, Ordering::Relaxed);
                drop(permit);
            });
        }
        connections.close();
        connections.wait().await;
    }
}

async fn serve_connection(
    stream: TcpStream,
    ingest: Arc<Ingest>,
    stop: CancellationToken,
    closed: &Closed,
) {
    // An answer is one small write: it must not wait for the sender's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let pulse = Pulse::new(Instant::now());
    let stream = Watched::new(stream, Arc::clone(&pulse));
    let noted = Arc::clone(&pulse);
    let service = service_fn(move |request| {
        let (ingest, pulse) = (Arc::clone(&ingest), Arc::clone(&noted));
        async move {
            pulse.request(Instant::now());
            let answer = handle(request, ingest).await;
            pulse.answer(Instant::now());
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        why = overdue(&pulse) => {
            // Dropped, the connection is closed: whoever drips has no right to an answer.
            closed.count(why);
            tracing::debug!(reason = why.as_str(), "closed a connection");
            return;
        }
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection");
    }
}

/// Returns when the connection should be closed.
async fn overdue(pulse: &Pulse) -> Overdue {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        if let Some(why) = pulse.overdue(Instant::now()) {
            return why;
        }
    }
}
