//! What went wrong when no complete response headers came back.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io;
use std::iter;

/// Where an attempt without a response broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The name could not be resolved. Transient, even for a name that does not exist: records
    /// come and go with deployments.
    Dns,
    /// No connection: refused, unreachable, not established within `connect_timeout`, denied
    /// by the proxy, or to an address that is not allowed.
    Connect,
    /// TLS was not agreed: the certificate or the protocol. A person is probably needed.
    Tls,
    /// The attempt's own deadline passed.
    Timeout,
    /// The connection ended before the response headers were complete.
    Closed,
    /// What came was not HTTP/1.1, or the request could not be made (an unreadable secret).
    Other,
}

/// An attempt without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where it broke.
    pub kind: FailureKind,
    /// The receiver may have seen the whole request, and stored it. Never false when it did;
    /// may be true although the end of a request was lost on its way.
    pub sent: bool,
    /// For logs and the status page: no credentials, no control characters.
    pub message: String,
}

impl Failure {
    /// A failure before anything of the request went out.
    pub(super) fn unsent(kind: FailureKind, message: impl AsRef<str>) -> Self {
        Self {
            kind,
            sent: false,
            message: escape(message.as_ref()),
        }
    }

    /// The kind and words for an error of the HTTP client. `sent` is the caller's to fill in.
    pub(super) fn explain(error: &(dyn Error + 'static), peer: &str) -> Self {
        if let Some(known) = causes(error).find_map(|cause| cause.downcast_ref::<Self>()) {
            return known.clone();
        }
        let kind = causes(error)
            .find_map(kind_of)
            .unwrap_or(FailureKind::Other);
        Self::unsent(kind, format!("{peer}: {}", describe(error)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

fn kind_of(cause: &(dyn Error + 'static)) -> Option<FailureKind> {
    if cause.is::<rustls::Error>() {
        return Some(FailureKind::Tls);
    }
    if let Some(http) = cause.downcast_ref::<hyper::Error>() {
        if http.is_parse() {
            return Some(FailureKind::Other);
        }
        if http.is_incomplete_message() || http.is_closed() || http.is_canceled() {
            return Some(FailureKind::Closed);
        }
    }
    match cause.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::TimedOut => Some(FailureKind::Timeout),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::UnexpectedEof => Some(FailureKind::Closed),
        _ => None,
    }
}

/// The error and everything it stands on, outermost first.
///
/// `io::Error::source` skips the error it carries, which is where rustls' own errors are; so a
/// carried error is visited by hand.
pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |cause: &&'a (dyn Error + 'static)| {
        let cause: &'a (dyn Error + 'static) = *cause;
        match cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(carried) => Some(carried as &(dyn Error + 'static)),
            None => cause.source(),
        }
    })
}

/// The whole chain in one line, without the repetitions that wrapping brings.
pub(super) fn describe(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in causes(error).map(ToString::to_string) {
        if !parts.iter().any(|known| known.contains(&part)) {
            parts.push(part);
        }
    }
    parts.join(": ")
}

/// Makes foreign text safe for a log line or a terminal.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            write!(out, "{}", c.escape_default()).expect("writing to a String cannot fail");
        } else {
            out.push(c);
        }
    }
    out
}
