//! Policy on every operation: each row of the table refuses each key that may not, in its own dialect, and the provider's
//! socket sees nothing; with a key that may, the same request gets through.

use super::asking::{self, MODEL, names_model};
use super::{assert_refusal, kind, still_clock};
use crate::support::objects::{Kept, put_on_record};
use crate::support::server::{Answer, CANARY, TestServer};
use crate::support::store::TestStore;
use crate::support::tap::Tap;
use bitting::policy::Operation;
use bitting::provider::operation::{Effect, ROWS, Row};
use chrono::TimeDelta;
use serde_json::{Value, json};

/// The object that paths name; every key has one of its own making.
const OBJECT: &str = "object_of_all_the_rows_0001";

/// A provider whose wire is tapped.
pub(super) struct Tapped {
    pub(super) server: TestServer,
    pub(super) tap: Tap,
    pub(super) credential: String,
}

impl Tapped {
    async fn start() -> Self {
        Self::over(TestStore::sqlite().await).await
    }

    pub(super) async fn over(store: TestStore) -> Self {
        let server = TestServer::start_with(store, still_clock(), &[]).await;
        let tap = Tap::on(&server.sandbox_url).await;
        let url = &tap.url;
        let dialects = json!({"openai": format!("{url}/v1"), "anthropic": url, "gemini": url});
        let made = json!({"slug": "tapped", "dialects": dialects});
        assert_eq!(server.admin_post("/api/v1/providers", &made).await.status, 201);
        let key = json!({"name": "main", "secret": CANARY});
        let made = server.admin_post("/api/v1/providers/tapped/credentials", &key).await.json();
        let credential = made["id"].as_str().unwrap().to_owned();
        Self { server, tap, credential }
    }

    /// A key for all that the tapped provider has, with `more` fields over that.
    pub(super) async fn mint(&self, more: Value) -> (String, String) {
        let mut fields = json!({"models": ["tapped/*"], "allow_truncation": true});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.server.mint(fields).await
    }

    async fn ask(&self, row: &Row, secret: &str, object: &str) -> Answer {
        let said = asking::said(row.form);
        self.server.call(asking::request(&self.server, (row, "tapped"), secret, object, said.as_ref())).await
    }

    /// An object of the row's kind that the key may use, where its path names one.
    pub(super) async fn own(&self, row: &Row, secret: &str, object: &str) {
        let kept = Kept { provider: "tapped", credential_id: &self.credential, model: Some(MODEL) };
        if let Some(kind) = row.effect.kind() {
            put_on_record(&self.server, secret, kept, kind, object).await;
        }
    }
}

/// A row in words.
pub(super) fn what(row: &Row) -> String {
    format!("{} {} in {}", row.method, row.template, row.dialect.as_str())
}

