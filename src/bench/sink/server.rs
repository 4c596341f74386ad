//! One request, from its headers to the answer.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming as IncomingBody};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::{Duration, sleep};

use super::behaviour::{Behaviour, Fail, V2Support, When};
use super::decode::{Encoding, unpack};
use super::inspect::{Inspected, Inspector};
use super::negotiate::{header_violations, negotiate};
use super::store::{Incoming, Stored};
use super::{Shared, TENANT_SEPARATOR};
use crate::bench::Protocol;
use crate::bench::data::ValueOptions;
use crate::bench::load::WRITTEN_HEADERS;

/// Compressed bytes above which a body is 413 whatever the behaviour; as in Prometheus.
const BODY_MAX_BYTES: u64 = 32 << 20;

/// Where the numbers are read.
const STATS_PATH: &str = "/stats";

/// The connection is to be closed without an answer.
#[derive(Debug)]
pub(super) struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed without an answer")
    }
}

impl std::error::Error for Closed {}

/// What is answered.
#[derive(Default)]
struct Answer {
    status: u16,
    message: String,
    written: Option<[u64; 3]>,
    retry_after_seconds: Option<u64>,
}

impl Answer {
    fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            ..Self::default()
        }
    }

    fn failure(fail: &Fail) -> Self {
        Self {
            retry_after_seconds: fail.retry_after_seconds,
            ..Self::new(fail.status, "failure asked for")
        }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.message));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        for (name, count) in WRITTEN_HEADERS.iter().zip(self.written.iter().flatten()) {
            headers.insert(*name, HeaderValue::from(*count));
        }
        response
    }
}

/// Handles one request as the behaviour says.
///
/// # Cancel safety
/// The sender may go away at any point; what is stored by then stays stored.
pub(super) async fn handle(
    shared: Arc<Shared>,
    request: Request<IncomingBody>,
) -> Result<Response<Full<Bytes>>, Closed> {
    if request.method() == Method::GET && request.uri().path() == STATS_PATH {
        return numbers(&shared);
    }
    let mut flight = Flight::start(&shared);
    let behaviour = shared.behaviour();
    let (parts, body) = request.into_parts();
    let body = read_body(body, &behaviour).await?;
    if behaviour.down.is_some() {
        return Err(Closed);
    }
    let exchange = Exchange {
        shared: &shared,
        behaviour: &behaviour,
        number: flight.number,
        parts: &parts,
        body: &body,
    };
    let answer = exchange.answer().await;
    flight.answered = Some(answer.status);
    Ok(answer.into_response())
}

/// The numbers now, as JSON: for whoever waits for something. It is no request of the protocol, and counts as
/// none.
fn numbers(shared: &Shared) -> Result<Response<Full<Bytes>>, Closed> {
    let stats = shared.peek(|store| store.counting.snapshot());
    let mut text = serde_json::to_string_pretty(&stats).map_err(|_| Closed)?;
    text.push('\n');
    let mut response = Response::new(Full::from(text));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

/// Reads a body, slowly if asked to. One that is too large is read to its end all the same: an
/// answer to a half-read request looks like a broken connection to the sender.
async fn read_body(mut body: IncomingBody, behaviour: &Behaviour) -> Result<Bytes, Closed> {
    let mut read = Vec::with_capacity(body.size_hint().lower() as usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Closed)?.into_data() else {
            continue;
        };
        if let Some(rate) = behaviour.read_bytes_per_second {
            sleep(Duration::from_secs_f64(
                data.len() as f64 / rate.max(1) as f64,
            ))
            .await;
        }
        if read.len() as u64 <= BODY_MAX_BYTES {
            read.extend_from_slice(&data);
        }
    }
    Ok(read.into())
}

/// Counts a request while it is handled, however it ends.
struct Flight<'a> {
    shared: &'a Shared,
    number: u64,
    answered: Option<u16>,
}

impl<'a> Flight<'a> {
    fn start(shared: &'a Shared) -> Self {
        let number = shared.update(|store| {
            let stats = &mut store.counting.stats;
            stats.requests += 1;
            stats.in_flight += 1;
            stats.in_flight_max = stats.in_flight_max.max(stats.in_flight);
            stats.requests
        });
        Self {
            shared,
            number,
            answered: None,
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.shared.update(|store| {
            let stats = &mut store.counting.stats;
            stats.in_flight -= 1;
            match self.answered {
                Some(code) => *stats.statuses.entry(code).or_default() += 1,
                None => stats.unanswered += 1,
            }
        });
    }
}

struct Exchange<'a> {
    shared: &'a Shared,
    behaviour: &'a Behaviour,
    number: u64,
    parts: &'a Parts,
    body: &'a Bytes,
}

