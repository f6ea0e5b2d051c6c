//! An answer of which the beginning was read already, to see what it is, and which is then read from its first byte.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A body that can be heard before it is read. Invariant: what was heard is read as it came, an error included.
pub struct Heard<B: Body> {
    heard: VecDeque<Result<Frame<B::Data>, B::Error>>,
    /// What has not been heard; `None` once it has ended.
    rest: Option<B>,
}

impl<B: Body<Data = Bytes> + Unpin> Heard<B> {
    /// A body of which nothing was heard.
    pub fn new(body: B) -> Self {
        Self { heard: VecDeque::new(), rest: Some(body) }
    }

    /// All of it, where it ends well and has no more than `bytes_max`. What was heard stays to be read, also when the
    /// wait is given up.
    pub async fn hear(&mut self, bytes_max: usize) -> Option<Vec<u8>> {
        let mut whole = Vec::new();
        for frame in &self.heard {
            whole.extend_from_slice(data(frame)?);
        }
        while let Some(rest) = &mut self.rest {
            let Some(frame) = rest.frame().await else {
                self.rest = None;
                break;
            };
            if frame.is_err() {
                self.rest = None;
            }
            self.heard.push_back(frame);
            whole.extend_from_slice(data(self.heard.back()?)?);
            if whole.len() > bytes_max {
                return None;
            }
        }
        Some(whole)
    }
}

/// What a frame brought; `None` where it is the end of what broke off.
fn data<E>(frame: &Result<Frame<Bytes>, E>) -> Option<&[u8]> {
    frame.as_ref().ok().map(|frame| frame.data_ref().map_or(&[][..], Bytes::as_ref))
}

impl<B: Body<Data = Bytes> + Unpin> Body for Heard<B>
where
    B::Error: Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(frame) = self.heard.pop_front() {
            return Poll::Ready(Some(frame));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        Pin::new(rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.heard.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Some(rest) if self.heard.is_empty() => rest.size_hint(),
            Some(_) | None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::StreamBody;

    type Frames = Vec<Result<Frame<Bytes>, &'static str>>;

    fn frames(parts: &[Result<&'static str, &'static str>]) -> Frames {
        parts.iter().map(|part| part.map(|data| Frame::data(Bytes::from_static(data.as_bytes())))).collect()
    }

    async fn read(
        mut body: impl Body<Data = Bytes, Error = &'static str> + Unpin,
    ) -> Vec<Result<String, &'static str>> {
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let text = |frame: Frame<Bytes>| String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
            read.push(frame.map(text));
        }
        read
    }

    #[tokio::test]
    async fn what_was_heard_is_read_from_its_first_byte() {
        for (parts, bytes_max, heard) in [
            (&[Ok("ab"), Ok("c")][..], 3, Some("abc")),
            (&[Ok("ab"), Ok("c"), Ok("d")], 2, None),
            (&[Ok("ab"), Err("broken")], 9, None),
            (&[], 0, Some("")),
        ] {
            let mut body = Heard::new(StreamBody::new(stream::iter(frames(parts))));
            assert_eq!(body.hear(bytes_max).await.as_deref(), heard.map(str::as_bytes), "{parts:?}");
            let wanted: Vec<_> = parts.iter().map(|part| part.map(str::to_owned)).collect();
            assert_eq!(read(body).await, wanted);
        }
    }
}
