//! The load generator and the counting receiver: the oracle of tests, demo and measurements.
//!
//! Both work against any remote-write program, and share no codec with the proxy: what they send
//! and read goes through the generated protobuf types (or through code here that tests hold against
//! those types) and plain snappy. A sample's value is a function of its labels and timestamp, so a
//! receiver checks every bit without asking the generator.
//!
//! ```text
//! data (what is scraped) -> load (a sender like Prometheus) -> … -> sink (counts, checks, misbehaves)
//!                             `-- ledger --------> compare <-------- ledger --'
//! ```

pub mod cli;
pub mod compare;
pub mod data;
pub mod encode;
mod ledger;
pub mod load;
pub mod sink;

/// Which of the two remote-write messages is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Protocol {
    /// `prometheus.WriteRequest`.
    #[default]
    #[serde(rename = "1.0")]
    V1,
    /// `io.prometheus.write.v2.Request`.
    #[serde(rename = "2.0")]
    V2,
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "1.0" => Ok(Self::V1),
            "2.0" => Ok(Self::V2),
            _ => Err(format!("not a protocol version: {text:?} (1.0 or 2.0)")),
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V1 => "1.0",
            Self::V2 => "2.0",
        })
    }
}
