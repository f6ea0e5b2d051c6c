//! What a quarantine does to a running server, and that its end makes nothing good that was tampered with.

use crate::support::server::{Answer, TestServer, chat};
use crate::support::store::on_both;
use bitting::service::RowWatch;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const STREAM: &str = "sandbox-mini+gap=200,tokens=400";
const HELD: &str = "sandbox-mini+hold";
const MODEL: &str = "sandbox/sandbox-mini";

/// Lets a watch look once.
async fn look(server: &TestServer) {
    RowWatch::new(server.services.clone()).turn().await.unwrap();
}

fn suspended() -> (u16, String) {
    (401, "key_suspended".to_owned())
}

async fn ask(server: &TestServer, secret: &str, path: &str) -> Answer {
    let request = Request::get(format!("{}{path}", server.proxy));
    let request = request.header("authorization", format!("Bearer {secret}"));
    server.call(request.body(Full::default()).unwrap()).await
}

async fn list_model(server: &TestServer, model: &str) {
    let document = json!({
        "operations": ["chat"], "context_window": 128_000, "max_output_tokens": 16_384,
        "prices": {"input_per_mtok_usd": "0.15", "output_per_mtok_usd": "0.6"},
    });
    let path = format!("/api/v1/models/sandbox/{model}");
    assert!(server.admin_call(Method::PUT, &path, Some(&document)).await.status.is_success());
}

/// A key whose cap is raised, one whose MAC is gone, one that was revoked and is put back with its MAC, one that is good.
struct Tampered {
    raised: (String, String),
    unsigned: (String, String),
    revived: (String, String),
    good: (String, String),
}

impl Tampered {
    async fn mint(server: &TestServer) -> Self {
        let capped = || json!({"budgets": [{"limit_usd": "1", "window": "total"}]});
        let this = Self {
            raised: server.mint(capped()).await,
            unsigned: server.mint(capped()).await,
            revived: server.mint(capped()).await,
            good: server.mint(capped()).await,
        };
        for (_, secret) in [&this.raised, &this.unsigned, &this.revived, &this.good] {
            assert_eq!(server.chat(secret, MODEL).await.status, 200);
        }
        let id = &this.revived.0;
        let save = format!(
            "CREATE TABLE saved_key AS SELECT * FROM subkeys WHERE id = '{id}';
             CREATE TABLE saved_mac AS SELECT * FROM row_macs WHERE id = '{id}';"
        );
        server.store.tamper(&save).await;
        assert_eq!(server.admin_post(&format!("/api/v1/subkeys/{id}/revoke"), &json!({})).await.status, 200);
        this
    }

    fn sql(&self) -> String {
        let ([raised, unsigned], id) = ([&self.raised.0, &self.unsigned.0], &self.revived.0);
        format!(
            "UPDATE budgets SET limit_nano = 9777000000000 WHERE owner = 'subkey:{raised}';
             DELETE FROM row_macs WHERE id = '{unsigned}';
             UPDATE subkeys SET state = 'active', version = (SELECT version FROM saved_key) WHERE id = '{id}';
             UPDATE row_macs SET mac = (SELECT mac FROM saved_mac) WHERE id = '{id}';
             INSERT INTO row_macs SELECT 'subkeys', 'made up', term, mac FROM saved_mac;"
        )
    }

    /// The bad ones are nobody's, by whatever server; the good one works.
    async fn is_told_apart(&self, server: &TestServer, unsigned_is_good: bool) {
        let sent = server.sandbox.requests().len();
        let mut bad = vec![&self.raised, &self.revived];
        bad.extend((!unsigned_is_good).then_some(&self.unsigned));
        for (id, secret) in &bad {
            for _ in 0..2 {
                let answer = server.chat(secret, MODEL).await;
                assert_eq!(answer.status, 401, "{id}: {:?}", answer.json());
            }
        }
        assert_eq!(server.sandbox.requests().len(), sent, "nothing is forwarded");
        assert_eq!(server.chat(&self.good.1, MODEL).await.status, 200);
        if unsigned_is_good {
            assert_eq!(server.chat(&self.unsigned.1, MODEL).await.status, 200);
        }
    }
}

async fn release(server: &TestServer) -> Vec<Value> {
    let done = server.admin_post("/api/v1/vault/release", &json!({})).await;
    assert_eq!(done.status, 200, "{:?}", done.json());
    assert_eq!(done.json()["released"], true);
    done.json()["unusable"].as_array().unwrap().clone()
}

fn names(keys: &[&(String, String)]) -> Vec<Value> {
    let mut names: Vec<String> = keys.iter().map(|(id, _)| format!("subkeys/{id}")).collect();
    names.sort();
    names.into_iter().map(Value::from).collect()
}

