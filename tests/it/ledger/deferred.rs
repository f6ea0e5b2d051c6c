//! Work that goes on behind its answer is charged in full when it is accepted, and comes to what it used, once, when that
//! is read: however often, by whomever, and whatever happens in between.

use super::{books, total, usd};
use crate::support::process::{Installation, Process};
use crate::support::server::{Answer, TestServer};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use futures_util::future::join_all;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

pub(super) const RESPONSES: &str = "/v1/responses";

pub(super) fn document() -> Value {
    json!({
        "operations": ["responses"], "context_window": 4_000, "max_output_tokens": 400,
        "prices": {"input_per_mtok_usd": "0.15", "cached_input_per_mtok_usd": "0.075", "output_per_mtok_usd": "0.6"},
    })
}

/// Puts `sandbox-mini` with these directives into the catalog.
pub(super) async fn model(server: &TestServer, directives: &str) -> String {
    let name = format!("sandbox-mini+{directives}");
    let path = format!("/api/v1/models/sandbox/{name}");
    assert!(server.admin_call(Method::PUT, &path, Some(&document())).await.status.is_success());
    name
}

fn body(model: &str) -> Value {
    json!({"model": model, "input": "Say hello.", "background": true})
}

/// Has a response made out of sight; its id.
pub(super) async fn begin(server: &TestServer, secret: &str, model: &str) -> String {
    let answer = server.post(secret, RESPONSES, &body(model)).await;
    let queued = answer.json();
    assert_eq!((answer.status.as_u16(), &queued["status"]), (200, &json!("queued")), "{queued}");
    queued["id"].as_str().unwrap().to_owned()
}

pub(super) async fn get(server: &TestServer, secret: &str, path: &str) -> Answer {
    let mut request = server.proxied(secret, path, "");
    *request.method_mut() = Method::GET;
    request.headers_mut().remove("content-type");
    server.call(request).await
}

pub(super) async fn look(server: &TestServer, secret: &str, id: &str) -> Value {
    let answer = get(server, secret, &format!("{RESPONSES}/{id}")).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(answer.header("x-bitting-cost-usd"), Some("0.00"), "looking costs nothing");
    answer.json()
}

