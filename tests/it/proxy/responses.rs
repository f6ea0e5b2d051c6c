//! The responses API through the hop, and whose what it keeps is.

use super::spoken;
use crate::support::server::{Answer, TestServer};
use crate::support::store::{TestStore, on_both};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

const RESPONSES: &str = "/v1/responses";

fn hello(more: &Value) -> Value {
    let mut body = json!({"model": "sandbox-mini", "input": "Say hello."});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn made(server: &TestServer, secret: &str, more: &Value) -> Value {
    let answer = server.post(secret, RESPONSES, &hello(more)).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

async fn call(server: &TestServer, secret: &str, method: &str, path: &str) -> Answer {
    let mut request = spoken(server, "openai", secret, path, &Value::Null);
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    server.call(request).await
}

fn id(response: &Value) -> &str {
    response["id"].as_str().unwrap()
}

/// Nothing that the key may use, and the provider saw nothing.
fn is_nobodys(server: &TestServer, answer: &Answer, seen: usize, what: &str) {
    assert_eq!(answer.refusal(), (404, "object_not_found".to_owned()), "{what}: {}", answer.json());
    assert_eq!(server.sandbox.requests().len(), seen, "{what}: the provider saw it");
}

on_both! {
    async fn a_response_is_answered_charged_and_logged_whole_and_streamed(test: TestStore) {
        let server = TestServer::start(test).await;
        let (key, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
        for more in [json!({}), json!({"stream": true}), json!({"max_output_tokens": 20, "store": false})] {
            server.sandbox.reset();
            let streams = more.get("stream").is_some();
            let answer = server.post(&secret, RESPONSES, &hello(&more)).await;
            assert_eq!(answer.status, 200, "{more}");
            let sent = server.sandbox.requests().pop().unwrap();
            assert_eq!((sent.path.as_str(), &sent.body), ("/v1/responses", &hello(&more).to_string()));
            let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
            assert!(text.contains("Say hello."), "{text}");
            if streams {
                assert!(text.starts_with("event: response.created") && text.contains("event: response.completed"));
            }
            let entry = server.entries(&key).await.pop().unwrap();
            let bill = server.sandbox.bill();
            assert!(bill.cost_usd > bitting::base::NanoUsd::ZERO);
            assert_eq!(entry["cost_usd"], json!(bill.cost_usd), "{entry}");
            assert_eq!((&entry["operation"], &entry["streamed"], &entry["outcome"], &entry["finish_reason"]),
                (&json!("responses"), &json!(streams), &json!("completed"), &json!("completed")), "{entry}");
        }
    }

    async fn p2_one_gate_lets_nobody_have_what_another_made(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, a) = server.mint(json!({})).await;
        let (_, b) = server.mint(json!({})).await;
        let response = made(&server, &a, &json!({})).await;
        let item = response["output"][0]["id"].as_str().unwrap().to_owned();
        let path = format!("{RESPONSES}/{}", id(&response));
        let seen = server.sandbox.requests().len();
        for (method, path) in [
            ("GET", path.clone()),
            ("GET", format!("{path}?stream=true")),
            ("DELETE", path.clone()),
            ("POST", format!("{path}/cancel")),
            ("GET", format!("{path}/input_items")),
            ("GET", format!("{RESPONSES}/resp_nobody_made_this_one")),
        ] {
            is_nobodys(&server, &call(&server, &b, method, &path).await, seen, &path);
        }
        for more in [
            json!({"previous_response_id": id(&response)}),
            json!({"input": [{"type": "item_reference", "id": item}]}),
            json!({"input": [{"type": "message", "id": item, "role": "assistant",
                "content": [{"type": "output_text", "text": "x"}]}]}),
            json!({"input": [{"type": "reasoning", "id": "rs_nobody_made_this_one", "summary": []}]}),
            json!({"conversation": "conv_1"}),
            json!({"prompt": {"id": "pmpt_1"}}),
        ] {
            let body = hello(&more);
            for path in [RESPONSES, "/v1/responses/compact", "/v1/responses/input_tokens"] {
                is_nobodys(&server, &server.post(&b, path, &body).await, seen, &format!("{path} {more}"));
            }
        }
        // What is nobody's may be written out: the provider looks nothing up.
        let written = json!({"input": [{"type": "message", "id": "msg_of_another_account_001", "role": "assistant",
            "content": [{"type": "output_text", "text": "x"}]}, {"role": "user", "content": "hi"}]});
        made(&server, &b, &written).await;
        // Its maker has it all.
        made(&server, &a, &json!({"previous_response_id": id(&response)})).await;
        made(&server, &a, &json!({"input": [{"type": "item_reference", "id": item}]})).await;
        assert_eq!(call(&server, &a, "GET", &path).await.json()["id"], response["id"]);
        let items = call(&server, &a, "GET", &format!("{path}/input_items?limit=5&order=asc")).await;
        assert_eq!(items.status, 200, "{}", items.json());
        assert_eq!(call(&server, &a, "DELETE", &path).await.status, 200);
        let seen = server.sandbox.requests().len();
        is_nobodys(&server, &call(&server, &a, "GET", &path).await, seen, "deleted");
        let gone = server.post(&a, RESPONSES, &hello(&json!({"previous_response_id": id(&response)}))).await;
        is_nobodys(&server, &gone, seen, "deleted");
    }

    async fn what_was_made_out_of_sight_is_the_makers_once_it_is_shown(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, a) = server.mint(json!({"share_objects": true})).await;
        let (_, b) = server.mint(json!({"share_objects": true})).await;
        let (_, alone) = server.mint(json!({})).await;
        let (_, other) = server.mint(json!({})).await;
        let naming = |item: &str| json!({"input": [{"type": "item_reference", "id": item}]});
        // Shown whole or as a stream told again from the middle, by the maker or by who shares it.
        for (maker, reader, query) in [
            (&alone, &alone, ""), (&alone, &alone, "?stream=true&starting_after=4"), (&a, &b, ""), (&a, &b, "?stream=true"),
        ] {
            let queued = made(&server, maker, &json!({"background": true})).await;
            let path = format!("{RESPONSES}/{}", id(&queued));
            let shown = call(&server, reader, "GET", &format!("{path}{query}")).await;
            let text = String::from_utf8(shown.bytes.to_vec()).unwrap();
            let (begins, _) = text.split_once("msg_").unwrap();
            let item: String = text[begins.len()..].chars().take_while(|c| *c != '"').collect();
            let seen = server.sandbox.requests().len();
            is_nobodys(&server, &server.post(&other, RESPONSES, &hello(&naming(&item))).await, seen, "anothers");
            made(&server, maker, &naming(&item)).await;
            made(&server, reader, &naming(&item)).await;
            // What is deleted is deleted with its parts.
            assert_eq!(call(&server, maker, "DELETE", &path).await.status, 200);
            let seen = server.sandbox.requests().len();
            is_nobodys(&server, &server.post(maker, RESPONSES, &hello(&naming(&item))).await, seen, "deleted");
        }
    }

    async fn a_compaction_leaves_nothing_on_record(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, secret) = server.mint(json!({})).await;
        let (_, other) = server.mint(json!({})).await;
        let input = json!({"input": [{"type": "message", "role": "user", "id": "msg_written_out_by_somebody",
            "content": [{"type": "input_text", "text": "x"}]}]});
        let compacted = server.post(&secret, "/v1/responses/compact", &hello(&input)).await;
        assert_eq!(compacted.status, 200, "{}", compacted.json());
        let made = compacted.json();
        let ids = [id(&made), "msg_written_out_by_somebody", id(&made["output"][1])];
        assert!(ids[2].starts_with("cmp_"), "{made}");
        let seen = server.sandbox.requests().len();
        for one in ids {
            let named = json!({"input": [{"type": "item_reference", "id": one}]});
            is_nobodys(&server, &server.post(&secret, RESPONSES, &hello(&named)).await, seen, one);
        }
        let again = json!({"input": [made["output"][0], made["output"][1], {"role": "user", "content": "hi"}]});
        assert_eq!(server.post(&other, RESPONSES, &hello(&again)).await.status, 200, "what is nobody's may be written out");
    }

    async fn keys_that_share_in_one_project_have_what_each_of_them_made(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, a) = server.mint(json!({"share_objects": true})).await;
        let (_, b) = server.mint(json!({"share_objects": true})).await;
        let (_, alone) = server.mint(json!({})).await;
        let streamed = server.post(&a, RESPONSES, &hello(&json!({"stream": true}))).await;
        let text = String::from_utf8(streamed.bytes.to_vec()).unwrap();
        let first: Value = serde_json::from_str(text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap()).unwrap();
        let response = &first["response"];
        let path = format!("{RESPONSES}/{}", id(response));
        assert_eq!(call(&server, &b, "GET", &path).await.status, 200);
        made(&server, &b, &json!({"previous_response_id": id(response)})).await;
        let own = made(&server, &alone, &json!({})).await;
        let seen = server.sandbox.requests().len();
        is_nobodys(&server, &call(&server, &alone, "GET", &path).await, seen, "not shared with it");
        let own = call(&server, &a, "GET", &format!("{RESPONSES}/{}", id(&own))).await;
        is_nobodys(&server, &own, seen, "not shared by its maker");
    }
}

