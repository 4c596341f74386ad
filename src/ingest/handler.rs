//! The way of one request, from its headers to its answer.
//!
//! Everything that can be judged by the headers is judged before a byte of the body is read, and every
//! limit before a byte is allocated. What is admitted is admitted together: position and append are one
//! step.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderName};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response};
use tokio::sync::watch;

use super::activity::Activity;
use super::admit::Received;
use super::attach::Attachments;
use super::meter::IngestMetrics;
use super::permits::MemoryShare;
use super::respond::{Outcome, Refusal, answer};
use crate::clock::Instant;
use crate::log::front::{Front, Room};
use crate::log::repeats::Repeats;
use crate::log::{Readers, Tenant};
use crate::wire::compression::Encoding;
use crate::wire::decoded::{IdentityKey, Protocol, WalkLimits};
use crate::wire::negotiate::negotiate;

/// Paths under which Prometheus, Mimir, Grafana Cloud, Thanos and AMP are written to, so that a sender
/// changes nothing but host and port.
const PATHS: [&str; 5] = [
    "/api/v1/write",
    "/api/v1/push",
    "/api/prom/push",
    "/api/v1/receive",
    "/api/v1/remote_write",
];
/// Time in which a whole body must arrive: below the 30 s after which Prometheus gives up.
const BODY_DEADLINE: Duration = Duration::from_secs(25);
/// How long a body waits for memory.
pub(super) const MEMORY_WAIT: Duration = Duration::from_secs(1);
/// Room reserved in the log for a body that does not say its length.
const UNKNOWN_LENGTH: u64 = 1 << 20;

/// Bytes of a refused body that are read all the same.
const DISCARD_BYTES: usize = 1 << 20;
/// How long they may take.
const DISCARD_WAIT: Duration = Duration::from_secs(1);

/// What a 2xx means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// It is in the log, which keeps it at once.
    InLog,
    /// It is in the log, which keeps it once it is durable.
    Durable,
    /// So many required queues have settled it.
    Settled(usize),
}

/// What ingest accepts, and how long it waits.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// Largest body, compressed and decoded.
    pub max_request_size: u64,
    /// Limits of a message's parts.
    pub limits: WalkLimits,
    /// VictoriaMetrics' zstd bodies are accepted.
    pub accept_zstd: bool,
    /// Headers that separate tenants.
    pub tenant_headers: Vec<HeaderName>,
    /// How long a request waits for room in the log.
    pub queue_wait: Duration,
    /// Time from a request's headers until it is answered 503, where it waits for receivers.
    pub answer_deadline: Duration,
    /// What a sender waits for.
    pub promise: Promise,
    /// Bodies go out whole: series that are invalid by themselves are the receiver's to judge.
    pub passthrough: bool,
}

/// Everything a request needs.
pub struct Ingest {
    /// Options.
    pub options: IngestOptions,
    /// Where records go.
    pub log: Front,
    /// What the last process made durable and perhaps never answered.
    pub repeats: Option<Arc<Repeats>>,
    /// Who reads them.
    pub readers: Arc<dyn Readers>,
    /// Bodies without an answer.
    pub attachments: Arc<Attachments>,
    /// Key of the identities.
    pub key: IdentityKey,
    /// Memory for bodies.
    pub bodies: MemoryShare,
    /// Memory for decoded messages.
    pub decoding: MemoryShare,
    /// Set when requests are no longer accepted.
    pub stopping: watch::Receiver<bool>,
    /// Requests under way.
    pub activity: Activity,
    /// Handles of the metrics.
    pub metrics: IngestMetrics,
}

/// Handles one request.
///
/// # Cancel safety
/// If the sender hangs up before the record is appended, nothing is stored. After it the record is sent
/// on, and the sender may send it again: while it has had no answer the copy attaches to the first.
pub async fn handle(request: Request<Incoming>, ingest: Arc<Ingest>) -> Response<Full<Bytes>> {
    let began = Instant::now();
    if is_handshake(&request) {
        let version = if ingest.options.accept_zstd { "1" } else { "0" };
        return Response::new(Full::new(Bytes::from_static(version.as_bytes())));
    }
    ingest.activity.began();
    let _ended = OnDrop(|| ingest.activity.ended());
    let (parts, mut body) = request.into_parts();
    let mut protocol = None;
    let outcome = receive(&parts, &mut body, &ingest, began, &mut protocol).await;
    let outcome = outcome.unwrap_or_else(Outcome::Refused);
    if outcome.is_about_headers() && !parts.headers.contains_key(EXPECT) {
        discard(body).await;
    }
    ingest.metrics.answered(&outcome, began.elapsed());
    if outcome.status().is_client_error() {
        let (status, reason) = (outcome.status().as_u16(), outcome.reason());
        tracing::debug!(status, reason, "refused a request");
    }
    answer(&outcome, protocol)
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// vmagent before 1.116 asks which protocol it may speak.
fn is_handshake(request: &Request<Incoming>) -> bool {
    let asks = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("get_vm_proto_version"));
    asks && request.method() == Method::GET && is_write_path(request.uri().path())
}

