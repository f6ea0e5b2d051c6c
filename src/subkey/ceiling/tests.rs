//! What exceeds a ceiling, field by field; and that whatever does not is admitted inside it alone.

use super::*;
use crate::policy::{BodyFacts, Bounds, HeadFacts, decide, decide_head};
use proptest::prelude::*;
use serde_json::{Value, json};

fn ceiling(value: Value) -> Ceiling {
    let ceiling: Ceiling = serde_json::from_value(value).unwrap();
    ceiling.validate().unwrap();
    ceiling
}

fn key(more: &Value) -> Definition {
    let mut definition = json!({"name": "k", "models": ["a/x"]});
    for (field, value) in more.as_object().unwrap() {
        definition[field] = value.clone();
    }
    serde_json::from_value(definition).unwrap()
}

#[test]
fn an_empty_ceiling_restricts_nothing() {
    assert_eq!(ceiling(json!({})), Ceiling::default());
    let open = key(
        &json!({"models": ["*"], "hosted_tools": ["*"], "allow_truncation": true, "service_tiers": ["x"]}),
    );
    assert_eq!(ceiling(json!({})).excesses(&open), []);
    assert!(serde_json::from_value::<Ceiling>(json!({"budgets": []})).is_err(), "budgets are not part of it");
}

#[test]
fn each_field_is_held_against_the_ceiling() {
    let at = |time: &str| json!(format!("2027-01-0{time}T00:00:00Z"));
    let cases = [
        ("models", json!(["a/*"]), json!(["a/x", "a/y*"]), json!(["a/x", "b/x"])),
        ("models", json!(["a/*"]), json!([]), json!(["*"])),
        ("deny_models", json!(["a/x*"]), json!(["a/*"]), json!(["a/xy"])),
        ("deny_betas", json!(["context-1m-*"]), json!(["context-*"]), json!(["context-1m-2025-08-07"])),
        ("operations", json!(["chat", "embeddings"]), json!(["chat"]), json!(["*"])),
        ("ip_allow", json!(["10.0.0.0/8"]), json!(["10.1.0.0/16"]), json!(null)),
        ("ip_allow", json!(["10.1.0.0/16"]), json!([]), json!(["10.0.0.0/8"])),
        ("ip_allow", json!(["0.0.0.0/0"]), json!(["192.0.2.1/32"]), json!(["::/0"])),
        ("max_request_usd", json!("1"), json!("1.00"), json!("1.01")),
        ("max_request_usd", json!("1"), json!("0.5"), json!(null)),
        ("max_output_tokens", json!(10), json!(10), json!(11)),
        ("max_output_tokens", json!(10), json!(1), json!(null)),
        ("allow_tools", json!(false), json!(false), json!(true)),
        ("allow_truncation", json!(false), json!(false), json!(true)),
        ("hosted_tools", json!(["web_search"]), json!([]), json!(["*"])),
        ("service_tiers", json!(["default"]), json!(["default"]), json!(["default", "auto"])),
        ("strict_fields", json!(true), json!(true), json!(false)),
        ("not_before", at("2"), at("3"), at("1")),
        ("expires_at", at("2"), at("2"), at("3")),
        ("expires_at", at("2"), at("1"), json!(null)),
    ];
    for (field, over, within, beyond) in cases {
        let over = ceiling(json!({ field: over }));
        assert_eq!(over.excesses(&key(&json!({ field: within }))), [], "{field} {within}");
        let found = over.excesses(&key(&json!({ field: beyond })));
        assert_eq!(found.len(), 1, "{field} {beyond}: {found:?}");
        assert_eq!(found[0].field, format!("/{field}"), "{beyond}");
    }
}

#[test]
fn an_excess_says_what_would_do() {
    let over =
        ceiling(json!({"models": ["a/*"], "deny_models": ["a/z*"], "expires_at": "2027-01-02T00:00:00Z"}));
    let said: Vec<String> = over
        .excesses(&key(&json!({"models": ["a/*", "*"]})))
        .into_iter()
        .map(|excess| format!("{} {}", excess.field, excess.allowed))
        .collect();
    let wanted =
        ["/models [\"a/*\"]", "/deny_models with [\"a/z*\"]", "/expires_at 2027-01-02T00:00:00Z or sooner"];
    assert_eq!(said, wanted);
}

