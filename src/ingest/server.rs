//! Accepts connections on the data listener and hands their requests to [`super::handler`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handler::{Ingest, Unanswered, handle};
use super::pace::Slow;
use super::respond::{NO_PLACE, of_parser};
use crate::clock::Instant;
use crate::listen::{HEADERS_KEPT, IDLE, Overdue, Place, Places, Watched, overdue};
use crate::metrics::{self, Registry};

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
    places: Arc<Places>,
    rejected: ::metrics::Counter,
    closed: Arc<Closed>,
}

/// Connections closed by us, by why.
struct Closed(Vec<(&'static str, ::metrics::Counter)>);

impl Closed {
    fn new(registry: &Registry) -> Self {
        let overdue = Overdue::ALL.map(Overdue::as_str);
        let slow = Slow::ALL.map(Slow::as_str);
        let reasons = overdue.into_iter().chain(slow);
        let counter = |why| registry.counter(&metrics::CONNECTIONS_CLOSED, &[why]);
        Self(reasons.map(|why| (why, counter(why))).collect())
    }

    fn count(&self, why: &'static str) {
        if let Some((_, counter)) = self.0.iter().find(|(reason, _)| *reason == why) {
            counter.increment(1);
        }
        tracing::debug!(reason = why, "closed a connection");
    }
}

/// The last time that something was said.
#[derive(Default)]
struct Said(Option<Instant>);

impl Said {
    /// It may be said again.
    fn again(&mut self) -> bool {
        let again = self.0.is_none_or(|at| at.elapsed() >= QUIET);
        if again {
            self.0 = Some(Instant::now());
        }
        again
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
            places: Places::new(max_connections, HEADERS_KEPT),
            rejected: registry.counter(&metrics::CONNECTIONS_REJECTED, &[]),
            closed: Arc::new(Closed::new(registry)),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Its connections.
    pub fn places(&self) -> Arc<Places> {
        Arc::clone(&self.places)
    }

    /// Serves until `stop`; then answers what is under way and closes.
    pub async fn serve(self, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let (mut full, mut failed) = (Said::default(), Said::default());
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if failed.again() {
                        tracing::warn!(%error, "cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = self.places.take(Instant::now()) else {
                self.rejected.increment(1);
                // As far as the socket takes it at once: nobody is waited for here.
                drop(stream.try_write(NO_PLACE));
                if full.again() {
                    let limit = self.places.limit();
                    tracing::warn!(
                        limit,
                        "connections get 503 at once: as many are open and at work as \
                         server.max_connections allows"
                    );
                }
                continue;
            };
            let (ingest, stop) = (Arc::clone(&self.ingest), stop.clone());
            let closed = Arc::clone(&self.closed);
            connections.spawn(async move {
                serve_connection(stream, &place, ingest, stop, &closed).await;
            });
        }
        connections.close();
        connections.wait().await;
    }
}

async fn serve_connection(
    stream: TcpStream,
    place: &Place,
    ingest: Arc<Ingest>,
    stop: CancellationToken,
    closed: &Closed,
) {
    // An answer is one small write: it must not wait for the sender's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let pulse = &place.pulse;
    let stream = Watched::new(stream, Arc::clone(pulse));
    let (noted, served) = (Arc::clone(pulse), Arc::clone(&ingest));
    let service = service_fn(move |request| {
        let (ingest, pulse) = (Arc::clone(&served), Arc::clone(&noted));
        async move {
            let head = pulse.request(Instant::now());
            let answer = handle(request, head, &pulse, ingest).await;
            pulse.answer(Instant::now());
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEADER_BYTES_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        why = overdue(pulse) => {
            // Dropped, the connection is closed: whoever drips has no right to an answer.
            closed.count(why.as_str());
            return;
        }
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    let Err(error) = ended else {
        return;
    };
    if let Some((status, reason)) = of_parser(&error) {
        ingest.metrics.count(status, reason);
    }
    if let Some(slow) = slow(&error) {
        closed.count(slow.as_str());
    }
    tracing::debug!(%error, "connection");
}

/// The body was too slow.
fn slow(error: &hyper::Error) -> Option<Slow> {
    use std::error::Error as _;

    error.source()?.downcast_ref::<Unanswered>()?.0
}
