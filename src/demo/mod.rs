//! `sluicegate demo`: a load, the proxy with its log on disk, and a receiver that misbehaves, in one
//! process on free ports. A script says what the receiver does when; a line a second says what comes of it.
//!
//! ```text
//! script -> receiver's behaviour
//! report -> view -> told (lines)           load + receiver -> compare -> outcome
//! ```
//!
//! The parts are the real ones: the load generator and receiver of [`bench`](crate::bench), and
//! [`App`](crate::app::App) as `sluicegate run` has it. What is told comes from the proxy's own report, and
//! the outcome from the load's ledger against the receiver's.

use std::io::Write;
use std::time::Duration;

use crate::cli::demo::DemoArgs;
use crate::report::words::bytes;

mod folder;
mod outcome;
mod play;
mod script;
mod stage;
mod told;
mod view;

use play::Out;

/// How long what is still under way on other threads may take at the end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Plays it, and says whether everything held. The folder is gone afterwards, whatever happened. `terminal`:
/// what is printed may have marks in it that a terminal understands.
///
/// # Errors
/// It cannot start, or its folder cannot be removed; in words.
pub fn run(args: &DemoArgs, out: &mut dyn Write, terminal: bool) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    // Before the folder is there: a signal must not leave it behind.
    let signals = {
        let _inside = runtime.enter();
        play::Signals::listen().map_err(|error| format!("cannot listen for signals: {error}"))?
    };
    let folder = folder::make().map_err(|error| format!("no temporary folder: {error}"))?;
    if let Some(free) = folder::free(folder.path()).filter(|free| *free < stage::LOG_LEAST) {
        let (free, least) = (free as f64, stage::LOG_LEAST as f64);
        return Err(format!(
            "{} are free in {}, and its log on disk wants {}: set TMPDIR to another folder",
            bytes(free),
            folder.path().parent().unwrap_or(folder.path()).display(),
            bytes(least)
        ));
    }
    let played = runtime.block_on(play::play(
        args,
        folder.path(),
        signals,
        Out::new(out, terminal),
    ));
    runtime.shutdown_timeout(LAST_WORDS);
    let path = folder.path().display().to_string();
    let removed = folder::remove(folder).map_err(|error| format!("{path} is still there: {error}"));
    // What went wrong first is told.
    let held = played?;
    removed.map(|()| held)
}
