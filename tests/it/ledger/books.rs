//! The books and the budgets' rows against whoever can write SQL: nothing is admitted by what was changed.

use super::{books, list_model, total};
use crate::support::server::TestServer;
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

const IN_DISORDER: (u16, &str) = (402, "budget_exceeded");
const TAMPERED: (u16, &str) = (401, "key_suspended");

/// A server, and a key of it that was used once.
async fn used(test: crate::support::store::TestStore) -> (TestServer, String, String) {
    let server = TestServer::start(test).await;
    let (id, secret) = server.mint(total("1")).await;
    let answer = server.chat(&secret, "sandbox-mini").await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    (server, id, secret)
}

/// Refused in this way, with an alarm, and nothing is forwarded.
async fn is_refused(
    server: &TestServer,
    (id, secret): (&str, &str),
    (status, code): (u16, &str),
    what: &str,
) -> Value {
    let requests = server.sandbox.bill().requests;
    for _ in 0..2 {
        let answer = server.chat(secret, "sandbox-mini").await;
        assert_eq!(answer.refusal(), (status, code.to_owned()), "{what}: {:?}", answer.json());
    }
    assert_eq!(server.sandbox.bill().requests, requests, "{what}: nothing is forwarded");
    let (kind, subject) = match code {
        "key_suspended" => ("row_tampered", format!("budgets/subkey:{id}/total")),
        _ => ("books_do_not_add_up", format!("subkey:{id}/total")),
    };
    let alarm = server.alarm_about(kind, &subject).await;
    let rule = if kind == "row_tampered" { kind } else { code };
    assert_eq!(server.entries(id).await.last().unwrap()["rule"], rule, "{what}");
    alarm
}

/// One request that what was leased before may cover: it is admitted by what the rows were then, and its settlement finds
/// what became of them.
async fn finds_it(server: &TestServer, secret: &str) {
    let answer = server.chat(secret, "sandbox-mini").await;
    assert!([200, 401, 402].contains(&answer.status.as_u16()), "{:?}", answer.json());
}

async fn close(server: &TestServer, alarm: &Value) {
    let path = format!("/api/v1/alarms/{}/close", alarm["id"].as_str().unwrap());
    let closed = server.admin_post(&path, &json!({"reason": "looked"})).await;
    assert_eq!(closed.status, 200, "{:?}", closed.json());
}

