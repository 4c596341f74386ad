//! The report as text for a terminal. Pure.

use super::verdict::sentence;
use super::words::{bytes, clean, count, latency, moment, percent, plural, rate, short, time};
use super::{Ceiling, DrainState, Level, Process, QueuePart, Report, Shards, shadow_text};

/// How a number of shards comes about, with its numbers.
pub fn shard_sum(shards: &Shards) -> String {
    let sum = &shards.sum;
    let what = reason(shards);
    if sum.seconds_per_sample <= 0.0 {
        return sentence(&what);
    }
    format!(
        "{:.3} ms a sample × ({}/s in + {:.0} % of {} waiting, a second) = {:.1}, that is {}: {what}",
        sum.seconds_per_sample * 1e3,
        rate(Some(sum.in_per_second)),
        sum.catch_up * 100.0,
        short(sum.pending),
        shards.desired,
        plural(shards.desired.ceil().max(0.0) as u64, "shard")
    )
}

/// What limits passthrough, with its numbers once they are known.
pub fn ceiling_sum(ceiling: &Ceiling) -> String {
    let each = match ceiling.per.as_str() {
        "tenant" => "each tenant, of which one request is in flight at a time",
        _ => "each request that a sender has in flight",
    };
    let known = ceiling.samples_per_second.filter(|most| most.is_finite());
    match (known, ceiling.samples_per_request, ceiling.answer_seconds) {
        (Some(most), Some(samples), Some(seconds)) => format!(
            "at most {} samples/s for {each}: {} samples a request / {} until the answer",
            rate(Some(most)),
            count(samples.round().max(0.0) as u64),
            latency(Some(seconds))
        ),
        _ => format!(
            "samples a request / the receiver's answer time for {each}; too little was sent to say more"
        ),
    }
}

/// The long time of the rates: five minutes, or less when the process is younger.
pub fn long(report: &Report) -> String {
    time(report.uptime_seconds.min(300.0))
}

fn reason(shards: &Shards) -> String {
    let (min, max) = (shards.min, shards.max);
    match shards.reason.as_str() {
        "nothing_sent" => {
            "nothing was settled yet when this was last reckoned, as it is every 10 s.".to_owned()
        }
        "passthrough" => {
            "fixed: bodies go out as they came, and senders or tenants decide how many at a time."
                .to_owned()
        }
        "within_tolerance" => "within 30 % of what is there, so it stays.".to_owned(),
        "catching_up" => "fewer would do, but it is over 10 s behind, so it stays.".to_owned(),
        "receiver_failing" => {
            "attempts fail, and more would make that worse, so it stays.".to_owned()
        }
        "at_bound" => format!("it is at its bound (min {min}, max {max})."),
        "followed" => format!("it follows (min {min}, max {max})."),
        "senders_wait" => format!(
            "all were busy and senders waited, so there is one for each full batch (min {min}, max {max})."
        ),
        other => clean(other),
    }
}

/// A screen of it.
pub fn text(report: &Report) -> String {
    let mut lines = Lines::default();
    lines.verdict(report);
    lines.flow(report);
    for queue in &report.queues {
        lines.queue(report, queue);
    }
    lines.process(report);
    lines.0
}

