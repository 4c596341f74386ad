//! The admin listener: probes, metrics, health, and the page. Changes nothing.
//!
//! | path | answers |
//! |---|---|
//! | `/-/healthy` | 200 while the process serves |
//! | `/-/ready` | 200 while it listens with the log open; never "receiver up", never "not full" |
//! | `/metrics` | `sluicegate_*` |
//! | `/health` | batches and shards as JSON |
//! | `/` | the page; `page.js`, `page.css` and `icon.svg` belong to it |
//! | `/api/v1/status` | what the page shows, as JSON |
//! | `/api/v1/page` | the parts of the page, for its script |
//!
//! The last three answer loopback peers only, see [`access`].
//!
//! Who does not get on, or has only nothing to say, is treated as on the data listener: see [`crate::listen`].

pub mod access;
mod html;
mod page;
mod panels;
mod queue_panel;
mod shadow_panel;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Instant;
use crate::listen::{Head, IDLE, Places, Watched, overdue};
use crate::status::Status;

const TEXT: &str = "text/plain; charset=utf-8";
/// Of the text format that Prometheus scrapes.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
/// Connections at once: probes, scrapes, and a few people.
pub const CONNECTIONS: usize = 64;
/// Bytes of a request's headers.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Between two warnings of the same thing.
const QUIET: Duration = Duration::from_secs(60);
/// Pause after the system refuses to accept (no file descriptors): what is open may finish.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const INDEX: &str = "\
Sluicegate

/-/healthy   the process serves
/-/ready     it accepts remote write
/metrics     metrics
/health      batches and shards, as JSON
/            the page (loopback only)
/api/v1/status  what it shows, as JSON (loopback only)
";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";
/// On everything: nothing is guessed, kept, framed, or told to others.
const GUARDS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, page::POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// The admin listener.
pub struct AdminServer {
    listener: TcpListener,
    status: Arc<Status>,
    places: Arc<Places>,
}

impl AdminServer {
    /// Binds the listener.
    pub async fn bind(addr: SocketAddr, status: Arc<Status>) -> std::io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(addr).await?,
            status,
            // A probe says at once what it wants: the oldest who says nothing goes, however young.
            places: Places::new(CONNECTIONS, Duration::ZERO),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let mut warned: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if warned.is_none_or(|at| at.elapsed() >= QUIET) {
                        warned = Some(Instant::now());
                        tracing::warn!(%error, "cannot accept connections (admin)");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // When all are at work: the connection is closed, and a probe or scrape comes again.
            let Some(place) = self.places.take(Instant::now()) else {
                continue;
            };
            let (status, stop) = (Arc::clone(&self.status), stop.clone());
            tokio::spawn(async move {
                let pulse = &place.pulse;
                let stream = Watched::new(stream, Arc::clone(pulse));
                let noted = Arc::clone(pulse);
                let service = service_fn(move |request: Request<Incoming>| {
                    let (status, pulse) = (Arc::clone(&status), Arc::clone(&noted));
                    async move {
                        let head = pulse.request(Instant::now());
                        let answer = answer(&request, head, peer.ip(), &status);
                        pulse.answer(Instant::now());
                        Ok::<_, Infallible>(answer)
                    }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(IDLE)
                    .max_header_size(HEADER_BYTES_MAX)
                    .max_buf_size(HEADER_BYTES_MAX)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    ended = connection => if let Err(error) = ended {
                        tracing::debug!(%error, "admin connection");
                    },
                    why = overdue(pulse) => {
                        tracing::debug!(reason = why.as_str(), "closed an admin connection");
                    }
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

fn answer<B>(
    request: &Request<B>,
    head: Option<Head>,
    peer: IpAddr,
    status: &Status,
) -> Response<Full<Bytes>> {
    let mut response = if head == Some(Head::Sized) {
        route(request, peer, status)
    } else {
        // Nothing here is asked for with chunks, or in a way that can be read in two ways.
        let mut refused = text(StatusCode::BAD_REQUEST, TEXT, "only GET\n".to_owned());
        let close = HeaderValue::from_static("close");
        refused.headers_mut().insert(header::CONNECTION, close);
        refused
    };
    for (name, value) in GUARDS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

fn route<B>(request: &Request<B>, peer: IpAddr, status: &Status) -> Response<Full<Bytes>> {
    let (method, path) = (request.method(), request.uri().path());
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
        "/" | "/api/v1/status" | "/api/v1/page" => {
            match access::may_see(peer, host(request.headers())) {
                Ok(()) => told(path, status),
                Err(denied) => text(StatusCode::FORBIDDEN, TEXT, denied.message().to_owned()),
            }
        }
        // These tell nothing.
        "/page.js" => text(ok, SCRIPT, page::SCRIPT.to_owned()),
        "/page.css" => text(ok, STYLE, page::STYLE.to_owned()),
        "/icon.svg" => text(ok, ICON, page::ICON.to_owned()),
        _ => text(StatusCode::NOT_FOUND, TEXT, format!("not found\n\n{INDEX}")),
    }
}

/// `Host`; one that is no text, or stands there twice, is a name that nobody may have.
fn host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?;
    Some(match hosts.next() {
        None => host.to_str().unwrap_or_default(),
        Some(_) => "",
    })
}

fn told(path: &str, status: &Status) -> Response<Full<Bytes>> {
    let report = status.report();
    let json = |json: Result<String, serde_json::Error>| {
        json.expect("a value of names, numbers and texts can be written as JSON")
    };
    match path {
        "/api/v1/status" => text(StatusCode::OK, JSON, json(serde_json::to_string(&report))),
        "/api/v1/page" => {
            let parts = page::parts_of(&report);
            text(StatusCode::OK, JSON, json(serde_json::to_string(&parts)))
        }
        _ => text(StatusCode::OK, HTML, page::page(&report)),
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
