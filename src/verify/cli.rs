//! `sluicegate verify`: the command.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::compare::{Comparison, Wish, external_labels};
use super::diff::Rule;
use super::plan::{self, Selector, Slice};
use super::report::{Frame, Report, SideReport, Verdict};
use super::series::Labelling;
use super::side::{Side, Trouble};
use super::text::text;
use crate::clock;
use crate::queue::client::{Auth, EndpointOptions, SecretSource, TlsOptions};
use crate::report::words::{short, time};
use crate::units::Span;

/// What `VictoriaMetrics` keeps of a float: about 12 digits.
const TWELVE_DIGITS: f64 = 2e-12;
/// Time between two signs of progress.
const PROGRESS: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  sluicegate verify --from http://prometheus:9090 --to http://receiver:9090 --window 1h
  sluicegate verify --from http://prometheus:9090 --to https://mimir.example/prometheus \\
      --to-header X-Scope-OrgID=team-a --to-credentials-file token --match '{job=\"node\"}'
  sluicegate verify --from http://prometheus:9090 --to http://vmselect:8481/select/0/prometheus -o json
  sluicegate verify --from http://prometheus:9090 --to 'http://thanos-query:9090?dedup=false' --ignore-label receive

The window ends --settle before now: what is younger may still be on its way. External labels are read
from --from's configuration. What is not compared: stale markers (the API does not show them),
exemplars and metadata.
Exit codes: 0 no gap; 1 something is missing, extra or different, could not be compared, or there was
nothing to compare; 64 the command line makes no sense; 69 a side does not answer, or not as
Prometheus' API.";

/// Arguments of `sluicegate verify`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// The Prometheus that scrapes: its address, with a path prefix if it has one
    #[arg(long, value_name = "URL")]
    pub from: String,

    /// Where the receiver is queried: Prometheus, Thanos Query, Mimir, `VictoriaMetrics`. Parameters
    /// in the URL go with every query
    #[arg(long, value_name = "URL")]
    pub to: String,

    /// How much time to compare
    #[arg(long, value_name = "D", default_value = "1h")]
    pub window: Span,

    /// How long ago the window ends, so that everything has arrived
    #[arg(long, value_name = "D", default_value = "2m", conflicts_with = "end")]
    pub settle: Span,

    /// When the window ends instead: 2026-01-31T12:00:00Z, or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub end: Option<i64>,

    /// samples: every timestamp and value. counts: of each series how many, for a slow link; samples only
    /// where those differ
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,

    /// Only series of --from that this selects; may be given often. What two select is compared twice
    #[arg(long = "match", value_name = "SELECTOR")]
    pub matches: Vec<String>,

    /// A label that is put on between --from and --to; may be given often. External labels are known
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub add_label: Vec<(String, String)>,

    /// A label not to look at on either side, an external label too; may be given often
    #[arg(long, value_name = "NAME")]
    pub ignore_label: Vec<String>,

    /// Do not read external labels from --from's configuration
    #[arg(long)]
    pub no_external_labels: bool,

    /// Relative difference of values that is none [default: 0, for `VictoriaMetrics` 2e-12]
    #[arg(long, value_name = "R", value_parser = tolerance)]
    pub tolerance: Option<f64>,

    /// Metrics compared at a time: each asks one side after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub concurrency: u8,

    /// Rest after each slice of a metric, to spare the two
    #[arg(long, value_name = "D", default_value = "0s")]
    pub pause: Span,

    /// Time for one answer; what takes longer is asked in smaller parts
    #[arg(long, value_name = "D", default_value = "1m")]
    pub timeout: Span,

    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,

    /// How to reach --from.
    #[command(flatten)]
    pub from_access: FromAccess,

    /// How to reach --to.
    #[command(flatten)]
    pub to_access: ToAccess,
}

/// What is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Every timestamp and value.
    #[default]
    Samples,
    /// How many samples each series has.
    Counts,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

