//! What a crash charged is taken back by an operator: once, by an entry of its own, and the windows admit again.

use super::{books, usd};
use crate::support::server::TestServer;
use crate::support::store::on_both;
use bitting::base::{Clock, NanoUsd};
use bitting::budget::Window;
use bitting::log::{Decision, Entry};
use bitting::store::admission::{Admission, Hold};
use bitting::store::budget::{self, BudgetId, BudgetOwner, WindowId};
use bitting::store::{Store, admission, lease};
use bitting::subkey::SubKeyId;
use chrono::{DateTime, TimeDelta};
use futures_util::future::join_all;
use serde_json::{Value, json};

const PATH: &str = "/api/v1/usage/releases";

fn amount(text: &str) -> NanoUsd {
    text.parse().unwrap()
}

/// The window for ever, and one of an hour that is over.
fn windows(id: &str) -> [WindowId; 2] {
    let owner = BudgetOwner::subkey(&SubKeyId::parse(id).unwrap());
    let past = Window::Hour.start(chrono_tz::UTC, Clock::system().now() - TimeDelta::hours(3));
    [(Window::Total, DateTime::UNIX_EPOCH), (Window::Hour, past)]
        .map(|(window, window_start)| WindowId { budget: BudgetId::new(&owner, window), window_start })
}

async fn spent(server: &TestServer, window: &WindowId) -> NanoUsd {
    let mut read = server.services.store.read().await.unwrap();
    budget::balance(&mut read.conn(), &window.budget, window.window_start).await.unwrap().unwrap().posted
}

/// A request that was admitted three hours ago, and of which nobody knows how it ended.
async fn leave_admission(server: &TestServer, id: &str, reserved: &str) {
    let store = Store::open(&server.store.url).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let mut holds = Vec::new();
    for WindowId { budget, window_start } in windows(id) {
        budget::ensure_window(&mut tx.conn(), &budget, window_start).await.unwrap();
        holds.push(Hold { budget, window_start, amount: NanoUsd::ZERO });
    }
    let entry = Entry {
        time: windows(id)[1].window_start + TimeDelta::minutes(5),
        request_id: "lost".to_owned(),
        subkey_id: id.to_owned(),
        project: "default".to_owned(),
        provider: Some("sandbox".to_owned()),
        model: Some("sandbox-mini".to_owned()),
        decision: Decision::Allowed,
        count: 1,
        reserved_usd: amount(reserved),
        tags: [("team".to_owned(), "search".to_owned())].into(),
        ..Entry::default()
    };
    let admission = Admission {
        request_id: entry.request_id.clone(),
        node: "n".to_owned(),
        epoch: 0,
        admitted_at: entry.time,
        subkey_id: SubKeyId::parse(id).unwrap(),
        holds,
        entry,
    };
    admission::insert(&mut tx.conn(), &admission).await.unwrap();
    tx.commit().await.unwrap();
    store.close().await;
}

/// Leases of a server that is gone, of a key's windows.
async fn leave_leases(server: &TestServer, id: &str, amounts: [&str; 2]) {
    let leased: Vec<(WindowId, &str)> = windows(id).into_iter().zip(amounts).collect();
    leave(server, &leased).await;
}

/// Leases of a server that is gone.
async fn leave(server: &TestServer, leased: &[(WindowId, &str)]) {
    let store = Store::open(&server.store.url).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let epoch =
        lease::begin_epoch(&mut tx.conn(), ("n", "before_answer"), Clock::system().now()).await.unwrap();
    for (window, leased) in leased {
        budget::ensure_window(&mut tx.conn(), &window.budget, window.window_start).await.unwrap();
        lease::add(&mut tx.conn(), epoch, window, amount(leased)).await.unwrap();
    }
    tx.commit().await.unwrap();
    store.close().await;
}

