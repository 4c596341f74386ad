//! Why a request's bytes were refused. Every one of these is the sender's fault and never worth a retry.

use std::fmt;

/// Bytes gone wrong, or over a limit: the request is refused whole.
///
/// Each variant has a [`reason`](Self::reason), the value of the `reason` label in the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The body is not a valid snappy block, or not of its declared length.
    Snappy(&'static str),
    /// The framed snappy format; remote write uses the block format.
    SnappyFramed,
    /// The declared length is more than these bytes can ever decode to.
    SnappyRatio {
        /// Length that the block declares.
        declared: u64,
        /// Bytes received.
        received: usize,
    },
    /// The message is larger than `server.max_request_size` once decoded, or its labels once written
    /// out.
    DecodedSize {
        /// Decoded length, or the part of it that was seen.
        declared: u64,
        /// The limit in force.
        limit: u64,
    },
    /// The body is not a valid zstd frame.
    Zstd(String),
    /// The message is not valid protobuf.
    Protobuf(&'static str),
    /// Groups nested too deep.
    ProtobufDepth,
    /// More series than `server.max_series_per_request`.
    SeriesCount(usize),
    /// More samples, histograms and exemplars together than `server.max_elements_per_request`.
    ElementCount(usize),
    /// More labels in one series than `server.max_labels_per_series`.
    LabelCount(usize),
    /// A label longer than `server.max_label_bytes`.
    LabelBytes(usize),
    /// The 2.0 symbol table, or a reference into it, is broken.
    Symbols(&'static str),
    /// A 2.0 body that came with the content type of 1.0, or the reverse: read so, it would be empty.
    ProtocolMismatch,
}

impl DecodeError {
    /// The value of the `reason` label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Snappy(_) => "snappy",
            Self::SnappyFramed => "snappy_framed",
            Self::SnappyRatio { .. } => "snappy_ratio",
            Self::DecodedSize { .. } => "decoded_size",
            Self::Zstd(_) => "zstd",
            Self::Protobuf(_) => "proto",
            Self::ProtobufDepth => "proto_depth",
            Self::SeriesCount(_) => "series_count",
            Self::ElementCount(_) => "count",
            Self::LabelCount(_) | Self::LabelBytes(_) => "label_limit",
            Self::Symbols(_) => "symbols",
            Self::ProtocolMismatch => "proto_mismatch",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snappy(what) => write!(f, "invalid snappy block: {what}"),
            Self::SnappyFramed => {
                write!(
                    f,
                    "snappy framed format; remote write uses the snappy block format"
                )
            }
            Self::SnappyRatio { declared, received } => write!(
                f,
                "snappy block of {received} bytes declares {declared}, more than the format can hold"
            ),
            Self::DecodedSize { declared, limit } => write!(
                f,
                "decoded request of {declared} bytes is over the limit of {limit} \
                 (server.max_request_size)"
            ),
            Self::Zstd(what) => write!(f, "invalid zstd frame: {what}"),
            Self::Protobuf(what) => write!(f, "invalid protobuf: {what}"),
            Self::ProtobufDepth => write!(f, "invalid protobuf: groups nested too deep"),
            Self::SeriesCount(limit) => {
                write!(
                    f,
                    "more than {limit} series (server.max_series_per_request)"
                )
            }
            Self::ElementCount(limit) => write!(
                f,
                "more than {limit} samples, histograms and exemplars \
                 (server.max_elements_per_request)"
            ),
            Self::LabelCount(limit) => {
                write!(
                    f,
                    "a series with more than {limit} labels (server.max_labels_per_series)"
                )
            }
            Self::LabelBytes(limit) => {
                write!(
                    f,
                    "labels of more than {limit} bytes (server.max_label_bytes)"
                )
            }
            Self::Symbols(what) => write!(f, "invalid symbols: {what}"),
            Self::ProtocolMismatch => write!(
                f,
                "a message of the other remote-write version than its content type says; 1.0 is \
                 application/x-protobuf, 2.0 \
                 application/x-protobuf;proto=io.prometheus.write.v2.Request"
            ),
        }
    }
}

impl std::error::Error for DecodeError {}
