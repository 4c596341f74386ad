//! The way of one request, from its headers to its answer.
//!
//! Everything that can be judged by the headers is judged before a byte of the body is read, and every
//! limit before a byte is allocated. What is admitted is admitted together: position and append are one
//! step.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderName};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response};
use tokio::sync::watch;

use super::attach::{Attached, Attachments, Awaited, BodyId};
use super::permits::MemoryShare;
use super::respond::{Outcome, Refusal, answer};
use crate::clock::{Instant, wall_ms};
use crate::log::ack::Ack;
use crate::log::memory::{MemoryLog, Reservation};
use crate::log::{LogError, NewRecord, Readers, Tenant};
use crate::metrics::{self, Registry};
use crate::model::counts::{Counts, Kind};
use crate::model::runs::RunSet;
use crate::wire;
use crate::wire::compression::{Encoding, decoded_len};
use crate::wire::decoded::{Decoded, IdentityKey, InvalidSeries, Protocol, WalkLimits};
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
const MEMORY_WAIT: Duration = Duration::from_secs(1);
/// Bodies above this are decoded on a thread that may block.
const LARGE_BODY: usize = 256 << 10;
/// Room reserved in the log for a body that does not say its length.
const UNKNOWN_LENGTH: u64 = 1 << 20;

/// Bytes of a refused body that are read all the same.
const DISCARD_BYTES: usize = 1 << 20;
/// How long they may take.
const DISCARD_WAIT: Duration = Duration::from_secs(1);

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
    /// Required queues that must settle a record before its sender is answered; `None`: the log's word
    /// is enough.
    pub await_queues: Option<usize>,
}

/// Everything a request needs.
pub struct Ingest {
    /// Options.
    pub options: IngestOptions,
    /// Where records go.
    pub log: Arc<MemoryLog>,
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

/// Requests under way, and when the last one ended: a stopping sidecar waits for its Prometheus to be done.
pub struct Activity(Mutex<(usize, Instant)>);

impl Default for Activity {
    fn default() -> Self {
        Self(Mutex::new((0, Instant::now())))
    }
}

impl Activity {
    fn lock(&self) -> MutexGuard<'_, (usize, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn began(&self) {
        self.lock().0 += 1;
    }

    fn ended(&self) {
        let mut activity = self.lock();
        *activity = (activity.0 - 1, Instant::now());
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.lock().0
    }

    /// How long there has been no request.
    pub fn idle_for(&self) -> Duration {
        let (in_flight, ended) = *self.lock();
        if in_flight > 0 {
            Duration::ZERO
        } else {
            ended.elapsed()
        }
    }
}

/// Handles of the metrics.
pub struct IngestMetrics {
    registry: Arc<Registry>,
    seconds: ::metrics::Histogram,
    bytes: ::metrics::Counter,
    decoded_bytes: ::metrics::Counter,
    withdrawn: ::metrics::Counter,
}

impl IngestMetrics {
    /// Handles in this registry.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self {
            seconds: registry.histogram(&metrics::REQUEST_SECONDS, &[]),
            bytes: registry.counter(&metrics::RECEIVED_BYTES, &[]),
            decoded_bytes: registry.counter(&metrics::RECEIVED_DECODED_BYTES, &[]),
            withdrawn: registry.counter(&metrics::WITHDRAWN, &[]),
            registry,
        }
    }

    fn answered(&self, outcome: &Outcome, took: Duration) {
        self.seconds.record(took.as_secs_f64());
        let (status, reason) = (outcome.status(), outcome.reason());
        self.registry
            .counter(&metrics::REQUESTS, &[status.as_str(), reason])
            .increment(1);
    }

    fn admitted(&self, decoded: &Decoded, body: usize) {
        self.bytes.increment(body as u64);
        self.decoded_bytes.increment(decoded.body.len() as u64);
        let (proto, admitted) = (decoded.protocol.as_str(), decoded.admitted());
        for kind in Kind::ALL.into_iter().filter(|kind| admitted.get(*kind) > 0) {
            let labels = [proto, kind.as_str()];
            self.registry
                .counter(&metrics::RECEIVED, &labels)
                .increment(admitted.get(kind));
        }
        self.refused(decoded);
    }

    /// Counts what was refused by itself, whether or not anything beside it was admitted.
    fn refused(&self, decoded: &Decoded) {
        for row in decoded.series.iter().filter(|row| row.invalid.is_some()) {
            let reason = row.invalid.map_or("", InvalidSeries::reason);
            let counts = [
                row.counts.samples,
                row.counts.histograms,
                row.counts.exemplars,
            ];
            for (kind, count) in Kind::ALL.into_iter().zip(counts) {
                let labels = [reason, kind.as_str()];
                self.registry
                    .counter(&metrics::REFUSED, &labels)
                    .increment(u64::from(count));
            }
        }
    }

    fn attached(&self, to: Attached) {
        let to = match to {
            Attached::Unanswered => "unanswered",
            Attached::Orphan => "orphan",
        };
        self.registry
            .counter(&metrics::ATTACHED, &[to])
            .increment(1);
    }
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
    let _memory = memory.ok_or(Refusal::Memory)?;
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
        began,
    };
    request.admit(ingest).await
}

