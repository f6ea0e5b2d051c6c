//! Sub-keys: mint, look, patch, rotate, stop, explain.

use super::plane::{Plane, names};
use crate::support::store::on_both;
use bitting::policy::{self, BodyFacts, HeadFacts, Operation};
use bitting::service::AuthenticateError;
use bitting::subkey::{SubKeyId, SubKeyToken};
use chrono::TimeDelta;
use serde_json::{Value, json};

/// Whether the secret is somebody's.
async fn is_known(plane: &Plane, secret: &str) -> bool {
    match plane.services.authenticate(&SubKeyToken::parse(secret).unwrap()).await {
        Ok(_) => true,
        Err(AuthenticateError::Unknown) => false,
        Err(AuthenticateError::Sealed(error)) => panic!("{error}"),
        Err(AuthenticateError::Store(error)) => panic!("{error}"),
    }
}

/// A sub-key of which only name and models were said, without id and secrets.
const DEFAULTS: &str = r#"{
    "status": "active", "quarantined": false, "name": "ci", "project": "default", "description": null, "owner": null,
    "models": [], "deny_models": [], "deny_betas": [], "operations": ["*"], "provider_order": [], "credential": null,
    "ip_allow": null, "budgets": [], "rate_limits": [], "max_request_usd": null, "max_output_tokens": null,
    "default_max_output_tokens": null, "clamp_output": false, "clamp_to_budget": false,
    "allow_streaming": true, "allow_tools": true, "allow_images": true, "allow_audio": true,
    "allow_files": true, "allow_remote_urls": true, "allow_store": true, "allow_truncation": false,
    "hosted_tools": [], "service_tiers": ["auto", "default"], "strict_fields": false, "share_objects": false,
    "may_delegate": false, "policies": [], "not_before": null, "expires_at": null, "labels": {},
    "created_at": "2026-11-22T16:00:00Z", "created_by": "owner", "last_used_at": null,
    "version": 1, "parent_id": null
}"#;

