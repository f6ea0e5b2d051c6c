//! The transit engine of a real `OpenBao` or Vault, where its binary is at hand.

use super::*;
use crate::support::transit::write_secret;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

const ROOT: &str = "root-of-the-test";

/// A development server of the program that `BITTING_TEST_OPENBAO` names. Dropped, it is killed.
struct OpenBao {
    url: String,
    _process: Child,
}

impl OpenBao {
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where the binary is")]
    async fn start(folder: &Path) -> Self {
        let binary = std::env::var("BITTING_TEST_OPENBAO").expect("BITTING_TEST_OPENBAO names bao or vault");
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(binary)
            .args(["server", "-dev", "-dev-no-store-token"])
            .args([format!("-dev-root-token-id={ROOT}"), format!("-dev-listen-address={address}")])
            .env_clear()
            .env("HOME", folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let server = Self { url: format!("http://{address}"), _process: process };
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
    let policy = "path \"transit/encrypt/*\" { capabilities = [\"update\"] }\n\
                  path \"transit/decrypt/*\" { capabilities = [\"update\"] }";
    write_secret(&token_file, &bao.token(policy).await, 0o600);

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
    bao.token(policy).await;
    write_secret(&token_file, &token, 0o600);
    assert_eq!(open(&*source, &kept).await.unwrap(), key);

    bao.post("sys/seal", json!({})).await;
    assert_unavailable(open(&*source, &kept).await, "sealed");
}