macro_rules! access {
    ($name:ident, $heading:literal, $flag:literal) => {
        #[doc = $heading]
        #[derive(Args, Clone, Debug, Default)]
        #[command(next_help_heading = $heading)]
        pub struct $name {
            /// A file with a bearer token
            #[arg(id = concat!($flag, "-credentials-file"), long = concat!($flag, "-credentials-file"), value_name = "FILE")]
            pub credentials_file: Option<PathBuf>,

            /// User name for basic authentication
            #[arg(
                id = concat!($flag, "-username"),
                long = concat!($flag, "-username"),
                value_name = "NAME",
                requires = concat!($flag, "-password-file"),
                conflicts_with = concat!($flag, "-credentials-file")
            )]
            pub username: Option<String>,

            /// A file with the password for it
            #[arg(
                id = concat!($flag, "-password-file"),
                long = concat!($flag, "-password-file"),
                value_name = "FILE",
                requires = concat!($flag, "-username")
            )]
            pub password_file: Option<PathBuf>,

            /// A header for every request, such as X-Scope-OrgID or THANOS-TENANT; may be given often
            #[arg(id = concat!($flag, "-header"), long = concat!($flag, "-header"), value_name = "NAME=VALUE", value_parser = pair)]
            pub header: Vec<(String, String)>,

            /// Certificates (PEM) to believe instead of the system's
            #[arg(id = concat!($flag, "-ca-file"), long = concat!($flag, "-ca-file"), value_name = "FILE")]
            pub ca_file: Option<PathBuf>,

            /// Believe every certificate
            #[arg(id = concat!($flag, "-insecure-skip-verify"), long = concat!($flag, "-insecure-skip-verify"))]
            pub insecure_skip_verify: bool,
        }

        impl $name {
            fn options(&self, args: &VerifyArgs, url: &str) -> Result<EndpointOptions, String> {
                let failed = |why: &str| format!(concat!("--", $flag, ": {}"), why);
                let url: Uri = url.parse().map_err(|_| failed("not a URL"))?;
                let mut options = EndpointOptions::new(url);
                for (name, value) in &self.header {
                    let refuse = || failed(&format!("header {name}: not a header"));
                    let name: HeaderName = name.parse().map_err(|_| refuse())?;
                    let value: HeaderValue = value.parse().map_err(|_| refuse())?;
                    options.headers.push((name, value));
                }
                options.auth = match (&self.credentials_file, &self.username, &self.password_file) {
                    (Some(file), _, _) => Auth::Bearer(SecretSource::File(file.clone())),
                    (None, Some(username), Some(file)) => Auth::Basic {
                        username: username.clone(),
                        password: SecretSource::File(file.clone()),
                    },
                    _ => Auth::None,
                };
                options.tls = TlsOptions {
                    ca_file: self.ca_file.clone(),
                    insecure_skip_verify: self.insecure_skip_verify,
                    ..TlsOptions::default()
                };
                options.attempt_timeout = args.timeout.0.max(Duration::from_secs(1));
                options.max_connections = usize::from(args.concurrency);
                Ok(options)
            }
        }
    };
}

access!(FromAccess, "How to reach --from", "from");
access!(ToAccess, "How to reach --to", "to");

fn pair(text: &str) -> Result<(String, String), String> {
    let refuse = || format!("not NAME=VALUE: {text:?}");
    let (name, value) = text.split_once('=').ok_or_else(refuse)?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

fn tolerance(text: &str) -> Result<f64, String> {
    let parsed: Result<f64, _> = text.parse();
    match parsed {
        Ok(tolerance) if (0.0..1.0).contains(&tolerance) => Ok(tolerance),
        _ => Err("not a number from 0 up to 1".to_owned()),
    }
}

/// A moment in milliseconds.
fn moment(text: &str) -> Result<i64, String> {
    let refuse =
        || format!("not a time: {text:?} (write 2026-01-31T12:00:00Z, or seconds since 1970)");
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(1000).ok_or_else(refuse);
    }
    clock::parse_utc(text).ok_or_else(refuse)
}

/// How a comparison ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// No gap.
    Same,
    /// Something differs, or could not be compared.
    Different,
    /// What was asked for makes no sense.
    Usage,
    /// A side does not answer.
    Unreachable,
}

