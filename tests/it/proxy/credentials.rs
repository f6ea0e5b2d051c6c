//! The life of a provider's key: put in, spread by weight, rotated without anyone noticing, stopped at once.

use super::{still_clock, still_server};
use crate::support::server::{CANARY, TestServer, chat};
use crate::support::store::{TestStore, on_both};
use crate::vault::rotate::is_in_files;
use bitting::store::credential;
use chrono::TimeDelta;
use futures_util::{StreamExt, stream};
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const SECOND: &str = "sandbox-second-key-0d1e";
const THIRD: &str = "sandbox-third-key-77aa";
const CREDENTIALS: &str = "/api/v1/providers/sandbox/credentials";

/// The credential that every test server begins with.
async fn main_credential(server: &TestServer) -> Value {
    let all = server.admin_get(CREDENTIALS).await.json();
    all["items"].as_array().unwrap().iter().find(|one| one["name"] == "main").unwrap().clone()
}

async fn main_id(server: &TestServer) -> String {
    main_credential(server).await["id"].as_str().unwrap().to_owned()
}

/// Status and body of a rotation.
async fn rotate(server: &TestServer, id: &str, body: Value) -> (u16, Value) {
    let answer = server.admin_post(&format!("{CREDENTIALS}/{id}/rotate"), &body).await;
    (answer.status.as_u16(), answer.json())
}

async fn add(server: &TestServer, more: Value) -> String {
    let made = server.admin_post(CREDENTIALS, &more).await;
    assert_eq!(made.status, 201, "{:?}", made.json());
    made.json()["id"].as_str().unwrap().to_owned()
}

