//! Providers, their keys, and models.

use super::plane::{CANARY, Plane, names};
use crate::support::store::on_both;
use serde_json::json;

on_both! {
    async fn the_well_known_providers_are_there_and_others_can_be_added(test: TestStore) {
        let plane = Plane::new(test).await;
        let slugs = names(&plane.get("/api/v1/providers").await, "slug");
        assert!(slugs.contains(&"openai".to_owned()) && slugs.contains(&"anthropic".to_owned()));
        let document = json!({"slug": "mine", "dialects": {"openai": "https://llm.example/v1"}});
        let created = plane.ask("POST", "/api/v1/providers", Some(document.clone())).await;
        assert_eq!(created.headers["etag"], "\"1\"");
        let expected = json!({
            "slug": "mine", "status": "active", "version": 1, "created_at": "2026-11-22T16:00:00Z",
            "dialects": {"openai": {"base_url": "https://llm.example/v1", "auth": "bearer", "headers": {}, "query": {}}},
            "deployments": {}, "on_client_gone": "cancel", "supports_stream_options": true,
            "timeouts": {"connect_ms": 5000, "first_byte_ms": 600_000, "idle_ms": 300_000, "total_ms": 3_600_000},
            "rate_limits": [],
        });
        assert_eq!(created.expect(201), expected);
        assert_eq!(plane.get("/api/v1/providers/mine").await, expected);
        let taken = plane.ask("POST", "/api/v1/providers", Some(document)).await;
        assert_eq!(taken.refusal().1, "name_taken");
        let patch = json!({"on_client_gone": "drain", "dialects": {"openai": {"headers": {"x-team": "a"}}}});
        let patched = plane.ask_also("PATCH", "/api/v1/providers/mine", Some(patch), ("if-match", "\"1\"")).await.expect(200);
        assert_eq!((&patched["version"], &patched["on_client_gone"]), (&json!(2), &json!("drain")));
        assert_eq!(patched["dialects"]["openai"]["base_url"], "https://llm.example/v1");
        let moved = plane.ask_also("PATCH", "/api/v1/providers/mine", Some(json!({})), ("if-match", "\"1\"")).await;
        assert_eq!(moved.status, 412);
        let renamed = plane.ask("PATCH", "/api/v1/providers/mine", Some(json!({"slug": "yours"}))).await;
        assert_eq!(renamed.refusal().2, "/slug");
        for (verb, status) in [("suspend", "suspended"), ("suspend", "suspended"), ("resume", "active")] {
            let action = format!("/api/v1/providers/mine/{verb}");
            assert_eq!(plane.ask("POST", &action, None).await.expect(200)["status"], status);
            let is_active = plane.services.snapshot().providers["mine"].active;
            assert_eq!(is_active, status == "active", "in force when the call returns");
        }
        plane.ask("DELETE", "/api/v1/providers/mine", None).await.expect(204);
        assert_eq!(plane.ask("GET", "/api/v1/providers/mine", None).await.refusal().1, "not_found");
        assert!(!plane.services.snapshot().providers.contains_key("mine"));
    }

    async fn an_upstream_that_could_be_turned_inwards_is_refused(test: TestStore) {
        let plane = Plane::new(test).await;
        for url in [
            "https://127.0.0.1/v1", "https://169.254.169.254/latest", "https://2130706433/", "https://0x7f.1/",
            "https://[::ffff:127.0.0.1]/", "https://localhost./", "https://user@example.com/", "https://example.com/#x",
            "https://example.com/?key=1", "http://example.com/v1", "https://10.0.0.1/", "https://[::1]/", "https://localhost/",
            "ftp://example.com/", "https://exa mple.com", "https://example.com\\@evil.example/", "https://017700000001/", "",
        ] {
            let body = json!({"slug": "mine", "dialects": {"openai": url}});
            let answer = plane.ask("POST", "/api/v1/providers", Some(body)).await;
            assert_eq!(answer.refusal(), (400, "invalid_field".to_owned(), "/dialects/openai/base_url".to_owned()), "{url}");
            let patch = json!({"dialects": {"openai": {"base_url": url}}});
            assert_eq!(plane.ask("PATCH", "/api/v1/providers/openai", Some(patch)).await.status, 400, "{url}");
        }
        for (document, field) in [
            (json!({"slug": "Mine", "dialects": {"openai": "https://a.example"}}), "/slug"),
            (json!({"slug": "mine", "dialects": {}}), "/dialects"),
            (json!({"slug": "mine", "dialects": {"openai": "https://a.example"}, "x": 1}), "/x"),
            (json!({"slug": "mine", "dialects": {"openai": {"base_url": "https://a.example", "headers": {"authorization": "x"}}}}), "/dialects/openai/headers"),
            (json!({"slug": "mine", "dialects": {"openai": "https://a.example"}, "timeouts": {"idle_ms": 0}}), "/timeouts"),
        ] {
            assert_eq!(plane.ask("POST", "/api/v1/providers", Some(document)).await.refusal().2, field);
        }
    }

    async fn a_key_goes_in_and_is_in_no_answer(test: TestStore) {
        let plane = Plane::new(test).await;
        let path = "/api/v1/providers/openai/credentials";
        let body = json!({"name": "main", "secret": CANARY, "weight": 3, "projects": ["default"],
            "organization": "org-1", "openai_project": "proj_1"});
        let created = plane.ask("POST", path, Some(body.clone())).await.expect(201);
        let id = created["id"].as_str().unwrap().to_owned();
        assert!(id.starts_with("cred_"));
        assert_eq!(created, json!({
            "id": id, "provider": "openai", "name": "main", "weight": 3, "projects": ["default"], "organization": "org-1",
            "openai_project": "proj_1", "status": "active", "secret_version": 1, "version": 1, "draining": null, "rotation_due": null,
            "rate_limits": [], "created_at": "2026-11-22T16:00:00Z", "created_by": "owner",
        }));
        assert_eq!(plane.get(path).await["items"], json!([created]));
        let taken = plane.ask("POST", path, Some(body)).await;
        assert_eq!(taken.refusal().1, "name_taken");
        assert_eq!(taken.expect(409)["id"], id.as_str());
        for (body, field) in [
            (json!({"name": "b"}), "/secret"),
            (json!({"name": "b", "secret": ""}), "/secret"),
            (json!({"name": "b", "secret": format!("{CANARY}\n")}), "/secret"),
            (json!({"name": "b", "secret": format!("Bearer {CANARY}")}), "/secret"),
            (json!({"name": "b", "secret": [CANARY]}), "/secret"),
            (json!({"name": "b", "secret": "x", "key": CANARY}), "/key"),
            (json!({"name": "", "secret": "x"}), "/name"),
            (json!({"name": "b", "secret": "x", "organization": "a b"}), "/organization"),
        ] {
            assert_eq!(plane.ask("POST", path, Some(body)).await.refusal().2, field);
        }
        assert_eq!(plane.ask("POST", "/api/v1/providers/nobody/credentials", Some(json!({"name": "a", "secret": "x"}))).await.status, 404);
        assert_eq!(plane.ask("GET", "/api/v1/providers/nobody/credentials", None).await.status, 404);

        let in_use = plane.ask("DELETE", "/api/v1/providers/openai", None).await;
        assert_eq!(in_use.refusal().1, "in_use");
        let (rotate, new) = (format!("{path}/{id}/rotate"), format!("{CANARY}-2"));
        let untried = plane.ask("POST", &rotate, Some(json!({"secret": new}))).await;
        assert_eq!((untried.status, untried.refusal().1), (502, "probe_failed".to_owned()));
        let too_long = json!({"secret": new, "probe": false, "drain_seconds": 86_401});
        assert_eq!(plane.ask("POST", &rotate, Some(too_long)).await.refusal().2, "/drain_seconds");
        assert_eq!(plane.get(path).await["items"], json!([created]), "nothing was changed");
        let rotated = plane.ask("POST", &rotate, Some(json!({"secret": new, "probe": false}))).await.expect(200);
        assert_eq!((&rotated["secret_version"], &rotated["version"]), (&json!(2), &json!(2)));
        assert_eq!(rotated["draining"], json!({"secret_version": 1, "until": "2026-11-22T16:15:00Z"}));
        assert_eq!(plane.get(path).await["items"], json!([rotated]));
        let elsewhere = format!("/api/v1/providers/mistral/credentials/{id}/disable");
        assert_eq!(plane.ask("POST", &elsewhere, None).await.status, 404);
        for _ in 0..2 {
            let disabled = plane.ask("POST", &format!("{path}/{id}/disable"), None).await.expect(200);
            assert_eq!((&disabled["status"], &disabled["version"]), (&json!("disabled"), &json!(3)));
        }
        assert!(plane.services.snapshot().providers["openai"].credentials.is_empty(), "in force when the call returns");
        for path in ["/api/v1/admin-log", "/api/v1/admin-log/export", "/api/v1/providers", "/metrics"] {
            plane.ask("GET", path, None).await;
        }
    }

    async fn a_key_moves_with_its_providers_origin(test: TestStore) {
        let plane = Plane::new(test).await;
        plane.credential("openai", "main").await;
        let disabled = plane.credential("openai", "spare").await;
        plane.ask("POST", &format!("/api/v1/providers/openai/credentials/{disabled}/disable"), None).await.expect(200);
        let sealed = |plane: &Plane| {
            let snapshot = plane.services.snapshot();
            let credential = &snapshot.providers["openai"].credentials[0];
            (credential.active.binding.clone(), credential.active.sealed.clone())
        };
        let (before, was) = sealed(&plane);
        let path_only = json!({"dialects": {"openai": {"base_url": "https://api.openai.com/v2"}}});
        plane.ask("PATCH", "/api/v1/providers/openai", Some(path_only)).await.expect(200);
        assert_eq!(sealed(&plane), (before.clone(), was.clone()), "the origin is the same, and so is the seal");
        let patch = json!({"dialects": {"openai": {"base_url": "https://eu.api.openai.com/v1"}}});
        plane.ask("PATCH", "/api/v1/providers/openai", Some(patch)).await.expect(200);
        let (after, is) = sealed(&plane);
        assert_ne!(before, after);
        let (entropy, keyring) = (&plane.services.entropy, &plane.services.vault.keyring().unwrap());
        let opens_at = |place| bitting::vault::reseal_credential(entropy, keyring, place, place, &is).is_ok();
        assert!(opens_at(&after) && !opens_at(&before));
        // What was moved once can be moved back.
        let back = json!({"dialects": {"openai": {"base_url": "https://api.openai.com/v1"}}});
        plane.ask("PATCH", "/api/v1/providers/openai", Some(back)).await.expect(200);
        assert_eq!(sealed(&plane).0, before);
    }

    async fn models_are_listed_and_set_by_operators(test: TestStore) {
        let plane = Plane::new(test).await;
        let all = plane.get("/api/v1/models?limit=1000").await;
        let mini = all["items"].as_array().unwrap().iter()
            .find(|model| model["provider"] == "openai" && model["model"] == "gpt-4o-mini").unwrap().clone();
        assert_eq!((&mini["prices"]["input_per_mtok_usd"], &mini["version"]), (&json!("0.15"), &json!(0)));
        let page = plane.get("/api/v1/models?limit=2").await;
        let next = plane.get(&format!("/api/v1/models?limit=2&cursor={}", page["next_cursor"].as_str().unwrap())).await;
        assert_eq!([page["items"].as_array().unwrap().clone(), next["items"].as_array().unwrap().clone()].concat(), all["items"].as_array().unwrap()[..4]);

        let document = json!({"operations": ["chat"], "context_window": 1000, "max_output_tokens": 100, "bound_covers_reasoning": true,
            "prices": {"input_per_mtok_usd": "1", "output_per_mtok_usd": "2"}, "effective_from": null});
        for path in ["openrouter/openai/my-model", "openrouter/openai%2Fmy-model"] {
            let set = plane.ask("PUT", &format!("/api/v1/models/{path}"), Some(document.clone())).await.expect(200);
            assert_eq!((&set["provider"], &set["model"]), (&json!("openrouter"), &json!("openai/my-model")));
            assert_eq!(set["prices"], json!({"input_per_mtok_usd": "1.00", "output_per_mtok_usd": "2.00"}));
            assert_eq!(set["effective_from"], "2026-11-22T16:00:00Z");
        }
        assert!(plane.services.snapshot().catalog.find("openrouter", "openai/my-model").is_some());
        let moved = plane.ask_also("PUT", "/api/v1/models/openrouter/openai/my-model", Some(document.clone()), ("if-match", "\"1\"")).await;
        assert_eq!(moved.status, 412);
        plane.ask_also("PUT", "/api/v1/models/openrouter/openai/my-model", Some(document.clone()), ("if-match", "\"2\"")).await.expect(200);
        let mut later = document.clone();
        later["effective_from"] = json!("2027-01-01T00:00:00Z");
        later["prices"]["input_per_mtok_usd"] = json!("9");
        let set = plane.ask("PUT", "/api/v1/models/openrouter/openai/my-model", Some(later)).await.expect(200);
        assert_eq!(set["prices"]["input_per_mtok_usd"], "1.00", "the later price is not in force yet");
        for (path, body, field) in [
            ("openai/m", json!({}), "/operations"),
            ("openai/m", json!({"operations": []}), "/operations"),
            ("openai/m", json!({"operations": ["chat"], "prices": {"input_per_mtok_usd": 1}}), "/prices/input_per_mtok_usd"),
            ("openai/m", json!({"operations": ["chat"], "prices": {"input": "1"}}), "/prices/input"),
            ("openai/m", json!({"operations": ["chat"], "aliases": ["gpt-4o"]}), "/aliases"),
            ("openai/m", json!({"operations": ["chat"], "price": 1}), "/price"),
        ] {
            let answer = plane.ask("PUT", &format!("/api/v1/models/{path}"), Some(body.clone())).await;
            assert_eq!((answer.refusal().0, answer.refusal().2), (400, field.to_owned()), "{body}");
        }
        assert!(plane.services.snapshot().catalog.find("openai", "m").is_none());
        assert_eq!(plane.ask("PUT", "/api/v1/models/nobody/m", Some(document)).await.status, 404);
    }
}
