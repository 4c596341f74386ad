//! The writer's thread: group commit, and what has to be tended to.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::log::Room;
use super::shared::Core;
use super::store::Pending;
use crate::log::{LogError, Record};
use crate::vital::Vital;
use crate::wire::decoded::Decoded;

/// Time from the beginning of one sync to that of the next.
const SYNC_EVERY: Duration = Duration::from_millis(20);
/// How often it is looked whether something has grown too old, or can be tried again.
const TURN: Duration = Duration::from_secs(1);

/// What the writer is asked for.
pub(super) enum Command {
    Append(Box<Append>),
    /// There is something to delete.
    Tend,
    /// Seal, and end.
    Close,
}

/// A record on its way.
pub(super) struct Append {
    pub(super) pending: Pending,
    /// What the hand-off has promised to take.
    pub(super) decoded: Option<Arc<Decoded>>,
    pub(super) room: Room,
    pub(super) done: oneshot::Sender<Result<Arc<Record>, LogError>>,
}

/// Writes until it is told to end, or nobody can ask any more.
pub(super) fn run(core: &Core, commands: &Receiver<Command>) {
    let _vital = Vital;
    let mut last_sync: Option<Instant> = None;
    let mut open = true;
    while open {
        let mut group = Vec::new();
        match commands.recv_timeout(TURN) {
            Ok(Command::Append(append)) => {
                group.push(*append);
                open = gather(
                    commands,
                    &mut group,
                    last_sync.map(|last| last + SYNC_EVERY),
                );
                last_sync = Some(Instant::now());
                core.commit(group);
            }
            Ok(Command::Tend) => core.asked_to_tend(),
            Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => open = false,
            Err(RecvTimeoutError::Timeout) => core.tend(),
        }
        if core.store.is_untidy() && core.may_tend() {
            core.tend();
        }
    }
    core.store.seal();
}

/// Gathers what else is asked for until `until`, and what is there already. `false`: it is to end after.
fn gather(commands: &Receiver<Command>, group: &mut Vec<Append>, until: Option<Instant>) -> bool {
    loop {
        let left = until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        });
        match commands.recv_timeout(left) {
            Ok(Command::Append(append)) => group.push(*append),
            // It is looked for after each group.
            Ok(Command::Tend) => {}
            Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
        }
    }
}