/// The keys that chats came to the provider with, in order.
fn keys_seen(server: &TestServer) -> Vec<String> {
    let chats = server.sandbox.requests().into_iter().filter(|one| one.path == "/v1/chat/completions");
    chats
        .map(|one| one.header("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned())
        .collect()
}

fn counted(keys: Vec<String>) -> BTreeMap<String, usize> {
    keys.into_iter().fold(BTreeMap::new(), |mut counts, key| {
        *counts.entry(key).or_default() += 1;
        counts
    })
}

async fn alarms(server: &TestServer, kind: &str) -> u64 {
    let metrics = server.admin_get("/metrics").await;
    let text = String::from_utf8(metrics.bytes.to_vec()).unwrap();
    let line = format!("bitting_alarms_total{{kind=\"{kind}\"}} ");
    text.lines().find_map(|one| one.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

/// What the admin log says was done to the credential, oldest first.
async fn done_to(server: &TestServer, id: &str) -> Vec<String> {
    let log = server.admin_get(&format!("/api/v1/admin-log?target={id}")).await.json();
    let actions = log["items"].as_array().unwrap().iter().rev();
    actions.map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

/// Whether this version of a credential's key is still kept.
async fn is_kept(server: &TestServer, id: &str, version: i64) -> bool {
    let mut read = server.store.store.read().await.unwrap();
    credential::secret(&mut read.conn(), id, version).await.unwrap().is_some()
}

on_both! {
    async fn a_key_rotates_under_traffic_and_nobody_notices(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let (subkey, secret) = server.mint(json!({})).await;
        let id = main_id(&server).await;
        let (answered, under_way) = (AtomicUsize::new(0), Notify::new());
        let one = async |_| {
            let answer = server.chat(&secret, "sandbox-mini").await;
            if answered.fetch_add(1, Ordering::SeqCst) == 60 {
                under_way.notify_one();
            }
            answer.status.as_u16()
        };
        let traffic = stream::iter(0..200).map(one).buffer_unordered(8).collect::<Vec<_>>();
        let rotation = async {
            under_way.notified().await;
            rotate(&server, &id, json!({"secret": SECOND})).await
        };
        let (statuses, rotated) = tokio::join!(traffic, rotation);
        assert_eq!((statuses.len(), statuses.iter().all(|status| *status == 200)), (200, true), "{statuses:?}");
        assert_eq!((rotated.0, &rotated.1["secret_version"]), (200, &json!(2)), "{rotated:?}");
        assert_eq!(rotated.1["draining"]["secret_version"], 1);
        let seen = counted(keys_seen(&server));
        assert_eq!(seen.keys().collect::<Vec<_>>(), [CANARY, SECOND], "either version, and no other: {seen:?}");
        assert_eq!(seen.values().sum::<usize>(), 200, "each was sent once");
        for entry in server.entries(&subkey).await {
            assert_eq!((&entry["attempts"], &entry["fallback"]), (&json!(1), &json!(null)), "{entry}");
        }

        server.sandbox.reset();
        server.chat(&secret, "sandbox-mini").await;
        assert_eq!(keys_seen(&server), [SECOND], "no new request has the one that drains");
        assert!(is_kept(&server, &id, 1).await);
        server.clock.advance(TimeDelta::seconds(899));
        server.services.retire_drained().await.unwrap();
        assert!(is_kept(&server, &id, 1).await);
        server.clock.advance(TimeDelta::seconds(1));
        server.services.retire_drained().await.unwrap();
        assert!(!is_kept(&server, &id, 1).await, "its data key is gone");
        assert_eq!(main_credential(&server).await["draining"], json!(null));
        assert_eq!(server.services.retire_drained().await.unwrap(), 0);
        assert_eq!(done_to(&server, &id).await, ["credential.create", "credential.rotate", "credential.retire"]);
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        server.end().await;
    }

    async fn what_is_in_flight_finishes_with_a_key_that_ended_at_once(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, secret) = server.mint(json!({})).await;
        let id = main_id(&server).await;
        let held = server.chat(&secret, "sandbox-mini+hold");
        let meanwhile = async {
            assert_eq!(server.sandbox.wait_held(1).await, 1);
            let rotated = rotate(&server, &id, json!({"secret": SECOND, "drain_seconds": 0})).await;
            assert_eq!((rotated.0, &rotated.1["draining"]), (200, &json!(null)));
            assert!(!is_kept(&server, &id, 1).await);
            assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
            server.sandbox.release();
        };
        let (answer, ()) = tokio::join!(held, meanwhile);
        assert_eq!(answer.status, 200);
        assert_eq!(keys_seen(&server), [CANARY, SECOND]);
        assert_eq!(done_to(&server, &id).await, ["credential.create", "credential.retire", "credential.rotate"]);
        server.end().await;
    }

    async fn a_key_that_the_provider_does_not_take_does_not_take_over(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, secret) = server.mint(json!({})).await;
        let id = main_id(&server).await;
        let before = main_credential(&server).await;
        let refused = rotate(&server, &id, json!({"secret": "sandbox-bad-key"})).await;
        assert_eq!((refused.0, &refused.1["code"]), (409, &json!("credential_not_accepted")), "{refused:?}");
        let provider = "/api/v1/providers/sandbox";
        for base_url in ["http://127.0.0.1:1".to_owned(), format!("{}/nothing-here", server.sandbox_url)] {
            let patch = json!({"dialects": {"openai": {"base_url": base_url}}});
            let patched = server.admin_call(http::Method::PATCH, provider, Some(&patch)).await;
            assert_eq!(patched.status, 200, "{:?}", patched.json());
            let failed = rotate(&server, &id, json!({"secret": SECOND})).await;
            assert_eq!((failed.0, &failed.1["code"]), (502, &json!("probe_failed")), "{failed:?}");
            let told = failed.1["detail"].as_str().unwrap();
            assert!(told.contains("\"probe\": false") && !told.contains(SECOND), "{told}");
        }
        let patch = json!({"dialects": {"openai": {"base_url": format!("{}/v1", server.sandbox_url)}}});
        assert_eq!(server.admin_call(http::Method::PATCH, provider, Some(&patch)).await.status, 200);
        assert_eq!(main_credential(&server).await, before, "nothing was changed");
        assert!(!is_kept(&server, &id, 2).await);
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        assert_eq!(keys_seen(&server), [CANARY]);
        server.end().await;
    }

    async fn at_most_one_version_drains_beside_the_one_in_use(test: TestStore) {
        let server = TestServer::start(test).await;
        let id = main_id(&server).await;
        for key in [SECOND, THIRD] {
            assert_eq!(rotate(&server, &id, json!({"secret": key, "drain_seconds": 600})).await.0, 200);
        }
        let kept = [is_kept(&server, &id, 1).await, is_kept(&server, &id, 2).await, is_kept(&server, &id, 3).await];
        assert_eq!(kept, [false, true, true]);
        assert_eq!(main_credential(&server).await["draining"]["secret_version"], 2);
        let origin = json!({"dialects": {"anthropic": null}});
        let patched = server.admin_call(http::Method::PATCH, "/api/v1/providers/sandbox", Some(&origin)).await;
        assert_eq!(patched.status, 200, "{:?}", patched.json());
        assert_eq!(main_credential(&server).await["draining"]["secret_version"], 2, "both moved with the provider");
        server.sandbox.refuse_keys(&[THIRD]);
        let (_, secret) = server.mint(json!({})).await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200, "and both open there");
        server.end().await;
    }

    async fn a_new_key_that_stops_working_gives_way_to_the_one_that_drains(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let (subkey, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
        let id = main_id(&server).await;
        assert_eq!(rotate(&server, &id, json!({"secret": SECOND, "drain_seconds": 600})).await.0, 200);
        server.sandbox.refuse_keys(&[SECOND]);

        let answer = server.chat(&secret, "sandbox-mini").await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        let told = (answer.header("x-bitting-attempts"), answer.header("x-bitting-fallback"));
        assert_eq!(told, (Some("2"), Some("credential")));
        let entry = server.entries(&subkey).await.pop().unwrap();
        assert_eq!((&entry["attempts"], &entry["fallback"]), (&json!(2), &json!("credential")), "{entry}");
        assert_eq!((&entry["outcome"], &entry["upstream_status"]), (&json!("completed"), &json!(200)));
        assert_eq!(entry["cost_usd"], json!(server.sandbox.bill().cost_usd), "paid once");
        assert_eq!(keys_seen(&server), [SECOND, CANARY]);
        assert_eq!(alarms(&server, "credential_fell_back").await, 1);

        server.services.reload_directory().await.unwrap();
        let mut body = chat("sandbox-mini");
        body["stream"] = json!(true);
        let answer = server.post(&secret, "/v1/chat/completions", &body).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-bitting-attempts")), (200, Some("1")));
        assert_eq!(keys_seen(&server), [SECOND, CANARY, CANARY], "from then on it goes first");

        server.sandbox.refuse_keys(&[CANARY]);
        let answer = server.chat(&secret, "sandbox-mini").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-bitting-attempts")), (200, Some("2")));
        assert_eq!(keys_seen(&server)[3..], [CANARY, SECOND], "until the provider refuses it in its turn");
        server.sandbox.refuse_keys(&[SECOND]);
        assert_eq!(server.chat(&secret, "sandbox-mini").await.header("x-bitting-fallback"), Some("credential"));
        assert_eq!(alarms(&server, "upstream_credential").await, 0);

        server.clock.advance(TimeDelta::seconds(600));
        server.sandbox.reset();
        let answer = server.chat(&secret, "sandbox-mini").await;
        assert_eq!(answer.refusal(), (502, "upstream_credential_error".to_owned()));
        assert_eq!((answer.header("x-bitting-attempts"), answer.header("x-bitting-fallback")), (Some("1"), Some("none")));
        assert_eq!(keys_seen(&server), [SECOND], "never after the drain");
        assert_eq!(alarms(&server, "upstream_credential").await, 1);
        server.end().await;
    }

    async fn when_both_versions_are_refused_nothing_is_preferred_or_paid(test: TestStore) {
        let server = TestServer::start(test).await;
        let (subkey, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
        let id = main_id(&server).await;
        assert_eq!(rotate(&server, &id, json!({"secret": "sandbox-bad-2", "probe": false})).await.0, 200);
        server.sandbox.refuse_keys(&[CANARY]);
        for _ in 0..2 {
            let answer = server.chat(&secret, "sandbox-mini").await;
            assert_eq!(answer.refusal(), (502, "upstream_credential_error".to_owned()));
            let told = (answer.header("x-bitting-attempts"), answer.header("x-bitting-fallback"));
            assert_eq!(told, (Some("2"), Some("credential")));
        }
        assert_eq!(keys_seen(&server), ["sandbox-bad-2", CANARY, "sandbox-bad-2", CANARY]);
        let entry = server.entries(&subkey).await.pop().unwrap();
        assert_eq!((&entry["attempts"], &entry["cost_usd"]), (&json!(2), &json!("0.00")), "{entry}");
        assert_eq!((alarms(&server, "credential_fell_back").await, alarms(&server, "upstream_credential").await), (0, 2));
        server.end().await;
    }

    async fn a_disabled_key_is_used_by_nobody_from_that_moment(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, secret) = server.mint(json!({})).await;
        let id = main_id(&server).await;
        assert_eq!(rotate(&server, &id, json!({"secret": SECOND})).await.0, 200);
        let (answered, under_way) = (AtomicUsize::new(0), Notify::new());
        let one = async |_| {
            let answer = server.chat(&secret, "sandbox-mini").await;
            if answered.fetch_add(1, Ordering::SeqCst) == 20 {
                under_way.notify_one();
            }
            answer.status.as_u16()
        };
        let traffic = stream::iter(0..80).map(one).buffer_unordered(8).collect::<Vec<_>>();
        let disabling = async {
            under_way.notified().await;
            let disabled = server.admin_post(&format!("{CREDENTIALS}/{id}/disable"), &json!({})).await;
            assert_eq!(disabled.status, 200, "{:?}", disabled.json());
            let sent = server.sandbox.bill().requests;
            let refused = server.chat(&secret, "sandbox-mini").await;
            assert!(!refused.status.is_success(), "not even the one that drains");
            sent
        };
        let (statuses, sent) = tokio::join!(traffic, disabling);
        let answered = statuses.iter().filter(|status| **status == 200).count();
        assert!((20..80).contains(&answered), "{statuses:?}");
        // Eight were in flight at most, which may have been on their way to the provider.
        assert!(server.sandbox.bill().requests <= sent + 8);
        assert!(!keys_seen(&server).iter().any(|key| key == CANARY));
        server.end().await;
    }

    async fn keys_share_the_requests_by_weight_and_one_without_weight_is_for_its_own(test: TestStore) {
        let server = TestServer::start(test).await;
        let heavy = add(&server, json!({"name": "heavy", "secret": SECOND, "weight": 3})).await;
        let pinned_only = add(&server, json!({"name": "spare", "secret": THIRD, "weight": 0})).await;
        let (_, secret) = server.mint(json!({})).await;
        let chats = stream::iter(0..240).map(|_| server.chat(&secret, "sandbox-mini"));
        assert!(chats.buffer_unordered(8).all(async |answer| answer.status == 200).await);
        let seen = counted(keys_seen(&server));
        assert_eq!(seen.keys().collect::<Vec<_>>(), [CANARY, SECOND]);
        assert!((25..=95).contains(&seen[CANARY]), "one in four: {seen:?}");

        server.sandbox.reset();
        let (_, pinned) = server.mint(json!({"credential": pinned_only})).await;
        assert_eq!(server.chat(&pinned, "sandbox-mini").await.status, 200);
        assert_eq!(keys_seen(&server), [THIRD]);
        for id in [heavy, main_id(&server).await] {
            server.admin_post(&format!("{CREDENTIALS}/{id}/disable"), &json!({})).await;
        }
        assert_eq!(server.chat(&secret, "sandbox-mini").await.refusal().0, 403, "it is nobody else's reserve");
        assert_eq!(server.chat(&pinned, "sandbox-mini").await.status, 200);
        server.end().await;
    }

    async fn a_key_for_some_projects_is_used_by_those_alone(test: TestStore) {
        let server = TestServer::start(test).await;
        let other = json!({"name": "other", "secret": SECOND, "weight": 1000, "projects": ["other"]});
        let elsewhere = add(&server, other).await;
        let (_, secret) = server.mint(json!({})).await;
        for _ in 0..10 {
            assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        }
        assert_eq!(counted(keys_seen(&server)), BTreeMap::from([(CANARY.to_owned(), 10)]));
        let pinned = json!({"name": "pinned", "models": ["sandbox/*"], "credential": elsewhere});
        assert_eq!(server.admin_post("/api/v1/subkeys", &pinned).await.refusal().1, "invalid_field");
        server.sandbox.reset();
        add(&server, json!({"name": "ours", "secret": THIRD, "weight": 1_000_000, "projects": ["default"]})).await;
        for _ in 0..10 {
            server.chat(&secret, "sandbox-mini").await;
        }
        assert!(counted(keys_seen(&server))[THIRD] > 5);
        server.end().await;
    }

    async fn of_two_rotations_at_once_both_hold_or_the_later_is_told(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, secret) = server.mint(json!({})).await;
        let id = main_id(&server).await;
        let with = |key: &str| json!({"secret": key, "drain_seconds": 600});
        let (one, other) = tokio::join!(rotate(&server, &id, with(SECOND)), rotate(&server, &id, with(THIRD)));
        assert_eq!((one.0, other.0), (200, 200), "{one:?} {other:?}");
        let mut versions = [&one.1, &other.1].map(|body| body["secret_version"].as_i64().unwrap());
        versions.sort_unstable();
        assert_eq!(versions, [2, 3]);
        let kept = [is_kept(&server, &id, 1).await, is_kept(&server, &id, 2).await, is_kept(&server, &id, 3).await];
        assert_eq!(kept, [false, true, true]);
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);

        let conditional = async |key: &str| {
            let path = format!("{}{CREDENTIALS}/{id}/rotate", server.admin);
            let request = Request::post(path)
                .header("authorization", format!("Bearer {}", server.token))
                .header("content-type", "application/json")
                .header("if-match", "\"3\"");
            server.call(request.body(Full::from(with(key).to_string())).unwrap()).await.status.as_u16()
        };
        let (one, other) = tokio::join!(conditional("sandbox-4"), conditional("sandbox-5"));
        assert!([(200, 412), (412, 200)].contains(&(one, other)), "{one} {other}");
        assert_eq!(main_credential(&server).await["secret_version"], 4);
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        server.end().await;
    }

    async fn a_refused_key_is_sent_again_nowhere_else_and_not_when_it_was_disabled(test: TestStore) {
        let server = TestServer::start(test).await;
        let (subkey, secret) = server.mint(json!({})).await;
        let id = main_id(&server).await;
        assert_eq!(rotate(&server, &id, json!({"secret": SECOND, "drain_seconds": 600})).await.0, 200);
        let moved = server.sandbox_url.replace("127.0.0.1", "127.0.0.2");
        for meanwhile in ["moved", "disabled"] {
            server.sandbox.reset();
            let held = server.chat(&secret, "sandbox-mini+hold,status=401");
            let change = async {
                assert_eq!(server.sandbox.wait_held(1).await, 1);
                let changed = if meanwhile == "moved" {
                    let patch = json!({"dialects": {"openai": {"base_url": format!("{moved}/v1")}}});
                    server.admin_call(http::Method::PATCH, "/api/v1/providers/sandbox", Some(&patch)).await
                } else {
                    server.admin_post(&format!("{CREDENTIALS}/{id}/disable"), &json!({})).await
                };
                assert_eq!(changed.status, 200, "{:?}", changed.json());
                server.sandbox.release();
            };
            let (answer, ()) = tokio::join!(held, change);
            assert_eq!(answer.refusal(), (502, "upstream_credential_error".to_owned()), "{meanwhile}");
            assert_eq!(answer.header("x-bitting-attempts"), Some("1"), "{meanwhile}");
            assert_eq!(keys_seen(&server), [SECOND], "{meanwhile}");
            assert_eq!(server.entries(&subkey).await.pop().unwrap()["attempts"], 1);
            let back = json!({"dialects": {"openai": {"base_url": format!("{}/v1", server.sandbox_url)}}});
            let patched = server.admin_call(http::Method::PATCH, "/api/v1/providers/sandbox", Some(&back)).await;
            assert_eq!(patched.status, 200, "{:?}", patched.json());
        }
        server.end().await;
    }

    async fn what_is_in_flight_finishes_with_a_key_that_is_disabled(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, secret) = server.mint(json!({})).await;
        let id = main_id(&server).await;
        let held = server.chat(&secret, "sandbox-mini+hold");
        let disabling = async {
            assert_eq!(server.sandbox.wait_held(1).await, 1);
            assert_eq!(server.admin_post(&format!("{CREDENTIALS}/{id}/disable"), &json!({})).await.status, 200);
            assert!(!server.chat(&secret, "sandbox-mini").await.status.is_success());
            server.sandbox.release();
        };
        let (answer, ()) = tokio::join!(held, disabling);
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        assert_eq!(keys_seen(&server), [CANARY]);
        server.end().await;
    }

    async fn a_key_that_was_echoed_is_due_for_rotation_until_it_is_rotated(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, secret) = server.mint(json!({})).await;
        let id = main_id(&server).await;
        assert_eq!(main_credential(&server).await["rotation_due"], json!(null));
        for _ in 0..2 {
            assert_eq!(server.chat(&secret, "sandbox-mini+echo_key").await.refusal().1, "upstream_error");
        }
        assert!(alarms(&server, "credential_echoed").await >= 2);
        // It is noted off the request's path; each look is a whole exchange, so this ends.
        let mut looks = 0;
        while main_credential(&server).await["rotation_due"].is_null() {
            looks += 1;
            assert!(looks < 500, "it was not noted");
        }
        let noted = main_credential(&server).await;
        assert_eq!((&noted["version"], &noted["status"]), (&json!(1), &json!("active")), "it is used until it is rotated");
        let rotated = rotate(&server, &id, json!({"secret": SECOND})).await;
        assert_eq!((rotated.0, &rotated.1["rotation_due"]), (200, &json!(null)));
        assert_eq!(main_credential(&server).await["rotation_due"], json!(null), "and it stays so");
        let wanted = ["credential.create", "credential.rotation_due", "credential.rotate"];
        assert_eq!(done_to(&server, &id).await, wanted);
        server.end().await;
    }
}

