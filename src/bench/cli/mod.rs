//! `sluicegate bench load` and `sluicegate bench sink`.

mod load;
mod sink;

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

pub use load::LoadArgs;
pub use sink::SinkArgs;

/// Load generator and counting receiver.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Send like a Prometheus, and say what became of every sample.
    Load(LoadArgs),
    /// Receive, count and check; be slow, down or strict on demand.
    Sink(SinkArgs),
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
/// The exit code is 0 if nothing went wrong with any sample, else 1.
///
/// # Errors
/// The arguments cannot be used together, the address cannot be bound, or stdout is closed.
pub async fn run(args: BenchArgs) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    match args.command {
        BenchCommand::Load(args) => load::run(args).await,
        BenchCommand::Sink(args) => sink::run(args).await,
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

/// Prints a line a second on stderr while it is a terminal; never ends.
async fn show_progress(mut line: impl FnMut() -> String) {
    if !io::stderr().is_terminal() {
        std::future::pending::<()>().await;
    }
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        // A line that cannot be shown is no reason to stop.
        writeln!(io::stderr(), "{}", line()).ok();
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
