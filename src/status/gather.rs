//! From the parts at work to the report that people get.

use std::time::Duration;

use super::history::{History, LONG, Look, SHORT};
use super::{Configured, Status};
use crate::clock::{Instant, cpu_of_process, wall_ms};
use crate::config::{AckMode, Choice as _};
use crate::log::disk::health::{SYNC_BOUNDS, Syncs};
use crate::log::disk::medium::Medium;
use crate::queue::autoscale::{CATCH_UP, Decision};
use crate::queue::facts::{AttemptFacts, Facts};
use crate::queue::gate::GateState;
use crate::queue::handle::Queue;
use crate::queue::ledger::{Books, DropReason};
use crate::queue::protocol::Known;
use crate::queue::shadow::thread::{ShadowFacts, Stage};
use crate::queue::shadow::{Came, Cut, Form, Tally};
use crate::report::shadow::{CameIn, Measured, MeasuredRow, ShadowState, merged, shadow};
use crate::report::words::clean;
use crate::report::{
    Ack, AtRisk, BooksPart, Bytes, Ceiling, CodePart, Configuration, DamagePart, Drain, DrainState,
    Dropped, EndpointPart, ErrorPart, FailingPart, LogPart, Memory, MemoryPart, PendingPart,
    Process, QueuePart, Rate, Report, SenderAnswer, Senders, ShardSum, Shards, Storage,
    StorageErrors, verdict,
};

/// What a record in the log costs beside its body, in memory and on disk: enough for a forecast.
const RECORD_BYTES: f64 = 512.0;
/// What waits no longer than this beyond its patience is on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

fn configuration(configured: &Configured) -> Configuration {
    let (in_use, problems) = match configured {
        Configured::AsAsked => ("as_asked", String::new()),
        Configured::LastGood(problems) => ("last_good", problems.text()),
        Configured::Standby(problems) => ("none", problems.text()),
    };
    Configuration {
        in_use: in_use.to_owned(),
        problems: problems.lines().map(clean).collect(),
    }
}

impl Status {
    /// Looks at the sums; to be called each second.
    pub fn look(&self) {
        let told = self.ingest.metrics.told();
        let look = Look {
            at: Instant::now(),
            samples: told.samples,
            bytes: told.bytes,
            requests: told.requests,
            queues: self.queues.iter().map(|queue| queue.sums()).collect(),
        };
        self.history().push(look);
    }

