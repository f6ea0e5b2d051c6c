//! A client that reads nothing of a stream that is cut: nobody waits for it.

use super::half::{Answer, EVENTS, KEY, Provider};
use super::raw::h2::{DATA, END_HEADERS, END_STREAM, H2, HEADERS, block, frame};
use crate::support::server::TestServer;
use crate::support::store::TestStore;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// Far less than a client may leave a piece unread, and far more than anything here takes.
const SOON: Duration = Duration::from_secs(5);

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"o\"}}]}\n\n";
const HALVES: [&str; 2] = ["data: {\"choices\":[{\"index\":0,\"del", "ta\":{\"content\":\"o\"}}]}\n\n"];

/// Asks for a stream that its client has no room for, of which so many pieces come, the last one half an event.
async fn fill(server: &TestServer, provider: &Provider, secret: &str, pieces: usize) -> (H2, Answer) {
    let mut h2 = H2::connect(server).await;
    // A window without a byte.
    h2.send(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "stream": true});
    let bearer = format!("Bearer {secret}");
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/v1/chat/completions"),
        (":authority", "x"),
        ("authorization", &bearer),
        ("content-type", "application/json"),
    ];
    h2.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
    h2.send(&frame(DATA, END_STREAM, 1, body.to_string().as_bytes())).await;
    let mut answer = provider.answer(EVENTS).await;
    h2.until_head(1).await;
    for number in 1..=pieces {
        answer.say(if number == pieces { HALVES[0] } else { EVENT }).await;
        // Each arrives by itself.
        server.admin_get("/healthz").await;
    }
    (h2, answer)
}

/// The connection to the provider ends.
async fn is_left(answer: &mut Answer) -> bool {
    let mut rest = Vec::new();
    timeout(SOON, answer.0.read_to_end(&mut rest)).await.is_ok()
}

/// The outcome and the rule of the key's one entry, once it is settled.
async fn settled(server: &TestServer, id: &str) -> (Value, Value) {
    let look = async || server.entries(id).await.pop().unwrap();
    let mut entry = look().await;
    for _ in 0..1_000 {
        if entry["outcome"].is_null() {
            entry = look().await;
        }
    }
    (entry["outcome"].clone(), entry["rule"].clone())
}

/// With ever more pieces before it, what has to cut the stream does so at once, until it is not read any more because a
/// piece before it waits for room. Then the key is revoked: only what was read before could be the reason of the cut.
async fn is_cut_however_full(server: &TestServer, last: &str, rule: &str) {
    let provider = Provider::register(server).await;
    let budgets = json!({"models": ["half/*"], "budgets": [{"limit_usd": "1", "window": "day"}]});
    for pieces in 1..100 {
        let (id, secret) = server.mint(budgets.clone()).await;
        let (_h2, mut answer) = fill(server, &provider, &secret, pieces).await;
        answer.say(&format!("{}{last}", HALVES[1])).await;
        if is_left(&mut answer).await {
            assert_eq!(settled(server, &id).await, (json!("cut"), json!(rule)), "{pieces} pieces");
            continue;
        }
        let revoked = server.admin_post(&format!("/api/v1/subkeys/{id}/revoke"), &json!({})).await;
        assert_eq!(revoked.status, 200);
        assert!(is_left(&mut answer).await);
        let told = settled(server, &id).await;
        assert_eq!(told, (json!("cut"), json!("key_revoked")), "it waited for room, after {pieces} pieces");
        assert!(pieces > 10, "{pieces}");
        return;
    }
    panic!("there is room without end");
}

#[tokio::test]
async fn a_cut_for_money_does_not_wait_for_it() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let more = EVENT.replace("\"o\"", &format!("\"{}\"", "x".repeat(1_000)));
    is_cut_however_full(&server, &more, "budget_exceeded").await;
}

#[tokio::test]
async fn p1_in_never_out_and_a_key_that_was_sent_back_is_noted_at_once() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let hidden = KEY.replacen('h', "\\u0068", 1);
    let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{hidden}\"}}}}]}}\n\n");
    is_cut_however_full(&server, &format!("{EVENT}{event}"), "upstream_error").await;
    server.alarms_once("credential_echoed").await;
}

#[tokio::test]
async fn p1_in_never_out_and_a_key_that_is_the_name_of_a_member_does_not_pass() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let provider = Provider::register(&server).await;
    let (id, secret) = server.mint(json!({"models": ["half/*"]})).await;
    let (_h2, mut answer) = fill(&server, &provider, &secret, 1).await;
    let hidden = KEY.replacen('h', "\\u0068", 1);
    answer.say(&format!("{}data: {{\"choices\":[{{\"delta\":{{\"{hidden}\":1}}}}]}}\n\n", HALVES[1])).await;
    assert!(is_left(&mut answer).await);
    server.alarms_once("credential_echoed").await;
    assert_eq!(settled(&server, &id).await, (json!("cut"), json!("upstream_error")));
}
