//! What is kept and what goes: room, what queues give back, deletion.

use super::OnFull;
use super::lock;
use super::mutants::{self, Mutant};
use super::store::{Doomed, Known, Segment, Store, StoreOptions};
use super::write::is_full;
use crate::log::memory::CROWDED_TENTHS;
use crate::log::{Gone, Occupancy, QueueIndex, Seq, Tenant};

/// Ranges of records that went too early, of which the reason is remembered.
const GONE_MAX: usize = 4096;

/// What should go.
#[derive(Default)]
struct Plan {
    victims: Vec<(u64, Option<Gone>)>,
    /// The newest segment should go, which needs a newer one.
    roll: bool,
    /// Others may go once these are gone.
    more: bool,
}

impl Store {
    /// Reserves `bytes` for a request of this tenant, or says how many are missing.
    pub fn try_reserve(&self, bytes: u64, tenant: &Tenant) -> Result<(), u64> {
        let limit = self.options.max_bytes;
        let mut known = self.known();
        let held = known.bytes + known.reserved;
        if held + bytes > limit {
            known.untidy = true;
            known.wanted = known.wanted.max(bytes);
            if known.reserved > 0 || !known.is_empty() {
                return Err(held + bytes - limit);
            }
        }
        let own = known.tenants.get(tenant).copied().unwrap_or(0);
        let crowded = limit / 10 * CROWDED_TENTHS;
        if held > crowded
            && known.tenants.len() > 1
            && own > known.tenants.values().sum::<u64>() / 2
        {
            return Err(held - crowded);
        }
        known.reserved += bytes;
        Ok(())
    }

    /// Gives back what was reserved.
    pub fn unreserve(&self, bytes: u64) {
        self.known().reserved -= bytes;
    }

    /// How full it is.
    pub fn occupancy(&self) -> Occupancy {
        let known = self.known();
        Occupancy {
            bytes: known.bytes + known.reserved,
            limit: self.options.max_bytes,
            records: known.segments.values().map(Segment::records).sum(),
        }
    }

    /// A queue needs the record no more. Says whether there is something to [`Self::tend`] to.
    pub fn release(&self, queue: QueueIndex, seq: Seq) -> bool {
        let mut known = self.known();
        let Some((_, segment)) = known.segments.range_mut(..=seq.0).next_back() else {
            return false;
        };
        if seq >= segment.end {
            return false;
        }
        let index = (seq.0 - segment.header.first.0) as u32;
        if mutants::present(Mutant::ReleaseForAll) {
            segment
                .released
                .iter_mut()
                .for_each(|released| released.insert(index, index + 1));
        }
        segment.released[queue.0 as usize].insert(index, index + 1);
        let done = segment.is_released_by(queue.0 as usize);
        known.untidy |= done;
        done
    }

    /// A queue needs none of `from..to`.
    pub fn release_range(&self, queue: QueueIndex, from: Seq, to: Seq) {
        let mut known = self.known();
        known.untidy = true;
        for segment in known.segments.values_mut() {
            let (first, end) = (segment.header.first, segment.end);
            let (from, to) = (from.max(first), to.min(end));
            if from < to {
                let (from, to) = ((from.0 - first.0) as u32, (to.0 - first.0) as u32);
                segment.released[queue.0 as usize].insert(from, to);
            }
        }
    }

    /// Why a record is gone that a queue has not given back.
    pub fn why_gone(&self, seq: Seq) -> Gone {
        let known = self.known();
        let found = known
            .gone
            .iter()
            .find(|(from, to, _)| (*from..*to).contains(&seq));
        found.map_or(Gone::Damaged, |(_, _, why)| *why)
    }

    /// There is something to tend to.
    pub fn is_untidy(&self) -> bool {
        let known = self.known();
        known.untidy || !known.doomed.is_empty()
    }

    /// Deletes what may go. `before_delete` makes durable what queues have settled; `false`: not now.
    /// Says how many bytes are free.
    pub fn tend(&self, now_ms: i64, before_delete: &dyn Fn() -> bool) -> u64 {
        let mut freed = self.unlink();
        loop {
            let plan = {
                let mut known = self.known();
                known.untidy = false;
                known.plan(&self.options, now_ms)
            };
            if plan.roll && self.roll(now_ms) {
                continue;
            }
            if plan.victims.is_empty() {
                break;
            }
            if !before_delete() {
                self.known().untidy = true;
                return freed;
            }
            self.doom(&plan.victims);
            freed += self.unlink();
            if !plan.more {
                break;
            }
        }
        let mut known = self.known();
        (known.wanted, known.starved) = (0, 0);
        drop(known);
        freed
    }

    /// Begins a new segment, so that the newest may go. On a full disk the reserve is room enough for its
    /// header; it is taken back before the next record.
    fn roll(&self, now_ms: i64) -> bool {
        let begin = || lock(&self.writer).begin(self, now_ms);
        match begin() {
            Ok(()) => true,
            Err(error) => is_full(&error) && self.reserve.give_up().is_ok() && begin().is_ok(),
        }
    }

