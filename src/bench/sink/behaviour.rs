//! How the receiver misbehaves. Everything combines, and can be changed while it runs.

use std::str::FromStr;
use std::time::Duration;

use crate::bench::data::{RawLabel, splitmix64};

/// At which point of a request something happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// Before its samples are stored: they are not.
    #[default]
    BeforeStoring,
    /// After: they are, although the sender may think otherwise.
    AfterStoring,
}

/// A wait, and a random part on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    /// The least wait.
    pub base: Duration,
    /// At most so much more; drawn from the seed and the request's number.
    pub jitter: Duration,
    /// Where in the request.
    pub when: When,
}

/// Every `every`-th request is answered with `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fail {
    /// 1 is each request, 7 is the 7th, 14th, ...; 0 is none.
    pub every: u64,
    /// The status code.
    pub status: u16,
    /// Whether its samples are stored.
    pub when: When,
    /// Value of a Retry-After header.
    pub retry_after_seconds: Option<u64>,
}

/// Which series something concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeriesMatch {
    /// Series with this label and value.
    Label {
        /// The label's name.
        name: String,
        /// Its value.
        value: String,
    },
    /// So many of a million series, picked by a hash of their labels.
    PerMillion {
        /// Picks others for another seed.
        seed: u64,
        /// How many.
        series: u64,
    },
}

impl SeriesMatch {
    pub(super) fn matches(&self, labels: &[RawLabel<'_>], key: u128) -> bool {
        match self {
            Self::Label { name, value } => labels.contains(&(name.as_bytes(), value.as_bytes())),
            Self::PerMillion { seed, series } => {
                splitmix64(seed ^ key as u64 ^ 0x70) % 1_000_000 < *series
            }
        }
    }
}

impl FromStr for SeriesMatch {
    type Err = String;

    /// `name=value`, or `N/1000000`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(series) = text.strip_suffix("/1000000") {
            let series = series
                .parse()
                .map_err(|_| format!("not a number: {series:?}"))?;
            return Ok(Self::PerMillion { seed: 0, series });
        }
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("not name=value or N/1000000: {text:?}"))?;
        Ok(Self::Label {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// Requests that are held without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hang {
    /// Requests that contain such a series; `None` means all.
    pub series: Option<SeriesMatch>,
    /// Held so long, or, if `None`, until the behaviour no longer says hang.
    pub time: Option<Duration>,
    /// Whether the samples are stored before the wait.
    pub when: When,
}

/// What stays of a request of which a part is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// As Prometheus: nothing of a 1.0 request, the good part of a 2.0 request.
    #[default]
    AsPrometheus,
    /// The good part, as Thanos, Mimir and Cortex.
    Good,
    /// Nothing.
    Nothing,
}

/// Series that are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuse {
    /// Which.
    pub series: SeriesMatch,
    /// With which status: 400, or 409 for Thanos.
    pub status: u16,
    /// What happens to the others of the request.
    pub keep: Keep,
}

/// What is done with 2.0 requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum V2Support {
    /// They are stored.
    #[default]
    Stored,
    /// They are stored, and answered without Written headers: the sender cannot know.
    Silent,
    /// 415.
    Unsupported,
    /// 204 without Written headers, and nothing stored, as VictoriaMetrics does.
    Ignored,
}

/// In which way the receiver is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// Connections are refused; those that exist are closed.
    Refused,
    /// Connections are accepted and closed once a request came, without an answer.
    Silent,
}

/// A limit on the flow; what is above it gets 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Elements a second; as much again may come at once after a quiet second.
    pub samples_per_second: u64,
    /// Value of a Retry-After header.
    pub retry_after_seconds: Option<u64>,
}

/// Everything that is wrong with a receiver; the default is none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// Seed of jitter.
    pub seed: u64,
    /// Wait before the answer.
    pub delay: Option<Delay>,
    /// Answer some requests with an error; the first that fits wins.
    pub fail: Vec<Fail>,
    /// Hold some requests.
    pub hang: Option<Hang>,
    /// Not be there.
    pub down: Option<Down>,
    /// Read bodies no faster than this, bytes a second for each request.
    pub read_bytes_per_second: Option<u64>,
    /// 413 above so many compressed bytes.
    pub body_max_bytes: Option<u64>,
    /// 413 above so many elements.
    pub samples_max: Option<u64>,
    /// 429 above a rate.
    pub rate_limit: Option<RateLimit>,
    /// Refuse some series; the first that fits a series wins.
    pub refuse: Vec<Refuse>,
    /// What to do with 2.0.
    pub v2: V2Support,
    /// Accept `Content-Encoding: zstd` for 1.0, as VictoriaMetrics does.
    pub zstd: bool,
    /// Take samples only in order, without an out-of-order window: a timestamp at or before the
    /// newest of its series gets 400, unless it is the newest itself with the same bits.
    pub prometheus_rules: bool,
}

impl Behaviour {
    /// What the request with this number fails with, if it is to fail at this point.
    pub(super) fn failure(&self, number: u64, when: When) -> Option<&Fail> {
        let hit =
            |fail: &&Fail| fail.when == when && fail.every > 0 && number.is_multiple_of(fail.every);
        self.fail.iter().find(hit)
    }

    /// How long the request with this number waits at this point.
    pub(super) fn wait(&self, number: u64, when: When) -> Option<Duration> {
        let delay = self.delay.filter(|delay| delay.when == when)?;
        let jitter_us = delay.jitter.as_micros() as u64;
        let extra = splitmix64(self.seed ^ number) % (jitter_us + 1);
        Some(delay.base + Duration::from_micros(extra))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nth_request_fails_at_its_point() {
        let fail = Fail {
            every: 7,
            status: 503,
            when: When::AfterStoring,
            retry_after_seconds: None,
        };
        let behaviour = Behaviour {
            fail: vec![fail],
            ..Behaviour::default()
        };
        let hit = |number| behaviour.failure(number, When::AfterStoring).is_some();
        assert_eq!(
            (1..=21).filter(|number| hit(*number)).collect::<Vec<_>>(),
            [7, 14, 21]
        );
        assert_eq!(behaviour.failure(7, When::BeforeStoring), None);
    }

    #[test]
    fn jitter_is_bounded_and_the_same_for_the_same_seed() {
        let delay = Delay {
            base: Duration::from_millis(10),
            jitter: Duration::from_millis(5),
            when: When::BeforeStoring,
        };
        let behaviour = Behaviour {
            delay: Some(delay),
            ..Behaviour::default()
        };
        let waits: Vec<_> = (0..100)
            .filter_map(|number| behaviour.wait(number, delay.when))
            .collect();
        let range = delay.base..=delay.base + delay.jitter;
        assert!(waits.iter().all(|wait| range.contains(wait)));
        assert!(waits.windows(2).any(|pair| pair[0] != pair[1]));
        assert_eq!(behaviour.wait(5, delay.when), Some(waits[5]));
    }

    #[test]
    fn matches_are_written_as_label_or_share() {
        let label: SeriesMatch = "pod=a=b".parse().unwrap();
        assert!(label.matches(&[(b"pod", b"a=b")], 0) && !label.matches(&[(b"pod", b"a")], 0));
        let share: SeriesMatch = "250000/1000000".parse().unwrap();
        let hits = (0..10_000u128)
            .filter(|key| share.matches(&[], *key))
            .count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert!("pod".parse::<SeriesMatch>().is_err());
    }
}
