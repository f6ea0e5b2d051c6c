//! Clients that take their time: each wait has its end, and nobody else waits.

use super::raw::{Raw, good, written};
use super::still_clock;
use crate::support::server::{FILE, TestServer};
use crate::support::store::TestStore;
use futures_util::future::join_all;
use serde_json::json;
use std::time::{Duration, Instant};

/// Every wait of the listener is a second, the shortest that can be set.
const IMPATIENT: &str = "[limits]\nheader_read_seconds = 1\nbody_read_seconds = 1\nkeep_alive_seconds = 1";

#[tokio::test]
async fn x09_slow_heads_slow_bodies_and_idle_connections_are_closed() {
    let server = TestServer::start_with(TestStore::sqlite().await, still_clock(), &[(FILE, IMPATIENT)]).await;
    let (id, secret) = server.mint(json!({})).await;
    let (server, good) = (&server, good(&secret));
    let head_end = good.find("\r\n\r\n").unwrap() + 4;
    let silent = ["", "P", "PRI * HTTP/2.0\r\n\r\nSM", &good[..40], &good[..head_end - 2]];
    let silent = silent.map(|start| async move {
        let mut raw = Raw::connect(server).await;
        raw.send(start).await;
        raw.assert_closed("a head that does not end").await;
    });
    let chunked = written(&secret, "Transfer-Encoding: chunked\r\n", "5\r\nhel");
    let slow = [&good[..head_end], &good[..good.len() - 1], &chunked].map(|start| async move {
        let mut raw = Raw::connect(server).await;
        raw.send(start).await;
        let said = raw.said().await.unwrap();
        assert_eq!((said.status, said.code().as_str()), (400, "invalid_body"), "{said:?}");
        raw.assert_closed("a body that does not end").await;
    });
    let idle = async {
        let mut raw = Raw::connect(server).await;
        raw.send(&good).await;
        assert_eq!(raw.said().await.unwrap().status, 200);
        raw.assert_closed("a connection without a request").await;
    };
    let began = Instant::now();
    tokio::join!(join_all(silent), join_all(slow), idle);
    assert!(began.elapsed() >= Duration::from_secs(1), "each had its second");
    assert_eq!(server.sandbox.requests().len(), 1);
    let entries = server.entries(&id).await;
    assert_eq!(entries.iter().filter(|entry| entry["rule"] == "invalid_body").count(), 3, "{entries:?}");
}

/// A measurement, not a check:
///
///     cargo test --release --test it -- --ignored --nocapture slow_heads
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and checks nothing"]
async fn x09_the_p99_of_others_beside_five_hundred_slow_heads() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({})).await;
    let p99 = async || {
        let mut took = Vec::new();
        for _ in 0..1_000 {
            let began = Instant::now();
            assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
            took.push(began.elapsed());
        }
        took.sort_unstable();
        (took[500], took[989])
    };
    p99().await;
    let before = p99().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let slow: Vec<_> = (0..500)
        .map(|_| {
            let (url, stop) = (server.proxy.clone(), stop.clone());
            // A byte every 5 s, and again from the start when the server has had enough.
            tokio::spawn(stop.run_until_cancelled_owned(async move {
                loop {
                    let mut raw = Raw::connect_to(&url).await;
                    for byte in b"POST /" {
                        raw.send([*byte]).await;
                        tokio::time::sleep(Duration::from_secs(5)).await;
                    }
                }
            }))
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let beside = p99().await;
    stop.cancel();
    join_all(slow).await;
    let ratio = beside.1.as_secs_f64() / before.1.as_secs_f64();
    println!(
        "median {:?} -> {:?}, p99 {:?} -> {:?}, ratio {ratio:.2}",
        before.0, beside.0, before.1, beside.1
    );
}
