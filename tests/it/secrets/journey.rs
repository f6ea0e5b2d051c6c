//! Everything that touches a secret, done to the real program with its log wide open; then each secret is searched for in
//! everything that came out.

use super::misplaced::misplaced;
use super::places::{at_rest, files, of_process};
use super::steps::{
    keys_of_providers, looked_at, over_http2, proxied, rotated_keys, sealed_and_unsealed, set_aside, sub_keys,
};
use super::witness::Witness;
use crate::support::process::{Installation, Process};
use crate::support::server::Answer;
use crate::support::transit::write_secret;
use bytes::Bytes;
use data_encoding::BASE64;
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What every form of escaping changes, so that a key that was escaped is not missed.
pub(super) const KEYS: [&str; 3] = [
    "sandbox-canary-5f8b2c91d7e64a03b1c2",
    "sandbox/canary+of=the\"second\\version%41-1f6d",
    "sandbox-canary-of-the-third-version-88e0",
];
pub(super) const PASSPHRASE: &str = "passphrase canary: correct horse 4417";

/// What notices are signed with.
const WEBHOOK_SECRET: &[u8] = b"webhook canary 3f02, 32 bytes..!";

/// Somebody who wants nothing of what is sent to him.
fn webhook(home: &Installation) -> [(&'static str, String); 2] {
    let secret = home.folder.path().join("webhook-secret").display().to_string();
    let url = format!("{}/nobody/here", home.sandbox_url());
    [("BITTING_WEBHOOK_URL", url), ("BITTING_WEBHOOK_SECRET_FILE", secret)]
}

fn with_webhook<'a>(
    webhook: &'a [(&'static str, String); 2],
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let webhook = webhook.iter().map(|(name, value)| (*name, value.as_str()));
    [("BITTING_LOG", "trace")].into_iter().chain(webhook).chain(more.iter().copied()).collect()
}

/// A server, what came out of it, and what must not have.
pub(super) struct Journey {
    pub(super) home: Installation,
    pub(super) server: Process,
    pub(super) witness: Witness,
    /// Files that hold a secret because they were made for it.
    pub(super) for_secrets: Vec<PathBuf>,
    logs: usize,
}

impl Journey {
    async fn begin(home: Installation) -> Self {
        let mut witness = Witness::default();
        witness.know("the operator's token", home.token());
        let kek = home.folder.path().join("kek");
        let line = std::fs::read_to_string(&kek).unwrap();
        witness.know("the KEK", BASE64.decode(line.trim().as_bytes()).unwrap());
        witness.know("the passphrase", PASSPHRASE);
        for (number, key) in KEYS.iter().enumerate() {
            witness.know(&format!("the provider's key {number}"), key);
        }
        let passphrase = home.folder.path().join("passphrase");
        write_secret(&passphrase, PASSPHRASE, 0o600);
        let secret = home.folder.path().join("webhook-secret");
        write_secret(&secret, &format!("whsec_{}\n", BASE64.encode(WEBHOOK_SECRET)), 0o600);
        witness.know("the webhook's secret", WEBHOOK_SECRET);
        let log = home.folder.path().join("0.log");
        let webhook = webhook(&home);
        let environment = with_webhook(&webhook, &[]);
        let server = home.serve_telling(&environment, &log).await;
        Self { home, server, witness, for_secrets: vec![kek, passphrase, secret], logs: 1 }
    }

    pub(super) fn passphrase(&self) -> String {
        self.home.folder.path().join("passphrase").display().to_string()
    }

    /// What lies there now, and what is told of the process.
    fn look_around(&mut self) {
        let but_for: Vec<&Path> = self.for_secrets.iter().map(PathBuf::as_path).collect();
        for (place, bytes) in files(&self.home, &but_for).into_iter().chain(of_process(&self.server)) {
            self.witness.saw(place, bytes);
        }
    }

    /// The same, with the database as its own tools write it out.
    async fn look_everywhere(&mut self) {
        self.look_around();
        let but_for: Vec<&Path> = self.for_secrets.iter().map(PathBuf::as_path).collect();
        for (place, bytes) in at_rest(&self.home, &but_for).await {
            self.witness.saw(place, bytes);
        }
    }

