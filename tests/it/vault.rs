//! The vault from outside: sealing, the sources of its key, and what SQL behind its back comes to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod change_kek;
mod in_flight;
mod kek;
mod key_service;
mod kills;
mod macs;
mod moving;
mod quarantine;
mod released;
mod renew;
pub(crate) mod rotate;
mod rows;
mod seal;

use crate::support::process::Process;
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Makes of `async fn name(installation: Installation)` two tests, `name::sqlite` and `name::postgres`.
macro_rules! installed_on_both {
    ($(async fn $name:ident($installation:ident: Installation) $body:block)+) => {$(
        mod $name {
            use super::*;

            async fn run($installation: $crate::support::process::Installation) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                Box::pin(run($crate::support::process::Installation::sqlite().await)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                Box::pin(run($crate::support::process::Installation::postgres().await)).await;
            }
        }
    )+};
}
use installed_on_both;

const SEAL: &str = "/api/v1/vault/seal";
const UNSEAL: &str = "/api/v1/vault/unseal";

/// How the vault of a server stands: whether it is sealed, and why.
pub(crate) async fn vault(server: &Process) -> (bool, Value) {
    let answer = server.admin(Method::GET, "/api/v1/vault", &Value::Null).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let body = answer.json();
    (body["sealed"].as_bool().unwrap(), body["reason"].clone())
}

/// Seals a server and returns the code.
async fn sealed(server: &Process) -> String {
    let answer = server.admin(Method::POST, SEAL, &json!({})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(vault(server).await, (true, json!("sealed_by_operator")));
    answer.json()["unseal_code"].as_str().unwrap().to_owned()
}

/// Status and code of a try to unseal.
async fn unseal(server: &Process, body: &Value) -> (u16, String) {
    server.admin(Method::POST, UNSEAL, body).await.refusal()
}

/// Waits until a vault opens by itself.
pub(crate) async fn opens(server: &Process) {
    for _ in 0..400 {
        if !vault(server).await.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the vault did not open in ten seconds");
}

/// The admin log's entries of an action, newest first.
async fn admin_log(server: &Process, action: &str) -> Vec<Value> {
    let path = format!("/api/v1/admin-log?action={action}");
    let body = server.admin(Method::GET, &path, &Value::Null).await.json();
    body["items"].as_array().unwrap_or_else(|| panic!("{body}")).clone()
}
