//! One POST at a time over one kept connection, as one of Prometheus' shards does it.

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::bench::Protocol;

/// Answers may have a text; more than this of it closes the connection.
const ANSWER_MAX_BYTES: usize = 1 << 20;

/// Header that tells a 1.0 message from a 2.0 one, besides the content type.
pub(crate) const VERSION_HEADER: &str = "x-prometheus-remote-write-version";
/// Headers that say how much of a 2.0 request was written: samples, histograms, exemplars.
pub(crate) const WRITTEN_HEADERS: [&str; 3] = [
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

/// A URL or header that cannot be used.
#[derive(Debug)]
pub enum LoadError {
    /// Not `http://host[:port]/path`.
    Url(String),
    /// Not a header name and value.
    Header(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(f, "not an http:// URL: {url:?}"),
            Self::Header(header) => write!(f, "not a header: {header:?}"),
        }
    }
}

impl Error for LoadError {}

/// An attempt without an answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    /// There was a connection: the body, or part of it, may have arrived.
    pub(super) sent: bool,
    cause: Box<dyn Error + Send + Sync>,
}

impl NoAnswer {
    fn unsent(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let cause = cause.into();
        Self { sent: false, cause }
    }

    fn sent(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let cause = cause.into();
        Self { sent: true, cause }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

/// What a receiver said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    /// The three Written headers; `None` when not one of them was there.
    pub(super) written: Option<[u64; 3]>,
}

/// Where requests go and which headers they all have.
#[derive(Clone, Debug)]
pub(super) struct Route {
    authority: String,
    path: Uri,
    headers: HeaderMap,
    timeout: Duration,
}

impl Route {
    pub(super) fn new(
        url: &str,
        protocol: Protocol,
        extra: &[(String, String)],
        timeout: Duration,
    ) -> Result<Self, LoadError> {
        let refuse = || LoadError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| refuse())?;
        let host = uri
            .host()
            .filter(|_| uri.scheme_str() == Some("http"))
            .ok_or_else(refuse)?;
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = prometheus_headers(protocol);
        headers.insert(
            HOST,
            HeaderValue::from_str(&authority).map_err(|_| refuse())?,
        );
        for (name, value) in extra {
            let refuse = || LoadError::Header(format!("{name}: {value}"));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refuse())?;
            headers.append(name, HeaderValue::from_str(value).map_err(|_| refuse())?);
        }
        Ok(Self {
            authority,
            path: path.parse().map_err(|_| refuse())?,
            headers,
            timeout,
        })
    }
}

/// Source: Prometheus' `storage/remote/client.go`, `Client.Store`.
fn prometheus_headers(protocol: Protocol) -> HeaderMap {
    let (content_type, version) = match protocol {
        Protocol::V1 => ("application/x-protobuf", "0.1.0"),
        Protocol::V2 => (
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            "2.0.0",
        ),
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(USER_AGENT, HeaderValue::from_static("Prometheus/3.14.0"));
    headers.insert(VERSION_HEADER, HeaderValue::from_static(version));
    headers
}

/// One connection, made again when it is gone.
pub(super) struct Poster {
    route: Route,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Poster {
    pub(super) fn new(route: Route) -> Self {
        Self {
            route,
            connection: None,
        }
    }

    /// Sends a body and waits for the whole answer; `attempt` counts from 0.
    ///
    /// # Errors
    /// The network failed or time ran out. Without a connection nothing was sent; otherwise nobody knows
    /// whether the body arrived.
    ///
    /// # Cancel safety
    /// A cancelled call leaves no half-used connection behind.
    pub(super) async fn post(&mut self, body: Bytes, attempt: u32) -> Result<Answer, NoAnswer> {
        // Taken out, so that a call that is cancelled or fails drops it.
        let mut kept = self.connection.take();
        let timeout = self.route.timeout;
        let exchange = async {
            let connected = self.route.connected(kept.take()).await;
            let mut sender = connected.map_err(NoAnswer::unsent)?;
            let request = self.route.request(body, attempt);
            let request = request.map_err(NoAnswer::unsent)?;
            let response = sender.send_request(request).await;
            let answer = read_answer(response.map_err(NoAnswer::sent)?).await;
            Ok((answer.map_err(NoAnswer::sent)?, sender))
        };
        let ended = tokio::time::timeout(timeout, exchange).await;
        let (answer, sender) = ended.map_err(NoAnswer::sent)??;
        self.connection = Some(sender);
        Ok(answer)
    }
}

impl Route {
    async fn connected(
        &self,
        kept: Option<SendRequest<Full<Bytes>>>,
    ) -> Result<SendRequest<Full<Bytes>>, Box<dyn Error + Send + Sync>> {
        if let Some(mut sender) = kept
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends by itself when the sender is dropped; its error also comes out of the request.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(
        &self,
        body: Bytes,
        attempt: u32,
    ) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.path)
            .body(Full::new(body))?;
        *request.headers_mut() = self.headers.clone();
        if attempt > 0 {
            request
                .headers_mut()
                .insert("retry-attempt", HeaderValue::from(attempt));
        }
        Ok(request)
    }
}

async fn read_answer(
    response: Response<hyper::body::Incoming>,
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let headers = response.headers();
    let answer = Answer {
        status: response.status().as_u16(),
        retry_after: headers.get(RETRY_AFTER).and_then(retry_after),
        written: written(headers),
    };
    Limited::new(response.into_body(), ANSWER_MAX_BYTES)
        .collect()
        .await?;
    Ok(answer)
}

fn written(headers: &HeaderMap) -> Option<[u64; 3]> {
    if !WRITTEN_HEADERS
        .iter()
        .any(|name| headers.contains_key(*name))
    {
        return None;
    }
    let number = |name| headers.get(name)?.to_str().ok()?.parse().ok();
    Some(WRITTEN_HEADERS.map(|name| number(name).unwrap_or(0)))
}

/// Seconds or a date; zero, the past and nonsense count as absent, as in Prometheus.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(SystemTime::now())
            .ok()?,
    };
    (!wait.is_zero()).then_some(wait)
}
