//! `sluicegate storage ls | inspect | verify | export`.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::export::{Choice, Exported, Files, Target, export};
use super::inspect::Wish;
use super::list::Listing;
use super::pages::Inspection;
use super::post::{PostOptions, Receiver};
use super::range::Range;
use super::verify::verify;
use super::{Folder, show};
use crate::clock::Instant;
use crate::log::Seq;

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  sluicegate storage ls /var/lib/sluicegate
  sluicegate storage inspect /var/lib/sluicegate 17 --labels
  sluicegate storage verify /var/lib/sluicegate
  sluicegate storage export /var/lib/sluicegate --queue eu --to-url https://eu.example/api/v1/write
  sluicegate storage export /var/lib/sluicegate --out /tmp/rescued

The folder is only read: a process may be at work in it, and it works on another machine's copy.
Exit codes: 0 done and whole; 1 damage, something missing, or not all of it could be exported;
64 the command line makes no sense; 74 the folder cannot be read.";

/// What is in a folder of --storage.path: look at it, check it, take it out
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StorageArgs {
    #[command(subcommand)]
    command: StorageCommand,
}

#[derive(Debug, Subcommand)]
enum StorageCommand {
    /// A line for each segment and each queue's journal. Exit 0, or 74 if the folder cannot be read
    Ls(LsArgs),
    /// What records say of themselves. Exit 0; 1 if one is damaged or none is there; 74 if the folder
    /// cannot be read
    Inspect(InspectArgs),
    /// Check every checksum, and whether all adds up. Exit 0 if whole, 1 if something is damaged or
    /// missing, 74 if the folder cannot be read
    Verify(LsArgs),
    /// Take the senders' requests out, to files or to a receiver. Exit 0 if all went; 1 if something is
    /// damaged or was refused; 74 if the folder cannot be read
    Export(ExportArgs),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

#[derive(Args, Debug)]
struct LsArgs {
    /// The folder
    path: PathBuf,
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args, Debug)]
struct InspectArgs {
    /// The folder
    path: PathBuf,
    /// A sequence, or FROM..TO with both included
    #[arg(value_name = "SEQ", required_unless_present = "segment")]
    range: Option<Range>,
    /// Only in this file of the folder, which is described too
    #[arg(long, value_name = "FILE")]
    segment: Option<String>,
    /// Decode bodies, and print labels and counts of their series
    #[arg(long)]
    labels: bool,
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args, Debug)]
struct ExportArgs {
    /// The folder
    path: PathBuf,
    /// Only requests of which this queue has not settled all; without it, all that are there
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// The first record
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// The last record
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// Write a file for each request, and index.jsonl with the headers to send them with
    #[arg(long, value_name = "DIR", required_unless_present = "to_url")]
    out: Option<PathBuf>,
    /// Post them in order to a remote-write receiver; the first refusal ends it
    #[arg(long, value_name = "URL", conflicts_with = "out")]
    to_url: Option<String>,
    /// A header for every request; may be given often
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, requires = "to_url")]
    header: Vec<(String, String)>,
    /// A file with a bearer token
    #[arg(long, value_name = "FILE", requires = "to_url")]
    credentials_file: Option<PathBuf>,
    /// A PEM file with the certificates to believe instead of the system's
    #[arg(long, value_name = "FILE", requires = "to_url")]
    ca_file: Option<PathBuf>,
    /// Tries of each request while there is no answer, or it is 5xx, 429, 408 or 425
    #[arg(long, value_name = "N", default_value_t = 10, requires = "to_url")]
    attempts: u32,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let refuse = || format!("not NAME=VALUE: {text:?}");
    let (name, value) = text.split_once('=').ok_or_else(refuse)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All is well.
    Whole,
    /// Something is damaged or missing, or could not be exported.
    Damaged,
    /// What was asked for makes no sense.
    Usage,
    /// The folder cannot be read.
    Unreadable,
}

/// Runs a command: its result goes to `out`, what went wrong to `err`.
///
/// # Errors
/// When the result cannot be printed.
pub fn run(args: &StorageArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Ended> {
    let (path, output) = match &args.command {
        StorageCommand::Ls(args) | StorageCommand::Verify(args) => (&args.path, args.output),
        StorageCommand::Inspect(args) => (&args.path, args.output),
        StorageCommand::Export(args) => (&args.path, Output::Text),
    };
    let folder = match Folder::open(path) {
        Ok(folder) => folder,
        Err(error) => {
            writeln!(err, "sluicegate storage: {}: {error}", path.display())?;
            return Ok(Ended::Unreadable);
        }
    };
    match &args.command {
        StorageCommand::Ls(_) => {
            print(output, out, &Listing::of(&folder))?;
            Ok(Ended::Whole)
        }
        StorageCommand::Inspect(args) => inspect(&folder, args, out),
        StorageCommand::Verify(_) => {
            let report = verify(&folder, progress());
            print(output, out, &report)?;
            Ok(whole(report.whole))
        }
        StorageCommand::Export(args) => take_out(&folder, args, out, err),
    }
}

fn whole(whole: bool) -> Ended {
    if whole { Ended::Whole } else { Ended::Damaged }
}

fn print(
    output: Output,
    out: &mut dyn Write,
    result: &(impl fmt::Display + Serialize),
) -> io::Result<()> {
    match output {
        Output::Text => writeln!(out, "{}", result.to_string().trim_end()),
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(result)?),
    }
}

