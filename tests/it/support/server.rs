//! A whole server in the test's process: both planes on real sockets, over a real store, with the
//! simulated provider behind it, and an owner's token.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::store::TestStore;
use bitting::app::kek::FileKek;
use bitting::app::server::Server;
use bitting::base::{Clock, Entropy};
use bitting::config::{Overrides, Settings};
use bitting::sandbox::Sandbox;
use bitting::service;
use bitting::store::Store;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A server under test. Dropped, everything in it ends.
pub(crate) struct TestServer {
    pub(crate) proxy: String,
    pub(crate) admin: String,
    pub(crate) sandbox: Sandbox,
    pub(crate) sandbox_url: String,
    pub(crate) token: String,
    pub(crate) clock: Clock,
    pub(crate) store: TestStore,
    pub(crate) services: service::Services,
    kek: Arc<FileKek>,
    sandbox_stop: CancellationToken,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: CancellationToken,
    environment: Vec<(String, String)>,
    running: Option<JoinHandle<()>>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status and code of a refusal in any dialect, or of a problem.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let body = self.json();
        let code = body["error"]["code"].as_str().or(body["error"]["details"][0]["reason"].as_str());
        let code = code.or(body["code"].as_str()).unwrap_or("").to_owned();
        (self.status.as_u16(), code)
    }
}

impl TestServer {
    /// Starts one by the real clock, with the sandbox registered as the provider `sandbox`.
    pub(crate) async fn start(store: TestStore) -> Self {
        Self::start_with(store, Clock::system(), &[]).await
    }

    /// Starts one by another clock, with settings as the environment would give them.
    pub(crate) async fn start_with(store: TestStore, clock: Clock, environment: &[(&str, &str)]) -> Self {
        let entropy = Entropy::new();
        let kek = Arc::new(FileKek::new(store.folder.path().join("kek")));
        let installed = service::install(&store.store, kek.as_ref(), &clock, &entropy).await.unwrap();
        let token = installed.operator_token.expose().clone();
        let (sandbox, listener) =
            (Sandbox::new(clock.clone()), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let sandbox_url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, sandbox_stop) = (CancellationToken::new(), CancellationToken::new());
        let stopped = sandbox_stop.clone();
        tokio::spawn(bitting::sandbox::serve(
            listener,
            sandbox.clone(),
            async move { stopped.cancelled().await },
        ));

        let settings = settings(&store, environment);
        let server =
            Server::start(&settings, store.store.clone(), kek.clone(), clock.clone(), entropy).await.unwrap();
        let (proxy, admin, services) = (server.proxy_url(), server.admin_url(), server.services().clone());
        let running = Some(tokio::spawn(server.run_until(stop.clone())));
        let client = Client::builder(TokioExecutor::new()).build_http();
        let server = Self {
            proxy,
            admin,
            sandbox,
            sandbox_url,
            token,
            clock,
            store,
            services,
            kek,
            sandbox_stop,
            client,
            stop,
            environment: owned(environment),
            running,
        };
        server.register_sandbox().await;
        server
    }

    async fn register_sandbox(&self) {
        let url = &self.sandbox_url;
        let dialects = json!({"openai": format!("{url}/v1"), "anthropic": url, "gemini": url});
        let made =
            self.admin_post("/api/v1/providers", &json!({"slug": "sandbox", "dialects": dialects})).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
        let key = json!({"name": "main", "secret": CANARY});
        let made = self.admin_post("/api/v1/providers/sandbox/credentials", &key).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
    }

    /// Mints a sub-key for all sandbox models with `more` fields over that; returns its id and secret.
    pub(crate) async fn mint(&self, more: Value) -> (String, String) {
        let mut definition = json!({"name": Entropy::new().base62(12), "models": ["sandbox/*"]});
        for (field, value) in more.as_object().unwrap() {
            definition[field] = value.clone();
        }
        let minted = self.admin_post("/api/v1/subkeys", &definition).await;
        assert_eq!(minted.status, 201, "{:?}", minted.json());
        let body = minted.json();
        (body["subkey"]["id"].as_str().unwrap().to_owned(), body["secret"].as_str().unwrap().to_owned())
    }