    /// Everything that people are told, of one moment.
    pub fn report(&self) -> Report {
        let _one = self.one_at_a_time();
        let senders = self.senders();
        let log = self.log(&senders);
        let queues = self.queues.iter().enumerate();
        let latency = self.latency();
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now_ms: wall_ms(),
            uptime_seconds: self.about.started.elapsed().as_secs_f64(),
            stopping: self.is_stopping(),
            configuration: configuration(&self.configured),
            mode: self.mode.word().to_owned(),
            ack: ack(self.ack),
            queues: queues
                .map(|(at, queue)| self.queue(at, queue, &senders, latency))
                .collect(),
            senders,
            log,
            at_risk: self.at_risk_report(),
            memory: self.memory(),
            process: self.process(),
            storage: self.storage(),
            storage_trouble: self.storage_trouble.as_deref().map(clean),
            ..Report::default()
        };
        let mut findings = verdict::findings(&report).into_iter();
        report.verdict = findings.next().unwrap_or_default();
        report.also = findings.collect();
        report
    }

    fn senders(&self) -> Senders {
        let told = self.ingest.metrics.told();
        let answers = told.answers.into_iter();
        let history = self.history();
        Senders {
            address: self.about.data_address.clone(),
            samples: told.samples,
            samples_per_second: rate(&history, |look| look.samples),
            bytes: told.bytes,
            bytes_per_second: rate(&history, |look| look.bytes),
            requests: told.requests,
            last_ms: told.last_ms,
            connections: self.connections.open() as u64,
            in_flight: self.ingest.activity.in_flight() as u64,
            answers: answers
                .map(|((code, reason), (count, last_ms))| SenderAnswer {
                    code,
                    reason: reason.to_owned(),
                    count,
                    last_ms,
                })
                .collect(),
        }
    }

    fn log(&self, senders: &Senders) -> LogPart {
        let occupancy = self.ingest.log.occupancy();
        let fill = fill(&self.history());
        let keeps = self.ack != AckMode::Upstream;
        let room = occupancy.limit.saturating_sub(occupancy.bytes) as f64;
        let comes = fill.filter(|fill| keeps && senders.last_ms.is_some() && *fill > 0.0);
        let on_disk = self.ack == AckMode::Fsync;
        LogPart {
            kind: if on_disk { "disk" } else { "memory" }.to_owned(),
            bytes: occupancy.bytes,
            limit_bytes: occupancy.limit,
            records: occupancy.records,
            fill_bytes_per_second: fill,
            room_seconds: comes.map(|fill| room / fill),
        }
    }

    /// How long the slowest receiver takes to answer: median and 99 of 100, in seconds.
    fn latency(&self) -> Option<(f64, f64)> {
        let known = self.queues.iter().filter_map(|queue| {
            let attempts = queue.facts().attempts;
            let seconds = |at: Option<Duration>| at.map(|at| at.as_secs_f64());
            seconds(attempts.p50).zip(seconds(attempts.p99))
        });
        known.max_by(|one, other| one.1.total_cmp(&other.1))
    }

    fn queue(
        &self,
        at: usize,
        queue: &Queue,
        senders: &Senders,
        latency: Option<(f64, f64)>,
    ) -> QueuePart {
        let facts = queue.facts();
        let history = self.history();
        let of = |look: &Look, sum: fn(&crate::queue::facts::Sums) -> u64| {
            look.queues.get(at).map_or(0, sum)
        };
        let out = rate(&history, |look| of(look, |sums| sums.out));
        let grown = |sum| {
            let growth = history.growth(LONG, |look| of(look, sum));
            growth.map_or(0, |(grown, _)| grown)
        };
        let (retries, batches) = (grown(|sums| sums.retries), grown(|sums| sums.batches));
        let attempts = retries + batches;
        let settled_rate = rate(&history, |look| of(look, |sums| sums.settled));
        QueuePart {
            name: queue.name().to_owned(),
            url: clean(queue.url()),
            required: facts.required,
            discards: facts.discards,
            out_per_second: out,
            lag_seconds: facts.snapshot.lag.as_secs_f64(),
            pending: pending(&facts.snapshot.books),
            drain: drain(&facts, senders.samples_per_second, settled_rate),
            ceiling: ceiling(&facts),
            shards: shards(&facts),
            endpoint: EndpointPart {
                retried_share: (attempts > 0).then(|| retries as f64 / attempts as f64),
                ..endpoint(&facts)
            },
            bytes: Bytes {
                sent_per_second: rate(&history, |look| of(look, |sums| sums.sent_bytes)),
                ..bytes(&facts, senders)
            },
            books: BooksPart {
                lost_5m: grown(|sums| sums.lost),
                ..books(&facts.snapshot.books)
            },
            errors: errors(&facts.attempts),
            shadow: facts.shadow.as_ref().map(|found| {
                shadow(&Measured {
                    ack: ack_word(self.ack).to_owned(),
                    latency,
                    ..measured(found)
                })
            }),
            journal_trouble: facts.journal.and_then(|journal| {
                journal.unwritable_since?;
                let why = journal.last_error;
                Some(why.map_or_else(|| "no reason is known".to_owned(), |why| clean(&why)))
            }),
        }
    }

    /// What the process takes of the machine.
    fn process(&self) -> Process {
        let measuring = self.queues.iter().filter_map(|queue| queue.shadow_facts());
        let measuring: Duration = measuring.map(|found| found.cpu).sum();
        let (rss_bytes, rss_peak_bytes) = resident();
        let samples = self.ingest.metrics.told().samples;
        let up = self.about.started.elapsed().as_secs_f64();
        let cpu = cpu_of_process().as_secs_f64();
        Process {
            rss_bytes,
            rss_peak_bytes,
            ..Process::of(cpu, measuring.as_secs_f64(), up, samples)
        }
    }

    fn memory(&self) -> Memory {
        let parts = self.memory_parts().into_iter();
        Memory {
            limit_bytes: self.memory_limit,
            parts: parts
                .map(|(part, bytes)| MemoryPart {
                    part: part.to_owned(),
                    bytes,
                })
                .collect(),
        }
    }

    fn storage(&self) -> Option<Storage> {
        let (disk, medium) = (self.disk.as_ref()?, self.medium?);
        let health = disk.health();
        let since = health.unwritable_since;
        let ago = |at: Instant| i64::try_from(at.elapsed().as_millis()).unwrap_or(0);
        let errors = health.errors.into_iter();
        let damage = health.damage.kinds().into_iter();
        Some(Storage {
            path: clean(&self.about.storage_path),
            medium: medium_word(medium).to_owned(),
            writable: since.is_none(),
            unwritable_since_ms: since.map(|at| wall_ms() - ago(at)),
            last_error: health.last_error.as_deref().map(clean),
            errors: errors
                .map(|(operation, error, count)| StorageErrors {
                    operation: operation.to_owned(),
                    error,
                    count,
                })
                .collect(),
            syncs: health.syncs.count(),
            sync_p50_seconds: sync_percentile(&health.syncs, 0.5),
            sync_p99_seconds: sync_percentile(&health.syncs, 0.99),
            advice: health.probe.and_then(|probe| probe.advice()),
            damage: damage
                .filter(|(_, count)| *count > 0)
                .map(|(part, count)| DamagePart {
                    part: part.to_owned(),
                    count,
                })
                .collect(),
        })
    }

    fn at_risk_report(&self) -> Vec<AtRisk> {
        let events = self.at_risk().into_iter();
        events
            .map(|(event, samples)| AtRisk {
                event: event.to_owned(),
                samples,
                means: at_risk_means(event, self.ack, self.medium).to_owned(),
            })
            .collect()
    }
}

