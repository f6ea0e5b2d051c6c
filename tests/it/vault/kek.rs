//! The key-encryption key as the program meets it: away, wrong, another database's, and moved to another file.

use super::{admin_log, installed_on_both, opens, sealed, unseal, vault};
use crate::support::process::Installation;
use crate::support::server::chat;
use data_encoding::BASE64;
use serde_json::json;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

fn kek_file(installation: &Installation) -> PathBuf {
    installation.folder.path().join("kek")
}

/// What a server that starts with its vault closed says, and why it says that is.
async fn starts_sealed(installation: &Installation, environment: &[(&str, &str)]) -> (String, String) {
    let log = installation.folder.path().join("log");
    let mut server = installation.serve_telling(environment, &log).await;
    let (is_sealed, reason) = vault(&server).await;
    assert!(is_sealed);
    let chat = server.chat("bk_nobody", &chat("sandbox-mini")).await.unwrap();
    assert_eq!(chat.refusal(), (503, "sealed".to_owned()));
    server.child.kill().await.unwrap();
    let said = fs::read_to_string(&log).unwrap();
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("\"ERROR\"")).collect();
    (errors.join("\n"), reason.as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_kek_that_others_can_read_or_that_is_another_databases_opens_nothing() {
    let (one, other) = (Installation::sqlite().await, Installation::sqlite().await);
    let kek = kek_file(&one);
    let right = fs::read_to_string(&kek).unwrap();
    fs::set_permissions(&kek, Permissions::from_mode(0o644)).unwrap();
    let (said, reason) = starts_sealed(&one, &[]).await;
    assert!(said.contains("644") && said.contains("chmod 600"), "{said}");
    assert_eq!(reason, "kek_refused");
    fs::set_permissions(&kek, Permissions::from_mode(0o600)).unwrap();

    let others = fs::read_to_string(kek_file(&other)).unwrap();
    let mut flipped = BASE64.decode(right.trim().as_bytes()).unwrap();
    flipped[31] ^= 1;
    let flipped = BASE64.encode(&flipped) + "\n";
    for (wrong, says) in [(&others, "use the source that belongs"), (&flipped, "use the source that belongs")]
    {
        fs::write(&kek, wrong).unwrap();
        let (said, reason) = starts_sealed(&one, &[]).await;
        assert!(said.contains(says) && said.contains(kek.to_str().unwrap()), "{said}");
        assert_eq!(reason, "kek_refused");
        assert!(!said.contains(wrong.trim()) && !said.contains(right.trim()), "{said}");
    }
    fs::write(&kek, "nonsense\n").unwrap();
    let (said, reason) = starts_sealed(&one, &[]).await;
    assert!(said.contains("put the file back") && !said.contains("nonsense"), "{said}");
    assert_eq!(reason, "kek_refused");

    // A right key that is presented opens what the wrong file does not; a wrong one is refused without a word why.
    let server = one.serve().await;
    for wrong in [&others, &flipped, &"nonsense".to_owned(), &String::new()] {
        assert_eq!(unseal(&server, &json!({"kek": wrong})).await, (403, "unseal_refused".to_owned()));
    }
    assert_eq!(unseal(&server, &json!({})).await, (503, "sealed".to_owned()));
    fs::write(&kek, &right).unwrap();
    // What may pass by itself is asked for again within a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(
        vault(&server).await,
        (true, json!("kek_refused")),
        "a source that refused is not asked again by itself"
    );
    assert_eq!(unseal(&server, &json!({})).await.0, 200);
}

