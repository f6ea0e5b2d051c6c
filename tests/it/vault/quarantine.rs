//! An older database admits nothing until an operator has released it, and a crash is no older database.

use super::installed_on_both;
use crate::support::process::{Installation, Process};
use crate::support::server::chat;
use crate::support::store::tamper;
use http::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokio::process::Command;

const BUDGET: &str = "0.05";

/// An older copy of the database.
enum Copy {
    File(PathBuf),
    Dump(PathBuf),
}

async fn copy(installation: &Installation) -> Copy {
    let folder = installation.folder.path();
    if installation.url.starts_with("sqlite:") {
        let file = folder.join("older.db");
        tamper(&installation.url, &format!("VACUUM INTO '{}'", file.display())).await;
        return Copy::File(file);
    }
    let file = folder.join("older.dump");
    let (base, schema) = postgres(installation);
    pg("pg_dump", &["--format=custom", "--schema", &schema, "--file", file.to_str().unwrap(), &base]).await;
    Copy::Dump(file)
}

async fn put_back(installation: &Installation, copy: &Copy) {
    match copy {
        Copy::File(older) => {
            let file = installation.folder.path().join("bitting.db");
            for tail in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{tail}", file.display()));
            }
            std::fs::copy(older, file).unwrap();
        }
        Copy::Dump(older) => {
            let (base, schema) = postgres(installation);
            tamper(&base, &format!("DROP SCHEMA {schema} CASCADE")).await;
            pg("pg_restore", &["--dbname", &base, older.to_str().unwrap()]).await;
        }
    }
}

fn postgres(installation: &Installation) -> (String, String) {
    let (base, schema) = installation.url.split_once("options[search_path]=").unwrap();
    (base.trim_end_matches(['?', '&']).to_owned(), schema.to_owned())
}

