//! Budgets of projects: a request needs all that are above it, and all or nothing; and projects that are stopped.

use super::cap::five_cents;
use super::{list_model, read_to_end, streamed, total, usd};
use crate::support::server::{Answer, TestServer};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";

/// Makes a project with these fields.
async fn project(server: &TestServer, slug: &str, parent: Option<&str>, more: Value) {
    let mut document = json!({"slug": slug, "parent": parent});
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = server.admin_post("/api/v1/projects", &document).await;
    assert_eq!(made.status, 201, "{:?}", made.json());
}

/// A tree of three, each with these fields.
async fn tree(server: &TestServer, top: Value, mid: Value, leaf: Value) {
    project(server, "top", None, top).await;
    project(server, "mid", Some("top"), mid).await;
    project(server, "leaf", Some("mid"), leaf).await;
}

async fn patch(server: &TestServer, slug: &str, change: Value) {
    let path = format!("/api/v1/projects/{slug}");
    let answer = server.admin_call(Method::PATCH, &path, Some(&change)).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
}

async fn act(server: &TestServer, slug: &str, verb: &str) {
    let answer = server.admin_post(&format!("/api/v1/projects/{slug}/{verb}"), &json!({})).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
}

/// What is spent and held of the first budget of a sub-key (by id) or of a project (by slug).
async fn books(server: &TestServer, what: &str) -> (NanoUsd, NanoUsd) {
    let kind = if what.len() == 16 { "subkeys" } else { "projects" };
    let owner = server.admin_get(&format!("/api/v1/{kind}/{what}")).await.json();
    let budget = &owner["budgets"][0];
    (usd(&budget["spent_usd"]), usd(&budget["held_usd"]))
}

/// A key of the project that is spent only by what is above it, or by a cap of its own.
async fn key(server: &TestServer, project: &str, cap: Option<&str>) -> (String, String) {
    let mut definition = cap.map_or_else(|| json!({}), total);
    definition["project"] = json!(project);
    server.mint(definition).await
}

/// The least chat of all.
async fn ask(server: &TestServer, secret: &str) -> Answer {
    server.chat(secret, "sandbox-mini").await
}

async fn is_served(server: &TestServer, secret: &str) {
    let answer = ask(server, secret).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
}

async fn is_refused(server: &TestServer, secret: &str, status: u16, code: &str) -> Value {
    let answer = ask(server, secret).await;
    assert_eq!(answer.refusal(), (status, code.to_owned()), "{:?}", answer.json());
    answer.json()
}

fn dollars(text: &str) -> NanoUsd {
    text.parse().unwrap()
}

