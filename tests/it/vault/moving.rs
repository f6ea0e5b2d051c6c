//! `bitting vault rotate --wait` and `rewrap --wait`: how far it is, and how it ended.

use crate::support::process::{Installation, Process};
use crate::support::store::tamper;
use serde_json::{Value, json};
use std::process::{Output, Stdio};
use tokio::process::Command;

/// Runs `bitting vault VERB --wait --json`.
async fn moved(server: &Process, verb: &str) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitting"));
    command.args(["vault", verb, "--wait", "--json"]).stdin(Stdio::null()).kill_on_drop(true);
    command.env("BITTING_URL", server.admin_url()).env("BITTING_TOKEN", server.token());
    let output = command.output().await.unwrap();
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    (output, said)
}

async fn with_keys(count: usize) -> (Installation, Process) {
    let home = Installation::sqlite().await;
    let server = home.serve_first().await;
    for number in 0..count {
        server.mint(&json!({"name": format!("key-{number}"), "models": ["sandbox/*"]})).await;
    }
    (home, server)
}

/// The lines `DONE/TOTAL moved`.
fn progress(said: &str) -> Vec<(u64, u64)> {
    let lines = said.lines().filter_map(|line| line.strip_suffix(" moved")?.split_once('/'));
    lines.map(|(done, total)| (done.parse().unwrap(), total.parse().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_is_waited_for_tells_how_far_it_is_and_ends_with_everything_moved() {
    let (_home, server) = with_keys(12).await;
    let (output, said) = moved(&server, "rotate").await;
    assert!(output.status.success(), "{said}");
    let told = progress(&said);
    assert!(!told.is_empty() && told.is_sorted(), "{said}");
    assert!(told.iter().all(|(done, total)| done <= total && *total > 12), "{said}");
    assert!(told.last().is_some_and(|(done, total)| done == total), "{said}");
    assert!(!said.contains(['\r', '#']), "no bar where nobody looks: {said}");
    let state: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&state["rewrap"]["left"], &state["rewrap"]["running"]),
        (&json!(0), &json!(false)),
        "{state}"
    );
    let (output, said) = moved(&server, "rewrap").await;
    assert!(output.status.success() && progress(&said).iter().all(|(done, total)| done == total), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_moved_fails_the_command_which_says_what_to_do() {
    let (home, server) = with_keys(3).await;
    tamper(&home.url, "UPDATE subkeys SET version = version + 7 WHERE name = 'key-1'").await;
    let (output, said) = moved(&server, "rotate").await;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: 1 data keys and signatures of older terms were not moved\n"), "{said}");
    assert!(said.contains("bitting alarm list") && said.contains("bitting vault rewrap --wait"), "{said}");
    assert!(output.stdout.is_empty());
    // Put right, the rest follows.
    tamper(&home.url, "UPDATE subkeys SET version = version - 7 WHERE name = 'key-1'").await;
    let (output, said) = moved(&server, "rewrap").await;
    assert!(output.status.success(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_meanwhile_fails_the_command() {
    let (_home, mut server) = with_keys(1).await;
    server.child.kill().await.unwrap();
    let (output, said) = moved(&server, "rotate").await;
    assert!(output.status.code() == Some(1) && said.contains("no server answers"), "{said}");
}
