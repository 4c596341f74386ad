//! Places for connections: so many, and one that does not get on makes way for one that has just come.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::watch::Pulse;
use crate::clock::Instant;

/// Between two searches that found nobody.
const SEARCH_AGAIN: Duration = Duration::from_millis(100);

/// The places of a listener.
pub struct Places {
    limit: usize,
    /// For so long nobody has to make way who has said nothing yet.
    silent_kept: Duration,
    open: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    taken: HashMap<u64, Arc<Pulse>>,
    nobody_until: Option<Instant>,
}

/// A place, as long as it is kept.
pub struct Place {
    places: Arc<Places>,
    number: u64,
    /// What is known of the connection in it.
    pub pulse: Arc<Pulse>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.open.fetch_sub(1, Ordering::Relaxed);
        // Who has made way is not there any more.
        self.places.lock().taken.remove(&self.number);
    }
}

impl Places {
    /// So many of them. `silent_kept`: for so long nobody has to make way whose headers have not come.
    pub fn new(limit: usize, silent_kept: Duration) -> Arc<Self> {
        Arc::new(Self {
            limit,
            silent_kept,
            open: AtomicUsize::new(0),
            inner: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// A place for a connection that has just come. When all are taken, the connection that has been silent
    /// or idle longest makes way; `None` when all of them are at work.
    ///
    /// For the moment that it takes to close it, there is one connection more than places.
    pub fn take(self: &Arc<Self>, now: Instant) -> Option<Place> {
        let mut inner = self.lock();
        if inner.taken.len() >= self.limit {
            if inner.nobody_until.is_some_and(|until| now < until) {
                return None;
            }
            let ranked = inner.taken.iter().filter_map(|(number, pulse)| {
                let rank = pulse.may_make_way(now, self.silent_kept)?;
                Some((rank, *number))
            });
            let Some((_, number)) = ranked.min() else {
                inner.nobody_until = Some(now + SEARCH_AGAIN);
                return None;
            };
            if let Some(pulse) = inner.taken.remove(&number) {
                pulse.make_way();
            }
        }
        let number = inner.next;
        inner.next += 1;
        let pulse = Pulse::new(now);
        inner.taken.insert(number, Arc::clone(&pulse));
        drop(inner);
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Place {
            places: Arc::clone(self),
            number,
            pulse,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::watch::Overdue;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_silent_make_way_then_the_idle_and_never_who_is_at_work() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let places = Places::new(3, Duration::from_secs(1));
        let [working, idle, silent] = [0; 3].map(|_| places.take(start).unwrap());
        for place in [&working, &idle] {
            place.pulse.read(b"GET / HTTP/1.1\r\n\r\n", start);
            place.pulse.request(start);
        }
        idle.pulse.answer(start);
        idle.pulse.flushed(start);
        assert!(places.take(start).is_none(), "all have just come");
        assert!(places.take(after(0)).is_none());

        let first = places.take(after(2)).expect("the silent one makes way");
        assert_eq!(silent.pulse.overdue(after(2)), Some(Overdue::MadeWay));
        assert_eq!(idle.pulse.overdue(after(2)), None);
        assert_eq!(places.open(), 4, "until it is closed");
        drop(silent);
        assert_eq!(places.open(), 3);

        first.pulse.read(b"GET / HTTP/1.1\r\n\r\n", after(2));
        first.pulse.request(after(2));
        let second = places.take(after(30)).expect("the idle one makes way");
        assert_eq!(idle.pulse.overdue(after(30)), Some(Overdue::MadeWay));
        second.pulse.read(b"GET / HTTP/1.1\r\n\r\n", after(30));
        second.pulse.request(after(30));
        assert!(places.take(after(60)).is_none(), "all are at work");
        drop(working);
        assert!(places.take(after(60)).is_some());
    }
}