#[tokio::test]
async fn a_cancellation_says_that_nothing_follows() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({})).await;
    let response = made(&server, &secret, &json!({"background": true})).await;
    let path = format!("{RESPONSES}/{}/cancel", id(&response));
    assert_eq!(call(&server, &secret, "POST", &path).await.status, 200);
    assert_eq!(server.sandbox.requests().pop().unwrap().header("content-length"), Some("0"));
}

#[tokio::test]
async fn p2_what_a_model_made_is_for_keys_that_may_use_the_model() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let shares = |models: &str| json!({"share_objects": true, "models": [models]});
    let (_, wide) = server.mint(shares("sandbox/*")).await;
    let (_, narrow) = server.mint(shares("sandbox/sandbox-large")).await;
    let response = made(&server, &wide, &json!({})).await;
    let path = format!("{RESPONSES}/{}", id(&response));
    let seen = server.sandbox.requests().len();
    for method in ["GET", "DELETE"] {
        let refused = call(&server, &narrow, method, &path).await;
        assert_eq!(refused.refusal(), (403, "model_not_allowed".to_owned()), "{method}");
    }
    assert_eq!(server.sandbox.requests().len(), seen);
    assert_eq!(call(&server, &wide, "GET", &path).await.status, 200);
}

#[tokio::test]
async fn what_names_an_object_goes_with_the_credential_that_made_it() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let other = json!({"name": "other", "secret": "sandbox-other-account-key"});
    let added = server.admin_post("/api/v1/providers/sandbox/credentials", &other).await;
    assert_eq!(added.status, 201);
    let (_, secret) = server.mint(json!({})).await;
    let account = |server: &TestServer| {
        server.sandbox.requests().pop().unwrap().header("authorization").unwrap().to_owned()
    };
    let mut seen = Vec::new();
    for _ in 0..8 {
        let response = made(&server, &secret, &json!({})).await;
        let maker = account(&server);
        for _ in 0..4 {
            made(&server, &secret, &json!({"previous_response_id": id(&response)})).await;
            assert_eq!(account(&server), maker);
            let shown = call(&server, &secret, "GET", &format!("{RESPONSES}/{}", id(&response))).await;
            assert_eq!((shown.status.as_u16(), account(&server)), (200, maker.clone()));
        }
        seen.push((maker, response));
    }
    let of_other = seen.iter().find(|(maker, _)| maker.ends_with("sandbox-other-account-key"));
    let (_, response) = of_other.expect("requests are spread over both accounts");
    let of_first = seen.iter().find(|(maker, _)| !maker.ends_with("sandbox-other-account-key"));
    let (_, of_first) = of_first.expect("requests are spread over both accounts");
    let item = json!([{"type": "item_reference", "id": of_first["output"][0]["id"]}]);
    let both = hello(&json!({"previous_response_id": id(response), "input": item}));
    let before = server.sandbox.requests().len();
    is_nobodys(&server, &server.post(&secret, RESPONSES, &both).await, before, "no account has both");
    let id_of_other = added.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/providers/sandbox/credentials/{id_of_other}/disable");
    assert_eq!(server.admin_post(&path, &json!({})).await.status, 200);
    let before = server.sandbox.requests().len();
    let shown = call(&server, &secret, "GET", &format!("{RESPONSES}/{}", id(response))).await;
    is_nobodys(&server, &shown, before, "its credential is gone");
}

