//! The admin listener: probes, metrics, health. Changes nothing.
//!
//! | path | answers |
//! |---|---|
//! | `/-/healthy` | 200 while the process serves |
//! | `/-/ready` | 200 while it listens with the log open; never "receiver up", never "not full" |
//! | `/metrics` | `sluicegate_*` |
//! | `/health` | batches and shards as JSON |
//! | `/` | what there is |

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::status::Status;

const TEXT: &str = "text/plain; charset=utf-8";
/// Of the text format that Prometheus scrapes.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
/// Pause after the system refuses to accept (no file descriptors): what is open may finish.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const INDEX: &str = "\
Sluicegate

/-/healthy   the process serves
/-/ready     it accepts remote write
/metrics     metrics
/health      batches and shards, as JSON
";

/// The admin listener.
pub struct AdminServer {
    listener: TcpListener,
    status: Arc<Status>,
}

impl AdminServer {
    /// Binds the listener.
    pub async fn bind(addr: SocketAddr, status: Arc<Status>) -> std::io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(addr).await?,
            status,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections (admin)");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (status, stop) = (Arc::clone(&self.status), stop.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<_>| {
                    let status = Arc::clone(&status);
                    async move {
                        let (method, path) = (request.method(), request.uri().path());
                        Ok::<_, Infallible>(answer(method, path, &status))
                    }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    ended = connection => if let Err(error) = ended {
                        tracing::debug!(%error, "admin connection");
                    },
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

fn answer(method: &Method, path: &str, status: &Status) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = text(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "only GET\n".to_owned(),
        );
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let ok = StatusCode::OK;
    match path {
        "/-/healthy" => text(ok, TEXT, "Sluicegate is Healthy.\n".to_owned()),
        "/-/ready" if status.is_ready() => text(ok, TEXT, "Sluicegate is Ready.\n".to_owned()),
        "/-/ready" => text(
            StatusCode::SERVICE_UNAVAILABLE,
            TEXT,
            "stopping\n".to_owned(),
        ),
        "/metrics" => text(ok, METRICS, status.metrics()),
        "/health" => text(ok, JSON, status.health().to_string()),
        "/" => text(ok, TEXT, INDEX.to_owned()),
        _ => text(StatusCode::NOT_FOUND, TEXT, format!("not found\n\n{INDEX}")),
    }
}

fn text(code: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
