//! Which provider a name means, with two that serve the same.

use super::spoken;
use crate::support::server::{TestServer, chat};
use crate::support::store::{TestStore, on_both};
use bitting::base::Clock;
use http::Method;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// A server with a second provider `twin` before the same sandbox, under another key, and `plain`, which
/// speaks OpenAI's dialect only.
async fn with_twin(test: TestStore) -> TestServer {
    with_twin_of(TestServer::start(test).await).await
}

async fn with_twin_of(server: TestServer) -> TestServer {
    let url = &server.sandbox_url;
    let all = json!({"openai": format!("{url}/v1"), "anthropic": url, "gemini": url});
    for (slug, dialects) in [("twin", all), ("plain", json!({"openai": format!("{url}/v1")}))] {
        let made = server.admin_post("/api/v1/providers", &json!({"slug": slug, "dialects": dialects})).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
        let key = json!({"name": "main", "secret": format!("sandbox-{slug}-key")});
        let made = server.admin_post(&format!("/api/v1/providers/{slug}/credentials"), &key).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
    }
    put_model(&server, "twin/sandbox-mini", &json!([])).await;
    put_model(&server, "plain/sandbox-plain", &json!(["house"])).await;
    server
}

async fn put_model(server: &TestServer, name: &str, aliases: &Value) {
    let document = json!({
        "operations": ["chat"], "aliases": aliases, "context_window": 1000, "max_output_tokens": 100,
        "prices": {"input_per_mtok_usd": "1", "output_per_mtok_usd": "2"},
    });
    let put = server.admin_call(Method::PUT, &format!("/api/v1/models/{name}"), Some(&document)).await;
    assert!(put.status.is_success(), "{:?}", put.json());
}

/// Who the last request was sent as.
fn served_by(server: &TestServer) -> (String, String) {
    let last = server.sandbox.requests().pop().unwrap();
    let key = last.header("authorization").or(last.header("x-api-key")).unwrap().to_owned();
    let slug = ["twin", "plain"].into_iter().find(|slug| key.ends_with(&format!("sandbox-{slug}-key")));
    let body: Value = serde_json::from_str(&last.body).unwrap();
    (slug.unwrap_or("sandbox").to_owned(), body["model"].as_str().unwrap().to_owned())
}

on_both! {
    async fn p2_one_gate_sends_a_name_with_two_meanings_to_nobody(test: TestStore) {
        let server = with_twin(test).await;
        let all = json!({"models": ["sandbox/*", "twin/*", "plain/*"]});
        let (id, secret) = server.mint(all).await;
        let answer = server.chat(&secret, "sandbox-mini").await;
        assert_eq!(answer.refusal(), (400, "model_ambiguous".to_owned()));
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("sandbox/sandbox-mini") && message.contains("twin/sandbox-mini"), "{message}");
        // Nobody is known to serve it, and three could.
        assert_eq!(server.chat(&secret, "sandbox-whatever").await.refusal(), (400, "model_ambiguous".to_owned()));
        assert!(server.sandbox.requests().is_empty());
        assert_eq!(server.entries(&id).await.len(), 2);

        let asked = |path: &str, model: &str| server.proxied(&secret, path, chat(model).to_string());
        for (path, model, provider, arrives) in [
            (CHAT, "twin/sandbox-mini", "twin", "sandbox-mini"),
            (CHAT, "sandbox/sandbox-mini", "sandbox", "sandbox-mini"),
            ("/p/twin/v1/chat/completions", "sandbox-mini", "twin", "sandbox-mini"),
            ("/p/twin/v1/messages", "sandbox-mini", "twin", "sandbox-mini"),
            ("/p/sandbox/v1/messages", "sandbox-mini", "sandbox", "sandbox-mini"),
            (CHAT, "sandbox-plain", "plain", "sandbox-plain"),
            (CHAT, "house", "plain", "sandbox-plain"),
            (CHAT, "plain/house", "plain", "sandbox-plain"),
            ("/p/plain/v1/chat/completions", "house", "plain", "sandbox-plain"),
            (CHAT, "sandbox-dated", "sandbox", "sandbox-dated"),
        ] {
            let answer = server.call(asked(path, model)).await;
            assert_eq!(answer.status, 200, "{path} {model}: {}", answer.json());
            assert_eq!(served_by(&server), (provider.to_owned(), arrives.to_owned()), "{path} {model}");
            assert_eq!((answer.header("x-bitting-provider"), answer.header("x-bitting-model")), (Some(provider), Some(arrives)));
            assert_eq!(answer.header("x-bitting-changed"), (model != arrives).then_some("model"), "{path} {model}");
            let entry = server.entries(&id).await.pop().unwrap();
            assert_eq!(
                (&entry["model_requested"], &entry["model"], &entry["provider"]),
                (&json!(model), &json!(arrives), &json!(provider))
            );
        }
    }
}

