//! Bodies whose senders wait for their answer (`--ack upstream`).
//!
//! A body that comes again while its first copy has no answer attaches to it: nothing is stored twice. A
//! sender that was told to come back leaves an *orphan*: for a while the same body takes it over, and only
//! what is unsettled of it is queued again. The body is known by a keyed hash over bytes, protocol and
//! separating headers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Instant;
use crate::log::ack::Ack;
use crate::log::{Readers, Tenant};
use crate::model::counts::Counts;
use crate::wire::compression::Encoding;
use crate::wire::decoded::{IdentityKey, InvalidSeries, Protocol};

/// How long an orphan waits for its sender.
pub const ORPHAN_FOR: Duration = Duration::from_secs(120);

/// Identity of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodyId(u128);

impl BodyId {
    /// The identity of these bytes under these headers.
    pub fn of(
        body: &[u8],
        protocol: Protocol,
        encoding: Encoding,
        tenant: &Tenant,
        key: &IdentityKey,
    ) -> Self {
        let headers = format!("{protocol:?} {encoding:?} {:?}", tenant.0);
        Self(key.hash(body) ^ key.hash(headers.as_bytes()).rotate_left(1))
    }
}

/// A record whose sender waits, and what to tell it.
#[derive(Debug)]
pub struct Awaited {
    /// Its settlement.
    pub ack: Arc<Ack>,
    /// What was admitted.
    pub admitted: Counts,
    /// The first series that was refused by itself, and how many were.
    pub invalid: Option<(InvalidSeries, usize)>,
}

struct Entry {
    awaited: Arc<Awaited>,
    waiters: usize,
    withdrawn: bool,
    orphan_since: Option<Instant>,
}

/// All bodies without an answer.
#[derive(Default)]
pub struct Attachments {
    entries: Mutex<HashMap<BodyId, Entry>>,
}

/// A sender that waits. Dropped without an answer (the sender hung up), the body becomes an orphan that
/// is sent on.
pub struct Waiting {
    attachments: Arc<Attachments>,
    id: BodyId,
    /// The record it waits for.
    pub awaited: Arc<Awaited>,
}

/// How a body came to what it attaches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// To a copy whose sender still waits.
    Unanswered,
    /// It takes over an orphan.
    Orphan,
    /// To a record that the last process made durable.
    Record,
}

impl Attachments {
    fn lock(&self) -> MutexGuard<'_, HashMap<BodyId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attaches to a body that is here already.
    pub fn attach(
        self: &Arc<Self>,
        id: BodyId,
        readers: &dyn Readers,
    ) -> Option<(Waiting, Attached)> {
        self.attach_in(&mut self.lock(), id, readers)
    }

    fn attach_in(
        self: &Arc<Self>,
        entries: &mut HashMap<BodyId, Entry>,
        id: BodyId,
        readers: &dyn Readers,
    ) -> Option<(Waiting, Attached)> {
        let entry = entries.get_mut(&id)?;
        entry.waiters += 1;
        let orphan = entry.orphan_since.take().is_some();
        if std::mem::take(&mut entry.withdrawn) {
            readers.take_over(entry.awaited.ack.seq());
        }
        let awaited = Arc::clone(&entry.awaited);
        let waiting = Waiting {
            attachments: Arc::clone(self),
            id,
            awaited,
        };
        Some((
            waiting,
            if orphan {
                Attached::Orphan
            } else {
                Attached::Unanswered
            },
        ))
    }

    /// Waits for a new record: `append` puts it into the log, in one step with taking the body's place
    /// here. Attaches instead if a copy came in meanwhile.
    pub fn append(
        self: &Arc<Self>,
        id: BodyId,
        readers: &dyn Readers,
        awaited: Awaited,
        append: impl FnOnce(Arc<Ack>),
    ) -> (Waiting, Option<Attached>) {
        let mut entries = self.lock();
        if let Some((waiting, attached)) = self.attach_in(&mut entries, id, readers) {
            return (waiting, Some(attached));
        }
        let awaited = Arc::new(awaited);
        append(Arc::clone(&awaited.ack));
        let entry = Entry {
            awaited: Arc::clone(&awaited),
            waiters: 1,
            withdrawn: false,
            orphan_since: None,
        };
        entries.insert(id, entry);
        (
            Waiting {
                attachments: Arc::clone(self),
                id,
                awaited,
            },
            None,
        )
    }

    /// Orphans whose time is over: what is left of them is given up.
    pub fn expire(&self, now: Instant, readers: &dyn Readers) {
        self.lock().retain(|_, entry| {
            let over = entry
                .orphan_since
                .is_some_and(|since| now - since >= ORPHAN_FOR);
            if over && entry.withdrawn {
                readers.expire(entry.awaited.ack.seq());
            }
            !over
        });
    }

