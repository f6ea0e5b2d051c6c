//! An answer that was read whole, on its way to its client, who takes it in time or loses it.
//!
//! Invariant: its memory is given back at the deadline, however the client reads. What the connection was handed is
//! copied, so it keeps nothing of the rest; and the deadline is the whole answer's, so that a byte now and then, or a
//! stream that is never given a window, gains nothing.

use crate::http::HangUp;
use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// What a connection is handed at once: what it keeps of it while its client does not read is no more.
const PIECE_BYTES: usize = 16 * 1024;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// However short the answer is.
    pub stall: Duration,
    /// And a second more for each so many bytes of it.
    pub bytes_per_second: u64,
}

impl Pace {
    fn of(self, bytes: usize) -> Duration {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.stall.saturating_add(Duration::from_secs(bytes / self.bytes_per_second.max(1)))
    }
}

/// Knows how much of an answer its client has not taken.
pub(super) struct Taking {
    left: Arc<Mutex<Bytes>>,
    done: oneshot::Receiver<()>,
    within: Duration,
}

/// The answer's body, and who watches over it.
pub(super) fn taking(whole: Bytes, pace: Pace) -> (Body, Taking) {
    let (doing, done) = oneshot::channel();
    let (bytes_left, within) = (whole.len(), pace.of(whole.len()));
    let left = Arc::new(Mutex::new(whole));
    let pieces = Pieces { left: Arc::clone(&left), bytes_left, doing: Some(doing) };
    (Body::new(pieces), Taking { left, done, within })
}

impl Taking {
    /// Waits until the client has taken it all, or left. Who has not by then is hung up on where the connection carries
    /// nothing else; elsewhere the stream ends as soon as the client lets it go on. The memory is free at once.
    pub(super) async fn end(self, hang_up: Option<&HangUp>) {
        let Self { left, done, within } = self;
        if tokio::time::timeout(within, done).await.is_ok() {
            return;
        }
        let unread = std::mem::take(&mut *left.lock().unwrap_or_else(PoisonError::into_inner));
        if !unread.is_empty() {
            hang_up.into_iter().for_each(HangUp::now);
        }
    }
}

/// Copies of the answer, piece by piece.
struct Pieces {
    /// Empty before the end: it came too late.
    left: Arc<Mutex<Bytes>>,
    bytes_left: usize,
    /// Dropped when all was taken, or with the body.
    doing: Option<oneshot::Sender<()>>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.bytes_left == 0 {
            return Poll::Ready(None);
        }
        let piece = {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            let next = left.len().min(PIECE_BYTES);
            let piece = Bytes::copy_from_slice(&left.split_to(next));
            if left.is_empty() {
                // Not even an empty part of it: that would keep all.
                *left = Bytes::new();
            }
            piece
        };
        if piece.is_empty() {
            self.bytes_left = 0;
            return Poll::Ready(Some(Err(io::Error::other("the client did not take the answer in time"))));
        }
        self.bytes_left -= piece.len();
        if self.bytes_left == 0 {
            self.doing = None;
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes_left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.bytes_left).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{BodyRoom, Buffer};
    use http_body::Body as _;
    use http_body_util::BodyExt;

    const LONG: Pace = Pace { stall: Duration::from_mins(5), bytes_per_second: 1 };
    const NONE: Pace = Pace { stall: Duration::ZERO, bytes_per_second: 1 << 30 };

    fn held(room: &BodyRoom, bytes: usize) -> Bytes {
        let mut buffer = Buffer::new(room, Some(bytes));
        buffer.make_room(bytes).unwrap().resize(bytes, b'x');
        buffer.hold()
    }

    #[test]
    fn the_time_grows_with_the_answer() {
        let pace = Pace { stall: Duration::from_mins(5), bytes_per_second: 65_536 };
        assert_eq!((pace.of(10), pace.of(40 << 20)), (Duration::from_mins(5), Duration::from_secs(940)));
    }

    #[tokio::test]
    async fn what_is_taken_is_whole_and_its_room_is_free_with_the_last_piece() {
        let room = BodyRoom::new(1 << 20);
        let (mut body, taking) = taking(held(&room, 100_000), LONG);
        assert_eq!(body.size_hint().exact(), Some(100_000));
        let mut pieces = Vec::new();
        while !body.is_end_stream() {
            assert!(room.bytes_free() < 1 << 20, "all of it until then");
            pieces.push(body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(pieces.concat(), vec![b'x'; 100_000]);
        assert_eq!(room.bytes_free(), 1 << 20, "although the pieces are there, and the body");
        taking.end(None).await;
        assert!(body.frame().await.is_none());
        let (empty, taking) = super::taking(Bytes::new(), LONG);
        assert!(empty.is_end_stream());
        drop(empty);
        taking.end(None).await;
    }

    #[tokio::test]
    async fn who_takes_too_long_keeps_nothing_and_gets_no_clean_end() {
        let room = BodyRoom::new(1 << 20);
        let (mut body, taking) = taking(held(&room, 100_000), NONE);
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        taking.end(None).await;
        assert_eq!((first.len(), room.bytes_free()), (PIECE_BYTES, 1 << 20));
        assert!(!body.is_end_stream() && body.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_client_that_has_left() {
        let room = BodyRoom::new(1 << 20);
        let (body, taking) = taking(held(&room, 100_000), LONG);
        drop(body);
        taking.end(None).await;
        assert_eq!(room.bytes_free(), 1 << 20);
    }
}
