//! A measurement, not a check: the gaps between the pieces of a stream, straight from the provider and through the gate.
//!
//!     cargo test --release --test it -- --ignored --nocapture gaps

use super::spoken;
use crate::support::server::{CANARY, TestServer, chat};
use crate::support::store::TestStore;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use std::time::{Duration, Instant};

/// The gaps between the pieces of one stream, shortest first.
async fn gaps(server: &TestServer, request: Request<Full<Bytes>>) -> Vec<Duration> {
    let mut body = server.send(request).await.into_body();
    let (mut gaps, mut last) = (Vec::new(), None::<Instant>);
    while let Some(frame) = body.frame().await {
        frame.unwrap();
        let now = Instant::now();
        gaps.extend(last.replace(now).map(|last| now - last));
    }
    gaps.sort_unstable();
    gaps
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and checks nothing"]
async fn the_gaps_of_a_guarded_stream_beside_those_of_a_plain_one() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({})).await;
    for (dialect, path) in [("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")] {
        let mut body = chat("sandbox-mini+tokens=400,gap=5");
        (body["stream"], body["max_tokens"]) = (json!(true), json!(500));
        let mut direct = spoken(&server, dialect, CANARY, path, &body);
        *direct.uri_mut() = format!("{}{path}", server.sandbox_url).parse().unwrap();
        let guarded = spoken(&server, dialect, &secret, path, &body);
        let (plain, guarded) = tokio::join!(gaps(&server, direct), gaps(&server, guarded));
        for (name, percent) in [("median", 50), ("p99", 99)] {
            let at = |gaps: &[Duration]| gaps[gaps.len() * percent / 100];
            let (plain, guarded) = (at(&plain), at(&guarded));
            let ratio = guarded.as_secs_f64() / plain.as_secs_f64();
            println!("{dialect:9} {name:6} plain {plain:?}, guarded {guarded:?}, ratio {ratio:.3}");
        }
    }
}
