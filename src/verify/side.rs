//! One of the two query APIs: asks it, and tells apart what is the matter when it does not answer.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::Uri;
use hyper::http::uri::PathAndQuery;
use serde::Deserialize;

use super::answer::{self, Envelope};
use super::plan::{ANSWER_BYTES, CLOSED, Selector, Slice};
use super::series::Given;
use crate::queue::client::{Client, EndpointOptions, FailureKind, Question, Reply, Unanswered};
use crate::report::words::clean;

/// Pauses between tries of the same question: the first, doubled each time.
const PAUSE: Duration = Duration::from_millis(250);
/// Tries of a question that nobody answered, or with "not now".
const TRIES: u32 = 5;
/// The longest pause that a side may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// So many questions in a row that take too long mean that it is not the questions.
const SILENT: u32 = 4;
/// A longer question is posted: not every server takes it in a URL.
const URL_BYTES: usize = 2000;
/// Lists of names and values may be longer than a slice of samples.
const LIST_BYTES: usize = 64 << 20;

/// Why there is no result.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// It would not answer anything else either.
    Unreachable(String),
    /// It may answer a smaller question.
    TooMuch(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::TooMuch(why) => f.write_str(why),
        }
    }
}

/// A query API.
pub(super) struct Side {
    /// `--from` or `--to`.
    flag: &'static str,
    client: Client,
    /// The path before `/api/v1`, without a slash at its end.
    prefix: String,
    /// Parameters of the URL, sent with every question.
    always: String,
    timeout: Duration,
    /// What it calls itself.
    pub(super) version: Option<String>,
    /// It is `VictoriaMetrics`.
    pub(super) victoriametrics: bool,
    /// Its ranges hold both of their ends.
    pub(super) closed: bool,
    /// Questions in a row that took too long.
    silent: AtomicU32,
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// What a question about series gave.
pub(super) struct Told {
    pub(super) bytes: u64,
    pub(super) warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Build {
    #[serde(default)]
    version: String,
}

#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    yaml: String,
}

impl Side {
    /// # Errors
    /// When the options make no sense.
    pub(super) fn new(flag: &'static str, mut options: EndpointOptions) -> Result<Self, String> {
        let failed = |error: String| format!("{flag}: {error}");
        let (prefix, always) = base(&options.url);
        options.max_connections = options.max_connections.max(1);
        let timeout = options.attempt_timeout;
        Ok(Self {
            flag,
            client: Client::new(&options).map_err(failed)?,
            prefix,
            always,
            timeout,
            version: None,
            victoriametrics: false,
            closed: false,
            silent: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Requests so far, and the bytes of their answers.
    pub(super) fn traffic(&self) -> (u64, u64) {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (get(&self.requests), get(&self.bytes))
    }

    /// Finds out what answers there, and how it reads a range. `now` is in milliseconds.
    pub(super) async fn meet(&mut self, now: i64) -> Result<(), Trouble> {
        let time = (now / 5000 * 5).to_string();
        let mut count = None;
        let reply = self
            .get("query", &[("query", CLOSED), ("time", &time)], LIST_BYTES)
            .await?;
        // In every answer, and in no one else's.
        self.victoriametrics = reply.headers.contains_key("x-server-hostname");
        self.series_in(&reply, &mut |given| {
            count = given.samples.first().map(|sample| sample.value);
        })?;
        let three = matches!(count, Some(super::series::Value::Float(count)) if count >= 3.0);
        self.closed = three && !self.victoriametrics;
        // Not all have it.
        let build: Option<Build> = match self.get("status/buildinfo", &[], LIST_BYTES).await {
            Ok(reply) => answer::simple(&reply.body).ok().flatten(),
            Err(_) => None,
        };
        self.version = build.map(|build| clean(&build.version));
        Ok(())
    }

    /// The text of its configuration file, if it shows it.
    pub(super) async fn config(&self) -> Result<Option<String>, Trouble> {
        let reply = self.get("status/config", &[], LIST_BYTES).await?;
        let shown: Option<Shown> = answer::simple(&reply.body).map_err(|why| self.no_api(&why))?;
        Ok(shown
            .map(|shown| shown.yaml)
            .filter(|yaml| !yaml.is_empty()))
    }

    /// Values of a label among the series of a selector.
    pub(super) async fn values(
        &self,
        label: &str,
        selector: &Selector,
        slice: Slice,
    ) -> Result<Vec<String>, Trouble> {
        let path = format!("label/{}/values", escaped(label));
        self.list(&path, selector, slice).await
    }

    /// Names of the labels of a selector's series.
    pub(super) async fn labels(
        &self,
        selector: &Selector,
        slice: Slice,
    ) -> Result<Vec<String>, Trouble> {
        self.list("labels", selector, slice).await
    }

    async fn list(
        &self,
        path: &str,
        selector: &Selector,
        slice: Slice,
    ) -> Result<Vec<String>, Trouble> {
        let text = selector.of_any_name().to_string();
        // `after` is not part of the slice.
        let (start, end) = (seconds(slice.after + 1), seconds(slice.until));
        let mut asked = vec![("start", &*start), ("end", &*end)];
        if !selector.is_empty() {
            asked.push(("match[]", &text));
        }
        let reply = self.get(path, &asked, LIST_BYTES).await?;
        answer::texts(&reply.body).map_err(|why| self.no_api(&why))
    }

    /// Asks a query for the end of a slice.
    pub(super) async fn query(
        &self,
        query: &str,
        slice: Slice,
        sink: &mut (dyn FnMut(Given) + Send),
    ) -> Result<Told, Trouble> {
        let time = seconds(slice.until);
        let asked = [("query", query), ("time", &time)];
        let reply = self.get("query", &asked, ANSWER_BYTES).await?;
        let envelope = self.series_in(&reply, sink)?;
        let mut warnings = envelope.warnings;
        if envelope.partial {
            warnings.push("the answer is partial".to_owned());
        }
        let named = |text: String| format!("{}: {}", self.flag, clean(&text));
        Ok(Told {
            bytes: reply.body.len() as u64,
            warnings: warnings.into_iter().map(named).collect(),
        })
    }

    fn series_in(&self, reply: &Reply, sink: &mut dyn FnMut(Given)) -> Result<Envelope, Trouble> {
        match answer::series(&reply.body, sink) {
            Ok(envelope) if envelope.ok => Ok(envelope),
            Ok(_) => Err(self.no_api("it does not say that it is one")),
            Err(why) => Err(self.no_api(&why)),
        }
    }

    /// One question, tried again while that may help. A result is an answer with status 200.
    async fn get(
        &self,
        path: &str,
        asked: &[(&str, &str)],
        limit: usize,
    ) -> Result<Reply, Trouble> {
        let question = self.question(path, asked, limit)?;
        let mut pause = PAUSE;
        for attempt in 1.. {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let (wait, why) = match self.client.ask(&question).await {
                Ok(reply) => {
                    self.silent.store(0, Ordering::Relaxed);
                    self.bytes
                        .fetch_add(reply.body.len() as u64, Ordering::Relaxed);
                    match self.judge(&reply) {
                        None => return Ok(reply),
                        Some(Next::End(trouble)) => return Err(trouble),
                        Some(Next::Again(why)) => (reply.retry_after, why),
                    }
                }
                Err(Unanswered::TooLong) => {
                    let why = format!("{}: the answer is longer than {limit} bytes", self.flag);
                    return Err(Trouble::TooMuch(why));
                }
                Err(Unanswered::Failed(failure)) => {
                    let why = format!("{}: {failure}", self.flag);
                    match failure.kind {
                        FailureKind::Timeout => {
                            let silent = self.silent.fetch_add(1, Ordering::Relaxed) + 1;
                            return Err(if silent >= SILENT {
                                Trouble::Unreachable(why)
                            } else {
                                Trouble::TooMuch(why)
                            });
                        }
                        FailureKind::Tls | FailureKind::Other => {
                            return Err(Trouble::Unreachable(why));
                        }
                        FailureKind::Dns | FailureKind::Connect | FailureKind::Closed => {
                            (None, why)
                        }
                    }
                }
            };
            if attempt >= TRIES {
                return Err(Trouble::Unreachable(format!(
                    "{why} (tried {attempt} times)"
                )));
            }
            let wait = wait.unwrap_or(pause).min(RETRY_AFTER_MAX);
            tokio::time::sleep(wait.max(pause)).await;
            pause *= 2;
        }
        unreachable!("the last try returns")
    }

    fn question(
        &self,
        path: &str,
        asked: &[(&str, &str)],
        limit: usize,
    ) -> Result<Question, Trouble> {
        let timeout = format!("{}s", self.timeout.as_secs().max(1));
        // No answer from a cache, and none that silently leaves out a part: of VictoriaMetrics and Thanos.
        // Others do not look at these.
        let common = [
            ("timeout", &*timeout),
            ("nocache", "1"),
            ("partial_response", "false"),
            ("deny_partial_response", "1"),
        ];
        let pairs = asked.iter().chain(&common);
        let mut form: Vec<_> = pairs
            .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
            .collect();
        if !self.always.is_empty() {
            form.push(self.always.clone());
        }
        let (form, path) = (form.join("&"), format!("{}/api/v1/{path}", self.prefix));
        let post = form.len() > URL_BYTES && !path.ends_with("/values");
        let place = if post { path } else { format!("{path}?{form}") };
        let place: Result<PathAndQuery, _> = place.parse();
        let refused = |error| Trouble::Unreachable(format!("{}: {error}", self.flag));
        Ok(Question {
            place: place.map_err(refused)?,
            form: post.then(|| Bytes::from(form)),
            limit,
        })
    }

    fn judge(&self, reply: &Reply) -> Option<Next> {
        let unreachable = |why: String| Some(Next::End(Trouble::Unreachable(why)));
        let flag = self.flag;
        if reply.html {
            return unreachable(format!(
                "{flag}: a web page (status {}) and not Prometheus' API: a login, or the wrong path?",
                reply.status
            ));
        }
        if reply.status == 200 {
            return None;
        }
        let said = answer::series(&reply.body, &mut |_| {}).ok();
        let said = said.filter(|envelope| !envelope.ok && !envelope.error.is_empty());
        let text = match &said {
            Some(envelope) => clean(&envelope.error),
            None => clean(String::from_utf8_lossy(&reply.body[..reply.body.len().min(200)]).trim()),
        };
        let why = format!("{flag}: {}: {text}", reply.status);
        let why = why.trim_end_matches([':', ' ']).to_owned();
        match reply.status {
            // The API's own word that the query is the matter.
            422 | 413 | 414 => Some(Next::End(Trouble::TooMuch(why))),
            503 | 504 if said.as_ref().is_some_and(is_too_slow) => {
                Some(Next::End(Trouble::TooMuch(why)))
            }
            408 | 425 | 429 | 500.. => Some(Next::Again(why)),
            401 | 403 => unreachable(format!(
                "{why} ({flag}-credentials-file, {flag}-username or {flag}-header say who asks)"
            )),
            404 => unreachable(format!(
                "{why} (the API is expected at {}/api/v1/query)",
                self.prefix
            )),
            300..=399 => unreachable(format!("{why} (redirects are not followed)")),
            _ => unreachable(why),
        }
    }

    fn no_api(&self, why: &str) -> Trouble {
        let why = clean(why);
        Trouble::Unreachable(format!(
            "{}: the answer is not one of Prometheus' API: {why}",
            self.flag
        ))
    }
}

enum Next {
    Again(String),
    End(Trouble),
}

fn is_too_slow(envelope: &Envelope) -> bool {
    matches!(&*envelope.error_type, "timeout" | "canceled" | "execution")
}

/// The path before `/api/v1`, which people may have copied with it, and the parameters.
fn base(url: &Uri) -> (String, String) {
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/api/v1/query").unwrap_or(path);
    let path = path.strip_suffix("/api/v1").unwrap_or(path);
    (
        path.trim_end_matches('/').to_owned(),
        url.query().unwrap_or_default().to_owned(),
    )
}

/// Percent-encoded.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_taken_however_it_was_copied() {
        for (url, prefix, always) in [
            ("http://h:9090", "", ""),
            ("http://h:9090/", "", ""),
            ("http://h/prometheus/", "/prometheus", ""),
            (
                "http://h/select/0/prometheus/api/v1/query?dedup=false",
                "/select/0/prometheus",
                "dedup=false",
            ),
            ("http://h/api/v1/", "", ""),
        ] {
            let (found, query) = base(&url.parse().unwrap());
            assert_eq!((found.as_str(), query.as_str()), (prefix, always), "{url}");
        }
    }

    #[test]
    fn times_and_texts_are_written_as_a_url_needs_them() {
        assert_eq!(seconds(1_795_826_299_039), "1795826299.039");
        assert_eq!(escaped("{a=\"ž b\"}"), "%7Ba%3D%22%C5%BE%20b%22%7D");
    }
}
