//! How it is, in one sentence, and what else is to be said. Pure: a report in, findings out.
//!
//! Each rule looks at the numbers and says at most one thing for the process, or one for each queue. The
//! verdict is the worst, and of equals the one whose rule stands first.

use super::text::ceiling_sum;
use super::words::{bytes, clean, count, moment, plural, rate, short, time};
use super::{Configuration, DrainState, Finding, Level, QueuePart, Report};

/// Attempts that fail in a row before it is said, and the time they must fail for.
const FAILING: (u64, i64) = (3, 2_000);
/// An answer to a sender is news for so long.
const RECENT_MS: i64 = 15_000;
/// A rate limit is told for so long after its last 429.
const LIMITED_MS: i64 = 60_000;
/// No request for so long is worth a word.
const SILENT_MS: i64 = 120_000;
/// Requests are on their way, and nothing has been answered for so long: the receiver hangs.
const UNANSWERED: (f64, i64) = (10.0, 10_000);
/// What waits longer, and is not on its way, is behind.
const BEHIND_SECONDS: f64 = 20.0;
/// Less room than this, while it shrinks, is trouble.
const SCARCE_SECONDS: f64 = 3_600.0;
/// A larger share of attempts that fail is worth a word, while the last one is no older than a minute.
const FLAKY: (f64, i64) = (0.05, 60_000);
/// Rates that differ by less are told as one.
const SAME: f64 = 0.05;

/// Everything to be said, the worst first; never empty. The first is the verdict.
pub fn findings(report: &Report) -> Vec<Finding> {
    let process = [
        stopping,
        configuration,
        unwritable,
        storage_trouble,
        log_full,
        no_memory,
    ];
    let mut found: Vec<Finding> = process.iter().filter_map(|rule| rule(report)).collect();
    for queue in &report.queues {
        let rules = [
            books, failing, unanswered, lost, limited, behind, flaky, journal,
        ];
        // Of what one receiver does, the first rule says enough.
        let mut told_of_receiver = false;
        for (at, rule) in rules.iter().enumerate() {
            let about_receiver = (1..7).contains(&at) && at != 3;
            if about_receiver && told_of_receiver {
                continue;
            }
            if let Some(finding) = rule(report, queue) {
                told_of_receiver |= about_receiver;
                found.push(finding);
            }
        }
        found.extend(passthrough(report, queue));
    }
    found.extend(
        [damage, slow_disk, silent]
            .iter()
            .filter_map(|rule| rule(report)),
    );
    // Stable: of equals the first rule stays first.
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    if found.iter().all(|finding| finding.level == Level::Well) {
        found.insert(0, well(report));
    }
    found
}

fn finding(level: Level, id: &str, text: String) -> Finding {
    Finding {
        level,
        id: id.to_owned(),
        text,
    }
}

fn stopping(report: &Report) -> Option<Finding> {
    let text = "Stopping: senders get 503, and what is pending is sent or kept.";
    report
        .stopping
        .then(|| finding(Level::Attention, "stopping", text.to_owned()))
}

fn configuration(report: &Report) -> Option<Finding> {
    let Configuration { in_use, problems } = &report.configuration;
    let consequence = match in_use.as_str() {
        "last_good" => "The configuration has problems, and the last good one is in use",
        "none" => "No configuration that works, senders get 503 and keep what they have",
        _ => return None,
    };
    let first = problems
        .first()
        .map_or("no reason is known", String::as_str);
    let more = match problems.len().saturating_sub(1) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let text = format!("{consequence} ({first}{more}).");
    Some(finding(Level::Trouble, "configuration", text))
}

fn unwritable(report: &Report) -> Option<Finding> {
    let storage = report
        .storage
        .as_ref()
        .filter(|storage| !storage.writable)?;
    let why = storage
        .last_error
        .as_deref()
        .unwrap_or("no reason is known");
    let since = since(storage.unwritable_since_ms, report.now_ms);
    let text = format!("The log cannot be written{since} ({why}): senders get 503.");
    Some(finding(Level::Trouble, "log_unwritable", text))
}

fn storage_trouble(report: &Report) -> Option<Finding> {
    let why = report.storage_trouble.as_ref()?;
    let text = format!("Storage trouble, running without the log on disk: {why}.");
    Some(finding(Level::Trouble, "storage", text))
}

/// A sender was told lately to come back, for this reason.
fn told_lately(report: &Report, reason: &str) -> bool {
    let lately = |last_ms: i64| report.now_ms - last_ms <= RECENT_MS;
    let answers = &mut report.senders.answers.iter();
    answers.any(|answer| answer.code == 503 && answer.reason == reason && lately(answer.last_ms))
}

