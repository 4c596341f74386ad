//! What is decided by a request's head alone.

use prost::Message as _;

use super::{Door, Refused};
use crate::requests::{Connection, Post, V1, V2, field, get, good, many, v1, v2};

fn unsupported(what: &'static str, post: Post, reason: &'static str) -> Refused {
    let says = if reason == "type" {
        "content type must be"
    } else {
        "content encoding must be"
    };
    Refused {
        what,
        post,
        status: 415,
        reason,
        says,
        closes: true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_a8_encodings_other_than_snappy() {
    let door = Door::configured("server: {accept_zstd: false}", |_| ()).await;
    let message = v1(many("encodings", 1));
    for coding in [
        "gzip",
        "deflate",
        "br",
        "identity",
        "zstd",
        "snappy, gzip",
        "gzip, snappy",
    ] {
        let post = Post::new(V1, &message).with("Content-Encoding", coding);
        door.refuses(&unsupported("A7", post, "encoding")).await;
        let post = Post::new(V2, &message).with("Content-Encoding", coding);
        door.refuses(&unsupported("A7, 2.0", post, "encoding"))
            .await;
    }
    let mut twice = Post::new(V1, &message);
    let second = ("Content-Encoding".to_owned(), "gzip".to_owned());
    twice.headers.push(second);
    door.refuses(&unsupported("A7, two headers", twice, "encoding"))
        .await;
    let refused = Post::new(V1, &message).with("Content-Encoding", "gzip");
    let reply = refused.send(door.proxy.data).await;
    assert_eq!(reply.header("accept-encoding"), Some("snappy"));

    let door = Door::open().await;
    // A field that nobody knows, so that nothing but its size is wrong.
    let zeros = field(15, &vec![0; 64 << 20]);
    let bomb = zstd::bulk::compress(&zeros, 1).unwrap();
    let mut unsized_bomb = Vec::new();
    zstd::stream::copy_encode(&zeros[..], &mut unsized_bomb, 1).unwrap();
    for (what, body) in [("A8", bomb), ("A8, without a size", unsized_bomb)] {
        let row = Refused {
            what,
            post: Post::raw(V1, body).with("Content-Encoding", "zstd"),
            status: 413,
            reason: "decoded_size",
            says: "server.max_request_size",
            closes: false,
        };
        door.refuses(&row).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a25_content_types() {
    let door = Door::open().await;
    let (one, two) = (v1(many("types", 1)), v2(&many("types", 1)).encode_to_vec());
    let quoted = "application/x-protobuf; proto=\"io.prometheus.write.v2.Request\"";
    let accepted = [
        (V1, &one),
        ("APPLICATION/X-PROTOBUF", &one),
        ("application/x-protobuf;proto=prometheus.WriteRequest", &one),
        ("application/x-protobuf; charset=utf-8", &one),
        (V2, &two),
        (quoted, &two),
        (
            "Application/X-Protobuf ;PROTO=io.prometheus.write.v2.Request",
            &two,
        ),
    ];
    for (content_type, message) in accepted {
        let reply = Post::new(content_type, message).send(door.proxy.data).await;
        assert_eq!(reply.status, 204, "{content_type}: {reply:?}");
        let written = std::ptr::eq(message, &raw const two).then_some([1, 0, 0]);
        assert_eq!(reply.written(), written, "{content_type}");
    }
    for name in ["Content-Type", "Content-Encoding"] {
        let reply = Post::new(V1, &one)
            .without(name)
            .send(door.proxy.data)
            .await;
        assert_eq!(reply.status, 204, "without {name}: {reply:?}");
    }
    let door = Door::open().await;
    for content_type in [
        "application/x-protobuf;proto=io.prometheus.write.v3.Request",
        "application/x-protobuf;proto=",
        "application/json",
        "text/plain",
        "",
    ] {
        let post = Post::new(content_type, &one);
        door.refuses(&unsupported("A25", post, "type")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a26_methods_and_paths() {
    let door = Door::open().await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "XYZZY123456789"] {
        let row = Refused {
            what: "A26",
            post: good("method").by(method),
            status: 405,
            reason: "method",
            says: "POST",
            closes: true,
        };
        door.refuses(&row).await;
        let reply = row.post.send(door.proxy.data).await;
        assert_eq!(reply.header("allow"), Some("POST"));
    }
    let text = door.proxy.status.metrics();
    assert!(!text.contains("XYZZY"), "no label comes from the network");
    for path in [
        "/",
        "/api/v1/write/",
        "//api/v1/write",
        "/api/v1/query",
        "/workspaces//api/v1/remote_write",
        "/workspaces/a/b/api/v1/remote_write",
        "/api/v1/%77rite",
    ] {
        let row = Refused {
            what: "path",
            post: good("path").at(path),
            status: 404,
            reason: "path",
            says: "not a remote-write path",
            closes: true,
        };
        door.refuses(&row).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_of_other_receivers_keep_their_paths() {
    let door = Door::open().await;
    let paths = [
        "/api/v1/write",
        "/api/v1/push",
        "/api/prom/push",
        "/api/v1/receive",
        "/api/v1/remote_write",
        "/workspaces/ws-1234/api/v1/remote_write",
        "/api/v1/write?extra=1",
    ];
    for path in paths {
        let reply = good(path).at(path).send(door.proxy.data).await;
        assert_eq!(reply.status, 204, "{path}: {reply:?}");
    }
    assert_eq!(door.sink.stats().samples, paths.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn zstd_of_victoriametrics_agents_and_its_handshake_can_be_switched_off() {
    let message = v1(many("zstd", 3));
    let body = zstd::bulk::compress(&message, 1).unwrap();
    let mut streamed = Vec::new();
    zstd::stream::copy_encode(&message[..], &mut streamed, 1).unwrap();
    let zstd = |body: &[u8]| {
        Post::raw(V1, body.to_vec())
            .with("Content-Encoding", "zstd")
            .with("X-VictoriaMetrics-Remote-Write-Version", "1")
    };
    let handshake = "/api/v1/write?get_vm_proto_version=1";

    let door = Door::open().await;
    for body in [&body, &streamed] {
        let reply = zstd(body).send(door.proxy.data).await;
        assert_eq!((reply.status, reply.written()), (204, None), "{reply:?}");
    }
    assert_eq!(door.sink.stats().samples, 6);
    // An agent's queue may hold blocks of the other kind: told by their first bytes.
    let snappy = Post::new(V1, &v1(many("mixed up", 1))).with("Content-Encoding", "zstd");
    assert_eq!(snappy.send(door.proxy.data).await.status, 204);
    let reply = get(door.proxy.data, handshake).await;
    assert_eq!((reply.status, &*reply.body), (200, "1"));
    let broken = zstd(&body[..body.len() - 2]).send(door.proxy.data).await;
    assert_eq!(broken.status, 400, "then the agent packs it as snappy");
    assert_eq!(door.requests(400, "zstd"), 1);

    let door = Door::configured("server: {accept_zstd: false}", |_| ()).await;
    door.refuses(&unsupported("off", zstd(&body), "encoding"))
        .await;
    let reply = get(door.proxy.data, handshake).await;
    assert!(!reply.body.contains('1'), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_refused_never_gets_a_100() {
    let door = Door::open().await;
    let expecting = |post: Post| post.with("Expect", "100-continue");
    for (what, post, length, status) in [
        ("too large", good("e"), 33 << 20, 413),
        (
            "encoding",
            good("e").with("Content-Encoding", "gzip"),
            9,
            415,
        ),
        ("type", good("e").with("Content-Type", "text/plain"), 9, 415),
        ("path", good("e").at("/nowhere"), 9, 404),
        ("method", good("e").by("PUT"), 9, 405),
    ] {
        let mut connection = Connection::open(door.proxy.data).await;
        connection.write(&expecting(post).head(length)).await;
        let reply = connection.reply().await;
        assert_eq!(reply.status, status, "{what}");
        connection.closed().await;
    }
    let post = expecting(good("expected"));
    let mut connection = Connection::open(door.proxy.data).await;
    connection.write(&post.head(post.body.len())).await;
    assert_eq!(connection.reply().await.status, 100);
    connection.write(&post.body).await;
    assert_eq!(connection.reply().await.status, 204);
    assert_eq!(door.sink.stats().samples, 1);
}
