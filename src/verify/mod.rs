//! `sluicegate verify`: whether a receiver holds what a Prometheus scraped, found out by query.
//!
//! Both sides are asked through Prometheus' HTTP API, metric by metric and slice of time by slice of time,
//! so that neither side and not this process ever holds much. What is asked for, and why:
//!
//! * **Raw samples.** An instant query of a range selector (`x[5m]`) gives stored samples with their own
//!   timestamps and values. Nothing is interpolated, and no lookback plays a part. A slice is `after < t <=
//!   until`, and a sample that stands at `after` is thrown away here: a Prometheus before 3.0 gives it
//!   (`[after, until]`), a later one does not, nor does VictoriaMetrics.
//! * **Counts**, with `--mode counts`: `count_over_time(x[…])` costs a number for each series instead of
//!   all its samples. The range is made a millisecond shorter for a side whose ranges are closed on the left
//!   ([`side`] finds out by a subquery that needs no data). Where counts differ the raw samples of that
//!   slice are fetched. A sample that was replaced by another one is not seen, nor is a changed value.
//! * **Labels.** A sender adds its external labels to what it sends. They are read from the
//!   configuration that `--from` shows, and put onto its series where they have no such label of their own, as
//!   Prometheus does. They are also what tells this sender's series from others at the receiver.
//!
//! What a query cannot show: stale markers (Prometheus' API leaves them out; VictoriaMetrics gives them as
//! `NaN`, which is left out here), exemplars, metadata, start times, the bits of a NaN, the counter reset hint
//! of a histogram. VictoriaMetrics stores no other NaN and no native histogram: they are left out and counted,
//! and of other floats it keeps about 12 digits.
//!
//! In the order of data: [`plan`] says what is asked, [`side`] asks, [`answer`] reads, [`series`] matches,
//! [`diff`] compares, [`tracker`] and [`gaps`] sum up, [`report`] and [`text`] say it. [`compare`] leads
//! through it, [`cli`] is the command.

mod answer;
pub mod cli;
mod compare;
mod diff;
mod gaps;
mod plan;
mod report;
mod series;
mod side;
mod text;
mod totals;
mod tracker;

#[cfg(test)]
mod gaps_tests;
