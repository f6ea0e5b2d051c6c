//! Each alarm that traffic raises, by real traffic.

use super::{list_model, read_to_end, streamed, total};
use crate::support::server::TestServer;
use crate::support::store::on_both;
use serde_json::json;

/// Whose key the sandbox echoes or refuses.
async fn credential(server: &TestServer) -> String {
    let list = server.admin_get("/api/v1/providers/sandbox/credentials").await.json();
    list["items"][0]["id"].as_str().unwrap().to_owned()
}

on_both! {
    async fn an_echoed_credential_is_an_alarm_wherever_it_stands(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, secret) = server.mint(json!({})).await;
        let credential = credential(&server).await;
        server.chat(&secret, "sandbox-mini+echo_key").await;
        let first = server.alarms_once("credential_echoed").await.remove(0);
        assert_eq!(first["subject"], credential);
        assert_eq!((&first["detail"]["place"], &first["detail"]["provider"]), (&json!("header"), &json!("sandbox")));
        let body = streamed("sandbox-mini+echo_key_split").to_string();
        let cut = server.send(server.proxied(&secret, "/v1/chat/completions", body)).await;
        assert!(!read_to_end(cut).await.1, "the stream is cut");
        for _ in 0..200 {
            let alarms = server.alarms_once("credential_echoed").await;
            assert_eq!(alarms.len(), 1, "a repeat is counted on the open one");
            if alarms[0]["count"].as_i64().unwrap() >= 3 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        assert!(server.alarms_once("credential_echoed").await[0]["count"].as_i64().unwrap() >= 3);
        server.end().await;
    }

    async fn a_refused_credential_is_an_alarm(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, secret) = server.mint(json!({})).await;
        server.chat(&secret, "sandbox-mini+bad_key").await;
        let alarm = server.alarms_once("upstream_credential").await.remove(0);
        assert_eq!((&alarm["subject"], &alarm["detail"]["status"]), (&json!(credential(&server).await), &json!(401)));
        server.end().await;
    }

    async fn a_bill_above_its_bound_is_an_alarm(test: TestStore) {
        let server = TestServer::start(test).await;
        list_model(&server, "sandbox", "sandbox-mini+usage_times=1000").await;
        let (_, secret) = server.mint(total("1")).await;
        let answer = server.chat(&secret, "sandbox-mini+usage_times=1000").await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        let alarm = server.alarms_once("bill_above_bound").await.remove(0);
        assert_eq!(alarm["subject"], "sandbox");
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0, "it is spent, and in the log");
        server.end().await;
    }

    async fn an_alarm_raised_at_the_very_end_is_written(test: TestStore) {
        let mut server = TestServer::start(test).await;
        server.services.alarms.raise(bitting::log::AlarmKind::UnsealRefused, "inst", &json!({"n": 1}));
        server.pause().await;
        server.resume().await;
        assert_eq!(server.alarms_once("unseal_refused").await[0]["detail"], json!({"n": 1}));
        server.end().await;
    }
}
