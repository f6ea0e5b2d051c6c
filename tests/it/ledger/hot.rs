//! One cap that everybody shares, beside a cap for each: the ratio of what both let through, in one run.

use super::total;
use crate::support::server::TestServer;
use crate::support::store::TestStore;
use futures_util::future::join_all;
use serde_json::json;
use std::time::Instant;

const CONNECTIONS: usize = 64;
const EACH: usize = 25;
const ROUNDS: usize = 5;

/// Requests a second of 64 connections, each with its secret.
async fn throughput(server: &TestServer, secrets: &[String]) -> f64 {
    let began = Instant::now();
    join_all(secrets.iter().map(async |secret| {
        for _ in 0..EACH {
            let answer = server.chat(secret, "sandbox-mini").await;
            assert_eq!(answer.status, 200, "{:?}", answer.json());
        }
    }))
    .await;
    f64::from(u32::try_from(CONNECTIONS * EACH).unwrap()) / began.elapsed().as_secs_f64()
}

async fn shared_beside_separate(test: TestStore, name: &str) {
    let server = TestServer::start(test).await;
    let mut separate = Vec::new();
    for _ in 0..CONNECTIONS {
        separate.push(server.mint(total("1")).await.1);
    }
    let mut shared_cap = total("64");
    shared_cap["name"] = json!("shared");
    let shared = vec![server.mint(shared_cap).await.1; CONNECTIONS];
    // Whoever goes first finds neither connections nor leases.
    throughput(&server, &separate).await;
    throughput(&server, &shared).await;
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let (one, many) = (throughput(&server, &shared).await, throughput(&server, &separate).await);
        println!(
            "{name}: one cap {one:.0} requests/s, 64 caps {many:.0} requests/s, ratio {:.2}",
            one / many
        );
        ratios.push(one / many);
    }
    ratios.sort_by(f64::total_cmp);
    println!("{name}: median ratio {:.2}", ratios[ROUNDS / 2]);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run with --include-ignored --nocapture on a quiet machine"]
async fn one_cap_of_64_connections_beside_64_caps() {
    shared_beside_separate(TestStore::sqlite().await, "SQLite").await;
    shared_beside_separate(TestStore::postgres().await, "PostgreSQL").await;
}
