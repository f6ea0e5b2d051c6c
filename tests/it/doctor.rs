//! `bitting doctor`: each thing that can be wrong has a line that names it and says what to do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::support::process::Installation;
use crate::support::store::TestStore;
use crate::support::transit::{Mood, Transit};
use http::Method;
use serde_json::json;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::process::Command;

/// The exit code and the report.
async fn doctor(url: &str, folder: &Path, environment: &[(&str, String)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitting"));
    command.arg("doctor").env("BITTING_DATA_DIR", folder).env("BITTING_DATABASE_URL", url).kill_on_drop(true);
    command.env("BITTING_PRIVATE_UPSTREAMS", "127.0.0.0/8");
    let done = command.envs(environment.iter().map(|(name, value)| (*name, value))).output().await.unwrap();
    (done.status.code(), String::from_utf8(done.stdout).unwrap())
}

async fn of(home: &Installation) -> (Option<i32>, String) {
    doctor(&home.url, home.folder.path(), &[]).await
}

/// The one check that failed.
#[track_caller]
fn failed((code, report): &(Option<i32>, String)) -> String {
    let failed: Vec<&str> = report.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert!(*code == Some(1) && failed.len() == 1, "{report}");
    failed[0].to_owned()
}

#[tokio::test]
async fn a_healthy_installation_has_nothing_to_do_with_and_without_a_server() {
    for home in [Installation::sqlite().await, Installation::postgres().await] {
        let server = home.serve_first().await;
        for _ in 0..2 {
            let (code, report) = of(&home).await;
            assert!(code == Some(0) && !report.contains("FAIL"), "{report}");
            for check in [
                "data directory",
                "core dumps",
                "vault",
                "seal",
                "quarantine",
                "keyring",
                "usage",
                "provider sandbox",
            ] {
                assert!(report.contains(&format!("ok    {check}: ")), "{check}: {report}");
            }
            server.terminate();
        }
    }
}

#[tokio::test]
async fn a_key_that_others_can_read_is_named_and_so_is_one_that_is_away() {
    let home = Installation::sqlite().await;
    let kek = home.folder.path().join("kek");
    fs::set_permissions(&kek, Permissions::from_mode(0o644)).unwrap();
    let line = failed(&of(&home).await);
    assert!(line.contains("vault: ") && line.contains(&format!("chmod 600 {}", kek.display())), "{line}");
    fs::remove_file(&kek).unwrap();
    let line = failed(&of(&home).await);
    assert!(line.contains("vault: ") && line.contains(kek.to_str().unwrap()), "{line}");
}

#[tokio::test]
async fn a_directory_and_a_database_that_others_have_a_part_in_are_named() {
    let home = Installation::sqlite().await;
    let (folder, database) = (home.folder.path(), home.folder.path().join("bitting.db"));
    fs::set_permissions(folder, Permissions::from_mode(0o775)).unwrap();
    let line = failed(&of(&home).await);
    assert!(line.contains("data directory: ") && line.contains("(mode 775); run: chmod 700 "), "{line}");
    fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(&database, Permissions::from_mode(0o640)).unwrap();
    let line = failed(&of(&home).await);
    let advice = format!("(mode 640); run: chmod 600 {}", database.display());
    assert!(line.contains("database files: ") && line.contains(&advice), "{line}");
}

#[tokio::test]
async fn a_term_that_is_due_is_named() {
    let home = Installation::sqlite().await;
    let server = home.serve_first().await;
    drop(server);
    assert_eq!(of(&home).await.0, Some(0));
    fs::write(home.folder.path().join("bitting.toml"), "[limits]\nwrap_uses_max = 1\n").unwrap();
    let line = failed(&of(&home).await);
    assert!(
        line.contains("keyring: term 1 has wrapped 1 data keys") && line.contains("bitting vault rotate"),
        "{line}"
    );
}

#[tokio::test]
async fn a_key_service_that_does_not_answer_or_denies_is_named() {
    let mut transit = Transit::start().await;
    let environment = transit.environment();
    let (url, folder) = TestStore::empty_sqlite();
    let mut init = Command::new(env!("CARGO_BIN_EXE_bitting"));
    init.args(["init", "--data"]).arg(folder.path()).env("BITTING_DATABASE_URL", &url);
    let made = init.envs(environment.iter().map(|(name, value)| (*name, value))).output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(doctor(&url, folder.path(), &environment).await.0, Some(0));
    transit.set_mood(Mood::Denies);
    let line = failed(&doctor(&url, folder.path(), &environment).await);
    assert!(line.contains("vault: ") && line.contains("transit/decrypt/bitting"), "{line}");
    assert!(!line.contains("s.first-token"), "{line}");
    transit.set_mood(Mood::Works);
    transit.go_down().await;
    let line = failed(&doctor(&url, folder.path(), &environment).await);
    assert!(line.contains("vault: ") && line.contains(&environment[0].1["http://".len()..]), "{line}");
}

#[tokio::test]
async fn a_quarantine_is_named_with_its_reason() {
    let home = Installation::sqlite().await;
    let server = home.serve_first().await;
    drop(server);
    let (backup, elsewhere) = (home.folder.path().join("backup"), TestStore::empty_sqlite());
    let done = home.command(&["backup", backup.to_str().unwrap(), "--data"]).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::copy(home.folder.path().join("kek"), elsewhere.1.path().join("kek")).unwrap();
    let mut restore = Command::new(env!("CARGO_BIN_EXE_bitting"));
    restore
        .arg("restore")
        .arg(&backup)
        .arg("--data")
        .arg(elsewhere.1.path())
        .env("BITTING_DATABASE_URL", &elsewhere.0);
    let done = restore.output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let line = failed(&doctor(&elsewhere.0, elsewhere.1.path(), &[]).await);
    assert!(
        line.contains("quarantine: nothing is admitted since") && line.contains("bitting vault release"),
        "{line}"
    );
}

#[tokio::test]
async fn a_seal_is_named_and_so_is_a_change_of_key_that_is_not_confirmed() {
    let home = Installation::sqlite().await;
    let new = home.folder.path().join("new");
    let step = ["vault", "change-kek", "--to-file", new.to_str().unwrap(), "--data"];
    assert!(home.command(&step).output().await.unwrap().status.success());
    let (code, report) = of(&home).await;
    assert!(
        code == Some(0) && report.contains("so do 1 others, until: bitting vault change-kek --confirm"),
        "{report}"
    );
    let server = home.serve().await;
    assert_eq!(server.admin(Method::POST, "/api/v1/vault/seal", &json!({})).await.status, 200);
    let line = failed(&of(&home).await);
    assert!(line.contains("seal: owner sealed the vault") && line.contains("bitting vault unseal"), "{line}");
}