pub(super) async fn cancelled(server: &TestServer, secret: &str, path: &str) -> Value {
    let mut request = server.proxied(secret, path, "");
    request.headers_mut().remove("content-type");
    let answer = server.call(request).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

/// The entries that say what a charge was corrected by.
pub(super) fn corrections(entries: &[Value]) -> Vec<&Value> {
    entries.iter().filter(|entry| entry["rule"] == "deferred_use").collect()
}

fn sum(entries: &[Value]) -> NanoUsd {
    let signed = |cost: &Value| match cost.as_str().unwrap().strip_prefix('-') {
        Some(back) => usd(&json!(back)).negated(),
        None => usd(cost),
    };
    entries.iter().fold(NanoUsd::ZERO, |sum, entry| sum.saturating_add(signed(&entry["cost_usd"])))
}

/// Nothing was corrected, and what is spent is the whole bound.
pub(super) async fn is_charged_in_full(server: &TestServer, key: &str) -> NanoUsd {
    let entries = server.entries(key).await;
    let charge = entries.iter().find(|entry| entry["path"] == RESPONSES).unwrap();
    assert_eq!(
        (&charge["cost_usd"], &charge["usage_source"]),
        (&charge["reserved_usd"], &json!("reserved")),
        "{charge}"
    );
    assert!(corrections(&entries).is_empty(), "{entries:?}");
    usd(&charge["cost_usd"])
}

/// What was used is what is spent, and one entry says so.
pub(super) async fn is_charged_by_its_use(server: &TestServer, key: &str) {
    let entries = server.entries(key).await;
    let bill = server.sandbox.bill().cost_usd;
    assert!(bill > NanoUsd::ZERO);
    assert_eq!(sum(&entries), bill, "{entries:?}");
    let corrected = corrections(&entries);
    let charge = entries.iter().find(|entry| entry["method"] == "POST").unwrap();
    let [one] = corrected[..] else { panic!("{corrected:?}") };
    assert_eq!((&one["corrects"], &one["time"]), (&charge["request_id"], &charge["time"]));
    assert_eq!(
        (&one["count"], &one["subkey_id"], &one["usage_source"]),
        (&json!(0), &json!(key), &json!("reported"))
    );
    assert_eq!(one["model_reported"], Value::Null, "it is the one that was asked for");
    assert!(one["output_tokens"].as_u64().unwrap() > 0 && one["input_tokens"].as_u64().unwrap() > 0, "{one}");
    for look in entries.iter().filter(|entry| entry["method"] == "GET") {
        assert_eq!((&look["cost_usd"], &look["output_tokens"]), (&json!("0.00"), &json!(0)), "{look}");
        assert_eq!((&look["model_reported"], &look["finish_reason"]), (&Value::Null, &Value::Null), "{look}");
    }
    let usage = server.admin_get(&format!("/api/v1/usage?subkey={key}")).await.json();
    assert_eq!(
        (usd(&usage["items"][0]["cost_usd"]), &usage["items"][0]["output_tokens"]),
        (bill, &one["output_tokens"])
    );
}

on_both! {
    async fn p3_a_background_response_comes_to_what_it_used_once(test: TestStore) {
        let mut server = TestServer::start(test).await;
        let model = model(&server, "polls=1,tokens=30").await;
        let (capped, secret) = server.mint(total("1")).await;
        let id = begin(&server, &secret, &model).await;
        let bound = is_charged_in_full(&server, &capped).await;
        assert_eq!(books(&server, &capped).await, (bound, NanoUsd::ZERO));
        assert_eq!(look(&server, &secret, &id).await["status"], "in_progress");
        assert_eq!(is_charged_in_full(&server, &capped).await, bound);
        let bill = server.sandbox.bill().cost_usd;
        assert!(bill < bound);
        server.pause().await;
        server.resume().await;
        let polls = join_all((0..3).map(|_| look(&server, &secret, &id))).await;
        assert!(polls.iter().all(|poll| poll["status"] == "completed"), "{polls:?}");
        is_charged_by_its_use(&server, &capped).await;
        assert_eq!(books(&server, &capped).await, (bill, NanoUsd::ZERO));
        server.pause().await;
        server.resume().await;
        look(&server, &secret, &id).await;
        is_charged_by_its_use(&server, &capped).await;
        assert_eq!(books(&server, &capped).await, (bill, NanoUsd::ZERO));
        assert!(server.admin_get("/api/v1/alarms").await.json()["items"].as_array().unwrap().is_empty());
        server.end().await;
    }

    async fn what_a_key_without_a_cap_used_out_of_sight_is_charged(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = model(&server, "tokens=30").await;
        let (key, secret) = server.mint(json!({})).await;
        let id = begin(&server, &secret, &model).await;
        is_charged_in_full(&server, &key).await;
        join_all((0..3).map(|_| look(&server, &secret, &id))).await;
        is_charged_by_its_use(&server, &key).await;
    }

    async fn what_nobody_has_a_cap_for_passes_none(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = model(&server, "tokens=30,usage_times=1000").await;
        let (key, secret) = server.mint(json!({})).await;
        let id = begin(&server, &secret, &model).await;
        look(&server, &secret, &id).await;
        let told = server.sandbox.bill().cost_usd.times(1_000);
        assert_eq!(sum(&server.entries(&key).await), told);
        assert!(server.admin_get("/api/v1/alarms").await.json()["items"].as_array().unwrap().is_empty());
    }

    async fn what_is_cancelled_without_its_use_stays_charged(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = model(&server, "polls=9,tokens=30").await;
        let (key, secret) = server.mint(total("1")).await;
        let id = begin(&server, &secret, &model).await;
        let cancel = format!("{RESPONSES}/{id}/cancel");
        assert_eq!(cancelled(&server, &secret, &cancel).await["status"], "cancelled");
        look(&server, &secret, &id).await;
        is_charged_in_full(&server, &key).await;
    }

    async fn whoever_shares_it_may_tell_its_use_and_nobody_else(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = model(&server, "tokens=30").await;
        let with = |more: Value| {
            let mut fields = total("1");
            fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            fields
        };
        let (maker, secret) = server.mint(with(json!({"share_objects": true}))).await;
        let (mate, mates) = server.mint(with(json!({"share_objects": true}))).await;
        let (_, stranger) = server.mint(with(json!({}))).await;
        let id = begin(&server, &secret, &model).await;
        let refused = get(&server, &stranger, &format!("{RESPONSES}/{id}")).await;
        assert_eq!(refused.refusal(), (404, "object_not_found".to_owned()));
        is_charged_in_full(&server, &maker).await;
        look(&server, &mates, &id).await;
        is_charged_by_its_use(&server, &maker).await;
        assert_eq!(books(&server, &mate).await, (NanoUsd::ZERO, NanoUsd::ZERO));
        assert_eq!(books(&server, &maker).await.0, server.sandbox.bill().cost_usd);
    }

    async fn a_response_that_was_answered_with_its_use_is_left_alone(test: TestStore) {
        let server = TestServer::start(test).await;
        let (key, secret) = server.mint(total("1")).await;
        let made = server.post(&secret, RESPONSES, &json!({"model": "sandbox-mini", "input": "x"})).await.json();
        look(&server, &secret, made["id"].as_str().unwrap()).await;
        let entries = server.entries(&key).await;
        assert!(entries.len() == 2 && corrections(&entries).is_empty(), "{entries:?}");
        assert_eq!(sum(&entries), server.sandbox.bill().cost_usd);
    }

    async fn a_background_stream_that_nobody_reads_to_its_end_is_charged_by_its_use_when_it_is_read(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = model(&server, "tokens=60,gap=20").await;
        let (key, secret) = server.mint(total("1")).await;
        let mut streamed = body(&model);
        streamed["stream"] = json!(true);
        let mut response = server.send(server.proxied(&secret, RESPONSES, streamed.to_string())).await;
        let first = response.body_mut().frame().await.unwrap().unwrap();
        let text = String::from_utf8(first.data_ref().unwrap().to_vec()).unwrap();
        let event: Value = serde_json::from_str(text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap()).unwrap();
        drop(response);
        while server.entries(&key).await.is_empty() {
            tokio::task::yield_now().await;
        }
        let bound = is_charged_in_full(&server, &key).await;
        assert_eq!(books(&server, &key).await.0, bound);
        let id = event["response"]["id"].as_str().unwrap();
        // By the stream told again, not from its beginning.
        let again = get(&server, &secret, &format!("{RESPONSES}/{id}?stream=true&starting_after=4")).await;
        assert_eq!(again.status, 200);
        let text = String::from_utf8(again.bytes.to_vec()).unwrap();
        assert!(!text.contains("response.created") && text.contains("response.completed"), "{text}");
        look(&server, &secret, id).await;
        is_charged_by_its_use(&server, &key).await;
        assert_eq!(books(&server, &key).await.0, server.sandbox.bill().cost_usd);
    }

    async fn p3_a_use_above_its_bound_is_posted_and_blocks_the_window(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = model(&server, "tokens=30,usage_times=1000").await;
        let (key, secret) = server.mint(total("1")).await;
        let id = begin(&server, &secret, &model).await;
        let bound = is_charged_in_full(&server, &key).await;
        look(&server, &secret, &id).await;
        let told = server.sandbox.bill().cost_usd.times(1_000);
        assert!(told > bound);
        assert_eq!(books(&server, &key).await.0, told);
        assert_eq!(server.alarms_once("bill_above_bound").await[0]["subject"], "sandbox");
        let refused = server.post(&secret, RESPONSES, &body(&model)).await;
        assert_eq!(refused.refusal().0, 402, "{}", refused.json());
        server.end().await;
    }

    async fn a_charge_waits_on_when_the_key_that_signed_it_is_retired(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = model(&server, "tokens=30").await;
        let (key, secret) = server.mint(total("1")).await;
        let id = begin(&server, &secret, &model).await;
        assert_eq!(server.admin_post("/api/v1/vault/rotate", &json!({})).await.status, 202);
        loop {
            let vault = server.admin_get("/api/v1/vault").await.json();
            if vault["rewrap"]["running"] == false && vault["rewrap"]["left"] == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        look(&server, &secret, &id).await;
        is_charged_by_its_use(&server, &key).await;
    }

    async fn what_says_less_than_was_written_corrects_nothing(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = model(&server, "tokens=30").await;
        let (key, secret) = server.mint(total("1")).await;
        let id = begin(&server, &secret, &model).await;
        let free = "UPDATE deferred_charges SET terms = replace(terms, '0.60', '0.01')";
        server.store.tamper(free).await;
        look(&server, &secret, &id).await;
        is_charged_in_full(&server, &key).await;
        let alarm = server.alarms_once("row_tampered").await.remove(0);
        assert!(alarm["subject"].as_str().unwrap().starts_with("deferred_charges/sandbox/resp_"), "{alarm}");
        server.store.tamper("UPDATE deferred_charges SET terms = replace(terms, '0.01', '0.60')").await;
        // A cancellation that comes too late is answered with the whole response.
        let late = cancelled(&server, &secret, &format!("{RESPONSES}/{id}/cancel")).await;
        assert_eq!(late["status"], "completed", "{late}");
        is_charged_by_its_use(&server, &key).await;
    }
}

/// Kills the server after the response was accepted, and after it was read.
async fn is_booked_once_whatever_is_killed(installation: Installation) {
    let server = installation.serve_first().await;
    let model = "sandbox-mini+tokens=30";
    let put = server.admin(Method::PUT, &format!("/api/v1/models/sandbox/{model}"), &document()).await;
    assert!(put.status.is_success());
    let mut definition = total("1");
    definition["name"] = json!("ci");
    definition["models"] = json!(["sandbox/*"]);
    let (key, secret) = server.mint(&definition).await;
    let request = http::Request::post(format!("{}{RESPONSES}", server.proxy_url()))
        .header("authorization", format!("Bearer {secret}"))
        .header("content-type", "application/json")
        .body(body(model).to_string().into())
        .unwrap();
    let queued = server.send_raw(request).await.unwrap().json();
    let path = format!("{RESPONSES}/{}", queued["id"].as_str().unwrap());
    let killed = async |mut server: Process| {
        server.kill();
        server.child.wait().await.unwrap();
        installation.serve().await
    };
    let mut server = killed(server).await;
    for _ in 0..2 {
        let polls = join_all((0..3).map(|_| server.proxied(&secret, &path))).await;
        assert!(polls.iter().all(|poll| poll.json()["status"] == "completed"));
        server = killed(server).await;
        let entries = server.entries(&key).await;
        assert_eq!(corrections(&entries).len(), 1, "{entries:?}");
        // What was leased and on no record is charged with each crash, and is nothing of the response.
        let (crashes, entries): (Vec<Value>, Vec<Value>) =
            entries.into_iter().partition(|entry| entry["rule"] == "crash_charge");
        let spent = server.admin(Method::GET, &format!("/api/v1/subkeys/{key}"), &Value::Null).await.json();
        let bill = installation.sandbox.bill().cost_usd;
        assert_eq!(sum(&entries), bill, "{entries:?}");
        let spent = usd(&spent["budgets"][0]["spent_usd"]);
        assert_eq!(spent, bill.saturating_add(sum(&crashes)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_use_is_booked_once_when_the_server_is_killed_on_sqlite() {
    Box::pin(is_booked_once_whatever_is_killed(Installation::sqlite().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_use_is_booked_once_when_the_server_is_killed_on_postgres() {
    Box::pin(is_booked_once_whatever_is_killed(Installation::postgres().await)).await;
}
