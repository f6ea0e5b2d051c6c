//! What is posted is told of, whenever the server is killed.

use super::{MODEL, five_cents};
use crate::support::process::{Installation, Process};
use crate::support::receiver::{Mood, Receiver, SECRET};
use crate::support::server::chat;
use http::Method;
use serde_json::{Value, json};

const HELD: &str = "sandbox-mini+hold";

/// The webhook stands in the file beside the data.
async fn serve_first(home: &Installation, receiver: &Receiver) -> Process {
    let webhook = format!(
        "[webhook]\nurl = \"{}\"\nsecret_file = \"{}\"\n",
        receiver.url(),
        receiver.secret_file().display()
    );
    std::fs::write(home.folder.path().join("bitting.toml"), webhook).unwrap();
    let server = home.serve_first().await;
    for model in [MODEL, HELD] {
        let path = format!("/api/v1/models/sandbox/{model}");
        assert!(server.admin(Method::PUT, &path, &five_cents()).await.status.is_success());
    }
    server
}

async fn mint(server: &Process) -> String {
    let budgets = json!([{"limit_usd": "0.1", "window": "total", "alert_at": ["0.5", "1"]}]);
    server.mint(&json!({"name": "ci", "models": ["sandbox/*"], "budgets": budgets})).await.1
}

async fn alerts(server: &Process) -> Vec<Value> {
    let log = server.admin(Method::GET, "/api/v1/admin-log?action=budget.alert", &Value::Null).await.json();
    log["items"].as_array().unwrap().clone()
}

async fn a_notice_outlives_the_server(home: Installation) {
    let mut receiver = Receiver::start().await;
    receiver.set_mood(Mood::Answers(503));
    let mut server = serve_first(&home, &receiver).await;
    let secret = mint(&server).await;
    assert_eq!(server.chat(&secret, &chat(MODEL)).await.unwrap().status, 200);
    let first = receiver.next().await;
    server.kill();
    server.child.wait().await.unwrap();
    receiver.come();
    receiver.set_mood(Mood::Answers(204));
    let server = home.serve().await;
    let again = receiver.next().await;
    assert_eq!((&again.id, &again.text), (&first.id, &first.text));
    assert!(again.is_signed_by(SECRET));
    assert_eq!(alerts(&server).await.len(), 1);
}

/// The request that reaches the share is the one that the server dies of: it is charged at the next start.
async fn a_crash_that_is_charged_is_told_of(home: Installation) {
    let mut receiver = Receiver::start().await;
    let mut server = serve_first(&home, &receiver).await;
    let secret = mint(&server).await;
    let body = chat(HELD);
    let (_, ()) = tokio::join!(server.chat(&secret, &body), async {
        home.sandbox.wait_held(1).await;
        // Once this is answered, the admission is on record.
        server.admin(Method::POST, "/api/v1/subkeys", &json!({"name": "other", "models": ["*"]})).await;
        server.kill();
    });
    server.child.wait().await.unwrap();
    assert!(receiver.come().is_empty());
    let mut server = home.serve().await;
    let told = receiver.next().await.body();
    assert_eq!((&told["type"], &told["data"]["share"]), (&json!("budget.alert"), &json!("0.5")));
    assert_eq!(alerts(&server).await.len(), 1);
    server.kill();
    server.child.wait().await.unwrap();
    let server = home.serve().await;
    assert_eq!(alerts(&server).await.len(), 1, "a start tells nothing anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_outlives_a_server_that_is_killed_on_sqlite() {
    Box::pin(a_notice_outlives_the_server(Installation::sqlite().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_outlives_a_server_that_is_killed_on_postgres() {
    Box::pin(a_notice_outlives_the_server(Installation::postgres().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_that_is_charged_is_told_of_on_sqlite() {
    Box::pin(a_crash_that_is_charged_is_told_of(Installation::sqlite().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_that_is_charged_is_told_of_on_postgres() {
    Box::pin(a_crash_that_is_charged_is_told_of(Installation::postgres().await)).await;
}
