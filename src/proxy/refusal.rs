//! Our own refusals, in the dialect of the caller, so that client libraries raise the right class.
//!
//! One code for each condition of the contract; status, type and shape follow from it. A message says
//! what to do and never holds a key.

use crate::base::hide_tokens_in;
use crate::provider::answer::{ArrayPlace, Place};
use crate::provider::{Dialect, ObjectKind, Reading};
use chrono::TimeDelta;
use http::StatusCode;
use serde_json::{Value, json};
use std::borrow::Cow;

/// Every condition under which the proxy itself answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Code {
    InvalidApiKey,
    KeyRevoked,
    KeyExpired,
    KeySuspended,
    /// Suspended like all others.
    Quarantined,
    KeyNotYetValid,
    AmbiguousCredentials,
    KeyInQuery,
    IpNotAllowed,
    ModelNotAllowed,
    OperationNotAllowed,
    FeatureNotAllowed,
    OutputBoundExceeded,
    ModelUnpriced,
    FeatureUnpriced,
    ObjectNotFound,
    UnknownOperation,
    InvalidTarget,
    InvalidHost,
    MethodNotAllowed,
    UriTooLong,
    TooManyHeaders,
    InvalidBody,
    BodyTooLarge,
    UnsupportedEncoding,
    ModelRequired,
    ModelAmbiguous,
    ProviderAmbiguous,
    DialectNotSupported,
    BudgetExceeded,
    RequestTooExpensive,
    BudgetHeld,
    RateLimitExceeded,
    ConcurrencyLimit,
    ExceedsRateLimit,
    WebsocketNotSupported,
    Sealed,
    StoreUnavailable,
    Overloaded,
    UpstreamCredentialError,
    UpstreamError,
    UpstreamTimeout,
    InternalError,
}

