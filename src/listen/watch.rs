//! Watches a connection: one that does not get on is closed, so that silent ones cannot take the place of those
//! that have something to say.
//!
//! hyper's own timer cannot tell a sender that is idle, which may be so for minutes, from one that drips its
//! headers: it runs from the end of the last request.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::framing::{Framing, Head};
use crate::clock::Instant;

/// Prometheus keeps idle connections for five minutes: ours must live longer, or its next request races
/// our close.
pub const IDLE: Duration = Duration::from_secs(370);
/// From a connection to its first byte, and from the first byte of a request to the end of its headers.
const HEADERS: Duration = Duration::from_secs(10);
/// A sender that takes nothing of its answer for so long does not read.
const STALLED: Duration = Duration::from_secs(10);
/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// For so long nobody has to make way while its body is coming.
const BODY_KEPT: Duration = Duration::from_secs(1);
/// Nor a sender while its headers are: the first of its requests may come over a slow link.
pub const HEADERS_KEPT: Duration = Duration::from_secs(1);
/// Nor, for so long, while it is idle: a sender's next request would race our close.
const IDLE_KEPT: Duration = Duration::from_secs(5);

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Nothing came, or headers came too slowly.
    Headers,
    /// There was no request for long.
    Idle,
    /// Its sender does not read.
    Stalled,
    /// All places were taken, and another one came.
    MadeWay,
}

impl Overdue {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Headers, Self::Idle, Self::Stalled, Self::MadeWay];

    /// The value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Headers => "header_timeout",
            Self::Idle => "idle",
            Self::Stalled => "write_timeout",
            Self::MadeWay => "made_way",
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
pub struct Pulse {
    beat: Mutex<Beat>,
    /// It has to make way.
    way: Notify,
}

struct Beat {
    phase: Phase,
    since: Instant,
    stalled: Option<Instant>,
    /// Its body drips.
    drips: bool,
    makes_way: bool,
    framing: Framing,
}

impl Pulse {
    /// Of a connection that has just come.
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            beat: Mutex::new(Beat {
                phase: Phase::Headers,
                since: now,
                stalled: None,
                drips: false,
                makes_way: false,
                framing: Framing::new(),
            }),
            way: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Beat> {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Headers are complete; what they say about the body. `None` means that they were not seen here, and
    /// nothing is known.
    pub fn request(&self, now: Instant) -> Option<Head> {
        let mut beat = self.lock();
        (beat.phase, beat.since, beat.drips) = (Phase::Request, now, false);
        beat.framing.next()
    }

    /// Whether the body comes drop by drop at the moment.
    pub fn drips(&self, drips: bool) {
        self.lock().drips = drips;
    }

    /// There is an answer to write.
    pub fn answer(&self, now: Instant) {
        let mut beat = self.lock();
        (beat.phase, beat.since) = (Phase::Answer, now);
    }

    pub(super) fn read(&self, bytes: &[u8], now: Instant) {
        let mut beat = self.lock();
        beat.framing.read(bytes);
        if beat.phase == Phase::Idle {
            (beat.phase, beat.since) = (Phase::Headers, now);
        }
    }

    fn wrote(&self, pending: bool, now: Instant) {
        let mut beat = self.lock();
        beat.stalled = pending.then(|| beat.stalled.unwrap_or(now));
    }

    pub(super) fn flushed(&self, now: Instant) {
        let mut beat = self.lock();
        if beat.phase == Phase::Answer {
            // The next request may have begun behind the last one.
            let begun = beat.framing.is_within_head();
            let phase = if begun { Phase::Headers } else { Phase::Idle };
            (beat.phase, beat.since) = (phase, now);
        }
    }

    /// Whether it may be closed for the sake of another, and who goes first: silent and dripping ones before
    /// idle ones, and the oldest of them.
    pub(super) fn may_make_way(
        &self,
        now: Instant,
        silent_kept: Duration,
    ) -> Option<(bool, Instant)> {
        let beat = self.lock();
        let (idle, kept) = match beat.phase {
            Phase::Headers => (false, silent_kept),
            Phase::Request if beat.drips => (false, BODY_KEPT),
            Phase::Idle => (true, IDLE_KEPT),
            Phase::Request | Phase::Answer => return None,
        };
        (now - beat.since >= kept).then_some((idle, beat.since))
    }

    pub(super) fn make_way(&self) {
        self.lock().makes_way = true;
        self.way.notify_one();
    }

    /// Why the connection should be closed, if it should.
    pub fn overdue(&self, now: Instant) -> Option<Overdue> {
        let beat = self.lock();
        if beat.makes_way {
            return Some(Overdue::MadeWay);
        }
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

/// Returns when the connection should be closed.
pub async fn overdue(pulse: &Pulse) -> Overdue {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = pulse.way.notified() => {}
        }
        if let Some(why) = pulse.overdue(Instant::now()) {
            return why;
        }
    }
}

/// A stream whose every move is noted.
pub struct Watched<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

impl<S> Watched<S> {
    /// Notes them here.
    pub fn new(stream: S, pulse: Arc<Pulse>) -> Self {
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
            self.pulse.read(&buf.filled()[before..], Instant::now());
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
        pulse.read(b"POST", after(9));
        assert_eq!(pulse.overdue(after(10)), Some(Overdue::Headers), "dripping");
        pulse.read(b" / HTTP/1.1\r\n\r\n", after(9));
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
        pulse.read(b"P", after(320));
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
