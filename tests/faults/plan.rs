//! What happens in a run, as a function of its seed.

use std::ops::RangeInclusive;
use std::time::Duration;

use fastrand::Rng;
use sluicegate::bench::sink::{Behaviour, Delay, Down, Fail, When};

/// Life ends this long after the start, or after the program accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillAfter {
    Start(Duration),
    Accepting(Duration),
}

/// How the receiver is while a life lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiver {
    Up,
    /// Connections are refused; it is back after half of the life, or only in a later one.
    Down {
        back: bool,
    },
    Slow(Duration),
    Failing {
        every: u64,
    },
}

/// One life of the program, and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cycle {
    pub(crate) kill: KillAfter,
    pub(crate) receiver: Receiver,
}

/// Draws the next cycle; `life_ms` is the range of a life that gets as far as accepting.
pub(crate) fn cycle(rng: &mut Rng, life_ms: RangeInclusive<u64>) -> Cycle {
    let kill = if rng.u8(..10) == 0 {
        KillAfter::Start(Duration::from_micros(rng.u64(..20_000)))
    } else {
        KillAfter::Accepting(Duration::from_millis(rng.u64(life_ms)))
    };
    let receiver = match rng.u8(..20) {
        0..=9 => Receiver::Up,
        10..=12 => Receiver::Down { back: true },
        13 => Receiver::Down { back: false },
        14..=16 => Receiver::Slow(Duration::from_millis(rng.u64(5..=50))),
        _ => Receiver::Failing {
            every: rng.u64(2..=7),
        },
    };
    Cycle { kill, receiver }
}

impl Receiver {
    /// The same, on top of what this receiver always does.
    pub(crate) fn behaviour(self, base: &Behaviour) -> Behaviour {
        let mut behaviour = base.clone();
        match self {
            Self::Up => {}
            Self::Down { .. } => behaviour.down = Some(Down::Refused),
            Self::Slow(wait) => {
                behaviour.delay = Some(Delay {
                    base: wait,
                    jitter: wait,
                    when: When::BeforeStoring,
                });
            }
            Self::Failing { every } => {
                behaviour.fail = vec![Fail {
                    every,
                    status: 503,
                    when: When::BeforeStoring,
                    retry_after_seconds: None,
                }];
            }
        }
        behaviour
    }
}

#[test]
fn a_seed_gives_the_same_cycles_again_and_every_receiver_is_among_them() {
    let draw = |seed| {
        let mut rng = Rng::with_seed(seed);
        (0..200)
            .map(|_| cycle(&mut rng, 5..=300))
            .collect::<Vec<_>>()
    };
    let cycles = draw(7);
    assert_eq!(cycles, draw(7));
    assert_ne!(cycles, draw(8));
    let some = |is: fn(&Cycle) -> bool| cycles.iter().any(is);
    assert!(some(|c| c.receiver == Receiver::Up));
    assert!(some(|c| matches!(
        c.receiver,
        Receiver::Down { back: true }
    )));
    assert!(some(|c| matches!(
        c.receiver,
        Receiver::Down { back: false }
    )));
    assert!(some(|c| matches!(c.receiver, Receiver::Slow(_))));
    assert!(some(|c| matches!(c.receiver, Receiver::Failing { .. })));
    assert!(some(|c| matches!(c.kill, KillAfter::Start(_))));
}