fn log_full(report: &Report) -> Option<Finding> {
    if !told_lately(report, "queue_full") {
        return None;
    }
    let text = format!(
        "The log is full ({} of {}): senders get 503 and keep what they have.",
        bytes(report.log.bytes as f64),
        bytes(report.log.limit_bytes as f64)
    );
    Some(finding(Level::Trouble, "log_full", text))
}

fn no_memory(report: &Report) -> Option<Finding> {
    let text = "The memory for requests is used up: some senders get 503 and come again.";
    let scarce = told_lately(report, "memory");
    scarce.then(|| finding(Level::Attention, "memory", text.to_owned()))
}

fn books(report: &Report, queue: &QueuePart) -> Option<Finding> {
    let error = queue.books.conservation_error;
    if error == 0 {
        return None;
    }
    let text = format!(
        "The books do not balance{} by {}: this is a bug of Sluicegate, please report it.",
        of(report, queue),
        plural(error.unsigned_abs(), "sample")
    );
    Some(finding(Level::Trouble, "books", text))
}

/// Its receiver has taken nothing for so long that it is said.
pub fn is_failing(report: &Report, queue: &QueuePart) -> bool {
    let (attempts, for_ms) = FAILING;
    queue.endpoint.failing.as_ref().is_some_and(|failing| {
        failing.attempts >= attempts && report.now_ms - failing.since_ms >= for_ms
    })
}

fn failing(report: &Report, queue: &QueuePart) -> Option<Finding> {
    if !is_failing(report, queue) {
        return None;
    }
    let failing = queue.endpoint.failing.as_ref()?;
    let at = |at_ms| moment(at_ms, report.now_ms);
    let since = match (at(failing.code_since_ms), at(failing.since_ms)) {
        (code, all) if code == all => all,
        (code, all) => format!("{code}, and nothing is delivered since {all}"),
    };
    let what = failure(&receiver(report, queue), &failing.code);
    let text = format!("{what} since {since}; {}.", what_waits(report, queue));
    let level = if queue.required {
        Level::Trouble
    } else {
        Level::Attention
    };
    Some(finding(level, "receiver_failing", text))
}

/// It takes requests and says nothing; `failing` knows of that only when the first of them has timed out.
fn unanswered(report: &Report, queue: &QueuePart) -> Option<Finding> {
    let (lag, for_ms) = UNANSWERED;
    let last = queue.endpoint.last_success_ms;
    let silent = last.is_none_or(|last_ms| report.now_ms - last_ms >= for_ms)
        && queue.out_per_second.last_10s.is_none_or(|out| out == 0.0);
    // What waits in order to merge is steady.
    let waits = queue.drain.state != DrainState::Steady && queue.lag_seconds >= lag;
    if queue.discards || queue.shards.busy == 0 || !waits || !silent {
        return None;
    }
    let receiver = sentence(&receiver(report, queue));
    let since = match last {
        Some(last_ms) => format!("nothing since {}", moment(last_ms, report.now_ms)),
        None => "nothing yet".to_owned(),
    };
    let text = format!(
        "{receiver} has answered {since}: {} on the way, the oldest sample is {} old; {}.",
        match queue.shards.busy {
            1 => "1 request is".to_owned(),
            n => format!("{} are", plural(n, "request")),
        },
        time(queue.lag_seconds),
        what_waits(report, queue)
    );
    Some(finding(Level::Attention, "unanswered", text))
}

/// What a receiver does that fails with this code.
fn failure(receiver: &str, code: &str) -> String {
    match code {
        "dns" => format!("The name of {receiver} is not found"),
        "connect" => format!("{} cannot be reached", sentence(receiver)),
        "tls" => format!("TLS with {receiver} fails"),
        "timeout" => format!("{} does not answer in time", sentence(receiver)),
        "closed" => format!("{} closes the connection", sentence(receiver)),
        "other" => format!("Requests to {receiver} fail"),
        "401" | "403" => format!("{} refuses our credentials ({code})", sentence(receiver)),
        "404" => format!("{} does not know the path (404)", sentence(receiver)),
        "429" => format!("{} allows nothing (429)", sentence(receiver)),
        code if code.starts_with('2') => {
            format!("{} answers like a web page ({code})", sentence(receiver))
        }
        code => format!("{} answers {}", sentence(receiver), clean(code)),
    }
}

/// What waits for a queue, and for how long there is room.
fn what_waits(report: &Report, queue: &QueuePart) -> String {
    let waits = count_waiting(queue.pending.total);
    if report.ack.mode == "upstream" {
        return format!("{waits}, unacknowledged: their senders still have them");
    }
    format!("{waits} in the log, {}", room(report))
}

