//! From `bitting backup` under load to a request served elsewhere: nothing is admitted until an operator has released
//! it, and nothing that was taken away or spent after the backup is given back.

use super::TestKek;
use crate::support::process::{Installation, Process};
use crate::support::server::chat;
use crate::support::store::TestStore;
use bitting::base::{Entropy, NanoUsd};
use bitting::vault::Kek;
use http::Method;
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::task::yield_now;

const HELD: &str = "sandbox-mini+hold";

struct Keys {
    /// Revoked before the backup, and after it.
    early: (String, String),
    late: (String, String),
    busy: (String, String),
    /// In flight while the backup is taken.
    held: (String, String),
}

async fn keys(server: &Process) -> Keys {
    let document = json!({
        "operations": ["chat"], "context_window": 128_000, "max_output_tokens": 16_384,
        "prices": {"input_per_mtok_usd": "0.15", "output_per_mtok_usd": "0.6"},
    });
    let path = format!("/api/v1/models/sandbox/{HELD}");
    assert!(server.admin(Method::PUT, &path, &document).await.status.is_success());
    let key = async |name: &str| {
        let budgets = json!([{"limit_usd": "5", "window": "total"}]);
        server.mint(&json!({"name": name, "models": ["sandbox/*"], "budgets": budgets})).await
    };
    Keys {
        early: key("early").await,
        late: key("late").await,
        busy: key("busy").await,
        held: key("held").await,
    }
}

async fn code(server: &Process, (_, secret): &(String, String)) -> (u16, String) {
    server.chat(secret, &chat("sandbox-mini")).await.unwrap().refusal()
}

async fn revoke(server: &Process, (id, _): &(String, String)) {
    let done = server.admin(Method::POST, &format!("/api/v1/subkeys/{id}/revoke"), &json!({})).await;
    assert_eq!(done.status, 200, "{:?}", done.json());
}

async fn subkey(server: &Process, (id, _): &(String, String)) -> Value {
    server.admin(Method::GET, &format!("/api/v1/subkeys/{id}"), &Value::Null).await.json()
}

/// What is spent of a key's budget, and what is held.
async fn books(server: &Process, key: &(String, String)) -> (NanoUsd, NanoUsd) {
    let budget = subkey(server, key).await["budgets"][0].clone();
    let usd = |name: &str| budget[name].as_str().unwrap().parse().unwrap();
    (usd("spent_usd"), usd("held_usd"))
}

async fn export(server: &Process, log: &str, file: &Path) {
    let answer = server.admin(Method::GET, &format!("/api/v1/{log}/export?format=jsonl"), &Value::Null).await;
    fs::write(file, &answer.bytes).unwrap();
}

