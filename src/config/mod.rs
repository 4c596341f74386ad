//! What the operator wrote, made into values that cannot hold nonsense.
//!
//! Flags and file become a raw form that mirrors them, key by key; that becomes [`Config`], which
//! is complete, in range and consistent. Every problem on the way is collected, none ends the
//! search early. Precedence: flag, environment, file, preset, default.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

mod checks;
mod choice;
pub mod docs;
mod endpoint;
mod keys;
pub mod last_good;
mod memory;
mod merge;
mod passthrough;
mod preset;
mod problem;
mod raw;
mod section;
mod tree;
mod types;
mod validate;
mod validate_endpoint;
mod validate_queue;

pub use choice::{
    AckMode, Choice, Compression, Grouping, LogFormat, LogLevel, Mode, OnFull, ProtobufMessage,
    ReceiverProfile,
};
pub use endpoint::{Auth, EndpointConfig, HttpEndpoint, Password, Secret, TlsConfig};
pub use problem::{ConfigErrors, Problem};
pub use types::{
    Config, IngestConfig, LogConfig, MetadataConfig, QueueConfig, QueueLimits, SpreadRule,
    StorageConfig,
};

use crate::cli::RunArgs;
use checks::Judge;
use problem::{Problems, Source};
use raw::RawConfig;
use section::FromNode;

/// A configuration that works, and what is unwise about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What to run.
    pub config: Config,
    /// One sentence each, to be logged at start.
    pub warnings: Vec<String>,
    /// The file as it was read, if there is one. It may hold passwords.
    pub file: Option<Secret>,
}

/// What is left of a configuration that does not work: enough to listen, and to tell what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Standby {
    /// No queues and no log on disk; what is broken is as by default.
    pub config: Config,
    /// The folder of the log on disk, if it is known: the last good configuration may be there.
    pub folder: Option<PathBuf>,
}

/// Reads the file that the flags name, puts the flags over it, and judges the result.
///
/// Looks at the file (at most 1 MiB), at this process' memory limit, and whether the files with
/// secrets are there; reads none of those. The error holds every problem that was found.
pub fn load(args: &RunArgs) -> Result<Loaded, ConfigErrors> {
    load_on(args, memory::available(Path::new("/")))
}

/// [`load`] on a machine with this much memory.
fn load_on(args: &RunArgs, available: Option<u64>) -> Result<Loaded, ConfigErrors> {
    judged(args, text_of(args), available).0
}

/// [`load`], as if the file that the flags name said this.
pub fn load_text(args: &RunArgs, text: String) -> Result<Loaded, ConfigErrors> {
    let available = memory::available(Path::new("/"));
    judged(args, Ok(Some(text)), available).0
}

/// What can be done with a configuration in which [`load`] finds problems.
pub fn standby(args: &RunArgs) -> Standby {
    let available = memory::available(Path::new("/"));
    let (_, mut config) = judged(args, text_of(args), available);
    let folder = config.storage.take().map(|storage| storage.path);
    Standby {
        config: Config {
            ack: AckMode::Upstream,
            mode: Mode::Normal,
            queues: Vec::new(),
            ..config
        },
        folder,
    }
}

/// Judges the text of the file, or why it cannot be read, together with the flags. The second is the
/// configuration even where it has problems: what is broken is as by default.
fn judged(
    args: &RunArgs,
    text: Result<Option<String>, String>,
    available: Option<u64>,
) -> (Result<Loaded, ConfigErrors>, Config) {
    let file = args.config_file.as_deref();
    let mut problems = Problems::new(file.map(|file| file.display().to_string()));
    let read = match &text {
        Ok(None) => Some(RawConfig::default()),
        Ok(Some(text)) => parse(text, &mut problems),
        Err(reason) => {
            problems.note(&Source::default(), reason);
            None
        }
    };
    // What the rest means without the file, nobody can say: then this is all that is told.
    let unreadable = read.is_none().then(|| problems.clone().into_errors());
    let mut raw = read.unwrap_or_default();
    merge::apply_flags(args, &mut raw, &mut problems);
    let mut judge = Judge {
        problems,
        warnings: Vec::new(),
        directory: file.map(checks::directory_of).unwrap_or_default(),
    };
    let config = validate::config(&raw, available, &mut judge);
    let loaded = match unreadable {
        Some(errors) => Err(errors),
        None if judge.problems.is_empty() => Ok(Loaded {
            config: config.clone(),
            warnings: judge.warnings,
            file: text.ok().flatten().map(Secret::new),
        }),
        None => Err(judge.problems.into_errors()),
    };
    (loaded, config)
}

/// The text in raw form, or nothing when it cannot be read at all.
fn parse(text: &str, problems: &mut Problems) -> Option<RawConfig> {
    let top = Source::default();
    match tree::parse(text) {
        Ok(node) => RawConfig::from_node(&node, &top, problems),
        Err((line, reason)) => {
            problems.note(&Source { line, ..top }, reason);
            None
        }
    }
}

/// What the file says, if the flags name one.
fn text_of(args: &RunArgs) -> Result<Option<String>, String> {
    args.config_file.as_deref().map(read_text).transpose()
}

fn read_text(file: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    let limit = tree::MAX_BYTES as u64 + 1;
    File::open(file)
        .map_err(cannot)?
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() > tree::MAX_BYTES {
        return Err(format!("is larger than {} bytes", tree::MAX_BYTES));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

/// An address to listen at, as flags and file have it: IP address and port.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    section::address(text)
}

#[cfg(test)]
mod tests;