    /// Nobody sees these any more.
    fn doom(&self, victims: &[(u64, Option<Gone>)]) {
        for (key, why) in victims {
            let mut known = self.known();
            let Some(segment) = known.segments.remove(key) else {
                continue;
            };
            if let Some(why) = why {
                known.was_gone(&segment, *why);
            }
            known.forget_tenants(&segment);
            known.doomed.push(Doomed {
                name: segment.name.clone(),
                bytes: segment.bytes,
                impure: segment.impure,
            });
            drop(known);
            self.forget_segment(*key);
            let (first, end) = (segment.header.first.0, segment.end.0);
            let mut damage = lock(&self.damage);
            damage.records.retain(|seq| !(first..end).contains(seq));
            damage.footers.remove(key);
        }
    }

    /// Removes the files of what is doomed; those that the system keeps are tried again.
    fn unlink(&self) -> u64 {
        let doomed = std::mem::take(&mut self.known().doomed);
        let mut freed = 0;
        for file in doomed {
            let removed = match self.fs.remove(&file.name) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other,
            };
            // What makes its records void may go only when it is gone for good.
            let removed = removed.and_then(|()| {
                if file.impure {
                    self.fs.sync_dir()
                } else {
                    Ok(())
                }
            });
            match removed {
                Ok(()) => {
                    freed += file.bytes;
                    self.known().bytes -= file.bytes;
                }
                Err(_) => self.known().doomed.push(file),
            }
        }
        freed
    }
}

impl Known {
    /// There is nothing left that could make room by going.
    fn is_empty(&self) -> bool {
        self.doomed.is_empty() && self.segments.values().all(|segment| segment.span() == 0)
    }

    fn plan(&self, options: &StoreOptions, now_ms: i64) -> Plan {
        let mut plan = Plan::default();
        if self.doomed.iter().any(|file| file.impure) {
            return plan;
        }
        let missing = match self.wanted {
            0 => 0,
            wanted => (self.bytes + self.reserved + wanted).saturating_sub(options.max_bytes),
        };
        let missing = missing.max(self.starved);
        // It carries sequence and totals through a restart.
        let mut durable = self
            .segments
            .iter()
            .rev()
            .filter(|(_, segment)| segment.durable);
        let newest = durable.next().map(|(key, _)| key);
        let (mut found, mut held_by_impure) = (0, false);
        for (key, segment) in &self.segments {
            let why = segment.why_to_go(options, now_ms, found < missing);
            if Some(key) == newest {
                // One that all have given back may stay, if its room is not wanted.
                let wanted = why.is_some_and(|why| why == Some(Gone::TooOld)) || found < missing;
                plan.roll = why.is_some() && wanted && segment.span() > 0;
            } else if let Some(why) = why.filter(|_| !held_by_impure) {
                found += segment.bytes;
                plan.victims.push((*key, why));
                if segment.impure {
                    plan.more = true;
                    return plan;
                }
            }
            held_by_impure = segment.impure;
        }
        plan
    }

    pub(super) fn forget_tenants(&mut self, segment: &Segment) {
        for (tenant, bytes) in &segment.tenants {
            if let Some(held) = self.tenants.get_mut(tenant) {
                *held = held.saturating_sub(*bytes);
                if *held == 0 {
                    self.tenants.remove(tenant);
                }
            }
        }
    }

    /// Remembers why a segment's records are gone.
    pub(super) fn was_gone(&mut self, segment: &Segment, why: Gone) {
        let (from, to) = (segment.header.first, segment.end);
        match self.gone.back_mut() {
            Some(last) if last.2 == why && last.1 == from => last.1 = to,
            _ => self.gone.push_back((from, to, why)),
        }
        if self.gone.len() > GONE_MAX {
            self.gone.pop_front();
        }
    }
}

impl Segment {
    /// No queue that is required wants anything of it.
    fn is_free(&self, options: &StoreOptions) -> bool {
        let mut queues = options.required.iter().enumerate();
        queues.all(|(queue, required)| !required || self.is_released_by(queue))
    }

    /// It may go: with everybody's consent (`None`), or for a reason.
    #[allow(
        clippy::option_option,
        reason = "may it go, and what is to be told about it"
    )]
    fn why_to_go(
        &self,
        options: &StoreOptions,
        now_ms: i64,
        for_room: bool,
    ) -> Option<Option<Gone>> {
        if (0..self.released.len()).all(|queue| self.is_released_by(queue)) {
            return Some(None);
        }
        let age = now_ms.saturating_sub(self.arrivals_ms.1);
        if options.max_age_ms.is_some_and(|max| age > max) {
            return Some(Some(Gone::TooOld));
        }
        let given_up = options.on_full == OnFull::DropOldest || self.is_free(options);
        (for_room && given_up).then_some(Some(Gone::ForRoom))
    }
}