fn refused(answer: &Answer, row: &Row, (status, openai, code): (u16, &'static str, &str), why: &str) {
    let dialect = row.dialect.as_str();
    assert_refusal(
        answer,
        dialect,
        status,
        kind(dialect, status, openai),
        code,
        &format!("{why}: {}", what(row)),
    );
}

/// Whether the provider is asked at all, with a key that may do everything.
fn reaches_the_provider(effect: Effect) -> bool {
    match effect {
        Effect::Generates
        | Effect::Counts
        | Effect::Keeps(_)
        | Effect::Shows(_)
        | Effect::Stops(_)
        | Effect::Deletes(_) => true,
        Effect::ListsModels | Effect::Lists(_) | Effect::NotServed => false,
    }
}

const SUSPENDED: (u16, &str, &str) = (401, "authentication_error", "key_suspended");
const NO_OPERATION: (u16, &str, &str) = (403, "permission_error", "operation_not_allowed");
const NO_MODEL: (u16, &str, &str) = (403, "permission_error", "model_not_allowed");

#[tokio::test]
async fn p2_one_gate_every_row_refuses_whoever_may_not_and_the_provider_sees_nothing() {
    let tapped = Tapped::start().await;
    let server = &tapped.server;
    let soon = server.clock.now() + TimeDelta::seconds(5);
    let (_, expired) = tapped.mint(json!({"expires_at": soon})).await;
    server.clock.advance(TimeDelta::seconds(6));
    let (_, early) = tapped.mint(json!({"not_before": server.clock.now() + TimeDelta::days(1)})).await;
    let (_, elsewhere) = tapped.mint(json!({"ip_allow": ["192.0.2.0/24"]})).await;
    let (suspended_id, suspended) = tapped.mint(json!({})).await;
    let (revoked_id, revoked) = tapped.mint(json!({})).await;
    for (id, verb) in [(suspended_id, "suspend"), (revoked_id, "revoke")] {
        assert_eq!(server.admin_post(&format!("/api/v1/subkeys/{id}/{verb}"), &json!({})).await.status, 200);
    }
    let (_, modelless) = tapped.mint(json!({"models": ["tapped/other-*", "sandbox/*"]})).await;
    let (_, denied) = tapped.mint(json!({"deny_models": [format!("*{MODEL}")]})).await;

    for (number, row) in ROWS.iter().enumerate() {
        let object = format!("{OBJECT}_{number}");
        for (secret, expected) in [
            (&expired, (401, "authentication_error", "key_expired")),
            (&early, (401, "authentication_error", "key_not_yet_valid")),
            (&suspended, SUSPENDED),
            (&revoked, (401, "authentication_error", "key_revoked")),
            (&elsewhere, (403, "permission_error", "ip_not_allowed")),
        ] {
            refused(&tapped.ask(row, secret, &object).await, row, expected, expected.2);
        }
        if row.operation.is_free() {
            assert!(matches!(row.effect, Effect::ListsModels | Effect::Counts), "{}", what(row));
        } else {
            let others: Vec<Operation> =
                Operation::LISTED.into_iter().filter(|other| *other != row.operation).collect();
            let (_, without) = tapped.mint(json!({"operations": others})).await;
            tapped.own(row, &without, &object).await;
            refused(&tapped.ask(row, &without, &object).await, row, NO_OPERATION, "without the operation");
        }
        for (secret, is_denied) in [(&modelless, false), (&denied, true)] {
            let object = format!("{object}_{is_denied}");
            tapped.own(row, secret, &object).await;
            let has_no_model = !names_model(row) && row.effect.kind().is_none();
            if has_no_model && is_denied && matches!(row.effect, Effect::Keeps(_)) {
                // What is only kept is of no model, and other models of the provider are the key's.
                continue;
            }
            let answer = tapped.ask(row, secret, &object).await;
            match row.effect {
                Effect::NotServed => refused(&answer, row, NO_OPERATION, "not served"),
                Effect::Lists(_) if is_denied => assert_eq!(answer.status, 200, "{}", what(row)),
                Effect::ListsModels => {
                    let listed = answer.json().to_string();
                    assert!(matches!(answer.status.as_u16(), 200 | 404), "{}: {listed}", what(row));
                    assert!(answer.status == 404 || !listed.contains(MODEL), "{}: {listed}", what(row));
                }
                _ => refused(&answer, row, NO_MODEL, "without the model"),
            }
        }
    }
    assert_eq!(tapped.tap.seen(), (0, 0), "the provider saw something");
}

#[tokio::test]
async fn p2_one_gate_every_row_refuses_what_a_suspended_provider_would_serve() {
    let tapped = Tapped::start().await;
    let (_, secret) = tapped.mint(json!({})).await;
    for (number, row) in ROWS.iter().enumerate() {
        tapped.own(row, &secret, &format!("{OBJECT}_{number}")).await;
    }
    let stopped = tapped.server.admin_post("/api/v1/providers/tapped/suspend", &json!({})).await;
    assert!(stopped.status.is_success(), "{}", stopped.json());
    for (number, row) in ROWS.iter().enumerate() {
        let answer = tapped.ask(row, &secret, &format!("{OBJECT}_{number}")).await;
        match row.effect {
            Effect::NotServed => refused(&answer, row, NO_OPERATION, "not served"),
            Effect::ListsModels => {
                assert!(matches!(answer.status.as_u16(), 200 | 404), "{}: {}", what(row), answer.json());
            }
            _ if row.effect.kind().is_some() => {
                let gone = (404, "invalid_request_error", "object_not_found");
                refused(&answer, row, gone, "suspended");
            }
            _ => refused(&answer, row, NO_MODEL, "suspended"),
        }
    }
    assert_eq!(tapped.tap.seen(), (0, 0), "the provider saw something");
}

#[tokio::test]
async fn every_row_gets_through_with_a_key_that_may() {
    let tapped = Tapped::start().await;
    let (id, secret) = tapped.mint(json!({})).await;
    for (number, row) in ROWS.iter().enumerate() {
        let object = format!("{OBJECT}_{number}");
        tapped.own(row, &secret, &object).await;
        let (before, was) = (tapped.tap.seen().1, tapped.server.sandbox.requests().len());
        let answer = tapped.ask(row, &secret, &object).await;
        let (what, sent) = (what(row), tapped.tap.seen().1 > before);
        assert_eq!(sent, reaches_the_provider(row.effect), "{what}: {} {}", answer.status, answer.json());
        match row.effect {
            Effect::NotServed => refused(&answer, row, NO_OPERATION, "not served"),
            Effect::Lists(_) => assert_eq!(answer.status, 200, "{what}: {}", answer.json()),
            Effect::ListsModels => {
                assert!(matches!(answer.status.as_u16(), 200 | 404), "{what}: {}", answer.json());
            }
            // The sandbox never made that object; that it says so itself is enough.
            _ if row.effect.kind().is_some() => {
                assert!(answer.header("x-bitting-error").is_none(), "{what}: {}", answer.json());
            }
            _ => assert_eq!(answer.status, 200, "{what}: {}", answer.json()),
        }
        if sent {
            let requests = tapped.server.sandbox.requests();
            assert_eq!(requests.len(), (was + 1).min(256), "{what}: one request each");
            let entry = tapped.server.entries(&id).await.pop().unwrap();
            assert_eq!(entry["decision"], "allowed", "{what}");
            assert_eq!(requests.last().unwrap().method, row.method.as_str(), "{what}");
        }
    }
}
