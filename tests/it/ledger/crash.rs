//! P3 and P4 through `kill -9`.

use super::{model_document, streamed, usd};
use crate::support::process::Installation;
use crate::support::server::{Answer, chat};
use bitting::base::NanoUsd;
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;

const HELD: &str = "sandbox-mini+hold";
const STREAM: &str = "sandbox-mini+gap=100,tokens=200";
const CAP: &str = "0.05";

/// Kills the server in the middle of work, several times, and looks at the books after each.
async fn no_answer_without_its_record(installation: Installation, rounds: u64) {
    let mut server = installation.serve_first().await;
    for model in [HELD, STREAM] {
        let path = format!("/api/v1/models/sandbox/{model}");
        assert!(server.admin(Method::PUT, &path, &model_document(model)).await.status.is_success());
    }
    let definition =
        json!({"name": "ci", "models": ["sandbox/*"], "budgets": [{"limit_usd": CAP, "window": "total"}]});
    let (id, secret) = server.mint(&definition).await;
    let answered: Mutex<Vec<Answer>> = Mutex::new(Vec::new());
    for round in 1..=rounds {
        // Four that the provider holds, a stream that has begun, and eight that come and go until the server is gone.
        let (held_body, body) = (chat(HELD), chat("sandbox-mini"));
        let held = join_all((0..4).map(|_| server.chat(&secret, &held_body)));
        let busy = join_all((0..8).map(async |_| {
            while let Some(answer) = server.chat(&secret, &body).await {
                assert!([200, 402, 429].contains(&answer.status.as_u16()), "{:?}", answer.json());
                answered.lock().unwrap().push(answer);
            }
        }));
        let mut long = streamed(STREAM);
        long["max_tokens"] = json!(200);
        let kill = async {
            installation.sandbox.wait_held(4).await;
            let stream = server.send(&secret, &long).await.unwrap();
            assert_eq!(stream.status(), 200);
            let before = answered.lock().unwrap().len();
            while answered.lock().unwrap().len() < before + 20 {
                tokio::task::yield_now().await;
            }
            let pid =
                rustix::process::Pid::from_raw(i32::try_from(server.child.id().unwrap()).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            stream
        };
        let (held, _, stream) = tokio::join!(held, busy, kill);
        assert!(held.iter().all(Option::is_none), "held, so never answered");
        assert!(!super::read_to_end(stream).await.1, "never a clean end");
        server.child.wait().await.unwrap();
        installation.sandbox.release();

        server = installation.serve().await;
        let entries = server.entries(&id).await;
        books_add_up(&installation, &entries, &answered.lock().unwrap(), round);
        let key = server.admin(Method::GET, &format!("/api/v1/subkeys/{id}"), &Value::Null).await.json();
        let sum =
            entries.iter().fold(NanoUsd::ZERO, |sum, entry| sum.saturating_add(usd(&entry["cost_usd"])));
        assert_eq!(
            (usd(&key["budgets"][0]["spent_usd"]), usd(&key["budgets"][0]["held_usd"])),
            (sum, NanoUsd::ZERO)
        );
        assert!(sum <= CAP.parse().unwrap(), "{sum}");
        // The sums beside the log are what the log comes to, whenever it was killed.
        let usage =
            server.admin(Method::GET, &format!("/api/v1/usage?subkey={id}"), &Value::Null).await.json();
        let counted = entries.iter().map(|entry| entry["count"].as_u64().unwrap()).sum::<u64>();
        assert_eq!(
            (usd(&usage["items"][0]["cost_usd"]), &usage["items"][0]["requests"]),
            (sum, &json!(counted))
        );
        let again = server.chat(&secret, &body).await.unwrap();
        assert_eq!(again.status, 200, "{:?}", again.json());
        answered.lock().unwrap().push(again);
    }
}

fn books_add_up(installation: &Installation, entries: &[Value], answered: &[Answer], round: u64) {
    let mut by_id: BTreeMap<&str, &Value> = BTreeMap::new();
    for entry in entries {
        let twice = by_id.insert(entry["request_id"].as_str().unwrap(), entry);
        assert!(twice.is_none(), "{entry} has two entries");
    }
    for answer in answered {
        let id = answer.header("x-bitting-request-id").unwrap();
        let entry = by_id.get(id).unwrap_or_else(|| panic!("{id} was answered and has no record"));
        assert_eq!(entry["decision"] == "allowed", answer.status == 200);
    }
    let open: Vec<_> = entries.iter().filter(|entry| entry["outcome"] == "unknown_outcome").collect();
    assert!(u64::try_from(open.len()).unwrap() >= 5 * round, "four were held and one was a stream");
    for entry in open {
        assert_eq!(
            (&entry["cost_usd"], &entry["usage_source"]),
            (&entry["reserved_usd"], &json!("reserved"))
        );
    }
    let sum = entries.iter().fold(NanoUsd::ZERO, |sum, entry| sum.saturating_add(usd(&entry["cost_usd"])));
    assert!(sum >= installation.sandbox.bill().cost_usd, "never below the provider's bill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_no_answer_without_its_record_when_the_server_is_killed_on_sqlite() {
    Box::pin(no_answer_without_its_record(Installation::sqlite().await, 3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_no_answer_without_its_record_when_the_server_is_killed_on_postgres() {
    Box::pin(no_answer_without_its_record(Installation::postgres().await, 1)).await;
}
