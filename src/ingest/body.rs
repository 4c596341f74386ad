//! Receives a body. What a sender says it will send takes neither memory nor room in the log; what has come
//! of it does.
//!
//! A few senders that say much and send little must not be in the way of those that send: memory is lent as
//! the body comes ([`BodyShare`](super::permits::BodyShare)), room in the log that was found before its first
//! byte is given back when it is large or slow and taken again when it is complete, and a body that drips is
//! given up ([`super::pace`]).

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::handler::{Ended, Ingest, MEMORY_WAIT};
use super::pace::Pace;
use super::permits::LARGE;
use super::respond::Refusal;
use crate::clock::Instant;
use crate::listen::Pulse;
use crate::log::Tenant;
use crate::log::front::Room;

/// Room reserved in the log for a body that does not say its length.
const UNKNOWN_LENGTH: u64 = 1 << 20;
/// A body that is not complete after so long gives its room in the log back until it is.
const ROOM_KEPT: Duration = Duration::from_secs(1);
/// Largest allocation that is made ahead of what has come.
const AHEAD: usize = 1 << 20;

/// A body that is complete, and what it holds.
pub(super) struct Complete {
    pub(super) body: Bytes,
    pub(super) room: Room,
    /// Memory for the body.
    pub(super) memory: OwnedSemaphorePermit,
}

/// A body that is to come.
pub(super) struct Arriving<'a> {
    pub(super) ingest: &'a Ingest,
    pub(super) pulse: &'a Pulse,
    pub(super) tenant: &'a Tenant,
    /// Its length, if it says so.
    pub(super) length: Option<u64>,
    /// When the headers were complete.
    pub(super) began: Instant,
}

impl Arriving<'_> {
    /// Waits for room and memory, and then for the body.
    pub(super) async fn complete(self, body: &mut Incoming) -> Result<Complete, Ended> {
        let ingest = self.ingest;
        let limit = ingest.options.max_request_size;
        let wanted = self.length.unwrap_or(UNKNOWN_LENGTH);
        let wait = ingest.options.queue_wait;
        let room = ingest.log.reserve(wanted, self.tenant, wait).await?;
        // A large one has shown nothing yet.
        let mut room = (wanted <= LARGE).then_some((room, wanted));
        let most = self.length.unwrap_or(limit);
        let lent = ingest.bodies.begin(most, MEMORY_WAIT).await;
        let mut lent = lent.ok_or(Refusal::Memory)?;
        let reading = Instant::now();
        let mut pace = Pace::new(self.began, reading);
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            let frame = match tokio::time::timeout_at(pace.next_look(), body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame.into_data().ok(),
                Ok(Some(Err(error))) => return Err(broken(&error)),
                Err(_) => None,
            };
            let now = Instant::now();
            if let Some(data) = frame {
                let needed = bytes.len() + data.len();
                if needed as u64 > limit {
                    return Err(Refusal::BodySize(limit).into());
                }
                if needed as u64 > lent.bytes {
                    let was_large = lent.is_large();
                    let more = ingest
                        .bodies
                        .more(&mut lent, needed as u64, most, MEMORY_WAIT);
                    more.await.ok_or(Refusal::Memory)?;
                    if lent.is_large() && !was_large {
                        // Given back first: what is larger than the log has to find it empty.
                        drop(room.take());
                        room = Some((self.room(wanted, &pace).await?, wanted));
                    }
                    pace.paused(now.elapsed());
                }
                if bytes.capacity() < needed {
                    let lent = usize::try_from(lent.bytes).unwrap_or(usize::MAX);
                    let ahead = lent.min(bytes.len().saturating_mul(2).max(AHEAD));
                    bytes.reserve_exact(ahead.max(needed) - bytes.len());
                }
                bytes.extend_from_slice(&data);
                pace.came(data.len() as u64);
            }
            let now = Instant::now();
            let looked = pace.look(now, lent.is_waited_for());
            looked.map_err(Ended::Slow)?;
            self.pulse.drips(pace.drips());
            if now - reading >= ROOM_KEPT {
                room = None;
            }
        }
        bytes.shrink_to_fit();
        let needed = bytes.len() as u64;
        let room = match room {
            Some((room, reserved)) if reserved >= needed => room,
            other => {
                drop(other);
                self.room(needed, &pace).await?
            }
        };
        Ok(Complete {
            body: Bytes::from(bytes),
            room,
            memory: lent.complete(needed),
        })
    }

    /// Room again, as long as the sender waits.
    async fn room(&self, bytes: u64, pace: &Pace) -> Result<Room, Ended> {
        let ingest = self.ingest;
        let left = pace.deadline().saturating_duration_since(Instant::now());
        let wait = ingest.options.queue_wait.min(left);
        let room = ingest.log.reserve_again(bytes, self.tenant, wait);
        Ok(room.await?)
    }
}

/// Why a body ended before its end.
fn broken(error: &hyper::Error) -> Ended {
    use std::error::Error as _;
    use std::io::{Error, ErrorKind};

    let mut source = error.source();
    while let Some(error) = source {
        let kind = error.downcast_ref::<Error>().map(Error::kind);
        if matches!(kind, Some(ErrorKind::InvalidInput | ErrorKind::InvalidData)) {
            return Refusal::Framing("its chunks cannot be read").into();
        }
        source = error.source();
    }
    Ended::HungUp
}