impl Code {
    /// The contract's word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::InvalidApiKey => "invalid_api_key",
            Self::KeyRevoked => "key_revoked",
            Self::KeyExpired => "key_expired",
            Self::KeySuspended | Self::Quarantined => "key_suspended",
            Self::KeyNotYetValid => "key_not_yet_valid",
            Self::AmbiguousCredentials => "ambiguous_credentials",
            Self::KeyInQuery => "key_in_query",
            Self::IpNotAllowed => "ip_not_allowed",
            Self::ModelNotAllowed => "model_not_allowed",
            Self::OperationNotAllowed => "operation_not_allowed",
            Self::FeatureNotAllowed => "feature_not_allowed",
            Self::OutputBoundExceeded => "output_bound_exceeded",
            Self::ModelUnpriced => "model_unpriced",
            Self::FeatureUnpriced => "feature_unpriced",
            Self::ObjectNotFound => "object_not_found",
            Self::UnknownOperation => "unknown_operation",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidHost => "invalid_host",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UriTooLong => "uri_too_long",
            Self::TooManyHeaders => "too_many_headers",
            Self::InvalidBody => "invalid_body",
            Self::BodyTooLarge => "body_too_large",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::ModelRequired => "model_required",
            Self::ModelAmbiguous => "model_ambiguous",
            Self::ProviderAmbiguous => "provider_ambiguous",
            Self::DialectNotSupported => "dialect_not_supported",
            Self::BudgetExceeded => "budget_exceeded",
            Self::RequestTooExpensive => "request_too_expensive",
            Self::BudgetHeld => "budget_held",
            Self::RateLimitExceeded => "rate_limit_exceeded",
            Self::ConcurrencyLimit => "concurrency_limit",
            Self::ExceedsRateLimit => "exceeds_rate_limit",
            Self::WebsocketNotSupported => "websocket_not_supported",
            Self::Sealed => "sealed",
            Self::StoreUnavailable => "store_unavailable",
            Self::Overloaded => "overloaded",
            Self::UpstreamCredentialError => "upstream_credential_error",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::InternalError => "internal_error",
        }
    }

    /// The word in entries of the access log.
    pub(super) fn rule(self) -> &'static str {
        if self == Self::Quarantined { "quarantined" } else { self.as_str() }
    }

    /// The HTTP status.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::InvalidApiKey
            | Self::KeyRevoked
            | Self::KeyExpired
            | Self::KeySuspended
            | Self::Quarantined
            | Self::KeyNotYetValid => StatusCode::UNAUTHORIZED,
            Self::AmbiguousCredentials
            | Self::KeyInQuery
            | Self::InvalidTarget
            | Self::InvalidHost
            | Self::InvalidBody
            | Self::ModelRequired
            | Self::ModelAmbiguous
            | Self::ProviderAmbiguous
            | Self::DialectNotSupported => StatusCode::BAD_REQUEST,
            Self::IpNotAllowed
            | Self::ModelNotAllowed
            | Self::OperationNotAllowed
            | Self::FeatureNotAllowed
            | Self::OutputBoundExceeded
            | Self::ModelUnpriced
            | Self::FeatureUnpriced
            | Self::ExceedsRateLimit => StatusCode::FORBIDDEN,
            Self::ObjectNotFound | Self::UnknownOperation => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BudgetExceeded | Self::RequestTooExpensive => StatusCode::PAYMENT_REQUIRED,
            Self::BudgetHeld | Self::RateLimitExceeded | Self::ConcurrencyLimit => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::WebsocketNotSupported => StatusCode::UPGRADE_REQUIRED,
            Self::Sealed | Self::StoreUnavailable | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamCredentialError | Self::UpstreamError => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The type in the OpenAI dialect.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::BudgetExceeded | Self::RequestTooExpensive => "insufficient_quota",
            Self::InvalidApiKey
            | Self::KeyRevoked
            | Self::KeyExpired
            | Self::KeySuspended
            | Self::Quarantined
            | Self::KeyNotYetValid => "authentication_error",
            Self::IpNotAllowed
            | Self::ModelNotAllowed
            | Self::OperationNotAllowed
            | Self::FeatureNotAllowed
            | Self::OutputBoundExceeded
            | Self::ModelUnpriced
            | Self::FeatureUnpriced
            | Self::ExceedsRateLimit => "permission_error",
            Self::BudgetHeld | Self::RateLimitExceeded | Self::ConcurrencyLimit => "rate_limit_error",
            Self::Sealed
            | Self::StoreUnavailable
            | Self::Overloaded
            | Self::UpstreamCredentialError
            | Self::UpstreamError
            | Self::UpstreamTimeout
            | Self::InternalError => "api_error",
            Self::AmbiguousCredentials
            | Self::KeyInQuery
            | Self::ObjectNotFound
            | Self::UnknownOperation
            | Self::InvalidTarget
            | Self::InvalidHost
            | Self::MethodNotAllowed
            | Self::UriTooLong
            | Self::TooManyHeaders
            | Self::InvalidBody
            | Self::BodyTooLarge
            | Self::UnsupportedEncoding
            | Self::ModelRequired
            | Self::ModelAmbiguous
            | Self::ProviderAmbiguous
            | Self::DialectNotSupported
            | Self::WebsocketNotSupported => "invalid_request_error",
        }
    }

    fn anthropic_kind(self) -> &'static str {
        match self {
            Self::BudgetExceeded | Self::RequestTooExpensive => "billing_error",
            Self::ObjectNotFound | Self::UnknownOperation => "not_found_error",
            Self::BodyTooLarge => "request_too_large",
            Self::Overloaded => "overloaded_error",
            other => other.kind(),
        }
    }

    fn gemini_status(self) -> &'static str {
        match self.status().as_u16() {
            401 => "UNAUTHENTICATED",
            402 | 429 => "RESOURCE_EXHAUSTED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            500 => "INTERNAL",
            502 | 503 => "UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            _ => "INVALID_ARGUMENT",
        }
    }
}

/// Why the proxy itself answers, and what the caller should do about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    /// The condition.
    pub code: Code,
    /// What to do, for people. Never holds a key.
    pub message: String,
    /// The request's field that is at fault.
    pub param: Option<String>,
    /// When trying again can help.
    pub retry_after: Option<TimeDelta>,
    /// Something was sent to the provider: trying again could pay twice.
    pub was_sent: bool,
    /// The rule of the entry, where that says more than the code.
    pub rule: Option<Cow<'static, str>>,
    /// Facts about the refusal for programs: budget, limit, spent, held, requested.
    pub details: Option<Box<Value>>,
}

