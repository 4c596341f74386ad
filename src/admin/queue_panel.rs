//! The part of the page about queues. Pure.

use super::html::Html;
use super::shadow_panel;
use crate::report::text::{ceiling_sum, long, shard_sum};
use crate::report::words::{bytes, count, latency, moment, percent, plural, rate, short, time};
use crate::report::{EndpointPart, ErrorPart, QueuePart, Report};

/// A card for each queue.
pub(super) fn queues(report: &Report) -> Html {
    report
        .queues
        .iter()
        .map(|queue| card(report, queue))
        .collect()
}

fn card(report: &Report, queue: &QueuePart) -> Html {
    let url = Html::element("p", "url", &Html::text(&queue.url));
    let blocks = [
        block("Shards", &shards(queue)),
        block("Receiver", &receiver(report, queue)),
        block("Bytes", &wire(report, queue)),
        block("Samples", &books(report, queue)),
    ];
    let blocks = Html::element("div", "blocks", &blocks.into_iter().collect());
    let shadow = queue.shadow.as_ref().map(shadow_panel::shadow);
    let errors = errors(&queue.errors, report.now_ms);
    let errors = shadow.unwrap_or_default().and(&errors);
    let required = if queue.required {
        ""
    } else {
        " (not required)"
    };
    let name = format!("Queue {}{required}", queue.name);
    Html::card("queue", &name, &url.and(&blocks).and(&errors))
}

fn block(name: &str, inner: &Html) -> Html {
    let heading = Html::element("h3", "name", &Html::text(name));
    Html::element("div", "block", &heading.and(inner))
}

fn text(text: &str) -> Html {
    Html::text(text)
}

fn shards(queue: &QueuePart) -> Html {
    let shards = &queue.shards;
    let number = |name: &str, value: &str| {
        let value = Html::element("b", "number", &text(value));
        let name = Html::element("span", "what", &text(name));
        Html::element("div", "figure", &value.and(&name))
    };
    let figures: Html = [
        number("actual", &count(shards.actual)),
        number("desired", &format!("{:.1}", shards.desired)),
        number("max", &count(shards.max)),
        number("busy", &count(shards.busy)),
    ]
    .into_iter()
    .collect();
    let figures = Html::element("div", "figures", &figures);
    let mut out = figures.and(&Html::element("p", "sum", &text(&shard_sum(shards))));
    if let Some(ceiling) = &queue.ceiling {
        let ceiling = format!("Passthrough: {}.", ceiling_sum(ceiling));
        out = out.and(&Html::element("p", "sum", &text(&ceiling)));
    }
    if shards.waiting_batches > 0 {
        let wait = if shards.waiting_batches == 1 {
            "waits"
        } else {
            "wait"
        };
        let batches = plural(shards.waiting_batches, "batch").replace("batchs", "batches");
        let waiting = format!("{batches} {wait} for the next try.");
        out = out.and(&Html::element("p", "sum", &text(&waiting)));
    }
    out
}

fn receiver(report: &Report, queue: &QueuePart) -> Html {
    let endpoint = &queue.endpoint;
    if queue.discards {
        return Html::element(
            "p",
            "sum",
            &text("None: what comes is counted and thrown away."),
        );
    }
    let times = format!(
        "p50 {} · p99 {}",
        latency(endpoint.p50_seconds),
        latency(endpoint.p99_seconds)
    );
    let last = endpoint.last_success_ms;
    let last = last.map_or_else(|| "never".to_owned(), |at| moment(at, report.now_ms));
    Html::table([
        Html::row("Latency", &text(&times)),
        Html::row("Answers", &codes(endpoint)),
        Html::row(
            "Tried again",
            &text(
                &endpoint
                    .retried_share
                    .map_or_else(|| "–".to_owned(), percent),
            ),
        ),
        Html::row("Gate", &text(gate(&endpoint.gate))),
        Html::row("Last success", &text(&last)),
        Html::row("Remote write 2.0", &text(&endpoint.knows_v2)),
    ])
}

fn gate(gate: &str) -> &'static str {
    match gate {
        "open" => "open",
        "ramp" => "few at a time: it has just come back",
        "closed" => "closed: it is left alone for a while",
        "probing" => "closed: one request is on its way",
        _ => "–",
    }
}

