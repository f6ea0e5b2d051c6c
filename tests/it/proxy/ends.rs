//! How streams end: with the mark of their dialect, with HTTP alone, or in the middle; and what the client then has is
//! what its library can read.

use super::half::{EVENTS, Provider, ask, unframed};
use crate::support::server::TestServer;
use crate::support::store::{TestStore, on_both};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

/// An array with what Google and others put between elements.
const ARRAY: &str = "[{\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"a ]}\\\"[{,\"}]}}]}\r\n,\r\n{\"a\":[1]} , {\"candidates\":[]}\n]";

/// The stream up to each byte, and then nothing more: where an element can follow, the error is the array's last one, and
/// elsewhere nothing is added.
#[tokio::test]
async fn an_array_that_breaks_off_at_any_byte_is_ended_or_left_as_it_is() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let provider = Provider::register(&server).await;
    let (_, secret) = server.mint(json!({"models": ["half/*"]})).await;
    let path = "/v1beta/models/m:streamGenerateContent";
    let mut told = 0;
    for cut in 0..=ARRAY.len() {
        let (mut raw, mut answer) =
            tokio::join!(ask(&server, &secret, path), provider.answer("application/json"));
        let (start, can_follow) = (&ARRAY[..cut], can_follow(&ARRAY[..cut]));
        if cut > 0 {
            answer.say(start).await;
        }
        drop(answer);
        let answer = String::from_utf8(raw.rest().await).unwrap();
        let (body, has_ended) = unframed(answer.split_once("\r\n\r\n").unwrap().1.as_bytes());
        assert!(!has_ended, "{body}");
        // What waited for the end of an escape did not go, and an element can follow what did.
        if !can_follow && body == start {
            continue;
        }
        let array: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("no JSON: {body}"));
        let error = array.as_array().unwrap().last().unwrap();
        assert_eq!(error["error"]["details"][0]["reason"], "upstream_error", "{body}");
        told += usize::from(can_follow);
    }
    assert!(told > 12, "{told}");
}

/// Whether an element can follow, by a way of its own: there is a way to go on to an array.
fn can_follow(start: &str) -> bool {
    let is_array = |end: &str| serde_json::from_str::<Vec<Value>>(&format!("{start}{end}")).is_ok();
    is_array("[7]") || is_array("7]") || is_array(",7]")
}

const CONTENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n";
const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2}}\n\n";

on_both! {
    async fn a_stream_that_ends_by_http_alone_is_whole_where_it_told_why_it_ended(test: TestStore) {
        let server = TestServer::start(test).await;
        let provider = Provider::register(&server).await;
        let budgets = json!({"models": ["half/*"], "budgets": [{"limit_usd": "1", "window": "day"}]});
        let (id, secret) = server.mint(budgets).await;
        for (events, is_whole, source) in [
            (&[CONTENT, STOP, USAGE][..], true, "reported"),
            (&[CONTENT, STOP], true, "estimated"),
            (&[CONTENT], false, "estimated"),
            (&[CONTENT, USAGE], false, "estimated"),
        ] {
            let (mut raw, mut answer) =
                tokio::join!(ask(&server, &secret, "/v1/chat/completions"), provider.answer(EVENTS));
            for event in events {
                answer.say(event).await;
            }
            answer.0.write_all(b"0\r\n\r\n").await.unwrap();
            let said = raw.said().await;
            let entry = server.entries(&id).await.pop().unwrap();
            assert_eq!(entry["usage_source"], source, "{events:?}: {entry}");
            assert_ne!(entry["cost_usd"], "0.00", "{events:?}");
            if is_whole {
                let body = String::from_utf8(said.expect("a clean end").body).unwrap();
                assert_eq!(body.trim_end_matches("\r\n"), events.concat(), "as it came");
                assert_eq!((&entry["outcome"], &entry["rule"]), (&json!("completed"), &json!(null)), "{entry}");
            } else {
                assert!(said.is_none(), "never a clean end: {said:?}");
                assert_eq!((&entry["outcome"], &entry["rule"]), (&json!("upstream_failed"), &json!("upstream_error")));
            }
        }
        server.end().await;
    }
}
