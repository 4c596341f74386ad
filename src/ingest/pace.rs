//! How slowly a body may come. Pure.
//!
//! | rule | closed |
//! |---|---|
//! | deadline | what is not complete 25 s after its headers: Prometheus gives up at 30 s |
//! | rate | after 5 s of reading, what has come with less than 4 KiB/s |
//! | pressure | while others wait for memory, what brought less than 16 KiB in half a second |
//!
//! Time in which we did not read, because the body itself waited for memory, is not held against it.

use std::time::Duration;

use crate::clock::Instant;

/// Time in which a whole body must arrive: below the 30 s after which Prometheus gives up.
pub(super) const DEADLINE: Duration = Duration::from_secs(25);
/// For so long it may come as slowly as it likes.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes a second, from the beginning of its reading. A slow link of a branch office has more.
const RATE: f64 = 4096.0;
/// How often a body that does not come is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// What drips brings less between two looks.
const DRIP: u64 = 16 << 10;

/// Why a body is not waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// The deadline is over.
    Deadline,
    /// It came below the least rate.
    Rate,
    /// It dripped while others waited for the memory it held.
    Pressure,
}

impl Slow {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Deadline, Self::Rate, Self::Pressure];

    /// The value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "body_timeout",
            Self::Rate => "body_rate",
            Self::Pressure => "body_pressure",
        }
    }
}

/// How a body has come so far.
#[derive(Debug)]
pub(super) struct Pace {
    deadline: Instant,
    /// Reading began, later by the time in which we did not read.
    reading: Instant,
    received: u64,
    /// The last look, and what there was then.
    looked: (Instant, u64),
    drips: bool,
}

impl Pace {
    /// Of a request whose headers were complete at `began`, and whose body is read from `now` on.
    pub(super) fn new(began: Instant, now: Instant) -> Self {
        Self {
            deadline: began + DEADLINE,
            reading: now,
            received: 0,
            looked: (now, 0),
            drips: false,
        }
    }

    /// When it is to be looked at next, if nothing comes.
    pub(super) fn next_look(&self) -> Instant {
        (self.looked.0 + LOOK).min(self.deadline)
    }

    /// When it has to be complete.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// So many bytes came.
    pub(super) fn came(&mut self, bytes: u64) {
        self.received += bytes;
    }

    /// We did not read for so long.
    pub(super) fn paused(&mut self, time: Duration) {
        self.reading += time;
        self.looked.0 += time;
    }

    /// It came drop by drop when it was looked at last.
    pub(super) fn drips(&self) -> bool {
        self.drips
    }

    /// Looks at it; `pressed` while others wait for memory.
    pub(super) fn look(&mut self, now: Instant, pressed: bool) -> Result<(), Slow> {
        if now >= self.deadline {
            return Err(Slow::Deadline);
        }
        if now - self.looked.0 < LOOK {
            return Ok(());
        }
        self.drips = self.received - self.looked.1 < DRIP;
        self.looked = (now, self.received);
        let reading = now - self.reading;
        if reading >= GRACE && (self.received as f64) < RATE * reading.as_secs_f64() {
            return Err(Slow::Rate);
        }
        if pressed && self.drips {
            return Err(Slow::Pressure);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that come each tenth of a second, until it ends in an error: after how many seconds, and which.
    fn ends(bytes: u64, pressed: bool) -> (f64, Slow) {
        let start = Instant::now();
        let mut pace = Pace::new(start, start);
        for tenth in 1..1_000 {
            pace.came(bytes);
            let now = start + Duration::from_millis(tenth * 100);
            if let Err(slow) = pace.look(now, pressed) {
                return ((now - start).as_secs_f64(), slow);
            }
        }
        panic!("it never ends");
    }

    #[test]
    fn a_dripping_body_ends_soon_and_any_other_at_the_deadline() {
        assert_eq!(ends(0, false), (5.0, Slow::Rate));
        assert_eq!(ends(1, false), (5.0, Slow::Rate));
        assert_eq!(ends(400, false), (5.0, Slow::Rate));
        assert_eq!(ends(420, false), (25.0, Slow::Deadline));
        assert_eq!(ends(1 << 20, false), (25.0, Slow::Deadline));
    }

    #[test]
    fn under_pressure_what_drips_ends_at_once_and_what_flows_does_not() {
        assert_eq!(ends(1_000, true), (0.5, Slow::Pressure));
        assert_eq!(ends(4 << 10, true), (25.0, Slow::Deadline));
    }

    #[test]
    fn time_in_which_we_did_not_read_does_not_count() {
        let start = Instant::now();
        let mut pace = Pace::new(start, start);
        pace.came(4 << 10);
        let pause = Duration::from_secs(20);
        pace.paused(pause);
        assert_eq!(pace.look(start + pause, true), Ok(()));
        let later = start + pause + Duration::from_millis(499);
        assert_eq!(pace.look(later, true), Ok(()));
        let later = start + pause + LOOK;
        assert_eq!(pace.look(later, true), Err(Slow::Pressure));
        assert_eq!(pace.look(start + DEADLINE, false), Err(Slow::Deadline));
    }

    #[test]
    fn something_that_came_late_makes_up_for_it() {
        let start = Instant::now();
        let mut pace = Pace::new(start, start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pace.look(at(4), false), Ok(()));
        assert!(pace.drips());
        pace.came(100 << 10);
        assert_eq!(pace.look(at(6), false), Ok(()));
        assert!(!pace.drips());
    }
}
