//! Whose fault a provider's refusal is: what it has against our key or account is no error of the application's, and what
//! it has against a request reaches who made it, as it came.

use super::{spoken, still_server};
use crate::support::server::{CANARY, TestServer};
use crate::support::store::on_both;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, Uri};
use http::Method;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

const FIRST: &str = "refused-first-key-0d1e";
const SECOND: &str = "refused-second-key-77aa";
const POOR: &str = "refused-poor-key-5b2c";

const GOOGLE_KEY: &str = r#"{
  "error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT",
    "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]}
}
"#;
const NO_CREDIT: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."},"request_id":"req_1"}"#;
const NO_QUOTA: &str = r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
const HARD_LIMIT: &str = r#"{"error":{"code":"billing_hard_limit_reached","message":"Billing hard limit has been reached","param":null,"type":"invalid_request_error"}}"#;
const FLAGGED: &str = r#"{"error": {"code": 403, "message": "Your input was flagged", "metadata": {"reasons": ["violence"], "flagged_input": "a \u0022b"}}}"#;
const EXPIRED_FILE: &str = r#"{"error": {"code": 403, "message": "You do not have permission to access the File abc or it may not exist.", "status": "PERMISSION_DENIED"}}"#;
const QUOTED: &str = r#"{"error":{"message":"Unknown model 'API_KEY_INVALID', Your credit balance is too low","type":"invalid_request_error","param":null,"code":null}}"#;
const RATE: &str = r#"{"error":{"message":"Rate limit reached","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;

/// By the model that is asked for: the status, what is said, and what of ours is refused.
const CASES: [(&str, &str, u16, &str, Option<&str>); 11] = [
    ("google-key", "gemini", 400, GOOGLE_KEY, Some("key")),
    ("google-key-elsewhere", "openai", 400, GOOGLE_KEY, Some("key")),
    ("no-credit", "anthropic", 400, NO_CREDIT, Some("account")),
    ("no-quota", "openai", 429, NO_QUOTA, Some("account")),
    ("hard-limit", "openai", 400, HARD_LIMIT, Some("account")),
    ("forbidden", "anthropic", 403, "{}", Some("account")),
    ("flagged", "openai", 403, FLAGGED, None),
    ("expired-file", "gemini", 403, EXPIRED_FILE, None),
    ("quoted", "openai", 400, QUOTED, None),
    ("rate", "openai", 429, RATE, None),
    ("nothing", "openai", 400, "", None),
];

/// More than is read to see whose fault it is.
fn long() -> String {
    format!(r#"{{"error":{{"message":"{}","code":"insufficient_quota"}}}}"#, "x".repeat(65 * 1024))
}

/// A provider that refuses by the model's name, and, of one model, by the key.
#[derive(Clone, Default)]
struct Provider {
    keys: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    async fn register(server: &TestServer) -> Self {
        let this = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answering = this.clone();
        let app = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let answer = answering.answer(&uri, &headers, &body);
            async move { answer }
        });
        tokio::spawn(async { axum::serve(listener, app).await });
        let dialects = json!({"openai": format!("{url}/v1"), "anthropic": url, "gemini": url});
        let made =
            server.admin_post("/api/v1/providers", &json!({"slug": "other", "dialects": dialects})).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
        let key = json!({"name": "main", "secret": FIRST});
        assert_eq!(server.admin_post("/api/v1/providers/other/credentials", &key).await.status, 201);
        this
    }

    fn answer(&self, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let bearer =
            header("authorization").and_then(|value| Some(value.strip_prefix("Bearer ")?.to_owned()));
        let key = bearer.or(header("x-api-key")).or(header("x-goog-api-key")).unwrap();
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let of_path = uri.path().strip_prefix("/v1beta/models/").and_then(|rest| rest.split(':').next());
        let model = asked["model"].as_str().or(of_path).unwrap_or_default().to_owned();
        self.keys.lock().unwrap().push(key.clone());
        if model == "torn" && key == FIRST {
            // It cannot be told whether this refuses the key.
            let half = Ok(Bytes::from_static(GOOGLE_KEY.as_bytes().split_at(40).0));
            let torn = futures_util::stream::iter([half, Err(std::io::Error::other("torn"))]);
            return Response::builder().status(400).body(Body::from_stream(torn)).unwrap();
        }
        let (status, said) = match model.as_str() {
            // A list of models.
            "" if key == POOR => (400, NO_CREDIT.to_owned()),
            "" => (200, r#"{"data":[]}"#.to_owned()),
            "second-only" if key == FIRST => (200, r#"{"choices":[]}"#.to_owned()),
            "second-only" | "torn" => (400, GOOGLE_KEY.to_owned()),
            "long" => (400, long()),
            model => {
                let (.., status, said, _) = CASES.iter().find(|(name, ..)| *name == model).unwrap();
                (*status, (*said).to_owned())
            }
        };
        let answer = Response::builder().status(status).header("content-type", "application/json");
        answer.body(Body::from(said)).unwrap()
    }

    fn keys_seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.keys.lock().unwrap())
    }
}

