//! Leases: what is covered goes ahead of the disk, what a crash leaves is charged, and what nobody uses goes back.

use super::{books, entries_once, list_model, model_document, read_to_end, streamed, total, usd};
use crate::support::process::Installation;
use crate::support::server::{TestServer, chat};
use crate::support::store::{Locked, TestStore, on_both};
use bitting::base::NanoUsd;
use http::Method;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HELD: &str = "sandbox-mini+hold";

/// A server, and a key of which a lease covers the next request.
async fn covered(test: TestStore, environment: &[(&str, &str)]) -> (TestServer, String, String) {
    let server = TestServer::start_with(test, bitting::base::Clock::system(), environment).await;
    list_model(&server, "sandbox", HELD).await;
    let (id, secret) = server.mint(total("1")).await;
    let (first, ()) = tokio::join!(server.chat(&secret, HELD), async {
        server.sandbox.wait_held(1).await;
        server.sandbox.release();
    });
    assert_eq!(first.status, 200, "{:?}", first.json());
    (server, id, secret)
}

on_both! {
    async fn p4_a_covered_request_is_forwarded_before_anything_is_written_for_it(test: TestStore) {
        let (server, id, secret) = covered(test, &[]).await;
        // While somebody holds the database, nothing can be written.
        let locked = Locked::new(&server.store.url).await;
        let (is_writable, requests) = (AtomicBool::new(false), server.sandbox.bill().requests);
        let asked = async {
            let answer = server.chat(&secret, HELD).await;
            assert!(is_writable.load(Ordering::SeqCst), "answered before it was on record");
            answer
        };
        let freed = async {
            server.sandbox.wait_held(1).await;
            server.sandbox.release();
            while server.sandbox.bill().in_flight > 0 {
                tokio::task::yield_now().await;
            }
            is_writable.store(true, Ordering::SeqCst);
            locked.release().await;
        };
        let (answer, ()) = tokio::join!(asked, freed);
        assert_eq!((answer.status.as_u16(), server.sandbox.bill().requests), (200, requests + 1));
        assert_eq!(books(&server, &id).await, (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
        server.end().await;
    }

    async fn p4_an_answer_that_cannot_be_recorded_is_withheld_and_nobody_is_kept_waiting(test: TestStore) {
        let (server, id, secret) = covered(test, &[]).await;
        let locked = Locked::new(&server.store.url).await;
        let (answer, ()) = tokio::join!(server.chat(&secret, HELD), async {
            server.sandbox.wait_held(1).await;
            server.sandbox.release();
        });
        assert_eq!(answer.refusal(), (503, "store_unavailable".to_owned()));
        assert_eq!(answer.header("x-should-retry"), Some("false"), "it was sent");
        locked.release().await;
        let entries = entries_once(&server, &id, 2).await;
        assert_eq!(usd(&entries[1]["cost_usd"]), usd(&entries[0]["cost_usd"]), "the provider bills it all the same");
        assert_eq!(books(&server, &id).await, (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
        server.end().await;
    }

    async fn p4_nothing_of_a_stream_is_seen_before_it_is_on_record(test: TestStore) {
        let (server, _, secret) = covered(test, &[]).await;
        list_model(&server, "sandbox", "sandbox-mini+gap=50,tokens=20").await;
        let locked = Locked::new(&server.store.url).await;
        let (is_writable, requests) = (AtomicBool::new(false), server.sandbox.bill().requests);
        let asked = async {
            // Its head comes long before its end.
            let body = streamed("sandbox-mini+gap=50,tokens=20").to_string();
            let answer = server.send(server.proxied(&secret, "/v1/chat/completions", body)).await;
            assert!(is_writable.load(Ordering::SeqCst), "seen before it was on record");
            answer
        };
        let freed = async {
            while server.sandbox.bill().requests == requests || server.sandbox.bill().in_flight > 0 {
                tokio::task::yield_now().await;
            }
            is_writable.store(true, Ordering::SeqCst);
            locked.release().await;
        };
        let (answer, ()) = tokio::join!(asked, freed);
        assert_eq!((answer.status().as_u16(), server.sandbox.bill().requests), (200, requests + 1));
        assert!(read_to_end(answer).await.1, "a clean end");
        server.end().await;
    }

    async fn p4_before_forward_nothing_is_sent_that_is_not_on_record(test: TestStore) {
        let (server, _, secret) = covered(test, &[("BITTING_DURABILITY", "before_forward")]).await;
        let locked = Locked::new(&server.store.url).await;
        let is_writable = AtomicBool::new(false);
        let freed = async {
            let sent = tokio::time::timeout(Duration::from_millis(300), server.sandbox.wait_held(1)).await;
            assert!(sent.is_err(), "sent while nothing could be written");
            is_writable.store(true, Ordering::SeqCst);
            locked.release().await;
            server.sandbox.wait_held(1).await;
            server.sandbox.release();
        };
        let (answer, ()) = tokio::join!(server.chat(&secret, HELD), freed);
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        server.end().await;
    }

    /// A key without budgets needs no lease. The store has to be known to work all the same, and a while ago does not count.
    async fn p4_nothing_is_forwarded_on_the_word_of_an_old_commit(test: TestStore) {
        let (server, _, _) = covered(test, &[]).await;
        let (_, secret) = server.mint(json!({})).await;
        tokio::time::sleep(Duration::from_millis(2_200)).await;
        let locked = Locked::new(&server.store.url).await;
        let freed = async {
            let sent = tokio::time::timeout(Duration::from_millis(300), server.sandbox.wait_held(1)).await;
            assert!(sent.is_err(), "sent, and nothing could be written for seconds");
            locked.release().await;
            server.sandbox.wait_held(1).await;
            server.sandbox.release();
        };
        let (answer, ()) = tokio::join!(server.chat(&secret, HELD), freed);
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        server.end().await;
    }

    async fn p5_a_covered_request_is_decided_by_what_its_key_is_when_its_body_is_read(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(total("1")).await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        let body = chat("sandbox-mini").to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: bitting\r\nauthorization: Bearer {secret}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let mut socket = TcpStream::connect(server.proxy.trim_start_matches("http://")).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        // It asks for the body when it has recognised the key.
        let mut asks = [0; 25];
        socket.read_exact(&mut asks).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&asks), "HTTP/1.1 100 Continue\r\n\r\n");
        let path = format!("/api/v1/subkeys/{id}");
        let patched = server.admin_call(Method::PATCH, &path, Some(&json!({"models": []}))).await;
        assert_eq!(patched.status, 200, "{:?}", patched.json());
        let requests = server.sandbox.bill().requests;
        socket.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("model_not_allowed"), "{answer}");
        assert_eq!(server.sandbox.bill().requests, requests);
        server.end().await;
    }

    async fn what_nobody_uses_goes_back(test: TestStore) {
        let (server, id, secret) = covered(test, &[]).await;
        let held = async || {
            let budget = bitting::store::budget::BudgetId::new(
                &bitting::store::budget::BudgetOwner::subkey(&bitting::subkey::SubKeyId::parse(&id).unwrap()),
                bitting::budget::Window::Total,
            );
            let mut read = server.services.store.read().await.unwrap();
            let start = chrono::DateTime::UNIX_EPOCH;
            bitting::store::budget::balance(&mut read.conn(), &budget, start).await.unwrap().unwrap().held
        };
        assert_ne!(held().await, NanoUsd::ZERO, "the next request is covered");
        let mut turns = tokio::time::interval(Duration::from_millis(100));
        for turn in 0.. {
            turns.tick().await;
            if held().await == NanoUsd::ZERO {
                break;
            }
            assert!(turn < 200, "it is still held");
        }
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        assert_eq!(books(&server, &id).await, (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
        server.end().await;
    }

    async fn a_server_that_ends_properly_leaves_nothing_leased(test: TestStore) {
        let (mut server, id, _) = covered(test, &[]).await;
        server.pause().await;
        server.resume().await;
        assert_eq!(books(&server, &id).await, (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
        assert_eq!(entries_once(&server, &id, 1).await.len(), 1);
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        server.end().await;
    }

    async fn p3_a_window_whose_provider_billed_above_its_bound_is_blocked(test: TestStore) {
        let server = TestServer::start(test).await;
        list_model(&server, "sandbox", "sandbox-mini+usage_times=1000").await;
        let (id, secret) = server.mint(total("1")).await;
        let answer = server.chat(&secret, "sandbox-mini+usage_times=1000").await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        let alarm = server.alarms_once("bill_above_bound").await.remove(0);
        let refused = server.chat(&secret, "sandbox-mini").await;
        assert_eq!(refused.refusal(), (402, "budget_exceeded".to_owned()), "{alarm}");
        let details = &refused.json()["error"]["details"];
        assert_eq!((usd(&details["limit_usd"]), usd(&details["held_usd"])), ("1".parse().unwrap(), NanoUsd::ZERO), "{details}");
        assert_eq!(usd(&details["spent_usd"]), books(&server, &id).await.0, "{details}");
        let path = format!("/api/v1/alarms/{}/close", alarm["id"].as_str().unwrap());
        assert_eq!(server.admin_post(&path, &json!({"reason": "the catalog was wrong"})).await.status, 200);
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        server.end().await;
    }

    async fn p3_a_bills_alarm_frees_the_windows_of_its_provider_alone_and_is_never_missing(test: TestStore) {
        let server = TestServer::start(test).await;
        let other = json!({"slug": "other", "dialects": {"openai": format!("{}/v1", server.sandbox_url)}});
        let made = server.admin_post("/api/v1/providers", &other).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
        let key = json!({"name": "main", "secret": "another-key-5f8b2c91d7e64a03"});
        assert_eq!(server.admin_post("/api/v1/providers/other/credentials", &key).await.status, 201);
        let model = "sandbox-mini+usage_times=1000";
        let mut secrets = Vec::new();
        for provider in ["sandbox", "other"] {
            list_model(&server, provider, model).await;
            let definition = json!({"models": ["sandbox/*", "other/*"], "budgets": [{"limit_usd": "1", "window": "total"}]});
            let (_, secret) = server.mint(definition).await;
            assert_eq!(server.chat(&secret, &format!("{provider}/{model}")).await.status, 200);
            server.alarm_about("bill_above_bound", provider).await;
            secrets.push(secret);
        }
        // It was never written: killed in between, or too many waited.
        server.store.tamper("DELETE FROM alarms WHERE subject = 'other'").await;
        let admitted = async || {
            let mut admitted = Vec::new();
            for secret in &secrets {
                admitted.push(server.chat(secret, "sandbox/sandbox-mini").await.status == 200);
            }
            admitted
        };
        for (provider, expected) in [("sandbox", [true, false]), ("other", [true, true])] {
            assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
            let alarm = server.alarm_about("bill_above_bound", provider).await;
            let path = format!("/api/v1/alarms/{}/close", alarm["id"].as_str().unwrap());
            assert_eq!(server.admin_post(&path, &json!({"reason": "the catalog was wrong"})).await.status, 200);
            assert_eq!(admitted().await, expected, "{provider}");
        }
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        server.end().await;
    }
}

/// Killed right after an answer: what was leased for the next requests may have been drawn, as far as anybody knows.
async fn killed(installation: Installation, durability: &str) -> (Vec<Value>, NanoUsd, NanoUsd) {
    let server = installation.serve_first().await;
    let path = format!("/api/v1/models/sandbox/{HELD}");
    assert!(server.admin(Method::PUT, &path, &model_document(HELD)).await.status.is_success());
    let team = json!({"slug": "team", "budgets": [{"limit_usd": "1", "window": "total"}]});
    assert!(server.admin(Method::POST, "/api/v1/projects", &team).await.status.is_success());
    let definition = json!({"name": "ci", "project": "team", "models": ["sandbox/*"], "budgets": [
        {"limit_usd": "1", "window": "total"}, {"limit_usd": "2", "window": "month"}]});
    let (id, secret) = server.mint(&definition).await;
    server.terminate();
    let mut child = server.child;
    child.wait().await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let environment = [("BITTING_DURABILITY", durability)];
    let server = installation.serve_telling(&environment, &folder.path().join("log")).await;
    assert_eq!(server.chat(&secret, &chat("sandbox-mini")).await.unwrap().status, 200);
    server.kill();
    let mut child = server.child;
    child.wait().await.unwrap();

    let server = installation.serve().await;
    let key = server.admin(Method::GET, &format!("/api/v1/subkeys/{id}"), &Value::Null).await.json();
    for budget in key["budgets"].as_array().unwrap() {
        assert_eq!(usd(&budget["held_usd"]), NanoUsd::ZERO, "{budget}");
        assert_eq!(budget["spent_usd"], key["budgets"][0]["spent_usd"]);
    }
    let spent = usd(&key["budgets"][0]["spent_usd"]);
    let team = server.admin(Method::GET, "/api/v1/projects/team", &Value::Null).await.json();
    let of_team = &team["budgets"][0];
    assert_eq!((usd(&of_team["spent_usd"]), usd(&of_team["held_usd"])), (spent, NanoUsd::ZERO));
    let usage = server.admin(Method::GET, "/api/v1/usage?group_by=project", &Value::Null).await.json();
    let rows: Vec<&Value> = usage["items"].as_array().or(usage["rows"].as_array()).unwrap().iter().collect();
    assert_eq!(rows.len(), 1, "{usage}");
    assert_eq!(usd(&rows[0]["cost_usd"]), spent, "what key and project lost is told once");
    assert_eq!(server.chat(&secret, &chat("sandbox-mini")).await.unwrap().status, 200);
    let entries = server.entries(&id).await;
    (entries, spent, installation.sandbox.bill().cost_usd)
}

async fn a_crash_is_charged(installation: Installation) {
    let (entries, spent, _) = killed(installation, "before_answer").await;
    assert_eq!(entries.len(), 3, "{entries:?}");
    let charge = entries.iter().find(|entry| entry["rule"] == "crash_charge").unwrap();
    assert_eq!(
        (&charge["outcome"], &charge["usage_source"]),
        (&json!("unknown_outcome"), &json!("reserved"))
    );
    let request = entries.iter().find(|entry| entry["status"] == 200).unwrap();
    assert_eq!(spent, usd(&charge["cost_usd"]).saturating_add(usd(&request["cost_usd"])));
    // One request in flight, and what one cost: that was of use in the last seconds.
    let most = usd(&request["reserved_usd"]).saturating_add(usd(&request["cost_usd"]));
    assert!(usd(&charge["cost_usd"]) <= most, "{charge}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_leaves_leased_is_charged_on_sqlite() {
    Box::pin(a_crash_is_charged(Installation::sqlite().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_leaves_leased_is_charged_on_postgres() {
    Box::pin(a_crash_is_charged(Installation::postgres().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_forward_a_crash_gives_back_what_was_leased() {
    let (entries, spent, bill) = Box::pin(killed(Installation::sqlite().await, "before_forward")).await;
    assert_eq!(entries.len(), 2, "{entries:?}");
    assert_eq!(spent.saturating_add(spent), bill, "the same request twice, once after");
}