/// A backup while eight ask at a time and one answer is held back; and the logs of what came after it.
async fn backed_up(from: &Installation, server: &Process, keys: &Keys) -> (PathBuf, [PathBuf; 2], NanoUsd) {
    let folder = from.folder.path();
    let (file, logs) = (folder.join("backup"), [folder.join("access.jsonl"), folder.join("admin.jsonl")]);
    let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (body, held_body) = (chat("sandbox-mini"), chat(HELD));
    let load = futures_util::future::join_all((0..8).map(async |_| {
        while !stop.load(Ordering::Relaxed) {
            assert_eq!(server.chat(&keys.busy.1, &body).await.unwrap().status, 200);
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let backup = async {
        from.sandbox.wait_held(1).await;
        while answers.load(Ordering::Relaxed) < 20 {
            yield_now().await;
        }
        let done = from.command(&["backup", file.to_str().unwrap(), "--data"]).output().await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let before = answers.load(Ordering::Relaxed);
        while answers.load(Ordering::Relaxed) < before + 20 {
            yield_now().await;
        }
        stop.store(true, Ordering::Relaxed);
        from.sandbox.release();
    };
    let held = server.chat(&keys.held.1, &held_body);
    let (_, (), held) = tokio::join!(load, backup, held);
    assert_eq!(held.unwrap().status, 200);
    revoke(server, &keys.late).await;
    let spent = books(server, &keys.busy).await.0;
    export(server, "access-log", &logs[0]).await;
    export(server, "admin-log", &logs[1]).await;
    (file, logs, spent)
}

/// Puts ten thousand keys more into an export, which this database does not have.
fn lengthen(log: &Path) {
    let mut log = OpenOptions::new().append(true).open(log).unwrap();
    let mut text = String::new();
    for n in 0..10_000 {
        let entry = json!({"time": "2026-01-01T00:00:00Z", "request_id": format!("r-{n}"),
            "subkey_id": format!("{n:016}"), "cost_usd": "0.5"});
        text += &entry.to_string();
        text.push('\n');
    }
    log.write_all(text.as_bytes()).unwrap();
}

async fn is_restored_quarantined_and_released(from: Installation, place: (String, TempDir)) {
    let server = from.serve_first().await;
    let keys = keys(&server).await;
    revoke(&server, &keys.early).await;
    let (file, logs, spent_at_last) = backed_up(&from, &server, &keys).await;
    drop(server);
    let to = from.at(place);

    // Without the right KEK: a clear word, and nothing is written.
    let kek = to.folder.path().join("kek");
    let other = TestKek::of(Kek::generate(&Entropy::new()).to_line().expose());
    fs::copy(other.path(), &kek).unwrap();
    let restore = || to.command(&["restore", file.to_str().unwrap(), "--data"]);
    let refused = restore().output().await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1) && said.contains("not one that this database is wrapped by"),
        "{said}"
    );
    fs::copy(from.folder.path().join("kek"), &kek).unwrap();
    let done = restore().output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    let server = to.serve().await;
    let sent = to.sandbox.requests().len();
    for key in [&keys.early, &keys.late, &keys.busy, &keys.held] {
        assert_eq!(code(&server, key).await, (401, "key_suspended".to_owned()));
        let shown = subkey(&server, key).await;
        assert_eq!(shown["quarantined"], true, "{shown}");
    }
    for path in ["/v1/models", "/bitting/self"] {
        assert_eq!(server.proxied(&keys.busy.1, path).await.refusal(), (401, "key_suspended".to_owned()));
    }
    assert_eq!(to.sandbox.requests().len(), sent, "nothing is forwarded");
    let explain = format!("/api/v1/subkeys/{}/explain", keys.busy.0);
    let asked = json!({"operation": "chat", "model": "sandbox/sandbox-mini"});
    let explained = server.admin(Method::POST, &explain, &asked).await.json();
    assert_eq!((&explained["denied_by"], &explained["allowed"]), (&json!("quarantined"), &json!(false)));
    let listed = server.command(&["subkey", "list"]).output().await.unwrap();
    let (table, note) = (String::from_utf8_lossy(&listed.stdout), String::from_utf8_lossy(&listed.stderr));
    assert!(
        table.contains("active (quarantined)") && note.contains("bitting vault release"),
        "{table}{note}"
    );

    let mut doctor = server.command(&["doctor"]);
    doctor.env("BITTING_DATA_DIR", to.folder.path()).env("BITTING_DATABASE_URL", &to.url);
    let told = String::from_utf8(doctor.output().await.unwrap().stdout).unwrap();
    assert!(told.contains("FAIL  quarantine: nothing is admitted since"), "{told}");
    assert!(told.contains("bitting vault release") && told.contains("ok    checkpoint"), "{told}");

    // What was in flight at the backup is posted in full; nothing is held, and the books are those of the log.
    let held = books(&server, &keys.held).await;
    assert!(held.0 > NanoUsd::ZERO && held.1 == NanoUsd::ZERO, "{held:?}");
    let entries = server.entries(&keys.held.0).await;
    assert_eq!(entries[0]["outcome"], "unknown_outcome", "{entries:?}");
    let alarms = server.admin(Method::GET, "/api/v1/alarms?status=open", &Value::Null).await.json();
    let kinds: Vec<&Value> = alarms["items"].as_array().unwrap().iter().map(|alarm| &alarm["kind"]).collect();
    assert_eq!(kinds, ["quarantined"], "{alarms}");

    lengthen(&logs[0]);
    let [access, admin] = logs.each_ref().map(|log| log.to_str().unwrap());
    let arguments = ["vault", "release", "--access-log", access, "--admin-log", admin, "--yes", "--json"];
    let done = server.command(&arguments).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&done["released"], &done["revoked"]), (&json!(true), &json!([keys.late.0])));
    assert_eq!(done["unknown"].as_array().unwrap().len(), 10_000);

    assert_eq!(code(&server, &keys.early).await, (401, "key_revoked".to_owned()));
    assert_eq!(code(&server, &keys.late).await, (401, "key_revoked".to_owned()));
    // What was leased at the backup was posted in full, so it can be more: by eight requests in flight, and by what was
    // spent in the seconds before.
    let now = books(&server, &keys.busy).await.0;
    let most = (0..8).fold(spent_at_last.saturating_add(spent_at_last), |sum, _| sum.saturating_add(held.0));
    assert!(now >= spent_at_last && now <= most, "{now} of {spent_at_last}");
    assert_eq!(code(&server, &keys.busy).await.0, 200);
    assert_eq!(subkey(&server, &keys.busy).await["quarantined"], false);
    drop(server);
    let server = to.serve().await;
    assert_eq!(code(&server, &keys.busy).await.0, 200);
    assert_eq!(code(&server, &keys.late).await, (401, "key_revoked".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_under_load_is_restored_on_postgres() {
    let place = TestStore::empty_postgres().await;
    Box::pin(is_restored_quarantined_and_released(Installation::sqlite().await, place)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_under_load_is_restored_on_sqlite() {
    let place = TestStore::empty_sqlite();
    Box::pin(is_restored_quarantined_and_released(Installation::postgres().await, place)).await;
}