/// One word for a level.
pub fn word(level: Level) -> &'static str {
    match level {
        Level::Well => "well",
        Level::Attention => "attention",
        Level::Trouble => "trouble",
    }
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, name: &str, value: &str) {
        // The server has cleaned its texts; a terminal does not rely on it.
        self.0 += &format!("  {name:<14}{}\n", clean(value));
    }

    fn heading(&mut self, text: &str) {
        self.0 += &format!("\n{}\n", clean(text));
    }

    fn verdict(&mut self, report: &Report) {
        for finding in [&report.verdict].into_iter().chain(&report.also) {
            let level = word(finding.level).to_uppercase();
            self.0 += &format!("{level}: {}\n", clean(&finding.text));
        }
    }

    fn flow(&mut self, report: &Report) {
        let (senders, log) = (&report.senders, &report.log);
        self.heading(&format!(
            "sluicegate {}, up {}, ack {}{}",
            report.version,
            time(report.uptime_seconds),
            report.ack.mode,
            match report.mode.as_str() {
                "passthrough" => ", mode passthrough",
                _ => "",
            }
        ));
        let coming = senders.samples_per_second;
        self.line(
            "in",
            &format!(
                "{} samples/s (over {}: {}), {}/s",
                rate(coming.last_10s),
                long(report),
                rate(coming.last_5m),
                bytes(senders.bytes_per_second.last_10s.unwrap_or(0.0))
            ),
        );
        let room = match log.room_seconds {
            Some(seconds) => format!(
                ", room for an outage of {} at the present rate",
                time(seconds)
            ),
            None if report.ack.mode == "upstream" => {
                ", senders keep what is not delivered".to_owned()
            }
            None => String::new(),
        };
        self.line(
            "log",
            &format!(
                "{} of {} in {}{room}",
                bytes(log.bytes as f64),
                bytes(log.limit_bytes as f64),
                if log.kind == "disk" {
                    "files"
                } else {
                    "memory"
                }
            ),
        );
        let answers: Vec<_> = senders
            .answers
            .iter()
            .map(|answer| {
                let what = format!("{} {}", answer.code, answer.reason.replace('_', " "));
                format!("{} × {}", what.trim_end(), count(answer.count))
            })
            .collect();
        if !answers.is_empty() {
            self.line("answered", &answers.join(", "));
        }
    }

    fn queue(&mut self, report: &Report, queue: &QueuePart) {
        let required = if queue.required {
            ""
        } else {
            " (not required)"
        };
        self.heading(&format!("queue {}{required}  {}", queue.name, queue.url));
        let out = queue.out_per_second;
        self.line(
            "out",
            &format!(
                "{} samples/s (over {}: {}), {} behind",
                rate(out.last_10s),
                long(report),
                rate(out.last_5m),
                time(queue.lag_seconds)
            ),
        );
        self.line("waiting", &waiting(queue));
        self.line(
            "shards",
            &format!(
                "{} actual, {:.1} desired, {} max, {} busy",
                queue.shards.actual, queue.shards.desired, queue.shards.max, queue.shards.busy
            ),
        );
        self.line("", &shard_sum(&queue.shards));
        if let Some(ceiling) = &queue.ceiling {
            self.line("ceiling", &ceiling_sum(ceiling));
        }
        self.receiver(report, queue);
        self.books(queue);
        if let Some(shadow) = &queue.shadow {
            self.0 += &shadow_text::text(shadow);
        }
        for error in queue.errors.iter().take(5) {
            let when = moment(error.last_ms, report.now_ms);
            self.line(
                "error",
                &format!("{when} {} × {}", count(error.count), error.text),
            );
        }
    }

    fn receiver(&mut self, report: &Report, queue: &QueuePart) {
        let endpoint = &queue.endpoint;
        if queue.discards {
            return;
        }
        let codes: Vec<_> = endpoint
            .codes
            .iter()
            .map(|code| format!("{} × {}", code.code, count(code.count)))
            .collect();
        let last = endpoint.last_success_ms;
        let last = last.map_or_else(|| "never".to_owned(), |at| moment(at, report.now_ms));
        self.line(
            "receiver",
            &format!(
                "p50 {}, p99 {}; {}; gate {}; last success {last}",
                latency(endpoint.p50_seconds),
                latency(endpoint.p99_seconds),
                if codes.is_empty() {
                    "no answer yet".to_owned()
                } else {
                    codes.join(", ")
                },
                endpoint.gate
            ),
        );
        let sent = &queue.bytes;
        if let (Some(came), Some(went), Some(share)) =
            (sent.per_sample_in, sent.per_sample_out, sent.saved_share)
        {
            let text = format!(
                "{}/s out; {came:.1} B a sample in, {went:.1} out: {} saved; {} sent in vain",
                bytes(sent.sent_per_second.last_10s.unwrap_or(0.0)),
                percent(share),
                bytes(sent.in_vain as f64)
            );
            self.line("bytes", &text);
        }
    }

    fn books(&mut self, queue: &QueuePart) {
        let books = &queue.books;
        let mut text = format!(
            "{} received, {} delivered",
            count(books.received),
            count(books.delivered)
        );
        for (n, what) in [
            (books.unconfirmed, "unconfirmed"),
            (books.quarantined, "quarantined"),
        ] {
            if n > 0 {
                text += &format!(", {} {what}", count(n));
            }
        }
        for dropped in &books.dropped {
            let reason = dropped.reason.replace('_', " ");
            text += &format!(", {} dropped ({reason})", count(dropped.count));
        }
        self.line("samples", &text);
    }

    fn process(&mut self, report: &Report) {
        self.heading(&format!("ack {}: {}", report.ack.mode, report.ack.means));
        for risk in &report.at_risk {
            let what = format!("{} at risk. {}", plural(risk.samples, "sample"), risk.means);
            self.line(&risk.event, &what);
        }
        let memory = &report.memory;
        let parts: Vec<_> = memory
            .parts
            .iter()
            .filter(|part| part.bytes > 0)
            .map(|part| format!("{} {}", part.part, bytes(part.bytes as f64)))
            .collect();
        let all = format!(
            "{} of {}",
            bytes(memory.used() as f64),
            bytes(memory.limit_bytes as f64)
        );
        self.line("memory", &format!("{all} ({})", parts.join(", ")));
        self.line("cost", &process(&report.process));
        if let Some(storage) = &report.storage {
            let writable = if storage.writable {
                "writable"
            } else {
                "NOT WRITABLE"
            };
            let damage: Vec<_> = storage
                .damage
                .iter()
                .map(|damage| format!("{} × {}", count(damage.count), damage.part))
                .collect();
            let damage = if damage.is_empty() {
                "no damage".to_owned()
            } else {
                damage.join(", ")
            };
            self.line(
                "storage",
                &format!(
                    "{} ({}), {writable}, sync p50 ≤ {} p99 ≤ {}, {damage}",
                    storage.path,
                    storage.medium,
                    latency(storage.sync_p50_seconds),
                    latency(storage.sync_p99_seconds)
                ),
            );
        }
    }
}

