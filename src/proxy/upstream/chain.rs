//! A request's body as it is sent: pieces in memory, one behind the other.
//!
//! What a client sent is in memory once, however large it is and whatever is changed in it: the pieces are slices of
//! it, with the few new bytes between them. A clone shares them, so a body can be sent again; a piece that was written
//! is let go, and with the last one the memory is free.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A body of known length, in pieces.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// None of them empty.
    pieces: VecDeque<Bytes>,
    bytes: u64,
}

impl Chain {
    /// Nothing is left to be sent.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

impl FromIterator<Bytes> for Chain {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        let pieces: VecDeque<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        let bytes = pieces.iter().map(wide).sum();
        Self { pieces, bytes }
    }
}

impl From<Bytes> for Chain {
    fn from(whole: Bytes) -> Self {
        Self::from_iter([whole])
    }
}

impl Body for Chain {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.pieces.pop_front();
        self.bytes -= next.as_ref().map_or(0, wide);
        Poll::Ready(next.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes)
    }
}

fn wide(piece: &Bytes) -> u64 {
    u64::try_from(piece.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[tokio::test]
    async fn a_chain_is_its_pieces_says_how_long_it_is_and_can_be_sent_again() {
        let pieces = ["{\"model\":", "", "\"m\"", ",\"n\":1}"];
        let mut chain: Chain = pieces.into_iter().map(Bytes::from).collect();
        let again = chain.clone();
        let mut left = pieces.concat().len();
        while !chain.is_end_stream() {
            assert_eq!(chain.size_hint().exact(), Some(u64::try_from(left).unwrap()));
            let frame = chain.frame().await.unwrap().unwrap();
            left -= frame.data_ref().unwrap().len();
        }
        assert_eq!((left, chain.size_hint().exact()), (0, Some(0)));
        assert!(chain.frame().await.is_none());
        assert_eq!(again.collect().await.unwrap().to_bytes(), pieces.concat());
        assert!(Chain::from(Bytes::new()).is_end_stream() && Chain::default().is_empty());
    }

    /// Bytes that tell when nobody has them any more.
    struct Told(Vec<u8>, Arc<AtomicBool>);

    impl AsRef<[u8]> for Told {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Told {
        fn drop(&mut self) {
            self.1.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn what_was_sent_is_let_go_with_the_last_slice_of_it() {
        let is_gone = Arc::new(AtomicBool::new(false));
        let whole = Bytes::from_owner(Told(vec![b'x'; 10], Arc::clone(&is_gone)));
        let mut chain: Chain =
            [whole.slice(..4), Bytes::from_static(b"new"), whole.slice(6..)].into_iter().collect();
        drop(whole);
        for goes in [false, false, true] {
            drop(chain.frame().await.unwrap().unwrap());
            assert_eq!(is_gone.load(Ordering::SeqCst), goes);
        }
    }
}