prop_compose! {
    fn scopes()(
        models in prop::sample::subsequence(vec!["a/*", "a/x", "b/*", "*", "*/x"], 0..4),
        deny in prop::sample::subsequence(vec!["a/x", "b/*", "*x"], 0..3),
        betas in prop::sample::subsequence(vec!["x-*", "x-1", "*"], 0..3),
        operations in prop::sample::subsequence(vec!["chat", "embeddings", "*"], 0..3),
        ip in prop::option::of(prop::sample::subsequence(vec!["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24"], 0..3)),
        max in prop::option::of(0..4_u64),
        tools: bool, truncation: bool, strict: bool,
        hosted in prop::sample::subsequence(vec!["web_search", "mcp", "*"], 0..2),
        tiers in prop::sample::subsequence(vec!["auto", "flex"], 0..2),
        ends in prop::option::of(0..4_i64), begins in prop::option::of(-4..0_i64),
    ) -> Value {
        let time = |offset: i64| DateTime::from_timestamp(1_800_000_000 + offset, 0).unwrap();
        json!({
            "models": models, "deny_models": deny, "deny_betas": betas, "operations": operations, "ip_allow": ip,
            "max_output_tokens": max, "allow_tools": tools, "allow_truncation": truncation, "strict_fields": strict,
            "hosted_tools": hosted, "service_tiers": tiers, "expires_at": ends.map(time), "not_before": begins.map(time),
        })
    }
}

prop_compose! {
    fn requests()(
        ip in prop::sample::select(vec!["10.1.1.1", "10.2.1.1", "192.0.2.9", "198.51.100.1"]),
        operation in prop::sample::select(vec![Operation::Chat, Operation::Embeddings, Operation::Images]),
        model in prop::sample::select(vec!["a/x", "a/y", "b/x", "c/x"]),
        features in prop::sample::subsequence(vec![Feature::Tools, Feature::Truncation], 0..2),
        output_bound in prop::option::of(0..6_u64),
        hosted in prop::sample::subsequence(vec!["web_search", "mcp"], 0..2),
        tier in prop::option::of(prop::sample::select(vec!["auto", "flex", "priority"])),
        betas in prop::sample::subsequence(vec!["x-1", "x-2", "y"], 0..2),
        unknown: bool, offset in -6..6_i64,
    ) -> (HeadFacts, BodyFacts) {
        let now = DateTime::from_timestamp(1_800_000_000 + offset, 0).unwrap();
        let head = HeadFacts { now, client_ip: Some(ip.parse().unwrap()), operation };
        let body = BodyFacts {
            model: Some(model.to_owned()), features: features.into_iter().collect(), output_bound,
            hosted_tools: hosted.into_iter().map(str::to_owned).collect(), service_tier: tier.map(str::to_owned),
            betas: betas.into_iter().map(str::to_owned).collect(),
            unknown_fields: if unknown { vec!["x".to_owned()] } else { vec![] },
        };
        (head, body)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// What exceeds a ceiling nowhere admits nothing that the ceiling does not.
    #[test]
    fn what_lies_within_is_admitted_inside_alone(own in scopes(), over in scopes(), (head, body) in requests()) {
        let (definition, ceiling) = (key(&own), ceiling(over));
        let (inner, outer) = (definition.scope(), ceiling.scope());
        let admits = |scope: &Scope| {
            let bounds = Bounds::from(scope);
            decide_head(bounds, &head).and_then(|permit| decide(bounds, &permit, &body)).is_ok()
        };
        if ceiling.excesses(&definition).is_empty() && admits(&inner) {
            prop_assert!(admits(&outer), "{definition:?} {ceiling:?}");
        }
    }

    /// A definition that says what the ceiling says lies within it.
    #[test]
    fn whoever_says_the_same_lies_within(own in scopes()) {
        let own = match own {
            Value::Object(mut own) => {
                own.retain(|_, value| !value.is_null());
                Value::Object(own)
            }
            other => other,
        };
        prop_assert_eq!(ceiling(own.clone()).excesses(&key(&own)), []);
    }
}
