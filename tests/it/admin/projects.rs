//! Projects: the tree, what it gives to sub-keys and what it forbids them.

use super::plane::{Answer, Plane, names};
use crate::support::store::on_both;
use bitting::service::Role;
use chrono::TimeDelta;
use serde_json::{Value, json};

const PROJECTS: &str = "/api/v1/projects";

async fn make(plane: &Plane, document: Value) -> Value {
    plane.ask("POST", PROJECTS, Some(document)).await.expect(201)
}

async fn put(plane: &Plane, slug: &str, parent: Option<&str>) -> Value {
    make(plane, json!({"slug": slug, "parent": parent})).await
}

async fn patch(plane: &Plane, slug: &str, change: Value) -> Answer {
    plane.ask("PATCH", &format!("{PROJECTS}/{slug}"), Some(change)).await
}

async fn mint(plane: &Plane, more: Value) -> Answer {
    let mut definition = json!({"name": "key", "models": ["openai/gpt-4o"]});
    definition.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    plane.ask("POST", "/api/v1/subkeys", Some(definition)).await
}

/// A project of which only the slug was said.
const PLAIN: &str = r#"{
    "slug": "search", "name": "search", "owner": null, "parent": null, "status": "active", "quarantined": false,
    "budgets": [], "rate_limits": [], "policies": [], "ceiling": null, "max_subkey_ttl_seconds": null, "defaults": {},
    "version": 1, "created_at": "2026-11-22T16:00:00Z"
}"#;

