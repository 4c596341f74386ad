//! What the operator wrote, made into values that cannot hold nonsense.
//!
//! Flags and file become a raw form that mirrors them, key by key; that becomes [`Config`], which
//! is complete, in range and consistent. Every problem on the way is collected, none ends the
//! search early. Precedence: flag, environment, file, preset, default.

mod choice;
mod endpoint;
mod problem;
mod types;

pub use choice::{
    AckMode, Choice, Compression, Grouping, LogFormat, LogLevel, ProtobufMessage, ReceiverProfile,
};
pub use endpoint::{Auth, EndpointConfig, HttpEndpoint, Password, Secret, TlsConfig};
pub use problem::{ConfigErrors, Problem};
pub use types::{
    Config, IngestConfig, LogConfig, MetadataConfig, QueueConfig, QueueLimits, SpreadRule,
};

/// A configuration that works, and what is unwise about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What to run.
    pub config: Config,
    /// One sentence each, to be logged at start.
    pub warnings: Vec<String>,
}
