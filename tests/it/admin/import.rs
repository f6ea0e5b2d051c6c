//! Price lists that others keep, imported whole or not at all.

use super::plane::Plane;
use crate::support::store::on_both;
use bitting::service::Role;
use bitting::store;
use serde_json::{Value, json};

const IMPORT: &str = "/api/v1/models/import";

/// A list with one model that is here, one that is not, and what has no place.
fn list() -> Value {
    json!({
        "gpt-4o-mini": {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 128_000, "max_output_tokens": 16_384,
            "input_cost_per_token": 1.4e-7, "output_cost_per_token": 7e-7, "cache_read_input_token_cost": 7.5e-8},
        "brand-new": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
            "output_cost_per_second": 0.1},
        "azure/gpt-4o": {"litellm_provider": "azure", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6},
    })
}

fn order(document: &Value, more: &Value) -> Value {
    let mut order = json!({"source": "litellm", "document": document});
    for (field, value) in more.as_object().unwrap() {
        order[field] = value.clone();
    }
    order
}

async fn rows(plane: &Plane) -> Vec<store::model::ModelRecord> {
    let mut read = plane.services.store.read().await.unwrap();
    store::model::list(&mut read.conn()).await.unwrap()
}

fn input_price(plane: &Plane, model: &str) -> Option<String> {
    let snapshot = plane.services.snapshot();
    let model = snapshot.catalog.find("openai", model)?.clone();
    Some(model.prices_at(plane.clock.now())?.prices.input_per_mtok_usd?.to_string())
}

async fn admin_log(plane: &Plane, action: &str) -> Vec<Value> {
    let log = plane.get("/api/v1/admin-log?limit=1000").await;
    log["items"].as_array().unwrap().iter().filter(|entry| entry["action"] == action).cloned().collect()
}

