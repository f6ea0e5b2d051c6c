//! A request's body, and what becomes of it where the request is answered before it was read.
//!
//! A connection on which something of a request is left cannot carry another one, and ends. A client that was not told
//! would find out by its next request. So what is small is read to its end, and of the rest the client is told.

use crate::http::{BodyBound, BodyError, read_body};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::Version;
use http::header::{CONNECTION, EXPECT, HeaderMap, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt;
use std::time::Duration;

/// The most that is read for nothing.
const UNREAD_BYTES_MAX: u64 = 64 * 1024;
/// How long that may take: many clients send a body right after the head, not with it.
const UNREAD_WAIT: Duration = Duration::from_millis(200);

/// A body on its way.
pub(super) enum Upload {
    /// Nothing was read.
    Unread(Body),
    /// Reading stopped somewhere.
    Broken,
    /// All was read.
    Read,
}

impl Upload {
    /// Reads all of it.
    pub(super) async fn read(&mut self, headers: &HeaderMap, bound: BodyBound) -> Result<Bytes, BodyError> {
        let Self::Unread(body) = std::mem::replace(self, Self::Broken) else {
            return Err(BodyError::Aborted);
        };
        let bytes = read_body(headers, body, bound).await?;
        *self = Self::Read;
        Ok(bytes)
    }

    /// Sees to it that the connection is used again only where nothing of the request is left on it. Streams of HTTP/2
    /// end by themselves.
    pub(super) async fn end(self, headers: &HeaderMap, version: Version, response: &mut Response) {
        let is_over = match self {
            Self::Read => true,
            Self::Broken => false,
            // Whoever waits to be asked for it sends nothing.
            Self::Unread(body) if headers.contains_key(EXPECT) => body.is_end_stream(),
            Self::Unread(body) => {
                tokio::time::timeout(UNREAD_WAIT, is_read_to_its_end(body)).await.unwrap_or(false)
            }
        };
        if !is_over && version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

async fn is_read_to_its_end(mut body: Body) -> bool {
    let mut left = UNREAD_BYTES_MAX;
    if body.size_hint().lower() > left {
        return false;
    }
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(u64::try_from(bytes).unwrap_or(u64::MAX)) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::io;

    async fn closes(upload: Upload, headers: &HeaderMap, version: Version) -> bool {
        let mut response = Response::new(Body::empty());
        upload.end(headers, version, &mut response).await;
        response.headers().contains_key(CONNECTION)
    }

    fn body(pieces: Vec<io::Result<Bytes>>) -> Upload {
        Upload::Unread(Body::from_stream(stream::iter(pieces)))
    }

    #[tokio::test]
    async fn a_connection_is_told_to_end_where_something_is_left_on_it() {
        let (none, http1) = (HeaderMap::new(), Version::HTTP_11);
        let piece = |bytes: usize| Ok(Bytes::from(vec![b'x'; bytes]));
        assert!(!closes(Upload::Unread(Body::empty()), &none, http1).await);
        assert!(!closes(body(vec![piece(10), piece(20)]), &none, http1).await);
        assert!(closes(Upload::Unread(Body::from(vec![0; 70_000])), &none, http1).await);
        assert!(closes(body(vec![piece(60_000), piece(6_000)]), &none, http1).await);
        assert!(closes(body(vec![piece(1), Err(io::Error::other("gone"))]), &none, http1).await);
        let never = || Upload::Unread(Body::from_stream(stream::pending::<io::Result<Bytes>>()));
        assert!(closes(never(), &none, http1).await);
        assert!(!closes(never(), &none, Version::HTTP_2).await);
        let waits = [(EXPECT, HeaderValue::from_static("100-continue"))].into_iter().collect();
        assert!(closes(body(vec![piece(10)]), &waits, http1).await);
        assert!(closes(Upload::Broken, &none, http1).await && !closes(Upload::Read, &none, http1).await);
    }
}
