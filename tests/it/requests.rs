//! Requests written byte by byte, and their answers, so that a test sees exactly what a sender sees.

use std::net::SocketAddr;

use prost::Message as _;
use sluicegate::wire::pb::{rw1, rw2};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::LIMIT;

pub(crate) const PATH: &str = "/api/v1/write";
pub(crate) const V1: &str = "application/x-protobuf";
pub(crate) const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
const WRITTEN: [&str; 3] = ["samples", "histograms", "exemplars"];

/// A request, with whatever headers it has.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Post {
    /// As Prometheus sends it: this message, compressed.
    pub(crate) fn new(content_type: &str, message: &[u8]) -> Self {
        Self::raw(content_type, snappy(message))
    }

    /// With these very bytes as its body.
    pub(crate) fn raw(content_type: &str, body: Vec<u8>) -> Self {
        let post = Self {
            method: "POST",
            path: PATH.to_owned(),
            headers: Vec::new(),
            body,
        };
        post.with("Content-Type", content_type)
            .with("Content-Encoding", "snappy")
    }

    /// Sets a header, or adds it.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    pub(crate) fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    pub(crate) fn by(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// The request's head; `length` is what it says about its body.
    pub(crate) fn head(&self, length: usize) -> Vec<u8> {
        let mut lines = vec![
            format!("{} {} HTTP/1.1", self.method, self.path),
            "Host: proxy".to_owned(),
        ];
        let header = |(name, value): &(String, String)| format!("{name}: {value}");
        lines.extend(self.headers.iter().map(header));
        let chunked = |(name, _): &(String, String)| name == "Transfer-Encoding";
        if !self.headers.iter().any(chunked) {
            lines.push(format!("Content-Length: {length}"));
        }
        (lines.join("\r\n") + "\r\n\r\n").into_bytes()
    }

    /// Sends it on a connection of its own.
    pub(crate) async fn send(&self, to: SocketAddr) -> Reply {
        Connection::open(to).await.request(self).await
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    /// A header's value; its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(known, _)| known == name);
        header.map(|(_, value)| value.as_str())
    }

    /// The three Written headers, if all are there; panics when only some are.
    pub(crate) fn written(&self) -> Option<[u64; 3]> {
        let of = |kind| self.header(&format!("x-prometheus-remote-write-{kind}-written"));
        let found = WRITTEN.map(of);
        if found == [None; 3] {
            return None;
        }
        Some(found.map(|value| value.expect("all three or none").parse().unwrap()))
    }

    /// The seconds of Retry-After.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.header("retry-after")
            .map(|value| value.parse().unwrap())
    }

    pub(crate) fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// A connection to a listener.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.expect("it listens");
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(crate) async fn request(&mut self, post: &Post) -> Reply {
        self.write(&post.head(post.body.len())).await;
        self.write(&post.body).await;
        self.reply().await
    }

    /// Writes bytes; that nobody takes them any more shows in the answer.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.ok();
    }

    /// Writes without end, until it is not taken any more.
    pub(crate) async fn write_until_refused(&mut self, piece: &[u8], times: usize) -> bool {
        for _ in 0..times {
            if self.stream.write_all(piece).await.is_err() {
                return true;
            }
        }
        false
    }

    /// The next answer. An interim one (100) is an answer too.
    pub(crate) async fn reply(&mut self) -> Reply {
        timeout(LIMIT, self.read_reply())
            .await
            .expect("an answer in time")
            .expect("an answer before the connection is closed")
    }

    /// Sends a request that may be left without an answer; its status if there is one.
    pub(crate) async fn maybe(&mut self, post: &Post) -> Option<u16> {
        self.write(&post.head(post.body.len())).await;
        self.write(&post.body).await;
        self.maybe_reply().await
    }

    /// The status of the next answer, if one comes before the end.
    pub(crate) async fn maybe_reply(&mut self) -> Option<u16> {
        let reply = timeout(LIMIT, self.read_reply()).await;
        reply.expect("an end in time").map(|reply| reply.status)
    }

    async fn read_reply(&mut self) -> Option<Reply> {
        let head = loop {
            if let Some(end) = self.read.windows(4).position(|end| end == b"\r\n\r\n") {
                break self.read.drain(..end + 4).collect::<Vec<_>>();
            }
            self.more().await?;
        };
        let head = String::from_utf8(head).expect("a head is text");
        let mut lines = head.lines().filter(|line| !line.is_empty());
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').expect("a header has a colon");
            (name.to_lowercase(), value.trim().to_owned())
        };
        let mut reply = Reply {
            status: status.parse().unwrap(),
            headers: lines.map(header).collect(),
            body: String::new(),
        };
        let length = reply.header("content-length").unwrap_or("0");
        let length: usize = length.parse().unwrap();
        while self.read.len() < length {
            self.more().await?;
        }
        reply.body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        Some(reply)
    }

    async fn more(&mut self) -> Option<()> {
        self.read.reserve(16 << 10);
        let got = self.stream.read_buf(&mut self.read).await.unwrap_or(0);
        (got > 0).then_some(())
    }

    /// Waits for the other side to close, without another answer.
    pub(crate) async fn closed(&mut self) {
        let closed = timeout(LIMIT, self.more()).await.expect("closed in time");
        assert_eq!(closed, None, "{:?}", String::from_utf8_lossy(&self.read));
    }
}

