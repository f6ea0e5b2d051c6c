//! Whose fault a provider's refusal is: ours, or the request's.
//!
//! Providers say it with one status each, and not with the same. So where a status can mean either, the body decides, by
//! the members that name a reason and by how a message begins: what a request said can be quoted in a message, but never
//! stands there. The shapes do not go by the dialect: Google and Anthropic answer their `OpenAI` paths in their own.

use super::{LIMITS, text};
use crate::base::json::{Document, Kind, Value};
use http::StatusCode;

/// What of ours a provider does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The key itself. Another version of it may be taken.
    Key,
    /// What the key belongs to: its money, its rights, or where it is used from.
    Account,
}

/// Reasons that name the account, as `code`, as `type`, or as Google's `reason`.
const OF_ACCOUNT: [&str; 11] = [
    "access_terminated",
    "account_deactivated",
    "billing_error",
    "billing_hard_limit_reached",
    "billing_not_active",
    "insufficient_balance",
    "insufficient_quota",
    "permission_error",
    "unsupported_country_region_territory",
    "Arrearage",
    "BILLING_DISABLED",
];

/// How messages begin that speak of the account, where nothing else tells.
const ACCOUNT_BEGINS: [&str; 9] = [
    "Billing hard limit has been reached",
    "Gemini API free tier is not available in your country",
    "This organization has been disabled",
    "User location is not supported",
    "You have reached your specified API usage limits",
    "You have reached your specified workspace API usage limits",
    "Your account is not active",
    "Your credit balance is too low",
    "Your prepayment credits are depleted",
];

/// The same, of the key.
const KEY_BEGINS: [&str; 3] =
    ["Incorrect API key provided", "Key limit exceeded", "Your API key was reported"];

/// The same, of what the request says or names.
const REQUEST_BEGINS: [&str; 4] = [
    "CachedContent not found",
    "Content violates usage guidelines",
    "You do not have permission to access the CachedContent",
    "You do not have permission to access the File",
];

impl Refused {
    /// Whether the provider refused something of ours; `None`: it did not, or not that.
    pub fn read(status: StatusCode, body: &[u8]) -> Option<Self> {
        match status.as_u16() {
            401 => Some(Self::Key),
            402 => Some(Self::Account),
            _ if !Self::is_told_by_body(status) => None,
            status => {
                let document = Document::parse(body, LIMITS).ok();
                let told = document.as_ref().and_then(|document| Told::read(document.root()));
                match told {
                    Some(Told::Ours(refused)) => Some(refused),
                    Some(Told::Request) => None,
                    None => (status == 403).then_some(Self::Account),
                }
            }
        }
    }

    /// Whether the status alone does not say.
    pub fn is_told_by_body(status: StatusCode) -> bool {
        matches!(status.as_u16(), 400 | 403 | 429)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Account => "account",
        }
    }
}

/// What a body tells.
enum Told {
    Ours(Refused),
    Request,
}

impl Told {
    fn read(root: Value<'_>) -> Option<Self> {
        // Google answers some paths with an array of one.
        let root = if root.kind() == Kind::Array { root.items().next()? } else { root };
        // Some have the error's members without the error, or only a text for it.
        let error = root.get("error").filter(|error| error.kind() == Kind::Object).unwrap_or(root);
        let metadata = error.get("metadata");
        // What was flagged is told as such: there it stands, or why.
        let is_flagged = metadata
            .is_some_and(|told| ["flagged_input", "reasons"].iter().any(|name| told.get(name).is_some()));
        if is_flagged {
            return Some(Self::Request);
        }
        for reason in reasons(error) {
            match reason.as_str() {
                "authentication_error" | "invalid_api_key" => return Some(Self::Ours(Refused::Key)),
                // Google's names for what is wrong with a key: not valid, expired, not for this service or address.
                reason if reason.starts_with("API_KEY_") => return Some(Self::Ours(Refused::Key)),
                reason if OF_ACCOUNT.contains(&reason) => return Some(Self::Ours(Refused::Account)),
                _ => {}
            }
        }
        let message = text(error, "message").or_else(|| text(root, "error"))?;
        let begins = |list: &[&str]| list.iter().any(|beginning| message.starts_with(beginning));
        match () {
            () if begins(&KEY_BEGINS) => Some(Self::Ours(Refused::Key)),
            () if begins(&ACCOUNT_BEGINS) => Some(Self::Ours(Refused::Account)),
            () if begins(&REQUEST_BEGINS) => Some(Self::Request),
            () => None,
        }
    }
}

