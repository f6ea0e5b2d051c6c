//! How long a database is listened to that says nothing.
//!
//! A connection that was cut without a word, or a server that was stopped, looks like one that is busy, and the kernel
//! waits a quarter of an hour. What is bounded here is the silence and not the work: whatever is heard begins the time anew,
//! so that no transaction is given up for being long. After a silence nobody knows what the connection was about to say; it
//! is not used again.

use super::StoreError;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Longer than a statement takes, or waits for another.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Longer than the database lets any statement take.
const LONG_SILENCE_MAX: Duration = Duration::from_secs(35);

/// The patience with one connection.
#[derive(Clone, Debug)]
pub struct Patience {
    limit: Option<Duration>,
    was_silent: Arc<AtomicBool>,
}

impl Patience {
    /// With a database in this process, which has its own bounds, and is not to be interrupted.
    pub(super) fn endless() -> Self {
        Self { limit: None, was_silent: Arc::default() }
    }

    /// With a database at the other end of a connection.
    pub(super) fn bounded() -> Self {
        Self { limit: Some(SILENCE_MAX), was_silent: Arc::default() }
    }

    /// The same for statements that may read much before they say anything.
    #[must_use]
    pub fn for_long_work(&self) -> Self {
        Self { limit: self.limit.map(|_| LONG_SILENCE_MAX), was_silent: Arc::clone(&self.was_silent) }
    }

    /// What comes of it, unless nothing is heard for too long: then it is dropped as it is.
    ///
    /// # Errors
    /// After a silence. Whether a commit that was under way was made is not known.
    pub async fn listen<T>(&self, asked: impl Future<Output = T>) -> Result<T, StoreError> {
        let Some(limit) = self.limit else { return Ok(asked.await) };
        let (mut asked, mut silence) = (pin!(asked), pin!(sleep(limit)));
        poll_fn(|context| {
            if let Poll::Ready(done) = asked.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            if silence.as_mut().poll(context).is_ready() {
                self.was_silent.store(true, Ordering::SeqCst);
                let silence = io::Error::new(io::ErrorKind::TimedOut, "it says nothing");
                return Poll::Ready(Err(StoreError::Unavailable(silence.into())));
            }
            // It was polled because something was heard.
            silence.as_mut().reset(Instant::now() + limit);
            Poll::Pending
        })
        .await
    }

    /// Whether it fell silent, and no other connection was made since.
    pub fn was_silent(&self) -> bool {
        self.was_silent.load(Ordering::SeqCst)
    }

    /// There is another connection, which speaks.
    pub(super) fn forget_silence(&self) {
        self.was_silent.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_on_is_listened_to_and_what_falls_silent_is_given_up() {
        let limit = Duration::from_millis(300);
        let patience = Patience { limit: Some(limit), ..Patience::bounded() };
        let talk = async {
            for _ in 0..8 {
                sleep(limit / 4).await;
            }
            7
        };
        assert!(matches!(patience.listen(talk).await, Ok(7)));
        assert!(!patience.was_silent());
        let began = Instant::now();
        let silence = patience.listen(std::future::pending::<()>()).await;
        assert!(matches!(silence, Err(StoreError::Unavailable(_))), "{silence:?}");
        assert!((limit..limit * 10).contains(&began.elapsed()));
        assert!(patience.was_silent() && patience.for_long_work().was_silent());
        patience.forget_silence();
        assert!(patience.for_long_work().listen(sleep(limit * 2)).await.is_ok());
        assert!(Patience::endless().listen(sleep(limit * 2)).await.is_ok());
        assert!(!patience.was_silent());
    }
}
