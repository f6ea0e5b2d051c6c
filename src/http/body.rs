//! Reads a request's body whole, within a bound of bytes and of time.

use crate::http::Problem;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt;
use std::time::Duration;

/// How much of a body is read, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BodyBound {
    /// The most bytes taken.
    pub bytes_max: usize,
    /// The longest that the whole body may take to arrive.
    pub read_timeout: Duration,
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
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match &error {
            BodyError::TooLarge { bytes_max } => Self::body_too_large(*bytes_max),
            BodyError::Encoded => Self::unsupported_media_type("unsupported_encoding", error.to_string()),
            BodyError::Aborted => Self::bad_request("body_incomplete", error.to_string()),
            BodyError::Slow { .. } => Self::body_timeout(),
        }
    }
}

/// Reads the whole body. A length announced above the bound is refused before anything is read.
///
/// Cancel safe in that nothing is kept: dropping the future drops what was read.
pub async fn read_body(headers: &HeaderMap, body: Body, bound: BodyBound) -> Result<Bytes, BodyError> {
    let encoded =
        |value: &http::HeaderValue| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().any(encoded) {
        return Err(BodyError::Encoded);
    }
    let too_large = BodyError::TooLarge { bytes_max: bound.bytes_max };
    let announced: Option<usize> = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|text| text.parse().ok());
    if announced.is_some_and(|bytes| bytes > bound.bytes_max) {
        return Err(too_large);
    }
    let capacity = announced.unwrap_or(0).min(CAPACITY_FIRST_BYTES);
    match tokio::time::timeout(bound.read_timeout, collect(body, capacity, bound.bytes_max)).await {
        Ok(read) => read,
        Err(_elapsed) => Err(BodyError::Slow { after: bound.read_timeout }),
    }
}

/// What is set aside on the word of `Content-Length` alone.
const CAPACITY_FIRST_BYTES: usize = 1 << 20;

async fn collect(mut body: Body, capacity: usize, bytes_max: usize) -> Result<Bytes, BodyError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Aborted)?.into_data() else { continue };
        if data.len() > bytes_max - first.len().max(rest.len()) {
            return Err(BodyError::TooLarge { bytes_max });
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve(capacity.max(first.len() + data.len()));
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::io;

    const BOUND: BodyBound = BodyBound { bytes_max: 10, read_timeout: Duration::from_secs(5) };

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
            assert_eq!(read_body(&none, chunks(whole), BOUND).await, Ok(Bytes::from(whole.concat())));
        }
        for more in [&["0123456789a"][..], &["01234", "56789", "a"], &["0123456789", "a"]] {
            let error = read_body(&none, chunks(more), BOUND).await;
            assert_eq!(error, Err(BodyError::TooLarge { bytes_max: 10 }));
        }
    }

    #[tokio::test]
    async fn an_announced_length_above_the_bound_is_refused_unread() {
        let never = Body::from_stream(stream::pending::<io::Result<Bytes>>());
        let error = read_body(&headers("content-length", "11"), never, BOUND).await;
        assert_eq!(error, Err(BodyError::TooLarge { bytes_max: 10 }));
    }

    #[tokio::test]
    async fn an_encoded_body_is_refused() {
        for encoding in ["gzip", "br", "identity, gzip", ""] {
            let error = read_body(&headers("content-encoding", encoding), chunks(&["x"]), BOUND).await;
            assert_eq!(error, Err(BodyError::Encoded), "{encoding:?}");
        }
        assert!(read_body(&headers("content-encoding", "Identity"), chunks(&["x"]), BOUND).await.is_ok());
    }

    #[tokio::test]
    async fn a_broken_body_is_aborted_and_a_hanging_one_is_slow() {
        let broken = Body::from_stream(stream::iter([Ok("x"), Err(io::Error::other("gone"))]));
        assert_eq!(read_body(&HeaderMap::new(), broken, BOUND).await, Err(BodyError::Aborted));
        let never = Body::from_stream(stream::pending::<io::Result<Bytes>>());
        let bound = BodyBound { read_timeout: Duration::from_millis(1), ..BOUND };
        assert!(matches!(read_body(&HeaderMap::new(), never, bound).await, Err(BodyError::Slow { .. })));
    }
}