async fn key(server: &TestServer) -> (String, String) {
    let budgets =
        json!({"budgets": [{"limit_usd": "1", "window": "total"}, {"limit_usd": "1", "window": "hour"}]});
    let (id, secret) = server.mint(budgets).await;
    assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
    (id, secret)
}

async fn usage(server: &TestServer, query: &str) -> Value {
    server.admin_get(&format!("/api/v1/usage?{query}")).await.json()["items"].clone()
}

on_both! {
    async fn a_window_that_a_crash_filled_admits_again_once_the_charge_is_released(test: TestStore) {
        let mut server = TestServer::start(test).await;
        let (id, secret) = key(&server).await;
        let bill = server.sandbox.bill().cost_usd;
        server.pause().await;
        leave_admission(&server, &id, "0.99999").await;
        server.resume().await;
        let full = server.chat(&secret, "sandbox-mini").await;
        assert_eq!(full.refusal(), (402, "budget_exceeded".to_owned()));
        let [always, past] = windows(&id);
        assert_eq!(spent(&server, &past).await, amount("0.99999"));

        let entries = server.entries(&id).await;
        let answered = entries.iter().find(|entry| entry["status"] == 200).unwrap()["request_id"].clone();
        for (body, status, code) in [
            (json!({"request_id": "nobody", "reason": "x"}), 404, "not_found"),
            (json!({"request_id": answered, "reason": "x"}), 409, "not_correctable"),
            (json!({"request_id": "lost", "reason": " "}), 400, "invalid_field"),
            (json!({"request_id": "lost"}), 400, "missing_field"),
            (json!({"request_id": "lost", "reason": "x", "amount_usd": "1"}), 400, "invalid_field"),
            (json!({"request_id": "lost", "reason": "x", "amount_usd": "0"}), 400, "invalid_field"),
            (json!({"request_id": "lost", "reason": "x", "amount_usd": "-0.1"}), 400, "invalid_field"),
            (json!({"request_id": "lost", "reason": "x", "amount": "1"}), 400, "unknown_field"),
        ] {
            let refused = server.admin_post(PATH, &body).await;
            assert_eq!(refused.refusal(), (status, code.to_owned()), "{body}: {:?}", refused.json());
        }

        // However many ask at once, one of them releases it.
        let order = json!({"request_id": "lost", "reason": "the provider has no such request"});
        let asked = join_all((0..8).map(|_| server.admin_post(PATH, &order))).await;
        let (done, others): (Vec<_>, Vec<_>) = asked.into_iter().partition(|answer| answer.status == 201);
        assert!(done.len() == 1 && others.iter().all(|answer| answer.refusal() == (409, "already_done".to_owned())));
        assert_eq!(others[0].json()["id"], "release-lost");
        let done = done[0].json();
        assert_eq!((&done["request_id"], &done["corrects"]), (&json!("release-lost"), &json!("lost")));
        assert_eq!((&done["charged_usd"], &done["released_usd"]), (&json!("0.99999"), &json!("0.99999")));
        assert_eq!(done["windows"].as_array().unwrap().len(), 2);

        assert_eq!((spent(&server, &always).await, spent(&server, &past).await), (bill, NanoUsd::ZERO));
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        let admitted = server.chat(&secret, "sandbox-mini").await;
        assert_eq!(admitted.status, 200, "{:?}", admitted.json());

        let entries = server.entries(&id).await;
        let lost = entries.iter().find(|entry| entry["request_id"] == "lost").unwrap();
        assert_eq!((&lost["cost_usd"], &lost["outcome"]), (&json!("0.99999"), &json!("unknown_outcome")), "it stays");
        let release = entries.iter().find(|entry| entry["corrects"] == "lost").unwrap();
        assert_eq!((&release["cost_usd"], &release["rule"], &release["count"]), (&json!("-0.99999"), &json!("correction"), &json!(0)));
        let log = server.admin_get("/api/v1/admin-log?action=usage.release").await.json();
        assert_eq!((&log["items"][0]["target"], &log["items"][1]), (&json!("lost"), &Value::Null));
        assert_eq!(log["items"][0]["detail"]["reason"], order["reason"]);

        // Usage says the same, over all and in the hour of it, and by its tag.
        let bill = server.sandbox.bill().cost_usd;
        assert_eq!(usd(&usage(&server, &format!("subkey={id}")).await[0]["cost_usd"]), bill);
        let by_tag = usage(&server, "group_by=tag:team").await;
        assert_eq!((&by_tag[1]["tag:team"], &by_tag[1]["cost_usd"], &by_tag[1]["requests"]), (&json!("search"), &json!("0.00"), &json!(1)));

        server.pause().await;
        server.resume().await;
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        assert_eq!(books(&server, &id).await, (bill, NanoUsd::ZERO));
        assert_eq!(server.admin_post(PATH, &order).await.refusal(), (409, "already_done".to_owned()));
        let again = json!({"request_id": "release-lost", "reason": "x"});
        assert_eq!(server.admin_post(PATH, &again).await.refusal(), (409, "not_correctable".to_owned()));
        let disagrees = server.admin_get("/api/v1/alarms?status=open").await.json();
        assert_eq!(disagrees["items"], json!([]));
        // The sums of the log, made anew from its beginning, are the same.
        server.store.tamper("DELETE FROM window_audits").await;
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        server.end().await;
    }

    async fn a_part_of_a_crash_charge_comes_off_the_windows_that_bore_more_than_the_rest(test: TestStore) {
        let mut server = TestServer::start(test).await;
        let (id, secret) = key(&server).await;
        let bill = server.sandbox.bill().cost_usd;
        server.pause().await;
        leave_leases(&server, &id, ["0.5", "0.2"]).await;
        server.resume().await;
        let [always, past] = windows(&id);
        assert_eq!((spent(&server, &always).await, spent(&server, &past).await), (bill.saturating_add(amount("0.5")), amount("0.2")));
        let entries = server.entries(&id).await;
        let charge = entries.iter().find(|entry| entry["rule"] == "crash_charge").unwrap();
        let order = json!({"request_id": charge["request_id"], "reason": "0.1 was billed", "amount_usd": "0.4"});
        let done = server.admin_post(PATH, &order).await;
        assert_eq!(done.status, 201, "{:?}", done.json());
        assert_eq!((spent(&server, &always).await, spent(&server, &past).await), (bill.saturating_add(amount("0.1")), amount("0.1")));
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        let usage = usage(&server, &format!("subkey={id}")).await;
        assert_eq!(usd(&usage[0]["cost_usd"]), server.sandbox.bill().cost_usd.saturating_add(amount("0.1")));
        server.end().await;
    }

    async fn what_a_crash_charged_a_project_is_released_with_the_keys_below_it(test: TestStore) {
        let mut server = TestServer::start(test).await;
        let team = json!({"slug": "team", "budgets": [{"limit_usd": "2", "window": "total"}]});
        assert!(server.admin_post("/api/v1/projects", &team).await.status.is_success());
        let document = json!({"project": "team", "budgets": [{"limit_usd": "1", "window": "total"}]});
        let (one, secret) = server.mint(document.clone()).await;
        let (other, _) = server.mint(document).await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        let bill = server.sandbox.bill().cost_usd;
        server.pause().await;
        let always = |owner: BudgetOwner| WindowId {
            budget: BudgetId::new(&owner, Window::Total),
            window_start: DateTime::UNIX_EPOCH,
        };
        let of_key = |id: &str| always(BudgetOwner::subkey(&SubKeyId::parse(id).unwrap()));
        let of_team = always(BudgetOwner::project("team"));
        // The first crash leaves as much of the key as of its project, the second more of the project.
        leave(&server, &[(of_key(&one), "0.1"), (of_team.clone(), "0.1")]).await;
        leave(&server, &[(of_key(&other), "0.1"), (of_team.clone(), "0.12")]).await;
        server.resume().await;
        assert_eq!(spent(&server, &of_team).await, bill.saturating_add(amount("0.22")));
        let all = server.admin_get("/api/v1/access-log").await.json();
        let of = |field: &str, value: &str| {
            let fits = |entry: &&Value| entry["rule"] == "crash_charge" && entry[field] == value;
            all["items"].as_array().unwrap().iter().find(fits).cloned()
        };
        let (first, second) = (of("subkey_id", &one).unwrap(), of("subkey_id", &other).unwrap());
        let rest = of("cost_usd", "0.02").unwrap();
        assert_eq!((&rest["project"], &rest["subkey_id"]), (&json!("team"), &json!("")));
        // What is not proven to be unspent stays: of the second crash, the key's.
        let part = json!({"request_id": rest["request_id"], "reason": "x", "amount_usd": "0.01"});
        assert_eq!(server.admin_post(PATH, &part).await.status, 201);
        assert_eq!(spent(&server, &of_team).await, bill.saturating_add(amount("0.21")));
        let done = server.admin_post(PATH, &json!({"request_id": first["request_id"], "reason": "x"})).await.json();
        assert_eq!(done["windows"].as_array().unwrap().len(), 2, "{done}");
        assert_eq!((spent(&server, &of_key(&one)).await, spent(&server, &of_team).await), (bill, bill.saturating_add(amount("0.11"))));
        assert_eq!(server.admin_post(PATH, &json!({"request_id": second["request_id"], "reason": "x"})).await.status, 201);
        assert_eq!((spent(&server, &of_key(&other)).await, spent(&server, &of_team).await), (NanoUsd::ZERO, bill.saturating_add(amount("0.01"))));
        let told = usage(&server, "group_by=project").await;
        assert_eq!(usd(&told[0]["cost_usd"]), bill.saturating_add(amount("0.01")), "{told}");
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        server.end().await;
    }

    async fn p3_a_project_goes_on_bearing_what_another_key_may_have_spent(test: TestStore) {
        let mut server = TestServer::start(test).await;
        let team = json!({"slug": "team", "budgets": [{"limit_usd": "2", "window": "total"}]});
        assert!(server.admin_post("/api/v1/projects", &team).await.status.is_success());
        let document = json!({"project": "team", "budgets": [{"limit_usd": "1", "window": "total"}]});
        let mut keys = [server.mint(document.clone()).await.0, server.mint(document).await.0];
        // What they lost is told in the order of their ids: the first has most of what the project lost.
        keys.sort();
        server.pause().await;
        let always = |owner: BudgetOwner| WindowId {
            budget: BudgetId::new(&owner, Window::Total),
            window_start: DateTime::UNIX_EPOCH,
        };
        let of_key = |id: &str| always(BudgetOwner::subkey(&SubKeyId::parse(id).unwrap()));
        let of_team = always(BudgetOwner::project("team"));
        // One crash; each of the keys may have spent all but a little of what the project had.
        leave(&server, &[(of_key(&keys[0]), "0.1"), (of_key(&keys[1]), "0.1"), (of_team.clone(), "0.12")]).await;
        server.resume().await;
        let all = server.admin_get("/api/v1/access-log").await.json();
        for (id, stays) in keys.iter().zip(["0.1", "0"]) {
            let of_it = |entry: &&Value| entry["rule"] == "crash_charge" && entry["subkey_id"] == **id;
            let charge = all["items"].as_array().unwrap().iter().find(of_it).unwrap();
            let release = json!({"request_id": charge["request_id"], "reason": "x"});
            assert_eq!(server.admin_post(PATH, &release).await.status, 201);
            assert_eq!((spent(&server, &of_key(id)).await, spent(&server, &of_team).await), (NanoUsd::ZERO, amount(stays)));
        }
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        server.end().await;
    }
}
