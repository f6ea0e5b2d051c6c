//! The last requests as they were received, so that a test can compare what a proxy sent with what its
//! client sent. Keys are kept too: they are a simulator's. Bounded in number and in bytes.

use axum::http::request::Parts;
use bytes::Bytes;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// How many requests are remembered.
pub(super) const REQUESTS_MAX: usize = 256;
/// How many bytes of each body.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// One received request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Received {
    /// The method.
    pub method: String,
    /// The path as it was sent, not decoded.
    pub path: String,
    /// The query as it was sent, without `?`.
    pub query: Option<String>,
    /// Names (in lower case: HTTP does not tell them apart) and values, in the order received, lines of one
    /// name side by side.
    pub headers: Vec<(String, String)>,
    /// The body's first 64 KiB as text; what is not UTF-8 is replaced.
    pub body: String,
    /// The length of the whole body.
    pub body_bytes: usize,
}

impl Received {
    /// The value of the first header line with this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// What is kept until somebody looks: cheap to take in, rendered on the way out.
#[derive(Debug)]
struct Kept {
    parts: Parts,
    body: Bytes,
    body_bytes: usize,
}

/// The memory of the last requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Record(Arc<Mutex<VecDeque<Kept>>>);

impl Record {
    /// Remembers one request; the oldest is forgotten.
    pub(super) fn keep(&self, parts: &Parts, body: &Bytes) {
        // A slice would keep the whole of a large body alive.
        let head = if body.len() <= BODY_BYTES_MAX {
            body.clone()
        } else {
            Bytes::copy_from_slice(&body[..BODY_BYTES_MAX])
        };
        let mut parts = parts.clone();
        parts.extensions.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == REQUESTS_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept { parts, body: head, body_bytes: body.len() });
    }

    /// The remembered requests, oldest first.
    pub(super) fn received(&self) -> Vec<Received> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Kept::render).collect()
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Kept {
    fn render(&self) -> Received {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = self.parts.headers.iter();
        Received {
            method: self.parts.method.to_string(),
            path: self.parts.uri.path().to_owned(),
            query: self.parts.uri.query().map(str::to_owned),
            headers: headers.map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
            body: text(&self.body),
            body_bytes: self.body_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_requests_and_the_first_of_a_body_are_kept() {
        let record = Record::default();
        for n in 0..=REQUESTS_MAX {
            let request =
                axum::http::Request::builder().uri(format!("/{n}?a=b")).header("X-One", "1").body(());
            record.keep(&request.unwrap().into_parts().0, &Bytes::from(vec![b'x'; BODY_BYTES_MAX + 1]));
        }
        let received = record.received();
        assert_eq!((received.len(), received[0].path.as_str()), (REQUESTS_MAX, "/1"));
        assert_eq!((received[0].query.as_deref(), received[0].header("x-one")), (Some("a=b"), Some("1")));
        assert_eq!((received[0].body.len(), received[0].body_bytes), (BODY_BYTES_MAX, BODY_BYTES_MAX + 1));
    }
}
