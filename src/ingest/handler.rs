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
use super::body::{Arriving, Complete};
use super::meter::IngestMetrics;
use super::pace::Slow;
use super::permits::{BodyShare, MemoryShare};
use super::respond::{Outcome, Refusal, answer, close};
use crate::clock::Instant;
use crate::listen::{Head, Pulse};
use crate::log::front::Front;
use crate::log::repeats::Repeats;
use crate::log::{LogError, Readers, Tenant};
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
/// How long a body waits for memory.
pub(super) const MEMORY_WAIT: Duration = Duration::from_secs(1);
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
    /// There is no configuration that works: nothing is accepted.
    pub standby: bool,
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
    pub bodies: BodyShare,
    /// Memory for decoded messages.
    pub decoding: MemoryShare,
    /// Set when requests are no longer accepted.
    pub stopping: watch::Receiver<bool>,
    /// Requests under way.
    pub activity: Activity,
    /// Handles of the metrics.
    pub metrics: IngestMetrics,
}

/// Why a request ended before it was admitted.
#[derive(Debug)]
pub(super) enum Ended {
    /// It is told.
    Refused(Refusal),
    /// Its body came too slowly. It is not told: no status says so without making Prometheus drop the batch,
    /// and whoever drips has no right to one.
    Slow(Slow),
    /// Its sender hung up.
    HungUp,
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LogError> for Ended {
    fn from(error: LogError) -> Self {
        Self::Refused(error.into())
    }
}

/// A request that gets no answer: its connection is closed.
#[derive(Debug)]
pub struct Unanswered(pub Option<Slow>);

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "the body came too slowly",
            None => "the sender hung up",
        })
    }
}

impl std::error::Error for Unanswered {}

/// Handles one request of a connection; `head` is what its head says about its body.
///
/// # Errors
/// When the connection is to be closed without an answer.
///
/// # Cancel safety
/// If the sender hangs up before the record is appended, nothing is stored. After it the record is sent
/// on, and the sender may send it again: while it has had no answer the copy attaches to the first.
pub async fn handle(
    request: Request<Incoming>,
    head: Option<Head>,
    pulse: &Pulse,
    ingest: Arc<Ingest>,
) -> Result<Response<Full<Bytes>>, Unanswered> {
    let began = Instant::now();
    let ambiguous = match head {
        Some(Head::Sized | Head::Chunked) => None,
        Some(Head::Ambiguous(why)) => Some(why),
        None => Some("it follows one that had to be the last"),
    };
    if ambiguous.is_none() && is_handshake(&request) {
        let version = if ingest.options.accept_zstd { "1" } else { "0" };
        return Ok(Response::new(Full::new(Bytes::from_static(
            version.as_bytes(),
        ))));
    }
    ingest.activity.began();
    let _ended = OnDrop(|| ingest.activity.ended());
    let (parts, mut body) = request.into_parts();
    let mut protocol = None;
    let outcome = match ambiguous {
        Some(why) => Err(Refusal::Framing(why).into()),
        None => receive(&parts, &mut body, &ingest, pulse, began, &mut protocol).await,
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(Ended::Refused(refusal)) => Outcome::Refused(refusal),
        Err(Ended::Slow(slow)) => return Err(Unanswered(Some(slow))),
        Err(Ended::HungUp) => return Err(Unanswered(None)),
    };
    if outcome.is_about_headers() && !parts.headers.contains_key(EXPECT) {
        discard(body).await;
    }
    ingest.metrics.answered(&outcome, began.elapsed());
    if outcome.status().is_client_error() {
        let (status, reason) = (outcome.status().as_u16(), outcome.reason());
        tracing::debug!(status, reason, "refused a request");
    }
    let mut response = answer(&outcome, protocol);
    if head != Some(Head::Sized) {
        close(&mut response);
    }
    Ok(response)
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
    pulse: &Pulse,
    began: Instant,
    protocol: &mut Option<Protocol>,
) -> Result<Outcome, Ended> {
    if !is_write_path(parts.uri.path()) {
        return Err(Refusal::NotFound.into());
    }
    if parts.method != Method::POST {
        return Err(Refusal::Method.into());
    }
    let (as_protocol, encoding) = negotiate_headers(&parts.headers, ingest)?;
    *protocol = Some(as_protocol);
    if *ingest.stopping.borrow() {
        return Err(Refusal::Stopping.into());
    }
    if ingest.options.standby {
        return Err(Refusal::Standby.into());
    }
    let limit = ingest.options.max_request_size;
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > limit) {
        return Err(Refusal::BodySize(limit).into());
    }
    let tenant = Arc::new(tenant_of(&parts.headers, &ingest.options.tenant_headers));
    let arriving = Arriving {
        ingest,
        pulse,
        tenant: &tenant,
        length,
        began,
    };
    let mut aborted = Aborted::before(ingest, "body");
    let complete = arriving.complete(body).await;
    aborted.unless(matches!(complete, Ok(_) | Err(Ended::Refused(_))));
    let Complete { body, room, memory } = complete?;
    let request = Received {
        body,
        protocol: as_protocol,
        encoding,
        tenant,
        room,
        memory,
        began,
    };
    let mut aborted = Aborted::before(ingest, "answer");
    let admitted = request.admit(ingest).await;
    aborted.unless(true);
    Ok(admitted?)
}

/// Counts a request that ends before it is answered.
struct Aborted<'a> {
    ingest: &'a Ingest,
    missing: Option<&'static str>,
}

impl<'a> Aborted<'a> {
    fn before(ingest: &'a Ingest, missing: &'static str) -> Self {
        Self {
            ingest,
            missing: Some(missing),
        }
    }

    /// It goes on.
    fn unless(&mut self, goes_on: bool) {
        if goes_on {
            self.missing = None;
        }
    }
}

impl Drop for Aborted<'_> {
    fn drop(&mut self) {
        if let Some(missing) = self.missing {
            self.ingest.metrics.aborted(missing);
        }
    }
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