fn codes(endpoint: &EndpointPart) -> Html {
    if endpoint.codes.is_empty() {
        return text("none yet");
    }
    let code = |code: &crate::report::CodePart| {
        let good = code.code.starts_with('2');
        let class = if good { "code" } else { "code bad" };
        let shown = format!("{} × {}", code.code, short(code.count));
        Html::titled("span", class, &count(code.count), &text(&shown)).and(&Html::markup(" "))
    };
    endpoint.codes.iter().map(code).collect()
}

fn wire(report: &Report, queue: &QueuePart) -> Html {
    let sent = &queue.bytes;
    let per = |per: Option<f64>| per.map_or_else(|| "–".to_owned(), |per| format!("{per:.1} B"));
    let rate = |rate: Option<f64>| {
        rate.map_or_else(|| "–".to_owned(), |rate| format!("{}/s", bytes(rate)))
    };
    let saved = match (sent.saved, sent.saved_share) {
        (Some(saved), Some(share)) => format!("{} ({})", bytes(saved), percent(share)),
        _ => "–".to_owned(),
    };
    Html::table([
        Html::row("Out, 10 s", &text(&rate(sent.sent_per_second.last_10s))),
        Html::row(
            &format!("Out, {}", long(report)),
            &text(&rate(sent.sent_per_second.last_5m)),
        ),
        Html::row("Out, since start", &text(&bytes(sent.sent as f64))),
        Html::row("Of that in vain", &text(&bytes(sent.in_vain as f64))),
        Html::row("A sample in", &text(&per(sent.per_sample_in))),
        Html::row("A sample out", &text(&per(sent.per_sample_out))),
        Html::row("Saved", &text(&saved)),
    ])
}

fn books(report: &Report, queue: &QueuePart) -> Html {
    let (books, pending) = (&queue.books, &queue.pending);
    let number = |n: u64| Html::titled("span", "n", &count(n), &text(&short(n)));
    let mut rows = Vec::new();
    // With one queue the tiles say it.
    if report.queues.len() > 1 {
        let out = rate(queue.out_per_second.last_10s);
        rows.push(Html::row("Out", &text(&format!("{out}/s"))));
        rows.push(Html::row("Behind", &text(&time(queue.lag_seconds))));
    }
    rows.extend([
        Html::row("Received", &number(books.received)),
        Html::row("Delivered", &number(books.delivered)),
        Html::row(
            "Waiting",
            &number(pending.total).and(&text(&format!(
                " ({} unread, {} in lanes, {} in flight)",
                short(pending.unread),
                short(pending.queued),
                short(pending.in_flight)
            ))),
        ),
    ]);
    if books.unconfirmed > 0 {
        rows.push(Html::row("Unconfirmed", &number(books.unconfirmed)));
    }
    if books.quarantined > 0 {
        rows.push(Html::row("Quarantined", &number(books.quarantined)));
    }
    let dropped = books.dropped.iter();
    rows.extend(dropped.map(|dropped| {
        let reason = dropped.reason.replace('_', " ");
        Html::row(&format!("Dropped: {reason}"), &number(dropped.count))
    }));
    Html::table(rows)
}

fn errors(errors: &[ErrorPart], now_ms: i64) -> Html {
    if errors.is_empty() {
        return Html::element("p", "errors none", &text("No error since the start."));
    }
    let row = |error: &ErrorPart| {
        let times = format!("{} ×", count(error.count));
        Html::element(
            "li",
            "error",
            &[
                Html::element("span", "when", &text(&moment(error.last_ms, now_ms))),
                Html::titled(
                    "span",
                    "times",
                    &format!("first at {}", moment(error.first_ms, now_ms)),
                    &text(&times),
                ),
                Html::element("span", "what", &text(&error.text)),
            ]
            .into_iter()
            .collect(),
        )
    };
    let rows: Html = errors.iter().take(6).map(row).collect();
    let heading = Html::element("h3", "name", &text("Recent errors"));
    Html::element(
        "div",
        "errors",
        &heading.and(&Html::element("ul", "list", &rows)),
    )
}