    /// Sends a request and does not read its answer's body.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
        self.client.request(request).await.unwrap()
    }

    /// Sends a request and reads the answer whole.
    pub(crate) async fn call(&self, request: Request<Full<Bytes>>) -> Answer {
        let (parts, body) = self.send(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    /// `POST` on the admin plane, as the owner.
    pub(crate) async fn admin_post(&self, path: &str, body: &Value) -> Answer {
        self.admin_call(Method::POST, path, Some(body)).await
    }

    /// `GET` on the admin plane, as the owner.
    pub(crate) async fn admin_get(&self, path: &str) -> Answer {
        self.admin_call(Method::GET, path, None).await
    }

    /// Any request on the admin plane, as the owner.
    pub(crate) async fn admin_call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.admin))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json");
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        self.call(request.body(Full::new(body)).unwrap()).await
    }

    /// A proxied `POST` in the OpenAI dialect.
    pub(crate) async fn post(&self, secret: &str, path: &str, body: &Value) -> Answer {
        self.call(self.proxied(secret, path, body.to_string())).await
    }

    /// A proxied request with its body as written.
    pub(crate) fn proxied(&self, secret: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        let request = Request::post(format!("{}{path}", self.proxy))
            .header("authorization", format!("Bearer {secret}"))
            .header("content-type", "application/json");
        request.body(Full::new(body.into())).unwrap()
    }

    /// A chat with the least there is to say.
    pub(crate) async fn chat(&self, secret: &str, model: &str) -> Answer {
        self.post(secret, "/v1/chat/completions", &chat(model)).await
    }

    /// Every entry of the access log of a sub-key, oldest first.
    pub(crate) async fn entries(&self, subkey: &str) -> Vec<Value> {
        let export = self.admin_get(&format!("/api/v1/access-log/export?format=jsonl&subkey={subkey}")).await;
        assert_eq!(export.status, 200, "{:?}", export.json());
        let text = String::from_utf8(export.bytes.to_vec()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Ends the server in good order.
    pub(crate) async fn end(mut self) {
        self.pause().await;
    }

    /// Ends the server in good order; the sandbox goes on, and [`TestServer::resume`] starts it again.
    pub(crate) async fn pause(&mut self) {
        self.stop.cancel();
        self.running.take().unwrap().await.unwrap();
    }

    /// Starts a paused server again, over the same store.
    pub(crate) async fn resume(&mut self) {
        self.store.store = Store::open(&self.store.url).await.unwrap();
        let (store, clock) = (self.store.store.clone(), self.clock.clone());
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let settings = settings(&self.store, &environment);
        let server = Server::start(&settings, store, self.kek.clone(), clock, Entropy::new()).await.unwrap();
        (self.proxy, self.admin) = (server.proxy_url(), server.admin_url());
        self.services = server.services().clone();
        self.stop = CancellationToken::new();
        self.running = Some(tokio::spawn(server.run_until(self.stop.clone())));
    }

    /// The open alarms of a kind, once there is one: their subjects, oldest first.
    pub(crate) async fn alarms_once(&self, kind: &str) -> Vec<Value> {
        self.open_alarms(kind, |_| true).await
    }

    /// The open alarm of this kind about this subject, once it is written.
    pub(crate) async fn alarm_about(&self, kind: &str, subject: &str) -> Value {
        self.open_alarms(kind, |alarm| alarm["subject"] == subject).await.remove(0)
    }

    async fn open_alarms(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        for _ in 0..200 {
            let list = self.admin_get(&format!("/api/v1/alarms?status=open&kind={kind}")).await.json();
            let items = list["items"].as_array().unwrap().iter().rev().filter(|alarm| wanted(alarm));
            let items: Vec<Value> = items.cloned().collect();
            if !items.is_empty() {
                return items;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("no such alarm of kind {kind} was written in five seconds");
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
        self.sandbox_stop.cancel();
    }
}

/// The provider key of the sandbox in every test. It must never be seen again.
pub(crate) const CANARY: &str = "sandbox-canary-5f8b2c91d7e64a03b1c2";

/// A chat request with the least there is to say.
pub(crate) fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 16})
}

/// Among the environment's settings: the text of the configuration's file, which alone can set `[limits]`.
pub(crate) const FILE: &str = "bitting.toml";

fn owned(environment: &[(&str, &str)]) -> Vec<(String, String)> {
    environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn settings(store: &TestStore, environment: &[(&str, &str)]) -> Settings {
    let given = [
        ("BITTING_PROXY_LISTEN", "127.0.0.1:0"),
        ("BITTING_ADMIN_LISTEN", "127.0.0.1:0"),
        ("BITTING_PRIVATE_UPSTREAMS", "127.0.0.0/8"),
    ];
    let given =
        given.iter().chain(environment).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let overrides = Overrides { config: None, data_dir: Some(store.folder.path().to_owned()) };
    let mut environment: BTreeMap<String, String> = given.collect();
    let file = environment.remove(FILE);
    let read = |_: &Path| file.clone().ok_or_else(|| io::ErrorKind::NotFound.into());
    Settings::from_parts(&overrides, &environment, read).unwrap()
}
