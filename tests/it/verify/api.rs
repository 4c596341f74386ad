//! A query API over a store in memory: as much of Prometheus' API as `sluicegate verify` asks for, with either
//! meaning of a range, and with faults.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

/// Labels, and a value for each timestamp; a timestamp may come twice.
pub(crate) type Series = (BTreeMap<String, String>, Vec<(i64, f64)>);

/// What a server does wrong.
#[derive(Clone, Debug, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// This status and body to everything.
    Always(u16, &'static str, &'static str),
    /// 503 to so many requests, then well.
    Busy(u32),
    /// 422 to a query that touches more samples.
    MostSamples(usize),
    /// 422 to every query of this metric.
    Hates(&'static str),
    /// A body without an end.
    Endless,
    /// The connection ends in the middle of an answer, so many times.
    Cut(u32),
    /// Answers, and then no more after so many requests.
    DiesAfter(u32),
}

#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) series: Vec<Series>,
    /// Ranges hold both their ends, as before Prometheus 3.0.
    pub(crate) closed: bool,
    pub(crate) victoriametrics: bool,
    /// External labels that the configuration shows.
    pub(crate) external: BTreeMap<String, String>,
    pub(crate) prefix: &'static str,
    /// A header without which it answers 401.
    pub(crate) wants: Option<(&'static str, &'static str)>,
    pub(crate) warning: Option<&'static str>,
    pub(crate) fault: Fault,
}

pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    options: Options,
    faults: Mutex<u32>,
    /// Queries so far.
    queries: Mutex<Vec<String>>,
    /// Query strings so far.
    asked: Mutex<Vec<String>>,
}

type Body = BoxBody<Bytes, std::io::Error>;

impl Api {
    pub(crate) async fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            options,
            faults: Mutex::new(0),
            queries: Mutex::default(),
            asked: Mutex::default(),
        });
        let served = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&served);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.address, self.state.options.prefix)
    }

    /// `PromQL` that it was asked.
    pub(crate) fn queries(&self) -> Vec<String> {
        self.state.queries.lock().unwrap().clone()
    }

    /// Parameters that it was asked with.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into())
        .map_err(|never: Infallible| match never {})
        .boxed()
}

fn reply(status: u16, content_type: &str, body: Body) -> Response<Body> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type)
        .body(body)
        .unwrap()
}

fn endless() -> Body {
    let piece = Bytes::from(vec![b' '; 1 << 20]);
    Pieces(std::iter::repeat_with(move || {
        Ok(Frame::data(piece.clone()))
    }))
    .boxed()
}

/// A body of what an iterator gives.
struct Pieces<I>(I);

impl<I: Iterator<Item = std::io::Result<Frame<Bytes>>> + Unpin> hyper::body::Body for Pieces<I> {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let (head, body) = request.into_parts();
    let posted = body
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let form = if posted.is_empty() {
        query
    } else {
        String::from_utf8_lossy(&posted).into_owned()
    };
    state.asked.lock().unwrap().push(form.clone());
    let options = &state.options;
    if let Some((name, value)) = options.wants
        && !has(&head.headers, name, value)
    {
        return Ok(reply(401, "text/plain", full("who are you?")));
    }
    let nth = {
        let mut faults = state.faults.lock().unwrap();
        *faults += 1;
        *faults
    };
    match &options.fault {
        Fault::Always(status, kind, body) => return Ok(reply(*status, kind, full(*body))),
        Fault::Busy(times) if nth <= *times => return Ok(reply(503, "text/plain", full("busy"))),
        Fault::Endless => return Ok(reply(200, "application/json", endless())),
        Fault::DiesAfter(times) if nth > *times => return Err(std::io::Error::other("dead")),
        Fault::Cut(times) if nth <= *times => {
            let pieces = [
                Ok(Frame::data(Bytes::from_static(
                    b"{\"status\":\"success\",\"data\":",
                ))),
                Err(std::io::Error::other("cut")),
            ];
            let body = Pieces(pieces.into_iter()).boxed();
            return Ok(reply(200, "application/json", body));
        }
        _ => {}
    }
    let path = head.uri.path();
    let Some(path) = path
        .strip_prefix(options.prefix)
        .and_then(|p| p.strip_prefix("/api/v1/"))
    else {
        return Ok(reply(404, "text/plain", full("404 page not found")));
    };
    let parameters = parameters(&form);
    let get = |name: &str| {
        parameters
            .iter()
            .find(|(n, _)| n == name)
            .map_or("", |(_, value)| value)
    };
    let data = match path {
        "status/buildinfo" => Ok(json!({"version": "9.9.9"})),
        "status/config" => {
            let lines = options
                .external
                .iter()
                .map(|(name, value)| format!("    {name}: {value:?}\n"));
            let labels: String = lines.collect();
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("  external_labels:\n{labels}")
            };
            Ok(
                json!({"yaml": format!("global:\n  scrape_interval: 15s\n{labels}scrape_configs:\n- job_name: x\n")}),
            )
        }
        "query" => {
            state.queries.lock().unwrap().push(get("query").to_owned());
            run(options, get("query"), milliseconds(get("time")))
        }
        "labels" => {
            let series = selected(options, get("match[]"));
            let names: BTreeSet<_> = series.flat_map(|(labels, _)| labels.keys()).collect();
            Ok(json!(names))
        }
        values => {
            let label = values
                .strip_prefix("label/")
                .and_then(|rest| rest.strip_suffix("/values"));
            let label = label.expect("a path that is known");
            let (start, end) = (milliseconds(get("start")), milliseconds(get("end")));
            let series = selected(options, get("match[]"));
            let alive = series
                .filter(|(_, samples)| samples.iter().any(|(at, _)| (start..=end).contains(at)));
            let values: BTreeSet<_> = alive.filter_map(|(labels, _)| labels.get(label)).collect();
            Ok(json!(values))
        }
    };
    let (status, body) = match data {
        Ok(data) => {
            let mut body = json!({"status": "success", "data": data});
            if let (Some(warning), "query") = (options.warning, path) {
                body["warnings"] = json!([warning]);
            }
            (200, body)
        }
        Err(why) => (
            422,
            json!({"status": "error", "errorType": "execution", "error": why}),
        ),
    };
    let mut response = reply(status, "application/json", full(body.to_string()));
    if options.victoriametrics {
        let host = "vm-0".parse().unwrap();
        response.headers_mut().insert("x-server-hostname", host);
    }
    Ok(response)
}

