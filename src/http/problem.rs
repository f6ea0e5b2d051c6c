//! RFC 9457 problem details: how the admin plane, and the edge itself, say no.
//!
//! A problem says what is wrong and what to do. It never holds a secret, nor the text of an inner
//! error: those go to the log.

use crate::base::hide_tokens;
use crate::http::RequestId;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

/// One field of the request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where, as a JSON pointer (RFC 6901); empty for the whole body.
    pub field: String,
    /// What is wrong with it, and what to write instead.
    pub detail: String,
}

/// A refusal or failure, rendered as `application/problem+json`.
///
/// `code` is stable and scripted against; `type` and `title` follow from it. The request's id is
/// filled in by the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    request_id: Option<RequestId>,
    retry_after_seconds: Option<u64>,
    members: Map<String, Value>,
}

impl Problem {
    /// A problem of any status; prefer the named constructors.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            request_id: None,
            retry_after_seconds: None,
            members: Map::new(),
        }))
    }

    /// 400: the request is not understood.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401: nobody we know asks. Says so in `WWW-Authenticate` too.
    pub fn unauthorized(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// 403: the caller is known and may not.
    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// 404: there is no such thing, or it is not the caller's to see.
    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 405: the path exists and the method does not.
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method")
    }

    /// 408: the client sent its body too slowly.
    pub fn body_timeout() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "the body did not arrive in time; send it again",
        )
    }

    /// 409: it does not go together with what is there.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 412: the thing has changed since the version named in `If-Match`.
    pub fn version_conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "version_conflict", detail)
    }

    /// 413: the body is above its bound.
    pub fn body_too_large(bytes_max: usize) -> Self {
        let detail = format!("the body is larger than {bytes_max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    /// 414: the path and query are above their bound.
    pub fn uri_too_long(bytes_max: usize) -> Self {
        let detail = format!("the path and query are longer than {bytes_max} bytes");
        Self::new(StatusCode::URI_TOO_LONG, "uri_too_long", detail)
    }

    /// 415: the body is in a form that is not read here.
    pub fn unsupported_media_type(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, detail)
    }

    /// 429: too often; `retry_after_seconds` says when to come again.
    pub fn too_many_requests(
        code: &'static str,
        detail: impl Into<String>,
        retry_after_seconds: u64,
    ) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail).retry_after(retry_after_seconds)
    }

    /// 431: more header fields than the bound.
    pub fn too_many_headers(headers_max: usize) -> Self {
        let detail = format!("the request has more than {headers_max} header fields");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_headers", detail)
    }

    /// 500: a fault of ours. The error goes to the log, the client learns only that there was one.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %chain(error), "internal error");
        Self::fault()
    }

    /// 503: cannot check, record or hold more now; `retry_after_seconds` says when to come again.
    pub fn unavailable(code: &'static str, detail: impl Into<String>, retry_after_seconds: u64) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(retry_after_seconds)
    }

    /// 500 with nothing to log: the panic hook has said what there is to say.
    pub(super) fn fault() -> Self {
        let detail = "the server failed to answer; its log has the reason under this request id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", detail)
    }

    /// Names a field that is wrong, by JSON pointer.
    pub fn with_field(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.0.errors.push(FieldError { field: field.into(), detail: detail.into() });
        self
    }

    /// Adds an extension member, like the `id` of what is already there. The standard members cannot be replaced.
    pub fn with_member(mut self, name: &str, value: impl Into<Value>) -> Self {
        if !STANDARD.contains(&name) {
            self.0.members.insert(name.to_owned(), value.into());
        }
        self
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What happened and what to do, in words.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The fields that are wrong.
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    pub(super) fn with_request_id(mut self, id: &RequestId) -> Self {
        self.0.request_id = Some(id.clone());
        self
    }

    fn render(&self) -> Vec<u8> {
        let rendered = Rendered {
            kind: format!("urn:bitting:error:{}", self.0.code),
            title: title(self.0.code),
            status: self.0.status.as_u16(),
            detail: &self.0.detail,
            code: self.0.code,
            errors: &self.0.errors,
            request_id: self.0.request_id.as_ref().map(RequestId::as_str),
            members: &self.0.members,
        };
        let text = serde_json::to_string(&rendered).unwrap_or_default();
        hide_tokens(&text).into_owned().into_bytes()
    }
}