on_both! {
    async fn a_quarantine_cuts_what_is_in_flight_and_leaves_the_operators_their_work(test: TestStore) {
        let server = TestServer::start(test).await;
        list_model(&server, STREAM).await;
        list_model(&server, HELD).await;
        let (id, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "total"}]})).await;
        let mut long = chat(STREAM);
        (long["stream"], long["max_tokens"]) = (json!(true), json!(400));
        let mut stream = server.send(server.proxied(&secret, "/v1/chat/completions", long.to_string())).await;
        assert_eq!(stream.status(), 200);
        stream.body_mut().frame().await.unwrap().unwrap();
        let quarantine = async {
            server.sandbox.wait_held(1).await;
            server.store.tamper("UPDATE register SET epoch = epoch + 1").await;
            look(&server).await;
            Instant::now()
        };
        let (held, since) = tokio::join!(server.chat(&secret, HELD), quarantine);
        assert_eq!(held.status, 401, "{:?}", held.json());
        let (mut body, mut text, mut clean) = (stream.into_body(), String::new(), true);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                clean = false;
                break;
            };
            text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default()));
        }
        assert!(since.elapsed() < Duration::from_secs(2), "cut after {:?}", since.elapsed());
        assert!(!text.contains("[DONE]") && (!clean || text.contains("\"error\"")), "{text}");
        let entries = server.entries(&id).await;
        assert!(entries.iter().all(|entry| entry["outcome"] == "cut" && entry["cost_usd"] != "0.00"), "{entries:?}");

        let sent = server.sandbox.requests().len();
        assert_eq!(server.chat(&secret, MODEL).await.refusal(), suspended());
        for path in ["/v1/models", "/v1/models/sandbox-mini", "/bitting/self"] {
            assert_eq!(ask(&server, &secret, path).await.refusal(), suspended(), "{path}");
        }
        assert_eq!(server.sandbox.requests().len(), sent, "nothing is forwarded");
        let ready = server.admin_get("/readyz").await;
        assert_eq!((ready.status.as_u16(), &ready.json()["reasons"]), (503, &json!(["quarantined"])));

        // Operators look, mint, stop and release.
        let shown = server.admin_get(&format!("/api/v1/subkeys/{id}")).await.json();
        assert_eq!((&shown["status"], &shown["quarantined"]), (&json!("active"), &json!(true)));
        let (_, fresh) = server.mint(json!({})).await;
        assert_eq!(server.chat(&fresh, MODEL).await.refusal(), suspended());
        assert_eq!(server.admin_post(&format!("/api/v1/subkeys/{id}/revoke"), &json!({})).await.status, 200);
        assert_eq!(server.chat(&secret, MODEL).await.refusal(), suspended());
        assert_eq!(release(&server).await, Vec::<Value>::new());
        assert_eq!(server.chat(&secret, MODEL).await.refusal(), (401, "key_revoked".to_owned()));
        assert_eq!(server.chat(&fresh, MODEL).await.status, 200);
    }

    async fn a_release_of_a_running_server_makes_no_tampered_row_good(test: TestStore) {
        let mut server = TestServer::start(test).await;
        let keys = Tampered::mint(&server).await;
        look(&server).await;
        server.store.tamper(&keys.sql()).await;
        look(&server).await;
        assert_eq!(server.services.quarantine().unwrap().reason, "register_mismatch");
        assert_eq!(server.chat(&keys.good.1, MODEL).await.refusal(), suspended());
        // The MAC that was deleted is in memory yet, so its row is known to be as it was written.
        assert_eq!(release(&server).await, names(&[&keys.raised, &keys.revived]));
        keys.is_told_apart(&server, true).await;
        server.pause().await;
        server.resume().await;
        assert_eq!(server.services.quarantine(), None, "the book is what is in the database");
        keys.is_told_apart(&server, true).await;
        look(&server).await;
        assert_eq!(server.services.quarantine(), None);
    }

    async fn a_release_after_a_start_makes_no_tampered_row_good(test: TestStore) {
        let mut server = TestServer::start(test).await;
        let keys = Tampered::mint(&server).await;
        server.pause().await;
        server.store.tamper(&keys.sql()).await;
        server.resume().await;
        assert_eq!(server.services.quarantine().unwrap().reason, "register_mismatch");
        assert_eq!(server.chat(&keys.good.1, MODEL).await.refusal(), suspended());
        // The row that was put back fits its MAC; that it was revoked stands in the log.
        let unusable = release(&server).await;
        for lost in names(&[&keys.raised, &keys.unsigned, &keys.revived]) {
            assert!(unusable.contains(&lost), "{lost}: {unusable:?}");
        }
        keys.is_told_apart(&server, false).await;
        server.pause().await;
        server.resume().await;
        assert_eq!(server.services.quarantine(), None, "the book is what is in the database");
        keys.is_told_apart(&server, false).await;
        look(&server).await;
        assert_eq!(server.services.quarantine(), None);
    }

    async fn a_long_order_comes_in_parts_and_can_be_repeated(test: TestStore) {
        let mut server = TestServer::start(test).await;
        let budget = || json!({"budgets": [{"limit_usd": "1", "window": "total"}]});
        let ((one, dead), (two, live)) = (server.mint(budget()).await, server.mint(budget()).await);
        server.pause().await;
        server.store.tamper("UPDATE register SET epoch = epoch + 1").await;
        server.resume().await;
        let time = "2026-11-22T10:30:00Z";
        let first = json!({"revoke": [one], "spend": [{"subkey_id": two, "time": time, "cost_usd": "0.25"}], "more": true});
        for _ in 0..2 {
            let done = server.admin_post("/api/v1/vault/release", &first).await;
            assert_eq!((done.status.as_u16(), &done.json()["released"]), (200, &json!(false)), "{:?}", done.json());
            assert_eq!(server.chat(&live, MODEL).await.refusal(), suspended());
        }
        let log = server.admin_get("/api/v1/admin-log?action=vault.release_part").await.json();
        assert_eq!(log["items"].as_array().unwrap().len(), 2, "{log}");
        release(&server).await;
        assert_eq!(server.chat(&dead, MODEL).await.refusal(), (401, "key_revoked".to_owned()));
        let key = server.admin_get(&format!("/api/v1/subkeys/{two}")).await.json();
        assert_eq!(key["budgets"][0]["spent_usd"], "0.25");
        assert_eq!(server.chat(&live, MODEL).await.status, 200);
    }
}
