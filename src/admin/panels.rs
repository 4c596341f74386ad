//! The part of the page about the process: what an acknowledgement means, memory, storage, senders. Pure.

use super::html::Html;
use crate::report::text::{long, process};
use crate::report::words::{bytes, count, latency, moment, plural, short};
use crate::report::{AtRisk, Report, SenderAnswer, Storage};

/// A card for each.
pub(super) fn panels(report: &Report) -> Html {
    [
        acknowledgement(report),
        senders(report),
        storage(report),
        memory(report),
    ]
    .into_iter()
    .collect()
}

fn text(text: &str) -> Html {
    Html::text(text)
}

fn acknowledgement(report: &Report) -> Html {
    let means = Html::element("p", "means", &text(&report.ack.means));
    let event = |risk: &AtRisk| {
        let event = match risk.event.as_str() {
            "process" => "the process died",
            "node" => "the node lost power",
            "pod" => "the pod were deleted",
            other => other,
        };
        let lost = match risk.samples {
            0 => text("Nothing would be lost"),
            n => Html::titled("b", "lost", &count(n), &text(&plural_short(n)))
                .and(&text(" would be lost")),
        };
        let lost = lost.and(&text(&format!(" if {event} now. ")));
        Html::element(
            "p",
            "event",
            &lost.and(&Html::element("span", "note", &text(&risk.means))),
        )
    };
    let events: Html = report.at_risk.iter().map(event).collect();
    Html::card(
        "risk",
        "What a 2xx means, and what is at risk",
        &means.and(&events),
    )
}

fn plural_short(n: u64) -> String {
    format!("{} sample{}", short(n), if n == 1 { "" } else { "s" })
}

fn senders(report: &Report) -> Html {
    let senders = &report.senders;
    let rate = |rate: Option<f64>| {
        rate.map_or_else(|| "–".to_owned(), |rate| format!("{}/s", bytes(rate)))
    };
    let last = senders.last_ms;
    let last = last.map_or_else(|| "never".to_owned(), |at| moment(at, report.now_ms));
    let answer = |answer: &SenderAnswer| {
        let class = if answer.code < 300 {
            "code"
        } else {
            "code bad"
        };
        let why = match answer.reason.as_str() {
            "" => String::new(),
            reason => format!(" {}", reason.replace('_', " ")),
        };
        let shown = format!("{}{why} × {}", answer.code, short(answer.count));
        let title = format!(
            "{}, last at {}",
            count(answer.count),
            moment(answer.last_ms, report.now_ms)
        );
        Html::titled("span", class, &title, &text(&shown)).and(&Html::markup(" "))
    };
    let answers = if senders.answers.is_empty() {
        text("none yet")
    } else {
        senders.answers.iter().map(answer).collect()
    };
    let bytes_in = format!(
        "{} (over {}: {})",
        rate(senders.bytes_per_second.last_10s),
        long(report),
        rate(senders.bytes_per_second.last_5m)
    );
    let open = format!(
        "{}, {} under way",
        plural(senders.connections, "connection"),
        plural(senders.in_flight, "request")
    );
    let rows = [
        Html::row("Deliver to", &text(&senders.address)),
        Html::row("Bytes in", &text(&bytes_in)),
        Html::row(
            "Since start",
            &text(&format!(
                "{} samples, {}",
                short(senders.samples),
                bytes(senders.bytes as f64)
            )),
        ),
        Html::row("Open", &text(&open)),
        Html::row("Last delivery", &text(&last)),
        Html::row("Answers", &answers),
    ];
    Html::card("senders", "Senders", &Html::table(rows))
}

fn storage(report: &Report) -> Html {
    let log = &report.log;
    let share = log.bytes as f64 / (log.limit_bytes.max(1)) as f64;
    let used = format!(
        "{} of {}, {}",
        bytes(log.bytes as f64),
        bytes(log.limit_bytes as f64),
        plural(log.records, "record")
    );
    let place = if log.kind == "disk" {
        "on disk"
    } else {
        "in memory"
    };
    let mut rows = vec![Html::row("Used", &text(&used).and(&Html::meter(share)))];
    if let Some(storage) = &report.storage {
        rows.extend(disk(storage, report.now_ms));
    }
    if let Some(trouble) = &report.storage_trouble {
        rows.push(Html::row("Trouble", &text(trouble)));
    }
    Html::card("storage", &format!("Log {place}"), &Html::table(rows))
}

fn disk(storage: &Storage, now_ms: i64) -> Vec<Html> {
    let medium = match storage.medium.as_str() {
        "volume" => "a volume",
        "emptyDir" => "an emptyDir",
        "container" => "the container's own layer",
        "memory" => "memory",
        other => other,
    };
    let writable = match storage.unwritable_since_ms {
        None if storage.writable => "yes".to_owned(),
        None => "no".to_owned(),
        Some(since) => format!("no, since {}", moment(since, now_ms)),
    };
    let syncs = format!(
        "p50 ≤ {} · p99 ≤ {} of {}",
        latency(storage.sync_p50_seconds),
        latency(storage.sync_p99_seconds),
        plural(storage.syncs, "sync")
    );
    let damage: Vec<_> = storage
        .damage
        .iter()
        .map(|damage| {
            format!(
                "{} × {}",
                count(damage.count),
                damage.part.replace('_', " ")
            )
        })
        .collect();
    let damage = if damage.is_empty() {
        "none found".to_owned()
    } else {
        damage.join(", ")
    };
    let mut rows = vec![
        Html::row("Folder", &text(&format!("{} on {medium}", storage.path))),
        Html::row("Writable", &text(&writable)),
        Html::row("Syncs", &text(&syncs)),
        Html::row("Damage", &text(&damage)),
    ];
    if !storage.errors.is_empty() {
        let errors: Vec<_> = storage
            .errors
            .iter()
            .map(|error| {
                format!(
                    "{} {} × {}",
                    error.operation,
                    error.error,
                    count(error.count)
                )
            })
            .collect();
        rows.push(Html::row("Errors", &text(&errors.join(", "))));
    }
    if let Some(error) = &storage.last_error {
        rows.push(Html::row("Last error", &text(error)));
    }
    rows
}

fn memory(report: &Report) -> Html {
    let memory = &report.memory;
    let (used, limit) = (memory.used(), memory.limit_bytes);
    let share = |bytes: u64| bytes as f64 / limit.max(1) as f64;
    let all = format!("{} of {}", bytes(used as f64), bytes(limit as f64));
    let all = Html::row("All parts", &text(&all).and(&Html::meter(share(used))));
    let parts = memory.parts.iter().map(|part| {
        let name = match part.part.as_str() {
            "log" => "Log",
            "bodies" => "Requests being received",
            "decoding" => "Decoding",
            "handoff" => "Decoded, for queues",
            "lanes" => "Lanes and batches",
            "series" => "Series",
            "runs" => "What is settled",
            "shadow" => "Shadow report",
            other => other,
        };
        Html::row(name, &text(&bytes(part.bytes as f64)))
    });
    let process = Html::row("Process", &text(&process(&report.process)));
    let rows = [all].into_iter().chain(parts).chain([process]);
    Html::card("memory", "Memory", &Html::table(rows))
}
