//! Where a request ends, and what may follow it (faults B5-B7, B9, B10). Whoever stands between a sender and
//! us may read the same bytes otherwise: what can be read in two ways is refused, and the connection ends.

use super::Door;
use crate::requests::{Connection, Post, Reply, V1, good};

/// A request that carries one good sample in chunks, with these lines in its head instead of a length.
fn head(version: &str, lines: &str) -> Vec<u8> {
    format!(
        "POST /api/v1/write HTTP/{version}\r\nHost: proxy\r\nContent-Type: {V1}\r\n\
         Content-Encoding: snappy\r\n{lines}\r\n\r\n"
    )
    .into_bytes()
}

fn chunks(body: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n0\r\n\r\n");
    out
}

impl Door {
    /// Sends these bytes, and behind them a good request that nobody asked for: one refusal comes, and then
    /// the end. Nothing of it is stored.
    async fn ends_with(&self, what: &str, bytes: &[u8], (status, reason): (u16, &str)) -> Reply {
        let before = self.requests(status, reason);
        let mut connection = Connection::open(self.proxy.data).await;
        let smuggled = good(&format!("{what}, smuggled"));
        connection.write(bytes).await;
        connection.write(&smuggled.head(smuggled.body.len())).await;
        connection.write(&smuggled.body).await;
        let reply = connection.reply().await;
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        connection.closed().await;
        self.proxy
            .until(what, |_| self.requests(status, reason) == before + 1)
            .await;
        self.still_works(what).await;
        reply
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b5_a_request_whose_end_can_be_read_in_two_ways_is_refused() {
    let door = Door::open().await;
    let body = good("B5").body;
    let (length, in_chunks) = (body.len(), chunks(&body));
    let chunked = "Transfer-Encoding: chunked";
    for (what, lines, body) in [
        (
            "both, TE first",
            format!("{chunked}\r\nContent-Length: {length}"),
            &in_chunks,
        ),
        (
            "both, CL first",
            format!("Content-Length: {length}\r\n{chunked}"),
            &in_chunks,
        ),
        (
            "both, no length",
            format!("Content-Length: 0\r\n{chunked}"),
            &in_chunks,
        ),
        (
            "two lengths, equal",
            format!("Content-Length: {length}\r\nContent-Length: {length}"),
            &body,
        ),
        (
            "two lengths, different",
            format!("Content-Length: {length}\r\nContent-Length: 1"),
            &body,
        ),
        (
            "a list of lengths",
            format!("Content-Length: {length}, {length}"),
            &body,
        ),
        ("a sign", format!("Content-Length: +{length}"), &body),
        (
            "a leading zero",
            format!("Content-Length: 0{length}"),
            &body,
        ),
        ("hexadecimal", format!("Content-Length: {length:#x}"), &body),
        ("empty", "Content-Length: ".to_owned(), &body),
        (
            "above 64 bits",
            "Content-Length: 18446744073709551617".to_owned(),
            &body,
        ),
        (
            "space before the colon",
            format!("Content-Length : {length}"),
            &body,
        ),
        (
            "TE: xchunked",
            "Transfer-Encoding: xchunked".to_owned(),
            &in_chunks,
        ),
        (
            "TE: gzip, chunked",
            "Transfer-Encoding: gzip, chunked".to_owned(),
            &in_chunks,
        ),
        (
            "TE: chunked, identity",
            "Transfer-Encoding: chunked, identity".to_owned(),
            &in_chunks,
        ),
        ("TE twice", format!("{chunked}\r\n{chunked}"), &in_chunks),
        (
            "TE in a folded line",
            "Transfer-Encoding:\r\n chunked".to_owned(),
            &in_chunks,
        ),
        (
            "TE with a control character",
            "Transfer-Encoding: \x0bchunked".to_owned(),
            &in_chunks,
        ),
        (
            "space before the colon of TE",
            "Transfer-Encoding : chunked".to_owned(),
            &in_chunks,
        ),
        (
            "a folded header",
            format!("X-A: b\r\n c\r\nContent-Length: {length}"),
            &body,
        ),
        (
            "a bare line feed",
            format!("X-A: b\nContent-Length: {length}"),
            &body,
        ),
        (
            "a bare carriage return",
            format!("X-A: b\rContent-Length: 1\r\nContent-Length: {length}"),
            &body,
        ),
        (
            "NUL",
            format!("X-A: b\0c\r\nContent-Length: {length}"),
            &body,
        ),
        (
            "a header without a name",
            format!(": c\r\nContent-Length: {length}"),
            &body,
        ),
        (
            "a header without a colon",
            format!("X-A\r\nContent-Length: {length}"),
            &body,
        ),
    ] {
        let bytes = [head("1.1", &lines), body.clone()].concat();
        door.ends_with(what, &bytes, (400, "framing")).await;
    }
    let bytes = [head("1.0", chunked), in_chunks].concat();
    door.ends_with("HTTP/1.0 with TE", &bytes, (400, "framing"))
        .await;
    // The parser's own refusal: no body is that long.
    let most = format!("Content-Length: {}", u64::MAX);
    let bytes = [head("1.1", &most), body].concat();
    door.ends_with("2^64 - 1", &bytes, (431, "headers")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b5_chunks_that_cannot_be_read_are_refused() {
    let door = Door::open().await;
    let body = good("B5 chunks").body;
    let size = format!("{:x}", body.len());
    let with = |before: &str, after: &str| [before.as_bytes(), &body, after.as_bytes()].concat();
    let end = "\r\n0\r\n\r\n";
    for (what, bytes) in [
        (
            "bare line feed in an extension",
            with(&format!("{size};a\nb\r\n"), end),
        ),
        (
            "bare line feed after the size",
            with(&format!("{size}\n"), end),
        ),
        (
            "bare carriage return in an extension",
            with(&format!("{size};a\rb\r\n"), end),
        ),
        ("a sign", with(&format!("+{size}\r\n"), end)),
        (
            "hexadecimal with a prefix",
            with(&format!("0x{size}\r\n"), end),
        ),
        ("no digits", with("\r\n", end)),
        ("above 64 bits", with("10000000000000000\r\n", end)),
        (
            "no line end behind the data",
            with(&format!("{size}\r\n"), "0\r\n\r\n"),
        ),
        (
            "a line feed behind the data",
            with(&format!("{size}\r\n"), "\n0\r\n\r\n"),
        ),
        (
            "data longer than the size",
            with(&format!("{:x}\r\n", body.len() - 1), end),
        ),
    ] {
        let bytes = [head("1.1", "Transfer-Encoding: chunked"), bytes].concat();
        let reply = door.ends_with(what, &bytes, (400, "framing")).await;
        assert!(reply.closes(), "{what}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_request_is_taken_and_is_the_last_of_its_connection() {
    let door = Door::open().await;
    for (what, extra) in [("plain", ""), ("an extension", ";name=\"value\"")] {
        let body = good(what).body;
        let bytes = [
            head("1.1", "Transfer-Encoding: Chunked"),
            format!("{:x}{extra}\r\n", body.len()).into_bytes(),
            body,
            b"\r\n0\r\n\r\n".to_vec(),
        ];
        let reply = door.ends_with(what, &bytes.concat(), (204, "")).await;
        assert!(reply.closes(), "{what}: {reply:?}");
    }
    // An empty line before a request is one of the things that old senders do.
    let mut connection = Connection::open(door.proxy.data).await;
    for what in ["first", "second"] {
        connection.write(b"\r\n").await;
        assert_eq!(connection.request(&good(what)).await.status, 204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b6_nothing_follows_a_request_whose_body_was_not_read() {
    let door = Door::open().await;
    let post = good("B6");
    let bytes = |post: &Post| [post.head(post.body.len()), post.body.clone()].concat();
    for (what, post, refusal) in [
        ("path", post.clone().at("/nowhere"), (404, "path")),
        ("method", post.clone().by("PUT"), (405, "method")),
        (
            "type",
            post.clone().with("Content-Type", "text/plain"),
            (415, "type"),
        ),
    ] {
        let reply = door.ends_with(what, &bytes(&post), refusal).await;
        assert!(reply.closes(), "{what}: {reply:?}");
    }
    // One that claims more than is allowed is not waited for: what follows would be its body.
    let huge = post.head(1 << 30);
    door.ends_with("too large", &huge, (413, "body_size")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b7_http2_is_not_spoken_here() {
    let door = Door::open().await;
    let mut connection = Connection::open(door.proxy.data).await;
    connection.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    // A SETTINGS frame, then many PING frames, as a flood would have them.
    connection.write(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    assert!(connection.write_until_refused(&ping, 1_000_000).await);
    connection.closed().await;
    // An upgrade is not gone into.
    let asks = good("upgrade")
        .with("Connection", "Upgrade, HTTP2-Settings")
        .with("Upgrade", "h2c")
        .with("HTTP2-Settings", "AAMAAABkAAQAAP__");
    assert_eq!(asks.send(door.proxy.data).await.status, 204);
    door.still_works("B7").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b9_headers_without_end_are_refused() {
    let door = Door::open().await;
    let lines = |count: usize| {
        let lines: Vec<_> = (0..count).map(|n| format!("X-{n}: {n}")).collect();
        lines.join("\r\n")
    };
    let long = |name: &str, bytes: usize| format!("{name}: {}", "x".repeat(bytes));
    for (what, headers) in [
        ("101 headers", lines(101)),
        ("10,000 headers", lines(10_000)),
        ("a long value", long("X", 65 << 10)),
        ("a long name", long(&"x".repeat(65 << 10), 1)),
        ("a megabyte", long("X", 1 << 20)),
    ] {
        let before = door.requests(431, "headers");
        let mut connection = Connection::open(door.proxy.data).await;
        connection.write(&head("1.1", &headers)).await;
        let reply = connection.reply().await;
        assert_eq!(reply.status, 431, "{what}: {reply:?}");
        connection.closed().await;
        door.proxy
            .until(what, |_| door.requests(431, "headers") == before + 1)
            .await;
        door.still_works(what).await;
    }
    // What a service mesh adds is far below.
    let mut meshed = good("meshed");
    for n in 0..60 {
        meshed = meshed.with(&format!("X-Mesh-{n}"), &"m".repeat(500));
    }
    assert_eq!(meshed.send(door.proxy.data).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn b10_a_path_is_ours_to_the_letter_or_it_is_not() {
    let door = Door::open().await;
    for path in [
        "//api/v1/write",
        "//evil/api/v1/write",
        "/api/v1/write/",
        "/api/v1//write",
        "/api/v1/./write",
        "/api/v1/../v1/write",
        "/../api/v1/write",
        "/api%2fv1%2fwrite",
        "/api/v1%2Fwrite",
        "/api/v1/%77rite",
        "/api/v1/write%00",
        "/api/v1/write;a=b",
        "/API/v1/write",
        "/",
        "*",
        "proxy:80",
        "http://evil/nowhere",
        "http://evil//api/v1/write",
        "/workspaces//api/v1/remote_write",
        "/workspaces/a/b/api/v1/remote_write",
        "/workspaces/../api/v1/remote_write/",
    ] {
        let reply = good(path).at(path).send(door.proxy.data).await;
        let refused = matches!(reply.status, 400 | 404);
        assert!(refused, "{path}: {reply:?}");
        assert!(reply.status == 400 || reply.closes(), "{path}: {reply:?}");
        door.still_works(path).await;
    }
    for path in ["/api/v1/write\0", "/api/v1/write\x7f", "/api/v1/wr ite", ""] {
        let bytes = good("bytes").at(path);
        let bytes = [bytes.head(bytes.body.len()), bytes.body].concat();
        door.ends_with(path, &bytes, (400, "framing")).await;
    }
    // RFC 9112 has every server take the absolute form, and the host is a proxy's business.
    for path in [
        "http://anything/api/v1/write",
        "/api/v1/write?tenant=a",
        "/api/v1/write#part",
    ] {
        let reply = good(&format!("fine {path}"))
            .at(path)
            .send(door.proxy.data)
            .await;
        assert_eq!(reply.status, 204, "{path}: {reply:?}");
    }
}
