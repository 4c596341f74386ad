//! `sluicegate bench load`, `sluicegate bench sink` and `sluicegate bench compare`.

mod compare;
mod load;
mod progress;
mod sink;

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

pub use compare::CompareArgs;
pub use load::LoadArgs;
pub use sink::SinkArgs;

/// Exit code for arguments that make no sense together (`EX_USAGE`).
const USAGE: u8 = 64;

/// Load generator and counting receiver.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Send like a Prometheus, and say what became of every sample.
    #[command(after_long_help = load::EXAMPLES)]
    Load(LoadArgs),
    /// Receive, count and check; be slow, down or strict on demand.
    #[command(after_long_help = sink::EXAMPLES)]
    Sink(SinkArgs),
    /// Hold what loads were told is written against what sinks have.
    #[command(after_long_help = compare::EXAMPLES)]
    Compare(CompareArgs),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Runs a command until it is done, or SIGINT or SIGTERM ends it.
///
/// The exit code is 0 if nothing went wrong with any sample, else 1; or 64 if the arguments cannot be used together.
///
/// # Errors
/// The address cannot be bound, a ledger cannot be written or read, or
/// stdout is closed.
pub async fn run(args: BenchArgs) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    match args.command {
        BenchCommand::Load(args) => load::run(args).await,
        BenchCommand::Sink(args) => sink::run(args).await,
        BenchCommand::Compare(args) => compare::run(&args),
    }
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

/// Prints a result to stdout.
fn print(output: Output, result: &(impl fmt::Display + Serialize)) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match output {
        Output::Text => writeln!(out, "{result}"),
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(result)?),
    }
}

/// A ledger that will be written at the end of a run. It is made at the beginning, so that a path that cannot
/// be used is known before, and not after an hour.
struct LedgerFile {
    path: PathBuf,
    file: File,
}

impl LedgerFile {
    fn create(path: &Path) -> Result<Self, String> {
        let file = File::create(path).map_err(|error| compare::about(path, &error))?;
        let path = path.to_owned();
        Ok(Self { path, file })
    }

    fn write(self, write: impl FnOnce(BufWriter<File>) -> io::Result<()>) -> Result<(), String> {
        write(BufWriter::new(self.file)).map_err(|error| compare::about(&self.path, &error))
    }
}

/// `name=value`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("not name=value: {text:?}"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
