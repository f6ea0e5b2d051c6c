//! What operators say about models: what was said last holds, and each price has a name of its own.

use super::plane::Plane;
use crate::support::store::on_both;
use chrono::TimeDelta;
use serde_json::{Value, json};

const MODEL: &str = "/api/v1/models/openai/gpt-4o-mini";

/// Says how much the model may answer, and what it costs from a time on.
async fn set(plane: &Plane, max_output_tokens: u64, price: &str, effective_from: Value) -> Value {
    let document = json!({
        "operations": ["chat"], "max_output_tokens": max_output_tokens, "effective_from": effective_from,
        "prices": {"input_per_mtok_usd": price, "output_per_mtok_usd": price},
    });
    plane.ask("PUT", MODEL, Some(document)).await.expect(200)
}

on_both! {
    async fn what_is_said_of_a_model_last_holds_whatever_times_its_prices_have(test: TestStore) {
        let plane = Plane::new(test).await;
        let mut names = Vec::new();
        for (at, (max_output_tokens, price, effective_from)) in [
            (4_096, "9", json!("2027-01-01T00:00:00Z")),
            (32_768, "1", Value::Null),
            (1_024, "2", json!("2026-01-01T00:00:00Z")),
            (2_048, "3", json!("2026-01-01T00:00:00Z")),
            (8_192, "4", Value::Null),
        ].into_iter().enumerate() {
            plane.clock.advance(TimeDelta::hours(1));
            let set = set(&plane, max_output_tokens, price, effective_from).await;
            assert_eq!((&set["max_output_tokens"], &set["version"]), (&json!(max_output_tokens), &json!(at + 1)));
            names.push(set["price_version"].clone());
        }
        // The third and the fourth are older than the second, which is in force.
        assert_eq!(names, ["catalog@2026-11-22", "override@2", "override@2", "override@2", "override@5"]);
        let moved = plane.ask_also("PUT", MODEL, Some(json!({"operations": ["chat"]})), ("if-match", "\"4\"")).await;
        assert_eq!(moved.refusal().0, 412);
    }

    async fn an_import_replaces_what_an_operator_said_of_another_time(test: TestStore) {
        let plane = Plane::new(test).await;
        for _ in 0..2 {
            set(&plane, 1_024, "9", json!("2026-01-01T00:00:00Z")).await;
        }
        let list = json!({"gpt-4o-mini": {"litellm_provider": "openai", "mode": "chat", "max_output_tokens": 65_536,
            "input_cost_per_token": 1.4e-7, "output_cost_per_token": 7e-7}});
        let order = json!({"source": "litellm", "document": list, "replace_set": true});
        for changed in [1, 0] {
            plane.clock.advance(TimeDelta::hours(1));
            let report = plane.ask("POST", "/api/v1/models/import", Some(order.clone())).await.expect(200);
            assert_eq!(report["changed"].as_array().unwrap().len(), changed, "{report}");
        }
        let snapshot = plane.services.snapshot();
        assert_eq!(snapshot.catalog.find("openai", "gpt-4o-mini").unwrap().max_output_tokens, Some(65_536));
    }
}
