//! What the proxy's listener turns away, said in the dialect of whoever asks: to an application's library, an error
//! from here looks like every other.

use super::arrival::spoken;
use super::refusal::{Code, Refusal};
use super::respond;
use crate::http::{EdgeRefusal, RequestId, Say};
use crate::provider::Dialect;
use axum::response::Response;
use http::HeaderMap;

/// The words for a request with these header fields.
pub fn voice(headers: &HeaderMap) -> Say {
    match spoken(headers) {
        Dialect::OpenAi => |refusal, id| say(refusal, Dialect::OpenAi, id),
        Dialect::Anthropic => |refusal, id| say(refusal, Dialect::Anthropic, id),
        Dialect::Gemini => |refusal, id| say(refusal, Dialect::Gemini, id),
    }
}

fn say(refusal: EdgeRefusal, dialect: Dialect, id: &RequestId) -> Response {
    let code = match refusal {
        EdgeRefusal::UriTooLong { .. } => Code::UriTooLong,
        EdgeRefusal::TooManyHeaders { .. } => Code::TooManyHeaders,
        EdgeRefusal::Connect => Code::MethodNotAllowed,
        EdgeRefusal::NoPath => Code::InvalidTarget,
        EdgeRefusal::Host => Code::InvalidHost,
        EdgeRefusal::Fault => Code::InternalError,
    };
    respond::refusal(&Refusal::new(code, refusal.detail()), dialect, id.as_str(), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Entropy;
    use http::{HeaderName, HeaderValue};
    use serde_json::{Value, json};

    /// Status, whether trying again is forbidden, and the body.
    async fn said(header: &'static str, refusal: EdgeRefusal) -> (u16, bool, Value) {
        let headers =
            HeaderMap::from_iter([(HeaderName::from_static(header), HeaderValue::from_static("1"))]);
        let (parts, body) = voice(&headers)(refusal, &RequestId::new(&Entropy::new())).into_parts();
        assert_eq!(parts.headers["content-type"], "application/json");
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let forbids = parts.headers.contains_key("x-should-retry");
        (parts.status.as_u16(), forbids, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn the_listener_speaks_the_dialect_of_the_header_fields() {
        let long = EdgeRefusal::UriTooLong { bytes_max: 9 };
        let message = "the path and query are longer than 9 bytes";
        let openai = json!({"error": {
            "message": message, "type": "invalid_request_error", "param": null, "code": "uri_too_long",
        }});
        assert_eq!(said("authorization", long).await, (414, false, openai));
        let (status, _, body) = said("anthropic-version", long).await;
        assert_eq!((status, &body["type"]), (414, &json!("error")));
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert!(body["request_id"].as_str().unwrap().starts_with("req_"), "{body}");
        let (status, _, body) = said("x-goog-api-client", long).await;
        assert_eq!((status, &body["error"]["status"]), (414, &json!("INVALID_ARGUMENT")));

        let (status, forbids, body) = said("authorization", EdgeRefusal::Fault).await;
        assert_eq!((status, &body["error"]["type"]), (500, &json!("api_error")));
        assert!(forbids, "nobody knows what was sent before the failure");
    }
}
