//! The places that outlive a request: files, the database as its own tools write it out, and what the system tells of a
//! process. Each is shown to be searched by a secret that is put there.

use super::search::{Search, forms};
use crate::support::process::{Installation, Process};
use crate::support::server::chat;
use crate::support::store::tamper;
use data_encoding::HEXLOWER;
use serde_json::json;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Every file of the installation with its bytes, but for those that hold a secret by design.
pub(super) fn files(home: &Installation, but_for: &[&Path]) -> Vec<(String, Vec<u8>)> {
    let files = files_under(home.folder.path()).into_iter().filter(|file| !but_for.contains(&file.as_path()));
    let read = |file: PathBuf| match std::fs::read(&file) {
        Ok(bytes) => Some((file.display().to_string(), bytes)),
        // It was replaced by another one in between, which is under its own name.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{}: {error}", file.display()),
    };
    files.filter_map(read).collect()
}

/// Those, and a dump of a PostgreSQL database, which takes long where there are many others.
pub(super) async fn at_rest(home: &Installation, but_for: &[&Path]) -> Vec<(String, Vec<u8>)> {
    let mut places = files(home, but_for);
    if let Some((base, schema)) = home.url.split_once("options[search_path]=") {
        let program = "/usr/lib/postgresql/15/bin/pg_dump";
        let arguments = ["--schema", schema, base.trim_end_matches(['?', '&'])];
        let dump = Command::new(program).args(arguments).output().await.unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        places.push(("pg_dump".to_owned(), dump.stdout));
    }
    places
}

/// What other processes are told of a process. Its environment is closed to all but root.
pub(super) fn of_process(server: &Process) -> Vec<(String, Vec<u8>)> {
    let pid = server.child.id().unwrap();
    let read =
        |name: &str| Some((format!("/proc/{name}"), std::fs::read(format!("/proc/{pid}/{name}")).ok()?));
    let places: Vec<_> = ["cmdline", "environ", "comm", "status"].into_iter().filter_map(read).collect();
    assert!(places.iter().any(|(name, bytes)| name == "/proc/cmdline" && !bytes.is_empty()));
    places
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_under(&path) } else { vec![path] }).collect()
}

/// Every form of a secret, as text and as bytes, in a table of the database.
async fn plant(home: &Installation, secret: &[u8]) {
    let is_sqlite = home.url.starts_with("sqlite:");
    let (bytes, before, after) = if is_sqlite { ("BLOB", "X'", "'") } else { ("BYTEA", "'\\x", "'") };
    let mut sql = format!("CREATE TABLE planted (form TEXT, t TEXT, b {bytes});");
    for (form, planted) in forms(secret) {
        let literal = format!("{before}{}{after}", HEXLOWER.encode(&planted));
        let text = std::str::from_utf8(&planted).ok().filter(|text| !text.contains('\0'));
        let text = text.map_or("NULL".to_owned(), |text| format!("'{}'", text.replace('\'', "''")));
        write!(sql, "INSERT INTO planted VALUES ('{form}', {text}, {literal});").unwrap();
    }
    tamper(&home.url, &sql).await;
}

async fn what_is_planted_is_found(home: Installation) {
    let log = home.folder.path().join("trace.log");
    let server = home.serve_tracing_to(&log).await;
    let (_, secret) = server.mint(&json!({"name": "ci", "models": ["sandbox/*"]})).await;
    assert_eq!(server.chat(&secret, &chat("sandbox-mini")).await.unwrap().status, 200);
    let text: &[u8] = b"planted-canary-a71c30\"x/+=";
    let binary: Vec<u8> = (0..32).map(|n: u8| n.wrapping_mul(41).wrapping_add(129)).collect();
    for secret in [text, &binary] {
        let mut search = Search::default();
        search.know("planted", secret);
        let found_in = |places: &[(String, Vec<u8>)]| -> Vec<String> {
            let found = places.iter().filter(|(_, bytes)| !search.found_in(bytes).is_empty());
            found.map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(found_in(&at_rest(&home, &[]).await), Vec::<String>::new());
        plant(&home, secret).await;
        let found = found_in(&at_rest(&home, &[]).await);
        assert!(found.iter().any(|name| name.ends_with("bitting.db-wal") || name == "pg_dump"), "{found:?}");
        // And each form by itself, in each kind of file.
        for (form, bytes) in forms(secret) {
            for name in ["other.log", "backup", "export.jsonl"] {
                let file = home.folder.path().join(name);
                let was = std::fs::read(&file).unwrap_or_default();
                std::fs::write(&file, [&was[..], b"{\"a\":\"", &bytes, b"\"}\n"].concat()).unwrap();
                let found = found_in(&files(&home, &[]));
                assert!(found.contains(&file.display().to_string()), "{form} in {name}: {found:?}");
                std::fs::write(&file, was).unwrap();
            }
        }
        tamper(&home.url, "DROP TABLE planted").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_planted_is_found_on_sqlite() {
    Box::pin(what_is_planted_is_found(Installation::sqlite().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_planted_is_found_on_postgres() {
    Box::pin(what_is_planted_is_found(Installation::postgres().await)).await;
}

#[tokio::test]
async fn what_is_planted_in_a_process_is_found() {
    let mut command = Command::new("sleep");
    let mut child =
        command.arg("60").env("PLANTED", "planted-canary-a71c30").kill_on_drop(true).spawn().unwrap();
    let file = format!("/proc/{}/environ", child.id().unwrap());
    let environ = loop {
        // Empty until the program is there.
        let environ = std::fs::read(&file).unwrap();
        if !environ.is_empty() {
            break environ;
        }
        tokio::task::yield_now().await;
    };
    let mut search = Search::default();
    search.know("planted", b"planted-canary-a71c30");
    assert!(!search.found_in(&environ).is_empty());
    child.kill().await.unwrap();
}