/// Prints a line a second on stderr while that is a terminal.
fn progress() -> impl FnMut(u64, u64) {
    let shown = io::stderr().is_terminal();
    let mut last = Instant::now();
    move |done, all| {
        if shown && last.elapsed() >= PROGRESS {
            last = Instant::now();
            let (done, all) = (show::bytes(done), show::bytes(all));
            // A line that cannot be shown is no reason to stop.
            writeln!(io::stderr(), "{done} of {all}").ok();
        }
    }
}

fn inspect(folder: &Folder, args: &InspectArgs, out: &mut dyn Write) -> io::Result<Ended> {
    let wish = Wish {
        range: args.range.unwrap_or(Range::ALL),
        segment: args.segment.as_deref().map(file_name),
        labels: args.labels,
    };
    let found = Inspection::of(folder, &wish);
    print(args.output, out, &found)?;
    Ok(whole(found.is_whole()))
}

/// A path to a file in the folder is as good as its name.
fn file_name(text: &str) -> &str {
    let name = Path::new(text).file_name();
    name.and_then(|name| name.to_str()).unwrap_or(text)
}

fn take_out(
    folder: &Folder,
    args: &ExportArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Ended> {
    let queue = args.queue.as_deref();
    let known = queue.and_then(|name| folder.queue(name));
    if let (Some(name), None) = (queue, known) {
        let queues = folder.journals.queues.iter();
        let queues: Vec<_> = queues.map(|queue| show::escaped(&queue.name)).collect();
        let queues = queues.join(", ");
        writeln!(
            err,
            "sluicegate storage: no journal of a queue {name:?}; there are: {queues}"
        )?;
        return Ok(Ended::Usage);
    }
    let mut target = match target(folder, args) {
        Ok(target) => target,
        Err((ended, error)) => {
            writeln!(err, "sluicegate storage: {error}")?;
            return Ok(ended);
        }
    };
    if folder.in_use {
        let path = folder.path.display();
        writeln!(
            err,
            "{path} is in use by a running process, which goes on delivering the same requests"
        )?;
    }
    let choice = Choice {
        queue: known,
        range: Range {
            from: Seq(args.from.unwrap_or(0)),
            to: Seq(args.to.unwrap_or(u64::MAX)),
        },
    };
    let mut done = Exported::default();
    let ended = export(folder, &choice, &mut *target, &mut done);
    write!(out, "{done}")?;
    if let Err((at, error)) = &ended {
        writeln!(out, "stopped at record {}: {}", at.0, show::escaped(error))?;
        writeln!(
            out,
            "what came before it is out; go on with --from {}",
            at.0
        )?;
    }
    Ok(whole(ended.is_ok() && done.damaged.is_empty()))
}

fn target(folder: &Folder, args: &ExportArgs) -> Result<Box<dyn Target>, (Ended, String)> {
    if let Some(out) = &args.out {
        let files = Files::create(out, &folder.path);
        let failed = |error| (Ended::Damaged, format!("{}: {error}", out.display()));
        return Ok(Box::new(files.map_err(failed)?));
    }
    let receiver = Receiver::new(&PostOptions {
        url: args.to_url.clone().unwrap_or_default(),
        headers: args.header.clone(),
        credentials_file: args.credentials_file.clone(),
        ca_file: args.ca_file.clone(),
        attempts: args.attempts,
    });
    Ok(Box::new(receiver.map_err(|error| (Ended::Usage, error))?))
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (seq, lost) in &self.damaged {
            let lost = show::words(*lost);
            writeln!(f, "record {} is damaged: {lost} are not exported", seq.0)?;
        }
        let (counts, bytes) = (show::words(self.counts), show::bytes(self.bytes));
        writeln!(
            f,
            "exported {} requests with {counts}, {bytes}",
            self.records
        )?;
        if self.settled > 0 {
            let settled = self.settled;
            writeln!(
                f,
                "{settled} of them the queue had settled before: they come a second time"
            )?;
        }
        Ok(())
    }
}
