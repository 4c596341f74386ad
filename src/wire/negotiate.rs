//! Which message a request holds and how it is compressed, by its headers.
//!
//! Read leniently (media types and codings are case-insensitive, white space and quotes are allowed),
//! written strictly: Prometheus reads `; proto=` with a space as 1.0, so we never send one.

use super::compression::Encoding;
use super::decoded::Protocol;

/// Content type of 1.0.
pub const CONTENT_TYPE_V1: &str = "application/x-protobuf";
/// Content type of 2.0.
pub const CONTENT_TYPE_V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// Answered with 415.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// A content type or `proto=` that is not remote write.
    ContentType,
    /// A content encoding that is not accepted here.
    ContentEncoding,
}

impl Unsupported {
    /// The value of the `reason` label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ContentType => "type",
            Self::ContentEncoding => "encoding",
        }
    }
}

/// Reads the two headers that decide how a body is read. An absent one means what Prometheus' own
/// receiver takes it for: 1.0, snappy.
pub fn negotiate(
    content_type: Option<&str>,
    content_encoding: Option<&str>,
    accept_zstd: bool,
) -> Result<(Protocol, Encoding), Unsupported> {
    let protocol = content_type.map_or(Ok(Protocol::V1), protocol_of)?;
    let coding = content_encoding.map_or("", str::trim);
    let encoding = if coding.is_empty() || coding.eq_ignore_ascii_case("snappy") {
        Encoding::Snappy
    } else if accept_zstd && protocol == Protocol::V1 && coding.eq_ignore_ascii_case("zstd") {
        Encoding::Zstd
    } else {
        return Err(Unsupported::ContentEncoding);
    };
    Ok((protocol, encoding))
}

fn protocol_of(content_type: &str) -> Result<Protocol, Unsupported> {
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    if !media_type.eq_ignore_ascii_case(CONTENT_TYPE_V1) {
        return Err(Unsupported::ContentType);
    }
    for part in parts.filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or(Unsupported::ContentType)?;
        if !name.trim().eq_ignore_ascii_case("proto") {
            continue;
        }
        return match value.trim().trim_matches('"') {
            "prometheus.WriteRequest" => Ok(Protocol::V1),
            "io.prometheus.write.v2.Request" => Ok(Protocol::V2),
            _ => Err(Unsupported::ContentType),
        };
    }
    Ok(Protocol::V1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_read_leniently_and_unknown_messages_refused() {
        let v1 = Ok((Protocol::V1, Encoding::Snappy));
        let v2 = Ok((Protocol::V2, Encoding::Snappy));
        let refused = Err(Unsupported::ContentType);
        for (content_type, expected) in [
            (None, v1),
            (Some("application/x-protobuf"), v1),
            (Some("Application/X-Protobuf"), v1),
            (Some("application/x-protobuf;charset=utf-8"), v1),
            (
                Some("application/x-protobuf;proto=prometheus.WriteRequest"),
                v1,
            ),
            (Some(CONTENT_TYPE_V2), v2),
            (
                Some("application/x-protobuf ; proto=\"io.prometheus.write.v2.Request\""),
                v2,
            ),
            (
                Some("application/x-protobuf;proto=io.prometheus.write.v3.Request"),
                refused,
            ),
            (Some("application/x-protobuf;proto"), refused),
            (Some("application/json"), refused),
            (Some(""), refused),
        ] {
            assert_eq!(
                negotiate(content_type, Some("snappy"), false),
                expected,
                "{content_type:?}"
            );
        }
    }

    #[test]
    fn encodings_other_than_snappy_are_refused_but_zstd_of_1_0_where_enabled() {
        let refused = Err(Unsupported::ContentEncoding);
        let snappy = Ok((Protocol::V1, Encoding::Snappy));
        let zstd = Ok((Protocol::V1, Encoding::Zstd));
        for (coding, enabled, expected) in [
            (None, false, snappy),
            (Some("SNAPPY"), false, snappy),
            (Some("zstd"), true, zstd),
            (Some("zstd"), false, refused),
            (Some("gzip"), true, refused),
            (Some("identity"), true, refused),
            (Some("snappy, gzip"), true, refused),
        ] {
            assert_eq!(negotiate(None, coding, enabled), expected, "{coding:?}");
        }
        assert_eq!(
            negotiate(Some(CONTENT_TYPE_V2), Some("zstd"), true),
            refused
        );
    }
}