fn rate(history: &History, sum: impl Fn(&Look) -> u64) -> Rate {
    Rate {
        last_10s: history.rate(SHORT, &sum),
        last_5m: history.rate(LONG, &sum),
    }
}

/// Bytes a second that fill the log while nothing leaves it. Over the long time: targets are scraped now and
/// then, and a forecast should not jump.
fn fill(history: &History) -> Option<f64> {
    let bytes = history.rate(LONG, |look| look.bytes)?;
    let requests = history.rate(LONG, |look| look.requests)?;
    Some(bytes + requests * RECORD_BYTES)
}

/// What is in memory now, and the most that ever was (proc(5)); nothing where there is no `/proc`.
fn resident() -> (Option<u64>, Option<u64>) {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = value.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    };
    (line("VmRSS:"), line("VmHWM:"))
}

fn ack_word(mode: AckMode) -> &'static str {
    match mode {
        AckMode::Upstream => "upstream",
        AckMode::Memory => "memory",
        AckMode::Fsync => "fsync",
    }
}

/// What the queue has measured, in plain numbers.
fn measured(found: &ShadowFacts) -> Measured {
    let came = |came: Came| CameIn {
        requests: came.requests,
        samples: came.elements,
        bytes: came.bytes,
    };
    let row = |(cut, form, tally): &(Cut, Form, Tally)| MeasuredRow {
        cut: match cut {
            Cut::AsSent => "as_sent".to_owned(),
            Cut::Arrival => "arrival".to_owned(),
            Cut::Target => "target".to_owned(),
            Cut::Large => "large".to_owned(),
            Cut::Merged(window) => merged(window.as_secs_f64()),
        },
        protocol: form.words().0.to_owned(),
        compression: form.words().1.to_owned(),
        per_send: cut.per_send(found.batch).map(u64::from),
        samples: tally.elements,
        left_out: tally.left_out,
        requests: tally.requests,
        bytes: tally.bytes,
        came: came(tally.came),
        cpu_seconds: tally.cpu.as_secs_f64(),
    };
    Measured {
        state: match found.stage {
            Stage::Waiting => ShadowState::Waiting,
            Stage::Measuring => ShadowState::Measuring,
            Stage::Ready => ShadowState::Ready,
        },
        passed_seconds: found.passed.as_secs_f64(),
        length_seconds: found.length.as_secs_f64(),
        came_v1: came(found.seen.v1),
        came_v2: came(found.seen.v2),
        empty: came(found.seen.empty),
        stretches: found.stretches,
        longest_seconds: found.longest.as_secs_f64(),
        cramped: found.cramped,
        rows: found.tallies.iter().map(row).collect(),
        cpu_seconds: found.cpu.as_secs_f64(),
        cpu_share_most: found.share,
        memory_peak_bytes: found.memory_peak as u64,
        per_send: u64::from(found.batch),
        windows_seconds: found.windows.iter().map(Duration::as_secs_f64).collect(),
        ..Measured::default()
    }
}

