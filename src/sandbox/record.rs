//! The last requests as they were received, byte for byte, so that a test can compare what a proxy sent with what its
//! client sent. Keys are kept too: they are a simulator's. Bounded in number and in bytes.

use axum::http::request::Parts;
use bytes::Bytes;
use data_encoding::BASE64;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// How many requests are remembered.
pub(super) const REQUESTS_MAX: usize = 256;
/// How many bytes of each body.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How many bytes of all bodies; beyond them the oldest requests are forgotten.
const BODIES_BYTES_MAX: usize = 32 * 1024 * 1024;

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
    /// The body's first 8 MiB as text; what is not UTF-8 is replaced.
    pub body: String,
    /// The same bytes in base64 where the text is not all of them: in pictures, sound and other uploads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// The length of the whole body.
    pub body_bytes: usize,
}

impl Received {
    /// The value of the first header line with this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The body as it came, if it was not longer than what is kept.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let bytes = match &self.body_base64 {
            Some(base64) => BASE64.decode(base64.as_bytes()).ok()?,
            None => self.body.clone().into_bytes(),
        };
        (bytes.len() == self.body_bytes).then_some(bytes)
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
pub(super) struct Record(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    kept: VecDeque<Kept>,
    bytes: usize,
}

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
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.bytes += head.len();
        memory.kept.push_back(Kept { parts, body: head, body_bytes: body.len() });
        while memory.kept.len() > REQUESTS_MAX || memory.bytes > BODIES_BYTES_MAX {
            let Some(oldest) = memory.kept.pop_front() else { break };
            memory.bytes -= oldest.body.len();
        }
    }

    /// The remembered requests, oldest first.
    pub(super) fn received(&self) -> Vec<Received> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).kept.iter().map(Kept::render).collect()
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Memory::default();
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
            body_base64: std::str::from_utf8(&self.body).is_err().then(|| BASE64.encode(&self.body)),
            body_bytes: self.body_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(record: &Record, path: &str, body: Vec<u8>) {
        let request = axum::http::Request::builder().uri(path).header("X-One", "1").body(());
        record.keep(&request.unwrap().into_parts().0, &Bytes::from(body));
    }

    #[test]
    fn only_the_last_requests_are_kept() {
        let record = Record::default();
        (0..=REQUESTS_MAX).for_each(|n| keep(&record, &format!("/{n}?a=b"), vec![b'x'; 10]));
        let received = record.received();
        assert_eq!((received.len(), received[0].path.as_str()), (REQUESTS_MAX, "/1"));
        assert_eq!((received[0].query.as_deref(), received[0].header("x-one")), (Some("a=b"), Some("1")));
        assert_eq!((received[0].body.len(), received[0].body_bytes), (10, 10));
    }

    #[test]
    fn bodies_are_kept_byte_for_byte_up_to_a_size() {
        let record = Record::default();
        let binary = vec![0, 0xff, b'\r', b'\n'];
        keep(&record, "/binary", binary.clone());
        keep(&record, "/text", "\u{1F4A9}\r\n".into());
        let received = record.received();
        assert_eq!(
            (received[0].bytes(), received[0].body_base64.as_deref()),
            (Some(binary), Some("AP8NCg=="))
        );
        assert_eq!((received[1].bytes(), &received[1].body_base64), (Some("\u{1F4A9}\r\n".into()), &None));
        (0..4).for_each(|_| keep(&record, "/large", vec![b'x'; BODY_BYTES_MAX + 1]));
        let received = record.received();
        assert_eq!((received.len(), received[0].path.as_str(), received[0].bytes()), (4, "/large", None));
        assert_eq!((received[0].body.len(), received[0].body_bytes), (BODY_BYTES_MAX, BODY_BYTES_MAX + 1));
    }
}
