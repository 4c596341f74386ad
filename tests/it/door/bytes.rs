//! Bytes that can never be a request: refused whole, before memory is spent on them.

use prost::Message as _;
use sluicegate::wire::pb::rw2;

use super::{Door, Refused, wrong};
use crate::requests::{
    Connection, Post, V1, V2, field, good, labels, many, series, snappy, v1, v2,
};

fn message(message: &[u8]) -> Post {
    Post::new(V1, message)
}

fn request_v2(request: &rw2::Request) -> Post {
    Post::new(V2, &request.encode_to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_a5_a6_snappy_that_lies_or_is_broken() {
    let door = Door::open().await;
    let raw = |body: &[u8]| Post::raw(V1, body.to_vec());
    let mut bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
    bomb.resize(47, 0);
    door.refuses(&wrong(
        "A1",
        raw(&bomb),
        "snappy_ratio",
        "more than the format",
    ))
    .await;
    let good = snappy(&v1(many("cut", 3)));
    let cut = &good[..good.len() - 3];
    let mut longer = good.clone();
    longer[0] += 1;
    let mut shorter = good.clone();
    shorter[0] -= 1;
    for (what, body) in [
        ("A5, cut", cut),
        ("A5, longer than it says", &shorter),
        ("A5, shorter than it says", &longer),
        ("A5, copy of offset 0", &[5, 1, 0, 0, 0]),
        ("A5, copy from before the start", &[5, 1, 9, 0, 0]),
        (
            "A5, length of six bytes",
            &[0x80, 0x80, 0x80, 0x80, 0x80, 1],
        ),
        ("A5, literal without its bytes", &[9, 0xf0]),
    ] {
        let says = "invalid snappy block";
        door.refuses(&wrong(what, raw(body), "snappy", says)).await;
    }
    let mut framed = b"\xff\x06\x00\x00sNaPpY\x01\x08\x00\x00".to_vec();
    framed.extend_from_slice(&[0; 8]);
    let says = "block format";
    door.refuses(&wrong("A6", raw(&framed), "snappy_framed", says))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_a3_a4_what_is_too_large() {
    let door = Door::configured("server: {max_request_size: 64KiB}", |_| ()).await;
    let too_large = |what, post, reason, closes| Refused {
        what,
        post,
        status: 413,
        reason,
        says: "server.max_request_size",
        closes,
    };
    let decoded = message(&vec![0; (64 << 10) + 1]);
    door.refuses(&too_large("A2", decoded, "decoded_size", false))
        .await;

    // The length alone is enough: not a byte of the body is waited for.
    for content_type in [V1, V2] {
        let row = too_large("A3", Post::raw(content_type, Vec::new()), "body_size", true);
        let mut connection = Connection::open(door.proxy.data).await;
        let before = door.requests(413, "body_size");
        connection.write(&row.post.head((64 << 10) + 1)).await;
        let reply = connection.reply().await;
        door.is_refused(&row, &reply, before);
        connection.closed().await;
        door.still_works(row.what).await;
    }

    let endless = Post::raw(V1, Vec::new()).with("Transfer-Encoding", "chunked");
    let row = too_large("A4", endless, "body_size", true);
    let mut connection = Connection::open(door.proxy.data).await;
    let before = door.requests(413, "body_size");
    connection.write(&row.post.head(0)).await;
    let mut chunk = b"1000\r\n".to_vec();
    chunk.extend_from_slice(&[0; 0x1000]);
    chunk.extend_from_slice(b"\r\n");
    for _ in 0..17 {
        connection.write(&chunk).await;
    }
    let reply = connection.reply().await;
    door.is_refused(&row, &reply, before);
    assert!(
        connection.write_until_refused(&chunk, 100_000).await,
        "the rest is not read"
    );
    door.still_works(row.what).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a9_a10_floods_of_empty_things() {
    let door = Door::open().await;
    let flood = [0x0a, 0x00].repeat(16 << 20);
    let says = "server.max_series_per_request";
    door.refuses(&wrong("A9", message(&flood), "series_count", says))
        .await;
    let flood = [0x2a, 0x00].repeat(16 << 20);
    let row = wrong("A9, 2.0", Post::new(V2, &flood), "series_count", says);
    door.refuses(&row).await;

    let says = "server.max_elements_per_request";
    let name = field(1, &[0x0a, 1, b'n', 0x12, 1, b'v']);
    for (what, number) in [
        ("A10, samples", 2),
        ("A10, exemplars", 3),
        ("A10, histograms", 4),
    ] {
        for times in [200_001, 4 << 20] {
            let mut one = name.clone();
            one.extend([number << 3 | 2, 0x00].repeat(times));
            let row = wrong(what, message(&field(1, &one)), "count", says);
            door.refuses(&row).await;
        }
    }
    let flood = field(1, &[0x0a, 0x00].repeat(4 << 20));
    let says = "server.max_labels_per_series";
    let row = wrong("A10, labels", message(&flood), "label_limit", says);
    door.refuses(&row).await;
    let flood = [0x22, 0x00].repeat(4 << 20);
    let row = wrong("A10, symbols", Post::new(V2, &flood), "symbols", "too many");
    door.refuses(&row).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a11_a12_protobuf_that_is_none() {
    let door = Door::open().await;
    let overlong = [&[0x0a][..], &[0x80; 10], &[0x01]].concat();
    let huge = [&[0x0a][..], &[0xff; 9], &[0x01]].concat();
    let two_to_63 = [&[0x0a][..], &[0x80; 9], &[0x01]].concat();
    let mut cut = v1(many("cut", 3));
    cut.truncate(cut.len() - 1);
    let in_sample = field(1, &field(2, &[0x09, 1, 2]));
    for (what, bytes) in [
        ("A11, length past the end", &[0x0a, 0x05, 0x01][..]),
        ("A11, negative length", &huge),
        ("A11, length of 2^63", &two_to_63),
        ("A11, varint of eleven bytes", &overlong),
        ("A11, cut", &cut),
        ("A11, cut in a sample", &in_sample),
        ("A11, wire type 6", &[0x0e, 0x00]),
        ("A11, field 0", &[0x02, 0x00]),
        ("A11, end of no group", &[0x0c]),
    ] {
        let row = wrong(what, message(bytes), "proto", "invalid protobuf");
        door.refuses(&row).await;
        let row = wrong(what, Post::new(V2, bytes), "proto", "invalid protobuf");
        if !what.contains("cut") {
            door.refuses(&row).await;
        }
    }
    let deep = [0x9b, 0x3e].repeat(100_000);
    for content_type in [V1, V2] {
        let row = wrong(
            "A12",
            Post::new(content_type, &deep),
            "proto_depth",
            "nested too deep",
        );
        door.refuses(&row).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a14_a15_symbols_and_messages_that_do_not_belong() {
    let door = Door::open().await;
    let fine = v2(&many("symbols", 1));
    let with = |change: fn(&mut rw2::Request)| {
        let mut request = fine.clone();
        change(&mut request);
        request_v2(&request)
    };
    for (what, post) in [
        (
            "A14, reference out of range",
            with(|r| r.timeseries[0].labels_refs[3] = 1_000),
        ),
        (
            "A14, largest reference",
            with(|r| r.timeseries[0].labels_refs[0] = u32::MAX),
        ),
        (
            "A14, odd references",
            with(|r| r.timeseries[0].labels_refs.truncate(3)),
        ),
        (
            "A14, first symbol",
            with(|r| r.symbols[0] = "surprise".to_owned()),
        ),
        ("A14, no symbols", with(|r| r.symbols.clear())),
        (
            "A14, in an exemplar",
            with(|r| {
                let labels_refs = vec![1, 99];
                let exemplar = rw2::Exemplar {
                    labels_refs,
                    ..Default::default()
                };
                r.timeseries[0].exemplars.push(exemplar);
            }),
        ),
        (
            "A14, in metadata",
            with(|r| {
                r.timeseries[0].metadata = Some(rw2::Metadata {
                    help_ref: 99,
                    ..Default::default()
                });
            }),
        ),
    ] {
        door.refuses(&wrong(what, post, "symbols", "invalid symbols"))
            .await;
    }
    let one_as_two = Post::new(V2, &v1(many("mixed up", 1)));
    for post in [message(&fine.encode_to_vec()), one_as_two] {
        let says = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        door.refuses(&wrong("A15", post, "proto_mismatch", says))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a18_labels_over_the_limits() {
    let door = Door::open().await;
    let long = "x".repeat(10 << 20);
    let one = |value: &str| v1(vec![series(labels("n", &[("a", value)]), &[(1, 1.0)])]);
    let says = "server.max_label_bytes";
    let row = wrong("A18, long", message(&one(&long)), "label_limit", says);
    door.refuses(&row).await;
    let names: Vec<String> = (0..10_000).map(|n| format!("l{n:05}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
    let post = message(&v1(vec![series(labels("n", &all), &[(1, 1.0)])]));
    let says = "server.max_labels_per_series";
    door.refuses(&wrong("A18, many", post, "label_limit", says))
        .await;

    let door = Door::configured("server: {max_label_bytes: 0}", |_| ()).await;
    let reply = message(&one(&long)).send(door.proxy.data).await;
    assert_eq!(reply.status, 204, "without the limit: {reply:?}");
    assert_eq!(door.sink.stats().samples, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_leaves_its_neighbours_on_the_connection_alone() {
    let door = Door::open().await;
    // Pipelined: good, bad, good.
    let posts = [
        good("first"),
        Post::raw(V1, vec![5, 1, 0, 0, 0]),
        good("last"),
    ];
    let mut connection = Connection::open(door.proxy.data).await;
    for post in &posts {
        connection.write(&post.head(post.body.len())).await;
        connection.write(&post.body).await;
    }
    for status in [204, 400, 204] {
        assert_eq!(connection.reply().await.status, status);
    }
    assert_eq!(door.sink.stats().samples, 2);
}