on_both! {
    async fn a_key_minted_with_the_least_has_the_contracts_defaults(test: TestStore) {
        let plane = Plane::new(test).await;
        let answer = plane.ask("POST", "/api/v1/subkeys", Some(json!({"name": "ci", "models": []}))).await;
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["etag"], "\"1\"");
        let minted = answer.expect(201);
        let secret = minted["secret"].as_str().unwrap();
        let key = &minted["subkey"];
        let id = key["id"].as_str().unwrap();
        assert_eq!(secret.len(), 69);
        assert!(secret.starts_with(&format!("bk_{id}_")));
        let secrets = &key["secrets"];
        assert_eq!(secrets.as_array().unwrap().len(), 1);
        assert!(secrets[0].get("mac").is_none());
        let mut expected: Value = serde_json::from_str(DEFAULTS).unwrap();
        expected["id"] = json!(id);
        expected["secrets"] = secrets.clone();
        assert_eq!(*key, expected);
        assert!(is_known(&plane, secret).await);
        let again = plane.ask("GET", &format!("/api/v1/subkeys/{id}"), None).await;
        assert_eq!(again.headers["etag"], "\"1\"");
        assert_eq!(again.expect(200), expected, "and the secret is not seen again");
    }

    async fn a_key_minted_with_everything_shows_everything(test: TestStore) {
        let plane = Plane::new(test).await;
        let credential = plane.credential("openai", "main").await;
        let everything = json!({
            "description": "nightly", "owner": "ana@example.com", "deny_models": ["openai/o1*"], "deny_betas": ["context-1m-*"], "operations": ["chat", "embeddings"],
            "provider_order": ["openai", "anthropic"], "credential": credential, "ip_allow": ["10.20.0.0/16", "2001:db8::/32"],
            "rate_limits": [{"metric": "requests", "limit": 60, "per": "minute"}, {"metric": "concurrent_requests", "limit": 8}],
            "max_request_usd": "0.50", "max_output_tokens": 4096, "default_max_output_tokens": 1024, "clamp_output": true,
            "clamp_to_budget": true, "allow_streaming": false, "allow_truncation": true, "hosted_tools": ["web_search"],
            "service_tiers": ["default"], "strict_fields": true, "share_objects": true, "not_before": "2026-11-01T00:00:00Z",
            "expires_at": "2027-01-01T00:00:00Z", "labels": {"team": "search"},
        });
        let mut more = everything.clone();
        more["budgets"] = json!([{"limit_usd": "25.00", "window": "month", "timezone": "Europe/Berlin", "alert_at": ["0.8"]},
                                 {"limit_usd": "100.00", "window": "total"}]);
        let key = plane.mint("all", more).await["subkey"].take();
        for (field, value) in everything.as_object().unwrap() {
            assert_eq!(&key[field], value, "{field}");
        }
        let month = json!({"limit_usd": "25.00", "window": "month", "timezone": "Europe/Berlin", "alert_at": ["0.8"],
            "spent_usd": "0.00", "held_usd": "0.00", "remaining_usd": "25.00", "resets_at": "2026-11-30T23:00:00Z"});
        let total = json!({"limit_usd": "100.00", "window": "total", "timezone": "UTC", "alert_at": [],
            "spent_usd": "0.00", "held_usd": "0.00", "remaining_usd": "100.00", "resets_at": null});
        assert_eq!(key["budgets"], json!([month, total]));
    }

    async fn a_bad_field_is_named_by_its_pointer(test: TestStore) {
        let plane = Plane::new(test).await;
        let cases = [
            (json!({"nam": "x"}), "unknown_field", "/nam"),
            (json!({"models": null}), "invalid_field", "/models"),
            (json!({"models": ["gpt-4o"]}), "invalid_field", "/models/0"),
            (json!({"name": ""}), "invalid_field", "/name"),
            (json!({"name": "a\nb"}), "invalid_field", "/name"),
            (json!({"name": 5}), "invalid_field", "/name"),
            (json!({"ip_allow": ["::1", "10.1.2.3/16"]}), "invalid_field", "/ip_allow/1"),
            (json!({"ip_allow": "10.0.0.0/8"}), "invalid_field", "/ip_allow"),
            (json!({"operations": ["chats"]}), "invalid_field", "/operations/0"),
            (json!({"budgets": [{"limit_usd": 25, "window": "month"}]}), "invalid_field", "/budgets/0/limit_usd"),
            (json!({"budgets": [{"limit_usd": "-1", "window": "month"}]}), "invalid_field", "/budgets/0/limit_usd"),
            (json!({"budgets": [{"limit_usd": "25", "window": "year"}]}), "invalid_field", "/budgets/0/window"),
            (json!({"budgets": [{"limit_usd": "25", "window": "day", "timezone": "Mars"}]}), "invalid_field", "/budgets/0/timezone"),
            (json!({"budgets": [{"limit_usd": "1", "window": "day"}, {"limit_usd": "2", "window": "day"}]}), "invalid_field", "/budgets/1/window"),
            (json!({"budgets": [{"limit_usd": "1", "window": "day", "x": 1}]}), "unknown_field", "/budgets/0/x"),
            (json!({"rate_limits": [{"metric": "requests", "limit": 1}]}), "invalid_field", "/rate_limits/0"),
            (json!({"expires_at": "tomorrow"}), "invalid_field", "/expires_at"),
            (json!({"project": "nowhere"}), "invalid_field", "/project"),
            (json!({"provider_order": ["openai", "nobody"]}), "invalid_field", "/provider_order/1"),
            (json!({"credential": "cred_nothing"}), "invalid_field", "/credential"),
            (json!({"may_delegate": true}), "invalid_field", "/may_delegate"),
            (json!({"labels": {"": "x"}}), "invalid_field", "/labels"),
        ];
        for (more, code, field) in cases {
            let mut body = json!({"name": "x", "models": ["*"]});
            for (name, value) in more.as_object().unwrap() {
                body[name] = value.clone();
            }
            let answer = plane.ask("POST", "/api/v1/subkeys", Some(body)).await;
            assert_eq!(answer.refusal(), (400, code.to_owned(), field.to_owned()), "{more}");
        }
        let missing = plane.ask("POST", "/api/v1/subkeys", Some(json!({"name": "x"}))).await;
        assert_eq!(missing.refusal().2, "/models");
        assert_eq!(plane.get("/api/v1/subkeys").await["items"], json!([]), "nothing was minted");
    }

    async fn a_taken_name_names_its_holder_and_is_free_after_revoke(test: TestStore) {
        let plane = Plane::new(test).await;
        let id = plane.minted("ci").await;
        let body = json!({"name": "ci", "models": ["*"]});
        let taken = plane.ask("POST", "/api/v1/subkeys", Some(body.clone())).await;
        assert_eq!(taken.refusal().1, "name_taken");
        assert_eq!(taken.expect(409)["id"], id.as_str());
        plane.ask("POST", &format!("/api/v1/subkeys/{id}/revoke"), None).await.expect(200);
        plane.ask("POST", "/api/v1/subkeys", Some(body)).await.expect(201);
        let other = plane.minted("other").await;
        let patch = plane.ask("PATCH", &format!("/api/v1/subkeys/{other}"), Some(json!({"name": "ci"}))).await;
        assert_eq!(patch.refusal().1, "name_taken");
    }

    async fn a_repeated_request_makes_nothing_and_learns_the_id(test: TestStore) {
        let plane = Plane::new(test).await;
        let key = ("idempotency-key", "mint-1");
        let body = json!({"name": "ci", "models": ["*"]});
        let first = plane.ask_also("POST", "/api/v1/subkeys", Some(body), key).await.expect(201);
        let other = json!({"name": "another", "models": ["*"]});
        let second = plane.ask_also("POST", "/api/v1/subkeys", Some(other.clone()), key).await;
        assert_eq!(second.refusal().1, "already_done");
        let second = second.expect(409);
        assert_eq!(second["id"], first["subkey"]["id"]);
        assert!(second.get("secret").is_none());
        let failed = plane.ask_also("POST", "/api/v1/subkeys", Some(json!({"name": "ci", "models": ["*"]})), ("idempotency-key", "mint-2")).await;
        assert_eq!(failed.refusal().1, "name_taken");
        plane.ask_also("POST", "/api/v1/subkeys", Some(other.clone()), ("idempotency-key", "mint-2")).await.expect(201);
        plane.clock.advance(TimeDelta::hours(24));
        let later = json!({"name": "later", "models": ["*"]});
        plane.ask_also("POST", "/api/v1/subkeys", Some(later), key).await.expect(201);
        let long = "x".repeat(129);
        let refused = plane.ask_also("POST", "/api/v1/subkeys", Some(other), ("idempotency-key", &long)).await;
        assert_eq!(refused.refusal().1, "invalid_header");
        let id = first["subkey"]["id"].as_str().unwrap();
        let rotate = format!("/api/v1/subkeys/{id}/rotate");
        plane.ask_also("POST", &rotate, None, ("idempotency-key", "r")).await.expect(200);
        assert_eq!(plane.ask_also("POST", &rotate, None, ("idempotency-key", "r")).await.refusal().1, "already_done");
    }

    async fn a_change_for_another_version_is_refused(test: TestStore) {
        let plane = Plane::new(test).await;
        let id = plane.minted("ci").await;
        let path = format!("/api/v1/subkeys/{id}");
        let owned_by = |owner: &str| Some(json!({"owner": owner}));
        let first = plane.ask_also("PATCH", &path, owned_by("ana"), ("if-match", "\"1\"")).await;
        assert_eq!(first.headers["etag"], "\"2\"");
        assert_eq!(first.expect(200)["version"], 2);
        let second = plane.ask_also("PATCH", &path, owned_by("bob"), ("if-match", "\"1\"")).await;
        assert_eq!(second.refusal(), (412, "version_mismatch".to_owned(), String::new()));
        let bare = plane.ask_also("PATCH", &path, owned_by("bob"), ("if-match", "1")).await;
        assert_eq!(bare.refusal().1, "invalid_header");
        for verb in ["rotate", "suspend", "resume", "revoke"] {
            let answer = plane.ask_also("POST", &format!("{path}/{verb}"), None, ("if-match", "\"1\"")).await;
            assert_eq!(answer.status, 412, "{verb}");
        }
        assert_eq!(plane.get(&path).await["owner"], "ana");
        plane.ask_also("PATCH", &path, owned_by("bob"), ("if-match", "*")).await.expect(200);
        plane.ask("PATCH", &path, owned_by("eve")).await.expect(200);
    }

    async fn a_patch_merges_and_null_resets_and_arrays_are_replaced(test: TestStore) {
        let plane = Plane::new(test).await;
        let minted = plane.mint("ci", json!({
            "models": ["openai/*"], "ip_allow": ["10.0.0.0/8"], "labels": {"team": "search", "env": "prod"},
            "operations": ["chat"], "allow_tools": false, "max_output_tokens": 10,
        })).await;
        let path = format!("/api/v1/subkeys/{}", minted["subkey"]["id"].as_str().unwrap());
        let merge = json!({"models": ["anthropic/*"], "ip_allow": null, "labels": {"env": null, "cost": "1"},
            "operations": null, "allow_tools": null, "max_output_tokens": null});
        let key = plane.ask("PATCH", &path, Some(merge)).await.expect(200);
        assert_eq!(key["models"], json!(["anthropic/*"]));
        assert_eq!((&key["ip_allow"], &key["operations"]), (&Value::Null, &json!(["*"])));
        assert_eq!(key["labels"], json!({"team": "search", "cost": "1"}));
        assert_eq!((&key["allow_tools"], &key["max_output_tokens"]), (&json!(true), &Value::Null));
        for (wrong, code, field) in [
            (json!({"name": null}), "missing_field", "/name"),
            (json!({"models": null}), "missing_field", "/models"),
            (json!({"id": "x"}), "unknown_field", "/id"),
            (json!({"status": "revoked"}), "unknown_field", "/status"),
            (json!({"ip_allow": ["10.0.0.1/8"]}), "invalid_field", "/ip_allow/0"),
            (json!({"project": "nowhere"}), "invalid_field", "/project"),
        ] {
            let answer = plane.ask("PATCH", &path, Some(wrong)).await;
            assert_eq!(answer.refusal(), (400, code.to_owned(), field.to_owned()));
        }
        assert_eq!(plane.ask("PATCH", &path, Some(json!([1]))).await.status, 400);
        let same = plane.ask("PATCH", &path, Some(json!({"max_output_tokens": null}))).await.expect(200);
        assert_eq!(same["version"], 2, "the same content changes nothing");
        let request = http::Request::patch(&path)
            .header("authorization", format!("Bearer {}", plane.owner))
            .header("content-type", "application/merge-patch+json")
            .body(axum::body::Body::from(r#"{"owner": "ana"}"#))
            .unwrap();
        assert_eq!(plane.send(request).await.expect(200)["owner"], "ana");
    }

    async fn a_patched_key_is_decided_by_its_new_form_at_once(test: TestStore) {
        let plane = Plane::new(test).await;
        let minted = plane.mint("ci", json!({})).await;
        let token = SubKeyToken::parse(minted["secret"].as_str().unwrap()).unwrap();
        assert!(plane.services.authenticate(&token).await.unwrap().key.scope.admits_model("openai/gpt-4o"));
        let path = format!("/api/v1/subkeys/{}", token.id());
        plane.ask("PATCH", &path, Some(json!({"models": ["anthropic/*"]}))).await.expect(200);
        let key = plane.services.authenticate(&token).await.unwrap().key;
        assert!(!key.scope.admits_model("openai/gpt-4o") && !key.stopped.is_cancelled());
    }

    async fn budgets_come_and_go_and_keep_what_was_spent(test: TestStore) {
        let plane = Plane::new(test).await;
        let minted = plane.mint("ci", json!({"budgets": [{"limit_usd": "1.00", "window": "total"}]})).await;
        let id = SubKeyId::parse(minted["subkey"]["id"].as_str().unwrap()).unwrap();
        spend(&plane, &id, 400_000_000).await;
        let path = format!("/api/v1/subkeys/{id}");
        assert_eq!(plane.get(&path).await["budgets"][0]["remaining_usd"], "0.60");
        plane.ask("PATCH", &path, Some(json!({"budgets": []}))).await.expect(200);
        let again = json!({"budgets": [{"limit_usd": "0.30", "window": "total"}]});
        let key = plane.ask("PATCH", &path, Some(again)).await.expect(200);
        assert_eq!(key["budgets"][0]["spent_usd"], "0.40");
        assert_eq!(key["budgets"][0]["remaining_usd"], "0.00");
        assert_eq!(key["status"], "exhausted");
        assert_eq!(names(&plane.get("/api/v1/subkeys?status=exhausted").await, "name"), ["ci"]);
        assert_eq!(plane.get("/api/v1/subkeys?status=active").await["items"], json!([]));
    }

    async fn a_rotated_secret_overlaps_or_dies_at_once(test: TestStore) {
        let plane = Plane::new(test).await;
        let minted = plane.mint("ci", json!({})).await;
        let path = format!("/api/v1/subkeys/{}/rotate", minted["subkey"]["id"].as_str().unwrap());
        let first = minted["secret"].as_str().unwrap().to_owned();
        assert!(is_known(&plane, &first).await);
        plane.clock.advance(TimeDelta::seconds(1));
        let rotated = plane.ask("POST", &path, None).await.expect(200);
        let second = rotated["secret"].as_str().unwrap().to_owned();
        assert_eq!(rotated["subkey"]["id"], minted["subkey"]["id"]);
        assert_eq!(rotated["subkey"]["secrets"].as_array().unwrap().len(), 2);
        assert_eq!(rotated["subkey"]["secrets"][0]["expires_at"], "2026-11-23T16:00:01Z");
        assert!(is_known(&plane, &first).await && is_known(&plane, &second).await);
        assert_eq!(plane.ask("POST", &path, None).await.refusal().1, "two_secrets_live");
        plane.clock.advance(TimeDelta::hours(24));
        assert!(!is_known(&plane, &first).await && is_known(&plane, &second).await);
        let third = plane.ask("POST", &path, Some(json!({"overlap_seconds": 0}))).await.expect(200);
        assert_eq!(third["subkey"]["secrets"].as_array().unwrap().len(), 1);
        assert!(!is_known(&plane, &second).await && is_known(&plane, third["secret"].as_str().unwrap()).await);
        for (body, field) in [(json!({"overlap_seconds": 604_801}), "/overlap_seconds"), (json!({"overlap": 1}), "/overlap")] {
            assert_eq!(plane.ask("POST", &path, Some(body)).await.refusal().2, field);
        }
    }

    async fn stopping_takes_hold_at_once_and_revoked_is_final(test: TestStore) {
        let plane = Plane::new(test).await;
        let minted = plane.mint("ci", json!({})).await;
        let token = SubKeyToken::parse(minted["secret"].as_str().unwrap()).unwrap();
        let in_flight = plane.services.authenticate(&token).await.unwrap().key;
        let path = format!("/api/v1/subkeys/{}", token.id());
        let to = |verb: &str| format!("{path}/{verb}");
        for _ in 0..2 {
            let suspended = plane.ask("POST", &to("suspend"), None).await.expect(200);
            assert_eq!((&suspended["status"], &suspended["version"]), (&json!("suspended"), &json!(2)));
            assert!(in_flight.stopped.is_cancelled(), "requests in flight are told");
        }
        assert_eq!(plane.ask("POST", &to("resume"), None).await.expect(200)["status"], "active");
        let resumed = plane.services.authenticate(&token).await.unwrap().key;
        assert!(!resumed.stopped.is_cancelled());
        for _ in 0..2 {
            assert_eq!(plane.ask("POST", &to("revoke"), Some(json!({}))).await.expect(200)["status"], "revoked");
        }
        assert!(resumed.stopped.is_cancelled());
        for verb in ["suspend", "resume", "rotate"] {
            assert_eq!(plane.ask("POST", &to(verb), None).await.refusal().1, "revoked", "{verb}");
        }
        assert_eq!(plane.ask("POST", &to("revoke"), Some(json!({"x": 1}))).await.refusal().1, "unknown_field");
    }

    async fn lists_are_filtered_and_paged(test: TestStore) {
        let plane = Plane::new(test).await;
        for n in 0..5 {
            plane.mint(&format!("key-{n}"), json!({"labels": {"n": n.to_string()}})).await;
            plane.clock.advance(TimeDelta::seconds(1));
        }
        plane.mint("gone", json!({"expires_at": "2026-11-22T16:00:01Z"})).await;
        let of = |list: Value| names(&list, "name");
        assert_eq!(of(plane.get("/api/v1/subkeys").await), ["gone", "key-4", "key-3", "key-2", "key-1", "key-0"]);
        let mut seen = vec![];
        let mut path = "/api/v1/subkeys?limit=2".to_owned();
        loop {
            let page = plane.get(&path).await;
            assert!(page["items"].as_array().unwrap().len() <= 2);
            seen.extend(of(page.clone()));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("/api/v1/subkeys?limit=2&cursor={cursor}");
        }
        assert_eq!(seen, ["gone", "key-4", "key-3", "key-2", "key-1", "key-0"]);
        for (query, expected) in [
            ("status=expired", vec!["gone"]),
            ("status=active&limit=1", vec!["key-4"]),
            ("label=n=3", vec!["key-3"]),
            ("q=KEY-1", vec!["key-1"]),
            ("expires_before=2027-01-01T00:00:00Z", vec!["gone"]),
            ("unused_for=3s", vec!["key-1", "key-0"]),
            ("project=default&label=n&q=2", vec!["key-2"]),
            ("project=other", vec![]),
        ] {
            assert_eq!(of(plane.get(&format!("/api/v1/subkeys?{query}")).await), expected, "{query}");
        }
        for query in ["limit=0", "limit=1001", "cursor=x", "status=dead", "unused_for=soon", "expires_before=soon", "nam=x", "q=a&q=b"] {
            assert_eq!(plane.ask("GET", &format!("/api/v1/subkeys?{query}"), None).await.status, 400, "{query}");
        }
    }

    async fn explain_says_what_the_decision_says_and_spends_nothing(test: TestStore) {
        let plane = Plane::new(test).await;
        plane.credential("openai", "main").await;
        let minted = plane.mint("ci", json!({
            "models": ["openai/gpt-4o*"], "operations": ["chat"], "ip_allow": ["10.0.0.0/8"], "max_output_tokens": 100,
            "budgets": [{"limit_usd": "0.01", "window": "day"}],
        })).await;
        let id = SubKeyId::parse(minted["subkey"]["id"].as_str().unwrap()).unwrap();
        let path = format!("/api/v1/subkeys/{id}");
        let explain = format!("{path}/explain");
        let base = json!({"operation": "chat", "model": "openai/gpt-4o-mini", "client_ip": "10.1.1.1", "input_tokens": 100, "max_output_tokens": 10});
        let cases = [
            (json!({}), None),
            (json!({"client_ip": "192.0.2.1"}), Some("ip_allow")),
            (json!({"client_ip": null}), Some("ip_allow")),
            (json!({"operation": "embeddings"}), Some("operations")),
            (json!({"model": "openai/o3"}), Some("models")),
            (json!({"model": "anthropic/claude-x"}), Some("models")),
            (json!({"model": null}), Some("model")),
            (json!({"max_output_tokens": 101}), Some("max_output_tokens")),
            (json!({"max_output_tokens": null}), Some("max_output_tokens")),
            (json!({"input_tokens": 120_000}), Some("budgets/day")),
        ];
        for (more, denied_by) in cases {
            let mut question = base.clone();
            for (field, value) in more.as_object().unwrap() {
                question[field] = value.clone();
            }
            let answer = plane.ask("POST", &explain, Some(question.clone())).await.expect(200);
            assert_eq!(answer["denied_by"].as_str(), denied_by, "{more}: {answer}");
            assert_eq!(answer["allowed"], denied_by.is_none());
            // The same as the proxy's own function says of the same facts.
            let token = SubKeyToken::parse(minted["secret"].as_str().unwrap()).unwrap();
            let caller = plane.services.authenticate(&token).await.unwrap();
            let head = HeadFacts {
                now: plane.clock.now(),
                client_ip: question["client_ip"].as_str().map(|ip| ip.parse().unwrap()),
                operation: serde_json::from_value::<Operation>(question["operation"].clone()).unwrap(),
            };
            let body = BodyFacts {
                model: question["model"].as_str().map(str::to_owned),
                output_bound: Some(question["max_output_tokens"].as_u64().unwrap_or(16_384)),
                ..BodyFacts::default()
            };
            let decided = policy::decide_head(caller.bounds(), &head)
                .and_then(|permit| policy::decide(caller.bounds(), &permit, &body))
                .err()
                .map(|denial| denial.rule.as_str());
            let by_policy = denied_by.filter(|rule| !["budgets/day", "model"].contains(rule));
            assert_eq!(decided, by_policy, "{more}");
        }
        assert_eq!(plane.get(&path).await["budgets"][0]["held_usd"], "0.00");
        for (question, field) in [(json!({"operation": "chats"}), "/operation"), (json!({"operation": "chat", "x": 1}), "/x")] {
            assert_eq!(plane.ask("POST", &explain, Some(question)).await.refusal().2, field);
        }
        plane.ask("POST", &format!("{path}/suspend"), None).await.expect(200);
        assert_eq!(plane.ask("POST", &explain, Some(base)).await.expect(200)["denied_by"], "status");
    }
}

/// Posts an amount in nano-USD to the key's total.
async fn spend(plane: &Plane, id: &SubKeyId, nano: i64) {
    use bitting::base::NanoUsd;
    use bitting::store::budget::{self, BudgetId, BudgetOwner, WindowId};
    let budget = BudgetId::new(&BudgetOwner::subkey(id), bitting::budget::Window::Total);
    let mut tx = plane.services.store.write().await.unwrap();
    let start = chrono::DateTime::UNIX_EPOCH;
    budget::ensure_window(&mut tx.conn(), &budget, start).await.unwrap();
    let window = WindowId { budget, window_start: start };
    assert!(budget::post(&mut tx.conn(), &window, NanoUsd::from_nano(nano), NanoUsd::ZERO).await.unwrap());
    tx.commit().await.unwrap();
}
