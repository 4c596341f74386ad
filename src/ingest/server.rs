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
use crate::metrics::{self, Registry};

/// Prometheus keeps idle connections for five minutes: ours must live longer, or its next request races
/// our close. hyper's timer runs from the end of the last request to the end of the next one's headers.
const IDLE: Duration = Duration::from_secs(370);
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
    rejected: ::metrics::Counter,
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
            rejected: registry.counter(&metrics::CONNECTIONS_REJECTED, &[]),
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
                continue;
            };
            let (ingest, open, stop) = (
                Arc::clone(&self.ingest),
                Arc::clone(&self.open),
                stop.clone(),
            );
            connections.spawn(async move {
                open.fetch_add(1, Ordering::Relaxed);
                serve_connection(stream, ingest, stop).await;
                open.fetch_sub(1, Ordering::Relaxed);
                drop(permit);
            });
        }
        connections.close();
        connections.wait().await;
    }
}

async fn serve_connection(stream: TcpStream, ingest: Arc<Ingest>, stop: CancellationToken) {
    // An answer is one small write: it must not wait for the sender's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let service = service_fn(move |request| {
        let ingest = Arc::clone(&ingest);
        async move { Ok::<_, Infallible>(handle(request, ingest).await) }
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
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection");
    }
}
