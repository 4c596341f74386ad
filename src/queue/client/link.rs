//! What is known about one connection to a receiver.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::http::Extensions;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Connections live four to five minutes, so that a receiver that moved (DNS), or a load balancer
/// with new members, is noticed. Spread out, or all shards would reconnect in the same second.
const LIFE: Duration = Duration::from_secs(240);
const LIFE_SPREAD_MS: u64 = 60_000;

/// A plain or encrypted stream to the receiver.
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The life of one connection, seen from outside of the pool that owns it.
#[derive(Debug)]
pub(super) struct Link {
    retire_at: Instant,
    /// It carried a complete answer before.
    answered: AtomicBool,
    /// Nothing was read since the last write was tried.
    silent: AtomicBool,
}

impl Link {
    fn new() -> Self {
        let spread = Duration::from_millis(fastrand::u64(..LIFE_SPREAD_MS));
        Self {
            retire_at: Instant::now() + LIFE + spread,
            answered: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        }
    }

    /// The connection that a request was given, if it came that far.
    pub(super) fn of(request: &CaptureConnection) -> Option<Arc<Self>> {
        let mut extras = Extensions::new();
        request
            .connection_metadata()
            .as_ref()?
            .get_extras(&mut extras);
        extras.get::<Arc<Self>>().cloned()
    }

    /// The connection carried an answer. Asks the pool to let go of it when it is old.
    pub(super) fn answered(&self, request: &CaptureConnection) {
        self.answered.store(true, Ordering::Release);
        if Instant::now() >= self.retire_at
            && let Some(connected) = request.connection_metadata().as_ref()
        {
            connected.poison();
        }
    }

    /// It worked once, and the request that broke on it got not one byte back: the receiver closed
    /// it while it was idle, and our request crossed the news.
    pub(super) fn was_stale(&self) -> bool {
        self.answered.load(Ordering::Acquire) && self.silent.load(Ordering::Acquire)
    }
}

/// A stream that keeps its [`Link`] up to date.
///
/// It sits above TLS: a session ticket or a `close_notify` is not a byte of a response.
pub(super) struct Tracked {
    io: TokioIo<Stream>,
    link: Arc<Link>,
    proxied: bool,
}

impl Tracked {
    /// `proxied`: the peer is an HTTP proxy that wants to be told the whole URL.
    pub(super) fn new(stream: Stream, proxied: bool) -> Self {
        Self {
            io: TokioIo::new(stream),
            link: Arc::new(Link::new()),
            proxied,
        }
    }

    fn io(self: Pin<&mut Self>) -> Pin<&mut TokioIo<Stream>> {
        Pin::new(&mut self.get_mut().io)
    }
}

impl Connection for Tracked {
    fn connected(&self) -> Connected {
        self.io
            .inner()
            .connected()
            .proxy(self.proxied)
            .extra(Arc::clone(&self.link))
    }
}

impl AsyncRead for Tracked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.as_mut().io().poll_read(cx, buf);
        if buf.filled().len() > before {
            self.link.silent.store(false, Ordering::Release);
        }
        read
    }
}

impl AsyncWrite for Tracked {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Set before the outcome is known: a write that fails at once is the usual sign of a
        // connection that was closed while idle.
        self.link.silent.store(true, Ordering::Release);
        self.io().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.link.silent.store(true, Ordering::Release);
        self.io().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }
}
