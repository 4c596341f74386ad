//! A receiver that keeps each request's bytes as they came, holds them as long as it is told to, and answers from
//! a script.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::harness::LIMIT;

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// What it was answered; 0 while it is held.
    pub(super) status: u16,
}

impl Got {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn is_v2(&self) -> bool {
        self.header("content-type") == Some(crate::requests::V2)
    }
}

/// Status, further headers, message.
pub(super) struct Says(
    pub(super) u16,
    pub(super) Vec<(&'static str, String)>,
    pub(super) &'static str,
);

/// The three Written headers.
pub(super) fn wrote(counts: [u64; 3]) -> Vec<(&'static str, String)> {
    let names = [
        "x-prometheus-remote-write-samples-written",
        "x-prometheus-remote-write-histograms-written",
        "x-prometheus-remote-write-exemplars-written",
    ];
    let counts = counts.map(|count| count.to_string());
    names.into_iter().zip(counts).collect()
}

/// Everything is written; a 2.0 request as if it were one sample.
pub(super) fn takes(got: &Got) -> Says {
    let headers = if got.is_v2() {
        wrote([1, 0, 0])
    } else {
        Vec::new()
    };
    Says(204, headers, "")
}

type Script = dyn Fn(&Got, usize) -> Says + Send + Sync;

struct Shared {
    got: Mutex<Vec<Got>>,
    /// In flight now, and at most.
    flying: Mutex<(usize, usize)>,
    script: Box<Script>,
    open: watch::Sender<bool>,
}

/// The running receiver; the runtime ends it.
#[derive(Clone)]
pub(super) struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Receiver {
    /// Starts one that takes everything.
    pub(super) async fn start() -> Self {
        Self::says(|got, _| takes(got)).await
    }

    /// Starts one that answers what `script` says for a request and its number from 0.
    pub(super) async fn says(script: impl Fn(&Got, usize) -> Says + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            got: Mutex::default(),
            flying: Mutex::default(),
            script: Box::new(script),
            open: watch::channel(true).0,
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

    pub(super) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.addr)
    }

    /// From now on requests hang until [`Self::release`].
    pub(super) fn hold(&self) {
        self.shared.open.send_replace(false);
    }

    pub(super) fn release(&self) {
        self.shared.open.send_replace(true);
    }

    /// All requests so far.
    pub(super) fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().clone()
    }

    /// The bodies of all requests so far.
    pub(super) fn bodies(&self) -> Vec<Bytes> {
        self.got().into_iter().map(|got| got.body).collect()
    }

    /// The most requests that were here at the same time.
    pub(super) fn most(&self) -> usize {
        self.shared.flying.lock().unwrap().1
    }

    /// Waits for so many requests; the first so many.
    pub(super) async fn until(&self, count: usize) -> Vec<Got> {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let got = self.got();
            if got.len() >= count {
                return got;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{} of {count} requests came",
                got.len()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(Collected::to_bytes);
    let mut got = Got {
        headers: parts.headers,
        body: body.unwrap_or_default(),
        status: 0,
    };
    let number = {
        let mut flying = shared.flying.lock().unwrap();
        flying.0 += 1;
        flying.1 = flying.1.max(flying.0);
        let mut all = shared.got.lock().unwrap();
        all.push(got.clone());
        all.len() - 1
    };
    let mut open = shared.open.subscribe();
    // The sender half lives as long as the server.
    drop(open.wait_for(|open| *open).await);
    let Says(status, headers, message) = (shared.script)(&got, number);
    got.status = status;
    shared.got.lock().unwrap()[number] = got;
    shared.flying.lock().unwrap().0 -= 1;
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::from(message)).unwrap())
}