const STANDARD: [&str; 7] = ["type", "title", "status", "detail", "code", "errors", "request_id"];

#[derive(Serialize)]
struct Rendered<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: &'a str,
    code: &'a str,
    errors: &'a [FieldError],
    request_id: Option<&'a str>,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

/// `name_taken` is titled `Name taken`.
fn title(code: &str) -> String {
    let mut title = code.replace('_', " ");
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    title
}

fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |inner| inner.source());
    sources.fold(error.to_string(), |text, inner| format!("{text}: {inner}"))
}

impl IntoResponse for Problem {
    /// The answer; the problem itself goes along in the extensions, so that the listener can add the request's id.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.render()));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Entropy;

    #[derive(Debug, thiserror::Error)]
    #[error("disk full at /var/lib/secret")]
    struct Inner;

    async fn parts(problem: Problem) -> (u16, http::HeaderMap, Value) {
        let (parts, body) = problem.into_response().into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (parts.status.as_u16(), parts.headers, serde_json::from_slice(&bytes).unwrap())
    }

    /// Every constructor, as the client sees it.
    #[tokio::test]
    async fn every_problem_renders_in_the_shape_of_the_contract() {
        let table: [(Problem, u16, &str, &str); 15] = [
            (Problem::bad_request("invalid_body", "d"), 400, "invalid_body", "Invalid body"),
            (Problem::unauthorized("invalid_token", "d"), 401, "invalid_token", "Invalid token"),
            (Problem::forbidden("role_required", "d"), 403, "role_required", "Role required"),
            (Problem::not_found("not_found", "d"), 404, "not_found", "Not found"),
            (Problem::method_not_allowed(), 405, "method_not_allowed", "Method not allowed"),
            (Problem::body_timeout(), 408, "body_timeout", "Body timeout"),
            (Problem::conflict("name_taken", "d"), 409, "name_taken", "Name taken"),
            (Problem::version_conflict("d"), 412, "version_conflict", "Version conflict"),
            (Problem::body_too_large(9), 413, "body_too_large", "Body too large"),
            (Problem::uri_too_long(9), 414, "uri_too_long", "Uri too long"),
            (Problem::unsupported_media_type("json_required", "d"), 415, "json_required", "Json required"),
            (Problem::too_many_requests("slow_down", "d", 3), 429, "slow_down", "Slow down"),
            (Problem::too_many_headers(9), 431, "too_many_headers", "Too many headers"),
            (Problem::internal(&Inner), 500, "internal_error", "Internal error"),
            (Problem::unavailable("sealed", "d", 1), 503, "sealed", "Sealed"),
        ];
        for (problem, status, code, title) in table {
            let detail = problem.detail().to_owned();
            let (got, headers, body) = parts(problem).await;
            assert_eq!(got, status);
            assert_eq!(headers["content-type"], "application/problem+json");
            let expected = serde_json::json!({"type": format!("urn:bitting:error:{code}"), "title": title,
                "status": status, "detail": detail, "code": code, "errors": [], "request_id": null});
            assert_eq!(body, expected);
            assert_eq!(headers.contains_key("retry-after"), matches!(status, 429 | 503), "{code}");
        }
    }

    #[tokio::test]
    async fn fields_and_members_and_the_request_id_are_rendered() {
        let id = RequestId::new(&Entropy::new());
        let problem = Problem::conflict("name_taken", "the name is taken")
            .with_field("/name", "taken")
            .with_member("id", "abc")
            .with_member("status", 200)
            .with_request_id(&id);
        let (_, _, body) = parts(problem).await;
        assert_eq!(body["errors"], serde_json::json!([{"field": "/name", "detail": "taken"}]));
        assert_eq!(body["id"], "abc");
        assert_eq!(body["status"], 409, "a standard member is not replaced");
        assert_eq!(body["request_id"], id.as_str());
    }

    #[tokio::test]
    async fn the_text_of_an_internal_error_stays_inside() {
        let (_, _, body) = parts(Problem::internal(&Inner)).await;
        assert!(!body.to_string().contains("secret"), "{body}");
    }
}
