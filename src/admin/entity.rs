//! How answers look: one thing with its version, a created thing, a page of a list, a stream of lines.

use crate::service::StoreError;
use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

/// One thing, whose version goes into `ETag`.
pub(super) fn one(view: &impl Serialize, version: i64) -> Response {
    with_version(StatusCode::OK, view, version)
}

/// A thing that was just made.
pub(super) fn created(view: &impl Serialize, version: i64) -> Response {
    with_version(StatusCode::CREATED, view, version)
}

fn with_version(status: StatusCode, view: &impl Serialize, version: i64) -> Response {
    let mut response = (status, Json(view)).into_response();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// A page of a list.
#[derive(Serialize)]
struct List<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

/// A page of a list, and where the next one begins.
pub(super) fn list<T: Serialize>(items: Vec<T>, next: Option<impl ToString>) -> Response {
    Json(List { items, next_cursor: next.map(|next| next.to_string()) }).into_response()
}

/// A page of a list that is whole in memory; the cursor is a place in it.
pub(super) fn slice<T: Serialize>(all: Vec<T>, after: Option<usize>, limit: u32) -> Response {
    let (start, limit) = (after.unwrap_or(0), usize::try_from(limit).unwrap_or(usize::MAX));
    let end = start.saturating_add(limit);
    let next = (end < all.len()).then_some(end);
    list(all.into_iter().skip(start).take(limit).collect(), next)
}

/// JSON Lines. An error in between breaks the connection: a whole export ends cleanly and no other does.
pub(super) fn lines<T: Serialize + 'static>(
    pages: impl Stream<Item = Result<Vec<T>, StoreError>> + Send + 'static,
) -> Response {
    let pages = pages.map(|page| page.map(|entries| as_lines(&entries)));
    let logged = pages.inspect(|page| {
        if let Err(error) = page {
            tracing::error!(%error, "an export broke off");
        }
    });
    let mut response = Body::from_stream(logged).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

fn as_lines<T: Serialize>(entries: &[T]) -> Bytes {
    let mut lines = BytesMut::new().writer();
    for entry in entries {
        // Writing to memory does not fail, and an entry has string keys.
        let _ = serde_json::to_writer(&mut lines, entry);
        lines.get_mut().put_u8(b'\n');
    }
    lines.into_inner().freeze()
}