/// What the process takes of the machine.
pub fn process(process: &Process) -> String {
    let size =
        |size: Option<u64>| size.map_or_else(|| "not known".to_owned(), |size| bytes(size as f64));
    let share = process.cpu_share.map_or_else(String::new, |share| {
        format!(", {} of a core", percent(share))
    });
    let each = process.cpu_ns_per_sample.map_or_else(String::new, |ns| {
        format!(", {} ns a sample", count(ns.round() as u64))
    });
    let measuring = if process.measuring_cpu_seconds > 0.0 {
        format!(
            " (without {:.1} s for measuring)",
            process.measuring_cpu_seconds
        )
    } else {
        String::new()
    };
    format!(
        "{:.1} s CPU{share}{each}{measuring}; memory {}, {} at the most",
        process.cpu_seconds,
        size(process.rss_bytes),
        size(process.rss_peak_bytes)
    )
}

/// The report of each queue that is measured, for whoever reads what the process prints.
pub fn shadows(report: &Report, least_share: f64) -> Option<String> {
    let mut told = String::new();
    for queue in &report.queues {
        let Some(shadow) = &queue.shadow else {
            continue;
        };
        if shadow.measured_seconds >= shadow.of_seconds * least_share && !shadow.rows.is_empty() {
            told += &format!(
                "queue {}\n{}",
                clean(&queue.name),
                shadow_text::text(shadow)
            );
        }
    }
    if told.is_empty() {
        return None;
    }
    Some(format!(
        "{told}  {:<14}{}\n",
        "cost",
        process(&report.process)
    ))
}

fn waiting(queue: &QueuePart) -> String {
    let pending = &queue.pending;
    let which = match (queue.drain.state, queue.drain.seconds) {
        (DrainState::Draining, Some(seconds)) => format!(", drained in {}", time(seconds)),
        (DrainState::Draining | DrainState::Steady, _) => String::new(),
        (DrainState::Growing, _) => ", growing".to_owned(),
        (DrainState::Stopped, _) => ", nothing goes out".to_owned(),
    };
    format!(
        "{} samples ({} unread, {} in lanes, {} in flight){which}",
        count(pending.total),
        count(pending.unread),
        count(pending.queued),
        count(pending.in_flight)
    )
}
