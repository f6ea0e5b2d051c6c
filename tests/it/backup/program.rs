//! Through the real program: beside a server, onto a full disk, and through `kill -9`.

use super::{empty, execute};
use crate::support::process::Installation;
use crate::support::server::chat;
use crate::support::store::TestStore;
use bitting::service::backup::is_vacant;
use bitting::store::{SchemaState, Store, migrations};
use http::Method;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use tempfile::TempDir;
use tokio::process::Command;

/// A data directory with the installation's KEK, and the command that restores `backup` there.
fn restoring(from: &Installation, backup: &Path, (url, folder): &(String, TempDir)) -> Command {
    let kek = folder.path().join("kek");
    if !kek.exists() {
        fs::copy(from.folder.path().join("kek"), kek).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitting"));
    command.arg("restore").arg(backup).arg("--data").arg(folder.path()).env("BITTING_DATABASE_URL", url);
    command.kill_on_drop(true);
    command
}

async fn back_up(from: &Installation, backup: &Path) -> Output {
    from.command(&["backup", backup.to_str().unwrap(), "--data"]).output().await.unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_backup_beside_a_server_is_restored_elsewhere() {
    let from = Installation::sqlite().await;
    let server = from.serve_first().await;
    let (revoked, secret) = server.mint(&json!({"name": "gone", "models": ["sandbox/*"]})).await;
    assert_eq!(server.chat(&secret, &chat("sandbox-mini")).await.unwrap().status, 200);
    let done = server.admin(Method::POST, &format!("/api/v1/subkeys/{revoked}/revoke"), &json!({})).await;
    assert!(done.status.is_success(), "{:?}", done.json());

    let file = from.folder.path().join("backup");
    let done = back_up(&from, &file).await;
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!from.folder.path().join("backup.partial").exists());
    let bytes = fs::read(&file).unwrap();
    let again = back_up(&from, &file).await;
    assert!(again.status.code() == Some(1) && said(&again).contains("exists already"), "{}", said(&again));
    assert_eq!(fs::read(&file).unwrap(), bytes);

    for place in [TestStore::empty_sqlite(), TestStore::empty_postgres().await] {
        let done = restoring(&from, &file, &place).output().await.unwrap();
        assert!(done.status.success(), "{}", said(&done));
        let again = restoring(&from, &file, &place).output().await.unwrap();
        assert!(
            again.status.code() == Some(1) && said(&again).contains("is set up already"),
            "{}",
            said(&again)
        );
        let left = place.1.path().read_dir().unwrap();
        let left = left
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("restoring-"));
        assert_eq!(left.count(), 0, "nothing is left of the check");
    }
    assert_eq!(server.chat(&secret, &chat("sandbox-mini")).await.unwrap().status, 401);
}

/// An installation with enough in it for something to happen in the middle.
async fn large() -> (Installation, Store) {
    let from = Installation::sqlite().await;
    let store = Store::open(&from.url).await.unwrap();
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
        INSERT INTO admin_log (time, actor, action, target, entry) \
        SELECT '2026-11-22T16:00:00+00:00', 'local', 'test', 'target ' || i, '{\"a\":\"' || i || '\"}' FROM n";
    execute(&store, &[rows.to_owned()]).await;
    (from, store)
}

#[tokio::test]
async fn a_disk_that_is_full_leaves_no_part_of_a_backup() {
    let (from, _store) = large().await;
    let file = from.folder.path().join("backup");
    let script = format!(
        "trap '' XFSZ; ulimit -f 512; exec {} backup {} --data {}",
        env!("CARGO_BIN_EXE_bitting"),
        file.display(),
        from.folder.path().display()
    );
    let done = Command::new("sh").arg("-c").arg(script).output().await.unwrap();
    assert!(done.status.code() == Some(1) && said(&done).contains("backup.partial: "), "{}", said(&done));
    assert!(!file.exists() && !from.folder.path().join("backup.partial").exists());
}

/// How far the process has read the file; `None` while or when it does not have it open.
fn position(pid: u32, file: &Path) -> Option<u64> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        if fs::read_link(entry.path()).is_ok_and(|open| open == file) {
            let info = format!("/proc/{pid}/fdinfo/{}", entry.file_name().to_string_lossy());
            let info = fs::read_to_string(info).ok()?;
            return info.lines().next()?.strip_prefix("pos:")?.trim().parse().ok();
        }
    }
    None
}

async fn a_restore_that_is_killed_leaves_a_database_that_is_not_set_up(place: (String, TempDir)) {
    let (from, _store) = large().await;
    let file = from.folder.path().canonicalize().unwrap().join("backup");
    let done = back_up(&from, &file).await;
    assert!(done.status.success(), "{}", said(&done));
    let size = file.metadata().unwrap().len();

    let mut child = restoring(&from, &file, &place).spawn().unwrap();
    let pid = child.id().unwrap();
    let mut farthest = 0;
    // The file is read once to check it and once more to restore it: kill in the middle of the second time.
    loop {
        let at = position(pid, &file).unwrap_or(0);
        farthest = farthest.max(at);
        if farthest == size && at > size / 3 && at < size {
            break;
        }
        assert!(child.try_wait().unwrap().is_none(), "it was not caught in the middle");
        tokio::task::yield_now().await;
    }
    child.kill().await.unwrap();

    let target = empty(place).await;
    assert!(is_vacant(&target.store).await.unwrap());
    let names = migrations().into_iter().map(|(_, name)| name).collect();
    assert_eq!(target.store.schema_state().await.unwrap(), SchemaState::Pending(names));
    let place = (target.url, target.folder);
    let done = restoring(&from, &file, &place).output().await.unwrap();
    assert!(done.status.success(), "{}", said(&done));
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_nothing_on_sqlite() {
    a_restore_that_is_killed_leaves_a_database_that_is_not_set_up(TestStore::empty_sqlite()).await;
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_nothing_on_postgres() {
    a_restore_that_is_killed_leaves_a_database_that_is_not_set_up(TestStore::empty_postgres().await).await;
}