/// The words for the reason, where a program looks for them.
fn reasons(error: Value<'_>) -> impl Iterator<Item = String> {
    let own = ["code", "type"].into_iter().filter_map(move |name| text(error, name));
    let details = error.get("details").into_iter().flat_map(Value::items);
    let info = details.filter(|one| one.get("@type").is_some_and(|kind| kind.is_str(ERROR_INFO)));
    own.chain(info.filter_map(|info| text(info, "reason")))
}

/// Which of Google's details names the reason.
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Option<Refused> {
        Refused::read(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    fn google(code: u16, message: &str, status: &str, reason: &str) -> String {
        let info = format!(
            r#"{{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"{reason}","domain":"googleapis.com",
                "metadata":{{"service":"generativelanguage.googleapis.com"}}}}"#
        );
        let details = if reason.is_empty() { String::new() } else { format!(r#","details":[{info}]"#) };
        format!(r#"{{"error":{{"code":{code},"message":"{message}","status":"{status}"{details}}}}}"#)
    }

    fn openai(kind: &str, code: &str, message: &str) -> String {
        format!(r#"{{"error":{{"message":"{message}","type":{kind},"param":null,"code":{code}}}}}"#)
    }

    fn anthropic(kind: &str, message: &str) -> String {
        format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}},"request_id":"req_1"}}"#
        )
    }

    const NO_QUOTA: &str = "You exceeded your current quota, please check your plan and billing details.";

    #[test]
    fn a_key_that_is_not_taken_is_known_in_each_providers_words() {
        let not_valid = google(
            400,
            "API key not valid. Please pass a valid API key.",
            "INVALID_ARGUMENT",
            "API_KEY_INVALID",
        );
        let expired =
            google(400, "API key expired. Please renew the API key.", "INVALID_ARGUMENT", "API_KEY_INVALID");
        let blocked = google(403, "Requests are blocked.", "PERMISSION_DENIED", "API_KEY_SERVICE_BLOCKED");
        let leaked = google(
            403,
            "Your API key was reported as leaked. Please use another API key.",
            "PERMISSION_DENIED",
            "",
        );
        for (status, body) in [
            (401, openai(r#""invalid_request_error""#, r#""invalid_api_key""#, "Incorrect API key provided: sk-a***b.")),
            (401, anthropic("authentication_error", "invalid x-api-key")),
            (401, r#"{"detail":"Unauthorized"}"#.to_owned()),
            (401, r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}"#.to_owned()),
            (401, String::new()),
            (400, not_valid.clone()),
            (400, format!("[{not_valid}\n]")),
            (400, expired),
            (403, blocked),
            (403, leaked),
            (403, r#"{"error":{"message":"Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys","code":403}}"#.to_owned()),
            (400, r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***Yz."}"#.to_owned()),
        ] {
            assert_eq!(read(status, &body), Some(Refused::Key), "{status} {body}");
        }
    }

    #[test]
    fn an_account_without_money_or_rights_is_known_in_each_providers_words() {
        for (status, body) in [
            (429, openai(r#""insufficient_quota""#, r#""insufficient_quota""#, NO_QUOTA)),
            (429, openai(r#""insufficient_quota""#, "null", NO_QUOTA)),
            (429, openai(r#""billing_not_active""#, r#""billing_not_active""#, "Your account is not active, please check your billing details.")),
            (400, openai(r#""invalid_request_error""#, r#""billing_hard_limit_reached""#, "Billing hard limit has been reached")),
            (429, openai(r#""requests""#, r#""billing_hard_limit_reached""#, "Billing hard limit has been reached")),
            (400, anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.")),
            (400, anthropic("invalid_request_error", "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.")),
            (400, anthropic("invalid_request_error", "This organization has been disabled.")),
            (402, anthropic("billing_error", "Billing error")),
            (403, anthropic("permission_error", "Your API key does not have permission to use the specified resource.")),
            (403, anthropic("forbidden", "Request not allowed")),
            (402, r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#.to_owned()),
            (402, r#"{"error":{"message":"This request requires more credits, or fewer max_tokens.","code":402}}"#.to_owned()),
            (403, openai(r#""request_forbidden""#, r#""unsupported_country_region_territory""#, "Country, region, or territory not supported")),
            (403, r#"{"error":{"code":"403","message":"Access denied due to Virtual Network/Firewall rules."}}"#.to_owned()),
            (403, google(403, "Your project has been denied access. Please contact support.", "PERMISSION_DENIED", "")),
            (403, google(403, "Gemini API has not been used in project 1.", "PERMISSION_DENIED", "SERVICE_DISABLED")),
            (400, google(400, "User location is not supported for the API use.", "FAILED_PRECONDITION", "")),
            (429, google(429, "Your prepayment credits are depleted. Please go to AI Studio.", "RESOURCE_EXHAUSTED", "")),
            (403, r#"{"code":"permission-denied","error":"Access to the chat endpoint is denied"}"#.to_owned()),
            (400, openai(r#""Arrearage""#, r#""Arrearage""#, "Access denied, please make sure your account is in good standing.")),
            (403, "<html>403 Forbidden</html>".to_owned()),
            (403, String::new()),
        ] {
            assert_eq!(read(status, &body), Some(Refused::Account), "{status} {body}");
        }
    }

    #[test]
    fn what_the_request_did_is_the_requests() {
        for (status, body) in [
            (403, r#"{"error":{"code":403,"message":"m requires moderation on Openai. Your input was flagged for \"violence\".",
                "metadata":{"reasons":["violence"],"flagged_input":"how to","provider_name":"OpenAI","model_slug":"m"}}}"#.to_owned()),
            (403, r#"{"code":"permission-denied","error":"Content violates usage guidelines. "}"#.to_owned()),
            (403, google(403, "You do not have permission to access the File abc or it may not exist.", "PERMISSION_DENIED", "")),
            (403, google(403, "CachedContent not found (or permission denied)", "PERMISSION_DENIED", "")),
            (400, openai(r#""invalid_request_error""#, "null", "Invalid value: 'API_KEY_INVALID'.")),
            (400, openai(r#""invalid_request_error""#, r#""content_filter""#, "The response was filtered due to the prompt.")),
            (400, anthropic("invalid_request_error", "messages.0.role: unexpected value 'Your credit balance is too low'")),
            (400, google(400, "File abc is not in an ACTIVE state and usage is not allowed.", "FAILED_PRECONDITION", "")),
            (400, r#"{"error":{"message":"bad","details":[{"reason":"API_KEY_INVALID"}],"param":"API_KEY_INVALID"}}"#.to_owned()),
            (400, r#"{"x":{"error":{"code":"insufficient_quota"}}}"#.to_owned()),
            (429, openai(r#""requests""#, r#""rate_limit_exceeded""#, "Rate limit reached for gpt-4o.")),
            (429, anthropic("rate_limit_error", "This request would exceed your account's rate limit.")),
            (429, google(429, NO_QUOTA, "RESOURCE_EXHAUSTED", "")),
            (429, r#"{"error":{"code":"429","message":"Requests have exceeded the call rate limit of your tier."}}"#.to_owned()),
            (429, r#"{"object":"error","message":"Service tier capacity exceeded for this model.","type":"service_tier_capacity_exceeded","code":"3505"}"#.to_owned()),
            (404, openai(r#""invalid_request_error""#, r#""insufficient_quota""#, "x")),
            (500, openai(r#""insufficient_quota""#, r#""insufficient_quota""#, NO_QUOTA)),
            (200, openai(r#""insufficient_quota""#, r#""insufficient_quota""#, NO_QUOTA)),
            (400, String::new()),
            (400, "[]".to_owned()),
            (400, "not JSON: API_KEY_INVALID".to_owned()),
        ] {
            assert_eq!(read(status, &body), None, "{status} {body}");
        }
    }
}