async fn pg(program: &str, arguments: &[&str]) {
    let program = Path::new("/usr/lib/postgresql/15/bin").join(program);
    let done = Command::new(program).args(arguments).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

async fn stop(mut server: Process) {
    server.terminate();
    assert!(server.child.wait().await.unwrap().success());
}

async fn kill(mut server: Process) {
    server.child.kill().await.unwrap();
}

async fn key(server: &Process, name: &str) -> (String, String) {
    let budgets = json!([{"limit_usd": BUDGET, "window": "total"}]);
    server.mint(&json!({"name": name, "models": ["sandbox/*"], "budgets": budgets})).await
}

async fn code(server: &Process, secret: &str) -> (u16, String) {
    server.chat(secret, &chat("sandbox-mini")).await.unwrap().refusal()
}

async fn reasons(server: &Process) -> Value {
    server.admin(Method::GET, "/readyz", &Value::Null).await.json()["reasons"].clone()
}

async fn spent(server: &Process, id: &str) -> Value {
    let key = server.admin(Method::GET, &format!("/api/v1/subkeys/{id}"), &Value::Null).await.json();
    key["budgets"][0]["spent_usd"].clone()
}

async fn export(server: &Process, log: &str, file: &Path) {
    let answer = server.admin(Method::GET, &format!("/api/v1/{log}/export?format=jsonl"), &Value::Null).await;
    std::fs::write(file, &answer.bytes).unwrap();
}

fn suspended() -> (u16, String) {
    (401, "key_suspended".to_owned())
}

async fn an_older_database_admits_nothing_until_it_is_released(installation: Installation) {
    let server = installation.serve_first().await;
    let (revoked, dead) = key(&server, "revoked").await;
    let (other, live) = key(&server, "other").await;
    assert_eq!(code(&server, &live).await.0, 200);
    stop(server).await;
    let older = copy(&installation).await;

    let server = installation.serve().await;
    assert_eq!(reasons(&server).await, json!([]));
    assert_eq!(code(&server, &live).await.0, 200);
    let revoke = format!("/api/v1/subkeys/{revoked}/revoke");
    assert_eq!(server.admin(Method::POST, &revoke, &json!({})).await.status, 200);
    let spent_at_last = spent(&server, &other).await;
    let folder = installation.folder.path();
    let (access, admin) = (folder.join("access.jsonl"), folder.join("admin.jsonl"));
    export(&server, "access-log", &access).await;
    export(&server, "admin-log", &admin).await;
    // The revocation is in the checkpoint although nothing was ended in good order.
    kill(server).await;

    put_back(&installation, &older).await;
    let server = installation.serve().await;
    for secret in [&dead, &live] {
        assert_eq!(code(&server, secret).await, suspended());
    }
    assert_eq!(reasons(&server).await, json!(["quarantined"]));
    let entries = server.entries(&other).await;
    assert_eq!(entries.last().unwrap()["rule"], "quarantined");
    let (_, fresh) = key(&server, "minted meanwhile").await;
    assert_eq!(code(&server, &fresh).await, suspended());
    stop(server).await;

    // Over a restart, and whoever takes it out of the register.
    let server = installation.serve().await;
    assert_eq!(code(&server, &live).await, suspended());
    stop(server).await;
    tamper(&installation.url, r#"UPDATE register SET state = '{"seal":null,"quarantine":null}'"#).await;
    let server = installation.serve().await;
    assert_eq!(code(&server, &live).await, suspended());

    let files = [access.to_str().unwrap(), admin.to_str().unwrap()];
    let arguments = ["vault", "release", "--access-log", files[0], "--admin-log", files[1]];
    let refused = server.command(&arguments).output().await.unwrap();
    assert_eq!(refused.status.code(), Some(2), "without a terminal it takes --yes");
    let shown = server.command(&[&arguments[..], &["--dry-run"]].concat()).output().await.unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(&revoked) && shown.contains(&other), "{shown}");
    assert_eq!(code(&server, &live).await, suspended());
    let done = server.command(&[&arguments[..], &["--yes"]].concat()).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    assert_eq!(reasons(&server).await, json!([]));
    assert_eq!(code(&server, &dead).await, (401, "key_revoked".to_owned()));
    assert_eq!(spent(&server, &other).await, spent_at_last);
    assert_eq!(code(&server, &live).await.0, 200);
    let again = server.admin(Method::POST, "/api/v1/vault/release", &json!({})).await;
    assert_eq!(again.refusal(), (409, "not_quarantined".to_owned()));
    stop(server).await;
    let server = installation.serve().await;
    assert_eq!(reasons(&server).await, json!([]));
    assert_eq!(code(&server, &live).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_database_is_quarantined_on_sqlite() {
    Box::pin(an_older_database_admits_nothing_until_it_is_released(Installation::sqlite().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_database_is_quarantined_on_postgres() {
    Box::pin(an_older_database_admits_nothing_until_it_is_released(Installation::postgres().await)).await;
}

/// Killed under load, the database is never behind the file.
async fn a_crash_is_no_older_database(installation: Installation, rounds: usize) {
    let mut server = installation.serve_first().await;
    let (_, secret) = server.mint(&json!({"name": "ci", "models": ["sandbox/*"]})).await;
    for round in 0..rounds {
        let load = async {
            let (body, mut answers) = (chat("sandbox-mini"), 0);
            while answers < 40 && server.chat(&secret, &body).await.is_some() {
                answers += 1;
            }
        };
        let changes = async {
            for index in 0..6 {
                let name = format!("key-{round}-{index}");
                server.mint(&json!({"name": name, "models": ["sandbox/*"]})).await;
            }
        };
        tokio::join!(load, changes);
        kill(server).await;
        server = installation.serve().await;
        assert_eq!(reasons(&server).await, json!([]), "round {round}");
        assert_eq!(code(&server, &secret).await.0, 200, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_is_no_older_database_on_sqlite() {
    Box::pin(a_crash_is_no_older_database(Installation::sqlite().await, 10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_is_no_older_database_on_postgres() {
    Box::pin(a_crash_is_no_older_database(Installation::postgres().await, 3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_is_written_a_damaged_one_waits_for_an_operator_and_another_ones_is_refused() {
    let installation = Installation::sqlite().await;
    let server = installation.serve_first().await;
    let (_, secret) = key(&server, "ci").await;
    stop(server).await;
    let file = installation.folder.path().join("checkpoint");
    let theirs = std::fs::read_to_string(&file).unwrap();

    std::fs::remove_file(&file).unwrap();
    let server = installation.serve().await;
    assert_eq!(code(&server, &secret).await.0, 200);
    assert!(file.exists());
    stop(server).await;

    let forged = std::fs::read_to_string(&file).unwrap().replace("\"register_seq\":", "\"register_seq\":1");
    for damaged in ["{", &forged] {
        std::fs::write(&file, damaged).unwrap();
        let server = installation.serve().await;
        assert_eq!(code(&server, &secret).await, suspended());
        let done = server.admin(Method::POST, "/api/v1/vault/release", &json!({})).await;
        assert_eq!(done.json()["reason"], "checkpoint_unreadable", "{:?}", done.json());
        assert_eq!(code(&server, &secret).await.0, 200);
        stop(server).await;
        let server = installation.serve().await;
        assert_eq!(code(&server, &secret).await.0, 200);
        stop(server).await;
    }

    let ours: Value = serde_json::from_str(&theirs).unwrap();
    let ours = ours["installation"].as_str().unwrap();
    std::fs::write(&file, theirs.replace(ours, "inst_another")).unwrap();
    let said = installation.refuses_to_serve().await;
    assert!(said.contains("inst_another") && said.contains(ours), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_written_is_told_and_the_change_holds() {
    let installation = Installation::sqlite().await;
    let server = installation.serve_first().await;
    // Nobody, not even root, puts a file in the place of a folder that is not empty.
    let blocker = installation.folder.path().join("checkpoint.new/in the way");
    std::fs::create_dir_all(blocker).unwrap();
    let (id, secret) = key(&server, "ci").await;
    let revoke = format!("/api/v1/subkeys/{id}/revoke");
    assert_eq!(server.admin(Method::POST, &revoke, &json!({})).await.status, 200);
    assert_eq!(reasons(&server).await, json!(["checkpoint_unwritable"]));
    assert_eq!(code(&server, &secret).await, (401, "key_revoked".to_owned()));
    std::fs::remove_dir_all(installation.folder.path().join("checkpoint.new")).unwrap();
    key(&server, "another").await;
    assert_eq!(reasons(&server).await, json!([]));
}

async fn detail(server: &Process) -> String {
    let vault = server.admin(Method::GET, "/api/v1/vault", &Value::Null).await.json();
    let quarantine = &vault["quarantine"];
    format!(
        "{}: {}",
        quarantine["reason"].as_str().unwrap_or(""),
        quarantine["detail"].as_str().unwrap_or("")
    )
}

installed_on_both! {
    async fn one_revocation_before_the_power_goes_is_not_undone(installation: Installation) {
        let server = installation.serve_first().await;
        let (id, secret) = key(&server, "ci").await;
        let (_, other) = key(&server, "other").await;
        // Of a running server, and nothing but the one call between the copy and the kill.
        let older = copy(&installation).await;
        let revoke = format!("/api/v1/subkeys/{id}/revoke");
        assert_eq!(server.admin(Method::POST, &revoke, &json!({})).await.status, 200);
        kill(server).await;
        put_back(&installation, &older).await;
        let server = installation.serve().await;
        let sent = installation.sandbox.requests().len();
        for secret in [&secret, &other] {
            assert_eq!(code(&server, secret).await, suspended());
        }
        assert_eq!(installation.sandbox.requests().len(), sent, "nothing is forwarded");
        assert!(detail(&server).await.starts_with("database_older: "), "{}", detail(&server).await);
    }

    async fn what_recover_did_is_not_undone(installation: Installation) {
        let server = installation.serve_first().await;
        let (id, secret) = key(&server, "ci").await;
        stop(server).await;
        let older = copy(&installation).await;
        let recover = async || {
            let done = installation.command(&["operator", "recover", "--data"]).output().await.unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
        };
        let (said, noted) = recover().await;
        assert!(said.contains("bo_") && noted.is_empty(), "{said}{noted}");
        // The copy lacks the new owner: told without a server having run.
        put_back(&installation, &older).await;
        let server = installation.serve().await;
        assert_eq!(code(&server, &secret).await, suspended());
        assert_eq!(server.admin(Method::POST, "/api/v1/vault/release", &json!({})).await.status, 200);
        let revoke = format!("/api/v1/subkeys/{id}/revoke");
        assert_eq!(server.admin(Method::POST, &revoke, &json!({})).await.status, 200);
        stop(server).await;

        // An older copy does not get as far as the checkpoint by recovering again and again.
        put_back(&installation, &older).await;
        for _ in 0..6 {
            let (_, noted) = recover().await;
            assert!(noted.contains("nothing is admitted"), "{noted}");
        }
        let server = installation.serve().await;
        assert_eq!(code(&server, &secret).await, suspended());
        stop(server).await;

        // Nor does it sign a register that was changed as if that were none of its business.
        tamper(&installation.url, r#"UPDATE register SET state = '{"seal":null,"quarantine":null}'"#).await;
        std::fs::remove_file(installation.folder.path().join("checkpoint")).unwrap();
        let (_, noted) = recover().await;
        assert!(noted.contains("register_mismatch"), "{noted}");
        let server = installation.serve().await;
        assert_eq!(code(&server, &secret).await, suspended());
    }

    async fn a_database_that_came_as_far_by_another_change_is_noticed(installation: Installation) {
        let server = installation.serve_first().await;
        let (id, secret) = key(&server, "ci").await;
        stop(server).await;
        let older = copy(&installation).await;
        let server = installation.serve().await;
        let suspend = format!("/api/v1/subkeys/{id}/suspend");
        assert_eq!(server.admin(Method::POST, &suspend, &json!({})).await.status, 200);
        stop(server).await;
        let file = installation.folder.path().join("checkpoint");
        let kept = std::fs::read_to_string(&file).unwrap();
        assert!(kept.contains("\"format\":2") && kept.contains("register_sha256"), "{kept}");

        // The same number of changes and of entries in both logs, without the file that would tell.
        put_back(&installation, &older).await;
        std::fs::remove_file(&file).unwrap();
        let server = installation.serve().await;
        key(&server, "in its place").await;
        stop(server).await;
        std::fs::write(&file, &kept).unwrap();
        let server = installation.serve().await;
        assert!(detail(&server).await.contains("another one"), "{}", detail(&server).await);
        assert_eq!(code(&server, &secret).await, suspended());
    }
}
