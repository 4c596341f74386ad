//! `bench sink`.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::progress::{self, Told};
use super::{LedgerFile, Output, interrupted, print};
use crate::bench::data::DataOptions;
use crate::bench::sink::{
    Behaviour, Decoder, Delay, Down, Fail, Hang, Keep, RateLimit, Refuse, SeriesMatch, Sink,
    SinkHandle, SinkOptions, SinkStats, V2Support, When,
};
use crate::units::{ByteSize, Span};

/// Examples under `--help`.
pub(super) const EXAMPLES: &str = "\
Any path takes POSTs. GET /stats gives the numbers while it runs, as JSON; they come on stdout at its \
end: after --duration, Ctrl-C or SIGTERM. The exit code is 0 if nothing came out of order, with wrong \
bits or twice with different ones, else 1. Whatever goes wrong on demand combines.

Check every bit of what `bench load` (seed 1) sends, with a ledger for `bench compare`:
  sluicegate bench sink --verify 1 --ledger sink.ledger

100 to 150 ms away, every 7th request 503, and down from second 30 to second 50:
  sluicegate bench sink --delay 100ms --jitter 50ms --fail-every 7 \\
      --down refuse --down-from 30s --down-for 20s

A Prometheus: 400 for what is out of order, and nothing of a 1.0 request stays:
  sluicegate bench sink --prometheus-rules --refuse pod=bad

A Thanos: 409 for one series in a thousand, the others are stored; no 2.0:
  sluicegate bench sink --refuse 1000/1000000 --refuse-status 409 \\
      --refuse-keeps-rest --v2 unsupported

Limits: 413 above 1 MiB, 429 with Retry-After above 10,000 samples a second:
  sluicegate bench sink --max-body 1MiB --rate-limit 10000 --retry-after 5";

