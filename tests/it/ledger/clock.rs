//! P3 whatever the wall clock shows: windows go by time that passed.

use super::books;
use crate::support::server::TestServer;
use crate::support::store::on_both;
use bitting::base::{Clock, NanoUsd};
use bitting::store;
use chrono::TimeDelta;
use http::Method;
use serde_json::{Value, json};

fn daily(limit: &str, zone: &str) -> Value {
    json!({"budgets": [{"limit_usd": limit, "window": "day", "timezone": zone}]})
}

fn noon() -> Clock {
    Clock::manual("2026-11-22T12:00:00Z".parse().unwrap())
}

/// Spends what a daily budget of so much has room for.
async fn spend_all(server: &TestServer, secret: &str) {
    for count in 0..50 {
        let answer = server.chat(secret, "sandbox-mini").await;
        if answer.status == 402 {
            assert!(count > 0, "the cap has room for one chat at least");
            return;
        }
        assert_eq!(answer.status, 200, "{:?}", answer.json());
    }
    panic!("a small cap outlasts fifty chats");
}

async fn close(server: &TestServer, alarm: &Value) {
    let path = format!("/api/v1/alarms/{}/close", alarm["id"].as_str().unwrap());
    let closed = server.admin_post(&path, &json!({"reason": "the clock is right"})).await;
    assert_eq!(closed.status, 200, "{:?}", closed.json());
}

const SMALL: &str = "0.0001";