async fn reserve(ingest: &Ingest, bytes: u64, tenant: &Tenant) -> Result<Reservation, Refusal> {
    let reserved = ingest.log.reserve(bytes, tenant, ingest.options.queue_wait);
    reserved
        .await
        .map_err(|LogError::Full { retry_after }| Refusal::LogFull(retry_after))
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

/// A request whose body is here.
struct Received {
    body: Bytes,
    protocol: Protocol,
    encoding: Encoding,
    tenant: Arc<Tenant>,
    room: Reservation,
    began: Instant,
}

impl Received {
    async fn admit(self, ingest: &Arc<Ingest>) -> Result<Outcome, Refusal> {
        if self.body.is_empty() {
            // What Prometheus sends when everything in a request has grown too old meanwhile.
            return Ok(Outcome::Accepted(Counts::default()));
        }
        let Some(queues) = ingest.options.await_queues else {
            return self.admit_to_log(ingest).await;
        };
        let id = BodyId::of(
            &self.body,
            self.protocol,
            self.encoding,
            &self.tenant,
            &ingest.key,
        );
        let began = self.began;
        if let Some((waiting, attached)) = ingest.attachments.attach(id, &*ingest.readers) {
            ingest.metrics.attached(attached);
            drop(self);
            return wait(ingest, waiting, began).await;
        }
        let decoded = self.decode(ingest).await?;
        let (admitted, invalid) = (decoded.admitted(), decoded.invalid());
        if is_empty(&decoded) {
            ingest.metrics.refused(&decoded);
            return Ok(outcome_of(
                admitted,
                invalid,
                &crate::log::ack::Outcome::default(),
            ));
        }
        let awaited = Awaited {
            ack: Arc::new(Ack::new(queues)),
            admitted,
            invalid,
        };
        let (log, bytes) = (&ingest.log, self.body.len());
        let copy = Arc::clone(&decoded);
        let append = |ack| {
            let (record, room) = self.into_record(copy, Some(ack));
            log.append(record, room);
        };
        let (waiting, attached) = ingest
            .attachments
            .append(id, &*ingest.readers, awaited, append);
        match attached {
            Some(attached) => ingest.metrics.attached(attached),
            None => ingest.metrics.admitted(&decoded, bytes),
        }
        drop(decoded);
        wait(ingest, waiting, began).await
    }

    /// The log's word is enough.
    async fn admit_to_log(self, ingest: &Arc<Ingest>) -> Result<Outcome, Refusal> {
        let decoded = self.decode(ingest).await?;
        let (admitted, invalid) = (decoded.admitted(), decoded.invalid());
        if !is_empty(&decoded) {
            ingest.metrics.admitted(&decoded, self.body.len());
            let (record, room) = self.into_record(decoded, None);
            ingest.log.append(record, room);
        } else {
            ingest.metrics.refused(&decoded);
        }
        Ok(outcome_of(
            admitted,
            invalid,
            &crate::log::ack::Outcome::default(),
        ))
    }

    async fn decode(&self, ingest: &Arc<Ingest>) -> Result<Arc<Decoded>, Refusal> {
        let limit = ingest.options.max_request_size;
        let length = decoded_len(&self.body, self.encoding, limit).map_err(Refusal::Decode)?;
        let memory = ingest.decoding.lend(length * 2, MEMORY_WAIT).await;
        let memory = memory.ok_or(Refusal::Memory)?;
        let (body, encoding, protocol) = (self.body.clone(), self.encoding, self.protocol);
        let (limits, key) = (ingest.options.limits, ingest.key.clone());
        let decode = move || {
            let _memory = memory;
            wire::decode(&body, encoding, protocol, limit, &limits, &key)
        };
        let decoded = if self.body.len() > LARGE_BODY {
            let decoded = tokio::task::spawn_blocking(decode).await;
            decoded.map_err(|_| Refusal::Body("decoding was cut short"))?
        } else {
            decode()
        };
        decoded.map(Arc::new).map_err(Refusal::Decode)
    }

    fn into_record(self, decoded: Arc<Decoded>, ack: Option<Arc<Ack>>) -> (NewRecord, Reservation) {
        let record = NewRecord {
            arrival_ms: wall_ms(),
            encoding: self.encoding,
            tenant: self.tenant,
            skipped: skipped_of(&decoded),
            body: self.body,
            decoded,
            ack,
        };
        (record, self.room)
    }
}

/// Nothing in it that a queue would take: not even metadata.
fn is_empty(decoded: &Decoded) -> bool {
    decoded.admitted().is_zero() && decoded.metadata.is_empty()
}

/// Ordinals of the series that are refused by themselves.
fn skipped_of(decoded: &Decoded) -> RunSet {
    let mut skipped = RunSet::default();
    if decoded.skipped.is_zero() {
        return skipped;
    }
    let counts = decoded.counts();
    let mut next = [
        0,
        counts.samples as u32,
        (counts.samples + counts.histograms) as u32,
    ];
    for row in &decoded.series {
        let held = [
            row.counts.samples,
            row.counts.histograms,
            row.counts.exemplars,
        ];
        for (next, held) in next.iter_mut().zip(held) {
            if row.invalid.is_some() {
                skipped.insert(*next, *next + held);
            }
            *next += held;
        }
    }
    skipped
}

/// Waits until every required queue has settled the record, or the sender must be told to come back.
async fn wait(
    ingest: &Ingest,
    waiting: super::attach::Waiting,
    began: Instant,
) -> Result<Outcome, Refusal> {
    let deadline = began + ingest.options.answer_deadline;
    let awaited = Arc::clone(&waiting.awaited);
    match tokio::time::timeout_at(deadline, awaited.ack.settled()).await {
        Ok(settled) => {
            waiting.answered();
            Ok(outcome_of(awaited.admitted, awaited.invalid, &settled))
        }
        Err(_) => {
            ingest.metrics.withdrawn.increment(1);
            waiting.told_to_come_back(Instant::now(), &*ingest.readers);
            let jitter = Duration::from_millis(fastrand::u64(0..1000));
            Err(Refusal::NotSettled(Duration::from_secs(1) + jitter))
        }
    }
}

fn outcome_of(
    admitted: Counts,
    invalid: Option<(InvalidSeries, usize)>,
    settled: &crate::log::ack::Outcome,
) -> Outcome {
    let mut written = admitted;
    for kind in Kind::ALL {
        *written.slot(kind) -= settled.refused.get(kind).min(admitted.get(kind));
    }
    if !settled.refused.is_zero() {
        let message = settled.message.clone().unwrap_or_default();
        return Outcome::Partly {
            written,
            message,
            reason: "refused_by_receiver",
        };
    }
    match invalid {
        None => Outcome::Accepted(written),
        Some((why, count)) => {
            let message = format!("{count} series refused; the first: {}", why.explain());
            Outcome::Partly {
                written,
                message,
                reason: why.reason(),
            }
        }
    }
}
