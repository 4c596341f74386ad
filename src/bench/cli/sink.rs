//! `bench sink`.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Output, interrupted, print, show_progress};
use crate::bench::data::DataOptions;
use crate::bench::sink::{
    Behaviour, Decoder, Delay, Fail, Hang, Keep, RateLimit, Refuse, SeriesMatch, Sink, SinkOptions,
    SinkStats, V2Support, When,
};
use crate::units::{ByteSize, Span};

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
    #[arg(long, value_name = "N")]
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
    /// What to do with 2.0: store it, answer 415, or 204 and store nothing
    #[arg(long, value_enum, default_value_t)]
    v2: V2Arg,
    /// Take zstd, as VictoriaMetrics does
    #[arg(long)]
    zstd: bool,
    /// Stop after so much time
    #[arg(long)]
    duration: Option<Span>,
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum V2Arg {
    #[default]
    Store,
    Unsupported,
    Ignore,
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
    let sink = Sink::start(args.into_options())?;
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
        () = show_progress(|| line(&sink.stats())) => {}
    }
    let stats = sink.stop().await;
    print(output, &stats)?;
    let faults = stats.wrong + stats.conflicts + stats.order_violations;
    Ok(if faults == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn line(stats: &SinkStats) -> String {
    format!(
        "samples {}  series {}  requests {}  in flight {}  {:.1} B/sample  duplicates {}  out of order {}  wrong {}",
        stats.samples + stats.histograms,
        stats.series,
        stats.requests,
        stats.in_flight,
        stats.bytes_per_sample(),
        stats.duplicates,
        stats.order_violations,
        stats.wrong
    )
}