#[tokio::test]
async fn the_server_is_told_how_long_keys_drain() {
    let server = still_server(&[]).await;
    let id = main_id(&server).await;
    let rotated = rotate(&server, &id, json!({"secret": SECOND, "drain_seconds": 86_400})).await;
    let until = server.clock.now() + TimeDelta::days(1);
    assert_eq!(rotated.1["draining"]["until"], json!(until), "{rotated:?}");
    for body in
        [json!({"secret": THIRD, "drain_seconds": 86_401}), json!({"secret": THIRD, "drain_seconds": -1})]
    {
        assert_eq!(rotate(&server, &id, body).await.0, 400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_key_leaves_the_files_of_the_database() {
    let server = TestServer::start_with(TestStore::sqlite().await, still_clock(), &[]).await;
    let id = main_id(&server).await;
    let sealed = async |version| {
        let mut read = server.store.store.read().await.unwrap();
        credential::secret(&mut read.conn(), &id, version).await.unwrap().unwrap()
    };
    let old = sealed(1).await;
    assert!(is_in_files(&server, &old.wrapped_dek) && is_in_files(&server, &old.sealed));
    assert_eq!(rotate(&server, &id, json!({"secret": SECOND, "drain_seconds": 60})).await.0, 200);
    // Nothing takes its room.
    server.clock.advance(TimeDelta::seconds(60));
    server.services.retire_drained().await.unwrap();
    let begun = Instant::now();
    while !server.services.erase_destroyed().await.unwrap() {
        assert!(begun.elapsed() < Duration::from_secs(10), "somebody always reads");
        tokio::task::yield_now().await;
    }
    let new = sealed(2).await;
    assert!(is_in_files(&server, &new.wrapped_dek) && is_in_files(&server, &new.sealed));
    assert!(!is_in_files(&server, &old.wrapped_dek) && !is_in_files(&server, &old.sealed));
    server.end().await;
}