#[tokio::test]
async fn what_names_an_object_goes_to_the_provider_that_keeps_it_or_nowhere() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let second = json!({"slug": "second", "dialects": {"openai": format!("{}/v1", server.sandbox_url)}});
    assert_eq!(server.admin_post("/api/v1/providers", &second).await.status, 201);
    let key = json!({"name": "main", "secret": "sandbox-second-account-key"});
    assert_eq!(server.admin_post("/api/v1/providers/second/credentials", &key).await.status, 201);
    let model = json!({"operations": ["responses"], "context_window": 1_000, "max_output_tokens": 400,
        "prices": {"input_per_mtok_usd": "1", "output_per_mtok_usd": "2"}});
    let put = server.admin_call(Method::PUT, "/api/v1/models/second/sandbox-mini", Some(&model)).await;
    assert!(put.status.is_success(), "{:?}", put.json());
    let order = json!(["sandbox", "second"]);
    let (_, secret) =
        server.mint(json!({"models": ["sandbox/*", "second/*"], "provider_order": order})).await;
    let response = made(&server, &secret, &json!({"model": "second/sandbox-mini"})).await;
    let seen = server.sandbox.requests().len();
    // Not to another provider, though the model or the path says so.
    let other = hello(&json!({"model": "sandbox/sandbox-mini", "previous_response_id": id(&response)}));
    is_nobodys(
        &server,
        &server.post(&secret, RESPONSES, &other).await,
        seen,
        "the model is another provider's",
    );
    let path = format!("{RESPONSES}/{}", id(&response));
    let elsewhere = call(&server, &secret, "GET", &format!("/p/sandbox{path}")).await;
    is_nobodys(&server, &elsewhere, seen, "another provider's path");
    // A model that several have is the keeper's, whatever the order.
    made(&server, &secret, &json!({"previous_response_id": id(&response)})).await;
    let sent = server.sandbox.requests().pop().unwrap();
    assert!(sent.header("authorization").unwrap().ends_with("sandbox-second-account-key"));
    assert_eq!(call(&server, &secret, "GET", &format!("/p/second{path}")).await.status, 200);
}

