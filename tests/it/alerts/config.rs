//! What a wrong webhook is answered with, by `serve` and by `doctor`.

use crate::support::process::Installation;
use crate::support::receiver::{Mood, Receiver, SECRET};
use crate::support::transit::write_secret;
use http::Method;
use serde_json::json;
use std::process::Output;

async fn run(home: &Installation, receiver: &Receiver, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = home.command(arguments);
    command.envs(receiver.environment()).env("BITTING_DATA_DIR", home.folder.path());
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

/// `doctor` takes no directory.
async fn doctor(home: &Installation, receiver: &Receiver) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bitting"));
    command.arg("doctor").env("BITTING_DATA_DIR", home.folder.path()).env("BITTING_DATABASE_URL", &home.url);
    command.env("BITTING_PRIVATE_UPSTREAMS", "127.0.0.0/8").envs(receiver.environment());
    let Output { status, stdout, .. } = command.output().await.unwrap();
    let stdout = String::from_utf8(stdout).unwrap();
    let line = stdout.lines().find(|line| line.contains(" webhook: ")).unwrap_or(&stdout).to_owned();
    (status.code(), line)
}

#[tokio::test]
async fn a_server_that_cannot_sign_does_not_start_and_says_what_to_do() {
    let (home, receiver) = (Installation::sqlite().await, Receiver::start().await);
    write_secret(&receiver.secret_file(), SECRET, 0o644);
    let (code, said) = run(&home, &receiver, &["serve", "--data"]).await;
    assert!(
        code == Some(1) && said.contains("BITTING_WEBHOOK_SECRET_FILE") && said.contains("chmod 600"),
        "{said}"
    );
    receiver.set_secrets(&["secret-canary-that-is-none"]);
    let (code, said) = run(&home, &receiver, &["serve", "--data"]).await;
    assert!(
        code == Some(1) && said.contains("line 1 is not `whsec_`") && !said.contains("canary-that"),
        "{said}"
    );
    let (code, line) = doctor(&home, &receiver).await;
    assert!(code == Some(1) && line.starts_with("FAIL") && line.contains("line 1 is not"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_says_what_waits_and_never_the_url() {
    for home in [Installation::sqlite().await, Installation::postgres().await] {
        let mut receiver = Receiver::start().await;
        let (code, line) = doctor(&home, &receiver).await;
        assert!(code == Some(0) && line.starts_with("ok") && line.contains("0 notices wait"), "{line}");
        receiver.set_mood(Mood::Answers(404));
        let environment = receiver.environment();
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let log = home.folder.path().join("log");
        let server = home.serve_telling(&environment, &log).await;
        // Three wrong codes are an alarm.
        assert_eq!(server.admin(Method::POST, "/api/v1/vault/seal", &json!({})).await.status, 200);
        for _ in 0..30 {
            let wrong = json!({"code": "wrong"});
            server.admin(Method::POST, "/api/v1/vault/unseal", &wrong).await;
        }
        let delivery = receiver.next().await;
        assert_eq!(delivery.body()["data"]["kind"], "unseal_refused", "{}", delivery.text);
        let mut line = String::new();
        for _ in 0..20 {
            line = doctor(&home, &receiver).await.1;
            if line.starts_with("FAIL") {
                break;
            }
        }
        assert!(line.contains("1 notices wait for http://127.0.0.1:") && line.contains("404"), "{line}");
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(
            !line.contains("canary") && !log.contains("canary") && !log.contains("whsec_"),
            "{line} {log}"
        );
    }
}