on_both! {
    async fn a_list_is_imported_once_with_everything_that_changes_on_record(test: TestStore) {
        let plane = Plane::new(test).await;
        let dry = plane.ask("POST", IMPORT, Some(order(&list(), &json!({"dry_run": true})))).await.expect(200);
        assert_eq!((rows(&plane).await.len(), admin_log(&plane, "models.import").await.len()), (0, 0), "a dry run writes nothing");

        let mut report = plane.ask("POST", IMPORT, Some(order(&list(), &json!({})))).await.expect(200);
        assert_eq!(report["dry_run"].take(), false);
        let mut dry = dry;
        assert_eq!(dry["dry_run"].take(), true);
        assert_eq!(dry, report, "what a dry run says is what happens");
        let names: Vec<_> = report["added"].as_array().unwrap().iter().map(|one| one["model"].clone()).collect();
        assert_eq!(names, ["openai/brand-new"]);
        let changed = &report["changed"][0];
        assert_eq!(changed["model"], "openai/gpt-4o-mini");
        let change = |field: &str| {
            let told = changed["changes"].as_array().unwrap();
            let found = told.iter().find(|change| change["field"] == field).cloned();
            found.map(|change| (change["before"].clone(), change["after"].clone()))
        };
        assert_eq!(change("/prices/input_per_mtok_usd"), Some((json!("0.15"), json!("0.14"))));
        assert_eq!(change("/prices/output_per_mtok_usd"), Some((json!("0.60"), json!("0.70"))));
        assert_eq!(change("/prices/cached_input_per_mtok_usd"), None);
        assert_eq!(report["unmapped"][0]["field"], "output_cost_per_second");
        assert_eq!((&report["skipped"], &report["kept"]), (&json!({"azure": 1}), &json!([])));
        assert_eq!((input_price(&plane, "brand-new"), input_price(&plane, "gpt-4o-mini")), (Some("1.00".into()), Some("0.14".into())));

        let (summary, each) = (admin_log(&plane, "models.import").await, admin_log(&plane, "model.import").await);
        assert_eq!((summary.len(), summary[0]["detail"]["changed"].clone()), (1, json!(1)));
        assert_eq!(each.len(), 2);
        let told = each.iter().find(|entry| entry["target"] == "openai/gpt-4o-mini").unwrap();
        assert_eq!(told["detail"]["changes"], changed["changes"], "before and after are on record");

        let before = rows(&plane).await;
        plane.clock.advance(chrono::TimeDelta::hours(1));
        let again = plane.ask("POST", IMPORT, Some(order(&list(), &json!({})))).await.expect(200);
        assert_eq!((&again["added"], &again["changed"], &again["unchanged"]), (&json!([]), &json!([]), &json!(2)));
        assert_eq!(rows(&plane).await, before, "the second time nothing is written");
    }

    async fn what_was_set_by_hand_stays_unless_the_order_says_otherwise(test: TestStore) {
        let plane = Plane::new(test).await;
        let by_hand = json!({"operations": ["chat"], "prices": {"input_per_mtok_usd": "9", "output_per_mtok_usd": "9"}});
        plane.ask("PUT", "/api/v1/models/openai/gpt-4o-mini", Some(by_hand)).await.expect(200);
        plane.clock.advance(chrono::TimeDelta::hours(1));
        let report = plane.ask("POST", IMPORT, Some(order(&list(), &json!({})))).await.expect(200);
        assert_eq!((&report["kept"][0]["model"], &report["changed"]), (&json!("openai/gpt-4o-mini"), &json!([])));
        assert_eq!(input_price(&plane, "gpt-4o-mini"), Some("9.00".into()));
        // Also at the very moment at which it was set.
        let report = plane.ask("POST", IMPORT, Some(order(&list(), &json!({"replace_set": true})))).await.expect(200);
        assert_eq!((&report["kept"], &report["changed"][0]["model"]), (&json!([]), &json!("openai/gpt-4o-mini")));
        assert_eq!(input_price(&plane, "gpt-4o-mini"), Some("0.14".into()));
        let mut dearer = list();
        dearer["gpt-4o-mini"]["input_cost_per_token"] = json!(2e-7);
        let report = plane.ask("POST", IMPORT, Some(order(&dearer, &json!({})))).await.expect(200);
        assert_eq!(report["changed"][0]["model"], "openai/gpt-4o-mini", "what was imported is not set by hand");
        assert_eq!(input_price(&plane, "gpt-4o-mini"), Some("0.20".into()));
        let shown = plane.get("/api/v1/models?limit=1000").await;
        let shown = shown["items"].as_array().unwrap().iter().find(|one| one["model"] == "gpt-4o-mini").unwrap().clone();
        assert_eq!(shown["imported_from"], "litellm");
    }

    async fn a_list_that_does_not_read_changes_nothing_and_names_the_place(test: TestStore) {
        let plane = Plane::new(test).await;
        let mut no_provider = list();
        no_provider["gpt-4o-mini"].as_object_mut().unwrap().remove("litellm_provider");
        for (body, code, field) in [
            (order(&no_provider, &json!({})), "invalid_field", "/document/gpt-4o-mini/litellm_provider"),
            (order(&json!([]), &json!({})), "invalid_field", "/document"),
            (order(&list(), &json!({"source": "mine"})), "invalid_field", "/source"),
            (order(&list(), &json!({"sauce": 1})), "unknown_field", "/sauce"),
            (order(&list(), &json!({"providers": {"azure": "nobody"}})), "unknown_provider", ""),
            (order(&list(), &json!({"source": "openrouter"})), "invalid_field", "/document/data"),
        ] {
            let answer = plane.ask("POST", IMPORT, Some(body.clone())).await;
            assert_eq!(answer.refusal(), (400, code.to_owned(), field.to_owned()), "{body}");
        }
        let viewer = plane.operator(Role::Viewer, None).await;
        assert_eq!(plane.ask_as(&viewer, "POST", IMPORT, Some(order(&list(), &json!({})))).await.status, 403);
        assert!(rows(&plane).await.is_empty());
        assert!(admin_log(&plane, "models.import").await.is_empty());
    }

    async fn hundreds_of_models_are_one_change(test: TestStore) {
        let plane = Plane::new(test).await;
        let model = |n: u32| {
            let notes = "x".repeat(1_000);
            (format!("model-{n}"), json!({"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": f64::from(n) * 1e-8,
                "output_cost_per_token": 2e-6, "notes": notes}))
        };
        let all: Value = (1..=300).map(model).collect::<serde_json::Map<_, _>>().into();
        assert!(all.to_string().len() > 256 * 1024, "longer than other bodies may be");
        let report = plane.ask("POST", IMPORT, Some(order(&all, &json!({})))).await.expect(200);
        assert_eq!(report["added"].as_array().unwrap().len(), 300);
        assert_eq!((rows(&plane).await.len(), input_price(&plane, "model-123")), (300, Some("1.23".into())));
        let again = plane.ask("POST", IMPORT, Some(order(&all, &json!({})))).await.expect(200);
        assert_eq!(again["unchanged"], 300);
        let only = order(&all, &json!({"only": ["openai/model-7", "openai/model-29*"], "dry_run": true}));
        assert_eq!(plane.ask("POST", IMPORT, Some(only)).await.expect(200)["unchanged"], 12);
    }

    async fn a_name_that_is_an_alias_here_is_not_made_a_second_model(test: TestStore) {
        let plane = Plane::new(test).await;
        let aliased = json!({"operations": ["chat"], "aliases": ["brand-new"], "prices": {"input_per_mtok_usd": "9", "output_per_mtok_usd": "9"}});
        plane.ask("PUT", "/api/v1/models/openai/mine", Some(aliased)).await.expect(200);
        let report = plane.ask("POST", IMPORT, Some(order(&list(), &json!({})))).await.expect(200);
        assert_eq!(report["added"], json!([]));
        let told = report["unmapped"].as_array().unwrap().iter().find(|one| one["model"] == "openai/brand-new").unwrap().clone();
        assert!(told["why"].as_str().unwrap().contains("an alias of mine"), "{told}");
    }

    async fn what_a_list_does_not_say_of_reasoning_is_told(test: TestStore) {
        let plane = Plane::new(test).await;
        let url = json!({"slug": "mine", "dialects": {"openai": "https://api.example.com/v1"}});
        plane.ask("POST", "/api/v1/providers", Some(url)).await.expect(201);
        let entry = |provider: &str| json!({"litellm_provider": provider, "mode": "chat", "supports_reasoning": true,
            "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6});
        let list = json!({"thinks": entry("openai"), "mine/thinks": entry("mine")});
        let report = plane.ask("POST", IMPORT, Some(order(&list, &json!({})))).await.expect(200);
        let of = |what: &str, model: &str| {
            let told = report[what].as_array().unwrap();
            told.iter().find(|one| one["model"] == model).unwrap().clone()
        };
        for (model, is_bounded, why) in [("openai/thinks", true, "every known model"), ("mine/thinks", false, "a whole context window")] {
            assert_eq!(of("added", model)["document"]["bound_covers_reasoning"], is_bounded, "{model}");
            let remark = of("approximated", model);
            assert!(remark["field"] == "reasoning" && remark["why"].as_str().unwrap().contains(why), "{remark}");
        }
    }

    async fn a_price_of_nothing_does_not_make_a_model_free(test: TestStore) {
        let plane = Plane::new(test).await;
        let mut free = list();
        free["gpt-4o-mini"]["input_cost_per_token"] = json!(0);
        let report = plane.ask("POST", IMPORT, Some(order(&free, &json!({})))).await.expect(200);
        assert_eq!(input_price(&plane, "gpt-4o-mini"), Some("0.15".into()));
        let told = report["approximated"].as_array().unwrap().iter().find(|one| one["field"] == "input").unwrap().clone();
        assert_eq!(told["model"], "openai/gpt-4o-mini");
    }
}