#[tokio::test]
async fn the_keys_order_decides_between_providers_that_are_known_to_serve() {
    let server = with_twin(TestStore::sqlite().await).await;
    for (order, provider) in [(json!(["twin", "sandbox"]), "twin"), (json!(["openai", "sandbox"]), "sandbox")]
    {
        let (_, secret) = server.mint(json!({"models": ["*"], "provider_order": order})).await;
        let answer = server.chat(&secret, "sandbox-mini").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-bitting-provider")), (200, Some(provider)));
        assert_eq!(served_by(&server).0, provider);
    }
    // A key that may use one of them means that one.
    for models in ["twin/*", "sandbox/*"] {
        let (_, secret) = server.mint(json!({"models": [models]})).await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        assert_eq!(format!("{}/*", served_by(&server).0), models);
    }
    // One that is out of service is no meaning.
    let (_, secret) = server.mint(json!({"models": ["*"]})).await;
    let suspended = server.admin_call(Method::POST, "/api/v1/providers/twin/suspend", None).await;
    assert_eq!(suspended.status, 200, "{:?}", suspended.json());
    assert_eq!(server.chat(&secret, "sandbox-mini").await.header("x-bitting-provider"), Some("sandbox"));
    let before = server.sandbox.requests().len();
    assert_eq!(server.chat(&secret, "twin/sandbox-mini").await.refusal().0, 403);
    assert_eq!(server.sandbox.requests().len(), before);
}

#[tokio::test]
async fn after_the_keys_order_comes_its_projects_then_the_configurations() {
    let order = [("BITTING_PROVIDER_ORDER", "plain,twin,sandbox")];
    let store = TestStore::sqlite().await;
    let server = with_twin_of(TestServer::start_with(store, Clock::system(), &order).await).await;
    let parent = json!({"slug": "parent", "defaults": {"provider_order": ["sandbox"]}});
    let child = json!({"slug": "child", "parent": "parent", "defaults": {"provider_order": ["openai"]}});
    for project in [parent, child] {
        let made = server.admin_post("/api/v1/projects", &project).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
    }
    for (project, own, provider) in [
        ("default", json!([]), "twin"),
        ("default", json!(["sandbox"]), "sandbox"),
        ("child", json!([]), "sandbox"),
        ("child", json!(["twin"]), "twin"),
        ("child", json!(["plain"]), "sandbox"),
    ] {
        let key = json!({"models": ["*"], "project": project, "provider_order": own});
        let (id, secret) = server.mint(key).await;
        let answer = server.chat(&secret, "sandbox-mini").await;
        assert_eq!(answer.header("x-bitting-provider"), Some(provider), "{project} {own}: {}", answer.json());
        let asked = json!({"operation": "chat", "model": "sandbox-mini"});
        let explained = server.admin_post(&format!("/api/v1/subkeys/{id}/explain"), &asked).await.json();
        let trace = explained["trace"].as_array().unwrap().clone();
        let models = trace.iter().find(|step| step["rule"] == "models").unwrap();
        assert_eq!(models["value"], format!("{provider}/sandbox-mini"), "{explained}");
    }
}

on_both! {
    async fn p6_faithful_raises_an_alarm_when_another_model_answers(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(json!({"models": ["sandbox/*"]})).await;
        for model in ["sandbox-mini", "sandbox-dated", "sandbox-mini+status=500"] {
            server.chat(&secret, model).await;
        }
        let whole = server.chat(&secret, "sandbox-mini+serve_other").await;
        assert_eq!(whole.header("x-bitting-model-reported"), Some("sandbox-other"));
        let mut streamed = chat("sandbox-large+serve_other");
        streamed["stream"] = json!(true);
        assert_eq!(server.post(&secret, CHAT, &streamed).await.status, 200);
        let entry = server.entries(&id).await.pop().unwrap();
        assert_eq!(entry["model_reported"], "sandbox-other", "{entry}");
        let subjects = ["sandbox/sandbox-mini+serve_other", "sandbox/sandbox-large+serve_other"];
        for subject in subjects {
            let alarm = server.alarm_about("model_substituted", subject).await;
            assert_eq!(alarm["detail"]["served"], "sandbox-other", "{alarm}");
        }
        // The names that providers give one model are no alarm.
        assert_eq!(server.alarms_once("model_substituted").await.len(), subjects.len());
    }
}

#[tokio::test]
async fn nothing_is_translated_between_dialects() {
    let server = with_twin(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({"models": ["*"]})).await;
    for (path, model) in [
        ("/v1/messages", "plain/sandbox-plain"),
        ("/v1/messages", "house"),
        ("/p/plain/v1/messages", "sandbox-plain"),
    ] {
        let answer = server.call(spoken(&server, "anthropic", &secret, path, &chat(model))).await;
        assert_eq!(
            answer.refusal(),
            (400, "dialect_not_supported".to_owned()),
            "{path} {model}: {}",
            answer.json()
        );
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
    assert_eq!(
        server.post(&secret, "/v1/embeddings", &json!({"model": "house", "input": "a"})).await.refusal().0,
        403
    );
    assert_eq!(
        server.post(&secret, CHAT, &chat("sandbox-embedding")).await.refusal().1,
        "operation_not_allowed"
    );
    assert!(server.sandbox.requests().is_empty());
}

#[tokio::test]
async fn a_provider_in_the_path_gives_no_more_than_the_key_has() {
    let server = with_twin(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({"models": ["sandbox/sandbox-mini"]})).await;
    for (path, model) in [
        ("/p/twin/v1/chat/completions", "sandbox-mini"),
        ("/p/sandbox/v1/chat/completions", "sandbox-dated"),
        ("/p/twin/v1/chat/completions", "sandbox/sandbox-mini"),
        (CHAT, "twin/sandbox-mini"),
        (CHAT, "house"),
        ("/p/openai/v1/chat/completions", "gpt-4o"),
    ] {
        let answer = server.call(server.proxied(&secret, path, chat(model).to_string())).await;
        assert_eq!(answer.refusal(), (403, "model_not_allowed".to_owned()), "{path} {model}");
    }
    assert!(server.sandbox.requests().is_empty());
}
