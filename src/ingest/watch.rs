//! Watches a connection of a sender: one that does not get on is closed, so that silent ones cannot take the
//! place of those that have something to say.
//!
//! hyper's own timer cannot tell a sender that is idle, which may be so for minutes, from one that drips its
//! headers: it runs from the end of the last request.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::Instant;

/// Prometheus keeps idle connections for five minutes: ours must live longer, or its next request races
/// our close.
pub(super) const IDLE: Duration = Duration::from_secs(370);
/// From a connection to its first byte, and from the first byte of a request to the end of its headers.
const HEADERS: Duration = Duration::from_secs(10);
/// A sender that takes nothing of its answer for so long does not read.
const STALLED: Duration = Duration::from_secs(10);

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Nothing came, or headers came too slowly.
    Headers,
    /// There was no request for long.
    Idle,
    /// Its sender does not read.
    Stalled,
}

impl Overdue {
    /// The value of the `reason` label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Headers => "header_timeout",
            Self::Idle => "idle",
            Self::Stalled => "write_timeout",
        }
    }
}

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing came yet, or headers are coming.
    Headers,
    /// A request is being handled, its body included: the handler has deadlines of its own.
    Request,
    /// Its answer is being written.
    Answer,
    /// Between two requests.
    Idle,
}

/// What is known of a connection.
pub(super) struct Pulse(Mutex<Beat>);

struct Beat {
    phase: Phase,
    since: Instant,
    stalled: Option<Instant>,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Beat {
            phase: Phase::Headers,
            since: now,
            stalled: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Beat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase, now: Instant) {
        let mut beat = self.lock();
        (beat.phase, beat.since) = (phase, now);
    }

    /// Headers are complete.
    pub(super) fn request(&self, now: Instant) {
        self.enter(Phase::Request, now);
    }

    /// There is an answer to write.
    pub(super) fn answer(&self, now: Instant) {
        self.enter(Phase::Answer, now);
    }

    fn read(&self, now: Instant) {
        let mut beat = self.lock();
        if beat.phase == Phase::Idle {
            (beat.phase, beat.since) = (Phase::Headers, now);
        }
    }

    fn wrote(&self, pending: bool, now: Instant) {
        let mut beat = self.lock();
        beat.stalled = pending.then(|| beat.stalled.unwrap_or(now));
    }

    fn flushed(&self, now: Instant) {
        let mut beat = self.lock();
        if beat.phase == Phase::Answer {
            (beat.phase, beat.since) = (Phase::Idle, now);
        }
    }

    /// Why the connection should be closed, if it should.
    pub(super) fn overdue(&self, now: Instant) -> Option<Overdue> {
        let beat = self.lock();
        if beat.stalled.is_some_and(|since| now - since >= STALLED) {
            return Some(Overdue::Stalled);
        }
        let for_long = |limit| now - beat.since >= limit;
        match beat.phase {
            Phase::Headers => for_long(HEADERS).then_some(Overdue::Headers),
            Phase::Idle => for_long(IDLE).then_some(Overdue::Idle),
            Phase::Request | Phase::Answer => None,
        }
    }
}

/// A stream whose every move is noted.
pub(super) struct Watched<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() && buf.filled().len() > before {
            self.pulse.read(Instant::now());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.pulse.wrote(written.is_pending(), Instant::now());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.pulse.wrote(written.is_pending(), Instant::now());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.pulse.flushed(Instant::now());
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_get_on_is_overdue_and_who_is_only_idle_is_not() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let pulse = Pulse::new(start);
        assert_eq!(pulse.overdue(after(9)), None);
        assert_eq!(pulse.overdue(after(10)), Some(Overdue::Headers), "silent");
        // Dripping does not begin the time anew.
        pulse.read(after(9));
        assert_eq!(pulse.overdue(after(10)), Some(Overdue::Headers), "dripping");
        pulse.request(after(9));
        assert_eq!(
            pulse.overdue(after(500)),
            None,
            "the handler has its own deadlines"
        );
        pulse.answer(after(20));
        pulse.flushed(after(20));
        assert_eq!(
            pulse.overdue(after(320)),
            None,
            "Prometheus keeps it for five minutes"
        );
        assert_eq!(pulse.overdue(after(390)), Some(Overdue::Idle));
        pulse.read(after(320));
        assert_eq!(pulse.overdue(after(329)), None);
        assert_eq!(pulse.overdue(after(330)), Some(Overdue::Headers));
        pulse.request(after(329));
        pulse.answer(after(330));
        pulse.wrote(true, after(330));
        pulse.wrote(true, after(335));
        assert_eq!(pulse.overdue(after(340)), Some(Overdue::Stalled));
        pulse.wrote(false, after(340));
        assert_eq!(pulse.overdue(after(341)), None);
    }
}
