//! An answer that stops coming is an error, not a wait without end.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A body of which each frame must come within `idle_timeout` of being waited for.
///
/// The time runs only while somebody asks for the next frame: a client that reads slowly does not use it up.
pub struct IdleTimeout<B> {
    inner: B,
    after: Duration,
    sleep: Pin<Box<Sleep>>,
    waiting: bool,
}

/// Why an answer ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError<E> {
    /// Nothing came for too long.
    #[error("the provider sent nothing for {} s", after.as_secs())]
    Idle {
        /// The time it had.
        after: Duration,
    },
    /// The connection broke, or what came was not HTTP.
    #[error("the provider's answer broke off")]
    Broken(#[source] E),
}

impl<B> IdleTimeout<B> {
    /// Bounds the waits for `inner`.
    pub fn new(inner: B, idle_timeout: Duration) -> Self {
        Self { inner, after: idle_timeout, sleep: Box::pin(tokio::time::sleep(idle_timeout)), waiting: false }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for IdleTimeout<B> {
    type Data = Bytes;
    type Error = AnswerError<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(AnswerError::Broken)));
        }
        if !this.waiting {
            this.waiting = true;
            this.sleep.as_mut().reset(Instant::now() + this.after);
        }
        this.sleep.as_mut().poll(cx).map(|()| Some(Err(AnswerError::Idle { after: this.after })))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
