//! A document means what it says, or names the field that does not.

use super::*;
use serde_json::{Value, json};

fn read(document: Value) -> Result<Provider, String> {
    let document: ProviderDocument = serde_json::from_value(document).map_err(|error| error.to_string())?;
    document.check(&CidrSet::default()).map_err(|error| error.field())
}

#[test]
fn a_plain_string_is_short_for_a_base_url_and_the_rest_is_the_dialects_own() {
    let provider = read(json!({"slug": "local", "dialects": {
        "openai": "https://h.example/v1/",
        "anthropic": {"base_url": "https://h.example/v1", "auth": "bearer"},
        "gemini": {"base_url": "https://h.example", "headers": {"X-Region": "eu"}, "query": {"api-version": "1"}},
    }}))
    .unwrap();
    let of = |dialect| &provider.dialects[&dialect];
    assert_eq!((of(Dialect::OpenAi).auth, of(Dialect::OpenAi).base_url.path()), (AuthScheme::Bearer, "/v1"));
    assert_eq!(
        (of(Dialect::Anthropic).auth, of(Dialect::Anthropic).base_url.path()),
        (AuthScheme::Bearer, "")
    );
    assert_eq!(of(Dialect::Gemini).auth, AuthScheme::XGoogApiKey);
    assert_eq!(of(Dialect::Gemini).headers["x-region"], "eu");
    assert!(provider.supports_stream_options);
    assert_eq!((provider.on_client_gone, provider.timeouts.connect_ms), (OnClientGone::Cancel, 5_000));
    let shown = serde_json::to_value(ProviderDocument::from(&provider)).unwrap();
    assert_eq!(read(shown).unwrap(), provider, "what is shown is taken again");
}

#[test]
fn what_is_wrong_is_named_by_its_field() {
    let with = |endpoint: Value| read(json!({"slug": "p", "dialects": {"openai": endpoint}})).unwrap_err();
    assert_eq!(with(json!("http://127.0.0.1")), "/dialects/openai/base_url");
    for name in [
        "Authorization",
        "X-Api-Key",
        "api-key",
        "host",
        "Cookie",
        "x-my-token",
        "content-length",
        "a b",
        "",
        "x-bitting-tag-a",
    ] {
        let endpoint = json!({"base_url": "https://h.example", "headers": {name: "v"}});
        assert_eq!(with(endpoint), "/dialects/openai/headers", "{name}");
    }
    for value in ["a\nb", "ä", " a", "a\u{0}"] {
        let endpoint = json!({"base_url": "https://h.example", "headers": {"x-a": value}});
        assert_eq!(with(endpoint), "/dialects/openai/headers", "{value:?}");
    }
    let twice = json!({"base_url": "https://h.example", "headers": {"x-a": "1", "X-A": "2"}});
    assert_eq!(with(twice), "/dialects/openai/headers");
    for name in ["key", "api_KEY", "access_token", ""] {
        let endpoint = json!({"base_url": "https://h.example", "query": {name: "v"}});
        assert_eq!(with(endpoint), "/dialects/openai/query", "{name}");
    }
    assert_eq!(read(json!({"slug": "p", "dialects": {}})).unwrap_err(), "/dialects");
    let zero = json!({"slug": "p", "dialects": {"openai": "https://h.example"}, "timeouts": {"idle_ms": 0}});
    assert_eq!(read(zero).unwrap_err(), "/timeouts");
}

#[test]
fn unknown_fields_dialects_and_schemes_are_refused() {
    for document in [
        json!({"slug": "p", "dialects": {"openai": "https://h.example"}, "base_url": "x"}),
        json!({"slug": "p", "dialects": {"cohere": "https://h.example"}}),
        json!({"slug": "p", "dialects": {"openai": {"base_url": "https://h.example", "key": "x"}}}),
        json!({"slug": "p", "dialects": {"openai": {"base_url": "https://h.example", "auth": "basic"}}}),
        json!({"slug": "p", "dialects": {"openai": {}}}),
        json!({"slug": "p", "dialects": {"openai": 1}}),
        json!({"slug": "p/q", "dialects": {"openai": "https://h.example"}}),
    ] {
        assert!(serde_json::from_value::<ProviderDocument>(document.clone()).is_err(), "{document}");
    }
}

#[test]
fn a_deployment_is_one_segment_of_a_path() {
    let with = |deployment: &str| {
        let deployments = json!({"gpt-4o": deployment, "org/model:free": "fine"});
        read(json!({"slug": "p", "dialects": {"openai": "https://h.example"}, "deployments": deployments}))
    };
    for fine in ["gpt-4o", "My_Deployment.2~a", "...a"] {
        assert_eq!(with(fine).unwrap().deployments["gpt-4o"], fine);
    }
    let long = "a".repeat(129);
    for bad in [
        "", ".", "..", "a/b", "a?b", "a#b", "a%2fb", "a\\b", "a b", "a;b", "a:b", "a@b", "\u{e9}", "{x}",
        &long,
    ] {
        assert_eq!(with(bad), Err("/deployments".to_owned()), "{bad}");
    }
}
