//! Memory for bodies that are being received and decoded, lent by the byte.
//!
//! Permits come in kibibytes, in the order in which they are asked for. A body larger than the whole share
//! takes all of it: one at a time, it still gets in.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes a permit stands for.
const UNIT: u64 = 1024;

/// A share of memory.
#[derive(Clone)]
pub struct MemoryShare {
    semaphore: Arc<Semaphore>,
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
            units,
        }
    }

    /// Lends `bytes` when it is their turn; `None` when that takes longer than `wait`.
    pub async fn lend(&self, bytes: u64, wait: Duration) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT))
            .unwrap_or(u32::MAX)
            .min(self.units);
        let acquire = Arc::clone(&self.semaphore).acquire_many_owned(units);
        tokio::time::timeout(wait, acquire).await.ok()?.ok()
    }

    /// Bytes lent.
    pub fn lent(&self) -> u64 {
        (u64::from(self.units) - self.semaphore.available_permits() as u64) * UNIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_lent_is_bounded_and_comes_back() {
        let share = MemoryShare::new(10 * UNIT);
        let wait = Duration::from_secs(1);
        let first = share.lend(6 * UNIT, wait).await.unwrap();
        assert!(share.lend(6 * UNIT, wait).await.is_none());
        assert_eq!(share.lent(), 6 * UNIT);
        drop(first);
        let huge = share.lend(1 << 40, wait).await;
        assert!(huge.is_some(), "larger than the share: all of it");
        assert_eq!(share.lent(), 10 * UNIT);
    }
}
