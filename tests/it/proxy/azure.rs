//! Azure's addresses: clients that use them, and providers that have them.

use crate::support::server::{Answer, TestServer, chat};
use crate::support::store::TestStore;
use serde_json::{Value, json};

const VERSION: &str = "api-version=2024-10-21";

async fn asked(server: &TestServer, secret: &str, path: &str, model: Option<&str>) -> Answer {
    let mut body = chat(model.unwrap_or_default());
    if model.is_none() {
        body.as_object_mut().unwrap().remove("model");
    }
    server.call(server.proxied(secret, path, body.to_string())).await
}

/// The path, and the body's model, of the last request that arrived.
fn arrived(server: &TestServer) -> (String, Value) {
    let last = server.sandbox.requests().pop().unwrap();
    let body: Value = serde_json::from_str(&last.body).unwrap();
    (last.path.clone(), body["model"].clone())
}

#[tokio::test]
async fn a_deployment_in_the_path_is_the_model_wherever_it_is_served() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (id, secret) = server.mint(json!({})).await;
    let deployed = format!("/openai/deployments/sandbox-mini/chat/completions?{VERSION}");
    for (path, model, changed) in [
        (deployed.as_str(), None, Some("model")),
        (deployed.as_str(), Some("sandbox-mini"), None),
        ("/p/sandbox/openai/deployments/sandbox-mini/chat/completions", None, Some("model")),
        ("/openai/v1/chat/completions?api-version=preview", Some("sandbox-mini"), None),
    ] {
        let answer = asked(&server, &secret, path, model).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.json());
        // Azure's version of its API is no part of anybody else's address.
        assert_eq!(arrived(&server), ("/v1/chat/completions".to_owned(), json!("sandbox-mini")), "{path}");
        assert_eq!(answer.header("x-bitting-changed"), changed, "{path}");
    }
    let before = server.sandbox.requests().len();
    let other = asked(&server, &secret, &deployed, Some("sandbox-large")).await;
    assert_eq!(other.refusal(), (400, "model_ambiguous".to_owned()));
    let (_, narrow) = server.mint(json!({"models": ["sandbox/sandbox-large"]})).await;
    assert_eq!(
        asked(&server, &narrow, &deployed, None).await.refusal(),
        (403, "model_not_allowed".to_owned())
    );
    assert_eq!(server.sandbox.requests().len(), before);
    let entry = server.entries(&id).await.pop().unwrap();
    assert_eq!(entry["model_requested"], "sandbox-mini");
}

#[tokio::test]
async fn a_provider_that_names_deployments_is_reached_by_the_models_name() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let url = &server.sandbox_url;
    let endpoint = json!({"base_url": format!("{url}/openai"), "auth": "api-key",
        "query": {"api-version": "2025-01-01"}});
    let deployments = json!({"gpt-house": "ours"});
    let document = json!({"slug": "azure", "dialects": {"openai": endpoint}, "deployments": deployments});
    assert_eq!(server.admin_post("/api/v1/providers", &document).await.status, 201);
    let key = json!({"name": "main", "secret": "sandbox-azure-key"});
    assert_eq!(server.admin_post("/api/v1/providers/azure/credentials", &key).await.status, 201);
    let (_, secret) = server.mint(json!({"models": ["azure/*"]})).await;
    let told = |path: &str, version: &str| {
        format!("/openai/deployments/{path}/chat/completions?api-version={version}")
    };
    for model in ["ours", "OURS"] {
        let refused = asked(&server, &secret, "/p/azure/v1/chat/completions", Some(model)).await;
        assert_eq!(refused.refusal(), (403, "model_not_allowed".to_owned()), "a deployment is no model");
        assert!(refused.json()["error"]["message"].as_str().unwrap().contains("gpt-house"));
        assert!(server.sandbox.requests().is_empty());
    }
    for (path, model, arrives) in [
        ("/v1/chat/completions", Some("azure/gpt-house"), told("ours", "2025-01-01")),
        ("/p/azure/v1/chat/completions", Some("gpt-house"), told("ours", "2025-01-01")),
        ("/p/azure/v1/chat/completions", Some("an/other model"), told("an%2Fother%20model", "2025-01-01")),
        (&told("ours", "2024-10-21"), None, told("ours", "2024-10-21")),
        (&told("ours", "2024-10-21"), Some("gpt-house"), told("ours", "2024-10-21")),
    ] {
        asked(&server, &secret, path, model).await;
        let last = server.sandbox.requests().pop().unwrap();
        assert_eq!(last.header("api-key"), Some("sandbox-azure-key"), "{path}");
        let query = last.query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
        assert_eq!(format!("{}{query}", last.path), arrives, "{path}");
    }
    // Azure's own clients say the deployment in the body too: nothing is to be changed there.
    let answer = asked(&server, &secret, &told("ours", "2024-10-21"), Some("ours")).await;
    assert_eq!(answer.header("x-bitting-changed"), None);
    assert_eq!(arrived(&server).1, json!("ours"));
}

#[tokio::test]
async fn what_is_known_and_not_served_is_refused_as_such_and_queries_are_never_dropped() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({})).await;
    for path in ["/v1/batches", "/v1/messages/batches", "/v1beta/models/sandbox-mini:batchGenerateContent"] {
        let answer = asked(&server, &secret, path, Some("sandbox-mini")).await;
        assert_eq!(answer.refusal().0, 403, "{path}");
        assert_eq!(answer.header("x-bitting-error"), Some("operation_not_allowed"), "{path}");
    }
    for query in ["base_url=http://evil", "api-version=1", "x", "model=other"] {
        let path = format!("/v1/chat/completions?{query}");
        let answer = asked(&server, &secret, &path, Some("sandbox-mini")).await;
        assert_eq!(answer.refusal(), (400, "invalid_body".to_owned()), "{query}");
    }
    let (_, elsewhere) = server.mint(json!({"ip_allow": ["192.0.2.0/24"]})).await;
    let answer = asked(&server, &elsewhere, "/v1/nothing", None).await;
    assert_eq!(answer.refusal(), (403, "ip_not_allowed".to_owned()));
    assert_eq!(asked(&server, &secret, "/v1/nothing", None).await.refusal().0, 404);
    assert!(server.sandbox.requests().is_empty());
}