/// Why there is no report.
enum NoReport {
    Usage(String),
    Unreachable(String),
}

impl From<Trouble> for NoReport {
    fn from(trouble: Trouble) -> Self {
        Self::Unreachable(trouble.to_string())
    }
}

impl VerifyArgs {
    /// Compares, and prints: the result to `out`, what went wrong to `err`. `stop` ends it early.
    ///
    /// # Errors
    /// When the result cannot be printed.
    pub async fn run(
        &self,
        out: &mut dyn Write,
        err: &mut dyn Write,
        stop: impl Future<Output = ()>,
    ) -> io::Result<Ended> {
        let report = match self.report(stop).await {
            Ok(report) => report,
            Err(NoReport::Usage(why)) => {
                writeln!(err, "sluicegate verify: {why}")?;
                return Ok(Ended::Usage);
            }
            Err(NoReport::Unreachable(why)) => {
                writeln!(err, "sluicegate verify: {why}")?;
                return Ok(Ended::Unreachable);
            }
        };
        match self.output {
            Output::Text => write!(out, "{}", text(&report))?,
            Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
        }
        Ok(match report.verdict {
            Verdict::NoGap => Ended::Same,
            Verdict::Gaps | Verdict::NotAllCompared | Verdict::Nothing => Ended::Different,
            Verdict::Unfinished => Ended::Unreachable,
        })
    }

    async fn report(&self, stop: impl Future<Output = ()>) -> Result<Report, NoReport> {
        let now = clock::wall_ms();
        let window = self.slice(now).map_err(NoReport::Usage)?;
        let selectors = self.matches.iter().map(|text| {
            Selector::parse(text).map_err(|why| NoReport::Usage(format!("--match: {why}")))
        });
        let selectors = selectors.collect::<Result<Vec<_>, _>>()?;
        let (mut from, mut to) = self.sides().map_err(NoReport::Usage)?;
        let mut stop = std::pin::pin!(stop);
        let met = async {
            let (met_from, met_to) = tokio::join!(from.meet(now), to.meet(now));
            met_from?;
            met_to
        };
        tokio::select! {
            met = met => met?,
            () = &mut stop => return Err(NoReport::Unreachable("stopped".to_owned())),
        }
        let mut notes = Vec::new();
        let labelling = self.labelling(&from, &mut notes).await?;
        let rounds = from.victoriametrics || to.victoriametrics;
        let wish = Wish {
            window,
            selectors,
            labelling,
            counts: self.mode == Mode::Counts,
            rule: Rule {
                tolerance: self
                    .tolerance
                    .unwrap_or(if rounds { TWELVE_DIGITS } else { 0.0 }),
                rounds,
            },
            concurrency: usize::from(self.concurrency),
            pause: self.pause.0,
        };
        let comparison = Arc::new(Comparison::new(from, to, wish));
        let ended = {
            let progress = show_progress(&comparison);
            tokio::select! {
                ended = comparison.run() => ended.map_err(|trouble| trouble.to_string()),
                () = stop => Err("stopped".to_owned()),
                () = progress => unreachable!("progress is shown until it is dropped"),
            }
        };
        let mut totals = comparison.totals();
        if let (Err(why), 0) = (&ended, totals.samples) {
            // Nothing is known: a report would only hide the reason.
            return Err(NoReport::Unreachable(why.clone()));
        }
        let frame = self.frame(&comparison, notes, ended.err());
        Ok(Report::of(&mut totals, frame))
    }

