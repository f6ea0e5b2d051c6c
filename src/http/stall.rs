//! Ends a connection whose client does not read what it is sent, and breaks one off that is to end at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

/// A stream whose writes fail once nothing could be written for `write_timeout`.
pub(super) struct StallGuard<T> {
    inner: T,
    write_timeout: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    breaks_off: Option<BreakingOff<T>>,
}

/// When a stream is to be broken off, and what prepares it for that.
type BreakingOff<T> = (CancellationToken, fn(&T));

impl<T> StallGuard<T> {
    pub(super) fn new(inner: T, write_timeout: Duration) -> Self {
        Self { inner, write_timeout, sleep: None, waiting: false, breaks_off: None }
    }

    /// Once `when` is cancelled, `how` prepares the stream for being dropped.
    pub(super) fn breaking_off(mut self, when: CancellationToken, how: fn(&T)) -> Self {
        self.breaks_off = Some((when, how));
        self
    }

    fn bound<R>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.waiting = false;
            return written;
        }
        let deadline = Instant::now() + self.write_timeout;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.waiting {
            self.waiting = true;
            sleep.as_mut().reset(deadline);
        }
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> Drop for StallGuard<T> {
    fn drop(&mut self) {
        if let Some((_, how)) = self.breaks_off.take_if(|(when, _)| when.is_cancelled()) {
            how(&self.inner);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for StallGuard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for StallGuard<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.bound(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.bound(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.bound(cx, shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.bound(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn a_client_that_does_not_read_is_dropped() {
        let (_client, server) = tokio::io::duplex(4);
        let mut server = StallGuard::new(server, Duration::from_millis(20));
        server.write_all(b"1234").await.unwrap();
        let error = server.write_all(b"5").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_reads_late_is_served() {
        let (mut client, server) = tokio::io::duplex(4);
        let mut server = StallGuard::new(server, Duration::from_secs(30));
        let read = async {
            let mut bytes = [0; 8];
            tokio::io::AsyncReadExt::read_exact(&mut client, &mut bytes).await.unwrap();
            bytes
        };
        let (written, read) = tokio::join!(server.write_all(b"12345678"), read);
        written.unwrap();
        assert_eq!(&read, b"12345678");
    }
}
