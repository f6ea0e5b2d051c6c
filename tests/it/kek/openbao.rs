//! The transit engine of a real `OpenBao` or Vault, where its binary is at hand.

use super::*;
use crate::support::process::{Installation, Process};
use crate::support::transit::write_secret;
use crate::vault::{opens, vault};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const ROOT: &str = "root-of-the-test";

/// A development server of the program that `BITTING_TEST_OPENBAO` names. Dropped, it is killed.
struct OpenBao {
    url: String,
    unseal_key: String,
    _process: Child,
}

impl OpenBao {
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where the binary is")]
    async fn start(folder: &Path) -> Self {
        let binary = std::env::var("BITTING_TEST_OPENBAO").expect("BITTING_TEST_OPENBAO names bao or vault");
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut process = Command::new(binary)
            .args(["server", "-dev", "-dev-no-store-token"])
            .args([format!("-dev-root-token-id={ROOT}"), format!("-dev-listen-address={address}")])
            .env_clear()
            .env("HOME", folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let unseal_key = loop {
            let line = lines.next_line().await.unwrap().expect("it did not start");
            if let Some(key) = line.strip_prefix("Unseal Key: ") {
                break key.trim().to_owned();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_said)) = lines.next_line().await {} });
        let server = Self { url: format!("http://{address}"), unseal_key, _process: process };
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        while server.try_call(Method::GET, "sys/health", &json!({})).await.is_none() {
            looks.tick().await;
        }
        server
    }

    async fn try_call(&self, method: Method, path: &str, body: &Value) -> Option<(StatusCode, Value)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/v1/{path}", self.url))
            .header("x-vault-token", ROOT)
            .body(Full::new(bytes::Bytes::from(body.to_string())))
            .unwrap();
        let answer = Client::builder(TokioExecutor::new()).build_http().request(request).await.ok()?;
        let status = answer.status();
        let bytes = answer.into_body().collect().await.ok()?.to_bytes();
        Some((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.try_call(Method::POST, path, &body).await.unwrap();
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }

    async fn token(&self, policy: &str) -> String {
        self.post("sys/policies/acl/bitting", json!({"policy": policy})).await;
        let made = self.post("auth/token/create", json!({"policies": ["bitting"]})).await;
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    }
}

const POLICY: &str = "path \"transit/encrypt/*\" { capabilities = [\"update\"] }\n\
                      path \"transit/decrypt/*\" { capabilities = [\"update\"] }";

#[tokio::test]
#[ignore = "needs the binary of OpenBao or Vault: BITTING_TEST_OPENBAO=/path/to/bao"]
async fn a_real_transit_engine_wraps_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let bao = OpenBao::start(folder.path()).await;
    bao.post("sys/mounts/transit", json!({"type": "transit"})).await;
    bao.post("transit/keys/bitting", json!({})).await;
    bao.post("transit/keys/derived", json!({"derived": true})).await;
    bao.post("transit/keys/rsa", json!({"type": "rsa-2048"})).await;
    let token_file = folder.path().join("token");
    let with_key = |key: &str| {
        source(&[
            ("BITTING_KEK_TRANSIT_URL", bao.url.clone()),
            ("BITTING_KEK_TRANSIT_KEY", key.to_owned()),
            ("BITTING_KEK_TRANSIT_TOKEN_FILE", token_file.display().to_string()),
        ])
    };
    write_secret(&token_file, &bao.token(POLICY).await, 0o600);

    // A plain key and a derived one; both stay open over a rotation of the engine's key.
    for name in ["bitting", "derived"] {
        let source = with_key(name);
        let (key, kept) = create(&*source).await.unwrap();
        assert_eq!(open(&*source, &kept).await.unwrap(), key);
        bao.post(&format!("transit/keys/{name}/rotate"), json!({})).await;
        assert_eq!(open(&*source, &kept).await.unwrap(), key);
        assert!(create(&*source).await.unwrap().1["ciphertext"].as_str().unwrap().starts_with("vault:v2:"));
        assert!(source.open(&kept, "inst_other").await.is_err(), "bound to its installation");
    }
    assert_refused(create(&*with_key("rsa")).await, "associated_data");
    assert_refused(create(&*with_key("typo")).await, "403");

    let source = with_key("bitting");
    let (key, kept) = create(&*source).await.unwrap();
    let token = std::fs::read_to_string(&token_file).unwrap();
    write_secret(&token_file, "wrong", 0o600);
    assert_refused(open(&*source, &kept).await, "is denied (403");
    let narrow = bao.token("path \"transit/encrypt/*\" { capabilities = [\"update\"] }").await;
    write_secret(&token_file, &narrow, 0o600);
    assert_refused(create(&*source).await, "transit/decrypt/bitting is denied");
    bao.token(POLICY).await;
    write_secret(&token_file, &token, 0o600);
    assert_eq!(open(&*source, &kept).await.unwrap(), key);

    bao.post("sys/seal", json!({})).await;
    assert_unavailable(open(&*source, &kept).await, "sealed");
}