on_both! {
    async fn p3_a_wall_clock_that_jumps_ahead_opens_no_window_until_an_operator_accepts_it(test: TestStore) {
        let server = TestServer::start_with(test, noon(), &[]).await;
        let (id, secret) = server.mint(daily(SMALL, "UTC")).await;
        spend_all(&server, &secret).await;
        let spent = books(&server, &id).await;
        server.clock.set_wall(TimeDelta::days(3));
        assert_eq!(server.chat(&secret, "sandbox-mini").await.refusal(), (402, "budget_exceeded".into()));
        let alarm = server.alarms_once("clock_off").await.remove(0);
        assert_eq!(alarm["detail"]["off_seconds"], 3 * 86_400);
        assert_eq!(books(&server, &id).await, spent, "people see the window that is in force");
        close(&server, &alarm).await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200, "the window of three days later");
        server.end().await;
    }

    async fn p3_the_next_window_opens_when_its_time_has_come(test: TestStore) {
        let server = TestServer::start_with(test, noon(), &[]).await;
        let (_, secret) = server.mint(daily(SMALL, "UTC")).await;
        spend_all(&server, &secret).await;
        server.clock.advance(TimeDelta::hours(11));
        let refused = server.chat(&secret, "sandbox-mini").await;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (402, Some("3600")));
        server.clock.advance(TimeDelta::hours(1));
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        server.end().await;
    }

    async fn rates_go_by_the_time_that_passes_whatever_clock_is_accepted(test: TestStore) {
        let server = TestServer::start_with(test, noon(), &[]).await;
        let (_, secret) = server.mint(json!({"rate_limits": [{"metric": "requests", "limit": 1, "per": "minute"}]})).await;
        let full = async || {
            assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
            server.chat(&secret, "sandbox-mini").await
        };
        server.clock.set_wall(TimeDelta::hours(-3));
        assert_eq!(full().await.refusal(), (429, "rate_limit_exceeded".into()));
        close(&server, &server.alarms_once("clock_off").await.remove(0)).await;
        // Windows stand still for three hours now.
        for _ in 0..3 {
            server.clock.advance(TimeDelta::minutes(1));
            let refused = full().await;
            assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, Some("60")));
        }
        server.end().await;
    }

    async fn p3_windows_never_move_back(test: TestStore) {
        let server = TestServer::start_with(test, noon(), &[]).await;
        let (id, secret) = server.mint(daily(SMALL, "UTC")).await;
        spend_all(&server, &secret).await;
        server.clock.set_wall(TimeDelta::days(-3));
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 402);
        close(&server, &server.alarms_once("clock_off").await.remove(0)).await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 402, "accepted, and time stands still");
        assert_eq!(books(&server, &id).await.1, NanoUsd::ZERO);
        server.end().await;
    }

    async fn p3_a_restart_takes_no_other_clock_for_right(test: TestStore) {
        let mut server = TestServer::start_with(test, noon(), &[]).await;
        let (_, secret) = server.mint(daily(SMALL, "UTC")).await;
        spend_all(&server, &secret).await;
        server.pause().await;
        server.clock.set_wall(TimeDelta::days(2));
        server.resume().await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 402);
        assert_eq!(server.alarms_once("clock_off").await[0]["detail"]["off_seconds"], 2 * 86_400);
        // A machine that was off does not tell how long.
        server.pause().await;
        server.clock.reboot();
        server.resume().await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        server.end().await;
    }

    async fn p3_a_time_that_somebody_wrote_into_the_database_is_not_believed(test: TestStore) {
        let mut server = TestServer::start_with(test, noon(), &[]).await;
        let (_, secret) = server.mint(daily(SMALL, "UTC")).await;
        spend_all(&server, &secret).await;
        server.pause().await;
        let opened = store::Store::open(&server.store.url).await.unwrap();
        let mut tx = opened.write().await.unwrap();
        let kept = store::meta::get(&mut tx.conn(), "window_time").await.unwrap().unwrap();
        assert!(kept.contains("2026-11-22T12:00:00"), "{kept}");
        let forged = kept.replace("2026-11-22T12:00:00", "2026-11-29T12:00:00");
        store::meta::put(&mut tx.conn(), "window_time", &forged).await.unwrap();
        tx.commit().await.unwrap();
        server.resume().await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 402, "today's window");
        assert_eq!(server.alarms_once("row_tampered").await[0]["subject"], "meta/window_time");
        server.end().await;
    }

    async fn p3_another_time_zone_opens_no_window_before_the_present_one_ends(test: TestStore) {
        let server = TestServer::start_with(test, noon(), &[]).await;
        let (id, secret) = server.mint(daily(SMALL, "UTC")).await;
        spend_all(&server, &secret).await;
        let path = format!("/api/v1/subkeys/{id}");
        let change = async |budgets: Value| {
            let patched = server.admin_call(Method::PATCH, &path, Some(&json!({"budgets": budgets}))).await;
            assert_eq!(patched.status, 200, "{:?}", patched.json());
            patched.json()
        };
        // In Tokyo it is another day already.
        let tokyo = daily(SMALL, "Asia/Tokyo");
        let shown = change(tokyo["budgets"].clone()).await;
        assert_eq!(shown["budgets"][0]["resets_at"], "2026-11-23T00:00:00Z");
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 402);
        change(json!([])).await;
        change(daily(SMALL, "Asia/Kolkata")["budgets"].clone()).await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 402, "removed, and added with another zone");
        server.clock.advance(TimeDelta::hours(12));
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        let shown = server.admin_get(&path).await.json();
        assert_eq!(shown["budgets"][0]["resets_at"], "2026-11-23T18:30:00Z");
        server.end().await;
    }

    async fn what_is_told_of_a_budget_cannot_be_set(test: TestStore) {
        let server = TestServer::start_with(test, noon(), &[]).await;
        let before = json!({"timezone": "UTC", "until": "2027-01-01T00:00:00Z"});
        let budget = json!({"limit_usd": "1", "window": "day", "timezone_before": before});
        let definition = json!({"name": "n", "models": ["sandbox/*"], "budgets": [budget]});
        let refused = server.admin_post("/api/v1/subkeys", &definition).await;
        assert_eq!(refused.status, 400, "{:?}", refused.json());
        assert_eq!(refused.json()["errors"][0]["field"], "/budgets/0/timezone_before");
        server.end().await;
    }
}