fn ack(mode: AckMode) -> Ack {
    let means = match mode {
        AckMode::Upstream => {
            "A 2xx means that every required receiver has settled all of the request."
        }
        AckMode::Memory => {
            "A 2xx means that the request is in memory here: what is pending is lost when this process ends \
             without a stop."
        }
        AckMode::Fsync => "A 2xx means that the request is on disk here, synced.",
    };
    Ack {
        mode: ack_word(mode).to_owned(),
        means: means.to_owned(),
    }
}

fn at_risk_means(event: &str, ack: AckMode, medium: Option<Medium>) -> &'static str {
    match (event, ack, medium) {
        (_, AckMode::Upstream, _) => "Nothing is acknowledged before receivers have settled it.",
        (_, AckMode::Memory, _) | (_, AckMode::Fsync, None) => "What is pending is in memory only.",
        (_, _, Some(Medium::PodLayer)) => {
            "The log's folder is the container's own layer: what is pending goes with the container, and that \
             with its process."
        }
        ("process", ..) => "What is acknowledged is on disk, and sent after the next start.",
        ("node", _, Some(medium)) if medium.survives_node() => {
            "What is acknowledged is synced to a disk that keeps it."
        }
        ("node", ..) => "The log's folder is in memory: what is pending goes with the node.",
        (_, _, Some(medium)) if medium.survives_pod() => {
            "The log's folder is a volume that outlives the pod."
        }
        (_, _, Some(Medium::EmptyDir)) => {
            "The log's folder is an emptyDir: what is pending goes with the pod."
        }
        (_, _, Some(Medium::Overlay)) => {
            "The log's folder is the container's own layer: what is pending goes with the container."
        }
        _ => "The log's folder is in memory: what is pending goes with the pod.",
    }
}

fn medium_word(medium: Medium) -> &'static str {
    match medium {
        Medium::Volume => "volume",
        Medium::EmptyDir => "emptyDir",
        Medium::Overlay | Medium::PodLayer => "container",
        Medium::Memory | Medium::PodMemory => "memory",
    }
}

/// The upper end of the class that the share falls into.
fn sync_percentile(syncs: &Syncs, share: f64) -> Option<f64> {
    let wanted = (syncs.count() as f64 * share).ceil() as u64;
    let mut seen = 0;
    let class = syncs.classes.iter().position(|count| {
        seen += count;
        seen >= wanted.max(1)
    })?;
    // Above the last bound nothing is known but the mean.
    Some(
        SYNC_BOUNDS
            .get(class)
            .copied()
            .unwrap_or(SYNC_BOUNDS[SYNC_BOUNDS.len() - 1]),
    )
}

fn pending(books: &Books) -> PendingPart {
    let pending = &books.pending;
    PendingPart {
        total: pending.total().total(),
        unread: (pending.unread + pending.untaken).total(),
        queued: pending.queued.total(),
        in_flight: pending.in_flight.total(),
    }
}

/// Which way it goes. What settles counts, not what is delivered: a refused sample waits no more.
fn drain(facts: &Facts, coming: Rate, settling: Rate) -> Drain {
    let waiting = facts.snapshot.books.pending.total().total();
    if waiting == 0 || facts.snapshot.lag <= facts.patience + ON_ITS_WAY {
        return Drain::default();
    }
    let (coming, settling) = (
        coming.last_10s.unwrap_or(0.0),
        settling.last_10s.unwrap_or(0.0),
    );
    let (state, seconds) = if settling <= 0.0 {
        (DrainState::Stopped, None)
    } else if settling <= coming {
        (DrainState::Growing, None)
    } else {
        let seconds = waiting as f64 / (settling - coming);
        (DrainState::Draining, Some(seconds))
    };
    Drain { state, seconds }
}

