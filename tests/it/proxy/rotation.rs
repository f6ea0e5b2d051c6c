//! A rotation of a provider's key under steady traffic: figures, and what must hold in them.
//!
//!     cargo test --release --test it -- --ignored --nocapture proxy::rotation

use crate::support::server::{CANARY, TestServer, chat};
use crate::support::store::TestStore;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const NEXT: &str = "sandbox-next-key-0d1e";
const EVERY: Duration = Duration::from_millis(10);
const REQUESTS: usize = 1_000;

/// One request as its client saw it.
struct Seen {
    id: String,
    begun: Instant,
    took: Duration,
    fault: Option<String>,
}

async fn one(server: &TestServer, secret: &str, number: usize) -> Seen {
    let is_streamed = number % 2 == 1;
    let mut body = chat("sandbox-mini+gap=5");
    body["stream"] = json!(is_streamed);
    let id = format!("request-{number}");
    let mut request = server.proxied(secret, "/v1/chat/completions", body.to_string());
    request.headers_mut().insert("x-client-request-id", id.parse().unwrap());
    let begun = Instant::now();
    let response = server.send(request).await;
    let status = response.status();
    let read = response.into_body().collect().await;
    let fault = match read {
        Err(error) => Some(format!("broke off: {error}")),
        Ok(_) if status != 200 => Some(status.to_string()),
        Ok(whole) => {
            let text = whole.to_bytes();
            let ends = if is_streamed {
                text.ends_with(b"data: [DONE]\n\n")
            } else {
                serde_json::from_slice::<Value>(&text).is_ok()
            };
            (!ends).then(|| "not whole".to_owned())
        }
    };
    Seen { id, begun, took: begun.elapsed(), fault }
}

/// The key that each request came to the provider with; it remembers the last 256.
fn note_keys(server: &TestServer, keys: &mut BTreeMap<String, String>) {
    for received in server.sandbox.requests() {
        let (id, key) = (received.header("x-client-request-id"), received.header("authorization"));
        let (Some(id), Some(key)) = (id, key) else { continue };
        let key = key.strip_prefix("Bearer ").unwrap().to_owned();
        let other = keys.insert(id.to_owned(), key.clone());
        assert!(other.is_none_or(|other| other == key), "{id} was sent with both");
    }
}

async fn rotates_under_a_hundred_requests_a_second(test: TestStore) {
    let server = Arc::new(TestServer::start(test).await);
    let (_, secret) = server.mint(json!({})).await;
    let list = server.admin_get("/api/v1/providers/sandbox/credentials").await.json();
    let path =
        format!("/api/v1/providers/sandbox/credentials/{}/rotate", list["items"][0]["id"].as_str().unwrap());
    let (mut requests, mut seen, mut keys) = (JoinSet::new(), Vec::new(), BTreeMap::new());
    let mut ticks = tokio::time::interval(EVERY);
    let (mut rotating, mut rotated) = (None, None);
    for number in 0..REQUESTS {
        ticks.tick().await;
        let (to, secret) = (Arc::clone(&server), secret.clone());
        requests.spawn(async move { one(&to, &secret, number).await });
        if number == REQUESTS / 4 {
            let (to, path) = (Arc::clone(&server), path.clone());
            rotating = Some(tokio::spawn(async move {
                let begun = Instant::now();
                let answer = to.admin_post(&path, &json!({"secret": NEXT, "drain_seconds": 3})).await;
                assert_eq!(answer.status, 200, "{:?}", answer.json());
                (begun, Instant::now())
            }));
        }
        if number % 50 == 0 {
            note_keys(&server, &mut keys);
        }
        if rotated.is_none()
            && let Some(done) = rotating.take_if(|task| task.is_finished())
        {
            rotated = Some(done.await.unwrap());
        }
        while let Some(done) = requests.try_join_next() {
            seen.push(done.unwrap());
        }
    }
    seen.extend(requests.join_all().await);
    note_keys(&server, &mut keys);
    let (begun, in_force) = rotated.unwrap();
    let faults: Vec<_> =
        seen.iter().filter_map(|one| one.fault.as_ref().map(|fault| (&one.id, fault))).collect();
    let with = |key: &str| keys.values().filter(|one| *one == key).count();
    let late = seen.iter().filter(|one| one.begun >= in_force);
    let late_with_old = late.filter(|one| keys.get(&one.id).is_some_and(|key| key == CANARY)).count();
    let mut took: Vec<Duration> = seen.iter().map(|one| one.took).collect();
    took.sort_unstable();
    println!(
        "{} requests, one every {EVERY:?}, half of them streamed: {} failed; {} with the old key, {} with the new, {} seen; \
         {late_with_old} with the old one after the rotation, which took {:?}; median {:?}, p99 {:?}, slowest {:?}",
        seen.len(),
        faults.len(),
        with(CANARY),
        with(NEXT),
        keys.len(),
        in_force - begun,
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1],
    );
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!((with(CANARY) + with(NEXT), late_with_old), (REQUESTS, 0));
    assert!(with(CANARY) > 0 && with(NEXT) > 0);
    server.services.retire_drained().await.unwrap();
    let list = server.admin_get("/api/v1/providers/sandbox/credentials").await.json();
    assert_eq!(list["items"][0]["draining"], Value::Null, "the old one is gone");
    Arc::into_inner(server).unwrap().end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten seconds"]
async fn a_key_rotates_under_a_hundred_requests_a_second_sqlite() {
    rotates_under_a_hundred_requests_a_second(TestStore::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten seconds"]
async fn a_key_rotates_under_a_hundred_requests_a_second_postgres() {
    rotates_under_a_hundred_requests_a_second(TestStore::postgres().await).await;
}