fn is_write_path(path: &str) -> bool {
    // AMP: /workspaces/<id>/api/v1/remote_write
    let amp = || {
        let rest = path.strip_prefix("/workspaces/")?;
        let (id, rest) = rest.split_once('/')?;
        Some(!id.is_empty() && rest == "api/v1/remote_write")
    };
    PATHS.contains(&path) || amp() == Some(true)
}

async fn receive(
    parts: &Parts,
    body: &mut Incoming,
    ingest: &Arc<Ingest>,
    began: Instant,
    protocol: &mut Option<Protocol>,
) -> Result<Outcome, Refusal> {
    if !is_write_path(parts.uri.path()) {
        return Err(Refusal::NotFound);
    }
    if parts.method != Method::POST {
        return Err(Refusal::Method);
    }
    let (as_protocol, encoding) = negotiate_headers(&parts.headers, ingest)?;
    *protocol = Some(as_protocol);
    if *ingest.stopping.borrow() {
        return Err(Refusal::Stopping);
    }
    let limit = ingest.options.max_request_size;
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > limit) {
        return Err(Refusal::BodySize(limit));
    }
    let tenant = Arc::new(tenant_of(&parts.headers, &ingest.options.tenant_headers));
    let mut room = reserve(ingest, length.unwrap_or(UNKNOWN_LENGTH), &tenant).await?;
    let memory = ingest
        .bodies
        .lend(length.unwrap_or(limit), MEMORY_WAIT)
        .await;
    let memory = memory.ok_or(Refusal::Memory)?;
    let body = read_body(body, limit, began).await?;
    if length.is_none() && body.len() as u64 > UNKNOWN_LENGTH {
        // Given back first: what is larger than the log has to find it empty.
        drop(room);
        room = reserve(ingest, body.len() as u64, &tenant).await?;
    }
    let request = Received {
        body,
        protocol: as_protocol,
        encoding,
        tenant,
        room,
        memory,
        began,
    };
    request.admit(ingest).await
}

async fn reserve(ingest: &Ingest, bytes: u64, tenant: &Tenant) -> Result<Room, Refusal> {
    let reserved = ingest.log.reserve(bytes, tenant, ingest.options.queue_wait);
    reserved.await.map_err(Refusal::from)
}

fn negotiate_headers(
    headers: &HeaderMap,
    ingest: &Ingest,
) -> Result<(Protocol, Encoding), Refusal> {
    let text = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        let first = values.next()?;
        // A header that is no text, or stands there twice, is as good as an unknown one.
        Some(match values.next() {
            None => first.to_str().unwrap_or("?"),
            Some(_) => "?",
        })
    };
    negotiate(
        text(CONTENT_TYPE),
        text(CONTENT_ENCODING),
        ingest.options.accept_zstd,
    )
    .map_err(Refusal::Unsupported)
}

fn tenant_of(headers: &HeaderMap, names: &[HeaderName]) -> Tenant {
    let mut tenant = Vec::new();
    for name in names {
        for value in headers.get_all(name) {
            if let Ok(value) = value.to_str() {
                tenant.push((name.as_str().to_owned(), value.to_owned()));
            }
        }
    }
    tenant.sort();
    Tenant(tenant)
}

/// Takes a small body and throws it away: a sender whose connection is closed while it writes may see a
/// broken pipe, and not what it was told.
async fn discard(body: Incoming) {
    let rest = Limited::new(body, DISCARD_BYTES).collect();
    // However it ends, there is nothing more to be done for this sender.
    drop(tokio::time::timeout(DISCARD_WAIT, rest).await);
}

async fn read_body(body: &mut Incoming, limit: u64, began: Instant) -> Result<Bytes, Refusal> {
    let limited = Limited::new(body, limit as usize);
    match tokio::time::timeout_at(began + BODY_DEADLINE, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::BodySize(limit))
        }
        Ok(Err(_)) => Err(Refusal::Body("the connection broke")),
        Err(_) => Err(Refusal::Body("too slow")),
    }
}
