//! The log as ingest sees it: room for a record, and a place for it.

use std::sync::Arc;
use std::time::Duration;

use super::disk::{self, DiskLog};
use super::memory::{MemoryLog, Reservation};
use super::{LogError, NewRecord, Occupancy, Record, Tenant};

/// Where new records go.
#[derive(Clone)]
pub enum Front {
    /// Into memory.
    Memory(Arc<MemoryLog>),
    /// Onto the disk.
    Disk(Arc<DiskLog>),
}

/// Room in the log, promised to a request whose body is not read yet.
pub enum Room {
    /// In memory.
    Memory(Reservation),
    /// On the disk.
    Disk(disk::Room),
}

impl Front {
    /// Waits up to `wait` for room for a body of `bytes`.
    ///
    /// # Cancel safety
    /// Nothing is reserved when the future is dropped.
    pub async fn reserve(
        &self,
        bytes: u64,
        tenant: &Tenant,
        wait: Duration,
    ) -> Result<Room, LogError> {
        match self {
            Self::Memory(log) => log.reserve(bytes, tenant, wait).await.map(Room::Memory),
            Self::Disk(log) => log.reserve(bytes, tenant, wait).await.map(Room::Disk),
        }
    }

    /// The same for a request that had room already and gave it back: if it is the one that finds out
    /// whether the disk takes something again, it still is.
    ///
    /// # Cancel safety
    /// Nothing is reserved when the future is dropped.
    pub async fn reserve_again(
        &self,
        bytes: u64,
        tenant: &Tenant,
        wait: Duration,
    ) -> Result<Room, LogError> {
        match self {
            Self::Memory(log) => log.reserve(bytes, tenant, wait).await.map(Room::Memory),
            Self::Disk(log) => log.reserve_again(bytes, tenant, wait).await.map(Room::Disk),
        }
    }

    /// Appends a record in the room that was reserved for it. When this returns, it is what the log can
    /// promise: in memory, or durable.
    ///
    /// # Cancel safety
    /// A record whose future was polled is appended, whether it is dropped or not.
    pub async fn append(&self, new: NewRecord, room: Room) -> Result<Arc<Record>, LogError> {
        match (self, room) {
            (Self::Memory(log), Room::Memory(room)) => Ok(log.append(new, room)),
            (Self::Disk(log), Room::Disk(room)) => log.append(new, room).await,
            _ => unreachable!("room is of the log that it was reserved in"),
        }
    }

    /// Appends at once: only the log in memory can.
    pub fn append_now(&self, new: NewRecord, room: Room) -> Arc<Record> {
        match (self, room) {
            (Self::Memory(log), Room::Memory(room)) => log.append(new, room),
            _ => unreachable!("senders wait for receivers only with the log in memory"),
        }
    }

    /// How full it is.
    pub fn occupancy(&self) -> Occupancy {
        match self {
            Self::Memory(log) => log.occupancy(),
            Self::Disk(log) => log.occupancy(),
        }
    }

    /// Heap bytes of the decoded forms kept for readers.
    pub fn handoff_bytes(&self) -> usize {
        match self {
            Self::Memory(log) => log.handoff_bytes(),
            Self::Disk(log) => log.handoff_bytes(),
        }
    }

    /// Heap bytes of what it keeps in memory, decoded forms not counted.
    pub fn memory_bytes(&self) -> u64 {
        match self {
            Self::Memory(log) => log.occupancy().bytes,
            Self::Disk(log) => log.memory_bytes() as u64,
        }
    }
}
