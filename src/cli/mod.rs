//! The command line: what there is to say, not what it means.
//!
//! Words and ranges are judged by [`crate::config`], together with the file, so that all problems
//! are shown at once; only what cannot be read at all (a number that is none, an unknown flag) ends
//! here, with [`exit::USAGE`].

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::bench::cli::BenchArgs;
use crate::config;
use crate::storage::cli::StorageArgs;
use crate::units::{ByteSize, Span};
use crate::verify::cli::VerifyArgs;

pub mod demo;
pub mod status;

pub mod exit {
    //! What the process ends with. Scripts rely on it.

    /// All is well.
    pub const OK: u8 = 0;
    /// It did not work; for `check`: the file has problems.
    pub const FAILED: u8 = 1;
    /// The command line makes no sense (`EX_USAGE`).
    pub const USAGE: u8 = 64;
    /// A folder of the log cannot be read (`EX_IOERR`).
    pub const UNREADABLE: u8 = 74;
    /// Nobody answers there (`EX_UNAVAILABLE`).
    pub const UNREACHABLE: u8 = 69;
    /// The configuration makes no sense (`EX_CONFIG`).
    pub const CONFIG: u8 = 78;
}

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "sluicegate",
    version,
    about,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads arguments, the program's name first. Help, version and usage errors are printed, and
    /// answered with the code to end with.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        Self::try_parse_from(args).map_err(|error| {
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::OK
            };
            // Without a terminal there is nobody to tell.
            match error.print() {
                Ok(()) | Err(_) => ExitCode::from(code),
            }
        })
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Accept remote write and pass it on.
    Run(Box<RunArgs>),
    /// See it at work: a load, Sluicegate and a receiver that fails, in one process.
    Demo(demo::DemoArgs),
    /// Check a configuration file: exit 0, or 1 with every problem listed.
    Check(CheckArgs),
    /// Show how a running process does: exit 0, or 1 with trouble, or 69 when nobody answers.
    Status(status::StatusArgs),
    /// Load generator and counting receiver, for this and any other remote-write program.
    Bench(Box<BenchArgs>),
    /// What is in a folder of --storage.path: look at it, check it, take it out.
    Storage(Box<StorageArgs>),
    /// Whether a receiver holds what a Prometheus scraped, by query: exit 0, or 1 with every gap named, or 69
    /// when a side does not answer.
    Verify(Box<VerifyArgs>),
}

const RUN_EXAMPLES: &str = "\
Examples:
  sluicegate run --upstream discard:
  sluicegate run --upstream https://receiver.example/api/v1/write
  sluicegate run --upstream eu=https://eu.example/api/v1/push --upstream us=https://us.example/api/v1/push
  sluicegate run --config.file /etc/sluicegate/sluicegate.yaml --listen 0.0.0.0:9201

Every flag has an environment variable: --storage.path is SLUICEGATE_STORAGE_PATH.
Precedence: flag, environment, file, preset, default. docs/config.md describes every key.";

/// Flags of `sluicegate run`. Nothing means: not given, neither as flag nor in the environment.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// Receiver, one queue each: URL, NAME=URL, or `discard:`, which sends nothing and measures what
    /// sending would come to. Names are needed where it is repeated (the environment variable takes
    /// several, with blanks between)
    #[arg(
        long,
        value_name = "[NAME=]URL",
        env = "SLUICEGATE_UPSTREAM",
        hide_env_values = true
    )]
    pub upstream: Vec<String>,

    /// Configuration file (YAML)
    #[arg(
        short = 'c',
        long = "config.file",
        value_name = "FILE",
        env = "SLUICEGATE_CONFIG_FILE"
    )]
    pub config_file: Option<PathBuf>,

    /// What a broken configuration does: exit (with 78), or stay: run with the last good one, which is kept in
    /// --storage.path, or answer senders 503, until it is mended [default: exit]
    #[arg(
        long = "config.on-error",
        value_name = "WHAT",
        env = "SLUICEGATE_CONFIG_ON_ERROR",
        value_enum,
        hide_possible_values = true
    )]
    pub config_on_error: Option<OnError>,

    /// Data listener [default: 127.0.0.1:9201]
    #[arg(long, value_name = "ADDR", env = "SLUICEGATE_LISTEN", value_parser = config::listen_address)]
    pub listen: Option<SocketAddr>,

    /// Admin listener: probes, metrics, status page [default: 127.0.0.1:9202]
    #[arg(
        long = "web.listen-address",
        value_name = "ADDR",
        env = "SLUICEGATE_WEB_LISTEN_ADDRESS",
        value_parser = config::listen_address
    )]
    pub web_listen_address: Option<SocketAddr>,

    /// Directory of the log on disk; without it the log is in memory
    #[arg(
        long = "storage.path",
        value_name = "DIR",
        env = "SLUICEGATE_STORAGE_PATH"
    )]
    pub storage_path: Option<PathBuf>,

    /// Most the log on disk may take [default: 70 % of what is free, at most 10GiB]
    #[arg(
        long = "storage.max-bytes",
        value_name = "SIZE",
        env = "SLUICEGATE_STORAGE_MAX_BYTES"
    )]
    pub storage_max_bytes: Option<ByteSize>,

    /// What a 2xx promises: upstream, memory or fsync [default: fsync with --storage.path, else upstream]
    #[arg(long, value_name = "MODE", env = "SLUICEGATE_ACK")]
    pub ack: Option<String>,

    /// Budget for data in memory [default: 75 % of the cgroup's limit, at most 1GiB]
    #[arg(
        long = "memory.limit",
        value_name = "SIZE",
        env = "SLUICEGATE_MEMORY_LIMIT"
    )]
    pub memory_limit: Option<ByteSize>,

    /// normal, or passthrough: forward each body as it came, byte for byte [default: normal]
    #[arg(long, value_name = "MODE", env = "SLUICEGATE_MODE")]
    pub mode: Option<String>,

    /// Time to deliver what is pending after SIGTERM [default: 30s]
    #[arg(
        long = "shutdown.deadline",
        value_name = "D",
        env = "SLUICEGATE_SHUTDOWN_DEADLINE"
    )]
    pub shutdown_deadline: Option<Span>,

    /// error, warn, info, debug or trace [default: info]
    #[arg(long = "log.level", value_name = "LEVEL", env = "SLUICEGATE_LOG_LEVEL")]
    pub log_level: Option<String>,

    /// logfmt or json [default: logfmt]
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        env = "SLUICEGATE_LOG_FORMAT"
    )]
    pub log_format: Option<String>,

    /// Flags for every queue.
    #[command(flatten)]
    pub queue: QueueArgs,
}

