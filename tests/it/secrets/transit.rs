//! The same search where a key service keeps the key-encryption key: its token and what it unwraps come out nowhere,
//! also when it misbehaves and repeats the token.

use super::places::{files, of_process};
use super::witness::Witness;
use crate::support::process::Installation;
use crate::support::store::TestStore;
use crate::support::transit::{Mood, Transit};
use data_encoding::BASE64;
use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

const TOKEN: &str = "s.canary-token-of-a-key-service-4c91";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_in_never_out_of_a_server_whose_key_a_key_service_keeps() {
    let transit = Transit::start().await;
    transit.set_token(TOKEN);
    let mut witness = Witness::default();
    witness.know("the token of the key service", TOKEN);
    let environment = transit.environment();
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let environment = [&[("BITTING_LOG", "trace")], &environment[..]].concat();
    let (url, folder) = TestStore::empty_sqlite();
    let mut init = Command::new(env!("CARGO_BIN_EXE_bitting"));
    init.args(["init", "--json", "--data"]).arg(folder.path()).env("BITTING_DATABASE_URL", &url);
    let made = init.envs(environment.iter().copied()).output().await.unwrap();
    let said: Value = serde_json::from_slice(&made.stdout).unwrap();
    let operator = said["operator_token"].as_str().unwrap();
    witness.know("the operator's token", operator);
    witness.saw_given_out("the output of init", made.stdout, operator);
    witness.saw("the errors of init", made.stderr);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let home = Installation::found((url, folder), operator, listener);

    let other = BASE64.encode(b"a key that is not the right one!");
    witness.know("a key that is not the right one", b"a key that is not the right one!");
    let moods = [Mood::Works, Mood::Denies, Mood::DeniesUnwrapping, Mood::Answers(418), Mood::Unwraps(other)];
    for (number, mood) in moods.into_iter().enumerate() {
        transit.set_mood(mood.clone());
        let mut server =
            home.serve_telling(&environment, &home.folder.path().join(format!("{number}.log"))).await;
        let state = server.admin(Method::GET, "/api/v1/vault", &Value::Null).await;
        assert_eq!(state.json()["sealed"], mood != Mood::Works, "{mood:?}");
        witness.saw_answer("how the vault stands", &state);
        for (method, path) in [
            (Method::GET, "/readyz"),
            (Method::GET, "/api/v1/alarms"),
            (Method::GET, "/metrics"),
            (Method::POST, "/api/v1/vault/unseal"),
            (Method::POST, "/api/v1/vault/rotate"),
        ] {
            let answer = server.admin(method, path, &json!({})).await;
            witness.saw_answer(path, &answer);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitting"));
        command.arg("doctor").env("BITTING_DATA_DIR", home.folder.path()).envs(environment.iter().copied());
        let report = command.output().await.unwrap();
        witness.saw("the report of doctor", [report.stdout, report.stderr].concat());
        for (place, bytes) in files(&home, &[]).into_iter().chain(of_process(&server)) {
            witness.saw(place, bytes);
        }
        server.child.kill().await.unwrap();
    }
    let keys = transit.plaintexts();
    assert!(!keys.is_empty() && transit.seen().0.iter().any(|token| token == TOKEN));
    for key in keys {
        witness.know("the KEK that the key service unwraps", BASE64.decode(key.as_bytes()).unwrap());
    }
    let leaks = witness.leaks();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}
