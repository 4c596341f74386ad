//! The part of the page about what a queue that sends nowhere would save. Pure.

use super::html::Html;
use crate::report::advice::Advice;
use crate::report::shadow::{Shadow, ShadowRow, ShadowState};
use crate::report::shadow_text::{came, cost, gigabytes, way};
use crate::report::words::{count, percent};

/// The report.
pub(super) fn shadow(shadow: &Shadow) -> Html {
    let heading = Html::element("h3", "name", &Html::text("Shadow report"));
    let stage = Html::element("p", "stage", &Html::text(&stage(shadow)));
    let mut inner = heading.and(&stage);
    if shadow.state == ShadowState::Waiting {
        let why = "Each way of sending is tried on what comes in: what it would weigh, and what that costs.";
        inner = inner.and(&Html::element("p", "sum", &Html::text(why)));
    }
    if !shadow.rows.is_empty() {
        inner = inner
            .and(&Html::element(
                "p",
                "sum",
                &Html::text(&format!("Came in: {}.", came(shadow))),
            ))
            .and(&ways(shadow))
            .and(&advice(shadow))
            .and(&notes(shadow))
            .and(&Html::element(
                "p",
                "sum",
                &Html::text(&format!("Measured: {}.", cost(shadow))),
            ));
    }
    Html::element("div", "shadow", &inner)
}

/// How far it is; and what is most to be had, for those who read one line only.
fn stage(shadow: &Shadow) -> String {
    let stage = shadow.stage();
    let told = |cut: &str, protocol: &str, words: &str| {
        let row = shadow.row(cut, protocol, "snappy")?;
        Some(format!("{words} {}", percent(row.saved_share)))
    };
    let parts: Vec<_> = [
        told("target", "1.0", "saves by target"),
        told("target", "2.0", "with 2.0"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() {
        return stage;
    }
    format!("{}: {}", stage, parts.join(", "))
}

fn ways(shadow: &Shadow) -> Html {
    let cell = |value: &str| Html::element("td", "n", &Html::text(value));
    let row = |row: &ShadowRow| {
        let class = if row.saved_share >= 0.0 {
            "saved"
        } else {
            "more"
        };
        let saved = Html::element("span", class, &Html::text(&percent(row.saved_share)));
        let title = format!(
            "{} bytes for {} samples in {} requests; the same came as {} bytes",
            count(row.bytes),
            count(row.samples),
            count(row.requests),
            count(row.bytes_came)
        );
        let cells: Html = [
            Html::titled("th", "way", &title, &Html::text(&way(row))),
            cell(&format!("{:.1}", row.bytes_per_sample)),
            Html::element("td", "n", &saved),
            cell(&gigabytes(row.gb_per_month)),
            cell(&count(row.cpu_ns_per_sample.round() as u64)),
            cell(&count(row.samples)),
        ]
        .into_iter()
        .collect();
        Html::element("tr", "row", &cells)
    };
    let heads = [
        "The same sent",
        "B a sample",
        "Saved",
        "GB a month",
        "CPU ns a sample",
        "Samples",
    ];
    let heads: Html = heads
        .iter()
        .map(|head| Html::element("th", "head", &Html::text(head)))
        .collect();
    let head = Html::element("thead", "heads", &Html::element("tr", "row", &heads));
    let body: Html = shadow.rows.iter().map(row).collect();
    let table = head.and(&Html::element("tbody", "rows", &body));
    let table = Html::element("table", "ways", &table);
    let unknown = shadow.unknown.iter();
    let unknown: Html = unknown
        .map(|why| Html::element("p", "sum", &Html::text(why)))
        .collect();
    Html::element("div", "scroll", &table).and(&unknown)
}

fn advice(shadow: &Shadow) -> Html {
    let hops = [
        ("receiver", "Settings towards the receiver"),
        ("senders", "Settings of Prometheus towards Sluicegate"),
        ("outage", "Room for an hour without a receiver"),
    ];
    let line = |advice: &Advice| {
        let setting = Html::element("code", "setting", &Html::text(&advice.setting));
        let sum = Html::element("span", "note", &Html::text(&advice.sum));
        Html::element("li", "one", &setting.and(&sum))
    };
    let block = |(hop, name): (&str, &str)| {
        let lines: Html = shadow
            .advice
            .iter()
            .filter(|advice| advice.hop == hop)
            .map(line)
            .collect();
        let heading = Html::element("h3", "name", &Html::text(name));
        Html::element(
            "div",
            "block",
            &heading.and(&Html::element("ul", "advice", &lines)),
        )
    };
    Html::element("div", "blocks", &hops.into_iter().map(block).collect())
}

fn notes(shadow: &Shadow) -> Html {
    let notes: Html = shadow
        .notes
        .iter()
        .map(|note| Html::element("li", "one", &Html::text(note)))
        .collect();
    let heading = Html::element("h3", "name", &Html::text("What the numbers do not show"));
    heading.and(&Html::element("ul", "notes", &notes))
}