    fn slice(&self, now: i64) -> Result<Slice, String> {
        let ms = |span: Span| i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX / 4);
        let settle = ms(self.settle).min(i64::MAX / 4);
        plan::window(now, ms(self.window).min(i64::MAX / 4), settle, self.end)
    }

    fn sides(&self) -> Result<(Side, Side), String> {
        let from = self.from_access.options(self, &self.from)?;
        let to = self.to_access.options(self, &self.to)?;
        Ok((Side::new("--from", from)?, Side::new("--to", to)?))
    }

    async fn labelling(&self, from: &Side, notes: &mut Vec<String>) -> Result<Labelling, NoReport> {
        let mut labelling = Labelling {
            ignore: self.ignore_label.iter().cloned().collect(),
            ..Labelling::default()
        };
        if !self.no_external_labels {
            // An API that stands for several Prometheus has no one configuration.
            let hint = "external labels are not known: --add-label gives them, --no-external-labels says that there are none";
            match from.config().await {
                Ok(Some(yaml)) => match external_labels(&yaml) {
                    Ok(labels) => labelling.add = labels,
                    Err(_) => notes.push(format!(
                        "--from shows a configuration that cannot be read; {hint}"
                    )),
                },
                Ok(None) => notes.push(format!("--from shows no configuration; {hint}")),
                Err(why) => notes.push(format!("--from shows no configuration ({why}); {hint}")),
            }
        }
        labelling.add.extend(self.add_label.iter().cloned());
        Ok(labelling)
    }

    fn frame(
        &self,
        comparison: &Comparison,
        notes: Vec<String>,
        unfinished: Option<String>,
    ) -> Frame {
        let told = |side: &Side, url: &str| {
            let (requests, bytes) = side.traffic();
            SideReport {
                url: without_secrets(url),
                version: side.version.clone(),
                victoriametrics: side.victoriametrics,
                requests,
                bytes,
            }
        };
        let Wish {
            window,
            labelling,
            counts,
            rule,
            ..
        } = &comparison.wish;
        let add = labelling.add.iter();
        let add = add.filter(|(name, _)| !labelling.ignore.contains(*name));
        Frame {
            from: told(&comparison.from, &self.from),
            to: told(&comparison.to, &self.to),
            window: *window,
            counts: *counts,
            tolerance: rule.tolerance,
            added_labels: add
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            ignored_labels: labelling.ignore.iter().cloned().collect(),
            notes,
            unfinished,
        }
    }
}

/// A URL without user name, password and parameters.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').map_or((rest, ""), |(a, p)| (a, p));
            let host = authority.rsplit('@').next().unwrap_or_default();
            let slash = if path.is_empty() { "" } else { "/" };
            format!("{scheme}://{host}{slash}{path}")
        }
        None => String::new(),
    }
}

/// Leaves the line of progress clean.
struct Line;
impl Drop for Line {
    fn drop(&mut self) {
        write!(io::stderr(), "\r\x1b[K").ok();
    }
}

/// A line on stderr that is written over again and again, while that is a terminal. Does not end by itself.
async fn show_progress(comparison: &Comparison) {
    if !io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let _line = Line;
    let began = clock::Instant::now();
    loop {
        tokio::time::sleep(PROGRESS).await;
        let progress = comparison.progress();
        let (done, all) = (progress.done, progress.metrics);
        let lost = comparison.totals().gaps.total(super::diff::Kind::Missing).1;
        let left = match (done, all) {
            (0, _) | (_, 0) => String::new(),
            _ => {
                let each = began.elapsed().as_secs_f64() / done as f64;
                format!(", about {} to go", time(each * (all - done) as f64))
            }
        };
        // A line that cannot be shown is no reason to stop.
        write!(
            io::stderr(),
            "\r\x1b[K{done} of {all} metrics, {} samples, {} missing{left}",
            short(progress.samples),
            short(lost)
        )
        .ok();
        io::stderr().flush().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_printed() {
        for (text, ms) in [
            ("0", 0),
            ("1700000000", 1_700_000_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14T22:13:20.123Z", 1_700_000_000_123),
            ("2024-02-29T23:59:59.999Z", 1_709_251_199_999),
        ] {
            assert_eq!(moment(text), Ok(ms), "{text}");
        }
        for bad in [
            "",
            "yesterday",
            "2023-13-14T22:13:20Z",
            "2023-02-30T00:00:00Z",
            "2023-11-14T22:13:20",
            "2023-11-14 22:13:20Z",
            "99999999999999999999",
        ] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("http://a:b@h:1/p?token=x", "http://h:1/p"),
            ("https://h", "https://h"),
            ("https://h/a/b@c", "https://h/a/b@c"),
            ("nonsense", ""),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
