//! The sums of usage in a running server: held against the log with the books, and made anew from it.

use super::{total, usd};
use crate::support::server::TestServer;
use crate::support::store::{TestStore, on_both};
use bitting::base::{Clock, NanoUsd};
use serde_json::{Value, json};
use tokio::process::Command;

async fn usage(server: &TestServer, id: &str) -> Value {
    server.admin_get(&format!("/api/v1/usage?subkey={id}")).await.json()["items"][0].clone()
}

on_both! {
    async fn sums_of_usage_that_somebody_changed_are_an_alarm_and_made_anew(test: TestStore) {
        let mut server = TestServer::start(test).await;
        let (id, secret) = server.mint(total("1")).await;
        for _ in 0..3 {
            assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        }
        let right = usage(&server, &id).await;
        assert_eq!((usd(&right["cost_usd"]), &right["requests"]), (server.sandbox.bill().cost_usd, &3.into()));
        for stops in [false, true] {
            if stops {
                server.pause().await;
            }
            server.store.tamper("UPDATE usage_hours SET requests = requests + 7").await;
            if stops {
                server.resume().await;
            } else {
                assert_eq!(usage(&server, &id).await["requests"], 10);
                assert_eq!(server.services.ledger.audit().await.unwrap(), 0, "no cap depends on it");
            }
            assert_eq!(usage(&server, &id).await, right, "stopped: {stops}");
            let alarm = server.alarm_about("usage_disagrees", "usage_hours").await;
            assert!(alarm["detail"]["hour"].is_string(), "{alarm}");
            let log = server.admin_get("/api/v1/admin-log?action=usage.repair").await.json();
            assert_eq!(log["items"].as_array().unwrap().len(), 1 + usize::from(stops), "{log}");
            let detail = &log["items"][0]["detail"];
            assert_eq!((&detail["before"]["requests"], &detail["after"]["requests"]), (&10.into(), &3.into()));
        }
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200, "keys go on working");
        assert_eq!(usage(&server, &id).await["requests"], 4);
        server.end().await;
    }
}

/// Runs `bitting usage` with more arguments; its exit code and what it printed.
async fn told(server: &TestServer, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitting"));
    command
        .arg("usage")
        .args(arguments)
        .env("BITTING_URL", &server.admin)
        .env("BITTING_TOKEN", &server.token);
    let output = command.output().await.unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_providers_report_is_compared_with_what_was_counted_here() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    assert!(told(&server, &["--by", "model"]).await.1.contains("Nothing was used"));
    let (id, secret) = server.mint(total("1")).await;
    for _ in 0..3 {
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
    }
    assert_eq!(server.chat(&secret, "unknown-model").await.status, 403);
    let counted = usage(&server, &id).await;
    let (code, table) = told(&server, &["--by", "model,day", "--provider", "sandbox", "--from", "1d"]).await;
    assert_eq!(code, Some(0), "{table}");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with("MODEL") && lines[3].starts_with("TOTAL"), "{table}");
    assert!(lines[1].ends_with(counted["cost_usd"].as_str().unwrap()), "{table}");

    let day = Clock::system().now().date_naive().and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
    let result = json!({"num_model_requests": 3, "model": "sandbox-mini-2026-01-01", "input_tokens": counted["input_tokens"],
        "input_cached_tokens": counted["cached_input_tokens"], "output_tokens": counted["output_tokens"]});
    let report =
        |result: Value| json!({"data": [{"start_time": day, "end_time": day + 86_400, "results": [result]}]});
    let file = server.store.folder.path().join("report.json");
    let reconciled = async |report: Value, more: &[&str]| {
        std::fs::write(&file, report.to_string()).unwrap();
        let arguments = ["reconcile", file.to_str().unwrap(), "--provider", "sandbox"];
        told(&server, &[&arguments[..], more].concat()).await
    };
    let (code, said) = reconciled(report(result.clone()), &["--tolerance", "0%"]).await;
    assert_eq!((code, said.as_str()), (Some(0), "1 of 1 days and models agree within 0%.\n"));
    let mut more = result.clone();
    more["output_tokens"] = json!(counted["output_tokens"].as_i64().unwrap() + 100);
    let (code, said) = reconciled(report(more), &[]).await;
    assert!(code == Some(1) && said.contains("output_tokens") && said.contains("-100 "), "{said}");
    let cost: NanoUsd = usd(&counted["cost_usd"]).times(2);
    let costs = json!({"amount": {"value": cost.to_string(), "currency": "usd"}});
    let (code, said) = reconciled(report(costs), &["--json"]).await;
    assert_eq!(code, Some(1), "{said}");
    let document: Value = serde_json::from_str(said.split("error:").next().unwrap()).unwrap();
    assert_eq!(document["differences"][0]["here"], counted["cost_usd"]);
    assert_eq!(
        (&document["differences"][0]["percent"], &document["compared"]),
        (&json!("-50.0%"), &json!(1))
    );
    let (code, said) = reconciled(json!({"data": [{}]}), &[]).await;
    assert!(code == Some(2) && said.contains("no usage or cost report"), "{said}");
    server.end().await;
}
