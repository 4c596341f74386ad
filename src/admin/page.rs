//! The page: a report, rendered. Pure.
//!
//! It consists of parts with names. The first paint has them all, for browsers without scripts; then a small
//! script asks for the same parts each second and replaces those that changed. So each number is rendered in
//! one place only, here.

use std::collections::BTreeMap;

use serde::Serialize;

use super::html::Html;
use super::panels;
use super::queue_panel;
use crate::report::text::long;
use crate::report::verdict::is_failing;
use crate::report::words::{bytes, moment, percent, rate, short, time};
use crate::report::{DrainState, Finding, Level, QueuePart, Report};

/// What the page allows to be loaded: its own script, style and icon, and its own numbers.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
pub(super) const SCRIPT: &str = include_str!("assets/page.js");
pub(super) const STYLE: &str = include_str!("assets/page.css");
pub(super) const ICON: &str = include_str!("assets/icon.svg");

/// The parts of the page by their names, as the script gets them.
#[derive(Debug, Serialize)]
pub(super) struct Parts {
    /// What stands in the browser's tab.
    pub(super) title: String,
    /// HTML by the id of the element that holds it.
    pub(super) parts: BTreeMap<&'static str, String>,
}

/// The parts, in the order in which they stand.
fn parts(report: &Report) -> [(&'static str, Html); 5] {
    [
        ("about", about(report)),
        ("verdict", verdict(report)),
        ("tiles", tiles(report)),
        ("queues", queue_panel::queues(report)),
        ("panels", panels::panels(report)),
    ]
}

/// For the script.
pub(super) fn parts_of(report: &Report) -> Parts {
    let parts = parts(report).into_iter();
    Parts {
        title: title(report),
        parts: parts.map(|(id, html)| (id, html.into_string())).collect(),
    }
}

/// For a browser that comes for the first time.
pub(super) fn page(report: &Report) -> String {
    let [about, verdict, tiles, queues, panels] = parts(report).map(|(_, html)| html);
    let title = Html::text(&title(report));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\
         <link rel=\"icon\" href=\"icon.svg\"><link rel=\"stylesheet\" href=\"page.css\">\
         <script src=\"page.js\" defer></script></head><body>\
         <header><h1>Sluicegate</h1><p id=\"about\">{about}</p></header>\
         <p id=\"stale\" role=\"alert\" hidden></p><main>\
         <div id=\"verdict\" aria-live=\"polite\">{verdict}</div><div id=\"tiles\">{tiles}</div>\
         <div id=\"queues\">{queues}</div><div id=\"panels\">{panels}</div></main>\
         <footer><a href=\"api/v1/status\">this page as JSON</a> · <a href=\"metrics\">metrics</a> · \
         <a href=\"health\">health</a> · samples here are float samples, histograms and exemplars together\
         </footer></body></html>\n"
    )
}

/// A sign and a word for a level: colour is never the only signal.
fn level(level: Level) -> (&'static str, &'static str, &'static str) {
    match level {
        Level::Well => ("well", "●", "well"),
        Level::Attention => ("attention", "▲", "attention"),
        Level::Trouble => ("trouble", "■", "trouble"),
    }
}

fn title(report: &Report) -> String {
    let (_, sign, word) = level(report.verdict.level);
    format!("{sign} {word} · Sluicegate")
}

fn about(report: &Report) -> Html {
    Html::text(&format!(
        "{} · up {} · ack {} · {}",
        report.version,
        time(report.uptime_seconds),
        report.ack.mode,
        moment(report.now_ms, report.now_ms)
    ))
}

fn verdict(report: &Report) -> Html {
    let main = told(&report.verdict, "p");
    let also = report.also.iter().map(|finding| told(finding, "li"));
    let also: Html = also.collect();
    if report.also.is_empty() {
        return main;
    }
    main.and(&Html::element("ul", "also", &also))
}

fn told(finding: &Finding, element: &'static str) -> Html {
    let (class, sign, word) = level(finding.level);
    let sign = Html::titled("span", "sign", word, &Html::text(sign));
    Html::element(
        element,
        class,
        &sign.and(&Html::text(&format!(" {}", finding.text))),
    )
}