fn has(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).is_some_and(|found| found == value)
}

fn milliseconds(seconds: &str) -> i64 {
    (seconds.parse::<f64>().unwrap_or_default() * 1000.0).round() as i64
}

fn parameters(form: &str) -> Vec<(String, String)> {
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap();
            out.push(u8::from_str_radix(digits, 16).unwrap());
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).unwrap()
}

/// The queries that are asked, and no others.
fn run(options: &Options, query: &str, at: i64) -> Result<Json, String> {
    if query == "count_over_time(vector(1)[10s:5s])" {
        assert_eq!(at % 5000, 0, "the subquery's steps fall on multiples");
        let count = if options.closed { "3" } else { "2" };
        return Ok(
            json!({"resultType": "vector", "result": [{"metric": {}, "value": [at / 1000, count]}]}),
        );
    }
    if let Fault::Hates(metric) = options.fault
        && query.contains(metric)
    {
        return Err("query processing would load too many samples into memory".to_owned());
    }
    if let Some(rest) = query.strip_prefix("count by (__name__) (") {
        let mut counts: BTreeMap<_, u64> = BTreeMap::new();
        for (labels, _) in selected(options, rest.trim_end_matches(')')) {
            *counts.entry(&labels["__name__"]).or_default() += 1;
        }
        let rows = counts.into_iter().map(|(name, count)| json!({"metric": {"__name__": name}, "value": [at / 1000, count.to_string()]}));
        return Ok(json!({"resultType": "vector", "result": rows.collect::<Vec<_>>()}));
    }
    let counting = query.strip_prefix("count_over_time(");
    let ranged = counting.map_or(query, |rest| rest.trim_end_matches(')'));
    let (selector, length) = ranged.rsplit_once('[').expect("a range");
    let length: i64 = length
        .trim_end_matches("ms]")
        .parse()
        .expect("milliseconds");
    let inside = |t: i64| (at - length < t || (options.closed && at - length == t)) && t <= at;
    let (mut rows, mut touched) = (Vec::new(), 0);
    for (labels, samples) in selected(options, selector) {
        let samples: Vec<_> = samples.iter().filter(|(t, _)| inside(*t)).collect();
        touched += samples.len();
        if samples.is_empty() {
            continue;
        }
        if counting.is_some() {
            let mut labels = labels.clone();
            labels.remove("__name__");
            // A stale marker does not count.
            let count = samples
                .iter()
                .filter(|(_, v)| !(options.victoriametrics && v.is_nan()))
                .count();
            rows.push(json!({"metric": labels, "value": [at as f64 / 1000.0, count.to_string()]}));
        } else {
            let values: Vec<_> = samples
                .iter()
                .map(|(t, v)| json!([*t as f64 / 1000.0, text(*v)]))
                .collect();
            rows.push(json!({"metric": labels, "values": values}));
        }
    }
    if let Fault::MostSamples(most) = options.fault
        && touched > most
    {
        return Err(
            "query processing would load too many samples into memory in query execution"
                .to_owned(),
        );
    }
    let kind = if counting.is_some() {
        "vector"
    } else {
        "matrix"
    };
    Ok(json!({"resultType": kind, "result": rows}))
}

fn text(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

fn selected<'o>(
    options: &'o Options,
    selector: &str,
) -> impl Iterator<Item = &'o Series> + use<'o> {
    let matchers = if selector.is_empty() {
        Vec::new()
    } else {
        matchers(selector)
    };
    let empty = |(_, op, wanted): &(String, String, String)| match op.as_str() {
        "=" => wanted.is_empty(),
        "!=" => !wanted.is_empty(),
        op => (op == "=~") == wanted.split('|').any(str::is_empty),
    };
    assert!(
        matchers.is_empty() || !matchers.iter().all(empty),
        "at least one matcher must not be empty: {selector}"
    );
    options.series.iter().filter(move |(labels, _)| {
        matchers.iter().all(|(label, op, wanted)| {
            let value = labels.get(label).map_or("", String::as_str);
            let alternatives = || wanted.split('|').any(|one| one.replace('\\', "") == value);
            match op.as_str() {
                "=" => value == wanted,
                "!=" => value != wanted,
                "=~" => alternatives(),
                "!~" => !alternatives(),
                other => panic!("an operator: {other}"),
            }
        })
    })
}

fn matchers(selector: &str) -> Vec<(String, String, String)> {
    let inner = selector
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let (mut rest, mut found) = (inner.expect("a selector in braces"), Vec::new());
    while let Some((head, tail)) = rest.split_once('"') {
        let at = head.find(['=', '!']).expect("an operator");
        let (label, op) = head.split_at(at);
        let (mut value, mut chars) = (String::new(), tail.char_indices());
        let end = loop {
            match chars.next().expect("an end of the text") {
                (at, '"') => break at,
                (_, '\\') => value.push(chars.next().expect("something escaped").1),
                (_, c) => value.push(c),
            }
        };
        found.push((
            label.trim_start_matches(',').to_owned(),
            op.to_owned(),
            value,
        ));
        rest = &tail[end + 1..];
    }
    found
}
