//! From what happened to a request to what its sender is told. The only place that knows status codes.
//!
//! A stock Prometheus throws away what is answered with any 4xx, 429 included, and tries again on 5xx and
//! broken connections. So a 4xx from us means "these bytes can never be valid"; everything else is 503.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use crate::log::LogError;
use crate::model::counts::Counts;
use crate::wire::decoded::Protocol;
use crate::wire::error::DecodeError;
use crate::wire::negotiate::Unsupported;

/// The `reason` of requests whose end is not clear.
pub(super) const FRAMING: &str = "framing";
/// What a connection gets for which there is no place.
pub(super) const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: text/plain; charset=utf-8\r\nretry-after: 1\r\nconnection: close\r\n\
    content-length: 54\r\n\r\nno place for this connection (server.max_connections)\n";

/// Whoever mends a configuration takes longer than a retry.
const STANDBY_PAUSE: Duration = Duration::from_secs(5);

/// How a request ended that was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Everything was admitted, and is what the acknowledgement says it is.
    Accepted(Counts),
    /// Admitted as far as counted; the rest was refused, by us or by a receiver.
    Partly {
        /// What is accepted.
        written: Counts,
        /// Why the rest is not.
        message: String,
        /// Label value.
        reason: &'static str,
    },
    /// Nothing was admitted.
    Refused(Refusal),
}

/// Why nothing was admitted.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Not a path of ours.
    NotFound,
    /// Not a POST.
    Method,
    /// A content type or encoding that is not accepted.
    Unsupported(Unsupported),
    /// The body is larger than the limit.
    BodySize(u64),
    /// The bytes are wrong or over a limit.
    Decode(DecodeError),
    /// The end of the request can be read in more than one way, or not at all.
    Framing(&'static str),
    /// The body could not be worked on.
    Body(&'static str),
    /// The log is full.
    LogFull(Duration),
    /// The disk does not take it.
    Unwritable(Duration),
    /// No memory for the body within the time.
    Memory,
    /// A required receiver does not take this kind of message, and says so: 415.
    NotSupported(String),
    /// No required receiver settled it in time.
    NotSettled(Duration),
    /// The process stops.
    Stopping,
    /// There is no configuration that works.
    Standby,
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full { retry_after } => Self::LogFull(retry_after),
            LogError::Unwritable { retry_after } => Self::Unwritable(retry_after),
        }
    }
}

impl Outcome {
    /// Status code.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Accepted(_) => StatusCode::NO_CONTENT,
            Self::Partly { .. } => StatusCode::BAD_REQUEST,
            Self::Refused(refusal) => match refusal {
                Refusal::NotFound => StatusCode::NOT_FOUND,
                Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
                Refusal::Unsupported(_) | Refusal::NotSupported(_) => {
                    StatusCode::UNSUPPORTED_MEDIA_TYPE
                }
                Refusal::BodySize(_) | Refusal::Decode(DecodeError::DecodedSize { .. }) => {
                    StatusCode::PAYLOAD_TOO_LARGE
                }
                Refusal::Decode(_) | Refusal::Framing(_) => StatusCode::BAD_REQUEST,
                Refusal::Body(_)
                | Refusal::LogFull(_)
                | Refusal::Unwritable(_)
                | Refusal::Memory
                | Refusal::NotSettled(_)
                | Refusal::Stopping
                | Refusal::Standby => StatusCode::SERVICE_UNAVAILABLE,
            },
        }
    }

    /// Value of the `reason` label; empty for a success.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "",
            Self::Partly { reason, .. } => reason,
            Self::Refused(refusal) => match refusal {
                Refusal::NotFound => "path",
                Refusal::Method => "method",
                Refusal::Unsupported(unsupported) => unsupported.reason(),
                Refusal::BodySize(_) => "body_size",
                Refusal::Decode(error) => error.reason(),
                Refusal::Framing(_) => FRAMING,
                Refusal::Body(_) => "body",
                Refusal::LogFull(_) => "queue_full",
                Refusal::Unwritable(_) => "storage",
                Refusal::Memory => "memory",
                Refusal::NotSupported(_) => "unsupported_by_receiver",
                Refusal::NotSettled(_) => "not_settled",
                Refusal::Stopping => "stopping",
                Refusal::Standby => "configuration",
            },
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Accepted(_) => String::new(),
            Self::Partly { message, .. } => message.clone(),
            Self::Refused(refusal) => match refusal {
                Refusal::NotFound => "not a remote-write path".to_owned(),
                Refusal::Method => "remote write is sent by POST".to_owned(),
                Refusal::Unsupported(Unsupported::ContentType) => {
                    "content type must be application/x-protobuf, its proto prometheus.WriteRequest \
                     or io.prometheus.write.v2.Request"
                        .to_owned()
                }
                Refusal::Unsupported(Unsupported::ContentEncoding) => {
                    "content encoding must be snappy (block format)".to_owned()
                }
                Refusal::BodySize(limit) => {
                    format!("body over the limit of {limit} bytes (server.max_request_size)")
                }
                Refusal::Decode(error) => error.to_string(),
                Refusal::Framing(what) => {
                    format!("where the request ends is not clear: {what}")
                }
                Refusal::Body(what) => format!("the body could not be read: {what}"),
                Refusal::LogFull(_) => "the log is full; send it again later".to_owned(),
                Refusal::Unwritable(_) => {
                    "the log cannot be written now; send it again later".to_owned()
                }
                Refusal::Memory => {
                    "no memory for this body now; send it again later (memory.limit)".to_owned()
                }
                Refusal::NotSupported(why) => why.clone(),
                Refusal::NotSettled(_) => {
                    "no receiver has settled this in time; send it again".to_owned()
                }
                Refusal::Stopping => "stopping; send it again".to_owned(),
                Refusal::Standby => {
                    "no configuration that works (see the log); send it again later".to_owned()
                }
            },
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(
                Refusal::LogFull(after) | Refusal::Unwritable(after) | Refusal::NotSettled(after),
            ) => Some(*after),
            Self::Refused(Refusal::Memory | Refusal::Stopping) => Some(Duration::from_secs(1)),
            Self::Refused(Refusal::Standby) => Some(STANDBY_PAUSE),
            _ => None,
        }
    }

    /// Refused for what stands in the head; nothing of the body was looked at.
    pub(super) fn is_about_headers(&self) -> bool {
        matches!(
            self,
            Self::Refused(Refusal::NotFound | Refusal::Method | Refusal::Unsupported(_))
        )
    }

    /// The connection cannot be used further: the body was not read, or we are stopping.
    fn closes(&self) -> bool {
        matches!(
            self,
            Self::Refused(
                Refusal::NotFound
                    | Refusal::Method
                    | Refusal::BodySize(_)
                    | Refusal::Framing(_)
                    | Refusal::Body(_)
                    | Refusal::LogFull(_)
                    | Refusal::Unwritable(_)
                    | Refusal::Memory
                    | Refusal::Unsupported(_)
                    | Refusal::Stopping
                    | Refusal::Standby
            )
        )
    }

    fn written(&self) -> Counts {
        match self {
            Self::Accepted(written) | Self::Partly { written, .. } => *written,
            Self::Refused(_) => Counts::default(),
        }
    }
}