fn tiles(report: &Report) -> Html {
    let senders = &report.senders;
    let mut tiles = vec![tile(
        "In",
        &rate(senders.samples_per_second.last_10s),
        "samples/s",
        &format!(
            "{}/s over {}",
            rate(senders.samples_per_second.last_5m),
            long(report)
        ),
    )];
    if let [queue] = report.queues.as_slice() {
        let out = queue.out_per_second;
        let what = if queue.discards { "Thrown away" } else { "Out" };
        let under = format!("{}/s over {}", rate(out.last_5m), long(report));
        tiles.push(tile(what, &rate(out.last_10s), "samples/s", &under));
    }
    tiles.extend([waiting(report), behind(report), room(report), saved(report)]);
    tiles.into_iter().collect()
}

fn tile(name: &str, value: &str, unit: &str, under: &str) -> Html {
    // A unit that belongs to the number stands in it: `1.2 M`, `3 h 20 min`.
    let unit = Html::element("span", "unit", &Html::text(unit));
    let value = Html::text(value).and(&Html::markup(" ")).and(&unit);
    let inner = Html::element("h2", "name", &Html::text(name))
        .and(&Html::element("p", "value", &value))
        .and(&Html::element("p", "under", &Html::text(under)));
    Html::element("section", "tile", &inner)
}

/// The queue in which most waits: with several, each counts the same samples.
fn fullest(report: &Report) -> Option<&QueuePart> {
    report.queues.iter().max_by_key(|queue| queue.pending.total)
}

fn waiting(report: &Report) -> Html {
    let queue = fullest(report);
    let waits = queue.map_or(0, |queue| queue.pending.total);
    let under = match queue.map(|queue| queue.drain) {
        Some(drain) if drain.state == DrainState::Draining => {
            let seconds = drain.seconds.map_or_else(String::new, time);
            format!("drained in {seconds}")
        }
        Some(drain) if drain.state == DrainState::Growing => {
            "growing: more comes in than goes out".to_owned()
        }
        Some(drain) if drain.state == DrainState::Stopped => "nothing goes out".to_owned(),
        _ if waits == 0 => "nothing waits".to_owned(),
        _ if queue.is_some_and(|queue| is_failing(report, queue)) => {
            "the receiver takes none".to_owned()
        }
        _ => "on their way".to_owned(),
    };
    tile("Waiting", &short(waits), "samples", &under)
}

fn behind(report: &Report) -> Html {
    let lag = report.queues.iter().map(|queue| queue.lag_seconds);
    let lag = lag.fold(0.0, f64::max);
    tile("Behind", &time(lag), "", "age of the oldest that waits")
}

fn room(report: &Report) -> Html {
    let log = &report.log;
    let (value, under) = if report.ack.mode == "upstream" {
        (
            "–".to_owned(),
            "senders keep what is not delivered".to_owned(),
        )
    } else {
        let share = percent(log.bytes as f64 / log.limit_bytes.max(1) as f64);
        let value = log.room_seconds.map_or_else(|| "–".to_owned(), time);
        (
            value,
            format!("{share} of {} used", bytes(log.limit_bytes as f64)),
        )
    };
    tile("Outage it holds", &value, "", &under)
}

fn saved(report: &Report) -> Html {
    let saving = report.queues.iter().filter(|queue| !queue.discards);
    let best = saving.filter_map(|queue| Some((queue, queue.bytes.saved_share?)));
    let Some((queue, share)) = best.min_by(|one, other| one.1.total_cmp(&other.1)) else {
        return would_save(report)
            .unwrap_or_else(|| tile("Bytes saved", "–", "", "nothing was sent yet"));
    };
    let of = |per: Option<f64>| per.map_or_else(|| "–".to_owned(), |per| format!("{per:.1}"));
    let under = format!(
        "{} B a sample in, {} out",
        of(queue.bytes.per_sample_in),
        of(queue.bytes.per_sample_out)
    );
    tile("Bytes saved", &percent(share), "", &under)
}

/// Where nothing is sent, what sending would save, once that was measured.
fn would_save(report: &Report) -> Option<Html> {
    let mut shadows = report
        .queues
        .iter()
        .filter_map(|queue| queue.shadow.as_ref());
    let shadow = shadows.find(|shadow| !shadow.rows.is_empty())?;
    let saved = |protocol: &str| Some(shadow.row("target", protocol, "snappy")?.saved_share);
    let under = format!(
        "measured, by target in 1.0; with 2.0 {}",
        percent(saved("2.0")?)
    );
    Some(tile(
        "Bytes it would save",
        &percent(saved("1.0")?),
        "",
        &under,
    ))
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
