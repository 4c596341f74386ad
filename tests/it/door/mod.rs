//! The door: what a sender may send, and what it is told. Every row of the catalogue of bad input, over
//! real sockets.

mod attack;
mod bytes;
mod connections;
mod content;
mod flood;
mod framing;
mod headers;
mod heads;
mod pressure;
mod slow;
mod tenants;

use sluicegate::bench::sink::{Sink, SinkHandle, SinkOptions};
use sluicegate::cli::RunArgs;

use crate::harness::{Proxy, proxy};
use crate::requests::{Connection, Post, Reply, V2, good};

/// A proxy in front of a receiver that takes everything.
struct Door {
    proxy: Proxy,
    sink: SinkHandle,
}

/// A request that is refused whole.
struct Refused {
    what: &'static str,
    post: Post,
    status: u16,
    reason: &'static str,
    /// Part of the text that the sender gets.
    says: &'static str,
    closes: bool,
}

/// Bytes that are wrong: 400, and the connection can be used further.
fn wrong(what: &'static str, post: Post, reason: &'static str, says: &'static str) -> Refused {
    Refused {
        what,
        post,
        status: 400,
        reason,
        says,
        closes: false,
    }
}

impl Door {
    async fn open() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(flags: impl FnOnce(&mut RunArgs)) -> Self {
        let sink = Sink::start(SinkOptions::default()).expect("the sink listens");
        let proxy = proxy(&[sink.url()], flags).await;
        Self { proxy, sink }
    }

    /// With this file's `server` section and what else it says, in front of a receiver.
    async fn configured(yaml: &str, flags: impl FnOnce(&mut RunArgs)) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, yaml).unwrap();
        Self::with(|args| {
            args.config_file = Some(file.path().to_owned());
            flags(args);
        })
        .await
    }

    fn requests(&self, status: u16, reason: &str) -> u64 {
        let labels = [format!("\"{status}\""), format!("reason=\"{reason}\"")];
        let labels = labels.each_ref().map(String::as_str);
        self.proxy.metric("sluicegate_requests_total", &labels) as u64
    }

    /// Sends it, and checks the answer, the metric, that nothing came in, and that the door still works.
    async fn refuses(&self, row: &Refused) {
        let mut connection = Connection::open(self.proxy.data).await;
        let before = self.requests(row.status, row.reason);
        let reply = connection.request(&row.post).await;
        self.is_refused(row, &reply, before);
        if row.closes {
            connection.closed().await;
        } else {
            let again = connection.request(&good(row.what)).await;
            assert_eq!(again.status, 204, "{}: on the same connection", row.what);
        }
        self.still_works(row.what).await;
    }

    fn is_refused(&self, row: &Refused, reply: &Reply, before: u64) {
        let what = row.what;
        assert_eq!(reply.status, row.status, "{what}: {reply:?}");
        assert!(reply.body.contains(row.says), "{what}: {reply:?}");
        let after = self.requests(row.status, row.reason);
        assert_eq!(after, before + 1, "{what}: counted");
        let v2 = row.post.headers.iter().any(|(_, value)| value == V2);
        let negotiated = !matches!(row.status, 404 | 405 | 415);
        let expected = (v2 && negotiated).then_some([0; 3]);
        assert_eq!(reply.written(), expected, "{what}: {reply:?}");
        assert_eq!(reply.retry_after(), None, "{what}: a 4xx is final");
        assert_eq!(reply.closes(), row.closes, "{what}: {reply:?}");
    }

    /// A good request on a new connection is delivered, and nothing else is.
    async fn still_works(&self, what: &str) {
        let reply = good(&format!("{what}, then")).send(self.proxy.data).await;
        assert_eq!(reply.status, 204, "after {what}: {reply:?}");
        let accepted = self.requests(204, "");
        let stats = self.sink.stats();
        // The good ones carry one sample each, and are answered when they are stored.
        assert_eq!(stats.samples, accepted, "{what}: nothing else is stored");
        assert_eq!(self.proxy.pending(), 0, "{what}: nothing is pending");
        let refused = self.proxy.metric("sluicegate_refused_samples_total", &[]);
        assert_eq!(
            refused as u64, 0,
            "{what}: the whole was refused, no series"
        );
    }
}

impl Door {
    /// Like `still_works`, after so many requests that were accepted with nothing in them.
    async fn still_works_after_empty(&self, empty: u64) {
        let reply = good("after empty ones").send(self.proxy.data).await;
        assert_eq!(reply.status, 204);
        assert_eq!(self.requests(204, ""), empty + 1);
        assert_eq!((self.sink.stats().samples, self.proxy.pending()), (1, 0));
    }
}
