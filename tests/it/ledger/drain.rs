//! The program's end and its beginning: drained in good order, and never over what is not its own.

use super::{model_document, read_to_end, streamed, usd};
use crate::support::process::Installation;
use crate::support::server::chat;
use crate::support::store::tamper;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::Duration;

const STREAM: &str = "sandbox-mini+gap=50,tokens=12";

async fn a_server_told_to_stop_ends_what_it_has_begun(installation: Installation) {
    let mut server = installation.serve_first().await;
    let path = format!("/api/v1/models/sandbox/{STREAM}");
    assert!(server.admin(Method::PUT, &path, &model_document(STREAM)).await.status.is_success());
    let definition =
        json!({"name": "ci", "models": ["sandbox/*"], "budgets": [{"limit_usd": "1", "window": "total"}]});
    let (id, secret) = server.mint(&definition).await;
    let mut stream = server.send(&secret, &streamed(STREAM)).await.unwrap();
    assert_eq!(stream.status(), 200);
    stream.body_mut().frame().await.unwrap().unwrap();
    server.terminate();
    let (text, clean) = read_to_end(stream).await;
    assert!(clean && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(server.child.wait().await.unwrap().code(), Some(0));
    assert!(server.send(&secret, &chat("sandbox-mini")).await.is_none(), "nobody listens any more");

    let server = installation.serve().await;
    let entries = server.entries(&id).await;
    assert_eq!((entries.len(), &entries[0]["outcome"]), (1, &json!("completed")), "{entries:?}");
    assert_eq!(usd(&entries[0]["cost_usd"]), installation.sandbox.bill().cost_usd);
    let key = server.admin(Method::GET, &format!("/api/v1/subkeys/{id}"), &Value::Null).await.json();
    assert_eq!(
        (&key["budgets"][0]["spent_usd"], &key["budgets"][0]["held_usd"]),
        (&entries[0]["cost_usd"], &json!("0.00"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_told_to_stop_ends_what_it_has_begun_on_sqlite() {
    Box::pin(a_server_told_to_stop_ends_what_it_has_begun(Installation::sqlite().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_told_to_stop_ends_what_it_has_begun_on_postgres() {
    Box::pin(a_server_told_to_stop_ends_what_it_has_begun(Installation::postgres().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlasts_the_drain_is_cut_and_charged_and_the_server_ends() {
    let installation = Installation::sqlite().await;
    drop(installation.serve_first().await.child.kill().await);
    let mut server = installation.serve_with_limits("drain_seconds = 0").await;
    let (held, stream) = ("sandbox-mini+hold", "sandbox-mini+gap=500,tokens=400");
    for model in [held, stream] {
        let path = format!("/api/v1/models/sandbox/{model}");
        assert!(server.admin(Method::PUT, &path, &model_document(model)).await.status.is_success());
    }
    let definition =
        json!({"name": "ci", "models": ["sandbox/*"], "budgets": [{"limit_usd": "1", "window": "total"}]});
    let (id, secret) = server.mint(&definition).await;
    let mut long = streamed(stream);
    long["max_tokens"] = json!(400);
    let streaming = server.send(&secret, &long).await.unwrap();
    let held_body = chat(held);
    let told = async {
        installation.sandbox.wait_held(1).await;
        server.terminate();
    };
    let (answer, ()) = tokio::join!(server.chat(&secret, &held_body), told);
    assert!(answer.is_none_or(|answer| answer.status == 503));
    assert!(!read_to_end(streaming).await.1, "never a clean end");
    let ended = tokio::time::timeout(Duration::from_secs(10), server.child.wait()).await;
    assert_eq!(ended.expect("it does not end").unwrap().code(), Some(0));

    let server = installation.serve().await;
    let entries = server.entries(&id).await;
    assert_eq!(entries.len(), 2, "{entries:?}");
    let unanswered = entries.iter().find(|entry| entry["streamed"] == false).unwrap();
    assert_eq!(
        (&unanswered["outcome"], &unanswered["cost_usd"]),
        (&json!("cut"), &unanswered["reserved_usd"])
    );
    assert!(entries.iter().all(|entry| entry["outcome"] != "unknown_outcome" && entry["cost_usd"] != "0.00"));
}

#[tokio::test]
async fn two_servers_never_share_a_database() {
    for installation in [Installation::sqlite().await, Installation::postgres().await] {
        let first = installation.serve_first().await;
        let said = installation.refuses_to_serve().await;
        assert!(said.contains("another"), "{said}");
        let (_, secret) = first.mint(&json!({"name": "ci", "models": ["sandbox/*"]})).await;
        let answer = first.chat(&secret, &chat("sandbox-mini")).await.unwrap();
        assert_eq!(answer.status, 200, "the first is not disturbed");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_name() {
    for (installation, checksum) in
        [(Installation::sqlite().await, "X'00'"), (Installation::postgres().await, "'x'")]
    {
        let newer = format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'from the future', TRUE, {checksum}, 0)"
        );
        tamper(&installation.url, &newer).await;
        let said = installation.refuses_to_serve().await;
        assert!(said.contains("9999_from_the_future") && said.contains("newer"), "{said}");
    }
}
