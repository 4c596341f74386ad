//! A receiver that keeps each request as it came, and answers as it is told.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use sluicegate::wire::pb::{rw1, rw2};
use tokio::net::TcpListener;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) headers: HeaderMap,
    /// The message, decompressed.
    pub(crate) message: Vec<u8>,
    /// What it was answered.
    pub(crate) status: u16,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn is_v2(&self) -> bool {
        self.header("content-type").unwrap().contains("v2.Request")
    }

    pub(crate) fn v1(&self) -> rw1::WriteRequest {
        rw1::WriteRequest::decode(&*self.message).unwrap()
    }

    pub(crate) fn v2(&self) -> rw2::Request {
        rw2::Request::decode(&*self.message).unwrap()
    }
}

/// Status and further headers.
pub(crate) type Told = (u16, Vec<(&'static str, String)>);
type Script = dyn Fn(&Seen, usize) -> Told + Send + Sync;

struct Shared {
    seen: Mutex<Vec<Seen>>,
    script: Box<Script>,
}

/// The running receiver; the runtime ends it.
pub(crate) struct Capture {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
}

/// Everything is written; 2.0 gets the counts of what it sent.
pub(crate) fn written(seen: &Seen) -> Told {
    if !seen.is_v2() {
        return (204, Vec::new());
    }
    let mut counts = [0; 3];
    for series in seen.v2().timeseries {
        counts[0] += series.samples.len();
        counts[1] += series.histograms.len();
        counts[2] += series.exemplars.len();
    }
    let names = [
        "x-prometheus-remote-write-samples-written",
        "x-prometheus-remote-write-histograms-written",
        "x-prometheus-remote-write-exemplars-written",
    ];
    let counts = counts.map(|count| count.to_string());
    (204, names.into_iter().zip(counts).collect())
}

impl Capture {
    /// Starts one that takes everything.
    pub(crate) async fn start() -> Self {
        Self::scripted(|seen, _| written(seen)).await
    }

    /// Starts one that answers what `script` says for a request and its number from 0.
    pub(crate) async fn scripted(
        script: impl Fn(&Seen, usize) -> Told + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            script: Box::new(script),
        });
        let server = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&server);
                let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { addr, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.addr)
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The 1.0 series of all requests so far that were answered 2xx.
    pub(crate) fn series_v1(&self) -> Vec<rw1::TimeSeries> {
        let taken = self.seen().into_iter().filter(|seen| seen.status < 300);
        taken.flat_map(|seen| seen.v1().timeseries).collect()
    }
}

/// A snappy block's content.
pub(crate) fn unpacked(body: &[u8]) -> Vec<u8> {
    let mut message = vec![0; snap::raw::decompress_len(body).unwrap()];
    let length = snap::raw::Decoder::new().decompress(body, &mut message);
    assert_eq!(length.unwrap(), message.len());
    message
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(Collected::to_bytes);
    let body = body.unwrap_or_default();
    let message = match parts.headers.get("content-encoding") {
        Some(coding) if coding == "zstd" => zstd::bulk::decompress(&body, 64 << 20).unwrap(),
        _ => unpacked(&body),
    };
    let mut seen = Seen {
        at: Instant::now(),
        headers: parts.headers,
        message,
        status: 0,
    };
    let mut all = shared.seen.lock().unwrap();
    let (status, headers) = (shared.script)(&seen, all.len());
    seen.status = status;
    all.push(seen);
    drop(all);
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::default()).unwrap())
}