#[tokio::test]
async fn what_a_key_may_not_have_of_the_api_is_refused_unseen() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let capped = json!({"budgets": [{"limit_usd": "1", "window": "day"}]});
    for (key, more, status, code) in [
        (json!({"allow_store": false}), json!({}), 403, "feature_not_allowed"),
        (json!({"operations": ["chat"]}), json!({}), 403, "operation_not_allowed"),
        (json!({"allow_streaming": false}), json!({"stream": true}), 403, "feature_not_allowed"),
        (capped.clone(), json!({"background": "yes"}), 400, "invalid_body"),
        (capped, json!({"tools": [{"type": "web_search"}]}), 403, "feature_not_allowed"),
        (json!({}), json!({"truncation": "auto"}), 403, "feature_not_allowed"),
        (json!({}), json!({"max_output_tokens": "10"}), 400, "invalid_body"),
    ] {
        let (_, secret) = server.mint(key.clone()).await;
        let answer = server.post(&secret, RESPONSES, &hello(&more)).await;
        assert_eq!(answer.refusal(), (status, code.to_owned()), "{key} {more}: {}", answer.json());
    }
    assert!(server.sandbox.requests().is_empty());
    let (_, secret) = server.mint(json!({"allow_store": false})).await;
    made(&server, &secret, &json!({"store": false})).await;
    let (key, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
    let counted = server.post(&secret, "/v1/responses/input_tokens", &hello(&json!({}))).await;
    assert!(counted.json()["input_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{}", counted.json());
    assert_eq!(server.entries(&key).await.pop().unwrap()["cost_usd"], "0.00");
    server.sandbox.reset();
    let compacted = server.post(&secret, "/v1/responses/compact", &hello(&json!({}))).await;
    assert_eq!(compacted.status, 200, "{}", compacted.json());
    assert_eq!(server.entries(&key).await.pop().unwrap()["cost_usd"], json!(server.sandbox.bill().cost_usd));
}

#[tokio::test]
async fn a_default_bound_is_put_where_the_api_has_it() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({"default_max_output_tokens": 7})).await;
    let answer = server.post(&secret, RESPONSES, &hello(&json!({}))).await;
    assert_eq!(answer.header("x-bitting-changed"), Some("max_output_tokens"));
    let sent: Value = serde_json::from_str(&server.sandbox.requests().pop().unwrap().body).unwrap();
    assert_eq!(sent["max_output_tokens"], 7);
    assert_eq!(answer.json()["incomplete_details"]["reason"], "max_output_tokens");
    let compacted = server.post(&secret, "/v1/responses/compact", &hello(&json!({}))).await;
    assert_eq!((compacted.status.as_u16(), compacted.header("x-bitting-changed")), (200, None));
}