/// Where to listen, what to check, and how to misbehave.
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[derive(Debug, Args)]
pub struct SinkArgs {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:9409")]
    listen: SocketAddr,
    /// Check every value; takes the load's --seed
    #[arg(long, value_name = "SEED")]
    verify: Option<u64>,
    /// The load to verify is --weird
    #[arg(long, requires = "verify")]
    weird: bool,
    /// Forget all timestamps but the newest of each series
    #[arg(long)]
    forget: bool,
    /// Read messages with the generated code, which is slower
    #[arg(long)]
    prost: bool,
    /// A header that names the tenant; may be given often
    #[arg(long)]
    tenant_header: Vec<String>,
    /// A label that must have the tenant's name
    #[arg(long)]
    tenant_label: Option<String>,
    /// Wait before each answer
    #[arg(long)]
    delay: Option<Span>,
    /// Wait at most so much more
    #[arg(long)]
    jitter: Option<Span>,
    /// Answer every so many-th request with an error
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    fail_every: Option<u64>,
    /// Which error
    #[arg(long, default_value_t = 503, value_parser = clap::value_parser!(u16).range(200..600))]
    fail_status: u16,
    /// Delay, hang and fail after the samples are stored, not before
    #[arg(long)]
    after_storing: bool,
    /// Retry-After header, in seconds, of those errors and of 429
    #[arg(long, value_name = "SECONDS")]
    retry_after: Option<u64>,
    /// Hold requests with such a series: name=value, or N/1000000 for a share
    #[arg(long, value_name = "SERIES")]
    hang: Option<SeriesMatch>,
    /// Hold them so long [default: for ever]
    #[arg(long, requires = "hang")]
    hang_time: Option<Span>,
    /// Read bodies no faster than this, a second
    #[arg(long, value_name = "BYTES")]
    read_rate: Option<ByteSize>,
    /// 413 for larger bodies
    #[arg(long, value_name = "BYTES")]
    max_body: Option<ByteSize>,
    /// 413 for requests with more elements
    #[arg(long, value_name = "N")]
    max_samples: Option<u64>,
    /// 429 above so many samples a second
    #[arg(long, value_name = "N")]
    rate_limit: Option<u64>,
    /// Refuse such series; may be given often
    #[arg(long, value_name = "SERIES")]
    refuse: Vec<SeriesMatch>,
    /// With which status
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u16).range(200..600))]
    refuse_status: u16,
    /// Keep the rest of such a request, as Thanos and Mimir do
    #[arg(long)]
    refuse_keeps_rest: bool,
    /// Take samples in order only, as Prometheus does
    #[arg(long)]
    prometheus_rules: bool,
    /// Be down: refuse connections, or close them without an answer
    #[arg(long, value_enum, value_name = "HOW")]
    down: Option<DownArg>,
    /// Be down from then on, and not at once
    #[arg(long, value_name = "TIME", requires = "down")]
    down_from: Option<Span>,
    /// Come back after so much time [default: never]
    #[arg(long, value_name = "TIME", requires = "down")]
    down_for: Option<Span>,
    /// What to do with 2.0: store it; store it without Written headers; 204 and store nothing; 415
    #[arg(long, value_enum, default_value_t)]
    v2: V2Arg,
    /// Take zstd, as VictoriaMetrics does
    #[arg(long)]
    zstd: bool,
    /// Stop after so much time
    #[arg(long)]
    duration: Option<Span>,
    /// Write down what it has, for `bench compare`
    #[arg(long, value_name = "FILE", conflicts_with = "forget")]
    ledger: Option<PathBuf>,
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum V2Arg {
    #[default]
    Store,
    Silent,
    Ignore,
    Unsupported,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DownArg {
    Refuse,
    Close,
}

/// When it is down.
pub(super) struct Outage {
    how: Down,
    from: Duration,
    /// `None`: until its end.
    time: Option<Duration>,
}

impl Outage {
    /// Takes the receiver down and, if it is to come back, up again; never ends.
    pub(super) async fn run(outage: Option<Self>, sink: &SinkHandle, well: Behaviour) {
        if let Some(Self { how, from, time }) = outage {
            tokio::time::sleep(from).await;
            sink.set_behaviour(Behaviour {
                down: Some(how),
                ..well.clone()
            });
            if let Some(time) = time {
                tokio::time::sleep(time).await;
                sink.set_behaviour(well);
            }
        }
        std::future::pending::<()>().await;
    }
}

impl SinkArgs {
    /// The same as options of the library.
    pub fn into_options(self) -> SinkOptions {
        let behaviour = self.behaviour();
        let data = |seed| DataOptions {
            seed,
            weird: self.weird,
            ..DataOptions::default()
        };
        SinkOptions {
            listen: self.listen,
            decoder: if self.prost {
                Decoder::Prost
            } else {
                Decoder::Scan
            },
            verify: self.verify.map(data),
            remember: !self.forget,
            list_repeats: false,
            tenant_headers: self.tenant_header,
            tenant_label: self.tenant_label,
            behaviour,
        }
    }

    pub(super) fn outage(&self) -> Option<Outage> {
        let how = match self.down? {
            DownArg::Refuse => Down::Refused,
            DownArg::Close => Down::Silent,
        };
        Some(Outage {
            how,
            from: self.down_from.unwrap_or_default().0,
            time: self.down_for.map(|span| span.0),
        })
    }

    fn behaviour(&self) -> Behaviour {
        let when = if self.after_storing {
            When::AfterStoring
        } else {
            When::BeforeStoring
        };
        let span = |span: Option<Span>| span.map_or(Duration::ZERO, |span| span.0);
        let delay = Delay {
            base: span(self.delay),
            jitter: span(self.jitter),
            when,
        };
        let fail = |every| Fail {
            every,
            status: self.fail_status,
            when,
            retry_after_seconds: self.retry_after,
        };
        let hang = |series: &SeriesMatch| Hang {
            series: Some(series.clone()),
            time: self.hang_time.map(|span| span.0),
            when,
        };
        let refuse = |series: &SeriesMatch| Refuse {
            series: series.clone(),
            status: self.refuse_status,
            keep: if self.refuse_keeps_rest {
                Keep::Good
            } else {
                Keep::AsPrometheus
            },
        };
        Behaviour {
            delay: Some(delay).filter(|delay| !(delay.base + delay.jitter).is_zero()),
            fail: self.fail_every.map(fail).into_iter().collect(),
            hang: self.hang.as_ref().map(hang),
            read_bytes_per_second: self.read_rate.map(|size| size.0),
            body_max_bytes: self.max_body.map(|size| size.0),
            samples_max: self.max_samples,
            rate_limit: self.rate_limit.map(|samples_per_second| RateLimit {
                samples_per_second,
                retry_after_seconds: self.retry_after,
            }),
            refuse: self.refuse.iter().map(refuse).collect(),
            v2: match self.v2 {
                V2Arg::Store => V2Support::Stored,
                V2Arg::Silent => V2Support::Silent,
                V2Arg::Unsupported => V2Support::Unsupported,
                V2Arg::Ignore => V2Support::Ignored,
            },
            zstd: self.zstd,
            prometheus_rules: self.prometheus_rules,
            ..Behaviour::default()
        }
    }
}

pub(super) async fn run(args: SinkArgs) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    let (output, duration) = (args.output, args.duration);
    let outage = args.outage();
    let ledger = args.ledger.as_deref().map(LedgerFile::create).transpose()?;
    let mut options = args.into_options();
    let well = options.behaviour.clone();
    // Down from the start means from before the first connection.
    let first = outage.as_ref().filter(|outage| outage.from.is_zero());
    options.behaviour.down = first.map(|outage| outage.how);
    let listen = options.listen;
    let sink =
        Sink::start(options).map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    // Scripts wait for this line; stdout is the result's.
    writeln!(io::stderr(), "listening on {}", sink.addr())?;
    let over = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration.0).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = interrupted() => result?,
        () = over => {}
        () = Outage::run(outage, &sink, well) => {}
        () = progress::show(|| told(&sink.stats())) => {}
    }
    // The numbers first: a ledger that cannot be written does not cost them too.
    let stats = if let Some(file) = ledger {
        let (stats, ledger) = sink.into_ledger().await;
        print(output, &stats)?;
        file.write(|out| ledger.write(out))?;
        stats
    } else {
        let stats = sink.stop().await;
        print(output, &stats)?;
        stats
    };
    let faults = stats.wrong + stats.conflicts + stats.order_violations;
    Ok(if faults == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn told(stats: &SinkStats) -> Told {
    let mut rest = format!(
        "{} series  {:.1} B/sample  age p99 {} ms",
        stats.series,
        stats.bytes_per_sample(),
        stats.age_ms.p99
    );
    for (count, what) in [
        (stats.in_flight, "in flight"),
        (stats.duplicates, "duplicates"),
        (stats.order_violations, "OUT OF ORDER"),
        (stats.wrong, "WRONG"),
        (stats.conflicts, "CONFLICTS"),
    ] {
        if count > 0 {
            rest.push_str(&format!("  {count} {what}"));
        }
    }
    Told {
        share: None,
        samples: stats.samples + stats.histograms,
        rest,
    }
}
