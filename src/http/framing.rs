//! Refuses HTTP/1 requests whose end two parsers could see in different places.
//!
//! hyper refuses most of them itself. It forgives three: `Content-Length` beside `Transfer-Encoding` (it drops the
//! length before anyone can see it), the same `Content-Length` twice, and a bare LF as the end of a line. So the raw
//! bytes are watched on their way to hyper. The LF of the first offending line is replaced by a NUL, which hyper's
//! parser accepts nowhere, and the input ends there: hyper answers 400 and closes. Invariant: hyper never sees an
//! offending head without that NUL, so no handler ever runs for it.

use memchr::memchr;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A connection whose requests are watched, and whose heads must be complete in time.
///
/// The time runs from the first byte of a head (for the first one, from the start), not while the connection idles.
pub(super) struct Guarded<T> {
    inner: T,
    prefix: Vec<u8>,
    /// `None` on HTTP/2, which frames in one way only.
    framing: Option<Framing>,
    head_timeout: Duration,
    head_deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// After an offending line: what is still to be handed out before the end.
    ending: Option<&'static [u8]>,
    /// Once all is said to a client that may still be sending: how long it is listened to.
    linger: Option<Pin<Box<Sleep>>>,
}

/// Makes hyper look at the head it has: it does not parse a partial one again before it sees a blank line.
const ENDING: &[u8] = b"\n\n";

const SCRAP_BYTES: usize = 8 * 1024;

impl<T> Guarded<T> {
    /// Watches `inner`, of which `prefix` has been read already.
    pub(super) fn http1(inner: T, prefix: Vec<u8>, head_timeout: Duration) -> Self {
        let head_deadline = Some(Instant::now() + head_timeout);
        let framing = Some(Framing::default());
        Self { inner, prefix, framing, head_timeout, head_deadline, sleep: None, ending: None, linger: None }
    }

    /// Only replays `prefix` before the rest of `inner`.
    pub(super) fn http2(inner: T, prefix: Vec<u8>) -> Self {
        let (framing, head_timeout, head_deadline) = (None, Duration::ZERO, None);
        Self { inner, prefix, framing, head_timeout, head_deadline, sleep: None, ending: None, linger: None }
    }

    /// Watches what was read from `start` on; an offending line ends the stream.
    fn watch(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        let Some(framing) = &mut self.framing else { return };
        if let Err(at) = framing.advance(&buf.filled()[start..]) {
            buf.filled_mut()[start + at] = 0;
            buf.set_filled(start + at + 1);
            self.ending = Some(ENDING);
        }
        if !framing.in_head() {
            self.head_deadline = None;
        } else if self.head_deadline.is_none() {
            self.head_deadline = Some(Instant::now() + self.head_timeout);
        }
    }