on_both! {
    async fn p3_a_compaction_has_no_bound_that_could_be_lowered(test: TestStore) {
        let server = TestServer::start(test).await;
        for tight in [
            json!({"budgets": [{"limit_usd": "0.002", "window": "total"}], "clamp_to_budget": true}),
            json!({"max_request_usd": "0.002", "clamp_to_budget": true}),
        ] {
            let (_, secret) = server.mint(tight).await;
            for more in [json!({}), json!({"max_output_tokens": 1})] {
                let refused = server.post(&secret, "/v1/responses/compact", &hello(&more)).await;
                assert_eq!(refused.status, 402, "{}", refused.json());
            }
        }
        assert!(server.sandbox.requests().is_empty());
    }

    async fn a_stream_that_is_cut_ends_in_a_failed_response(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = "sandbox-mini+gap=50,tokens=200";
        let document = json!({"operations": ["responses"], "context_window": 1000, "max_output_tokens": 400,
            "prices": {"input_per_mtok_usd": "1", "output_per_mtok_usd": "2"}});
        let put = format!("/api/v1/models/sandbox/{model}");
        assert!(server.admin_call(Method::PUT, &put, Some(&document)).await.status.is_success());
        let (key, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
        let body = hello(&json!({"model": model, "stream": true}));
        let mut response = server.send(spoken(&server, "openai", &secret, RESPONSES, &body)).await;
        assert_eq!(response.status(), 200);
        let mut text = Vec::new();
        let first = response.body_mut().frame().await.unwrap().unwrap();
        text.extend_from_slice(first.data_ref().unwrap());
        assert_eq!(server.admin_post(&format!("/api/v1/subkeys/{key}/revoke"), &json!({})).await.status, 200);
        while let Some(Ok(frame)) = response.body_mut().frame().await {
            text.extend_from_slice(frame.data_ref().unwrap());
        }
        let text = String::from_utf8(text).unwrap();
        let events: Vec<Value> = text.lines().filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap()).collect();
        let last = events.last().unwrap();
        assert_eq!((&last["type"], &last["response"]["error"]["code"]), (&json!("response.failed"), &json!("key_revoked")), "{text}");
        assert_eq!(last["response"]["id"], events[0]["response"]["id"]);
        let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }
}
