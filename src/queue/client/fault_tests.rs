//! What a network and a broken receiver can do to a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::fixture::{
    NO_CONTENT, Receiver, attempt, failure, failure_of, options, read_head, read_request, reset,
    response,
};
use super::{Answer, Client, FailureKind};

const SHORT: Duration = Duration::from_millis(200);

/// Larger than what two socket buffers hold.
const LARGE: usize = 64 << 20;

fn hurried(receiver: &Receiver) -> Client {
    let mut options = receiver.options();
    options.attempt_timeout = SHORT;
    Client::new(&options).unwrap()
}

/// Serves one good answer on the first connection; then follows the requests with `ending`, and
/// on further connections too.
async fn good_once(ending: &'static [u8], good_connections: fn(usize) -> bool) -> Receiver {
    Receiver::start(move |mut stream, nth| async move {
        let mut good = usize::from(nth == 0);
        while read_request(&mut stream).await.is_some() {
            if good == 0 && !good_connections(nth) {
                stream.write_all(ending).await.unwrap();
                return reset(stream);
            }
            good = good.saturating_sub(1);
            stream.write_all(NO_CONTENT).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn a_stale_kept_connection_costs_one_repetition_on_a_new_one() {
    let receiver = good_once(b"", |nth| nth > 0).await;
    let client = receiver.client();
    assert_eq!(response(&client).await.status, 204);
    assert_eq!(response(&client).await.status, 204);
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_receiver_that_closes_after_each_answer_fails_no_request() {
    let receiver = Receiver::start(|mut stream, nth| async move {
        read_request(&mut stream).await.unwrap();
        stream.write_all(NO_CONTENT).await.unwrap();
        if nth % 2 == 0 {
            reset(stream);
        }
    })
    .await;
    let client = receiver.client();
    for _ in 0..50 {
        assert_eq!(response(&client).await.status, 204);
    }
}

#[tokio::test]
async fn the_repetition_is_not_repeated() {
    let receiver = good_once(b"", |_| false).await;
    let client = receiver.client();
    response(&client).await;
    let failure = failure(&client).await;
    assert_eq!(
        (failure.kind, failure.sent),
        (FailureKind::Closed, true),
        "{failure}"
    );
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_never_worked_is_not_stale() {
    let receiver = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await.unwrap();
    })
    .await;
    let failure = failure(&receiver.client()).await;
    assert_eq!(
        (failure.kind, failure.sent),
        (FailureKind::Closed, true),
        "{failure}"
    );
    let text = format!(
        "{}: connection closed before message completed",
        receiver.address
    );
    assert_eq!(failure.message, text);
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_began_to_answer_is_not_stale() {
    let receiver = good_once(b"HTTP/1.1 20", |_| false).await;
    let client = receiver.client();
    response(&client).await;
    let failure = failure(&client).await;
    assert_eq!(
        (failure.kind, failure.sent),
        (FailureKind::Closed, true),
        "{failure}"
    );
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn an_answer_cut_within_its_head_is_no_answer() {
    for cut in [
        "",
        "HTTP/1.1 20",
        "HTTP/1.1 200 OK\r\nContent-Len",
        "HTTP/1.1 200 OK\r\n",
    ] {
        for by_reset in [true, false] {
            let receiver = Receiver::start(move |mut stream, _| async move {
                read_request(&mut stream).await.unwrap();
                stream.write_all(cut.as_bytes()).await.unwrap();
                if by_reset {
                    reset(stream);
                }
            })
            .await;
            let failure = failure(&receiver.client()).await;
            assert_eq!(
                (failure.kind, failure.sent),
                (FailureKind::Closed, true),
                "{cut:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_complete_head_is_an_answer_whatever_becomes_of_the_body() {
    for (status, message) in [(200, ""), (503, "abc")] {
        let receiver = Receiver::start(move |mut stream, _| async move {
            read_request(&mut stream).await.unwrap();
            let head = format!("HTTP/1.1 {status} Hm\r\nContent-Length: 100\r\n\r\nabc");
            stream.write_all(head.as_bytes()).await.unwrap();
        })
        .await;
        let client = receiver.client();
        for connections in 1..=2 {
            let response = response(&client).await;
            assert_eq!(
                (response.status, response.message.as_str()),
                (status, message)
            );
            assert_eq!(receiver.connections(), connections);
        }
    }
}

#[tokio::test]
async fn an_endless_error_body_costs_a_kibibyte() {
    let (report, mut written) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Receiver::start(move |mut stream, _| {
        let report = report.clone();
        async move {
            read_request(&mut stream).await.unwrap();
            let head = b"HTTP/1.1 500 Oops\r\nContent-Length: 10737418240\r\n\r\n";
            stream.write_all(head).await.unwrap();
            let mut bytes = 0;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                bytes += 4096;
            }
            report.send(bytes).unwrap();
        }
    })
    .await;
    let client = receiver.client();
    for connections in 1..=2 {
        let response = response(&client).await;
        assert_eq!((response.status, response.message.len()), (500, 1024));
        // No more went out than what the buffers of two sockets took.
        assert!(written.recv().await.unwrap() < LARGE);
        assert_eq!(receiver.connections(), connections);
    }
}

#[tokio::test]
async fn a_body_that_drips_is_not_waited_for() {
    for status in [200, 500] {
        let receiver = Receiver::start(move |mut stream, _| async move {
            read_request(&mut stream).await.unwrap();
            let head = format!("HTTP/1.1 {status} Hm\r\nContent-Length: 9\r\n\r\nabc");
            stream.write_all(head.as_bytes()).await.unwrap();
            // Until the client gives up.
            stream.read_u8().await.unwrap_err();
        })
        .await;
        let started = Instant::now();
        assert_eq!(response(&receiver.client()).await.status, status);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_deadline_says_how_far_the_request_came() {
    // Silent after the request.
    let silent = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await.unwrap();
        stream.read_u8().await.unwrap_err();
    })
    .await;
    let failed = failure(&hurried(&silent)).await;
    assert_eq!((failed.kind, failed.sent), (FailureKind::Timeout, true));
    assert!(
        failed
            .message
            .starts_with("no response headers from 127.0.0.1:"),
        "{failed}"
    );

    // Does not take the request.
    let full = Receiver::start(|mut stream, _| async move {
        read_head(&mut stream).await.unwrap();
        let (_open, forever) = oneshot::channel::<()>();
        forever.await.unwrap_err();
    })
    .await;
    let failed = failure_of(&hurried(&full), &attempt(vec![0; LARGE])).await;
    assert_eq!((failed.kind, failed.sent), (FailureKind::Timeout, false));
    assert!(
        failed
            .message
            .starts_with("request not taken by 127.0.0.1:"),
        "{failed}"
    );
}

#[tokio::test]
async fn a_head_that_drips_does_not_outlive_the_deadline() {
    let receiver = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").await.unwrap();
        let mut drip = tokio::time::interval(SHORT / 20);
        while stream.write_all(b"x").await.is_ok() {
            drip.tick().await;
        }
    })
    .await;
    let failed = failure(&hurried(&receiver)).await;
    assert_eq!((failed.kind, failed.sent), (FailureKind::Timeout, true));
}

#[tokio::test]
async fn what_could_not_be_connected_was_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let refused = failure(&Client::new(&options(&format!("http://{address}/"))).unwrap()).await;
    assert_eq!(
        (refused.kind, refused.sent),
        (FailureKind::Connect, false),
        "{refused}"
    );
    assert!(refused.message.contains("Connection refused"), "{refused}");

    // Too long for a label, so that no name server is asked.
    let url = format!("http://{}.example/", "a".repeat(64));
    let unknown = failure(&Client::new(&options(&url)).unwrap()).await;
    assert_eq!(
        (unknown.kind, unknown.sent),
        (FailureKind::Dns, false),
        "{unknown}"
    );
}

#[tokio::test]
async fn what_is_not_http_or_too_large_a_head_is_refused() {
    let long_value = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(256 << 10));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(200));
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/2 200\r\n\r\n",
        &long_value,
        &many,
    ] {
        let receiver = Receiver::answering(answer.to_owned()).await;
        let failed = failure(&receiver.client()).await;
        assert_eq!(
            (failed.kind, failed.sent),
            (FailureKind::Other, true),
            "{failed}"
        );
    }
}

#[tokio::test]
async fn a_refusal_before_the_body_is_heard() {
    let receiver = Receiver::start(|mut stream, _| async move {
        read_head(&mut stream).await.unwrap();
        let answer = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig";
        stream.write_all(answer).await.unwrap();
        // As a careful receiver does: the rest is read and thrown away.
        tokio::io::copy(&mut stream, &mut tokio::io::sink())
            .await
            .ok();
    })
    .await;
    match receiver.client().post(&attempt(vec![0; LARGE])).await {
        Answer::Response(response) => {
            assert_eq!((response.status, response.message.as_str()), (413, "big"));
        }
        Answer::Failed(failed) => panic!("{failed:?}"),
    }
}

#[tokio::test]
async fn a_dropped_attempt_closes_its_connection() {
    let (arrived, request) = oneshot::channel();
    let (closed, end) = oneshot::channel();
    let ends = Arc::new(std::sync::Mutex::new(Some((arrived, closed))));
    let receiver = Receiver::start(move |mut stream, _| {
        let (arrived, closed) = ends.lock().unwrap().take().unwrap();
        async move {
            read_request(&mut stream).await.unwrap();
            arrived.send(()).unwrap();
            closed.send(stream.read_u8().await.is_err()).unwrap();
        }
    })
    .await;
    let (client, attempt) = (receiver.client(), attempt("x"));
    tokio::select! {
        answer = client.post(&attempt) => panic!("{answer:?}"),
        _ = request => {}
    }
    assert!(end.await.unwrap());
}

#[tokio::test]
async fn informational_answers_are_passed_over() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let receiver = Receiver::start(move |mut stream, _| {
        let counter = Arc::clone(&counter);
        async move {
            while read_request(&mut stream).await.is_some() {
                counter.fetch_add(1, Ordering::SeqCst);
                stream
                    .write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                    .await
                    .unwrap();
                stream.write_all(NO_CONTENT).await.unwrap();
            }
        }
    })
    .await;
    assert_eq!(response(&receiver.client()).await.status, 204);
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}
