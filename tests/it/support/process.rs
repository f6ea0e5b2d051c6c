//! The real program in a process of its own, over a data directory that outlives it, with a sandbox that does too.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::server::Answer;
use super::store::TestStore;
use bitting::base::Clock;
use bitting::sandbox::Sandbox;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Output, Stdio};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// A data directory that is set up, and a sandbox.
pub(crate) struct Installation {
    pub(crate) folder: TempDir,
    pub(crate) url: String,
    pub(crate) sandbox: Sandbox,
    sandbox_url: String,
    token: String,
}

/// A server process. Dropped, it is killed.
pub(crate) struct Process {
    pub(crate) child: Child,
    proxy: String,
    admin: String,
    token: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Installation {
    /// Sets one up over SQLite.
    pub(crate) async fn sqlite() -> Self {
        Self::set_up(TestStore::empty_sqlite()).await
    }

    /// Sets one up over PostgreSQL.
    pub(crate) async fn postgres() -> Self {
        Self::set_up(TestStore::empty_postgres().await).await
    }

    /// What was set up earlier and elsewhere, with a sandbox that listens where it has its provider.
    pub(crate) fn found((url, folder): (String, TempDir), token: &str, listener: TcpListener) -> Self {
        let sandbox_url = format!("http://{}", listener.local_addr().unwrap());
        let sandbox = Sandbox::new(Clock::system());
        tokio::spawn(bitting::sandbox::serve(listener, sandbox.clone(), std::future::pending()));
        Self { folder, url, sandbox, sandbox_url, token: token.to_owned() }
    }

    async fn set_up(place: (String, TempDir)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut this = Self::found(place, "", listener);
        let made = this.command(&["init", "--json", "--data"]).output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        made["operator_token"].as_str().unwrap().clone_into(&mut this.token);
        this
    }

    /// Another place for the same installation, with the same sandbox and token.
    pub(crate) fn at(&self, (url, folder): (String, TempDir)) -> Self {
        let (sandbox, sandbox_url, token) =
            (self.sandbox.clone(), self.sandbox_url.clone(), self.token.clone());
        Self { folder, url, sandbox, sandbox_url, token }
    }

    /// The program with the last argument being the data directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitting"));
        command
            .args(arguments)
            .arg(self.folder.path())
            .env("BITTING_PROXY_LISTEN", "127.0.0.1:0")
            .env("BITTING_ADMIN_LISTEN", "127.0.0.1:0")
            .env("BITTING_PRIVATE_UPSTREAMS", "127.0.0.0/8")
            .env("BITTING_DATABASE_URL", &self.url)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// The operator's token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Where the sandbox listens.
    pub(crate) fn sandbox_url(&self) -> &str {
        &self.sandbox_url
    }

    /// A server that is expected to refuse to start, and what it said.
    pub(crate) async fn refuses_to_serve(&self) -> String {
        let refused: Output = self.command(&["serve", "--data"]).output().await.unwrap();
        assert_eq!(refused.status.code(), Some(1));
        String::from_utf8(refused.stderr).unwrap()
    }

    /// Starts a server.
    pub(crate) async fn serve(&self) -> Process {
        self.serve_by(self.command(&["serve", "--data"])).await
    }

    /// Starts a server with `[limits]` of its own.
    pub(crate) async fn serve_with_limits(&self, limits: &str) -> Process {
        let file = self.folder.path().join("limits.toml");
        std::fs::write(&file, format!("[limits]\n{limits}\n")).unwrap();
        self.serve_by(self.command(&["serve", "--config", file.to_str().unwrap(), "--data"])).await
    }

    /// Starts a server with more in its environment, which says what it has to say into a file.
    pub(crate) async fn serve_telling(&self, environment: &[(&str, &str)], file: &Path) -> Process {
        let mut command = self.command(&["serve", "--data"]);
        command.envs(environment.iter().copied()).stderr(std::fs::File::create(file).unwrap());
        self.listening(&mut command).await
    }

    async fn serve_by(&self, mut command: Command) -> Process {
        self.listening(command.stderr(Stdio::null())).await
    }

    async fn listening(&self, command: &mut Command) -> Process {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = async |plane: &str| {
            let line = lines.next_line().await.unwrap().expect("the server did not start");
            line.strip_prefix(plane).unwrap().trim().to_owned()
        };
        let (proxy, admin) = (address("proxy").await, address("admin").await);
        let client = Client::builder(TokioExecutor::new()).build_http();
        Process { child, proxy, admin, token: self.token.clone(), client }
    }

    /// Starts the first server, and has it say everything it can into a file.
    pub(crate) async fn serve_tracing_to(&self, file: &Path) -> Process {
        let mut command = self.command(&["serve", "--data"]);
        command.env("BITTING_LOG", "trace").stderr(std::fs::File::create(file).unwrap());
        let server = self.listening(&mut command).await;
        self.register_sandbox(server).await
    }

    /// Starts the first server, with the sandbox for its provider.
    pub(crate) async fn serve_first(&self) -> Process {
        let server = self.serve().await;
        self.register_sandbox(server).await
    }

    async fn register_sandbox(&self, server: Process) -> Process {
        let url = &self.sandbox_url;
        let provider = json!({"slug": "sandbox", "dialects": {"openai": format!("{url}/v1")}});
        let made = server.admin(Method::POST, "/api/v1/providers", &provider).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
        let key = json!({"name": "main", "secret": "sandbox-canary-5f8b2c91d7e64a03b1c2"});
        let made = server.admin(Method::POST, "/api/v1/providers/sandbox/credentials", &key).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
        server
    }
}

impl Process {
    /// A request on the admin plane.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.admin_as(&self.token, method, path, body).await
    }

