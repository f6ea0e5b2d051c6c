//! Which headers pass, in both directions. Both lists are allow lists: what is not named is not sent.

use crate::base::hide_tokens;
use crate::provider::Usage;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

const REQUEST_PASSED: [&str; 10] = [
    "content-type",
    "accept",
    "user-agent",
    "anthropic-version",
    "anthropic-beta",
    "anthropic-workspace-id",
    "openai-beta",
    "x-goog-api-client",
    "x-client-request-id",
    "traceparent",
];

const ANSWER_PASSED: [&str; 5] =
    ["request-id", "x-request-id", "retry-after", "retry-after-ms", "x-should-retry"];

/// The client's headers that go to the provider, unchanged.
pub(super) fn request_headers(client: &HeaderMap) -> HeaderMap {
    let named_by_connection: Vec<String> = client
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let is_passed = |name: &HeaderName| {
        let name = name.as_str();
        let listed = REQUEST_PASSED.contains(&name) || name.starts_with("x-stainless-");
        listed && !named_by_connection.iter().any(|other| other == name)
    };
    let passed = client.iter().filter(|(name, _)| is_passed(name));
    passed.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The provider's headers that go to the client. None of them can hold a credential.
pub(super) fn answer_headers(provider: &HeaderMap) -> HeaderMap {
    let is_passed = |name: &HeaderName| {
        let name = name.as_str();
        let sized_by_us = name == "content-length";
        let listed = ANSWER_PASSED.contains(&name)
            || name.starts_with("content-")
            || name.contains("ratelimit")
            || name.ends_with("-processing-ms")
            || name.ends_with("-version");
        listed && !sized_by_us && !name.starts_with("x-bitting-")
    };
    let passed = provider.iter().filter(|(name, _)| is_passed(name));
    passed.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The request's own tags: `x-bitting-tag-NAME: value`, at most 8 of 64 bytes each. They go to the log
/// and never upstream. What does not fit the bounds is an error that says so.
pub(super) fn tags(client: &HeaderMap) -> Result<std::collections::BTreeMap<String, String>, String> {
    let mut tags = std::collections::BTreeMap::new();
    for (name, value) in client {
        let Some(tag) = name.as_str().strip_prefix("x-bitting-tag-") else { continue };
        let text = value.to_str().unwrap_or("");
        if tag.is_empty() || tag.len() > 64 || text.is_empty() || text.len() > 64 {
            return Err(format!("{name}: a tag's name and value have 1 to 64 printable bytes each"));
        }
        tags.insert(tag.to_owned(), hide_tokens(text).into_owned());
    }
    if tags.len() > 8 { Err("at most 8 x-bitting-tag-* headers".to_owned()) } else { Ok(tags) }
}

/// Puts a header in whose value we made ourselves.
pub(super) fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// All tokens of an answer, for token rates.
pub(super) fn tokens_of(usage: &Usage) -> u64 {
    let Usage {
        input,
        cached_input,
        cache_write,
        cache_write_1h,
        audio_input,
        image_input,
        output,
        reasoning: _,
        audio_output,
        image_output,
        pictures: _,
        characters: _,
        seconds: _,
    } = *usage;
    let inputs = [input, cached_input, cache_write, cache_write_1h, audio_input, image_input];
    inputs.into_iter().chain([output, audio_output, image_output]).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_listed_request_headers_pass() {
        let client = map(&[
            ("content-type", "application/json"),
            ("x-stainless-lang", "python"),
            ("anthropic-beta", "a"),
            ("authorization", "Bearer bk"),
            ("x-api-key", "bk"),
            ("cookie", "a=b"),
            ("forwarded", "for=1.2.3.4"),
            ("proxy-authorization", "x"),
            ("openai-organization", "org"),
            ("x-custom", "x"),
            ("connection", "keep-alive, Traceparent"),
            ("traceparent", "00-1"),
            ("x-bitting-tag-team", "search"),
        ]);
        let passed = request_headers(&client);
        let mut names: Vec<&str> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["anthropic-beta", "content-type", "x-stainless-lang"]);
    }

    #[test]
    fn only_listed_answer_headers_pass() {
        let provider = map(&[
            ("content-type", "application/json"),
            ("content-length", "5"),
            ("x-ratelimit-remaining-requests", "9"),
            ("anthropic-ratelimit-tokens-limit", "9"),
            ("openai-processing-ms", "12"),
            ("openai-version", "2020-10-01"),
            ("openai-organization", "org"),
            ("set-cookie", "a=b"),
            ("location", "https://evil"),
            ("alt-svc", "h3"),
            ("x-echo", "sk-real"),
        ]);
        let passed = answer_headers(&provider);
        assert_eq!(passed.len(), 5, "{passed:?}");
        assert!(!passed.contains_key("openai-organization") && !passed.contains_key("x-echo"));
    }

    #[test]
    fn tags_are_bounded() {
        assert_eq!(
            tags(&map(&[("x-bitting-tag-team", "search"), ("x-other", "x")])).unwrap()["team"],
            "search"
        );
        assert!(tags(&map(&[("x-bitting-tag-team", "")])).is_err());
    }
}
