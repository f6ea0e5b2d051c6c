//! Multipart forms, as client libraries write them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::server::TestServer;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;

/// What separates the parts of every form here.
pub(crate) const BOUNDARY: &str = "0123456789abcdef";

/// A form's parts, written out; the end is missing yet.
#[derive(Clone, Default)]
pub(crate) struct Form(Vec<u8>);

impl Form {
    /// With a field of text.
    pub(crate) fn field(mut self, name: &str, text: &str) -> Self {
        let part =
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n");
        self.0.extend(part.as_bytes());
        self
    }

    /// With several.
    pub(crate) fn fields(self, fields: &[(&str, &str)]) -> Self {
        fields.iter().fold(self, |form, (name, text)| form.field(name, text))
    }

    /// With a file.
    pub(crate) fn file(mut self, name: &str, filename: &str, bytes: &[u8]) -> Self {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{filename}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        self.0.extend(head.as_bytes());
        self.0.extend(bytes);
        self.0.extend(b"\r\n");
        self
    }

    /// The body.
    pub(crate) fn body(&self) -> Bytes {
        [&self.0, format!("--{BOUNDARY}--\r\n").as_bytes()].concat().into()
    }

    /// A proxied request with it.
    pub(crate) fn request(&self, server: &TestServer, secret: &str, path: &str) -> Request<Full<Bytes>> {
        let mut request = server.proxied(secret, path, self.body());
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        request.headers_mut().insert("content-type", kind.parse().unwrap());
        request
    }
}
