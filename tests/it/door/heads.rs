//! Heads as `listen` reads them and as the HTTP parser reads them, over bytes that are nearly requests: wherever
//! the parser hands a request on, its head was seen here, and it was seen to be ambiguous if the parser mended it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use sluicegate::listen::{Head, Pulse, Watched};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::time::Instant;

/// A request as the parser saw it.
#[derive(Debug)]
struct Seen {
    head: Option<Head>,
    path: String,
    encoded: bool,
    /// What its head says and what came of it.
    length: usize,
    body: Option<usize>,
}

/// Sends these bytes through both.
async fn both(bytes: &[u8]) -> Vec<Seen> {
    let (mut ours, theirs) = duplex(64 << 10);
    let pulse = Pulse::new(Instant::now());
    let stream = Watched::new(theirs, Arc::clone(&pulse));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let (pulse, seen) = (Arc::clone(&pulse), Arc::clone(&noted));
        async move {
            let head = pulse.request(Instant::now());
            let (parts, body) = request.into_parts();
            let length = parts.headers.get(CONTENT_LENGTH);
            let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
            let body = body.collect().await.ok();
            seen.lock().unwrap().push(Seen {
                head,
                path: parts.uri.path().to_owned(),
                encoded: parts.headers.contains_key(TRANSFER_ENCODING),
                length: length.unwrap_or(0),
                body: body.map(|body| body.to_bytes().len()),
            });
            let mut answer = Response::new(Empty::<Bytes>::new());
            if head != Some(Head::Sized) {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            pulse.answer(Instant::now());
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let talk = async {
        ours.write_all(bytes).await.ok();
        ours.shutdown().await.ok();
        ours.read_to_end(&mut Vec::new()).await.ok();
    };
    let both = async { tokio::join!(connection, talk) };
    let ended = tokio::time::timeout(Duration::from_secs(10), both).await;
    // A connection that ends in an error has ended.
    drop(ended.expect("it ends"));
    Arc::try_unwrap(seen).unwrap().into_inner().unwrap()
}

/// Several requests in a row, each with a path of its own.
fn requests(random: &mut fastrand::Rng) -> Vec<u8> {
    const LINES: [&str; 14] = [
        "Content-Length: 5",
        "Content-Length: 05",
        "content-length:5",
        "Content-Length: 5 ",
        "Content-Length : 5",
        "Content-Length: 40",
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
        "transfer-encoding: chunked ",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "X: y",
        "X: a\r\n b",
        "Connection: keep-alive",
    ];
    const BODIES: [&str; 6] = [
        "",
        "12345",
        "5\r\n12345\r\n0\r\n\r\n",
        "0\r\n\r\n",
        "GET /inner HTTP/1.1\r\nHost: inner.host\r\n\r\n",
        "5;x=y\r\n12345\r\n0\r\nT: t\r\n\r\n",
    ];
    let mut out = Vec::new();
    for n in 0..random.usize(1..5) {
        out.extend_from_slice(format!("POST /{n} HTTP/1.1\r\n").as_bytes());
        for _ in 0..random.usize(0..4) {
            out.extend_from_slice(LINES[random.usize(..LINES.len())].as_bytes());
            out.extend_from_slice(if random.u8(..10) == 0 { b"\n" } else { b"\r\n" });
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(BODIES[random.usize(..BODIES.len())].as_bytes());
    }
    for _ in 0..random.usize(0..3) {
        let at = random.usize(..out.len());
        let byte = b"\r\n :,0159tT;\x0b\0"[random.usize(..13)];
        match random.u8(..3) {
            0 => out[at] = byte,
            1 => out.insert(at, byte),
            _ => drop(out.remove(at)),
        }
    }
    out
}

#[tokio::test]
async fn wherever_the_parser_sees_a_request_its_head_was_read_here_as_well() {
    let mut random = fastrand::Rng::with_seed(20);
    let mut kinds = [0; 3];
    for round in 0..5_000 {
        let bytes = requests(&mut random);
        let seen = both(&bytes).await;
        let text = || format!("round {round}: {}\n{seen:#?}", bytes.escape_ascii());
        for (n, one) in seen.iter().enumerate() {
            match one.head {
                Some(Head::Sized) => {
                    kinds[0] += 1;
                    assert!(!one.encoded, "{}", text());
                    let whole = one.body.is_none_or(|body| body == one.length);
                    assert!(whole, "{}", text());
                    assert!(one.path != "/inner" || one.length == 0, "{}", text());
                }
                Some(Head::Chunked) => {
                    kinds[1] += 1;
                    assert!(one.encoded, "{}", text());
                }
                Some(Head::Ambiguous(_)) => kinds[2] += 1,
                None => panic!("not read here: {}", text()),
            }
            let last = one.head != Some(Head::Sized);
            assert!(!last || n + 1 == seen.len(), "nothing follows: {}", text());
        }
    }
    assert!(kinds.iter().all(|count| *count > 100), "{kinds:?}");
}