/// A GET without a body, on a connection of its own.
pub(crate) async fn get(to: SocketAddr, path: &str) -> Reply {
    ask(to, "GET", path).await
}

pub(crate) async fn ask(to: SocketAddr, method: &str, path: &str) -> Reply {
    let mut connection = Connection::open(to).await;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    connection.write(head.as_bytes()).await;
    if method != "HEAD" {
        return connection.reply().await;
    }
    // Its length is that of the body that does not come.
    connection.more().await;
    let text = String::from_utf8_lossy(&connection.read).to_lowercase();
    connection.read = text.replace("content-length", "x-length").into_bytes();
    let reply = connection.reply().await;
    connection.closed().await;
    reply
}

pub(crate) fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

/// A length-delimited field, for messages that no encoder would make.
pub(crate) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

/// A sample's message with all its bits: prost leaves out a negative zero.
pub(crate) fn sample_bits(timestamp: i64, bits: u64) -> Vec<u8> {
    let mut out = vec![0x09];
    out.extend_from_slice(&bits.to_le_bytes());
    out.push(0x10);
    prost::encoding::encode_varint(timestamp.cast_unsigned(), &mut out);
    out
}

/// Labels, with `__name__` first.
pub(crate) fn labels(name: &str, others: &[(&str, &str)]) -> Vec<rw1::Label> {
    let name = [("__name__", name)];
    let all = name.iter().chain(others);
    all.map(|(name, value)| rw1::Label {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    })
    .collect()
}

/// A 1.0 series with these samples: timestamp and value.
pub(crate) fn series(labels: Vec<rw1::Label>, samples: &[(i64, f64)]) -> rw1::TimeSeries {
    let sample = |(timestamp, value): &(i64, f64)| rw1::Sample {
        value: *value,
        timestamp: *timestamp,
    };
    rw1::TimeSeries {
        labels,
        samples: samples.iter().map(sample).collect(),
        ..Default::default()
    }
}

/// A 1.0 message.
pub(crate) fn v1(timeseries: Vec<rw1::TimeSeries>) -> Vec<u8> {
    let request = rw1::WriteRequest {
        timeseries,
        ..Default::default()
    };
    request.encode_to_vec()
}

/// A 2.0 message of 1.0 series (samples and exemplars only).
pub(crate) fn v2(series: &[rw1::TimeSeries]) -> rw2::Request {
    let mut request = rw2::Request {
        symbols: vec![String::new()],
        ..Default::default()
    };
    for one in series {
        let labels_refs = refs(&mut request.symbols, &one.labels);
        let samples = one.samples.iter().map(|sample| rw2::Sample {
            value: sample.value,
            timestamp: sample.timestamp,
            start_timestamp: 0,
        });
        let samples = samples.collect();
        let mut exemplars = Vec::new();
        for exemplar in &one.exemplars {
            exemplars.push(rw2::Exemplar {
                labels_refs: refs(&mut request.symbols, &exemplar.labels),
                value: exemplar.value,
                timestamp: exemplar.timestamp,
            });
        }
        request.timeseries.push(rw2::TimeSeries {
            labels_refs,
            samples,
            exemplars,
            ..Default::default()
        });
    }
    request
}

fn refs(symbols: &mut Vec<String>, labels: &[rw1::Label]) -> Vec<u32> {
    let mut refs = Vec::new();
    for text in labels.iter().flat_map(|label| [&label.name, &label.value]) {
        let known = symbols.iter().position(|symbol| symbol == text);
        refs.push(known.unwrap_or_else(|| {
            symbols.push(text.clone());
            symbols.len() - 1
        }) as u32);
    }
    refs
}

/// `count` series of one sample each; `mark` tells one call's from another's.
pub(crate) fn many(mark: &str, count: usize) -> Vec<rw1::TimeSeries> {
    let one = |n: usize| {
        let number = n.to_string();
        let labels = labels(
            "many",
            &[("instance", &number), ("job", "j"), ("mark", mark)],
        );
        series(labels, &[(1_700_000_000_000, n as f64)])
    };
    (0..count).map(one).collect()
}

/// A good request with one sample that no other call makes.
pub(crate) fn good(mark: &str) -> Post {
    Post::new(V1, &v1(many(mark, 1)))
}

/// A request of about so many bytes, which compression does not make smaller.
pub(crate) fn bulky(mark: &str, bytes: usize) -> Post {
    let mut text = fastrand::Rng::new();
    let one = |n: usize| {
        let noise: String = (0..60_000).map(|_| text.alphanumeric()).collect();
        // The text's order: labels have to be sorted.
        let labels = labels(
            "bulky",
            &[("mark", mark), ("n", &n.to_string()), ("noise", &noise)],
        );
        series(labels, &[(1_700_000_000_000, 1.0)])
    };
    let all: Vec<_> = (0..bytes.div_ceil(60_000)).map(one).collect();
    Post::new(V1, &v1(all))
}