fn count_waiting(n: u64) -> String {
    let verb = if n == 1 { "waits" } else { "wait" };
    let plural = if n == 1 { "" } else { "s" };
    format!("{} sample{plural} {verb}", short(n))
}

fn room(report: &Report) -> String {
    let log = &report.log;
    match log.room_seconds {
        Some(seconds) => format!("room for {} at the present rate", time(seconds)),
        None => format!(
            "{} of {} used, and nothing comes in",
            bytes(log.bytes as f64),
            bytes(log.limit_bytes as f64)
        ),
    }
}

fn lost(report: &Report, queue: &QueuePart) -> Option<Finding> {
    if queue.books.lost_5m == 0 {
        return None;
    }
    let reasons: Vec<_> = queue
        .books
        .dropped
        .iter()
        .filter(|dropped| !["discarded", "withdrawn", "not_sent"].contains(&&*dropped.reason))
        .map(|dropped| dropped.reason.as_str())
        .collect();
    let latest = queue
        .errors
        .iter()
        .find(|error| error.text.contains("answered 4"));
    let latest = latest.map_or_else(String::new, |error| format!(" Latest: {}", error.text));
    let text = format!(
        "{} taken out in the last 5 min{} ({}).{latest}",
        match queue.books.lost_5m {
            1 => "1 sample was".to_owned(),
            n => format!("{} samples were", count(n)),
        },
        of(report, queue),
        reasons.join(", ")
    );
    Some(finding(Level::Trouble, "samples_dropped", text))
}

fn limited(report: &Report, queue: &QueuePart) -> Option<Finding> {
    let limits = queue
        .endpoint
        .codes
        .iter()
        .find(|code| code.code == "429")?;
    if report.now_ms - limits.last_ms > LIMITED_MS {
        return None;
    }
    let text = format!(
        "{} limits the rate (429, last at {}): {} samples/s go out, {} come in; {}.",
        sentence(&receiver(report, queue)),
        moment(limits.last_ms, report.now_ms),
        rate(queue.out_per_second.last_10s),
        rate(report.senders.samples_per_second.last_10s),
        what_waits(report, queue)
    );
    Some(finding(Level::Attention, "rate_limited", text))
}

fn behind(report: &Report, queue: &QueuePart) -> Option<Finding> {
    if queue.lag_seconds < BEHIND_SECONDS || queue.drain.state == DrainState::Steady {
        return None;
    }
    let (waits, lag) = (count_waiting(queue.pending.total), time(queue.lag_seconds));
    let whose = of(report, queue);
    let out = rate(queue.out_per_second.last_10s);
    let text = match (queue.drain.state, queue.drain.seconds) {
        (DrainState::Draining, Some(seconds)) => format!(
            "Catching up{whose}: {waits}, the oldest for {lag}; done in {} at the present rate.",
            time(seconds)
        ),
        _ => {
            let at_max = queue.shards.actual >= queue.shards.max;
            let maximum = if queue.ceiling.is_some() {
                " in passthrough".to_owned()
            } else if at_max {
                format!(" with all {}", plural(queue.shards.max, "shard"))
            } else {
                String::new()
            };
            format!(
                "Falling behind{whose}: {} samples/s in, {out} out{maximum}; {waits}, the oldest for {lag}, {}.",
                rate(report.senders.samples_per_second.last_10s),
                room(report)
            )
        }
    };
    let (level, id) = match queue.drain.state {
        DrainState::Draining => (Level::Attention, "catching_up"),
        _ if report
            .log
            .room_seconds
            .is_some_and(|room| room < SCARCE_SECONDS) =>
        {
            (Level::Trouble, "falling_behind")
        }
        _ => (Level::Attention, "falling_behind"),
    };
    Some(finding(level, id, text))
}

/// Said at all times: whoever asks "is it the proxy?" must see what it does, and what it can carry.
fn passthrough(report: &Report, queue: &QueuePart) -> Option<Finding> {
    let ceiling = queue.ceiling.as_ref()?;
    let text = format!(
        "Passthrough{}: each body goes out as it came; {}.",
        of(report, queue),
        ceiling_sum(ceiling)
    );
    Some(finding(Level::Well, "passthrough", text))
}