#[tokio::test]
async fn a_key_that_was_away_opens_the_vault_when_it_is_back() {
    let installation = Installation::sqlite().await;
    let (kek, away) = (kek_file(&installation), installation.folder.path().join("away"));
    fs::rename(&kek, &away).unwrap();
    let log = installation.folder.path().join("log");
    let server = installation.serve_telling(&[], &log).await;
    assert_eq!(vault(&server).await, (true, json!("kek_unavailable")));
    assert_eq!(unseal(&server, &json!({"code": "x"})).await, (403, "unseal_refused".to_owned()));
    // Asked again at least once before it is back.
    while !fs::read_to_string(&log).unwrap().contains("the vault is still sealed") {
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    fs::rename(&away, &kek).unwrap();
    opens(&server).await;
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(said.matches("\"alarm\":\"kek_unavailable\"").count(), 1, "{said}");
    assert!(said.contains(kek.to_str().unwrap()), "{said}");
    let refused = admin_log(&server, "vault.unseal_refused").await;
    assert_eq!(refused[0]["detail"]["refused_tries"], 1);
    server.mint(&json!({"name": "ci", "models": ["*"]})).await;
}

#[tokio::test]
async fn doctor_names_who_sealed_the_vault_and_what_to_do() {
    let installation = Installation::sqlite().await;
    let mut server = installation.serve().await;
    sealed(&server).await;
    server.child.kill().await.unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bitting"));
    command.arg("doctor").env("BITTING_DATA_DIR", installation.folder.path());
    let done = command.kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(
        said.contains("FAIL  seal: owner sealed the vault") && said.contains("bitting vault unseal"),
        "{said}"
    );
}

async fn change_kek(installation: &Installation, kek: &str, arguments: &[&str]) -> Output {
    let arguments = [&["vault", "change-kek"], arguments, &["--data"]].concat();
    installation.command(&arguments).env("BITTING_KEK_FILE", kek).output().await.unwrap()
}

installed_on_both! {
    async fn both_keys_open_the_vault_until_the_new_one_is_confirmed(installation: Installation) {
        let (old, new) = (kek_file(&installation), installation.folder.path().join("new"));
        let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
        let running = installation.serve_first().await;
        let (_, secret) = running.mint(&json!({"name": "ci", "models": ["sandbox/*"]})).await;
        let same = change_kek(&installation, old, &["--to-file", old]).await;
        assert!(!same.status.success());
        for _ in 0..2 {
            let added = change_kek(&installation, old, &["--to-file", new]).await;
            let said = String::from_utf8(added.stdout).unwrap();
            assert!(added.status.success() && said.contains(&format!("BITTING_KEK_FILE={new}")), "{said}");
        }
        assert_eq!(running.chat(&secret, &chat("sandbox-mini")).await.unwrap().status, 200);
        assert_eq!(admin_log(&running, "vault.change_kek").await.len(), 2);
        let mut server = running;
        for kek in [old, new] {
            server.child.kill().await.unwrap();
            server = installation.serve_telling(&[("BITTING_KEK_FILE", kek)], &installation.folder.path().join("log")).await;
            assert!(!vault(&server).await.0, "{kek}");
        }
        let early = change_kek(&installation, old, &["--confirm"]).await;
        assert!(!early.status.success());
        let confirmed = change_kek(&installation, new, &["--confirm"]).await;
        assert!(confirmed.status.success(), "{}", String::from_utf8_lossy(&confirmed.stderr));
        assert_eq!(server.chat(&secret, &chat("sandbox-mini")).await.unwrap().status, 200, "it is not disturbed");
        assert_eq!(admin_log(&server, "vault.confirm_kek").await.len(), 1);
        server.child.kill().await.unwrap();
        let (said, reason) = starts_sealed(&installation, &[("BITTING_KEK_FILE", old)]).await;
        assert!(reason == "kek_refused" && said.contains("use the source that belongs"), "{said}");
        let server = installation.serve_telling(&[("BITTING_KEK_FILE", new)], &installation.folder.path().join("log")).await;
        assert_eq!(server.chat(&secret, &chat("sandbox-mini")).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_passphrase_that_is_presented_opens_what_its_file_would() {
    let installation = Installation::sqlite().await;
    let (kek, log) = (kek_file(&installation), installation.folder.path().join("log"));
    let file = installation.folder.path().join("passphrase");
    fs::write(&file, "correct horse battery staple\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let file = file.to_str().unwrap();
    let added = change_kek(&installation, kek.to_str().unwrap(), &["--to-passphrase-file", file]).await;
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let server = installation.serve_telling(&[("BITTING_KEK_PASSPHRASE_FILE", file)], &log).await;
    sealed(&server).await;
    let wrong = json!({"passphrase": "correct horse battery stable"});
    assert_eq!(unseal(&server, &wrong).await, (403, "unseal_refused".to_owned()));
    assert_eq!(unseal(&server, &json!({"passphrase": "correct horse battery staple"})).await.0, 200);
}