on_both! {
    async fn a_project_is_made_seen_changed_and_removed(test: TestStore) {
        let plane = Plane::new(test).await;
        let plain: Value = serde_json::from_str(PLAIN).unwrap();
        assert_eq!(make(&plane, json!({"slug": "search"})).await, plain);
        let path = format!("{PROJECTS}/search");
        assert_eq!(plane.get(&path).await, plain);
        let list = plane.get(PROJECTS).await;
        assert_eq!(names(&list, "slug"), ["default", "search"]);
        let budget = json!({"limit_usd": "5.00", "window": "month", "timezone": "Europe/Berlin"});
        let changed = patch(&plane, "search", json!({"name": "Search", "budgets": [budget], "ceiling": {"models": ["openai/*"]}})).await;
        assert_eq!(changed.headers["etag"], "\"2\"");
        let changed = changed.expect(200);
        assert_eq!((&changed["name"], &changed["version"]), (&json!("Search"), &json!(2)));
        let budget = &changed["budgets"][0];
        assert_eq!(
            (&budget["spent_usd"], &budget["held_usd"], &budget["remaining_usd"], &budget["resets_at"]),
            (&json!("0.00"), &json!("0.00"), &json!("5.00"), &json!("2026-11-30T23:00:00Z"))
        );
        assert_eq!(changed["ceiling"]["models"], json!(["openai/*"]));
        assert_eq!(changed["ceiling"]["operations"], json!(["*"]));
        let narrower = patch(&plane, "search", json!({"ceiling": {"allow_tools": false}, "name": null})).await.expect(200);
        assert_eq!((&narrower["ceiling"]["models"], &narrower["ceiling"]["allow_tools"]), (&json!(["openai/*"]), &json!(false)));
        assert_eq!(narrower["name"], "search");

        let stale = [("authorization", format!("Bearer {}", plane.owner)), ("if-match", "\"2\"".to_owned())];
        let stale: Vec<(&str, &str)> = stale.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for (method, tail, body) in [("PATCH", "", Some(json!({"owner": "ana"}))), ("POST", "/suspend", None), ("DELETE", "", None)] {
            let answer = plane.ask_with(method, &format!("{path}{tail}"), body, &stale).await;
            assert_eq!((answer.status, answer.refusal().1.as_str()), (412, "version_mismatch"), "{method}");
        }
        for verb in ["suspend", "suspend", "resume"] {
            let told = plane.ask("POST", &format!("{path}/{verb}"), None).await.expect(200);
            assert_eq!(told["status"], if verb == "resume" { "active" } else { "suspended" });
        }
        plane.ask("DELETE", &path, None).await.expect(204);
        assert_eq!(plane.ask("GET", &path, None).await.status, 404);
        assert_eq!(plane.ask("DELETE", &path, None).await.status, 404);
        assert_eq!(names(&plane.get(PROJECTS).await, "slug"), ["default"]);

        let log = plane.get("/api/v1/admin-log?target=search").await;
        let told = names(&log, "action");
        let wanted = ["project.delete", "project.resume", "project.suspend", "project.patch", "project.patch", "project.create"];
        assert_eq!(told, wanted);
        let detail = |at: usize| log["items"][at]["detail"].clone();
        assert_eq!(detail(4)["changed"]["name"], json!({"before": null, "after": "Search"}));
        assert_eq!((&detail(2)["before"], &detail(2)["after"]), (&json!("active"), &json!("suspended")));
        assert_eq!(detail(0)["before"]["ceiling"]["allow_tools"], false);
        let again = make(&plane, json!({"slug": "search"})).await;
        assert!(again["version"].as_i64().unwrap() > 5, "{again}");
    }

    async fn bad_projects_are_refused_by_field(test: TestStore) {
        let plane = Plane::new(test).await;
        put(&plane, "search", None).await;
        for (more, code, field) in [
            (json!({"slug": "Search"}), "invalid_field", "/slug"),
            (json!({"colour": 1}), "unknown_field", "/colour"),
            (json!({"status": "active"}), "unknown_field", "/status"),
            (json!({"parent": "nowhere"}), "invalid_field", "/parent"),
            (json!({"policies": ["x"]}), "invalid_field", "/policies/0"),
            (json!({"budgets": [{"limit_usd": "1", "window": "year"}]}), "invalid_field", "/budgets/0/window"),
            (json!({"budgets": [{"limit_usd": "1", "window": "day", "timezone": "Mars"}]}), "invalid_field", "/budgets/0/timezone"),
            (json!({"ceiling": {"budgets": []}}), "unknown_field", "/ceiling/budgets"),
            (json!({"ceiling": {"ip_allow": ["10.0.0.1/8"]}}), "invalid_field", "/ceiling/ip_allow/0"),
            (json!({"max_subkey_ttl_seconds": 0}), "invalid_field", "/max_subkey_ttl_seconds"),
            (json!({"defaults": {"colour": 1}}), "invalid_field", "/defaults/colour"),
            (json!({"defaults": {"models": ["gpt"]}}), "invalid_field", "/defaults/models/0"),
        ] {
            let mut document = json!({"slug": "new"});
            document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let refused = plane.ask("POST", PROJECTS, Some(document)).await;
            assert_eq!(refused.refusal(), (400, code.to_owned(), field.to_owned()), "{more}");
        }
        assert_eq!(plane.ask("POST", PROJECTS, Some(json!({}))).await.refusal().2, "/slug");
        let taken = plane.ask("POST", PROJECTS, Some(json!({"slug": "search"}))).await;
        assert_eq!((taken.refusal().1.as_str(), &taken.json()["id"]), ("name_taken", &json!("search")));
        assert_eq!(patch(&plane, "search", json!({"slug": "find"})).await.refusal().2, "/slug");
        assert_eq!(patch(&plane, "default", json!({"parent": "search"})).await.refusal().2, "/parent");
        assert_eq!(patch(&plane, "nobody", json!({})).await.status, 404);
        let owner = format!("Bearer {}", plane.owner);
        let once = [("authorization", owner.as_str()), ("idempotency-key", "one")];
        let document = Some(json!({"slug": "once"}));
        assert_eq!(plane.ask_with("POST", PROJECTS, document.clone(), &once).await.status, 201);
        let again = plane.ask_with("POST", PROJECTS, document, &once).await;
        assert_eq!((again.refusal().1.as_str(), &again.json()["id"]), ("already_done", &json!("once")));
    }

    async fn a_tree_stays_a_tree(test: TestStore) {
        let plane = Plane::new(test).await;
        for depth in 0..8 {
            let parent = (depth > 0).then(|| format!("p{}", depth - 1));
            put(&plane, &format!("p{depth}"), parent.as_deref()).await;
        }
        let deeper = plane.ask("POST", PROJECTS, Some(json!({"slug": "p8", "parent": "p7"}))).await;
        assert_eq!(deeper.refusal().2, "/parent");
        for (slug, parent) in [("p0", "p7"), ("p3", "p4"), ("p3", "p3"), ("p0", "default")] {
            let refused = patch(&plane, slug, json!({"parent": parent})).await;
            assert_eq!(refused.refusal(), (400, "invalid_field".to_owned(), "/parent".to_owned()), "{slug} {parent}");
        }
        patch(&plane, "p4", json!({"parent": "default"})).await.expect(200);
        patch(&plane, "p4", json!({"parent": null})).await.expect(200);
        patch(&plane, "p0", json!({"parent": "p7"})).await.expect(200);
        assert_eq!(plane.get(&format!("{PROJECTS}/p0")).await["parent"], "p7");
    }

    async fn a_project_that_something_belongs_to_stays(test: TestStore) {
        let plane = Plane::new(test).await;
        put(&plane, "top", None).await;
        put(&plane, "below", Some("top")).await;
        let in_use = async |slug: &str| {
            let refused = plane.ask("DELETE", &format!("{PROJECTS}/{slug}"), None).await;
            assert_eq!((refused.status, refused.refusal().1.as_str()), (409, "in_use"), "{slug}");
            refused.json()["detail"].as_str().unwrap().to_owned()
        };
        assert!(in_use("default").await.contains("always"));
        assert!(in_use("top").await.contains("below"));
        let key = mint(&plane, json!({"project": "below"})).await.expect(201)["subkey"]["id"].clone();
        let key = format!("/api/v1/subkeys/{}", key.as_str().unwrap());
        assert!(in_use("below").await.contains("sub-keys"));
        plane.ask("POST", &format!("{key}/suspend"), None).await.expect(200);
        assert!(in_use("below").await.contains("sub-keys"));
        plane.ask("POST", &format!("{key}/revoke"), None).await.expect(200);
        plane.operator(Role::Issuer, Some(&["top"])).await;
        plane.ask("DELETE", &format!("{PROJECTS}/below"), None).await.expect(204);
        assert!(in_use("top").await.contains("operators"));
        let orphan = mint(&plane, json!({"project": "below"})).await;
        assert_eq!(orphan.refusal(), (400, "invalid_field".to_owned(), "/project".to_owned()));
        let orphan = plane.ask("POST", PROJECTS, Some(json!({"slug": "x", "parent": "below"}))).await;
        assert_eq!(orphan.refusal().2, "/parent");
        assert_eq!(plane.get(&key).await["status"], "revoked", "what was there is still told");
    }

    async fn a_sub_key_takes_what_it_does_not_say_from_the_nearest_project(test: TestStore) {
        let plane = Plane::new(test).await;
        let top = json!({"slug": "top", "defaults": {"max_output_tokens": 100, "owner": "ana", "models": ["anthropic/*"], "labels": {"a": "1"}}});
        make(&plane, top).await;
        let leaf = json!({"slug": "leaf", "parent": "top", "defaults": {"max_output_tokens": 50, "budgets": [{"limit_usd": "1", "window": "day"}]}});
        make(&plane, leaf).await;
        let key = plane.ask("POST", "/api/v1/subkeys", Some(json!({"name": "a", "project": "leaf"}))).await.expect(201);
        let key = &key["subkey"];
        assert_eq!(
            (&key["max_output_tokens"], &key["owner"], &key["models"], &key["labels"], &key["budgets"][0]["limit_usd"]),
            (&json!(50), &json!("ana"), &json!(["anthropic/*"]), &json!({"a": "1"}), &json!("1.00"))
        );
        let said = json!({"project": "leaf", "max_output_tokens": null, "budgets": [], "labels": {"b": "2"}});
        let said = mint(&plane, said).await.expect(201);
        assert_eq!(
            (&said["subkey"]["max_output_tokens"], &said["subkey"]["budgets"], &said["subkey"]["labels"]),
            (&json!(null), &json!([]), &json!({"b": "2"}))
        );
        patch(&plane, "leaf", json!({"defaults": {"max_output_tokens": 7}})).await.expect(200);
        let path = format!("/api/v1/subkeys/{}", key["id"].as_str().unwrap());
        assert_eq!(plane.get(&path).await["max_output_tokens"], 50, "what was minted keeps what it got");
        let elsewhere = plane.ask("POST", "/api/v1/subkeys", Some(json!({"name": "b"}))).await;
        assert_eq!(elsewhere.refusal().1, "missing_field");
    }

    async fn no_sub_key_exceeds_a_ceiling_above_it(test: TestStore) {
        let plane = Plane::new(test).await;
        make(&plane, json!({"slug": "top", "ceiling": {"models": ["openai/*"], "max_output_tokens": 100}})).await;
        make(&plane, json!({"slug": "leaf", "parent": "top", "ceiling": {"operations": ["chat"]}})).await;
        let within = json!({"project": "leaf", "max_output_tokens": 100, "operations": ["chat"]});
        for (more, field, project) in [
            (json!({"models": ["openai/gpt-4o", "anthropic/x"]}), "/models", "top"),
            (json!({"models": ["*"], "operations": ["*"]}), "/operations", "leaf"),
            (json!({"max_output_tokens": 101}), "/max_output_tokens", "top"),
            (json!({"max_output_tokens": null}), "/max_output_tokens", "top"),
        ] {
            let mut asked = within.clone();
            asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let refused = mint(&plane, asked).await;
            assert_eq!(refused.refusal(), (403, "exceeds_ceiling".to_owned(), field.to_owned()), "{more}");
            assert_eq!(refused.json()["project"], project);
        }
        let key = mint(&plane, within).await.expect(201)["subkey"]["id"].clone();
        let path = format!("/api/v1/subkeys/{}", key.as_str().unwrap());
        let change = async |change: Value| plane.ask("PATCH", &path, Some(change)).await;
        assert_eq!(change(json!({"operations": ["chat", "embeddings"]})).await.refusal().2, "/operations");
        change(json!({"models": ["openai/gpt-4o*"]})).await.expect(200);
        // A ceiling that came later does not stand in the way of narrowing.
        patch(&plane, "top", json!({"ceiling": {"models": ["anthropic/*"], "deny_models": ["*o1*"]}})).await.expect(200);
        change(json!({"max_output_tokens": 10})).await.expect(200);
        assert_eq!(change(json!({"models": ["openai/gpt-4o"]})).await.refusal().2, "/models");
        assert_eq!(change(json!({"models": ["anthropic/*"]})).await.refusal().2, "/deny_models");
        change(json!({"models": ["anthropic/*"], "deny_models": ["*o1*"]})).await.expect(200);
        // Moving is held against all of it.
        make(&plane, json!({"slug": "strict", "ceiling": {"strict_fields": true}})).await;
        assert_eq!(change(json!({"project": "strict"})).await.refusal().2, "/strict_fields");
        change(json!({"project": "default"})).await.expect(200);
        assert_eq!(change(json!({"project": "nowhere"})).await.refusal().2, "/project");
        assert_eq!(change(json!({"project": "leaf", "models": ["*"]})).await.refusal().2, "/models");
    }

    async fn no_sub_key_outlives_what_its_projects_allow(test: TestStore) {
        let plane = Plane::new(test).await;
        make(&plane, json!({"slug": "top", "max_subkey_ttl_seconds": 3600})).await;
        put(&plane, "leaf", Some("top")).await;
        let until = |time: &str| json!({"project": "leaf", "expires_at": time});
        for beyond in [json!({"project": "leaf"}), until("2026-11-22T17:00:01Z")] {
            let refused = mint(&plane, beyond).await;
            assert_eq!(refused.refusal(), (403, "exceeds_ceiling".to_owned(), "/expires_at".to_owned()));
            assert!(refused.text.contains("2026-11-22T17:00:00Z"), "the latest time is named: {}", refused.text);
        }
        let key = mint(&plane, until("2026-11-22T16:30:00Z")).await.expect(201)["subkey"]["id"].clone();
        let path = format!("/api/v1/subkeys/{}", key.as_str().unwrap());
        plane.clock.advance(TimeDelta::minutes(10));
        let change = async |change: Value| plane.ask("PATCH", &path, Some(change)).await;
        let later = change(json!({"expires_at": "2026-11-22T17:05:00Z"})).await;
        assert!(later.refusal().1 == "exceeds_ceiling" && later.text.contains("2026-11-22T17:00:00Z"), "{}", later.text);
        assert_eq!(change(json!({"expires_at": null})).await.refusal().2, "/expires_at");
        change(json!({"expires_at": "2026-11-22T17:00:00Z", "owner": "ana"})).await.expect(200);
    }

    async fn operators_act_on_their_projects_and_what_is_below(test: TestStore) {
        let plane = Plane::new(test).await;
        for (slug, parent) in [("top", None), ("mid", Some("top")), ("leaf", Some("mid")), ("other", None)] {
            put(&plane, slug, parent).await;
        }
        let (mine, theirs) = (mint(&plane, json!({"project": "leaf"})).await.expect(201), mint(&plane, json!({"project": "other"})).await.expect(201));
        let issuer = plane.operator(Role::Issuer, Some(&["mid"])).await;
        let as_issuer = async |method: &str, path: &str, body: Option<Value>| plane.ask_as(&issuer, method, path, body).await;
        assert_eq!(names(&as_issuer("GET", PROJECTS, None).await.expect(200), "slug"), ["leaf", "mid"]);
        assert_eq!(as_issuer("GET", &format!("{PROJECTS}/top"), None).await.status, 404);
        let list = as_issuer("GET", "/api/v1/subkeys", None).await.expect(200);
        assert_eq!(names(&list, "id"), [mine["subkey"]["id"].as_str().unwrap()]);
        assert_eq!(as_issuer("GET", "/api/v1/subkeys?project=leaf", None).await.status, 200);
        assert_eq!(as_issuer("GET", "/api/v1/subkeys?project=other", None).await.status, 403);
        // Logs and usage are those of all that is reached, where none is named.
        let auditor = plane.operator(Role::Auditor, Some(&["mid"])).await;
        for path in ["/api/v1/access-log", "/api/v1/usage?group_by=project", "/api/v1/access-log/export?format=jsonl"] {
            assert_eq!(plane.ask_as(&auditor, "GET", path, None).await.status, 200, "{path}");
        }
        let new = |project: &str| Some(json!({"name": "new", "models": [], "project": project}));
        assert_eq!(as_issuer("POST", "/api/v1/subkeys", new("leaf")).await.status, 201);
        assert_eq!(as_issuer("POST", "/api/v1/subkeys", new("top")).await.status, 403);
        let of = |key: &Value| format!("/api/v1/subkeys/{}", key["subkey"]["id"].as_str().unwrap());
        let moved = as_issuer("PATCH", &of(&mine), Some(json!({"project": "top"}))).await;
        assert_eq!(moved.refusal().1, "forbidden");
        assert_eq!(as_issuer("PATCH", &of(&theirs), Some(json!({"project": "leaf"}))).await.status, 404);
        assert_eq!(as_issuer("PATCH", &of(&mine), Some(json!({"project": "mid"}))).await.status, 200);

        let admin = plane.operator(Role::PolicyAdmin, Some(&["mid"])).await;
        let as_admin = async |method: &str, path: &str, body: Option<Value>| plane.ask_as(&admin, method, path, body).await;
        let budget = json!({"budgets": [{"limit_usd": "1", "window": "day"}]});
        as_admin("PATCH", &format!("{PROJECTS}/leaf"), Some(budget.clone())).await.expect(200);
        assert_eq!(as_admin("PATCH", &format!("{PROJECTS}/top"), Some(budget)).await.status, 404);
        as_admin("POST", PROJECTS, Some(json!({"slug": "new", "parent": "leaf"}))).await.expect(201);
        for parent in [json!(null), json!("top")] {
            let refused = as_admin("POST", PROJECTS, Some(json!({"slug": "x", "parent": parent}))).await;
            assert_eq!(refused.refusal().1, "forbidden", "{parent}");
            let refused = as_admin("PATCH", &format!("{PROJECTS}/leaf"), Some(json!({"parent": parent}))).await;
            assert_eq!(refused.refusal().1, "forbidden", "{parent}");
        }
        // What binds a project is up to those above it; below it, everything is.
        for cap in [
            json!({"budgets": [{"limit_usd": "1", "window": "day"}]}),
            json!({"ceiling": {"allow_tools": false}}),
            json!({"rate_limits": [{"metric": "requests", "limit": 1, "per": "day"}]}),
            json!({"max_subkey_ttl_seconds": 3_600}),
        ] {
            let refused = as_admin("PATCH", &format!("{PROJECTS}/mid"), Some(cap.clone())).await;
            assert_eq!(refused.refusal().1, "forbidden", "{cap}");
            as_admin("PATCH", &format!("{PROJECTS}/leaf"), Some(cap)).await.expect(200);
        }
        as_admin("PATCH", &format!("{PROJECTS}/mid"), Some(json!({"owner": "mia", "defaults": {"models": []}}))).await.expect(200);
        // A slug that was somebody's comes with its past: only those who reach everything bring it back.
        put(&plane, "past", Some("other")).await;
        plane.ask("DELETE", &format!("{PROJECTS}/past"), None).await.expect(204);
        let again = json!({"slug": "past", "parent": "leaf"});
        assert_eq!(as_admin("POST", PROJECTS, Some(again.clone())).await.refusal().1, "forbidden");
        make(&plane, again).await;
        assert_eq!(as_admin("POST", &format!("{PROJECTS}/other/suspend"), None).await.status, 404);
        let responder = plane.operator(Role::Responder, None).await;
        let suspend = format!("{PROJECTS}/mid/suspend");
        plane.ask_as(&responder, "POST", &suspend, None).await.expect(200);
        let resume = format!("{PROJECTS}/mid/resume");
        assert_eq!(plane.ask_as(&responder, "POST", &resume, None).await.status, 403, "a responder stops, and no more");
        as_admin("POST", &resume, None).await.expect(200);
        // What comes to stand below is theirs from then on, and what leaves is not.
        patch(&plane, "other", json!({"parent": "leaf"})).await.expect(200);
        assert_eq!(as_issuer("GET", &of(&theirs), None).await.status, 200);
        patch(&plane, "leaf", json!({"parent": null})).await.expect(200);
        assert_eq!(as_issuer("GET", &of(&theirs), None).await.status, 404);
    }
}
