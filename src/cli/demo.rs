//! Flags of `sluicegate demo`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::config;
use crate::units::Span;

const HELP: &str = "\
Starts a load like a Prometheus' own, Sluicegate with its log in a temporary folder, and a
receiver, all in this process and on free ports of this machine; prints the page's address, and
a line a second. The receiver goes down, comes back, becomes slow and limits the rate. At the
end every sample is looked up at the receiver.

It ends by itself when the script is over; with --keep it goes on, with a receiver that is well.
Ctrl-C ends it at any time: what is pending is delivered, and the summary comes all the same.

Exit codes: 0 every acknowledged sample is at the receiver, in order, with every bit, and the
books balance; 1 something of that does not hold, or it could not start.";

/// Arguments of `sluicegate demo`.
#[derive(Args, Clone, Debug)]
#[command(after_help = HELP)]
pub struct DemoArgs {
    /// How long the script takes, 8s to 1h
    #[arg(long, value_name = "D", default_value = "85s", value_parser = length)]
    pub duration: Span,

    /// Go on after the script, until Ctrl-C
    #[arg(long)]
    pub keep: bool,

    /// Nodes that are scraped, about 800 series each
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub nodes: u32,

    /// Time between two scrapes of a target, 500ms to 1m; Prometheus' own would be 15s or more
    #[arg(long, value_name = "D", default_value = "3s", value_parser = interval)]
    pub interval: Span,

    /// Data listener [default: a free port on 127.0.0.1]
    #[arg(long, value_name = "ADDR", value_parser = config::listen_address)]
    pub listen: Option<SocketAddr>,

    /// Admin listener: the page [default: a free port on 127.0.0.1]
    #[arg(
        long = "web.listen-address",
        value_name = "ADDR",
        value_parser = config::listen_address
    )]
    pub web_listen_address: Option<SocketAddr>,

    /// Log lines on stderr: error, warn, info, debug or trace
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "error")]
    pub log_level: String,
}

fn length(text: &str) -> Result<Span, String> {
    within(text, Duration::from_secs(8), Duration::from_secs(3_600))
}

fn interval(text: &str) -> Result<Span, String> {
    within(text, Duration::from_millis(500), Duration::from_secs(60))
}

fn within(text: &str, least: Duration, most: Duration) -> Result<Span, String> {
    let span: Span = text.parse()?;
    if (least..=most).contains(&span.0) {
        Ok(span)
    } else {
        Err(format!("not within {} and {}", Span(least), Span(most)))
    }
}
