//! What the receiver does in a demo, and when. Pure: a table of scenes.

use std::time::Duration;

use crate::bench::sink::{Behaviour, Delay, Down, RateLimit};

/// How far away the receiver is.
pub(super) const NEAR: Delay = delay(100, 50);
/// How long it takes when it is slow.
pub(super) const SLOW: Delay = delay(800, 100);
/// What it asks for with a 429.
pub(super) const RETRY_AFTER_SECONDS: u64 = 2;

const fn delay(base_ms: u64, jitter_ms: u64) -> Delay {
    Delay {
        base: Duration::from_millis(base_ms),
        jitter: Duration::from_millis(jitter_ms),
        when: crate::bench::sink::When::BeforeStoring,
    }
}

/// A part of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scene {
    /// All is well, at first.
    First,
    /// Connections are refused.
    Down,
    /// It is there again.
    Back,
    /// Every answer takes long.
    Slow,
    /// Not any more.
    Quick,
    /// 429 above a rate.
    Limited,
    /// Not any more, until the end.
    Last,
}

/// The scenes, and how much of the script each takes, in parts of [`PARTS`].
const SCENES: [(Scene, u32); 7] = [
    (Scene::First, 11),
    (Scene::Down, 12),
    (Scene::Back, 15),
    (Scene::Slow, 20),
    (Scene::Quick, 9),
    (Scene::Limited, 11),
    (Scene::Last, 7),
];
const PARTS: u32 = 85;

impl Scene {
    /// How the receiver behaves in it, while `flow` samples come a second.
    pub(super) fn behaviour(self, flow: u64) -> Behaviour {
        let near = Behaviour {
            delay: Some(NEAR),
            ..Behaviour::default()
        };
        match self {
            Self::First | Self::Back | Self::Quick | Self::Last => near,
            Self::Down => Behaviour {
                down: Some(Down::Refused),
                ..near
            },
            Self::Slow => Behaviour {
                delay: Some(SLOW),
                ..near
            },
            Self::Limited => Behaviour {
                rate_limit: Some(RateLimit {
                    samples_per_second: limit(flow),
                    retry_after_seconds: Some(RETRY_AFTER_SECONDS),
                }),
                ..near
            },
        }
    }

    /// What was wrong is over: what waits is caught up with.
    pub(super) fn is_recovery(self) -> bool {
        matches!(self, Self::Back | Self::Quick | Self::Last)
    }
}

/// Half of what comes, so that 429 is answered soon whatever the load is, after the burst that limits allow.
pub(super) fn limit(flow: u64) -> u64 {
    let limit = (flow / 2).max(10);
    // Two digits: it is a number that somebody has set.
    let unit = 10_u64.pow(limit.ilog10() - 1);
    limit / unit * unit
}

/// The scenes with their moments.
#[derive(Debug)]
pub(super) struct Script {
    /// When each begins, and what it is.
    pub(super) scenes: Vec<(Duration, Scene)>,
    /// When the last one is over.
    pub(super) length: Duration,
}

impl Script {
    /// All scenes within `length`.
    pub(super) fn new(length: Duration) -> Self {
        let mut begins = 0;
        let scenes = SCENES.map(|(scene, parts)| {
            let at = length * begins / PARTS;
            begins += parts;
            (at, scene)
        });
        Self {
            scenes: scenes.to_vec(),
            length,
        }
    }

    /// When the scene behind this one begins, or the script ends.
    pub(super) fn end_of(&self, at: usize) -> Duration {
        let next = self.scenes.get(at + 1);
        next.map_or(self.length, |(begins, _)| *begins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenes_fill_the_script_in_order() {
        let script = Script::new(Duration::from_secs(85));
        let begins: Vec<u64> = script.scenes.iter().map(|(at, _)| at.as_secs()).collect();
        assert_eq!(begins, [0, 11, 23, 38, 58, 67, 78]);
        let end = script.end_of(script.scenes.len() - 1);
        assert_eq!(end, script.length);
        assert_eq!(script.end_of(0), Duration::from_secs(11));
        let parts: u32 = SCENES.iter().map(|(_, parts)| parts).sum();
        assert_eq!(parts, PARTS);
    }

    #[test]
    fn every_trouble_is_followed_by_a_receiver_that_is_well() {
        for pair in SCENES.windows(2) {
            let (before, after) = (pair[0].0.behaviour(10_000), pair[1].0.behaviour(10_000));
            let is_well = |behaviour: &Behaviour| *behaviour == Scene::First.behaviour(10_000);
            assert_ne!(is_well(&before), is_well(&after), "{pair:?}");
            assert_eq!(pair[1].0.is_recovery(), is_well(&after), "{pair:?}");
        }
        let last = SCENES[SCENES.len() - 1].0;
        assert!(
            last.is_recovery(),
            "the end finds a receiver that takes it all"
        );
    }

    #[test]
    fn the_limit_is_below_what_comes() {
        for (flow, expected) in [
            (13_666, 6_800),
            (16_400, 8_200),
            (820, 410),
            (27, 13),
            (1, 10),
        ] {
            assert_eq!(limit(flow), expected, "{flow}");
        }
    }
}
