//! Memory for bodies that are being received and decoded, lent by the byte.
//!
//! Permits come in kibibytes, in the order in which they are asked for. A body larger than the whole share
//! takes all of it: one at a time, it still gets in.
//!
//! A body is lent what has come of it, and as much again: what a sender only says it will send holds nothing
//! ([`BodyShare`]). From 256 KiB on it is lent all it will take, at once, of a share of its own: large bodies
//! never wait for each other's second half, and a request of the usual size never waits for a large one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes a permit stands for.
const UNIT: u64 = 1024;
/// What a body is lent before anything of it has come.
const FIRST: u64 = 4 << 10;
/// Larger bodies are lent all at once, of the share of large ones.
pub(super) const LARGE: u64 = 256 << 10;

/// A share of memory.
#[derive(Clone)]
pub struct MemoryShare {
    semaphore: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    units: u32,
}

impl MemoryShare {
    /// A share of this many bytes.
    pub fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT)
            .unwrap_or(u32::MAX)
            .clamp(1, u32::MAX / 8);
        Self {
            semaphore: Arc::new(Semaphore::new(units as usize)),
            waiting: Arc::default(),
            units,
        }
    }

    fn units_of(&self, bytes: u64) -> u32 {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        units.min(self.units)
    }

    /// Lends `bytes` when it is their turn; `None` when that takes longer than `wait`.
    pub async fn lend(&self, bytes: u64, wait: Duration) -> Option<OwnedSemaphorePermit> {
        let units = self.units_of(bytes);
        let semaphore = Arc::clone(&self.semaphore);
        if let Ok(permit) = Arc::clone(&semaphore).try_acquire_many_owned(units) {
            return Some(permit);
        }
        let _waiting = Waiting::of(&self.waiting);
        let acquire = semaphore.acquire_many_owned(units);
        tokio::time::timeout(wait, acquire).await.ok()?.ok()
    }

    /// Somebody waits.
    pub fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Bytes lent.
    pub fn lent(&self) -> u64 {
        (u64::from(self.units) - self.semaphore.available_permits() as u64) * UNIT
    }
}

/// Somebody waits, as long as this is kept.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn of(waiting: &'w AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Memory for bodies: half of it for those of the usual size, half for large ones.
#[derive(Clone)]
pub struct BodyShare {
    usual: MemoryShare,
    large: MemoryShare,
}

/// Memory that a body was lent.
pub struct Lent {
    of: MemoryShare,
    permit: OwnedSemaphorePermit,
    /// How many bytes may be held. More than the permit says for what is larger than the whole share.
    pub(super) bytes: u64,
    large: bool,
}

impl BodyShare {
    /// A share of this many bytes.
    pub fn new(bytes: u64) -> Self {
        Self {
            usual: MemoryShare::new(bytes / 2),
            large: MemoryShare::new(bytes / 2),
        }
    }

    /// Lends what a body needs before anything of it has come; `most` is its length, if it says so, or what
    /// it may have.
    pub(super) async fn begin(&self, most: u64, wait: Duration) -> Option<Lent> {
        let bytes = FIRST.min(most);
        Some(Lent {
            permit: self.usual.lend(bytes, wait).await?,
            of: self.usual.clone(),
            bytes,
            large: false,
        })
    }

    /// Lends more, so that `needed` bytes of a body of `most` can be held.
    pub(super) async fn more(
        &self,
        lent: &mut Lent,
        needed: u64,
        most: u64,
        wait: Duration,
    ) -> Option<()> {
        if needed <= lent.bytes {
            return Some(());
        }
        if needed > LARGE {
            *lent = Lent {
                permit: self.large.lend(most, wait).await?,
                of: self.large.clone(),
                bytes: most,
                large: true,
            };
            return Some(());
        }
        let bytes = (2 * lent.bytes).max(needed).min(most).min(LARGE);
        let missing = self.usual.units_of(bytes) as usize - lent.permit.num_permits();
        let more = self.usual.lend(missing as u64 * UNIT, wait).await?;
        lent.permit.merge(more);
        lent.bytes = bytes;
        Some(())
    }

    /// Bytes lent.
    pub fn lent(&self) -> u64 {
        self.usual.lent() + self.large.lent()
    }
}

impl Lent {
    /// Somebody waits for memory of the share that this is of.
    pub(super) fn is_waited_for(&self) -> bool {
        self.of.is_waited_for()
    }

    /// It is of the share of large bodies.
    pub(super) fn is_large(&self) -> bool {
        self.large
    }

    /// The body is complete, and no longer than this.
    pub(super) fn complete(mut self, bytes: u64) -> OwnedSemaphorePermit {
        let needed = self.of.units_of(bytes) as usize;
        let spare = self.permit.num_permits().saturating_sub(needed);
        drop(self.permit.split(spare));
        self.permit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_is_lent_is_bounded_and_comes_back() {
        let share = MemoryShare::new(10 * UNIT);
        let first = share.lend(6 * UNIT, WAIT).await.unwrap();
        assert!(share.lend(6 * UNIT, WAIT).await.is_none());
        assert!(!share.is_waited_for());
        assert_eq!(share.lent(), 6 * UNIT);
        drop(first);
        let huge = share.lend(1 << 40, WAIT).await;
        assert!(huge.is_some(), "larger than the share: all of it");
        assert_eq!(share.lent(), 10 * UNIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_lent_what_came_of_it_and_as_much_again() {
        let bodies = BodyShare::new(4 << 20);
        let most = 200 << 10;
        let mut lent = bodies.begin(most, WAIT).await.unwrap();
        assert_eq!(bodies.lent(), FIRST, "whatever it says it will send");
        for (needed, held) in [(1, 4), (4, 4), (5, 8), (60, 60), (61, 120), (130, 200)] {
            bodies
                .more(&mut lent, needed << 10, most, WAIT)
                .await
                .unwrap();
            assert_eq!(bodies.lent(), held << 10, "{needed} KiB");
        }
        let kept = lent.complete(150 << 10);
        assert_eq!(bodies.lent(), 150 << 10);
        drop(kept);
        assert_eq!(bodies.lent(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_wait_for_each_other_and_nobody_waits_for_them() {
        let bodies = BodyShare::new(4 << 20);
        let most = 16 << 20;
        let mut large = bodies.begin(most, WAIT).await.unwrap();
        bodies
            .more(&mut large, LARGE + 1, most, WAIT)
            .await
            .unwrap();
        assert!(large.is_large());
        assert_eq!(bodies.lent(), 2 << 20, "all of its share, and no other");
        let mut next = bodies.begin(most, WAIT).await.unwrap();
        let more = bodies.more(&mut next, LARGE + 1, most, WAIT).await;
        assert!(more.is_none());
        let mut usual = bodies.begin(LARGE, WAIT).await.unwrap();
        bodies.more(&mut usual, LARGE, LARGE, WAIT).await.unwrap();
        assert!(!usual.is_large());
    }
}