    pub(super) async fn restart(&mut self, environment: &[(&str, &str)]) {
        self.look_around();
        self.server.terminate();
        self.server.child.wait().await.unwrap();
        let log = self.home.folder.path().join(format!("{}.log", self.logs));
        self.logs += 1;
        let webhook = webhook(&self.home);
        let environment = with_webhook(&webhook, environment);
        self.server = self.home.serve_telling(&environment, &log).await;
    }

    /// Runs a command that asks the server.
    pub(super) async fn ask(&mut self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitting"));
        command.env("BITTING_URL", self.server.admin_url()).env("BITTING_TOKEN", self.home.token());
        self.run(command.args(arguments), arguments, input).await
    }

    /// Runs a command that works beside the data.
    pub(super) async fn beside(&mut self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = self.home.command(&[arguments, &["--data"]].concat());
        self.run(command.envs(environment.iter().copied()), arguments, "").await
    }

    async fn run(&mut self, command: &mut Command, arguments: &[&str], input: &str) -> Output {
        command.env("BITTING_LOG", "trace").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        self.witness.saw(format!("the errors of {arguments:?}"), said);
        output
    }

    /// Runs one that gives nothing out.
    pub(super) async fn tells(&mut self, arguments: &[&str], input: &str) -> String {
        let output = self.ask(arguments, input).await;
        self.witness.saw(format!("the output of {arguments:?}"), output.stdout.clone());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Sends a request and keeps what came back. Nothing may come back where a provider closed the connection.
    pub(super) async fn call(&mut self, what: &str, request: Request<Full<Bytes>>) -> Option<Answer> {
        let place = format!("the answer to {} {} ({what})", request.method(), request.uri().path());
        let answer = self.server.send_raw(request).await?;
        self.witness.saw_answer(&place, &answer);
        Some(answer)
    }

    pub(super) fn to_admin(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.server.admin_url()));
        let request = request.header("authorization", format!("Bearer {}", self.home.token()));
        request.header("content-type", "application/json").body(Full::new(body.into())).unwrap()
    }

    pub(super) async fn admin(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.call("an operator's", self.to_admin(method, path, body)).await.unwrap()
    }

    /// A call whose answer gives a secret out, in this field.
    pub(super) async fn given(&mut self, path: &str, body: &Value, field: &str) -> (Value, String) {
        let request = self.to_admin("POST", path, body.to_string());
        let answer = self.server.send_raw(request).await.unwrap();
        assert!(answer.status.is_success(), "{path}: {:?}", answer.json());
        let given = answer.json()[field].as_str().unwrap().to_owned();
        self.witness.saw_given_out(format!("the answer to POST {path}"), answer.bytes.to_vec(), &given);
        (answer.json(), given)
    }

    pub(super) fn to_proxy(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::post(format!("{}{path}", self.server.proxy_url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header("content-type", "application/json");
        request.body(Full::new(Bytes::from(body.to_string()))).unwrap()
    }
}

async fn p1_in_never_out_of_anything(home: Installation) {
    let mut journey = Journey::begin(home).await;
    let credential = keys_of_providers(&mut journey).await;
    let (old, live) = sub_keys(&mut journey).await;
    proxied(&mut journey, &live).await;
    over_http2(&mut journey, &live).await;
    rotated_keys(&mut journey, &credential, &live).await;
    misplaced(&mut journey, &live, &old).await;
    looked_at(&mut journey).await;
    sealed_and_unsealed(&mut journey).await;
    set_aside(&mut journey, &live).await;
    looked_at(&mut journey).await;
    journey.restart(&[("BITTING_KEK_PASSPHRASE_FILE", &journey.passphrase())]).await;
    journey.look_everywhere().await;

    let alerted = journey.admin("GET", "/api/v1/admin-log?action=budget.alert", &Value::Null).await;
    assert_ne!(alerted.json()["items"], serde_json::json!([]), "the webhook was told");
    let (places, bytes) = journey.witness.extent();
    println!("searched {places} places, {bytes} bytes");
    let leaks = journey.witness.leaks();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_in_never_out_of_anything_on_sqlite() {
    Box::pin(p1_in_never_out_of_anything(Installation::sqlite().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_in_never_out_of_anything_on_postgres() {
    Box::pin(p1_in_never_out_of_anything(Installation::postgres().await)).await;
}