/// What a configuration with problems does to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnError {
    /// It ends it: whoever rolls it out sees it at once.
    Exit,
    /// The process stays, with the last good configuration or in standby: in a pod with Prometheus, nothing of
    /// ours may keep that from being ready.
    Stay,
}

/// Flags that hold for every queue, whether it comes from `--upstream` or from the file.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Every queue")]
pub struct QueueArgs {
    /// Sizes to start from: testing, small, medium, large, xlarge, runai or prometheus
    #[arg(long, value_name = "NAME", env = "SLUICEGATE_PRESET")]
    pub preset: Option<String>,

    /// `as_received`, auto, prometheus.WriteRequest or io.prometheus.write.v2.Request
    /// [default: `as_received`]
    #[arg(long, value_name = "MODE", env = "SLUICEGATE_PROTOBUF_MESSAGE")]
    pub protobuf_message: Option<String>,

    /// snappy, zstd or auto [default: snappy]
    #[arg(long, value_name = "MODE", env = "SLUICEGATE_COMPRESSION")]
    pub compression: Option<String>,

    /// Which series travel together: target or arrival [default: target]
    #[arg(long, value_name = "KEY", env = "SLUICEGATE_GROUPING")]
    pub grouping: Option<String>,

    /// How long samples wait in order to merge [default: 0s]
    #[arg(long, value_name = "D", env = "SLUICEGATE_MERGE_WINDOW")]
    pub merge_window: Option<Span>,

    /// Samples held per shard [default: 10000]
    #[arg(long, value_name = "N", env = "SLUICEGATE_CAPACITY")]
    pub capacity: Option<u64>,

    /// Samples in one request [default: 2000]
    #[arg(long, value_name = "N", env = "SLUICEGATE_MAX_SAMPLES_PER_SEND")]
    pub max_samples_per_send: Option<u64>,

    /// Requests in flight that are always permitted [default: 1]
    #[arg(long, value_name = "N", env = "SLUICEGATE_MIN_SHARDS")]
    pub min_shards: Option<u64>,

    /// Requests in flight at most [default: 50]
    #[arg(long, value_name = "N", env = "SLUICEGATE_MAX_SHARDS")]
    pub max_shards: Option<u64>,

    /// Age at which a batch goes out though it is not full [default: 5s]
    #[arg(long, value_name = "D", env = "SLUICEGATE_BATCH_SEND_DEADLINE")]
    pub batch_send_deadline: Option<Span>,

    /// First pause after a failure [default: 30ms]
    #[arg(long, value_name = "D", env = "SLUICEGATE_MIN_BACKOFF")]
    pub min_backoff: Option<Span>,

    /// Longest pause between attempts [default: 5s]
    #[arg(long, value_name = "D", env = "SLUICEGATE_MAX_BACKOFF")]
    pub max_backoff: Option<Span>,

    /// Time for one attempt [default: 30s]
    #[arg(long, value_name = "D", env = "SLUICEGATE_REMOTE_TIMEOUT")]
    pub remote_timeout: Option<Span>,
}

/// Arguments of `sluicegate check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Configuration file (YAML)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

impl CheckArgs {
    /// Prints every problem and warning, one a line, and what `starts` says of a configuration without problems.
    /// The answer is [`exit::OK`] or [`exit::FAILED`]; the error is one of printing.
    pub fn run(
        &self,
        out: &mut dyn io::Write,
        starts: impl FnOnce(&config::Config) -> Result<(), String>,
    ) -> io::Result<u8> {
        let args = RunArgs {
            config_file: Some(self.file.clone()),
            ..RunArgs::default()
        };
        match config::load(&args) {
            Ok(loaded) => {
                if let Err(why) = starts(&loaded.config) {
                    writeln!(out, "{}: {why}", self.file.display())?;
                    return Ok(exit::FAILED);
                }
                for warning in &loaded.warnings {
                    writeln!(out, "warning: {warning}")?;
                }
                writeln!(
                    out,
                    "{}: ok, {} queue(s)",
                    self.file.display(),
                    loaded.config.queues.len()
                )?;
                Ok(exit::OK)
            }
            Err(errors) => {
                writeln!(out, "{errors}")?;
                Ok(exit::FAILED)
            }
        }
    }
}

/// Prints a line; a closed pipe is no reason to stop.
pub fn say(to: &mut dyn io::Write, line: &str) {
    if writeln!(to, "{}", line.trim_end())
        .and_then(|()| to.flush())
        .is_err()
    {
        tracing::debug!("nobody reads what is printed");
    }
}

#[cfg(test)]
mod tests;