impl Exchange<'_> {
    async fn answer(&self) -> Answer {
        self.shared
            .update(|store| store.counting.stats.body_bytes += self.body.len() as u64);
        if let Some(fail) = self.behaviour.failure(self.number, When::BeforeStoring) {
            return Answer::failure(fail);
        }
        let (protocol, inspected) = match self.read() {
            Ok(read) => read,
            Err(answer) => return answer,
        };
        let hangs = inspected.hangs;
        self.pause(When::BeforeStoring, hangs).await;
        let answer = self.store(protocol, inspected);
        self.pause(When::AfterStoring, hangs).await;
        match self.behaviour.failure(self.number, When::AfterStoring) {
            Some(fail) => Answer::failure(fail),
            None => answer,
        }
    }

    /// Everything that can be said without the store.
    fn read(&self) -> Result<(Protocol, Inspected), Answer> {
        if self.parts.method != Method::POST {
            return Err(Answer::new(405, "POST only"));
        }
        let (protocol, encoding) = negotiate(&self.parts.headers, self.behaviour.zstd)
            .map_err(|message| Answer::new(415, message))?;
        match self.behaviour.v2 {
            V2Support::Unsupported if protocol == Protocol::V2 => {
                return Err(Answer::new(415, "remote write 2.0 is not supported"));
            }
            V2Support::Ignored if protocol == Protocol::V2 => return Err(Answer::new(204, "")),
            _ => {}
        }
        let limit = self.behaviour.body_max_bytes.unwrap_or(BODY_MAX_BYTES);
        if self.body.len() as u64 > limit.min(BODY_MAX_BYTES) {
            return Err(Answer::new(413, format!("more than {limit} bytes")));
        }
        let inspected = self.decode(protocol, encoding)?;
        let elements = inspected.findings.len() as u64;
        if self
            .behaviour
            .samples_max
            .is_some_and(|most| elements > most)
        {
            return Err(Answer::new(
                413,
                format!("{elements} elements are too many"),
            ));
        }
        self.limit_rate(elements)?;
        Ok((protocol, inspected))
    }

    fn decode(&self, protocol: Protocol, encoding: Encoding) -> Result<Inspected, Answer> {
        let options = &self.shared.options;
        let tenant = self.tenant();
        let inspector = Inspector {
            protocol,
            decoder: options.decoder,
            behaviour: self.behaviour,
            verify: options.verify.as_ref().map(ValueOptions::from),
            tenant: &tenant,
            tenant_label: options.tenant_label.as_deref(),
        };
        let message = unpack(self.body, encoding);
        let inspected = message.and_then(|message| inspector.inspect(&message));
        inspected.map_err(|error| Answer {
            written: (protocol == Protocol::V2).then_some([0; 3]),
            ..Answer::new(400, error.to_string())
        })
    }

    fn limit_rate(&self, elements: u64) -> Result<(), Answer> {
        let Some(limit) = self.behaviour.rate_limit else {
            return Ok(());
        };
        if self
            .shared
            .update(|store| store.admit(limit, elements, now_ms()))
        {
            return Ok(());
        }
        Err(Answer {
            retry_after_seconds: limit.retry_after_seconds,
            ..Answer::new(429, "rate limit")
        })
    }

    /// Delay, then hang, at this point of the request.
    async fn pause(&self, when: When, hangs: bool) {
        if let Some(wait) = self.behaviour.wait(self.number, when) {
            sleep(wait).await;
        }
        let Some(hang) = self
            .behaviour
            .hang
            .as_ref()
            .filter(|hang| hangs && hang.when == when)
        else {
            return;
        };
        let _held = Held::start(self.shared);
        let released = self.shared.until(|now| now.hang.as_ref() != Some(hang));
        match hang.time {
            // Either way the wait is over.
            Some(time) => drop(tokio::time::timeout(time, released).await),
            None => released.await,
        }
    }

    fn store(&self, protocol: Protocol, mut inspected: Inspected) -> Answer {
        let violations = std::mem::take(&mut inspected.violations);
        let tenant = self.tenant();
        let Stored {
            status,
            written,
            message,
        } = self.shared.update(|store| {
            for rule in violations
                .into_iter()
                .chain(header_violations(&self.parts.headers, protocol))
            {
                store.counting.violation(rule);
            }
            let incoming = Incoming {
                inspected,
                protocol,
                tenant: &tenant,
                bytes: self.body.len() as u64,
                now_ms: now_ms(),
            };
            store.store(incoming, self.behaviour)
        });
        let tells = protocol == Protocol::V2 && self.behaviour.v2 != V2Support::Silent;
        Answer {
            written: tells.then_some(written),
            ..Answer::new(status, message)
        }
    }

    /// Values of the tenant headers, joined; empty when there are none.
    fn tenant(&self) -> String {
        let names = self.shared.options.tenant_headers.iter();
        let values: Vec<String> = names
            .filter_map(|name| self.parts.headers.get(name))
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        values.join(TENANT_SEPARATOR)
    }
}

/// Counts a request as hanging while it is held.
struct Held<'a>(&'a Shared);

impl<'a> Held<'a> {
    fn start(shared: &'a Shared) -> Self {
        shared.update(|store| store.counting.stats.hanging += 1);
        Self(shared)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.update(|store| store.counting.stats.hanging -= 1);
    }
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (since_epoch.as_millis() as u64).cast_signed()
}
