//! Many runs put together as the few events they come from. Pure.
//!
//! An outage takes samples of every series between two moments, but each series notices it at its own
//! scrapes: its first lost sample is up to a scrape interval later than the moment, and so at the end. So runs
//! belong together when they begin within an interval of each other and end so. A run that has nothing agreed
//! on before it (the series began in the outage) may begin anywhere inside, and one with nothing behind it
//! may end anywhere.

use std::collections::{BTreeMap, HashSet};

use super::diff::{Kind, Run};
use super::series::short;

/// An event is told by this many of its series.
const WORST: usize = 5;
/// So many events are kept apart. With more it is noise, and what is over is only summed up.
const GROUPS: usize = 2000;
/// How far apart beginnings or ends may be, in milliseconds, whatever the interval.
const SLACK: (i64, i64) = (1500, 600_000);

/// What happened to many series at once.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) kind: Kind,
    /// The earliest and the latest of the first samples.
    firsts: (i64, i64),
    /// The earliest and the latest of the last ones.
    lasts: (i64, i64),
    step: i64,
    opens: bool,
    ends: bool,
    series: HashSet<u64>,
    pub(super) samples: u64,
    /// Series and samples by metric.
    pub(super) metrics: BTreeMap<String, (u64, u64)>,
    /// The series with the most samples.
    pub(super) worst: Vec<(String, Run)>,
}

/// All events so far.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    groups: Vec<Group>,
    /// The group that took the last run.
    last: usize,
    /// Runs and samples that are in no group, by kind.
    pub(super) over: [(u64, u64); 3],
    series: [HashSet<u64>; 3],
    samples: [u64; 3],
}

impl Gaps {
    /// Adds the runs of a metric; closed ones come first.
    pub(super) fn add(&mut self, metric: &str, runs: Vec<(String, Run)>) {
        for (series, run) in runs {
            self.series[run.kind as usize].insert(short(&series));
            self.samples[run.kind as usize] += run.samples;
            let single = Group::of(metric, series, &run);
            let fits = |group: &Group| group.fits(&single);
            let at = if self.groups.get(self.last).is_some_and(fits) {
                Some(self.last)
            } else {
                let fitting = self.groups.iter().enumerate().filter(|(_, g)| fits(g));
                // The narrowest says most.
                fitting
                    .min_by_key(|(_, g)| g.last() - g.first())
                    .map(|(at, _)| at)
            };
            match at {
                Some(at) => {
                    self.groups[at].merge(single);
                    self.last = at;
                }
                None if self.groups.len() < GROUPS => {
                    self.last = self.groups.len();
                    self.groups.push(single);
                }
                None => {
                    let over = &mut self.over[run.kind as usize];
                    *over = (over.0 + 1, over.1 + run.samples);
                }
            }
        }
    }

    /// Series and samples of a kind.
    pub(super) fn total(&self, kind: Kind) -> (u64, u64) {
        let at = kind as usize;
        (self.series[at].len() as u64, self.samples[at])
    }

    /// The events in the order of time, after joining those that only the order of their coming kept apart.
    pub(super) fn groups(&mut self) -> &[Group] {
        let mut groups = std::mem::take(&mut self.groups);
        groups.sort_by_key(|group| (u8::from(group.opens) + u8::from(group.ends), group.first()));
        for group in groups {
            let fitting = self.groups.iter_mut().filter(|known| known.fits(&group));
            match fitting.min_by_key(|known| known.last() - known.first()) {
                Some(known) => known.merge(group),
                None => self.groups.push(group),
            }
        }
        self.groups
            .sort_by_key(|group| (group.first(), group.kind, group.last()));
        self.last = 0;
        &self.groups
    }
}

impl Group {
    fn of(metric: &str, series: String, run: &Run) -> Self {
        Self {
            kind: run.kind,
            firsts: (run.first, run.first),
            lasts: (run.last, run.last),
            step: run.step,
            opens: run.opens,
            ends: run.ends,
            series: HashSet::from([short(&series)]),
            samples: run.samples,
            metrics: BTreeMap::from([(metric.to_owned(), (1, run.samples))]),
            worst: vec![(series, *run)],
        }
    }

    /// Timestamp of the first sample.
    pub(super) fn first(&self) -> i64 {
        self.firsts.0
    }

    /// Timestamp of the last sample.
    pub(super) fn last(&self) -> i64 {
        self.lasts.1
    }

    /// How many series it has.
    pub(super) fn series(&self) -> u64 {
        self.series.len() as u64
    }

    /// Nothing agreed on stands behind it, in any of its series.
    pub(super) fn ends(&self) -> bool {
        self.ends
    }

    /// Nothing agreed on stands before it, in any of its series.
    pub(super) fn opens(&self) -> bool {
        self.opens
    }

    /// Time between two samples, of the slowest series.
    pub(super) fn step(&self) -> i64 {
        self.step
    }

    fn fits(&self, other: &Self) -> bool {
        let slack = self.step.max(other.step).clamp(SLACK.0, SLACK.1);
        let meet = other.first() <= self.last() + slack && other.last() >= self.first() - slack;
        let together = |a: (i64, i64), b: (i64, i64)| a.0.max(a.1).max(b.1) - a.0.min(b.0) <= slack;
        let begin = match (self.opens, other.opens) {
            (false, false) => together(self.firsts, other.firsts),
            (false, true) => other.first() >= self.first() - slack,
            (true, false) => self.first() >= other.first() - slack,
            (true, true) => true,
        };
        let end = match (self.ends, other.ends) {
            (false, false) => together(self.lasts, other.lasts),
            (false, true) => other.last() <= self.last() + slack,
            (true, false) => self.last() <= other.last() + slack,
            (true, true) => true,
        };
        self.kind == other.kind
            && meet
            && begin
            && end
            && (self.is_bound(other) || other.is_bound(self))
    }

    /// Of two that are open on the same side, one must lie within the other.
    fn is_bound(&self, by: &Self) -> bool {
        let slack = self.step.max(by.step).clamp(SLACK.0, SLACK.1);
        let opens = !(self.opens && by.opens) || self.first() >= by.first() - slack;
        let ends = !(self.ends && by.ends) || self.last() <= by.last() + slack;
        opens && ends
    }

    fn merge(&mut self, other: Self) {
        let wider = |a: (i64, i64), b: (i64, i64)| (a.0.min(b.0), a.1.max(b.1));
        self.firsts = match (self.opens, other.opens) {
            // Only one that is bound says when it began.
            (false, true) => (self.firsts.0.min(other.firsts.0), self.firsts.1),
            (true, false) => (self.firsts.0.min(other.firsts.0), other.firsts.1),
            _ => wider(self.firsts, other.firsts),
        };
        self.lasts = match (self.ends, other.ends) {
            (false, true) => (self.lasts.0, self.lasts.1.max(other.lasts.1)),
            (true, false) => (other.lasts.0, self.lasts.1.max(other.lasts.1)),
            _ => wider(self.lasts, other.lasts),
        };
        self.opens &= other.opens;
        self.ends &= other.ends;
        self.step = self.step.max(other.step);
        self.samples += other.samples;
        for (metric, (series, samples)) in other.metrics {
            let sum = self.metrics.entry(metric).or_default();
            *sum = (sum.0 + series, sum.1 + samples);
        }
        self.series.extend(other.series);
        for (series, run) in other.worst {
            self.note(series, run);
        }
    }

    fn note(&mut self, series: String, run: Run) {
        let at = self
            .worst
            .partition_point(|(_, known)| known.samples >= run.samples);
        if at < WORST {
            self.worst.insert(at, (series, run));
            self.worst.truncate(WORST);
        }
    }
}
