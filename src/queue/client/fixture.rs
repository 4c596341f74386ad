//! Receivers for the client's tests: raw sockets on a free port that follow a script.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Answer, Attempt, Client, EndpointOptions, Failure, Response};

pub(super) const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// A listening receiver. Its connections are counted from 0 in order of arrival.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    /// Runs `script` for each connection, all at once.
    pub(super) async fn start<F, Done>(script: F) -> Self
    where
        F: Fn(TcpStream, usize) -> Done + Send + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let nth = counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(stream, nth));
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Answers every request with the same bytes.
    pub(super) async fn answering(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::start(move |stream, _| answer_all(stream, bytes.clone())).await
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Options for it, with short limits.
    pub(super) fn options(&self) -> EndpointOptions {
        options(&format!("http://{}/api/v1/write", self.address))
    }

    pub(super) fn client(&self) -> Client {
        Client::new(&self.options()).unwrap()
    }
}

pub(super) fn options(url: &str) -> EndpointOptions {
    EndpointOptions {
        connect_timeout: Duration::from_secs(5),
        attempt_timeout: Duration::from_secs(10),
        ..EndpointOptions::new(url.parse().unwrap())
    }
}

/// Answers each request on a connection until the client closes it.
pub(super) async fn answer_all<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, bytes: Bytes) {
    while read_request(&mut stream).await.is_some() {
        if stream.write_all(&bytes).await.is_err() {
            break;
        }
    }
}

/// A request as it came over the wire.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) line: String,
    /// Names as they were written.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let named = |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .find(named)
            .map(|(_, value)| value.as_str())
    }
}

/// The next request on a connection; `None` when it ends before one is complete.
pub(super) async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Received> {
    let mut received = read_head(stream).await?;
    let length = received
        .header("content-length")
        .map_or(0, |text| text.parse().unwrap());
    received.body = vec![0; length];
    stream.read_exact(&mut received.body).await.ok()?;
    Some(received)
}

/// A request without its body.
pub(super) async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Received> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    });
    Some(Received {
        line,
        headers: headers.collect(),
        body: Vec::new(),
    })
}

/// Closes a connection with a RST.
pub(super) fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

pub(super) fn attempt(body: impl Into<Bytes>) -> Attempt {
    Attempt {
        body: body.into(),
        content_type: "application/x-protobuf",
        content_encoding: "snappy",
        version_header: ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        tenant: Vec::new(),
        number: 0,
    }
}

pub(super) async fn response(client: &Client) -> Response {
    match client.post(&attempt("body")).await {
        Answer::Response(response) => response,
        Answer::Failed(failure) => panic!("no response: {failure:?}"),
    }
}

pub(super) async fn failure(client: &Client) -> Failure {
    failure_of(client, &attempt("body")).await
}

pub(super) async fn failure_of(client: &Client, attempt: &Attempt) -> Failure {
    match client.post(attempt).await {
        Answer::Failed(failure) => failure,
        Answer::Response(response) => panic!("a response: {response:?}"),
    }
}
