//! `bench compare`.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{Output, print};
use crate::bench::compare::compare;
use crate::bench::load::LoadReport;
use crate::bench::sink::SinkLedger;

/// Examples under `--help`.
pub(super) const EXAMPLES: &str = "\
The exit code is 0 if nothing is lost, made up, altered or out of order, else 1; duplicates are told, \
and no fault. A sample that was acknowledged may be in any of the sinks.

  sluicegate bench sink --verify 1 --ledger sink.ledger &
  sluicegate bench load --url http://127.0.0.1:9409/api/v1/write \\
      --duration 1m --ledger load.ledger
  kill %1; wait
  sluicegate bench compare --load load.ledger --sink sink.ledger";

/// Which ledgers.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// What `bench load --ledger` wrote; may be given often
    #[arg(long, required = true, value_name = "FILE", num_args = 1..)]
    load: Vec<PathBuf>,
    /// What `bench sink --ledger` wrote; may be given often
    #[arg(long, required = true, value_name = "FILE", num_args = 1..)]
    sink: Vec<PathBuf>,
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &CompareArgs) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    let loads = all(&args.load, LoadReport::read_ledger)?;
    let sinks = all(&args.sink, SinkLedger::read)?;
    let found = compare(
        &sinks.iter().collect::<Vec<_>>(),
        &loads.iter().collect::<Vec<_>>(),
    );
    print(args.output, &found)?;
    Ok(if found.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn all<T>(
    paths: &[PathBuf],
    read: impl Fn(BufReader<File>) -> io::Result<T>,
) -> Result<Vec<T>, Box<dyn Error + Send + Sync>> {
    let one = |path: &PathBuf| {
        let file = File::open(path).map_err(|error| about(path, &error))?;
        Ok(read(BufReader::new(file)).map_err(|error| about(path, &error))?)
    };
    paths.iter().map(one).collect()
}

/// An error with the file it is about.
pub(super) fn about(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
