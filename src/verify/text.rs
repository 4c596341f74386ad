//! A report, as people read it. Pure.

use std::fmt::Write as _;

use super::diff::Kind;
use super::report::{Event, Report, SideReport, Verdict, WorstSeries};
use crate::report::words::{bytes, clean, count, percent, plural};

/// Events, metrics and series that are shown; JSON has more.
const EVENTS: usize = 20;
const METRICS: usize = 5;
const SERIES: usize = 3;
const LINES: usize = 10;
/// A series' text is cut there.
const WIDTH: usize = 160;

/// The whole report.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    for line in lines(report) {
        out.push_str(&line);
        out.push('\n');
    }
    out
}

fn lines(report: &Report) -> Vec<String> {
    let mut out = vec![
        side("from", &report.from),
        side("to", &report.to),
        window(report),
    ];
    let labels = report.added_labels.iter();
    let labels: Vec<_> = labels
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    if !labels.is_empty() {
        out.push(format!(
            "labels  {} put onto what --from has",
            clean(&labels.join(", "))
        ));
    }
    if !report.ignored_labels.is_empty() {
        let names = report.ignored_labels.join(", ");
        out.push(format!("ignored {}", clean(&names)));
    }
    out.push(String::new());
    out.extend(verdict(report));
    let days = days(report);
    let mut shown: Vec<_> = report.events.iter().collect();
    shown.sort_by_key(|event| std::cmp::Reverse(event.samples));
    let hidden = shown.split_off(shown.len().min(EVENTS));
    shown.sort_by_key(|event| event.span);
    for event in shown {
        out.push(String::new());
        out.extend(self::event(report, event, days));
    }
    let rest: u64 = hidden.iter().map(|event| event.samples).sum::<u64>() + report.more.samples;
    if rest > 0 {
        let events = hidden.len() as u64 + report.more.series;
        out.push(String::new());
        out.push(format!(
            "and {} more, with {} (-o json shows them)",
            count(events),
            plural(rest, "sample")
        ));
    }
    out.extend(not_compared(report));
    out.extend(notes(report));
    out
}

fn side(name: &str, side: &SideReport) -> String {
    let kind = match (&side.version, side.victoriametrics) {
        (_, true) => " (VictoriaMetrics)".to_owned(),
        (Some(version), _) if !version.is_empty() => format!(" ({version})"),
        _ => String::new(),
    };
    let traffic = format!(
        "{}, {}",
        plural(side.requests, "request"),
        bytes(side.bytes as f64)
    );
    format!("{name:<7} {}{kind}, {traffic}", clean(&side.url))
}

fn window(report: &Report) -> String {
    let (after, until) = (&report.window.after, &report.window.until);
    let how = match report.mode {
        "counts" => "counts of each series; values are not compared",
        _ => "every timestamp and value",
    };
    let text = |utc: &str| utc[..19].replace('T', " ");
    format!("window  {} to {} UTC, {how}", text(after), text(until))
}

fn verdict(report: &Report) -> Vec<String> {
    let compared = &report.compared;
    let all = format!(
        "{} of {} and {}",
        plural(compared.samples, "sample"),
        series(compared.series),
        plural(compared.metrics, "metric")
    );
    let what = match report.verdict {
        Verdict::NoGap => format!("no gap: {all} are at the receiver"),
        Verdict::Nothing => {
            "nothing to compare: --from has no sample in this window for what was asked".to_owned()
        }
        Verdict::NotAllCompared => format!("not all could be compared; no gap in the rest: {all}"),
        Verdict::Gaps | Verdict::Unfinished => sums(report, &all),
    };
    let mut out = Vec::new();
    if let Some(why) = &report.unfinished {
        out.push(format!("UNFINISHED: {}", clean(why)));
        out.push("what was compared until then:".to_owned());
    }
    out.push(what);
    out
}

fn sums(report: &Report, all: &str) -> String {
    let samples = report.compared.samples.max(1) as f64;
    let mut parts = Vec::new();
    if !report.missing.is_zero() {
        let share = percent(report.missing.samples as f64 / samples);
        parts.push(format!(
            "{} are missing ({share})",
            count(report.missing.samples)
        ));
    }
    if !report.different.is_zero() {
        parts.push(format!(
            "{} have another value",
            count(report.different.samples)
        ));
    }
    if !report.extra.is_zero() {
        let extra = plural(report.extra.samples, "sample");
        parts.push(format!("the receiver has {extra} that --from lacks"));
    }
    if parts.is_empty() {
        return format!("no gap: {all} are at the receiver");
    }
    let missing = match report.wholly_missing_series {
        0 => String::new(),
        n => format!("; of {} nothing arrived", series(n)),
    };
    format!("GAPS: of {all} {}{missing}", parts.join(", "))
}

