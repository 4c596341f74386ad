//! What a receiver said, cut down to what a verdict needs.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Uri;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use tokio::time::timeout;

use super::failure::{Failure, escape};
use super::retry_after;

/// The most of a body that is read. The connection is given up when there is more.
const EXCERPT_BYTES: usize = 1024;

/// How long the body of a refusal may take: its text is worth a moment.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// How long the body of a success may take. It is read only to keep the connection.
const SUCCESS_TIME: Duration = Duration::from_millis(250);

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Complete response headers arrived, whatever became of the body.
    Response(Response),
    /// They did not.
    Failed(Failure),
}

/// A response's head, and the beginning of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, redirects included: none is followed.
    pub status: u16,
    /// What `Retry-After` asks for, uncapped.
    pub retry_after: Option<Duration>,
    /// What the receiver says that it wrote.
    pub written: Written,
    /// The body is a web page: a login form or an ingress, not a receiver.
    pub content_type_html: bool,
    /// The first KiB of the body of anything but a 2xx, without control characters.
    pub message: String,
    /// The host, and only the host, of an absolute `Location`.
    pub location_host: Option<String>,
}

/// The three counts of remote write 2.0; `None` where the header is missing or no number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Float samples.
    pub samples: Option<u64>,
    /// Histogram samples.
    pub histograms: Option<u64>,
    /// Exemplars.
    pub exemplars: Option<u64>,
}

impl Response {
    /// Reads as much of a response as anyone needs.
    pub(super) async fn read(response: hyper::Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let message = if head.status.is_success() {
            excerpt(body, SUCCESS_TIME).await;
            String::new()
        } else {
            escape(&String::from_utf8_lossy(&excerpt(body, REFUSAL_TIME).await))
        };
        Self {
            status: head.status.as_u16(),
            retry_after: retry_after::parse(&head.headers),
            written: Written::parse(&head.headers),
            content_type_html: is_html(&head.headers),
            message,
            location_host: location_host(&head.headers),
        }
    }
}

impl Written {
    fn parse(headers: &HeaderMap) -> Self {
        let count = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse().ok();
        Self {
            samples: count("x-prometheus-remote-write-samples-written"),
            histograms: count("x-prometheus-remote-write-histograms-written"),
            exemplars: count("x-prometheus-remote-write-exemplars-written"),
        }
    }
}

/// The first bytes of a body. Dropping the rest closes the connection; a body read to its end
/// leaves it to the next request.
async fn excerpt(mut body: Incoming, patience: Duration) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let data = frame.into_data().unwrap_or_default();
            let room = EXCERPT_BYTES - bytes.len();
            bytes.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                break;
            }
        }
    };
    // What arrived in time is the excerpt, also when more was to come.
    timeout(patience, reading).await.ok();
    bytes
}

pub(super) fn is_html(headers: &HeaderMap) -> bool {
    let html = b"text/html";
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .get(..html.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(html))
    })
}

fn location_host(headers: &HeaderMap) -> Option<String> {
    let location: Uri = headers.get(LOCATION)?.to_str().ok()?.parse().ok()?;
    location.host().map(str::to_owned)
}