/// The alarm closed, what was spent is what the log says, and the key works again.
async fn is_repaired(server: &TestServer, (id, secret): (&str, &str), alarm: &Value) {
    close(server, alarm).await;
    assert_eq!(books(server, id).await, (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
    let answer = server.chat(secret, "sandbox-mini").await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert_eq!(books(server, id).await, (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
    assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
    let log = server.admin_get("/api/v1/admin-log?action=ledger.repair").await.json();
    assert_eq!(log["items"][0]["target"], format!("subkey:{id}/total"));
    assert!(log["items"][0]["detail"]["before"]["posted_usd"].is_string(), "{log}");
}

on_both! {
    async fn what_is_changed_under_a_running_server_admits_nothing(test: TestStore) {
        let (server, id, secret) = used(test).await;
        let key = (id.as_str(), secret.as_str());
        for (sql, refusal) in [
            ("UPDATE budget_windows SET posted_nano = 0", IN_DISORDER),
            ("UPDATE budget_windows SET held_nano = held_nano + 5", IN_DISORDER),
            ("DELETE FROM budget_windows", IN_DISORDER),
        ] {
            server.store.tamper(sql).await;
            finds_it(&server, &secret).await;
            let alarm = is_refused(&server, key, refusal, sql).await;
            server.store.tamper("UPDATE budget_windows SET blocked = NULL").await;
            is_refused(&server, key, refusal, "unblocked by hand").await;
            is_repaired(&server, key, &alarm).await;
        }
        for (sql, undo) in [
            ("UPDATE budgets SET limit_nano = 900000000000", "UPDATE budgets SET limit_nano = 1000000000"),
            ("UPDATE budgets SET limit_nano = 5", "UPDATE budgets SET limit_nano = 1000000000"),
            ("UPDATE budgets SET active = NOT active", "UPDATE budgets SET active = NOT active"),
        ] {
            server.store.tamper(sql).await;
            finds_it(&server, &secret).await;
            let alarm = is_refused(&server, key, TAMPERED, sql).await;
            close(&server, &alarm).await;
            server.store.tamper(undo).await;
            assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        }
        server.store.tamper("DELETE FROM budget_windows; DELETE FROM budgets").await;
        finds_it(&server, &secret).await;
        is_refused(&server, key, TAMPERED, "a deleted budget").await;
        let (_, other) = server.mint(total("1")).await;
        assert_eq!(server.chat(&other, "sandbox-mini").await.status, 200, "others are not concerned");
        server.end().await;
    }

    async fn p3_of_windows_that_are_changed_together_none_is_taken_for_right(test: TestStore) {
        let server = TestServer::start(test).await;
        let budgets = json!({"budgets": [{"limit_usd": "1", "window": "total"}, {"limit_usd": "2", "window": "month"}]});
        let (id, secret) = server.mint(budgets).await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        server.store.tamper("UPDATE budget_windows SET posted_nano = 0").await;
        finds_it(&server, &secret).await;
        for window in ["total", "month"] {
            server.alarm_about("books_do_not_add_up", &format!("subkey:{id}/{window}")).await;
        }
        server.end().await;
    }

    async fn p3_a_window_that_is_changed_while_its_cap_is_raised_is_not_taken_for_right(test: TestStore) {
        let (server, id, secret) = used(test).await;
        server.store.tamper("UPDATE budget_windows SET posted_nano = 0").await;
        let path = format!("/api/v1/subkeys/{id}");
        let raised = server.admin_call(http::Method::PATCH, &path, Some(&total("2"))).await;
        assert_eq!(raised.status, 200, "{:?}", raised.json());
        is_refused(&server, (&id, &secret), IN_DISORDER, "at the same time").await;
        server.end().await;
    }

    async fn p3_a_budget_that_is_gone_admits_nothing_that_was_not_leased(test: TestStore) {
        let (server, id, secret) = used(test).await;
        server.store.tamper("DELETE FROM budget_windows; DELETE FROM budgets").await;
        let requests = server.sandbox.bill().requests;
        // It takes more than was leased.
        assert_eq!(server.chat(&secret, "sandbox-large").await.refusal(), (401, "key_suspended".to_owned()));
        assert_eq!(server.sandbox.bill().requests, requests, "{id}");
        server.end().await;
    }

    async fn what_is_changed_while_the_server_is_stopped_admits_nothing(test: TestStore) {
        let (mut server, id, secret) = used(test).await;
        for sql in [
            "UPDATE budget_windows SET posted_nano = 0",
            "UPDATE budget_windows SET posted_nano = 0; DELETE FROM window_audits; DELETE FROM audit_progress",
            "UPDATE budget_windows SET posted_nano = 0; UPDATE window_audits SET audited_nano = 0",
            "UPDATE budget_windows SET posted_nano = 0; DELETE FROM window_audits",
            "UPDATE budget_windows SET posted_nano = 0; UPDATE audit_progress SET through_seq = 1000",
            "DELETE FROM budget_windows",
        ] {
            assert_eq!(server.services.ledger.audit().await.unwrap(), 0, "{sql}");
            server.pause().await;
            server.store.tamper(sql).await;
            server.resume().await;
            let alarm = is_refused(&server, (&id, &secret), IN_DISORDER, sql).await;
            is_repaired(&server, (&id, &secret), &alarm).await;
        }
        server.end().await;
    }

    async fn a_settlement_of_a_disturbed_window_is_posted_and_repaired_from_the_log(test: TestStore) {
        let (server, id, secret) = used(test).await;
        list_model(&server, "sandbox", "sandbox-mini+hold").await;
        let disturbed = async {
            server.sandbox.wait_held(1).await;
            server.store.tamper("UPDATE budget_windows SET posted_nano = 0, held_nano = 0").await;
            server.sandbox.release();
        };
        let (answer, ()) = tokio::join!(server.chat(&secret, "sandbox-mini+hold"), disturbed);
        assert_eq!(answer.status, 200, "what was admitted is answered");
        let alarm = is_refused(&server, (&id, &secret), IN_DISORDER, "while it was in flight").await;
        is_repaired(&server, (&id, &secret), &alarm).await;
        server.end().await;
    }

    async fn what_the_writer_does_not_see_an_audit_finds(test: TestStore) {
        let (server, id, secret) = used(test).await;
        let (other_id, other) = server.mint(total("1")).await;
        assert_eq!(server.chat(&other, "sandbox-mini").await.status, 200);
        server.store.tamper(&format!("UPDATE budget_windows SET posted_nano = posted_nano + 7 WHERE budget_id = 'subkey:{id}/total'")).await;
        assert_eq!(server.services.ledger.audit().await.unwrap(), 1);
        is_refused(&server, (&id, &secret), IN_DISORDER, "raised").await;
        assert_eq!(server.chat(&other, "sandbox-mini").await.status, 200);
        let alarm = server.alarms_once("books_do_not_add_up").await.remove(0);
        close(&server, &alarm).await;
        let spent = books(&server, &id).await.0;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        let both = spent.saturating_add(books(&server, &other_id).await.0);
        assert!(both > server.sandbox.bill().cost_usd.saturating_sub(spent), "the greater amount stays");
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        server.end().await;
    }

    async fn what_was_spent_before_entries_named_their_windows_stays(test: TestStore) {
        let (mut server, id, secret) = used(test).await;
        let spent = books(&server, &id).await;
        server.pause().await;
        server.store.tamper(
            "UPDATE access_log SET postings = NULL; DELETE FROM window_audits; DELETE FROM audit_progress;
             DELETE FROM admin_log WHERE action = 'ledger.audit_begin'",
        ).await;
        server.resume().await;
        assert_eq!(books(&server, &id).await, spent);
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        let log = server.admin_get("/api/v1/admin-log?action=ledger.audit_begin").await.json();
        assert_eq!(log["items"][0]["detail"]["windows"], 1, "{log}");

        // However often the sums are lost, by whatever term: the log is read again, and what it does not tell of stays.
        for rotates in [false, true] {
            if rotates {
                assert_eq!(server.admin_post("/api/v1/vault/rotate", &json!({})).await.status, 202);
                while server.admin_get("/api/v1/vault").await.json()["rewrap"]["running"] != false {
                    tokio::task::yield_now().await;
                }
            }
            server.store.tamper("DELETE FROM window_audits").await;
            assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
            assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        }
        // Without what it rests on, or with a forged one, the window is blocked.
        let forged = "UPDATE meta SET value = replace(value, '\"mac\":\"', '\"mac\":\"00') WHERE name = 'audit_base'";
        server.store.tamper(&format!("DELETE FROM window_audits; {forged}")).await;
        assert_eq!(server.services.ledger.audit().await.unwrap(), 1);
        server.store.tamper("DELETE FROM window_audits; DELETE FROM meta WHERE name = 'audit_base'").await;
        assert_eq!(server.services.ledger.audit().await.unwrap(), 1);
        let alarm = is_refused(&server, (&id, &secret), IN_DISORDER, "the base is gone").await;
        close(&server, &alarm).await;
        // What an operator took for right is the base from here on.
        server.store.tamper("DELETE FROM window_audits").await;
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        server.end().await;
    }

    async fn honest_traffic_raises_no_alarm_however_often_it_is_audited(test: TestStore) {
        let server = TestServer::start(test).await;
        let budgets = json!([{"limit_usd": "0.001", "window": "day"}, {"limit_usd": "1", "window": "total"}]);
        let (_, secret) = server.mint(json!({"budgets": budgets})).await;
        let (patched, other) = server.mint(total("1")).await;
        let calls = |secret: String| {
            let server = &server;
            async move {
                let all: FuturesUnordered<_> = (0..40).map(|_| server.chat(&secret, "sandbox-mini")).collect();
                all.map(|answer| answer.status.as_u16()).collect::<Vec<_>>().await
            }
        };
        let audits = async {
            for n in 1..8 {
                assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
                let limit = json!({"budgets": [{"limit_usd": n.to_string(), "window": "total"}]});
                let path = format!("/api/v1/subkeys/{patched}");
                assert_eq!(server.admin_call(http::Method::PATCH, &path, Some(&limit)).await.status, 200);
            }
        };
        let (some, others, ()) = tokio::join!(calls(secret), calls(other), audits);
        for status in some.iter().chain(&others) {
            assert!([200, 402, 429, 503].contains(status), "{status}");
        }
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        assert_eq!(server.admin_get("/api/v1/alarms").await.json()["items"], json!([]));
        server.end().await;
    }
}
