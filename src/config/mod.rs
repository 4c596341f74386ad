//! What the operator wrote, made into values that cannot hold nonsense.
//!
//! Flags and file become a raw form that mirrors them, key by key; that becomes [`Config`], which
//! is complete, in range and consistent. Every problem on the way is collected, none ends the
//! search early. Precedence: flag, environment, file, preset, default.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

mod checks;
mod choice;
pub mod docs;
mod endpoint;
mod keys;
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
    let file = args.config_file.as_deref();
    let mut problems = Problems::new(file.map(|file| file.display().to_string()));
    let mut raw = RawConfig::default();
    if let Some(file) = file {
        match read(file, &mut problems) {
            Some(read) => raw = read,
            // What the rest means without the file, nobody can say.
            None => return Err(problems.into_errors()),
        }
    }
    merge::apply_flags(args, &mut raw, &mut problems);
    let directory = file.map(checks::directory_of).unwrap_or_default();
    let mut judge = Judge {
        problems,
        warnings: Vec::new(),
        directory,
    };
    let config = validate::config(&raw, available, &mut judge);
    if judge.problems.is_empty() {
        Ok(Loaded {
            config,
            warnings: judge.warnings,
        })
    } else {
        Err(judge.problems.into_errors())
    }
}

/// The file in raw form, or nothing when it cannot be read at all.
fn read(file: &Path, problems: &mut Problems) -> Option<RawConfig> {
    let top = Source::default();
    let text = read_text(file)
        .map_err(|reason| problems.note(&top, reason))
        .ok()?;
    match tree::parse(&text) {
        Ok(node) => RawConfig::from_node(&node, &top, problems),
        Err((line, reason)) => {
            problems.note(&Source { line, ..top }, reason);
            None
        }
    }
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
