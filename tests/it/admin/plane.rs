//! The admin plane over a fresh installation, as its tests ask it.

use crate::support::store::TestStore;
use axum::Router;
use axum::body::Body;
use bitting::app::kek::FileKek;
use bitting::base::{CidrSet, Clock, Entropy};
use bitting::http::{BodyBound, BodyRoom};
use bitting::provider::Provider;
use bitting::service::{
    self, Actor, KeyProbe, LedgerLimits, Metrics, NoticeSettings, ProbeError, RegistryLimits, Role, Services,
    Settings, Trial,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// A provider key that must be found nowhere.
pub(crate) const CANARY: &str = "sk-canary-5f1c7a9e";

/// The plane, and what runs it.
pub(crate) struct Plane {
    pub(crate) services: Services,
    pub(crate) clock: Clock,
    pub(crate) owner: String,
    app: Router,
    _test: TestStore,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text))
    }

    /// The body of an answer of this status.
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// Status, code and first field of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String, String) {
        let body = self.json();
        assert_eq!(self.headers["content-type"], "application/problem+json", "{body}");
        assert_eq!(body["status"], self.status);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (self.status, text(&body["code"]), text(&body["errors"][0]["field"]))
    }
}

/// No provider can be asked anything here.
struct NoNetwork;

impl KeyProbe for NoNetwork {
    fn probe<'a>(&'a self, _: Trial<'a>) -> BoxFuture<'a, Result<(), ProbeError>> {
        let reason = "there is no network".to_owned();
        Box::pin(async { Err(ProbeError::NoAnswer { reason }) })
    }

    fn model_list<'a>(&'a self, _: &'a Provider) -> BoxFuture<'a, Result<String, ProbeError>> {
        let reason = "there is no network".to_owned();
        Box::pin(async { Err(ProbeError::NoAnswer { reason }) })
    }
}

pub(crate) fn now() -> DateTime<Utc> {
    "2026-11-22T16:00:00Z".parse().unwrap()
}

/// What services are told where there is no network and no server around them.
pub(crate) fn settings(clock: Clock, entropy: Entropy, private: &[&str], folder: &Path) -> Settings {
    Settings {
        clock,
        entropy,
        node: "test".to_owned(),
        private_upstreams: CidrSet::parse(private).unwrap(),
        provider_order: Vec::new(),
        key_probe: Arc::new(NoNetwork),
        credential_drain: TimeDelta::minutes(15),
        metrics: Metrics::new().unwrap(),
        durability: bitting::service::Durability::BeforeAnswer,
        notices: NoticeSettings { has_webhook: false, waiting_max: 100 },
        ledger: LedgerLimits { queue_commands: 64, waiting_max: 16, wait: Duration::from_millis(50) },
        registry: RegistryLimits {
            cached_max: 100,
            unknown_max: 100,
            unknown_for: TimeDelta::seconds(5),
            concurrent_default: 16,
        },
        checkpoint: folder.join("checkpoint"),
    }
}

impl Plane {
    pub(crate) async fn new(test: TestStore) -> Self {
        Self::with_private(test, &[]).await
    }

    pub(crate) async fn with_private(test: TestStore, private: &[&str]) -> Self {
        let (clock, entropy) = (Clock::manual(now()), Entropy::new());
        let kek = Arc::new(FileKek::new(test.folder.path().join("kek")));
        let installed = service::install(&test.store, kek.as_ref(), &clock, &entropy).await.ok().unwrap();
        let settings = settings(clock.clone(), entropy, private, test.folder.path());
        let tasks = TaskTracker::new();
        let services = Services::start(test.store.clone(), kek, settings, &tasks).await.ok().unwrap();
        let (read_timeout, room) = (Duration::from_secs(5), BodyRoom::new(64 << 20));
        let bound = BodyBound { bytes_max: 256 * 1024, read_timeout, room };
        let app = bitting::admin::router(
            services.clone(),
            bound.clone(),
            BodyBound { bytes_max: 16 << 20, ..bound },
        );
        let owner = installed.operator_token.expose().clone();
        Self { services, clock, owner, app, _test: test }
    }

    /// Makes an operator and returns its token.
    pub(crate) async fn operator(&self, role: Role, projects: Option<&[&str]>) -> String {
        self.operator_until(role, projects, None).await
    }

    pub(crate) async fn operator_until(
        &self,
        role: Role,
        projects: Option<&[&str]>,
        expires_at: Option<DateTime<Utc>>,
    ) -> String {
        let name = format!("{}-{}", role.as_str(), Entropy::new().base62(6));
        let projects = projects.map(|list| list.iter().map(|one| (*one).to_owned()).collect());
        let made = self.services.create_operator(&Actor::local(), &name, &[role], projects, expires_at).await;
        made.ok().unwrap().1.expose().clone()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(!text.contains(CANARY), "a provider key is in an answer: {text}");
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    /// Asks as the owner.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.ask_with(method, path, body, &[("authorization", &format!("Bearer {}", self.owner))]).await
    }

    /// Asks as the holder of a token.
    pub(crate) async fn ask_as(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.ask_with(method, path, body, &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// Asks as the owner with one more header.
    pub(crate) async fn ask_also(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        header: (&str, &str),
    ) -> Answer {
        let token = format!("Bearer {}", self.owner);
        self.ask_with(method, path, body, &[("authorization", &token), header]).await
    }

    pub(crate) async fn ask_with(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            None => Body::empty(),
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
        };
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).await.expect(200)
    }

    /// Mints a sub-key of this name with these more fields; the whole answer.
    pub(crate) async fn mint(&self, name: &str, more: Value) -> Value {
        let mut body = json!({"name": name, "models": ["*"]});
        for (field, value) in more.as_object().unwrap() {
            body[field] = value.clone();
        }
        self.ask("POST", "/api/v1/subkeys", Some(body)).await.expect(201)
    }

    /// Mints a sub-key and returns its id.
    pub(crate) async fn minted(&self, name: &str) -> String {
        self.mint(name, json!({})).await["subkey"]["id"].as_str().unwrap().to_owned()
    }

    /// Puts the canary in as a key of a provider and returns the credential's id.
    pub(crate) async fn credential(&self, provider: &str, name: &str) -> String {
        let path = format!("/api/v1/providers/{provider}/credentials");
        let answer = self.ask("POST", &path, Some(json!({"name": name, "secret": CANARY}))).await;
        answer.expect(201)["id"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn names(list: &Value, field: &str) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}
