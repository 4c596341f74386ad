//! `bench load`.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::progress::{self, Told};
use super::{LedgerFile, Output, interrupted, pair, print};
use crate::bench::Protocol;
use crate::bench::data::{Churn, DataOptions, Profile};
use crate::bench::load::{Fates, Load, LoadOptions, LoadReport, LoadSummary, Speed, Stop};
use crate::units::Span;

/// Examples under `--help`.
pub(super) const EXAMPLES: &str = "\
The exit code is 0 if a 2xx came for every sample, else 1; 64 if the options make no sense together. \
Ctrl-C ends a run; what is in flight then is told as 'without answer'. A run without --scrapes, \
--samples and --duration goes on until then.

Ten minutes of a cluster of 50 nodes (41,000 series), 20 times as fast as it is:
  sluicegate bench load --url http://127.0.0.1:9201/api/v1/write \\
      --speed 20x --duration 30s

Timestamps of now, for receivers that refuse old samples; 41,000 samples a second:
  sluicegate bench load --url http://127.0.0.1:9201/api/v1/write \\
      --speed realtime --interval 1s

Remote write 2.0, as fast as it is taken, as a tenant, with a ledger for `bench compare`:
  sluicegate bench load --url http://127.0.0.1:9009/api/v1/push \\
      --protocol 2.0 --speed full --scrapes 40 \\
      --header X-Scope-OrgID=team --ledger load.ledger

30 % of the series replaced every two minutes, series spread over 50 shards:
  sluicegate bench load --url http://127.0.0.1:9201/api/v1/write \\
      --churn 0.3/8 --senders 50 --speed 10x";

/// What to send, where, and how fast.
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Receiver: http://HOST:PORT/PATH
    #[arg(long)]
    url: String,
    /// Exporters: kubernetes, node, giant or churn
    #[arg(long, default_value_t)]
    profile: Profile,
    /// Number of nodes; 820 series each with kubernetes
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    nodes: u32,
    /// Shards, each with one request in flight
    #[arg(long, default_value_t = 8)]
    senders: usize,
    /// Remote-write version: 1.0 or 2.0
    #[arg(long, default_value_t)]
    protocol: Protocol,
    /// realtime, a factor such as 10x, or full
    #[arg(long, default_value_t)]
    speed: Speed,
    /// Stop after so many scrapes of each target
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    scrapes: Option<u32>,
    /// Stop after so many samples
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    samples: Option<u64>,
    /// Stop after so much time
    #[arg(long)]
    duration: Option<Span>,
    /// Time between two scrapes of a target
    #[arg(long, default_value = "15s")]
    interval: Span,
    /// Elements in a request
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    max_samples_per_send: u32,
    /// Elements that may wait for a shard
    #[arg(long, default_value_t = 10_000)]
    capacity: usize,
    /// Age at which a request leaves although it is not full
    #[arg(long, default_value = "5s")]
    batch_send_deadline: Span,
    /// Time for one attempt
    #[arg(long, default_value = "30s")]
    remote_timeout: Span,
    /// Give a request up after so many attempts [default: never]
    #[arg(long)]
    attempts: Option<u32>,
    /// Longest wait between two attempts
    #[arg(long, default_value = "5s")]
    backoff_max: Span,
    /// Time to finish once everything is read
    #[arg(long, default_value = "1m")]
    flush_deadline: Span,
    /// Seed of names, offsets and values
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Timestamp (ms) of the first scrape round [default: so that the data ends about now]
    #[arg(long)]
    start: Option<i64>,
    /// A header for every request; may be given often
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    header: Vec<(String, String)>,
    /// A label for every series; may be given often
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    external_label: Vec<(String, String)>,
    /// Replace a share of the series every so many scrapes
    #[arg(long, value_name = "SHARE/SCRAPES", value_parser = churn)]
    churn: Option<Churn>,
    /// Send special floats: NaNs with payloads, −0, infinities, subnormals
    #[arg(long)]
    weird: bool,
    /// Send native histograms
    #[arg(long)]
    histograms: bool,
    /// Send exemplars
    #[arg(long)]
    exemplars: bool,
    /// Send metadata
    #[arg(long)]
    metadata: bool,
    /// Send start timestamps (2.0)
    #[arg(long)]
    start_timestamps: bool,
    /// Write down what became of every sample, for `bench compare`
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub(super) output: Output,
}

fn churn(text: &str) -> Result<Churn, String> {
    let refuse = || format!("not SHARE/SCRAPES: {text:?} (for example 0.3/8)");
    let (share, scrapes) = text.split_once('/').ok_or_else(refuse)?;
    let share: f64 = share.parse().map_err(|_| refuse())?;
    let every_scrapes: u32 = scrapes.parse().map_err(|_| refuse())?;
    if !(0.0..=1.0).contains(&share) || every_scrapes == 0 {
        return Err(refuse());
    }
    Ok(Churn {
        share,
        every_scrapes,
    })
}