on_both! {
    async fn p3_no_cap_of_a_tree_is_passed_and_whatever_fits_is_admitted(test: TestStore) {
        let server = TestServer::start(test).await;
        let body = five_cents(&server, "sandbox-large+tokens=100000").await;
        tree(&server, total("0.6"), total("0.4"), total("0.3")).await;
        let (capped, capped_secret) = key(&server, "leaf", Some("0.25")).await;
        let (_, leaf) = key(&server, "leaf", None).await;
        let (_, mid) = key(&server, "mid", None).await;
        let (_, top) = key(&server, "top", None).await;
        // As many as each cap could be passed by, and at last the one that only the top binds.
        let secrets = [&capped_secret, &leaf, &mid, &top];
        let calls: FuturesUnordered<_> =
            secrets.iter().flat_map(|secret| (0..20).map(|_| server.post(secret, CHAT, &body))).collect();
        let answers: Vec<Answer> = calls.collect().await;
        let admitted = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(admitted, 12, "one more would not have fitted under the top, and no fewer");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            let (status, code) = answer.refusal();
            assert!([(402, "budget_exceeded"), (429, "budget_held")].contains(&(status, code.as_str())), "{:?}", answer.json());
            let owner = answer.json()["error"]["details"]["owner"].as_str().unwrap().to_owned();
            assert!(["subkey", "project:leaf", "project:mid", "project:top"].contains(&owner.as_str()), "{owner}");
        }
        let cap = [("top", "0.6"), ("mid", "0.4"), ("leaf", "0.3"), (capped.as_str(), "0.25")];
        let mut inner = None;
        for (owner, limit) in cap {
            let (spent, held) = books(&server, owner).await;
            assert!(spent <= dollars(limit) && held == NanoUsd::ZERO, "{owner}: {spent} {held}");
            assert!(inner.is_none_or(|outer| spent <= outer), "{owner} is part of what is above");
            inner = Some(spent);
        }
        assert_eq!(books(&server, "top").await.0, server.sandbox.bill().cost_usd);
        assert!(server.sandbox.bill().in_flight_max <= 12);
        assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
        server.end().await;
    }

    async fn p3_whichever_refuses_is_named_and_nothing_is_held_in_the_others(test: TestStore) {
        let server = TestServer::start(test).await;
        tree(&server, total("1"), total("1"), total("1")).await;
        let (id, secret) = key(&server, "leaf", Some("1")).await;
        is_served(&server, &secret).await;
        let spent = books(&server, "top").await.0;
        for slug in ["leaf", "mid", "top"] {
            patch(&server, slug, json!({"budgets": [{"limit_usd": "0.00000001", "window": "month"}]})).await;
            let refused = ask(&server, &secret).await;
            assert_eq!(refused.refusal(), (402, "budget_exceeded".to_owned()));
            let error = refused.json()["error"].clone();
            let details = &error["details"];
            assert_eq!(
                (&details["owner"], &details["budget"], &details["limit_usd"], &details["window"]),
                (&json!(format!("project:{slug}")), &json!(format!("project:{slug}/month")), &json!("0.00000001"), &json!("month"))
            );
            for field in ["spent_usd", "held_usd", "requested_usd", "resets_at"] {
                assert!(details[field].is_string(), "{field}: {details}");
            }
            assert!(error["message"].as_str().unwrap().contains(&format!("of the project {slug}")), "{error}");
            let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
            assert!(wait <= 31 * 86_400);
            let question = json!({"operation": "chat", "model": "sandbox-mini", "max_output_tokens": 16, "input_tokens": 5});
            let explained = server.admin_post(&format!("/api/v1/subkeys/{id}/explain"), &question).await.json();
            assert_eq!(explained["denied_by"], format!("project:{slug}/budgets/month"), "{explained}");
            patch(&server, slug, total("1")).await;
            for owner in ["top", "mid", "leaf", &id] {
                assert_eq!(books(&server, owner).await, (spent, NanoUsd::ZERO), "{owner}");
            }
        }
        // Of several, the nearest.
        for slug in ["top", "mid"] {
            patch(&server, slug, total("0.00000001")).await;
        }
        let refused = is_refused(&server, &secret, 402, "budget_exceeded").await;
        assert_eq!(refused["error"]["details"]["owner"], "project:mid");
        let path = format!("/api/v1/subkeys/{id}");
        let lowered = server.admin_call(Method::PATCH, &path, Some(&total("0.00000001"))).await;
        assert_eq!(lowered.status, 200);
        let refused = is_refused(&server, &secret, 402, "budget_exceeded").await;
        assert_eq!(refused["error"]["details"]["owner"], "subkey");
        server.end().await;
    }

    async fn p3_what_requests_in_flight_hold_above_is_named_and_held_once(test: TestStore) {
        let server = TestServer::start(test).await;
        let body = five_cents(&server, "sandbox-large+hold").await;
        tree(&server, total("0.1"), total("1"), json!({})).await;
        let (id, secret) = key(&server, "leaf", Some("1")).await;
        let first = async { tokio::join!(server.post(&secret, CHAT, &body), server.post(&secret, CHAT, &body)) };
        let third = async {
            server.sandbox.wait_held(2).await;
            let refused = server.post(&secret, CHAT, &body).await;
            assert_eq!(refused.refusal(), (429, "budget_held".to_owned()), "{:?}", refused.json());
            assert_eq!(refused.json()["error"]["details"]["owner"], "project:top");
            for owner in ["top", "mid", &id] {
                assert_eq!(books(&server, owner).await, (NanoUsd::ZERO, dollars("0.1")), "{owner}");
            }
            server.sandbox.release();
        };
        let ((one, two), ()) = tokio::join!(first, third);
        assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200));
        let cost = server.sandbox.bill().cost_usd;
        for owner in ["top", "mid", &id] {
            assert_eq!(books(&server, owner).await, (cost, NanoUsd::ZERO), "{owner}");
        }
        server.end().await;
    }

    async fn p3_spend_of_a_project_survives_change_removal_and_deletion(test: TestStore) {
        let server = TestServer::start(test).await;
        project(&server, "search", None, total("1")).await;
        let (id, secret) = key(&server, "search", None).await;
        is_served(&server, &secret).await;
        let (spent, _) = books(&server, "search").await;
        assert_eq!(spent, server.sandbox.bill().cost_usd);
        patch(&server, "search", total("2")).await;
        patch(&server, "search", json!({"budgets": []})).await;
        let unbound = server.chat(&secret, "sandbox-mini").await;
        assert_eq!((unbound.status.as_u16(), unbound.header("x-bitting-budget-remaining-usd")), (200, None));
        patch(&server, "search", total("1")).await;
        assert_eq!(books(&server, "search").await, (spent, NanoUsd::ZERO), "and what nothing capped is not in it");
        assert_eq!(server.admin_post(&format!("/api/v1/subkeys/{id}/revoke"), &json!({})).await.status, 200);
        let gone = server.admin_call(Method::DELETE, "/api/v1/projects/search", None).await;
        assert_eq!(gone.status, 204, "{:?}", gone.json());
        assert_eq!(server.admin_get("/api/v1/projects/search").await.status, 404);
        project(&server, "search", None, total(&spent.to_string())).await;
        assert_eq!(books(&server, "search").await, (spent, NanoUsd::ZERO));
        let (_, secret) = key(&server, "search", None).await;
        is_refused(&server, &secret, 402, "budget_exceeded").await;
        server.end().await;
    }

    async fn p3_a_key_that_moves_takes_its_own_spend_along_and_leaves_the_projects_behind(test: TestStore) {
        let mut server = TestServer::start(test).await;
        project(&server, "here", None, total("1")).await;
        project(&server, "there", None, total("1")).await;
        let (id, secret) = key(&server, "here", Some("1")).await;
        is_served(&server, &secret).await;
        let one = books(&server, "here").await.0;
        let path = format!("/api/v1/subkeys/{id}");
        let moved = server.admin_call(Method::PATCH, &path, Some(&json!({"project": "there"}))).await;
        assert_eq!(moved.status, 200, "{:?}", moved.json());
        is_served(&server, &secret).await;
        let both = one.saturating_add(one);
        let check = async |server: &TestServer| {
            assert_eq!(books(server, &id).await, (both, NanoUsd::ZERO));
            assert_eq!(books(server, "here").await, (one, NanoUsd::ZERO));
            assert_eq!(books(server, "there").await, (one, NanoUsd::ZERO));
        };
        check(&server).await;
        server.pause().await;
        server.resume().await;
        check(&server).await;
        act(&server, "here", "suspend").await;
        is_served(&server, &secret).await;
        act(&server, "there", "suspend").await;
        is_refused(&server, &secret, 401, "key_suspended").await;
        server.end().await;
    }

    async fn p5_a_suspended_project_cuts_what_is_below_it_and_refuses_what_comes(test: TestStore) {
        let mut server = TestServer::start(test).await;
        tree(&server, json!({}), json!({}), total("1")).await;
        let model = "sandbox-mini+gap=100,tokens=200";
        list_model(&server, "sandbox", model).await;
        list_model(&server, "sandbox", "sandbox-mini+hold").await;
        let (_, below) = key(&server, "leaf", None).await;
        let (moved, moved_secret) = key(&server, "top", None).await;
        let (_, beside) = key(&server, "top", None).await;
        let mut long = streamed(model);
        long["max_tokens"] = json!(200);
        let mut streams = Vec::new();
        for secret in [&below, &below, &moved_secret] {
            let sent = server.send(server.proxied(secret, CHAT, long.to_string())).await;
            assert_eq!(sent.status(), 200);
            streams.push(sent);
        }
        // What was admitted above belongs below, once the key is moved there.
        let there = json!({"project": "leaf"});
        let path = format!("/api/v1/subkeys/{moved}");
        assert_eq!(server.admin_call(Method::PATCH, &path, Some(&there)).await.status, 200);
        let (held, beside_held) =
            (server.chat(&below, "sandbox-mini+hold"), server.chat(&beside, "sandbox-mini+hold"));
        let stop = async {
            server.sandbox.wait_held(2).await;
            act(&server, "mid", "suspend").await;
            is_refused(&server, &below, 401, "key_suspended").await;
            let began = Instant::now();
            let ends = join_all(streams.into_iter().map(read_to_end)).await;
            assert!(began.elapsed() < Duration::from_secs(2), "cut within two seconds: {:?}", began.elapsed());
            is_served(&server, &beside).await;
            server.sandbox.release();
            ends
        };
        let (held, beside_held, ends) = tokio::join!(held, beside_held, stop);
        assert_eq!(held.refusal(), (401, "key_suspended".to_owned()), "{:?}", held.json());
        assert_eq!(beside_held.status, 200, "{:?}", beside_held.json());
        for (text, clean) in ends {
            assert!(!clean && !text.contains("[DONE]") && text.contains("\"error\""), "{text}");
        }
        server.pause().await;
        server.resume().await;
        let refused = is_refused(&server, &below, 401, "key_suspended").await;
        assert!(refused["error"]["message"].as_str().unwrap().contains("project mid"), "{refused}");
        act(&server, "mid", "resume").await;
        is_served(&server, &below).await;
        is_served(&server, &moved_secret).await;
        assert_eq!(books(&server, "leaf").await.1, NanoUsd::ZERO);
        server.end().await;
    }

    async fn p5_who_waits_for_room_sends_nothing_once_the_project_is_suspended(test: TestStore) {
        let server = TestServer::start(test).await;
        list_model(&server, "sandbox", "sandbox-mini+hold").await;
        // Room for one at a time.
        tree(&server, total("0.0001"), json!({}), json!({})).await;
        let (_, secret) = key(&server, "leaf", None).await;
        let waiting = async {
            server.sandbox.wait_held(1).await;
            ask(&server, &secret).await
        };
        let suspended = async {
            server.sandbox.wait_held(1).await;
            act(&server, "mid", "suspend").await;
        };
        let (held, waiting, ()) = tokio::join!(server.chat(&secret, "sandbox-mini+hold"), waiting, suspended);
        assert_eq!(held.refusal(), (401, "key_suspended".to_owned()));
        assert_eq!(waiting.refusal(), (401, "key_suspended".to_owned()));
        assert_eq!(server.sandbox.bill().requests, 1);
        server.end().await;
    }

    async fn p5_what_a_project_narrows_is_narrow_below_it_when_the_call_returns(test: TestStore) {
        let server = TestServer::start(test).await;
        tree(&server, json!({}), total("1"), json!({})).await;
        let (id, secret) = key(&server, "leaf", None).await;
        is_served(&server, &secret).await;
        let explain = async || {
            let question = json!({"operation": "chat", "model": "sandbox-mini", "max_output_tokens": 16, "client_ip": "127.0.0.1"});
            server.admin_post(&format!("/api/v1/subkeys/{id}/explain"), &question).await.json()["denied_by"].clone()
        };
        for (ceiling, code, field) in [
            (json!({"models": ["sandbox/sandbox-large"]}), "model_not_allowed", "models"),
            (json!({"deny_models": ["*/sandbox-mini"]}), "model_not_allowed", "models"),
            (json!({"ip_allow": ["192.0.2.0/24"]}), "ip_not_allowed", "ip_allow"),
            (json!({"ip_allow": []}), "ip_not_allowed", "ip_allow"),
            (json!({"operations": ["embeddings"]}), "operation_not_allowed", "operations"),
            (json!({"max_output_tokens": 15}), "output_bound_exceeded", "max_output_tokens"),
        ] {
            patch(&server, "top", json!({"ceiling": ceiling})).await;
            let refused = is_refused(&server, &secret, 403, code).await;
            assert!(refused["error"]["message"].as_str().unwrap().contains("project top"), "{refused}");
            let by = explain().await;
            let said = by.as_str().unwrap();
            assert!(said == field || said == format!("project:top/ceiling/{field}"), "{ceiling}: {said}");
            patch(&server, "top", json!({"ceiling": null})).await;
            is_served(&server, &secret).await;
        }
        patch(&server, "top", json!({"ceiling": {"max_request_usd": "0.000001"}})).await;
        is_refused(&server, &secret, 402, "request_too_expensive").await;
        assert_eq!(explain().await, "project:top/ceiling/max_request_usd");
        patch(&server, "top", json!({"ceiling": {"expires_at": "2020-01-01T00:00:00Z", "max_request_usd": null}})).await;
        is_refused(&server, &secret, 401, "key_expired").await;
        patch(&server, "top", json!({"ceiling": null})).await;
        is_served(&server, &secret).await;
        patch(&server, "mid", total("0.000000001")).await;
        is_refused(&server, &secret, 402, "budget_exceeded").await;
        patch(&server, "mid", total("1")).await;
        project(&server, "poor", None, total("0")).await;
        patch(&server, "leaf", json!({"parent": "poor"})).await;
        let refused = is_refused(&server, &secret, 402, "budget_exceeded").await;
        assert_eq!(refused["error"]["details"]["owner"], "project:poor");
        server.end().await;
    }

    async fn a_key_learns_what_its_projects_leave_it_and_what_has_no_price_is_refused_below_a_cap(test: TestStore) {
        let server = TestServer::start(test).await;
        tree(&server, total("1"), json!({}), json!({"budgets": [{"limit_usd": "0.5", "window": "day"}]})).await;
        let (_, secret) = key(&server, "leaf", Some("2")).await;
        let (_, other) = key(&server, "top", None).await;
        patch(&server, "top", json!({"ceiling": {"max_request_usd": "0.5", "allow_files": false}})).await;
        let answer = ask(&server, &secret).await;
        is_served(&server, &other).await;
        let cost = usd(&json!(answer.header("x-bitting-cost-usd").unwrap()));
        let left = dollars("0.5").saturating_sub(cost);
        assert_eq!(answer.header("x-bitting-budget-remaining-usd"), Some(left.to_string().as_str()), "the least of all");
        let myself = Request::get(format!("{}/bitting/self", server.proxy));
        let myself = myself.header("authorization", format!("Bearer {secret}")).body(Full::default()).unwrap();
        let told = server.call(myself).await.json();
        assert_eq!(usd(&told["budgets"][0]["remaining_usd"]), dollars("2").saturating_sub(cost));
        let projects = told["projects"].as_array().unwrap();
        let names: Vec<&Value> = projects.iter().map(|one| &one["project"]).collect();
        assert_eq!(names, ["leaf", "top"]);
        assert_eq!(usd(&projects[0]["budgets"][0]["remaining_usd"]), left);
        assert!(projects[0]["budgets"][0]["resets_at"].is_string());
        let ceiling = &projects[1]["ceiling"];
        assert_eq!((&ceiling["max_request_usd"], &ceiling["allow_files"]), (&json!("0.50"), &json!(false)), "{told}");
        assert_eq!(projects[0]["ceiling"], Value::Null);
        let both = cost.saturating_add(cost);
        assert_eq!(usd(&projects[1]["budgets"][0]["remaining_usd"]), dollars("1").saturating_sub(both));
        assert!(projects[1]["budgets"][0].get("spent_usd").is_none(), "others' spend is theirs: {told}");

        let unpriced = server.chat(&other, "sandbox/nobody-knows-this").await;
        assert_eq!(unpriced.refusal(), (403, "model_unpriced".to_owned()));
        patch(&server, "top", json!({"budgets": [], "ceiling": null})).await;
        let free = server.chat(&other, "sandbox/nobody-knows-this").await;
        assert_ne!(free.refusal().1, "model_unpriced");
        server.end().await;
    }

    async fn a_credential_of_a_project_serves_what_is_below_it_and_no_other(test: TestStore) {
        let server = TestServer::start(test).await;
        tree(&server, json!({}), json!({}), json!({})).await;
        let url = &server.sandbox_url;
        let own = json!({"slug": "own", "dialects": {"openai": format!("{url}/v1")}});
        assert_eq!(server.admin_post("/api/v1/providers", &own).await.status, 201);
        list_model(&server, "own", "sandbox-mini").await;
        let secret = json!({"name": "main", "secret": crate::support::server::CANARY, "projects": ["mid"]});
        let made = server.admin_post("/api/v1/providers/own/credentials", &secret).await;
        assert_eq!(made.status, 201);
        let credential = made.json()["id"].clone();
        for (project, may) in [("leaf", true), ("mid", true), ("top", false), ("default", false)] {
            let (id, secret) = server.mint(json!({"project": project, "models": ["own/*"]})).await;
            let answer = server.chat(&secret, "own/sandbox-mini").await;
            assert_eq!(answer.status == 200, may, "{project}: {:?}", answer.json());
            let question = json!({"operation": "chat", "model": "own/sandbox-mini", "max_output_tokens": 16});
            let explained = server.admin_post(&format!("/api/v1/subkeys/{id}/explain"), &question).await.json();
            assert_eq!(explained["allowed"], may, "{project}: {explained}");
            let pinned = json!({"name": "pinned", "project": project, "models": ["own/*"], "credential": credential});
            let minted = server.admin_post("/api/v1/subkeys", &pinned).await;
            assert_eq!(minted.status == 201, may, "{project}: {:?}", minted.json());
        }
        server.end().await;
    }
}
