//! Reads a request's body whole, within a bound of bytes, of time, and of what all bodies may take together.
//! A body is in memory once.

use crate::http::Problem;
use crate::http::buffer::{Buffer, NoRoom};
use crate::http::room::BodyRoom;
use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt;
use std::time::Duration;

/// How much of a body is read, for how long, and out of which room.
#[derive(Clone, Debug)]
pub struct BodyBound {
    /// The most bytes taken.
    pub bytes_max: usize,
    /// The longest that the whole body may take to arrive.
    pub read_timeout: Duration,
    /// What this body and others may take together.
    pub room: BodyRoom,
}

/// Why a body was not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Above the bound, by its announced or its real length.
    #[error("the body is larger than {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// A `Content-Encoding` other than identity: nothing compressed is unpacked here.
    #[error("the body is encoded; send it without Content-Encoding")]
    Encoded,
    /// The client went away or broke the framing.
    #[error("the client broke off before the body was complete")]
    Aborted,
    /// The body took longer than it may.
    #[error("the body did not arrive within {} seconds", after.as_secs())]
    Slow {
        /// The time it had.
        after: Duration,
    },
    /// Other bodies have the room.
    #[error("the server holds as much of requests as it may; try again")]
    NoRoom,
}

impl From<NoRoom> for BodyError {
    fn from(NoRoom: NoRoom) -> Self {
        Self::NoRoom
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match &error {
            BodyError::TooLarge { bytes_max } => Self::body_too_large(*bytes_max),
            BodyError::Encoded => Self::unsupported_media_type("unsupported_encoding", error.to_string()),
            BodyError::Aborted => Self::bad_request("body_incomplete", error.to_string()),
            BodyError::Slow { .. } => Self::body_timeout(),
            BodyError::NoRoom => Self::unavailable("overloaded", error.to_string(), 1),
        }
    }
}

/// Reads the whole body. A length announced above the bound is refused before anything is read.
///
/// The bytes have their share of the room for as long as any of them lives. Cancel safe in that nothing is kept:
/// dropping the future drops what was read.
pub async fn read_body(headers: &HeaderMap, body: Body, bound: BodyBound) -> Result<Bytes, BodyError> {
    let encoded =
        |value: &http::HeaderValue| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().any(encoded) {
        return Err(BodyError::Encoded);
    }
    let bytes_max = bound.bytes_max.min(bound.room.bytes_max());
    let announced: Option<usize> = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|text| text.parse().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return Err(BodyError::TooLarge { bytes_max });
    }
    let collect = collect(body, announced, bytes_max, &bound.room);
    match tokio::time::timeout(bound.read_timeout, collect).await {
        Ok(read) => read,
        Err(_elapsed) => Err(BodyError::Slow { after: bound.read_timeout }),
    }
}

async fn collect(
    mut body: Body,
    announced: Option<usize>,
    bytes_max: usize,
    room: &BodyRoom,
) -> Result<Bytes, BodyError> {
    let too_large = BodyError::TooLarge { bytes_max };
    let Some(first) = piece(&mut body).await? else { return Ok(Bytes::new()) };
    if first.len() > bytes_max {
        return Err(too_large);
    }
    let share = room.take(first.len()).ok_or(BodyError::NoRoom)?;
    let Some(second) = piece(&mut body).await? else { return Ok(share.hold(first)) };

    let mut whole = Buffer::with(share, room, announced);
    whole.append(&first)?;
    drop(first);
    let mut next = Some(second);
    while let Some(data) = next {
        if data.len() > bytes_max - whole.len() {
            return Err(too_large);
        }
        whole.append(&data)?;
        drop(data);
        next = piece(&mut body).await?;
    }
    Ok(whole.hold())
}

