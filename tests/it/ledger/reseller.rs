//! Resellers: their model list as ours, and what they say a request cost beside what we say.

use super::{books, list_model, read_to_end, streamed, total, usd};
use crate::support::server::{TestServer, chat};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Answers one request after the other with these answers as they are; returns the base URL.
async fn fake(answers: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for answer in answers {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            // A chat ends with its body, which is an object.
            let is_whole = |read: &[u8]| {
                let asks = read.starts_with(b"GET /v1/models HTTP/1.1\r\n") && read.ends_with(b"\r\n\r\n");
                let chats = read.starts_with(b"POST /v1/chat/completions HTTP/1.1\r\n");
                asks || chats && read.ends_with(b"}")
            };
            while !is_whole(&read) {
                assert!(connection.read_buf(&mut read).await.unwrap() > 0);
            }
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn listed(prompt: &str) -> String {
    let model = |id: &str, prompt: &str| {
        json!({"id": id, "context_length": 8192, "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
            "pricing": {"prompt": prompt, "completion": "0.000002"}, "top_provider": {"max_completion_tokens": 4096},
            "supported_parameters": ["tools"]})
    };
    json!({"data": [model("maker/model", prompt), model("maker/auto", "-1")]}).to_string()
}

/// One chat with a model that reports this cost; its entry.
async fn chat_at(server: &TestServer, nano: u64, more: &Value, id: &str, secret: &str) -> Value {
    let name = format!("sandbox-mini+cost={nano}");
    list_model(server, "sandbox", &name).await;
    let mut body = chat(&name);
    body["max_tokens"] = json!(1_000);
    for (field, value) in more.as_object().unwrap() {
        body[field] = value.clone();
    }
    let answer = server.post(secret, "/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    server.entries(id).await.pop().unwrap()
}

/// A capped key for a provider that answers its one request with this.
async fn key_of(server: &TestServer, answer: String) -> (String, String) {
    let url = fake(vec![answer]).await;
    let provider = json!({"slug": "reseller", "dialects": {"openai": url}});
    let made = server.admin_post("/api/v1/providers", &provider).await;
    assert_eq!(made.status, 201, "{:?}", made.json());
    let key = json!({"name": "main", "secret": "reseller-key-5f8b2c91d7e64a03"});
    assert_eq!(server.admin_post("/api/v1/providers/reseller/credentials", &key).await.status, 201);
    list_model(server, "reseller", "m").await;
    let mut definition = total("1");
    definition["models"] = json!(["reseller/*"]);
    server.mint(definition).await
}

on_both! {
    async fn a_resellers_list_is_fetched_and_taken_over(test: TestStore) {
        let server = TestServer::start(test).await;
        let url = fake(vec![
            answer("302 Found\r\nlocation: http://127.0.0.1:1/", ""),
            answer("200 OK", "<html>"),
            answer("200 OK", &listed("0.0000015")),
            answer("200 OK", &listed("0.0000015")),
            answer("200 OK", &listed("0.0000016")),
        ]).await;
        let made = server.admin_post("/api/v1/providers", &json!({"slug": "reseller", "dialects": {"openai": url}})).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
        let order = json!({"provider": "reseller"});
        let redirected = server.admin_post("/api/v1/models/sync", &order).await;
        assert_eq!(redirected.refusal(), (502, "upstream_error".to_owned()), "a redirect is not followed");
        let garbled = server.admin_post("/api/v1/models/sync", &order).await;
        assert_eq!(garbled.refusal(), (400, "invalid_field".to_owned()));
        let report = server.admin_post("/api/v1/models/sync", &order).await.json();
        assert_eq!(report["added"][0]["model"], "reseller/maker/model", "{report}");
        assert_eq!(report["added"][0]["document"]["prices"], json!({"input_per_mtok_usd": "1.50", "output_per_mtok_usd": "2.00"}));
        assert_eq!((&report["unmapped"][0]["model"], &report["unmapped"][0]["field"]), (&json!("maker/auto"), &Value::Null));
        let again = server.admin_post("/api/v1/models/sync", &order).await.json();
        assert_eq!((&again["added"], &again["unchanged"]), (&json!([]), &json!(1)));
        let dearer = server.admin_post("/api/v1/models/sync", &order).await.json();
        let change = json!({"field": "/prices/input_per_mtok_usd", "before": "1.50", "after": "1.60"});
        assert_eq!(dearer["changed"], json!([{"model": "reseller/maker/model", "changes": [change]}]));
        let nobody = server.admin_post("/api/v1/models/sync", &json!({"provider": "nobody"})).await;
        assert_eq!(nobody.refusal(), (400, "unknown_provider".to_owned()));
        server.end().await;
    }

    async fn what_a_reseller_took_is_charged_where_it_is_more_and_kept_beside_ours(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(total("1")).await;
        let plain = server.chat(&secret, "sandbox-mini").await;
        assert_eq!(plain.status, 200);
        let entry = server.entries(&id).await.pop().unwrap();
        assert!(entry.get("reported_cost_usd").is_none() && entry.get("own_cost_usd").is_none(), "{entry}");
        let (mut spent, _) = books(&server, &id).await;
        for (nano, more) in [
            (20_123_u64, json!({})),
            (1_001, json!({})),
            (30_007, json!({"stream": true})),
            (30_011, json!({"stream": true, "stream_options": {"include_usage": true}})),
        ] {
            let entry = chat_at(&server, nano, &more, &id, &secret).await;
            let (reported, own) = (usd(&entry["reported_cost_usd"]), usd(&entry["own_cost_usd"]));
            assert_eq!(reported, NanoUsd::from_nano(i64::try_from(nano).unwrap()));
            assert!(own.as_nano() > 2_001 && own.as_nano() < 19_000, "{own}");
            assert_eq!(usd(&entry["cost_usd"]), reported.max(own), "the larger is charged");
            spent = spent.checked_add(reported.max(own)).unwrap();
            assert_eq!(books(&server, &id).await, (spent, NanoUsd::ZERO), "to the nano-USD");
            let alarm = server.alarm_about("cost_disagreement", &format!("sandbox/sandbox-mini+cost={nano}")).await;
            assert_eq!((usd(&alarm["detail"]["reported_cost_usd"]), usd(&alarm["detail"]["own_cost_usd"])), (reported, own));
        }
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        server.end().await;
    }

    async fn what_a_reseller_took_for_a_request_that_it_refused_is_charged(test: TestStore) {
        let server = TestServer::start(test).await;
        let refused = json!({"error": {"message": "no", "code": 400}, "usage": {"cost": 0.000_020_123}});
        let (id, secret) = key_of(&server, answer("400 Bad Request", &refused.to_string())).await;
        assert_eq!(server.chat(&secret, "reseller/m").await.status, 400);
        let entry = server.entries(&id).await.remove(0);
        assert_eq!((usd(&entry["cost_usd"]), &entry["usage_source"]), (NanoUsd::from_nano(20_123), &json!("reported")), "{entry}");
        assert_eq!(books(&server, &id).await, (NanoUsd::from_nano(20_123), NanoUsd::ZERO));
        server.end().await;
    }

    async fn p3_usage_that_a_stream_told_before_it_broke_is_not_all_that_it_costs(test: TestStore) {
        let server = TestServer::start(test).await;
        let text = "word ".repeat(60);
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "model": "m",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}});
        let event = format!("data: {chunk}\n\n");
        // More was to come.
        let length = event.len() + 100;
        let broken = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {length}\r\n\r\n{event}");
        let (id, secret) = key_of(&server, broken).await;
        let mut body = streamed("reseller/m");
        body["max_tokens"] = json!(1_000);
        let response = server.send(server.proxied(&secret, "/v1/chat/completions", body.to_string())).await;
        assert!(!read_to_end(response).await.1);
        let entry = server.entries(&id).await.remove(0);
        assert_eq!((&entry["outcome"], &entry["usage_source"]), (&json!("upstream_failed"), &json!("estimated")), "{entry}");
        assert!(entry["output_tokens"].as_u64().unwrap() >= 300, "{entry}");
        server.end().await;
    }

    async fn a_resellers_cost_that_is_near_ours_is_no_alarm(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(total("1")).await;
        let first = chat_at(&server, 0, &json!({}), &id, &secret).await;
        let own = usd(&first["own_cost_usd"]).as_nano().unsigned_abs();
        server.alarm_about("cost_disagreement", "sandbox/sandbox-mini+cost=0").await;
        let near = chat_at(&server, own + 900, &json!({}), &id, &secret).await;
        assert_eq!(usd(&near["cost_usd"]).as_nano().unsigned_abs(), own + 900);
        // Alarms are written in their order: this one would be there before the next.
        chat_at(&server, own + 5_000, &json!({}), &id, &secret).await;
        server.alarm_about("cost_disagreement", &format!("sandbox/sandbox-mini+cost={}", own + 5_000)).await;
        assert_eq!(server.alarms_once("cost_disagreement").await.len(), 2);
        server.end().await;
    }

    async fn p3_a_model_without_a_price_tag_that_is_billed_for_all_the_same_blocks_the_window(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(total("1")).await;
        let free = json!({"operations": ["chat"], "context_window": 128_000, "max_output_tokens": 16_384,
            "prices": {"input_per_mtok_usd": "0", "output_per_mtok_usd": "0"}});
        let (gift, billed) = ("sandbox-mini+tokens=3", "sandbox-mini+cost=10000000");
        for name in [gift, billed] {
            let put = server.admin_call(Method::PUT, &format!("/api/v1/models/sandbox/{name}"), Some(&free)).await;
            assert!(put.status.is_success(), "{:?}", put.json());
        }
        for _ in 0..3 {
            assert_eq!(server.chat(&secret, gift).await.status, 200);
        }
        assert_eq!(books(&server, &id).await, (NanoUsd::ZERO, NanoUsd::ZERO));
        assert_eq!(server.chat(&secret, billed).await.status, 200);
        assert_eq!(books(&server, &id).await, ("0.01".parse().unwrap(), NanoUsd::ZERO), "what was taken is spent");
        assert_eq!(server.alarms_once("bill_above_bound").await[0]["subject"], "sandbox");
        let bill = server.sandbox.bill().requests;
        assert_eq!(server.chat(&secret, billed).await.refusal(), (402, "budget_exceeded".to_owned()));
        assert_eq!(server.sandbox.bill().requests, bill);
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        server.end().await;
    }

    async fn a_reseller_that_takes_more_than_the_worst_case_blocks_the_window(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(total("1")).await;
        let entry = chat_at(&server, 500_000_000, &json!({}), &id, &secret).await;
        assert_eq!(usd(&entry["cost_usd"]), "0.5".parse().unwrap());
        assert_eq!(server.alarms_once("bill_above_bound").await[0]["subject"], "sandbox");
        let (spent, _) = books(&server, &id).await;
        assert_eq!(spent, "0.5".parse().unwrap());
        server.end().await;
    }
}
