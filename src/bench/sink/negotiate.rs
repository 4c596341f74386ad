//! What a request's headers say about its body.

use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};

use super::decode::Encoding;
use crate::bench::Protocol;
use crate::bench::load::VERSION_HEADER;

/// Version and compression by the headers, or why not.
///
/// As strict as Prometheus: no content type means 1.0, and so does a `proto` after a space.
/// Source: `client_golang/exp/api/remote`, `remote_api.go`.
pub(super) fn negotiate(headers: &HeaderMap, zstd: bool) -> Result<(Protocol, Encoding), String> {
    let text = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap_or("?"))
    };
    let content_type = text(CONTENT_TYPE).unwrap_or("application/x-protobuf");
    let mut parts = content_type.split(';');
    if parts.next().map(str::trim) != Some("application/x-protobuf") {
        return Err(format!("content type {content_type:?}"));
    }
    let mut protocol = Protocol::V1;
    for parameter in parts {
        protocol = match parameter.strip_prefix("proto=") {
            Some("io.prometheus.write.v2.Request") => Protocol::V2,
            Some("prometheus.WriteRequest") => Protocol::V1,
            Some(_) => return Err(format!("content type {content_type:?}")),
            None => protocol,
        };
    }
    match text(CONTENT_ENCODING) {
        None | Some("snappy") => Ok((protocol, Encoding::Snappy)),
        Some("zstd") if zstd && protocol == Protocol::V1 => Ok((protocol, Encoding::Zstd)),
        Some(other) => Err(format!("content encoding {other:?}")),
    }
}

/// Headers that a sender must send; 1.0 and 2.0 spec, Protocol.
pub(super) fn header_violations(headers: &HeaderMap, protocol: Protocol) -> Vec<&'static str> {
    let mut rules = Vec::new();
    if !headers.contains_key(USER_AGENT) {
        rules.push("no_user_agent");
    }
    let version = headers.get(VERSION_HEADER).map(HeaderValue::as_bytes);
    let right = match protocol {
        Protocol::V1 => version.is_some_and(|version| version.starts_with(b"0.1.")),
        Protocol::V2 => version.is_some_and(|version| version.starts_with(b"2.0.")),
    };
    // VictoriaMetrics' own encoding comes with a version header of its own.
    if !right
        && headers
            .get(CONTENT_ENCODING)
            .is_none_or(|encoding| encoding != "zstd")
    {
        rules.push("version_header");
    }
    rules
}
