//! What became of the attempts of a queue, kept for people: answers by code, time they took, latest errors,
//! and since when nothing succeeds. Pure and bounded: time comes in as an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Latencies are told of this time, in as many parts.
const PART: Duration = Duration::from_secs(60);
const PARTS: usize = 5;
/// Classes of latency: four to each doubling, from half a millisecond to some five minutes.
const CLASSES: usize = 78;
const LEAST_SECONDS: f64 = 0.0005;
const PER_DOUBLING: f64 = 4.0;
/// Errors kept, and characters of each.
const ERRORS: usize = 16;
const ERROR_CHARS: usize = 300;
/// Codes come from a closed set; should that ever change, memory does not.
const CODES: usize = 64;

/// Answers of one code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// How many there were.
    pub count: u64,
    /// When the last one came: wall clock, milliseconds.
    pub last_ms: i64,
}

/// Since when nothing succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// When the first of the row failed: wall clock, milliseconds.
    pub since_ms: i64,
    /// How many attempts failed.
    pub attempts: u64,
    /// The latest code, or how it failed.
    pub code: String,
    /// When the first of this code failed, with no other between.
    pub code_since_ms: i64,
    /// The latest reason in words.
    pub why: String,
}

/// An error, and how often it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// When it came first: wall clock, milliseconds.
    pub first_ms: i64,
    /// When it came last.
    pub last_ms: i64,
    /// How often.
    pub count: u64,
    /// What it was: at most 300 characters.
    pub what: String,
}

/// Everything that is kept.
#[derive(Clone, Debug)]
pub struct Attempts {
    codes: BTreeMap<String, Answers>,
    failing: Option<Failing>,
    last_success_ms: Option<i64>,
    errors: VecDeque<Error>,
    parts: VecDeque<[u32; CLASSES]>,
    part_began: Instant,
    sent_bytes: u64,
    settled_bytes: u64,
}

impl Attempts {
    /// Nothing yet.
    pub fn new(now: Instant) -> Self {
        Self {
            codes: BTreeMap::new(),
            failing: None,
            last_success_ms: None,
            errors: VecDeque::new(),
            parts: VecDeque::from([[0; CLASSES]]),
            part_began: now,
            sent_bytes: 0,
            settled_bytes: 0,
        }
    }

    /// An attempt ended with this code, or in this way.
    pub fn ended(&mut self, code: &str, took: Duration, now: Instant, now_ms: i64) {
        if self.codes.contains_key(code) || self.codes.len() < CODES {
            let answers = self.codes.entry(code.to_owned()).or_default();
            answers.count += 1;
            answers.last_ms = now_ms;
        }
        self.turn(now);
        if let Some(part) = self.parts.back_mut() {
            part[class_of(took)] += 1;
        }
    }

    /// Bytes went out.
    pub fn sent(&mut self, bytes: u64) {
        self.sent_bytes += bytes;
    }

    /// The receiver did its part: it took a batch of so many bytes, or refused it for good.
    pub fn succeeded(&mut self, bytes: u64, now_ms: i64) {
        self.settled_bytes += bytes;
        self.failing = None;
        self.last_success_ms = Some(now_ms);
    }

    /// The attempt has to be made again.
    pub fn failed(&mut self, code: &str, why: &str, now_ms: i64) {
        let failing = self.failing.get_or_insert_with(|| Failing {
            since_ms: now_ms,
            attempts: 0,
            code: String::new(),
            code_since_ms: now_ms,
            why: String::new(),
        });
        failing.attempts += 1;
        if failing.code != code {
            code.clone_into(&mut failing.code);
            failing.code_since_ms = now_ms;
        }
        failing.why = shortened(why);
    }

    /// Something to be read by a person.
    pub fn error(&mut self, what: &str, now_ms: i64) {
        let what = shortened(what);
        let known = self.errors.iter().position(|error| error.what == what);
        let mut error = known
            .and_then(|at| self.errors.remove(at))
            .unwrap_or(Error {
                first_ms: now_ms,
                last_ms: now_ms,
                count: 0,
                what,
            });
        error.count += 1;
        error.last_ms = now_ms;
        // The latest first; what came longest ago goes.
        self.errors.push_front(error);
        self.errors.truncate(ERRORS);
    }

    /// By code.
    pub fn codes(&self) -> &BTreeMap<String, Answers> {
        &self.codes
    }

    /// Since when nothing succeeds, if so.
    pub fn failing(&self) -> Option<&Failing> {
        self.failing.as_ref()
    }

    /// When the receiver last did its part.
    pub fn last_success_ms(&self) -> Option<i64> {
        self.last_success_ms
    }

    /// The latest errors, the latest first.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.errors.iter()
    }

    /// Compressed bytes of all attempts.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Compressed bytes of those attempts that settled a batch.
    pub fn settled_bytes(&self) -> u64 {
        self.settled_bytes
    }

    /// The time that this share of the attempts of the last five minutes did not exceed, by a tenth more or
    /// less; `None` without any.
    pub fn latency(&mut self, share: f64, now: Instant) -> Option<Duration> {
        self.turn(now);
        let mut classes = [0u64; CLASSES];
        for part in &self.parts {
            let pairs = classes.iter_mut().zip(part);
            pairs.for_each(|(sum, count)| *sum += u64::from(*count));
        }
        let all: u64 = classes.iter().sum();
        let wanted = (all as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let class = classes.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        class.map(middle_of)
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.part_began).as_secs() / PART.as_secs();
        for _ in 0..passed.min(PARTS as u64) {
            self.parts.push_back([0; CLASSES]);
        }
        self.part_began += PART * u32::try_from(passed).unwrap_or(u32::MAX);
        while self.parts.len() > PARTS {
            self.parts.pop_front();
        }
    }
}

fn class_of(took: Duration) -> usize {
    let doublings = (took.as_secs_f64() / LEAST_SECONDS).max(1.0).log2();
    ((doublings * PER_DOUBLING) as usize).min(CLASSES - 1)
}

fn middle_of(class: usize) -> Duration {
    Duration::from_secs_f64(LEAST_SECONDS * ((class as f64 + 0.5) / PER_DOUBLING).exp2())
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= ERROR_CHARS {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(ERROR_CHARS - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
#[path = "attempts_tests.rs"]
mod tests;
