//! A request body that knows how much of it has been taken.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Handed to the connection piece by piece, so that "all of it was taken" comes close to "all of
/// it was written": the connection buffers little more than a piece.
const PIECE_BYTES: usize = 64 * 1024;

/// How far an attempt has come, over all the connections it used.
#[derive(Debug, Default)]
pub(super) struct Progress {
    started: AtomicBool,
    finished: AtomicBool,
}

impl Progress {
    /// A connection took the request.
    pub(super) fn started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// A connection took the last byte of the request: the receiver may have seen all of it.
    pub(super) fn finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }
}

/// The body of one request.
pub(super) struct Upload {
    left: Bytes,
    progress: Arc<Progress>,
}

impl Upload {
    pub(super) fn new(body: Bytes, progress: Arc<Progress>) -> Self {
        if body.is_empty() {
            // It will not be asked for a piece.
            progress.finished.store(true, Ordering::Release);
        }
        Self {
            left: body,
            progress,
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        this.progress.started.store(true, Ordering::Release);
        let piece = this.left.split_to(this.left.len().min(PIECE_BYTES));
        if this.left.is_empty() {
            this.progress.finished.store(true, Ordering::Release);
        }
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    /// Exact, so that the request goes out with a `Content-Length`: some receivers refuse chunks.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_body_is_finished_only_with_its_last_piece() {
        let progress = Arc::new(Progress::default());
        let mut upload = Upload::new(vec![7; PIECE_BYTES + 1].into(), progress.clone());
        assert_eq!(upload.size_hint().exact(), Some(PIECE_BYTES as u64 + 1));
        assert!(!progress.started());

        let first = upload.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.len(), PIECE_BYTES);
        assert!(progress.started() && !progress.finished() && !upload.is_end_stream());

        let last = upload.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(last.len(), 1);
        assert!(progress.finished() && upload.is_end_stream());
        assert!(upload.frame().await.is_none());
    }
}
