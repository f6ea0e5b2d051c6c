//! What every answer to one request carries, refusals too.

use super::bill::Reported;
use super::call::Closed;
use super::chat;
use super::refusal::{Dialect, Refusal};
use super::stream;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;

pub(super) const JSON: &str = "application/json";

/// The manners of the answers to one request.
pub(super) struct Seal {
    pub(super) dialect: Dialect,
    pub(super) request_id: String,
    pub(super) key: String,
    pub(super) echoes: bool,
}

impl Seal {
    /// An answer with the headers of its provider.
    pub(super) fn respond(&self, status: StatusCode, content_type: &str, body: Body) -> Response {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let mut set = |name: &'static str, value: HeaderValue| {
            headers.insert(HeaderName::from_static(name), value);
        };
        // A file's type is what its owner said.
        let octets = HeaderValue::from_static("application/octet-stream");
        set("content-type", HeaderValue::from_str(content_type).unwrap_or(octets));
        if let Ok(id) = HeaderValue::from_str(&self.request_id) {
            set(if self.dialect == Dialect::Anthropic { "request-id" } else { "x-request-id" }, id.clone());
            if self.dialect == Dialect::Azure {
                set("apim-request-id", id);
            }
        }
        // What real providers send along and no application needs.
        set("set-cookie", HeaderValue::from_static("__sandbox=1; path=/; HttpOnly"));
        match self.dialect {
            Dialect::OpenAi => {
                set("openai-version", HeaderValue::from_static("2020-10-01"));
                set("openai-organization", HeaderValue::from_static("org-sandbox"));
                set("openai-processing-ms", HeaderValue::from_static("1"));
            }
            Dialect::Azure => set("x-ms-region", HeaderValue::from_static("Sandbox")),
            Dialect::Anthropic => set("anthropic-organization-id", HeaderValue::from_static("org-sandbox")),
            Dialect::Gemini => set("server-timing", HeaderValue::from_static("gfet4t7; dur=1")),
        }
        if self.echoes
            && let Ok(key) = HeaderValue::from_str(&self.key)
        {
            set("x-echo", key);
        }
        response
    }

    /// A refusal with this status, which may be another than its own.
    pub(super) fn refuse(&self, refusal: &Refusal, status: StatusCode) -> Response {
        self.refuse_telling(refusal, status, None)
    }

    /// The same, with what was used all the same.
    pub(super) fn refuse_telling(
        &self,
        refusal: &Refusal,
        status: StatusCode,
        used: Option<Reported>,
    ) -> Response {
        let echo = if self.echoes { format!(" {}", self.key) } else { String::new() };
        let mut body = refusal.body(self.dialect, status, &self.request_id, &echo);
        if used.is_some() {
            body["usage"] = chat::usage(used);
        }
        let mut response = self.respond(status, JSON, Body::from(body.to_string()));
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    /// Elsewhere.
    pub(super) fn redirect(&self) -> Response {
        let mut response = self.respond(StatusCode::FOUND, JSON, Body::empty());
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/v1/redirected"));
        response
    }
}

/// No answer: the connection is closed instead.
pub(super) fn closed() -> Response {
    let mut response = Response::new(stream::cut_body(&Bytes::new()));
    response.extensions_mut().insert(Closed);
    response
}