impl Refusal {
    /// A refusal that says only what to do.
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            param: None,
            retry_after: None,
            was_sent: false,
            rule: None,
            details: None,
        }
    }

    /// Names the field at fault.
    #[must_use]
    pub(super) fn param(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// Says when to try again.
    #[must_use]
    pub(super) fn retry_after(self, wait: TimeDelta) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Names another rule in the log than the code.
    #[must_use]
    pub(super) fn rule(self, rule: impl Into<Cow<'static, str>>) -> Self {
        Self { rule: Some(rule.into()), ..self }
    }

    /// Adds facts for programs.
    #[must_use]
    pub(super) fn details(self, details: Value) -> Self {
        Self { details: Some(Box::new(details)), ..self }
    }

    /// Whether client libraries are told not to try again.
    pub(super) fn forbids_retry(&self) -> bool {
        self.was_sent
            || matches!(self.code.status().as_u16(), 402)
            || matches!(self.code, Code::UpstreamCredentialError | Code::InternalError)
    }

    /// The body of a refusal, in the caller's dialect.
    pub(super) fn body(&self, dialect: Dialect, request_id: &str) -> Value {
        let code = self.code.as_str();
        let mut body = match dialect {
            Dialect::OpenAi => json!({"error": {
                "message": self.message, "type": self.code.kind(), "param": self.param, "code": code,
            }}),
            Dialect::Anthropic => json!({"type": "error", "request_id": request_id, "error": {
                "type": self.code.anthropic_kind(), "message": self.message, "code": code,
            }}),
            Dialect::Gemini => json!({"error": {
                "code": self.code.status().as_u16(), "message": self.message, "status": self.code.gemini_status(),
                "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code, "domain": "bitting"}],
            }}),
        };
        if let Some(details) = &self.details {
            match dialect {
                Dialect::OpenAi | Dialect::Anthropic => body["error"]["details"] = (**details).clone(),
                Dialect::Gemini => body["error"]["details"][0]["metadata"] = (**details).clone(),
            }
        }
        hide_tokens_in(&mut body);
        body
    }

    /// What ends an answer that was already under way; `None` where nothing can be said at its place.
    pub(super) fn stream_event(
        &self,
        dialect: Dialect,
        request_id: &str,
        (place, reading): (Place, &Reading),
    ) -> Option<String> {
        let body = self.body(dialect, request_id);
        match (place, dialect) {
            (Place::Events, Dialect::OpenAi | Dialect::Gemini) => Some(format!("data: {body}\n\n")),
            (Place::Events, Dialect::Anthropic) => Some(format!("event: error\ndata: {body}\n\n")),
            (Place::Responses { sequence_number }, _) => {
                let response = reading.made.iter().find(|made| made.kind == ObjectKind::Response);
                let id = response.map_or_else(|| format!("resp_{request_id}"), |made| made.id.clone());
                let number = sequence_number.map_or(0, |last| last.saturating_add(1));
                let error = json!({"code": self.code.as_str(), "message": body["error"]["message"]});
                let response = json!({
                    "id": id, "object": "response", "status": "failed", "model": reading.model, "error": error,
                    "output": [], "incomplete_details": null, "usage": null,
                });
                let event = json!({
                    "type": "response.failed", "sequence_number": number, "response": response,
                });
                Some(format!("event: response.failed\ndata: {event}\n\n"))
            }
            (Place::Array(ArrayPlace::Start), _) => Some(format!("[{body}]")),
            (Place::Array(ArrayPlace::Before), _) => Some(format!("{body}]")),
            (Place::Array(ArrayPlace::After), _) => Some(format!(",\r\n{body}]")),
            (Place::Array(ArrayPlace::Inside) | Place::Inside | Place::Opaque, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_speaks_each_dialect() {
        let refusal = Refusal::new(Code::ModelNotAllowed, "ask for it").param("model");
        assert_eq!(
            refusal.body(Dialect::OpenAi, "req_1").to_string(),
            r#"{"error":{"code":"model_not_allowed","message":"ask for it","param":"model","type":"permission_error"}}"#
        );
        assert_eq!(
            refusal.stream_event(Dialect::Anthropic, "req_1", (Place::Events, &Reading::default())).unwrap(),
            "event: error\ndata: {\"error\":{\"code\":\"model_not_allowed\",\"message\":\"ask for it\",\
             \"type\":\"permission_error\"},\"request_id\":\"req_1\",\"type\":\"error\"}\n\n"
        );
        let body = refusal.body(Dialect::Gemini, "req_1");
        let array = |place| {
            refusal.stream_event(Dialect::Gemini, "req_1", (Place::Array(place), &Reading::default()))
        };
        assert_eq!(array(ArrayPlace::Start), Some(format!("[{body}]")));
        assert_eq!(array(ArrayPlace::Before), Some(format!("{body}]")));
        assert_eq!(array(ArrayPlace::After), Some(format!(",\r\n{body}]")));
        assert_eq!(array(ArrayPlace::Inside), None);
        let gemini = refusal.body(Dialect::Gemini, "req_1");
        assert_eq!(gemini["error"]["code"], 403);
        assert_eq!(gemini["error"]["status"], "PERMISSION_DENIED");
    }

    #[test]
    fn money_and_what_was_sent_is_not_retried() {
        assert!(Refusal::new(Code::BudgetExceeded, "").forbids_retry());
        assert!(Refusal { was_sent: true, ..Refusal::new(Code::UpstreamTimeout, "") }.forbids_retry());
        assert!(!Refusal::new(Code::BudgetHeld, "").forbids_retry());
    }
}