/// The next bytes; trailers are passed over.
async fn piece(body: &mut Body) -> Result<Option<Bytes>, BodyError> {
    while let Some(frame) = body.frame().await {
        match frame.map_err(|_| BodyError::Aborted)?.into_data() {
            Ok(data) if !data.is_empty() => return Ok(Some(data)),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::buffer::CAPACITY_FIRST_BYTES;
    use super::*;
    use futures_util::stream;
    use std::io;

    fn bound() -> BodyBound {
        BodyBound { bytes_max: 10, read_timeout: Duration::from_secs(5), room: BodyRoom::new(1 << 20) }
    }

    fn chunks(chunks: &[&'static str]) -> Body {
        let chunks: Vec<_> = chunks.iter().map(|chunk| io::Result::Ok(*chunk)).collect();
        Body::from_stream(stream::iter(chunks))
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), http::HeaderValue::from_static(value))])
    }

    #[tokio::test]
    async fn a_body_up_to_the_bound_is_read_and_one_byte_more_is_not() {
        let none = HeaderMap::new();
        for whole in [&[][..], &["0123456789"], &["01234", "56789"], &["0", "1234", "56789"]] {
            assert_eq!(read_body(&none, chunks(whole), bound()).await, Ok(Bytes::from(whole.concat())));
        }
        for more in [&["0123456789a"][..], &["01234", "56789", "a"], &["0123456789", "a"]] {
            let error = read_body(&none, chunks(more), bound()).await;
            assert_eq!(error, Err(BodyError::TooLarge { bytes_max: 10 }));
        }
    }

    #[tokio::test]
    async fn an_announced_length_above_the_bound_is_refused_unread() {
        let never = Body::from_stream(stream::pending::<io::Result<Bytes>>());
        let error = read_body(&headers("content-length", "11"), never, bound()).await;
        assert_eq!(error, Err(BodyError::TooLarge { bytes_max: 10 }));
    }

    #[tokio::test]
    async fn an_encoded_body_is_refused() {
        for encoding in ["gzip", "br", "identity, gzip", ""] {
            let error = read_body(&headers("content-encoding", encoding), chunks(&["x"]), bound()).await;
            assert_eq!(error, Err(BodyError::Encoded), "{encoding:?}");
        }
        assert!(read_body(&headers("content-encoding", "Identity"), chunks(&["x"]), bound()).await.is_ok());
    }

    #[tokio::test]
    async fn a_broken_body_is_aborted_and_a_hanging_one_is_slow() {
        let broken = Body::from_stream(stream::iter([Ok("x"), Err(io::Error::other("gone"))]));
        assert_eq!(read_body(&HeaderMap::new(), broken, bound()).await, Err(BodyError::Aborted));
        let never = Body::from_stream(stream::pending::<io::Result<Bytes>>());
        let bound = BodyBound { read_timeout: Duration::from_millis(1), ..bound() };
        assert!(matches!(read_body(&HeaderMap::new(), never, bound).await, Err(BodyError::Slow { .. })));
    }

    /// Pieces without end.
    fn endless(piece_bytes: usize) -> Body {
        Body::from_stream(stream::repeat_with(move || io::Result::Ok(vec![b'x'; piece_bytes])))
    }

    #[tokio::test]
    async fn a_body_has_its_share_of_the_room_while_it_grows_and_while_any_of_it_lives() {
        let room = BodyRoom::new(1 << 20);
        let bound =
            |bytes_max| BodyBound { bytes_max, read_timeout: Duration::from_secs(5), room: room.clone() };
        let none = HeaderMap::new();
        let one = read_body(&none, chunks(&["ab", "cd"]), bound(10)).await.unwrap();
        assert_eq!(room.bytes_free(), (1 << 20) - CAPACITY_FIRST_BYTES);
        let two = read_body(&none, chunks(&["ab"]), bound(10)).await.unwrap();
        assert_eq!(room.bytes_free(), (1 << 20) - CAPACITY_FIRST_BYTES - 1024);

        let none_left = read_body(&none, endless(10_000), bound((1 << 20) - 1)).await;
        assert_eq!(none_left, Err(BodyError::NoRoom), "others have some of it");
        let (slice, whole) = (one.slice(1..3), one);
        drop((whole, two));
        assert_eq!((&slice[..], room.bytes_free()), (&b"bc"[..], (1 << 20) - CAPACITY_FIRST_BYTES));
        drop(slice);
        assert_eq!(room.bytes_free(), 1 << 20, "and all of it is free again");

        let above = Err(BodyError::TooLarge { bytes_max: 1 << 20 });
        assert_eq!(
            read_body(&none, endless(10_000), bound(1 << 30)).await,
            above,
            "more than the whole room"
        );
        assert_eq!(room.bytes_free(), 1 << 20);
    }
}