async fn credential(server: &TestServer, provider: &str) -> String {
    let list = server.admin_get(&format!("/api/v1/providers/{provider}/credentials")).await.json();
    list["items"][0]["id"].as_str().unwrap().to_owned()
}

/// The status and the body of a rotation.
async fn rotate(server: &TestServer, provider: &str, body: &Value) -> (u16, Value) {
    let id = credential(server, provider).await;
    let path = format!("/api/v1/providers/{provider}/credentials/{id}/rotate");
    let answer = server.admin_post(&path, body).await;
    (answer.status.as_u16(), answer.json())
}

/// A request for this model; what it is of the provider's.
fn request(
    server: &TestServer,
    secret: &str,
    dialect: &str,
    model: &str,
) -> http::Request<http_body_util::Full<Bytes>> {
    let messages = json!([{"role": "user", "content": "hi"}]);
    match dialect {
        "gemini" => {
            let body = json!({"contents": [{"parts": [{"text": "hi"}]}]});
            spoken(server, dialect, secret, &format!("/v1beta/models/{model}:generateContent"), &body)
        }
        "anthropic" => {
            let body = json!({"model": model, "messages": messages, "max_tokens": 1});
            spoken(server, dialect, secret, "/v1/messages", &body)
        }
        _ => spoken(
            server,
            dialect,
            secret,
            "/v1/chat/completions",
            &json!({"model": model, "messages": messages}),
        ),
    }
}

