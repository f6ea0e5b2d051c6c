//! Refusals, with the status, words and shape that each real provider uses, so that SDKs raise the class they
//! would raise there.

use super::directive::DirectiveError;
use axum::http::StatusCode;
use serde_json::{Value, json};

/// Whose manners an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    OpenAi,
    /// `OpenAI`'s, with errors of its own.
    Azure,
    Anthropic,
    Gemini,
}

/// Why a request gets no answer but an error.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no key was given")]
    NoKey,
    #[error("the key is wrong")]
    BadKey { shown: String },
    #[error("the body is not JSON")]
    NotJson,
    #[error("the body is not a form")]
    NotMultipart,
    #[error("no api-version was given")]
    NoVersion,
    /// Nothing of the account has this id.
    #[error("{message}")]
    NoObject { message: String, param: Option<&'static str> },
    /// The same, of the response that another is to follow.
    #[error("Previous response with id '{0}' not found.")]
    NoPrevious(String),
    #[error("{message}")]
    Invalid { message: String, param: Option<&'static str> },
    #[error(transparent)]
    Directive(#[from] DirectiveError),
    #[error("there is no model {0}")]
    UnknownModel(String),
    #[error("there is no {0}")]
    UnknownPath(String),
    #[error("the body is too large")]
    TooLarge,
    #[error("told to answer {0}")]
    Told(StatusCode),
}

impl Refusal {
    /// A request that cannot be served as it is.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), param: None }
    }

    /// The same, because of one parameter.
    pub(super) fn param(param: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), param: Some(param) }
    }

    /// The status each provider answers.
    pub(super) fn status(&self, dialect: Dialect) -> StatusCode {
        match self {
            Self::BadKey { .. } if dialect == Dialect::Gemini => StatusCode::BAD_REQUEST,
            Self::NoKey | Self::BadKey { .. } => StatusCode::UNAUTHORIZED,
            Self::NotJson
            | Self::NotMultipart
            | Self::Invalid { .. }
            | Self::NoPrevious(_)
            | Self::Directive(_) => StatusCode::BAD_REQUEST,
            Self::NoVersion | Self::NoObject { .. } | Self::UnknownModel(_) | Self::UnknownPath(_) => {
                StatusCode::NOT_FOUND
            }
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Told(status) => *status,
        }
    }

    /// The error body with this status, which may be another than the refusal's own. `echo` is added to the message.
    pub(super) fn body(&self, dialect: Dialect, status: StatusCode, request_id: &str, echo: &str) -> Value {
        let message = format!("{}{echo}", self.message(dialect, status));
        match dialect {
            Dialect::Azure if self.azure_code(status).is_some() => json!({"error": {
                "code": self.azure_code(status), "message": message,
            }}),
            Dialect::OpenAi | Dialect::Azure => json!({"error": {
                "message": message, "type": openai_type(status), "param": self.named_param(), "code": self.openai_code(status),
            }}),
            Dialect::Anthropic => json!({
                "type": "error",
                "error": {"type": anthropic_type(status), "message": message},
                "request_id": request_id,
            }),
            Dialect::Gemini => {
                let mut error =
                    json!({"code": status.as_u16(), "message": message, "status": gemini_status(status)});
                if let Some(reason) = self.gemini_reason() {
                    error["details"] = json!([{
                        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                        "reason": reason,
                        "domain": "googleapis.com",
                        "metadata": {"service": "generativelanguage.googleapis.com"},
                    }]);
                }
                json!({"error": error})
            }
        }
    }

    fn message(&self, dialect: Dialect, status: StatusCode) -> String {
        match (self, dialect) {
            (Self::NoKey | Self::BadKey { .. }, Dialect::Azure) => {
                "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid \
                 key for an active subscription and use a correct regional API endpoint for your resource."
                    .to_owned()
            }
            (Self::UnknownModel(_), Dialect::Azure) => {
                "The API deployment for this resource does not exist. If you created the deployment within the \
                 last 5 minutes, please wait a moment and try again."
                    .to_owned()
            }
            (Self::UnknownPath(_), Dialect::Azure) | (Self::NoVersion, _) => "Resource not found".to_owned(),
            (Self::NotMultipart, _) => "Could not parse multipart form".to_owned(),
            (Self::NoKey, Dialect::OpenAi) => {
                "You didn't provide an API key. You need to provide your API key in an Authorization header using \
                 Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
                    .to_owned()
            }
            (Self::NoKey, Dialect::Anthropic) => "x-api-key header is required".to_owned(),
            (Self::NoKey, Dialect::Gemini) => {
                "Request is missing required authentication credential. Expected OAuth 2 access token, login \
                 cookie or other valid authentication credential."
                    .to_owned()
            }
            (Self::BadKey { shown }, Dialect::OpenAi) => format!("Incorrect API key provided: {shown}."),
            (Self::BadKey { .. }, Dialect::Anthropic) => "invalid x-api-key".to_owned(),
            (Self::BadKey { .. }, Dialect::Gemini) => {
                "API key not valid. Please pass a valid API key.".to_owned()
            }
            (Self::NotJson, Dialect::OpenAi | Dialect::Azure) => {
                "We could not parse the JSON body of your request. (HINT: This likely means you aren't using \
                 your HTTP library correctly.)"
                    .to_owned()
            }
            (Self::NotJson, Dialect::Anthropic) => "The request body is not valid JSON".to_owned(),
            (Self::NotJson, Dialect::Gemini) => "Invalid JSON payload received.".to_owned(),
            (Self::UnknownModel(model), Dialect::OpenAi) => {
                format!("The model `{model}` does not exist or you do not have access to it.")
            }
            (Self::UnknownModel(model), Dialect::Anthropic) => format!("model: {model}"),
            (Self::UnknownModel(model), Dialect::Gemini) => {
                format!("models/{model} is not found for API version v1beta, or is not supported for this method.")
            }
            (Self::UnknownPath(what), Dialect::OpenAi) => format!("Invalid URL ({what})"),
            (Self::UnknownPath(_), Dialect::Anthropic | Dialect::Gemini) => "Not found".to_owned(),
            (Self::TooLarge, _) => "Request exceeds the maximum size".to_owned(),
            (
                Self::Invalid { .. } | Self::NoObject { .. } | Self::NoPrevious(_) | Self::Directive(_),
                _,
            ) => self.to_string(),
            (Self::Told(_), _) => told(status).to_owned(),
        }
    }

    fn named_param(&self) -> Option<&'static str> {
        match self {
            Self::Invalid { param, .. } | Self::NoObject { param, .. } => *param,
            Self::NoPrevious(_) => Some("previous_response_id"),
            Self::NoKey
            | Self::BadKey { .. }
            | Self::NotJson
            | Self::NotMultipart
            | Self::NoVersion
            | Self::Directive(_)
            | Self::UnknownModel(_)
            | Self::UnknownPath(_)
            | Self::TooLarge
            | Self::Told(_) => None,
        }
    }

    fn openai_code(&self, status: StatusCode) -> Option<&'static str> {
        match self {
            Self::BadKey { .. } => Some("invalid_api_key"),
            Self::UnknownModel(_) => Some("model_not_found"),
            Self::NoPrevious(_) => Some("previous_response_not_found"),
            Self::Told(_) => match status.as_u16() {
                401 => Some("invalid_api_key"),
                402 => Some("insufficient_quota"),
                429 => Some("rate_limit_exceeded"),
                _ => None,
            },
            Self::NoKey
            | Self::NotJson
            | Self::NotMultipart
            | Self::NoVersion
            | Self::NoObject { .. }
            | Self::Invalid { .. }
            | Self::Directive(_)
            | Self::UnknownPath(_)
            | Self::TooLarge => None,
        }
    }

    /// The code of what Azure's gateway refuses itself, before any model is asked.
    fn azure_code(&self, status: StatusCode) -> Option<String> {
        match self {
            Self::UnknownModel(_) => Some("DeploymentNotFound".to_owned()),
            Self::NoKey | Self::BadKey { .. } | Self::NoVersion | Self::UnknownPath(_) | Self::Told(_) => {
                Some(status.as_u16().to_string())
            }
            Self::NotJson
            | Self::NotMultipart
            | Self::NoObject { .. }
            | Self::NoPrevious(_)
            | Self::Invalid { .. }
            | Self::Directive(_)
            | Self::TooLarge => None,
        }
    }

    fn gemini_reason(&self) -> Option<&'static str> {
        match self {
            Self::NoKey => Some("CREDENTIALS_MISSING"),
            Self::BadKey { .. } => Some("API_KEY_INVALID"),
            Self::NotJson
            | Self::NotMultipart
            | Self::NoVersion
            | Self::NoObject { .. }
            | Self::NoPrevious(_)
            | Self::Invalid { .. }
            | Self::Directive(_)
            | Self::UnknownModel(_)
            | Self::UnknownPath(_)
            | Self::TooLarge
            | Self::Told(_) => None,
        }
    }
}

/// What providers say with a status that comes from nowhere.
fn told(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "The request was invalid.",
        401 => "Incorrect API key provided.",
        402 => "Your account has no credit left.",
        403 => "You are not allowed to do this.",
        404 => "Not found.",
        408 | 504 => "The request timed out.",
        413 => "Request exceeds the maximum size",
        429 => "Rate limit reached. Please try again in 1s.",
        503 | 529 => "Overloaded",
        500..=599 => "The server had an error while processing your request. Sorry about that!",
        _ => "The sandbox was told to answer so.",
    }
}

fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        402 => "insufficient_quota",
        429 => "requests",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn gemini_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        402 | 429 => "RESOURCE_EXHAUSTED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        502 | 503 | 529 => "UNAVAILABLE",
        408 | 504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}