    /// A request on the admin plane by another token.
    pub(crate) async fn admin_as(&self, token: &str, method: Method, path: &str, body: &Value) -> Answer {
        let request = Request::builder()
            .method(&method)
            .uri(format!("{}{path}", self.admin))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        let body = if method == Method::GET { Bytes::new() } else { Bytes::from(body.to_string()) };
        let response = self.client.request(request.body(Full::new(body)).unwrap()).await.unwrap();
        read(response).await.unwrap()
    }

    /// A request on the admin plane; `None` when the server is gone.
    pub(crate) async fn try_admin(&self, method: Method, path: &str, body: &Value) -> Option<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.admin))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json");
        let body = Full::new(Bytes::from(body.to_string()));
        read(self.client.request(request.body(body).unwrap()).await.ok()?).await
    }

    /// Mints a sub-key; its id and secret.
    pub(crate) async fn mint(&self, definition: &Value) -> (String, String) {
        let minted = self.admin(Method::POST, "/api/v1/subkeys", definition).await;
        assert_eq!(minted.status, 201, "{:?}", minted.json());
        let body = minted.json();
        (body["subkey"]["id"].as_str().unwrap().to_owned(), body["secret"].as_str().unwrap().to_owned())
    }

    /// Sends a chat; `None` when the server is gone.
    pub(crate) async fn send(&self, secret: &str, body: &Value) -> Option<Response<Incoming>> {
        let request = Request::post(format!("{}/v1/chat/completions", self.proxy))
            .header("authorization", format!("Bearer {secret}"))
            .header("content-type", "application/json");
        self.client.request(request.body(Full::new(Bytes::from(body.to_string()))).unwrap()).await.ok()
    }

    /// A chat and its whole answer; `None` when it did not come whole.
    pub(crate) async fn chat(&self, secret: &str, body: &Value) -> Option<Answer> {
        read(self.send(secret, body).await?).await
    }

    /// A `GET` on the proxy, with a sub-key.
    pub(crate) async fn proxied(&self, secret: &str, path: &str) -> Answer {
        let request = Request::get(format!("{}{path}", self.proxy));
        let request = request.header("authorization", format!("Bearer {secret}"));
        let response = self.client.request(request.body(Full::default()).unwrap()).await.unwrap();
        read(response).await.unwrap()
    }

    /// The program as an operator runs it against this server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitting"));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        command.env("BITTING_URL", self.admin_url()).env("BITTING_TOKEN", self.token());
        command
    }

    /// Every entry of the access log of a sub-key, oldest first.
    pub(crate) async fn entries(&self, subkey: &str) -> Vec<Value> {
        let path = format!("/api/v1/access-log/export?format=jsonl&subkey={subkey}");
        let export = self.admin(Method::GET, &path, &Value::Null).await;
        assert_eq!(export.status, 200, "{:?}", export.json());
        let text = String::from_utf8(export.bytes.to_vec()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Any request; as much of the answer as comes. `None` when there is none.
    pub(crate) async fn send_raw(&self, request: Request<Full<Bytes>>) -> Option<Answer> {
        let (parts, mut body) = self.client.request(request).await.ok()?.into_parts();
        let mut bytes = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
        Some(Answer { status: parts.status, headers: parts.headers, bytes: bytes.into() })
    }

    /// Where applications are served.
    pub(crate) fn proxy_url(&self) -> &str {
        &self.proxy
    }

    /// Where operators are served.
    pub(crate) fn admin_url(&self) -> &str {
        &self.admin
    }

    /// The operator's token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Sends SIGKILL, also while its requests are under way.
    pub(crate) fn kill(&self) {
        self.signal(rustix::process::Signal::KILL);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

async fn read(response: Response<Incoming>) -> Option<Answer> {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.ok()?.to_bytes();
    Some(Answer { status: parts.status, headers: parts.headers, bytes })
}