    /// Whether the client is in the middle of something that nobody will read.
    fn is_cut_short(&self) -> bool {
        let in_body = |framing: &Framing| !matches!(framing.part, Part::Head);
        self.ending.is_some() || self.framing.as_ref().is_some_and(in_body)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(deadline) = self.head_deadline else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request's head took too long")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(ending) = &mut this.ending {
            let (now, later) = ending.split_at(ending.len().min(buf.remaining()));
            buf.put_slice(now);
            *ending = later;
            return Poll::Ready(Ok(()));
        }
        let start = buf.filled().len();
        if this.prefix.is_empty() {
            match Pin::new(&mut this.inner).poll_read(cx, buf) {
                Poll::Ready(read) => read?,
                Poll::Pending => return this.poll_deadline(cx),
            }
        } else {
            let rest = this.prefix.split_off(this.prefix.len().min(buf.remaining()));
            buf.put_slice(&this.prefix);
            this.prefix = rest;
        }
        this.watch(buf, start);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Closes. A socket that is closed over bytes unread is reset, and the answer is lost to a client that is still
    /// sending (RFC 9112, 9.6): what such a one sends is thrown away until it has heard, for the time of a head.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
            if !this.is_cut_short() {
                return Poll::Ready(Ok(()));
            }
        }
        let sleep = this.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.head_timeout)));
        let mut scrap = [0; SCRAP_BYTES];
        while Instant::now() < sleep.deadline() {
            let mut scrap = ReadBuf::new(&mut scrap);
            match Pin::new(&mut this.inner).poll_read(cx, &mut scrap) {
                Poll::Ready(Ok(())) if !scrap.filled().is_empty() => {}
                Poll::Ready(_) => break,
                Poll::Pending => return sleep.as_mut().poll(cx).map(Ok),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Follows the requests of one connection, byte by byte, as far as their framing goes.
#[derive(Default)]
struct Framing {
    part: Part,
    /// The beginning of a line whose end has not come yet, at most [`LINE_KEPT_BYTES`].
    line: Vec<u8>,
    head: Head,
}

#[derive(Default)]
enum Part {
    #[default]
    Head,
    Body {
        left: u64,
    },
    ChunkSize,
    /// The data and the CRLF behind it.
    ChunkData {
        left: u64,
    },
    Trailers,
}

/// What the head told so far.
#[derive(Default)]
struct Head {
    started: bool,
    length: Option<u64>,
    chunked: bool,
}

/// More than any line that says how long a body is; of longer lines only the end is looked at.
const LINE_KEPT_BYTES: usize = 256;

impl Framing {
    /// Whether some of a head, and not all of it, has been seen.
    fn in_head(&self) -> bool {
        matches!(self.part, Part::Head) && (self.head.started || !self.line.is_empty())
    }

    /// Takes bytes in. The error is the index of the LF that ends an offending line.
    fn advance(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.part {
                Part::Body { left } | Part::ChunkData { left } => {
                    let here = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= here as u64;
                    at += here;
                    if *left == 0 {
                        self.part =
                            if matches!(self.part, Part::Body { .. }) { Part::Head } else { Part::ChunkSize };
                    }
                }
                Part::Head | Part::ChunkSize | Part::Trailers => {
                    let rest = &bytes[at..];
                    let Some(end) = memchr(b'\n', rest) else {
                        self.keep(rest);
                        return Ok(());
                    };
                    at += end;
                    self.line(&rest[..end]).map_err(|Offence| at)?;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// Keeps the beginning of an unfinished line, and always its last byte (which may be the CR).
    fn keep(&mut self, part: &[u8]) {
        let room = LINE_KEPT_BYTES.saturating_sub(self.line.len());
        match part.split_at_checked(room) {
            Some((kept, [.., last])) => {
                self.line.extend_from_slice(kept);
                self.line.truncate(LINE_KEPT_BYTES - 1);
                self.line.push(*last);
            }
            Some((kept, [])) => self.line.extend_from_slice(kept),
            None => self.line.extend_from_slice(part),
        }
    }

    /// One line without its LF.
    fn line(&mut self, end: &[u8]) -> Result<(), Offence> {
        let kept;
        let line = if self.line.is_empty() {
            end
        } else {
            self.keep(end);
            kept = std::mem::take(&mut self.line);
            &kept
        };
        let line = line.strip_suffix(b"\r").ok_or(Offence)?;
        match self.part {
            Part::ChunkSize => {
                self.part = match chunk_size(line)? {
                    0 => Part::Trailers,
                    size => Part::ChunkData { left: size.checked_add(2).ok_or(Offence)? },
                };
            }
            Part::Trailers if line.is_empty() => self.part = Part::Head,
            Part::Head if line.is_empty() && self.head.started => {
                let head = std::mem::take(&mut self.head);
                self.part = match head.length {
                    _ if head.chunked => Part::ChunkSize,
                    Some(left) if left > 0 => Part::Body { left },
                    _ => Part::Head,
                };
            }
            Part::Head if self.head.started => self.head.field(line)?,
            Part::Head => self.head.started = !line.is_empty(),
            Part::Trailers | Part::Body { .. } | Part::ChunkData { .. } => {}
        }
        Ok(())
    }
}

/// The line could be read in two ways.
struct Offence;

impl Head {
    fn field(&mut self, line: &[u8]) -> Result<(), Offence> {
        let colon = memchr(b':', line).ok_or(Offence)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.iter().any(u8::is_ascii_whitespace) {
            return Err(Offence);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = decimal(value)?;
            if self.chunked || self.length.replace(length).is_some() {
                return Err(Offence);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.length.is_some() || self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Offence);
            }
            self.chunked = true;
        }
        Ok(())
    }
}

fn decimal(text: &[u8]) -> Result<u64, Offence> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).map_err(|_| Offence)?;
    if digits { text.parse().map_err(|_| Offence) } else { Err(Offence) }
}

/// Hex digits, then nothing or an extension.
fn chunk_size(line: &[u8]) -> Result<u64, Offence> {
    let len = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(len);
    if digits.is_empty() || digits.len() > 16 || !matches!(rest.first(), None | Some(b';' | b' ' | b'\t')) {
        return Err(Offence);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Offence)?;
    u64::from_str_radix(digits, 16).map_err(|_| Offence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds the text in pieces; the answer is the text up to and without the offending LF.
    fn refused_after(text: &str, piece: usize) -> Option<&str> {
        let mut framing = Framing::default();
        for (index, bytes) in text.as_bytes().chunks(piece).enumerate() {
            if let Err(at) = framing.advance(bytes) {
                return Some(&text[..index * piece + at]);
            }
        }
        None
    }

    fn refused(text: &str) -> Option<&str> {
        let whole = refused_after(text, text.len().max(1));
        for piece in [1, 2, 3, 7] {
            assert_eq!(refused_after(text, piece), whole, "in pieces of {piece}: {text:?}");
        }
        whole
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn ordinary_requests_pass_one_after_the_other() {
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\na\nb\nc";
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\na\nb\r\n00a\r\n0123456789\r\n0\r\nt: 1\r\n\r\n";
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(5000));
        let text = [GET, post, chunked, "\r\n", &long, GET, chunked, post, GET].concat();
        assert_eq!(refused(&text), None);
    }

    #[test]
    fn a_body_of_two_lengths_is_refused() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5\r\ncontent-length: 5",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 0x5",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            "Content-Length : 5",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: \u{b}chunked",
            "Transfer-Encoding\t: chunked",
            "X: y\r\n Transfer-Encoding: chunked",
            "no colon",
            "X: bare\nContent-Length: 5",
        ] {
            let text = format!("{GET}POST / HTTP/1.1\r\n{fields}\r\n\r\n");
            let seen = refused(&text).unwrap_or_else(|| panic!("not refused: {fields:?}"));
            assert!(seen.len() < text.len() - 1, "the end of the head is never let through: {fields:?}");
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for body in [
            "5\nhello\r\n",
            "+5\r\n",
            "\r\n",
            "5x\r\n",
            "11111111111111111\r\n",
            "ffffffffffffffff\r\n",
            "0\r\nt: 1\n",
        ] {
            let text = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            assert!(refused(&text).is_some(), "{body:?}");
        }
    }

    proptest! {
        /// However the bytes are cut into reads, the same line offends.
        #[test]
        fn any_cutting_sees_the_same(text in "(GET|CL: 5|Content-Length: [0-9]{1,3}|Transfer-Encoding: chunked|\r\n|\n|\r|3|0|a){0,40}", piece in 1..9_usize) {
            prop_assert_eq!(refused_after(&text, piece), refused_after(&text, text.len().max(1)));
        }
    }
}