/// What the HTTP parser has answered by itself: status code and reason. `None` when it only closed.
pub(super) fn of_parser(error: &hyper::Error) -> Option<(StatusCode, &'static str)> {
    if error.is_parse_too_large() {
        // The only one of ours that no sender of samples can be told: its headers have no end.
        return Some((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers"));
    }
    let answered = error.is_parse() && !error.is_parse_version_h2();
    answered.then_some((StatusCode::BAD_REQUEST, FRAMING))
}

/// The answer. The Written headers stand in every answer to 2.0, and never in one to 1.0: Prometheus
/// believes them there and would count a success as a failure.
pub fn answer(outcome: &Outcome, protocol: Option<Protocol>) -> Response<Full<Bytes>> {
    let mut message = outcome.message();
    if !message.is_empty() {
        message.push('\n');
    }
    let mut response = Response::new(Full::new(Bytes::from(message)));
    *response.status_mut() = outcome.status();
    let headers = response.headers_mut();
    if outcome.status() != StatusCode::NO_CONTENT {
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
    }
    if protocol == Some(Protocol::V2) {
        let written = outcome.written();
        for (name, count) in [
            ("x-prometheus-remote-write-samples-written", written.samples),
            (
                "x-prometheus-remote-write-histograms-written",
                written.histograms,
            ),
            (
                "x-prometheus-remote-write-exemplars-written",
                written.exemplars,
            ),
        ] {
            headers.insert(name, HeaderValue::from(count));
        }
    }
    if let Some(after) = outcome.retry_after() {
        // Whole seconds, rounded up: too early is another refusal.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    match outcome {
        Outcome::Refused(Refusal::Method) => {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        Outcome::Refused(Refusal::Unsupported(Unsupported::ContentEncoding)) => {
            headers.insert("accept-encoding", HeaderValue::from_static("snappy"));
        }
        _ => {}
    }
    if outcome.closes() {
        close(&mut response);
    }
    response
}

/// Nothing more is read on this connection.
pub(super) fn close(response: &mut Response<Full<Bytes>>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Counts = Counts {
        samples: 3,
        histograms: 1,
        exemplars: 0,
    };

    #[test]
    fn written_headers_stand_in_every_answer_to_2_0_and_in_none_to_1_0() {
        let refused = Outcome::Refused(Refusal::LogFull(Duration::from_millis(1200)));
        for (outcome, samples) in [(Outcome::Accepted(SOME), "3"), (refused, "0")] {
            let v2 = answer(&outcome, Some(Protocol::V2));
            assert_eq!(
                v2.headers()["x-prometheus-remote-write-samples-written"],
                samples
            );
            let v1 = answer(&outcome, Some(Protocol::V1));
            assert!(
                !v1.headers()
                    .contains_key("x-prometheus-remote-write-samples-written")
            );
        }
    }

    #[test]
    fn pressure_is_503_with_a_whole_number_of_seconds_and_never_a_4xx() {
        for refusal in [
            Refusal::LogFull(Duration::from_millis(1200)),
            Refusal::NotSettled(Duration::from_secs(2)),
            Refusal::Memory,
            Refusal::Stopping,
            Refusal::Body("decoding was cut short"),
        ] {
            let response = answer(&Outcome::Refused(refusal.clone()), Some(Protocol::V1));
            assert_eq!(response.status(), 503, "{refusal:?}");
        }
        let full = Outcome::Refused(Refusal::LogFull(Duration::from_millis(1200)));
        assert_eq!(answer(&full, None).headers()[RETRY_AFTER], "2");
    }
}
