//! `sluicegate status`: what the page shows, in a terminal.

use std::fmt;
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::exit;
use crate::report::{Level, Report, text, words};

/// Time to connect, and for each piece of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer is a few kilobytes for each queue.
const ANSWER_BYTES: u64 = 8 << 20;
const PATH: &str = "/api/v1/status";

const EXAMPLES: &str = "\
Examples:
  sluicegate status
  sluicegate status --watch
  sluicegate status -o json | jq .verdict
  kubectl exec POD -c sluicegate -- sluicegate status

Exit codes: 0 well, or something to look at; 1 trouble (data is not delivered, not taken, or lost);
69 nobody answers there.";

/// Arguments of `sluicegate status`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// Admin listener of the process to ask
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:9202",
        env = "SLUICEGATE_STATUS_URL"
    )]
    pub url: String,

    /// text, or the JSON of /api/v1/status as it comes
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub output: Output,

    /// Ask again every second, until it is stopped
    #[arg(long)]
    pub watch: bool,
}

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Why there is no answer.
#[derive(Debug)]
enum NoAnswer {
    /// The URL is none.
    Url(String),
    /// Nobody listens, or says nothing.
    Unreachable(String),
    /// Somebody answers, but not with a status.
    Refused(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(why) | Self::Unreachable(why) | Self::Refused(why) => f.write_str(why),
        }
    }
}

impl StatusArgs {
    /// Asks and prints, once or each second. The answer is the code to end with; the error is one of
    /// printing.
    pub fn run(&self, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<u8> {
        let clear = self.watch && io::stdout().is_terminal();
        loop {
            let code = self.once(out, errors, clear)?;
            if !self.watch || code == exit::USAGE {
                return Ok(code);
            }
            out.flush()?;
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn once(&self, out: &mut dyn Write, errors: &mut dyn Write, clear: bool) -> io::Result<u8> {
        let answer = ask(&self.url).and_then(|json| Ok((read(&self.url, &json)?, json)));
        let (report, json) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let hint = "--url names its admin listener; the process prints it as admin=ADDRESS when it is \
                     ready, and --web.listen-address sets it";
                writeln!(errors, "sluicegate status: {error}\n{hint}")?;
                return Ok(match error {
                    NoAnswer::Url(_) => exit::USAGE,
                    NoAnswer::Unreachable(_) | NoAnswer::Refused(_) => exit::UNREACHABLE,
                });
            }
        };
        match self.output {
            Output::Json => writeln!(out, "{}", json.trim_end())?,
            Output::Text => {
                // Back to the top, and away with what stood there.
                let clear = if clear { "\x1b[H\x1b[2J" } else { "" };
                write!(out, "{clear}{}", text::text(&report))?;
                if self.watch && clear.is_empty() {
                    writeln!(out)?;
                }
            }
        }
        Ok(match report.verdict.level {
            Level::Trouble => exit::FAILED,
            Level::Well | Level::Attention => exit::OK,
        })
    }
}

fn read(url: &str, json: &str) -> Result<Report, NoAnswer> {
    let report: Result<Report, _> = serde_json::from_str(json);
    match report {
        Ok(report) if !report.verdict.id.is_empty() => Ok(report),
        Ok(_) | Err(_) => Err(NoAnswer::Refused(format!(
            "{url} answers, but not as a Sluicegate of this version does"
        ))),
    }
}

/// One GET. HTTP/1.0, so that the answer ends with the connection.
fn ask(url: &str) -> Result<String, NoAnswer> {
    let authority = authority(url).map_err(NoAnswer::Url)?;
    let unreachable = |error: &dyn fmt::Display| {
        NoAnswer::Unreachable(format!("cannot reach http://{authority}: {error}"))
    };
    let mut stream = connect(&authority).map_err(|error| unreachable(&error))?;
    let request =
        format!("GET {PATH} HTTP/1.0\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n");
    let mut answer = Vec::new();
    stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.take(ANSWER_BYTES).read_to_end(&mut answer))
        .map_err(|error| unreachable(&error))?;
    let answer = String::from_utf8_lossy(&answer);
    let refused = |what: &str| {
        NoAnswer::Refused(format!(
            "http://{authority}{PATH}: {}",
            words::clean(what.trim_end())
        ))
    };
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(refused("what answers does not speak HTTP"));
    };
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some("403") => Err(refused(body)),
        Some(code) => Err(refused(&format!(
            "it answers {}; is that the admin listener?",
            code.get(..3).unwrap_or(code)
        ))),
        None => Err(refused("what answers does not speak HTTP")),
    }
}

/// Host and port of `http://HOST:PORT/`, or of `HOST:PORT` alone.
fn authority(url: &str) -> Result<String, String> {
    let refuse = |why: &str| {
        Err(format!(
            "--url {url}: {why} (write for example http://127.0.0.1:9202)"
        ))
    };
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some(_) => return refuse("the admin listener speaks http"),
        None => url,
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@')
        || authority
            .chars()
            .any(|c| c.is_control() || c.is_whitespace())
    {
        return refuse("no credentials and no blanks go there");
    }
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !has_port {
        return refuse("host and port are needed");
    }
    Ok(authority.to_owned())
}

fn connect(authority: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
