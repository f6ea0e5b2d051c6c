//! Key file, passphrase file, systemd credential.

use super::*;
use crate::support::transit::write_secret;
use serde_json::json;
use std::path::PathBuf;
use tempfile::TempDir;

fn file(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}

fn passphrase(path: &std::path::Path) -> Arc<dyn KekSource> {
    source(&[("BITTING_KEK_PASSPHRASE_FILE", path.display())])
}

/// Parameters as the database keeps them, cheap enough for many derivations.
fn cheap() -> Value {
    json!({"m": 8_192, "t": 1, "p": 1, "salt": "AAAAAAAAAAAAAAAAAAAAAA==", "version": 19})
}

#[tokio::test]
async fn a_key_file_is_made_once_and_read_from_then_on() {
    let (_folder, path) = file("kek");
    let file = source(&[("BITTING_KEK_FILE", path.display())]);
    assert_unavailable(open(&*file, &json!({})).await, "kek");
    let (made, kept) = create(&*file).await.unwrap();
    assert_eq!(create(&*file).await.unwrap(), (made.clone(), kept.clone()));
    assert_eq!(open(&*file, &kept).await.unwrap(), made);
    write_secret(&path, &made, 0o640);
    assert_refused(open(&*file, &kept).await, "chmod 600");
    // Whoever made it was killed before a key stood in it: it is not taken for one, nor overwritten.
    write_secret(&path, "", 0o600);
    assert_refused(create(&*file).await, "making broke off; remove it");
    assert_eq!(std::fs::read(&path).unwrap(), b"");
}

#[tokio::test]
async fn a_passphrase_gives_its_key_again_and_another_gives_another() {
    let (_folder, path) = file("passphrase");
    write_secret(&path, "correct horse battery\n", 0o600);
    let right = passphrase(&path);
    let (key, kept) = create(&*right).await.unwrap();
    assert_eq!((&kept["m"], &kept["t"], &kept["p"]), (&json!(65_536), &json!(3), &json!(1)));
    assert!(!right.is_outdated(&kept));
    for same in ["correct horse battery", "correct horse battery\n", "correct horse battery\r\n"] {
        write_secret(&path, same, 0o400);
        assert_eq!(open(&*right, &kept).await.unwrap(), key, "{same:?}");
    }
    for other in ["correct horse batterY", "correct horse battery ", "correct horse battery\n\n"] {
        write_secret(&path, other, 0o600);
        assert_ne!(open(&*right, &kept).await.unwrap(), key, "{other:?}");
    }
    let (again, other_salt) = create(&*right).await.unwrap();
    assert!(again != key && other_salt["salt"] != kept["salt"], "a salt of its own");
}

#[tokio::test]
async fn a_wrapping_made_with_weaker_parameters_opens_and_is_outdated() {
    let (_folder, path) = file("passphrase");
    write_secret(&path, "correct horse battery", 0o600);
    let source = passphrase(&path);
    let key = open(&*source, &cheap()).await.unwrap();
    assert_eq!(open(&*source, &cheap()).await.unwrap(), key);
    assert!(source.is_outdated(&cheap()));
    let kept = cheap();
    let opened =
        futures_util::future::join_all(std::iter::repeat_with(|| open(&*source, &kept)).take(5)).await;
    assert!(opened.into_iter().all(|same| same.unwrap() == key), "more than may be derived at one time");
}

#[tokio::test]
async fn parameters_that_were_tampered_with_are_refused_before_anything_is_allocated() {
    let (_folder, path) = file("passphrase");
    write_secret(&path, "correct horse battery", 0o600);
    let source = passphrase(&path);
    for (field, value) in [
        ("m", json!(1_u64 << 30)),
        ("m", json!(u32::MAX)),
        ("m", json!(1_u64 << 40)),
        ("m", json!(524_289)),
        ("m", json!(8_191)),
        ("m", json!(-1)),
        ("t", json!(0)),
        ("t", json!(11)),
        ("t", json!(u32::MAX)),
        ("p", json!(0)),
        ("p", json!(5)),
        ("salt", json!("")),
        ("salt", json!("AAAA")),
        ("salt", json!("not base64!")),
        ("salt", json!("A".repeat(4_096))),
        ("salt", json!(null)),
        ("version", json!(16)),
        ("more", json!(1)),
    ] {
        let mut kept = cheap();
        kept[field] = value.clone();
        assert_refused(open(&*source, &kept).await, "database");
        assert!(!source.is_outdated(&json!({})));
    }
    for kept in [json!(null), json!({}), json!([]), json!({"m": 8_192})] {
        assert_refused(open(&*source, &kept).await, "what was kept");
    }
}

#[tokio::test]
async fn a_passphrase_is_long_enough_and_its_own() {
    let (folder, path) = file("passphrase");
    let source = passphrase(&path);
    assert_unavailable(open(&*source, &cheap()).await, "cannot read");
    for (text, mode, part) in [
        ("eleven char\n", 0o600, "11 characters"),
        ("", 0o600, "0 characters"),
        ("äöüäöüäöüäö", 0o600, "11 characters"),
        ("correct horse battery", 0o640, "chmod 600"),
        ("correct horse battery", 0o604, "mode 604"),
        (&"x".repeat(20_000), 0o600, "short text"),
    ] {
        write_secret(&path, text, mode);
        let refused = open(&*source, &cheap()).await;
        assert!(text.is_empty() || !refused.as_ref().unwrap_err().to_string().contains(text));
        assert_refused(refused, part);
        assert_refused(create(&*source).await, part);
    }
    let directory = passphrase(folder.path());
    assert_refused(open(&*directory, &cheap()).await, "short text");
}

#[tokio::test]
async fn a_credential_of_systemd_holds_the_key_as_a_file_does() {
    let (folder, path) = file("kek");
    let environment = [
        ("BITTING_KEK_CREDENTIAL", "kek".to_owned()),
        ("CREDENTIALS_DIRECTORY", folder.path().display().to_string()),
    ];
    let credential = source(&environment);
    assert_unavailable(create(&*credential).await, "cannot read");
    let key = text(&Kek::generate(&Entropy::new()));
    // The mask of the list by which systemd lets the service's user read it shows as the group's bits.
    for mode in [0o400, 0o440] {
        write_secret(&path, &key, mode);
        let (created, kept) = create(&*credential).await.unwrap();
        assert_eq!((created.as_str(), open(&*credential, &kept).await.unwrap()), (key.as_str(), key.clone()));
    }
    write_secret(&path, &key, 0o444);
    assert_refused(open(&*credential, &json!({})).await, "mode 444");
    write_secret(&path, "c2hvcnQ=\n", 0o400);
    assert_refused(open(&*credential, &json!({})).await, "no key");
}