async fn done(command: &mut Command) {
    let done = command.output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

async fn seals(server: &Process, reason: &str) {
    let began = Instant::now();
    while vault(server).await != (true, json!(reason)) {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", vault(server).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the binary of OpenBao or Vault: BITTING_TEST_OPENBAO=/path/to/bao"]
async fn a_server_lives_by_a_real_transit_engine() {
    let (folder, installation) = (tempfile::tempdir().unwrap(), Installation::sqlite().await);
    let bao = OpenBao::start(folder.path()).await;
    bao.post("sys/mounts/transit", json!({"type": "transit"})).await;
    bao.post("transit/keys/bitting", json!({})).await;
    let token_file = folder.path().join("token");
    write_secret(&token_file, &bao.token(POLICY).await, 0o600);
    let token_file = token_file.to_str().unwrap();
    let data = installation.folder.path();
    std::fs::write(data.join("bitting.toml"), "[limits]\nkek_lease_seconds = 5\n").unwrap();

    // From the key file to the engine, with both in between.
    let environment = [
        ("BITTING_KEK_TRANSIT_URL", bao.url.as_str()),
        ("BITTING_KEK_TRANSIT_KEY", "bitting"),
        ("BITTING_KEK_TRANSIT_TOKEN_FILE", token_file),
    ];
    let flags = ["--to-transit", &bao.url, "--transit-key", "bitting", "--transit-token-file", token_file];
    let add = [&["vault", "change-kek"], flags.as_slice(), &["--data"]].concat();
    let log = folder.path().join("log");
    done(&mut installation.command(&add)).await;
    for environment in [&[][..], &environment] {
        let server = installation.serve_telling(environment, &log).await;
        assert!(!vault(&server).await.0);
    }
    let confirm = ["vault", "change-kek", "--confirm", "--data"];
    done(installation.command(&confirm).envs(environment)).await;
    let server = installation.serve_telling(&[], &log).await;
    assert_eq!(vault(&server).await, (true, json!("kek_refused")), "the file is of no use any more");
    drop(server);

    // A sealed engine at the start, and unsealed later.
    bao.post("sys/seal", json!({})).await;
    let server = installation.serve_telling(&environment, &log).await;
    assert_eq!(vault(&server).await, (true, json!("kek_unavailable")));
    bao.post("sys/unseal", json!({"key": bao.unseal_key})).await;
    opens(&server).await;

    // An engine that is sealed stops nothing that runs; one that refuses does, until it grants again.
    bao.post("sys/seal", json!({})).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(!vault(&server).await.0);
    bao.post("sys/unseal", json!({"key": bao.unseal_key})).await;
    bao.post(
        "sys/policies/acl/bitting",
        json!({"policy": "path \"transit/*\" { capabilities = [\"deny\"] }"}),
    )
    .await;
    seals(&server, "kek_refused").await;
    bao.post("sys/policies/acl/bitting", json!({"policy": POLICY})).await;
    opens(&server).await;
    drop(server);

    // The engine's key is rotated, and the wrapping is made anew under its newest version: the old one may go.
    bao.post("transit/keys/bitting/rotate", json!({})).await;
    done(installation.command(&add).envs(environment)).await;
    done(installation.command(&confirm).envs(environment)).await;
    bao.post("transit/keys/bitting/config", json!({"min_decryption_version": 2})).await;
    let server = installation.serve_telling(&environment, &log).await;
    assert!(!vault(&server).await.0);
    bao.post("transit/keys/bitting/config", json!({"deletion_allowed": true})).await;
    let deleted = bao.try_call(Method::DELETE, "transit/keys/bitting", &json!({})).await.unwrap();
    assert!(deleted.0.is_success(), "{deleted:?}");
    seals(&server, "kek_refused").await;
}