fn series(n: u64) -> String {
    format!("{} series", count(n))
}

/// Whether days must be told apart.
fn days(report: &Report) -> bool {
    report.window.after[..10] != report.window.until[..10]
}

fn span(first: &str, last: &str, days: bool) -> String {
    let text = |utc: &str| {
        let from = if days { 0 } else { 11 };
        utc[from..19].replace('T', " ")
    };
    let (first, last) = (text(first), text(last));
    if first == last {
        return first;
    }
    format!("{first}–{last}")
}

fn event(report: &Report, event: &Event, days: bool) -> Vec<String> {
    let all = event.series == report.compared.series && event.series > 1;
    let who = if all {
        format!("all {}", series(event.series))
    } else {
        series(event.series)
    };
    let samples = plural(event.samples, "sample");
    let what = match event.kind {
        Kind::Missing => format!("{who} lack {samples}"),
        Kind::Extra => format!("{who} have {samples} that --from lacks"),
        Kind::Different => format!("{who} have {samples} with another value"),
    };
    let when = span(&event.first, &event.last, days);
    let mut out = vec![format!("{when}  {what}")];
    if event.at_the_end && event.kind == Kind::Missing {
        out.push(
            "    up to the end of the window: perhaps still on its way. Ask again later, or with a longer --settle"
                .to_owned(),
        );
    }
    if event.at_the_beginning && !event.at_the_end {
        out.push("    from the beginning of the window: it may have begun before".to_owned());
    }
    let metrics = event.metrics.iter().take(METRICS);
    if event.metrics.len() > 1 {
        let width = metrics
            .clone()
            .map(|m| m.metric.chars().count())
            .max()
            .unwrap_or(0);
        for metric in metrics {
            out.push(format!(
                "    {:<width$}  {}, {}",
                clean(&metric.metric),
                series(metric.series),
                plural(metric.samples, "sample")
            ));
        }
        let more = (event.metrics.len().saturating_sub(METRICS)) as u64 + event.more_metrics;
        if more > 0 {
            out.push(format!("    and {}", plural(more, "further metric")));
        }
    }
    for worst in event.worst.iter().take(SERIES) {
        out.push(format!("    {}", self::worst(worst, days)));
    }
    out
}

fn worst(worst: &WorstSeries, days: bool) -> String {
    let mut name = clean(&worst.series);
    if name.chars().count() > WIDTH {
        name = name.chars().take(WIDTH).collect::<String>() + "…";
    }
    let mut text = format!(
        "{name}: {}, {}",
        plural(worst.samples, "sample"),
        span(&worst.first, &worst.last, days)
    );
    if let Some((here, there)) = &worst.values {
        write!(text, ", {here} at --from, {there} at --to").expect("a string takes it");
    }
    text
}

fn not_compared(report: &Report) -> Vec<String> {
    if report.not_compared.is_empty() {
        return Vec::new();
    }
    let mut out = vec![String::new(), "NOT COMPARED:".to_owned()];
    let days = days(report);
    for lost in report.not_compared.iter().take(LINES) {
        let when = span(&lost.after, &lost.until, days);
        out.push(format!("    {} {when}: {}", clean(&lost.metric), lost.why));
    }
    let more = report.not_compared.len().saturating_sub(LINES) as u64 + report.more_not_compared;
    if more > 0 {
        out.push(format!("    and {} more", count(more)));
    }
    out
}

fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    for hint in &report.hints {
        notes.push(format!("hint: {}", clean(hint)));
    }
    for warning in report.warnings.iter().take(LINES) {
        notes.push(format!("warning: {warning}"));
    }
    let left_out = &report.left_out;
    if left_out.nans > 0 {
        let n = plural(left_out.nans, "NaN");
        notes.push(format!(
            "left out: {n}; VictoriaMetrics stores none, and shows stale markers so"
        ));
    }
    if left_out.histograms > 0 {
        let n = plural(left_out.histograms, "native histogram");
        notes.push(format!("left out: {n}; VictoriaMetrics stores none"));
    }
    if report.tolerance > 0.0 && report.mode == "samples" {
        notes.push(format!(
            "values within {:e} of each other count as the same",
            report.tolerance
        ));
    }
    if report.repeated_samples > 0 {
        let n = plural(report.repeated_samples, "sample");
        notes.push(format!(
            "the receiver holds {n} more than once; that is no gap"
        ));
    }
    let unseen = report.extra.is_zero() && report.only_to_series > 0;
    if unseen && report.added_labels.is_empty() {
        notes.push(format!(
            "{} are at the receiver only; without a label that marks the sender's they are left alone",
            series(report.only_to_series)
        ));
    }
    if !notes.is_empty() {
        notes.insert(0, String::new());
    }
    notes
}