on_both! {
    async fn what_is_ours_is_told_and_alarmed_and_what_is_the_requests_passes_as_it_came(test: TestStore) {
        let server = TestServer::start(test).await;
        let provider = Provider::register(&server).await;
        let id = credential(&server, "other").await;
        let (subkey, secret) = server.mint(json!({"models": ["other/*"]})).await;
        for (model, dialect, status, said, refused) in CASES {
            let answer = server.call(request(&server, &secret, dialect, model)).await;
            let entry = server.entries(&subkey).await.pop().unwrap();
            assert_eq!((&entry["upstream_status"], &entry["cost_usd"]), (&json!(status), &json!("0.00")), "{model}: {entry}");
            assert_eq!(provider.keys_seen(), [FIRST], "{model}");
            let Some(refused) = refused else {
                assert_eq!((answer.status.as_u16(), &answer.bytes[..]), (status, said.as_bytes()), "{model}");
                assert_eq!((&entry["outcome"], &entry["rule"]), (&json!("completed"), &json!(null)), "{model}: {entry}");
                continue;
            };
            assert_eq!(answer.header("x-bitting-error"), Some("upstream_credential_error"), "{model}: {}", answer.json());
            assert_eq!((answer.status.as_u16(), answer.header("x-should-retry")), (502, Some("false")), "{model}");
            assert_eq!((&entry["outcome"], &entry["rule"]), (&json!("upstream_failed"), &json!("upstream_credential_error")));
            let alarm = server.alarm_about("upstream_credential", &id).await;
            let told = (&alarm["detail"]["refused"], &alarm["detail"]["status"]);
            assert_eq!(told, (&json!(refused), &json!(status)), "{model}: {alarm}");
            let path = format!("/api/v1/alarms/{}/close", alarm["id"].as_str().unwrap());
            assert_eq!(server.admin_post(&path, &json!({"reason": "seen"})).await.status, 200, "{model}");
        }
        assert_eq!(server.admin_get("/api/v1/alarms?status=open&kind=upstream_credential").await.json()["items"], json!([]));
        server.end().await;
    }

    async fn a_key_that_is_refused_by_what_is_said_gives_way_to_the_other_version(test: TestStore) {
        let server = TestServer::start(test).await;
        let (subkey, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
        let second = json!({"secret": SECOND, "drain_seconds": 600});
        assert_eq!(rotate(&server, "sandbox", &second).await.0, 200);
        server.sandbox.refuse_keys(&[SECOND]);
        let answer = server.call(request(&server, &secret, "gemini", "sandbox-mini")).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        let told = (answer.header("x-bitting-attempts"), answer.header("x-bitting-fallback"));
        assert_eq!(told, (Some("2"), Some("credential")));
        let entry = server.entries(&subkey).await.pop().unwrap();
        assert_eq!(entry["cost_usd"], json!(server.sandbox.bill().cost_usd), "paid once");
        server.alarms_once("credential_fell_back").await;
        // From now on the other goes first.
        let answer = server.call(request(&server, &secret, "gemini", "sandbox-mini")).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-bitting-attempts")), (200, Some("1")));
        server.sandbox.refuse_keys(&[CANARY, SECOND]);
        let answer = server.call(request(&server, &secret, "gemini", "sandbox-mini")).await;
        assert_eq!(answer.refusal(), (502, "upstream_credential_error".to_owned()));
        assert_eq!(answer.header("x-bitting-attempts"), Some("2"));
        assert_eq!(server.entries(&subkey).await.pop().unwrap()["cost_usd"], "0.00");
        server.end().await;
    }
}

#[tokio::test]
async fn what_is_not_about_the_key_is_sent_once_and_passes_as_it_came() {
    let server = still_server(&[]).await;
    let provider = Provider::register(&server).await;
    let (_, secret) = server.mint(json!({"models": ["other/*"]})).await;
    let second = json!({"secret": SECOND, "drain_seconds": 600});
    assert_eq!(rotate(&server, "other", &second).await.0, 200);
    provider.keys_seen();
    let long = long();
    let all = CASES.map(|(model, dialect, status, said, refused)| {
        (model, dialect, status, said, refused == Some("key"))
    });
    for (model, dialect, status, said, is_key) in
        all.into_iter().chain([("long", "openai", 400, long.as_str(), false)])
    {
        let answer = server.call(request(&server, &secret, dialect, model)).await;
        let keys = provider.keys_seen();
        assert_eq!(keys, if is_key { vec![SECOND, FIRST] } else { vec![SECOND] }, "{model}");
        if answer.header("x-bitting-error").is_none() {
            assert_eq!((answer.status.as_u16(), &answer.bytes[..]), (status, said.as_bytes()), "{model}");
        }
    }
    for _ in 0..2 {
        server.call(request(&server, &secret, "openai", "torn")).await;
        assert_eq!(provider.keys_seen(), [SECOND, FIRST], "nobody knows that the other key was taken");
    }
    let answer = server.call(request(&server, &secret, "openai", "second-only")).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-bitting-attempts")), (200, Some("2")));
    assert_eq!(provider.keys_seen(), [SECOND, FIRST]);
    let answer = server.call(request(&server, &secret, "openai", "second-only")).await;
    assert_eq!((answer.status.as_u16(), provider.keys_seen()), (200, vec![FIRST.to_owned()]), "preferred");
}

#[tokio::test]
async fn a_key_without_money_does_not_take_over() {
    let server = still_server(&[]).await;
    let provider = Provider::register(&server).await;
    let (status, body) = rotate(&server, "other", &json!({"secret": POOR})).await;
    assert_eq!((status, &body["code"]), (409, &json!("credential_not_accepted")), "{body}");
    assert_eq!(provider.keys_seen(), [POOR]);
    // Google's way to refuse a key, in its own dialect.
    let own = json!({"dialects": {"openai": null, "anthropic": null}});
    assert_eq!(server.admin_call(Method::PATCH, "/api/v1/providers/sandbox", Some(&own)).await.status, 200);
    let (status, body) = rotate(&server, "sandbox", &json!({"secret": "sandbox-bad-key"})).await;
    assert_eq!((status, &body["code"]), (409, &json!("credential_not_accepted")), "{body}");
}