    /// Bodies without an answer, and orphans among them.
    pub fn counts(&self) -> (usize, usize) {
        let entries = self.lock();
        let orphans = entries
            .values()
            .filter(|entry| entry.orphan_since.is_some())
            .count();
        (entries.len(), orphans)
    }
}

impl Waiting {
    /// The sender gets its final answer.
    pub fn answered(self) {
        let mut entries = self.attachments.lock();
        if self.entry(&mut entries).is_some() {
            entries.remove(&self.id);
        }
    }

    /// What it waits for, unless that has its answer: then the place may be another copy's.
    fn entry<'e>(&self, entries: &'e mut HashMap<BodyId, Entry>) -> Option<&'e mut Entry> {
        let entry = entries.get_mut(&self.id)?;
        Arc::ptr_eq(&entry.awaited, &self.awaited).then_some(entry)
    }

    /// The sender is told to come back: unless others wait too, what is not on its way is taken back.
    pub fn told_to_come_back(self, now: Instant, readers: &dyn Readers) {
        let mut entries = self.attachments.lock();
        let Some(entry) = self.entry(&mut entries) else {
            return;
        };
        if entry.waiters == 1 {
            entry.withdrawn = true;
            entry.orphan_since = Some(now);
            readers.withdraw(entry.awaited.ack.seq());
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut entries = self.attachments.lock();
        if let Some(entry) = self.entry(&mut entries) {
            entry.waiters -= 1;
            if entry.waiters == 0 && entry.orphan_since.is_none() {
                entry.orphan_since = Some(Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Seq;

    #[derive(Default)]
    struct Told(Mutex<Vec<&'static str>>);

    impl Readers for Told {
        fn withdraw(&self, _: Seq) {
            self.0.lock().unwrap().push("withdraw");
        }
        fn take_over(&self, _: Seq) {
            self.0.lock().unwrap().push("take over");
        }
        fn expire(&self, _: Seq) {
            self.0.lock().unwrap().push("expire");
        }
    }

    fn awaited() -> Awaited {
        Awaited {
            ack: Arc::new(Ack::new(1)),
            admitted: Counts::default(),
            invalid: None,
        }
    }

    const ID: BodyId = BodyId(7);

    #[tokio::test(start_paused = true)]
    async fn a_copy_attaches_and_an_orphan_is_taken_over_or_given_up() {
        let attachments = Arc::new(Attachments::default());
        let told = Told::default();
        let (first, attached) = attachments.append(ID, &told, awaited(), drop);
        assert_eq!(attached, None);
        let (second, attached) =
            attachments.append(ID, &told, awaited(), |_| panic!("stored twice"));
        assert_eq!(attached, Some(Attached::Unanswered));
        first.told_to_come_back(Instant::now(), &told);
        assert!(told.0.lock().unwrap().is_empty(), "the second still waits");
        second.told_to_come_back(Instant::now(), &told);
        let (third, attached) = attachments.attach(ID, &told).unwrap();
        assert_eq!(attached, Attached::Orphan);
        third.told_to_come_back(Instant::now(), &told);
        attachments.expire(Instant::now() + ORPHAN_FOR - Duration::from_secs(1), &told);
        assert_eq!(attachments.counts(), (1, 1));
        attachments.expire(Instant::now() + ORPHAN_FOR, &told);
        assert_eq!(attachments.counts(), (0, 0));
        assert_eq!(
            *told.0.lock().unwrap(),
            ["withdraw", "take over", "withdraw", "expire"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_hangs_up_leaves_an_orphan_that_is_sent_on() {
        let attachments = Arc::new(Attachments::default());
        let told = Told::default();
        let (first, _) = attachments.append(ID, &told, awaited(), drop);
        drop(first);
        assert_eq!(attachments.counts(), (1, 1));
        let (again, _) = attachments.attach(ID, &told).unwrap();
        again.answered();
        assert_eq!(attachments.counts(), (0, 0));
        assert!(told.0.lock().unwrap().is_empty(), "nothing was withdrawn");
    }

    #[tokio::test(start_paused = true)]
    async fn what_becomes_of_one_copy_leaves_a_later_one_its_place() {
        let attachments = Arc::new(Attachments::default());
        let told = Told::default();
        let append = || attachments.append(ID, &told, awaited(), drop).0;
        let (first, second, third) = (append(), append(), append());
        first.answered();
        // The same body once more, after its answer: a record of its own.
        let later = append();
        second.answered();
        third.told_to_come_back(Instant::now(), &told);
        assert_eq!(attachments.counts(), (1, 0), "the later one still waits");
        later.told_to_come_back(Instant::now(), &told);
        assert_eq!(attachments.counts(), (1, 1));
        assert_eq!(*told.0.lock().unwrap(), ["withdraw"]);
    }
}