fn flaky(report: &Report, queue: &QueuePart) -> Option<Finding> {
    let (much, lately_ms) = FLAKY;
    let share = queue.endpoint.retried_share.filter(|share| *share > much)?;
    let latest = queue.errors.first()?;
    if report.now_ms - latest.last_ms > lately_ms {
        return None;
    }
    let waits = match queue.drain.state {
        DrainState::Steady => String::new(),
        _ => format!(", and {}", count_waiting(queue.pending.total)),
    };
    let text = format!(
        "{:.0} % of the attempts{} in the last 5 min failed and were made again; nothing is lost by that{waits}. \
         Latest: {}",
        share * 100.0,
        of(report, queue),
        latest.text
    );
    Some(finding(Level::Attention, "flaky", text))
}

fn journal(report: &Report, queue: &QueuePart) -> Option<Finding> {
    let why = queue.journal_trouble.as_ref()?;
    let text = format!(
        "The settle journal{} cannot be written ({why}): sending goes on, and after a crash more is sent twice.",
        of(report, queue)
    );
    Some(finding(Level::Attention, "journal", text))
}

fn damage(report: &Report) -> Option<Finding> {
    let damage = report.storage.as_ref()?.damage.iter();
    let parts: Vec<_> = damage
        // A write that a crash cut off was never acknowledged.
        .filter(|part| part.part != "torn_tail" && part.count > 0)
        .map(|part| format!("{} × {}", count(part.count), part.part))
        .collect();
    if parts.is_empty() {
        return None;
    }
    let text = format!(
        "The log on disk is damaged ({}): what could not be read is counted as unreadable.",
        parts.join(", ")
    );
    Some(finding(Level::Attention, "log_damaged", text))
}

fn slow_disk(report: &Report) -> Option<Finding> {
    let advice = report.storage.as_ref()?.advice.as_ref()?;
    let mut text = sentence(advice);
    if !text.ends_with('.') {
        text.push('.');
    }
    Some(finding(Level::Attention, "slow_disk", text))
}

fn silent(report: &Report) -> Option<Finding> {
    let last_ms = report.senders.last_ms?;
    if report.now_ms - last_ms < SILENT_MS {
        return None;
    }
    let text = format!(
        "No sender has delivered anything for {} (last at {}).",
        time((report.now_ms - last_ms) as f64 / 1000.0),
        moment(last_ms, report.now_ms)
    );
    Some(finding(Level::Attention, "silent", text))
}

fn well(report: &Report) -> Finding {
    let coming = report.senders.samples_per_second.last_10s;
    let (id, text) = if report.senders.last_ms.is_none() {
        let address = &report.senders.address;
        let text = format!(
            "Ready, and nothing has arrived yet: let Prometheus write to http://{address}/api/v1/write."
        );
        ("waiting", text)
    } else if report.queues.iter().all(|queue| queue.discards) {
        let text = format!(
            "All well: {} samples/s in, counted and thrown away.",
            rate(coming)
        );
        ("well", text)
    } else {
        ("well", flow(report, coming))
    };
    finding(Level::Well, id, text)
}

fn flow(report: &Report, coming: Option<f64>) -> String {
    let lag = |queue: &QueuePart| queue.lag_seconds;
    let behind = report.queues.iter().map(lag).fold(0.0, f64::max);
    let behind = time(behind);
    let [queue] = report.queues.as_slice() else {
        let queues = report.queues.len();
        return format!(
            "All well: {} samples/s in, to {queues} receivers, at most {behind} behind.",
            rate(coming)
        );
    };
    let going = queue.out_per_second.last_10s;
    let same = match (coming, going) {
        (Some(coming), Some(going)) => (coming - going).abs() <= SAME * coming.max(going),
        _ => false,
    };
    if same {
        format!(
            "All well: {} samples/s in and out, {behind} behind.",
            rate(coming)
        )
    } else {
        format!(
            "All well: {} samples/s in, {} out, {behind} behind.",
            rate(coming),
            rate(going)
        )
    }
}

/// How a queue's receiver is called within a sentence.
fn receiver(report: &Report, queue: &QueuePart) -> String {
    match (report.queues.len(), queue.required) {
        (..=1, _) => "the receiver".to_owned(),
        (_, true) => format!("the receiver of {}", queue.name),
        (_, false) => format!("the receiver of {} (not required)", queue.name),
    }
}

/// ` of NAME`, where there are several.
fn of(report: &Report, queue: &QueuePart) -> String {
    match report.queues.len() {
        ..=1 => String::new(),
        _ => format!(" of {}", queue.name),
    }
}

fn since(at_ms: Option<i64>, now_ms: i64) -> String {
    at_ms.map_or_else(String::new, |at_ms| {
        format!(" since {}", moment(at_ms, now_ms))
    })
}

/// With a capital at its beginning.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