impl LoadArgs {
    /// The same as options of the library.
    pub fn into_options(self) -> LoadOptions {
        LoadOptions {
            url: self.url,
            data: DataOptions {
                profile: self.profile,
                seed: self.seed,
                nodes: self.nodes,
                interval: self.interval.0,
                start_ms: self.start,
                weird: self.weird,
                churn: self.churn,
                external_labels: self.external_label,
                histograms: self.histograms,
                exemplars: self.exemplars,
                metadata: self.metadata,
                start_timestamps: self.start_timestamps,
            },
            protocol: self.protocol,
            senders: self.senders,
            max_samples_per_send: self.max_samples_per_send as usize,
            capacity: self.capacity,
            batch_send_deadline: self.batch_send_deadline.0,
            speed: self.speed,
            stop: Stop {
                scrapes: self.scrapes,
                samples: self.samples,
                duration: self.duration.map(|span| span.0),
            },
            remote_timeout: self.remote_timeout.0,
            attempts_max: self.attempts,
            backoff_max: self.backoff_max.0,
            retry_after_max: None,
            flush_deadline: self.flush_deadline.0,
            headers: self.header,
        }
    }
}

pub(super) async fn run(args: LoadArgs) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    let output = args.output;
    let ledger = args.ledger.as_deref().map(LedgerFile::create).transpose()?;
    let options = args.into_options();
    let stop = options.stop;
    let load = match Load::new(options) {
        Ok(load) => load,
        Err(error) => {
            writeln!(io::stderr(), "sluicegate bench: {error}")?;
            return Ok(ExitCode::from(super::USAGE));
        }
    };
    let report = watched(load, stop).await?;
    // The numbers first: a ledger that cannot be written does not cost them too.
    print(output, &report.summary)?;
    if let Some(ledger) = ledger {
        ledger.write(|out| report.write_ledger(out))?;
    }
    Ok(if all_written(&report.summary) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs it to its end, or until a signal; the progress is gone from the terminal then.
async fn watched(load: Load, stop: Stop) -> io::Result<LoadReport> {
    let progress = load.progress();
    let cancel = CancellationToken::new();
    let mut running = std::pin::pin!(load.run(cancel.clone()));
    let mut shown = std::pin::pin!(progress::show(|| told(stop, &progress.summary())));
    let mut stopping = std::pin::pin!(interrupted());
    loop {
        tokio::select! {
            report = &mut running => return Ok(report),
            () = &mut shown => {}
            result = &mut stopping, if !cancel.is_cancelled() => {
                result?;
                cancel.cancel();
            }
        }
    }
}

fn all_written(summary: &LoadSummary) -> bool {
    let lost = |fates: Fates| fates.refused + fates.indeterminate;
    lost(summary.samples) + lost(summary.exemplars) == 0
}

fn told(stop: Stop, summary: &LoadSummary) -> Told {
    let Fates {
        acknowledged,
        refused,
        indeterminate,
    } = summary.samples;
    let settled = acknowledged + refused + indeterminate;
    let (p50, p99) = (summary.latency.p50_ms, summary.latency.p99_ms);
    let mut rest = format!("p50 {p50:.1} p99 {p99:.1} ms");
    for (count, what) in [
        (refused, "refused"),
        (summary.retries, "retries"),
        (summary.network_errors, "network errors"),
    ] {
        if count > 0 {
            rest.push_str(&format!("  {count} {what}"));
        }
    }
    Told {
        share: share(stop, settled, summary),
        samples: acknowledged,
        rest,
    }
}

/// How near the nearest limit is; `None` without one.
fn share(stop: Stop, settled: u64, summary: &LoadSummary) -> Option<f64> {
    let of = |done: f64, all: f64| done / all.max(1e-9);
    let scrapes = stop.scrapes.map(|scrapes| {
        let all = u64::from(scrapes) * summary.series;
        of(settled as f64, all as f64)
    });
    let samples = stop
        .samples
        .map(|samples| of(settled as f64, samples as f64));
    let duration = stop
        .duration
        .map(|duration| of(summary.seconds, duration.as_secs_f64()));
    [scrapes, samples, duration]
        .into_iter()
        .flatten()
        .max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn progress_is_that_towards_the_limit_that_comes_first() {
        let summary = LoadSummary {
            series: 100,
            seconds: 3.0,
            ..LoadSummary::default()
        };
        let stop = Stop {
            scrapes: Some(10),
            samples: Some(2_000),
            duration: Some(Duration::from_secs(60)),
        };
        let shared = |stop| share(stop, 500, &summary).map(|share| (share * 1e3).round() as u32);
        assert_eq!(shared(stop), Some(500));
        let stop = Stop {
            scrapes: None,
            ..stop
        };
        assert_eq!(shared(stop), Some(250));
        let stop = Stop {
            samples: None,
            ..stop
        };
        assert_eq!(shared(stop), Some(50));
        assert_eq!(shared(Stop::default()), None);
    }
}
