//! P3 and P4 through `kill -9` at any moment, again and again, under load.

use super::{streamed, usd};
use crate::support::process::{Installation, Process};
use crate::support::server::{Answer, chat};
use bitting::base::NanoUsd;
use futures_util::future::{join, join_all};
use http::Method;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a start may take, by the promise that a restart is no outage.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// Room for a few of the requests under way at once, so that some are always refused.
const SMALL_CAP: &str = "0.002";
/// Room for every request of all rounds.
const LARGE_CAP: &str = "50";

/// Numbers without pattern, the same in each run (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A key with its cap, and the answers that came whole.
struct Key {
    id: String,
    secret: String,
    cap: NanoUsd,
    answered: Mutex<Vec<Answer>>,
}

impl Key {
    async fn mint(server: &Process, name: &str, cap: &str) -> Self {
        let budgets = json!([{"limit_usd": cap, "window": "total"}, {"limit_usd": "60", "window": "month"}]);
        let definition = json!({"name": name, "models": ["sandbox/*"], "budgets": budgets});
        let (id, secret) = server.mint(&definition).await;
        Self { id, secret, cap: cap.parse().unwrap(), answered: Mutex::default() }
    }

    /// Asks until the server is gone.
    async fn keep_asking(&self, server: &Process, body: &Value) {
        while let Some(answer) = server.chat(&self.secret, body).await {
            assert!([200, 402, 429].contains(&answer.status.as_u16()), "{:?}", answer.json());
            self.answered.lock().unwrap().push(answer);
        }
    }

    fn count(&self) -> u64 {
        u64::try_from(self.answered.lock().unwrap().len()).unwrap()
    }

    /// Holds what was answered against the log, and the log against the books. Returns what was charged.
    async fn adds_up(&self, server: &Process) -> NanoUsd {
        let entries = server.entries(&self.id).await;
        let mut by_id: HashMap<&str, &Value> = HashMap::new();
        for entry in &entries {
            assert!(
                by_id.insert(entry["request_id"].as_str().unwrap(), entry).is_none(),
                "{entry} is there twice"
            );
        }
        for answer in self.answered.lock().unwrap().iter() {
            let id = answer.header("x-bitting-request-id").unwrap();
            let entry = by_id.get(id).unwrap_or_else(|| panic!("{id} was answered and has no record"));
            assert_eq!(entry["decision"] == "allowed", answer.status == 200, "{entry}");
        }
        let charged =
            entries.iter().fold(NanoUsd::ZERO, |sum, entry| sum.saturating_add(usd(&entry["cost_usd"])));
        let key =
            server.admin(Method::GET, &format!("/api/v1/subkeys/{}", self.id), &Value::Null).await.json();
        let (spent, held) = (usd(&key["budgets"][0]["spent_usd"]), usd(&key["budgets"][0]["held_usd"]));
        assert_eq!((spent, held), (charged, NanoUsd::ZERO), "the books are the log");
        assert!(spent <= self.cap, "{spent} of {}", self.cap);
        charged
    }
}

async fn killed_again_and_again(installation: Installation, rounds: u64) {
    let mut numbers = Numbers(rounds);
    let mut server = installation.serve_first().await;
    let lasting = Key::mint(&server, "lasting", LARGE_CAP).await;
    let (whole, mut stream) = (chat("sandbox-mini"), streamed("sandbox-mini"));
    stream["max_tokens"] = json!(64);
    let (mut charged, mut slowest) = (NanoUsd::ZERO, Duration::ZERO);
    for round in 1..=rounds {
        let small = Key::mint(&server, &format!("round {round}"), SMALL_CAP).await;
        let last_answer = lasting.count() + numbers.below(40);
        let load = join_all((0..4).map(|_| {
            join(
                small.keep_asking(&server, &whole),
                join(lasting.keep_asking(&server, &stream), lasting.keep_asking(&server, &whole)),
            )
        }));
        let kill = async {
            while lasting.count() < last_answer {
                tokio::task::yield_now().await;
            }
            // And a moment more or less, so that it hits any step.
            for _ in 0..numbers.below(2_000) {
                tokio::task::yield_now().await;
            }
            server.kill();
        };
        join(load, kill).await;
        server.child.wait().await.unwrap();
        let began = Instant::now();
        server = installation.serve().await;
        slowest = slowest.max(began.elapsed());
        assert!(slowest < READY_WITHIN, "{slowest:?} until it served again");
        charged = charged.saturating_add(small.adds_up(&server).await);
        if round % 20 == 0 || round == rounds {
            let all = charged.saturating_add(lasting.adds_up(&server).await);
            assert!(all >= installation.sandbox.bill().cost_usd, "never below the provider's bill");
            println!("{round} rounds: {} answers, {slowest:?} the slowest start", lasting.count());
        }
    }
    let again = server.chat(&lasting.secret, &whole).await.unwrap();
    assert_eq!(again.status, 200, "{:?}", again.json());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p4_kills_at_any_moment_break_no_books_on_sqlite() {
    Box::pin(killed_again_and_again(Installation::sqlite().await, 4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p4_kills_at_any_moment_break_no_books_on_postgres() {
    Box::pin(killed_again_and_again(Installation::postgres().await, 2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: run with --include-ignored"]
async fn p3_p4_two_hundred_kills_at_any_moment_break_no_books() {
    Box::pin(killed_again_and_again(Installation::sqlite().await, 150)).await;
    Box::pin(killed_again_and_again(Installation::postgres().await, 50)).await;
}