fn shards(facts: &Facts) -> Shards {
    let Decision {
        desired,
        reason,
        sum,
        ..
    } = facts.decision;
    let gauges = &facts.snapshot.gauges;
    Shards {
        actual: gauges.shards as u64,
        busy: gauges.busy as u64,
        desired,
        min: facts.bounds.0 as u64,
        max: facts.bounds.1 as u64,
        waiting_batches: gauges.waiting as u64,
        reason: match facts.ceiling {
            Some(_) => "passthrough",
            None => reason.as_str(),
        }
        .to_owned(),
        sum: ShardSum {
            seconds_per_sample: sum.seconds_per_element,
            in_per_second: sum.data_in,
            out_per_second: sum.data_out,
            catch_up: CATCH_UP,
            pending: sum.pending,
        },
    }
}

fn ceiling(facts: &Facts) -> Option<Ceiling> {
    let ceiling = facts.ceiling?;
    let known = ceiling.measured;
    Some(Ceiling {
        per: if ceiling.upstream {
            "request of a sender"
        } else {
            "tenant"
        }
        .to_owned(),
        samples_per_second: known.map(|known| known.per_second()),
        samples_per_request: known.map(|known| known.per_request),
        answer_seconds: known.map(|known| known.seconds),
    })
}

fn endpoint(facts: &Facts) -> EndpointPart {
    let attempts = &facts.attempts;
    let codes = attempts.codes.iter();
    EndpointPart {
        gate: match facts.gate {
            GateState::Open => "open",
            GateState::Ramp(_) => "ramp",
            GateState::Closed(_) => "closed",
            GateState::Probing => "probing",
        }
        .to_owned(),
        knows_v2: match facts.known {
            Known::Proved => "yes",
            Known::V1Until(_) => "no",
            Known::Unproved | Known::Probing => "not known",
        }
        .to_owned(),
        p50_seconds: attempts.p50.map(|p50| p50.as_secs_f64()),
        p99_seconds: attempts.p99.map(|p99| p99.as_secs_f64()),
        retried_share: None,
        codes: codes
            .map(|(code, answers)| CodePart {
                code: code.clone(),
                count: answers.count,
                last_ms: answers.last_ms,
            })
            .collect(),
        failing: attempts.failing.as_ref().map(|failing| FailingPart {
            since_ms: failing.since_ms,
            attempts: failing.attempts,
            code: failing.code.clone(),
            code_since_ms: failing.code_since_ms,
            why: clean(&failing.why),
        }),
        last_success_ms: attempts.last_success_ms,
    }
}

fn bytes(facts: &Facts, senders: &Senders) -> Bytes {
    let (sent, of_settled) = (facts.attempts.sent_bytes, facts.attempts.settled_bytes);
    let settled = facts.snapshot.work.settled;
    let per = |bytes: u64, samples: u64| (samples > 0).then(|| bytes as f64 / samples as f64);
    let (per_in, per_out) = (
        per(senders.bytes, senders.samples),
        per(of_settled, settled),
    );
    let both = per_in.zip(per_out);
    Bytes {
        sent,
        sent_per_second: Rate::default(),
        in_vain: sent.saturating_sub(of_settled),
        per_sample_in: per_in,
        per_sample_out: per_out,
        saved: both.map(|(came, went)| (came - went) * settled as f64),
        saved_share: both.and_then(|(came, went)| (came > 0.0).then(|| 1.0 - went / came)),
    }
}

fn books(books: &Books) -> BooksPart {
    let ledger = &books.ledger;
    let dropped = DropReason::ALL.into_iter().map(|reason| Dropped {
        reason: reason.as_str().to_owned(),
        count: ledger.dropped[reason as usize].total(),
    });
    BooksPart {
        received: books.received.total(),
        delivered: ledger.delivered.total(),
        unconfirmed: ledger.unconfirmed.total(),
        quarantined: ledger.quarantined.total(),
        dropped: dropped.filter(|dropped| dropped.count > 0).collect(),
        lost_5m: 0,
        conservation_error: books.conservation_error(),
    }
}

fn errors(attempts: &AttemptFacts) -> Vec<ErrorPart> {
    let errors = attempts.errors.iter();
    errors
        .map(|error| ErrorPart {
            first_ms: error.first_ms,
            last_ms: error.last_ms,
            count: error.count,
            text: clean(&error.what),
        })
        .collect()
}
