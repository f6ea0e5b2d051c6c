//! What the decision promises, rule by rule and for any scope under any ceilings.

use super::*;
use crate::base::CidrSet;
use crate::policy::{BetaGlob, Bounds, Ceiling, Feature, Glob, OneOf, Scope};
use proptest::prelude::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn globs(patterns: &[&str]) -> Vec<Glob> {
    patterns.iter().map(|pattern| Glob::parse(pattern).unwrap()).collect()
}

fn open_scope() -> Scope {
    Scope {
        models: globs(&["*"]),
        deny_models: vec![],
        operations: OneOf::Any,
        ip_allow: None,
        features: Scope::default_features(),
        hosted_tools: OneOf::Listed(vec![]),
        deny_betas: vec![],
        service_tiers: OneOf::Listed(vec!["auto".to_owned(), "default".to_owned()]),
        max_output_tokens: None,
        clamp_output: false,
        strict_fields: false,
        not_before: None,
        expires_at: None,
    }
}

fn chat_from(ip: &str) -> HeadFacts {
    HeadFacts { now: at(1_000), client_ip: Some(ip.parse().unwrap()), operation: Operation::Chat }
}

fn asking(model: &str) -> BodyFacts {
    BodyFacts { model: Some(model.to_owned()), ..BodyFacts::default() }
}

fn denial(bounds: Bounds<'_>, head: &HeadFacts, body: &BodyFacts) -> Option<Denial> {
    match decide_head(bounds, head) {
        Err(denial) => Some(denial),
        Ok(permit) => decide(bounds, &permit, body).err(),
    }
}

fn refusal(scope: &Scope, head: &HeadFacts, body: &BodyFacts) -> Option<Rule> {
    denial(scope.into(), head, body).map(|denial| denial.rule)
}

#[test]
fn each_rule_refuses_what_it_does_not_admit() {
    let head = chat_from("192.0.2.1");
    let body = asking("openai/gpt-4o");
    let with = |change: fn(&mut Scope)| {
        let mut scope = open_scope();
        change(&mut scope);
        scope
    };
    assert_eq!(refusal(&open_scope(), &head, &body), None);
    let cases: [(Scope, Rule); 8] = [
        (with(|s| s.not_before = Some(at(1_001))), Rule::NotBefore),
        (with(|s| s.expires_at = Some(at(1_000))), Rule::Expiry),
        (with(|s| s.ip_allow = Some(CidrSet::default())), Rule::ClientIp),
        (with(|s| s.ip_allow = Some(CidrSet::parse(&["10.0.0.0/8"]).unwrap())), Rule::ClientIp),
        (with(|s| s.operations = OneOf::Listed(vec![Operation::Embeddings])), Rule::Operation),
        (with(|s| s.models = vec![]), Rule::Model),
        (with(|s| s.models = globs(&["anthropic/*"])), Rule::Model),
        (with(|s| s.deny_models = globs(&["openai/gpt-4*"])), Rule::Model),
    ];
    for (scope, rule) in cases {
        assert_eq!(refusal(&scope, &head, &body), Some(rule), "{rule:?}");
    }
    let ask = |change: fn(&mut BodyFacts)| {
        let mut body = asking("openai/gpt-4o");
        change(&mut body);
        body
    };
    let cases: [(BodyFacts, Rule); 4] = [
        (ask(|b| b.features.insert(Feature::Truncation)), Rule::Feature),
        (ask(|b| b.hosted_tools.push("web_search".into())), Rule::HostedTool),
        (ask(|b| b.service_tier = Some("priority".into())), Rule::ServiceTier),
        (ask(|b| b.output_bound = Some(11)), Rule::OutputBound),
    ];
    let bounded = with(|s| s.max_output_tokens = Some(10));
    for (body, rule) in cases {
        assert_eq!(refusal(&bounded, &head, &body), Some(rule), "{rule:?}");
    }
    let mut old = with(|s| s.deny_betas.push(BetaGlob::parse("context-1m-*").unwrap()));
    assert_eq!(
        refusal(&old, &head, &ask(|b| b.betas.push("context-1m-2025-08-07".into()))),
        Some(Rule::Beta)
    );
    assert_eq!(refusal(&old, &head, &ask(|b| b.betas.push("files-api-2025-04-14".into()))), None);
    old.deny_betas.clear();
    assert_eq!(refusal(&old, &head, &ask(|b| b.betas.push("context-1m-2025-08-07".into()))), None);
    let clamped = Scope { clamp_output: true, ..bounded };
    assert_eq!(refusal(&clamped, &head, &ask(|b| b.output_bound = Some(11))), None);
    let strict = with(|s| s.strict_fields = true);
    assert_eq!(
        refusal(&strict, &head, &ask(|b| b.unknown_fields.push("x".into()))),
        Some(Rule::StrictFields)
    );
}

#[test]
fn an_unreadable_address_fits_no_list() {
    let mut scope = open_scope();
    let head = HeadFacts { client_ip: None, ..chat_from("192.0.2.1") };
    assert_eq!(refusal(&scope, &head, &asking("a/b")), None);
    scope.ip_allow = Some(CidrSet::parse(&["0.0.0.0/0", "::/0"]).unwrap());
    assert_eq!(refusal(&scope, &head, &asking("a/b")), Some(Rule::ClientIp));
}

/// Ceilings of `p0`, `p1` and so on.
fn named(scopes: Vec<Scope>) -> Vec<Ceiling> {
    scopes.into_iter().enumerate().map(|(at, scope)| Ceiling { project: format!("p{at}"), scope }).collect()
}

#[test]
fn a_refusal_names_the_ceiling_that_refused_and_the_nearest_first() {
    let (head, body) = (chat_from("192.0.2.1"), asking("openai/gpt-4o"));
    let closed = Scope { models: globs(&["anthropic/*"]), ..open_scope() };
    let ceilings = named(vec![open_scope(), closed.clone(), closed.clone()]);
    let own = open_scope();
    let refused = denial(Bounds::new(&own, &ceilings), &head, &body).unwrap();
    assert_eq!((refused.rule, refused.ceiling.as_deref()), (Rule::Model, Some("p1")));
    let refused = denial(Bounds::new(&closed, &ceilings), &head, &body).unwrap();
    assert_eq!((refused.rule, refused.ceiling), (Rule::Model, None));
}

prop_compose! {
    fn scopes()(
        models in prop::sample::subsequence(vec!["a/*", "a/x", "b/*", "*"], 0..3),
        deny in prop::sample::subsequence(vec!["a/x", "b/*"], 0..2),
        ops in prop::option::of(prop::sample::subsequence(vec![Operation::Chat, Operation::Embeddings], 0..2)),
        ip in prop::option::of(prop::sample::subsequence(vec!["10.0.0.0/8", "192.0.2.0/24"], 0..2)),
        features in prop::sample::subsequence(Feature::ALL.to_vec(), 0..8),
        max in prop::option::of(0..20_u64),
        betas in prop::sample::subsequence(vec!["x-*", "y", "*"], 0..2),
    ) -> Scope {
        Scope {
            models: globs(&models), deny_models: globs(&deny),
            operations: ops.map_or(OneOf::Any, OneOf::Listed),
            ip_allow: ip.map(|list| CidrSet::parse(&list).unwrap()),
            features: features.into_iter().collect(),
            deny_betas: betas.into_iter().map(|beta| BetaGlob::parse(beta).unwrap()).collect(),
            max_output_tokens: max, ..open_scope()
        }
    }
}
prop_compose! {
    fn requests()(
        ip in prop::sample::select(vec!["10.1.1.1", "192.0.2.9", "198.51.100.1"]),
        operation in prop::sample::select(vec![Operation::Chat, Operation::Embeddings, Operation::CountTokens]),
        model in prop::sample::select(vec!["a/x", "a/y", "b/x", "c/x"]),
        features in prop::sample::subsequence(Feature::ALL.to_vec(), 0..3),
        output_bound in prop::option::of(0..20_u64),
        betas in prop::sample::subsequence(vec!["x-1", "x-2", "y"], 0..2),
    ) -> (HeadFacts, BodyFacts) {
        let features = features.into_iter().collect();
        let betas = betas.into_iter().map(str::to_owned).collect();
        (HeadFacts { operation, ..chat_from(ip) }, BodyFacts { features, betas, output_bound, ..asking(model) })
    }
}

proptest! {
    /// `explain` and the proxy never disagree, and the proxy reports the first refusal of the list.
    #[test]
    fn explain_is_the_decision(
        scope in scopes(), above in prop::collection::vec(scopes(), 0..3), (head, body) in requests(),
    ) {
        let ceilings = named(above);
        let bounds = Bounds::new(&scope, &ceilings);
        let first = explain(bounds, &head, Some(&body)).into_iter().find_map(|verdict| verdict.said.err());
        prop_assert_eq!(denial(bounds, &head, &body), first);
    }

    /// A scope under ceilings admits exactly what all of them admit, each alone.
    #[test]
    fn ceilings_intersect(
        scope in scopes(), clamps: bool, above in prop::collection::vec(scopes(), 0..4), (head, body) in requests(),
    ) {
        let scope = Scope { clamp_output: clamps, ..scope };
        let alike = above.iter().map(|one| Scope { clamp_output: clamps, ..one.clone() });
        let all = alike.chain([scope.clone()]).all(|one| refusal(&one, &head, &body).is_none());
        let ceilings = named(above);
        let bounds = Bounds::new(&scope, &ceilings);
        prop_assert_eq!(denial(bounds, &head, &body).is_none(), all);
        let name = body.model.as_deref().unwrap_or_default();
        let admits = scope.admits_model(name) && ceilings.iter().all(|one| one.scope.admits_model(name));
        prop_assert_eq!(bounds.admits_model(name), admits);
    }

    /// Taking anything out of a scope never admits more.
    #[test]
    fn narrowing_never_admits_more(scope in scopes(), (head, body) in requests(), which in 0..6) {
        let mut narrow = scope.clone();
        match which {
            0 => { narrow.models.pop(); }
            1 => narrow.deny_models.push(Glob::parse("a/*").unwrap()),
            2 => narrow.operations = OneOf::Listed(vec![]),
            3 => narrow.ip_allow = Some(CidrSet::default()),
            4 => narrow.deny_betas.push(BetaGlob::parse("x-*").unwrap()),
            _ => narrow.features = FeatureSet::default(),
        }
        if refusal(&narrow, &head, &body).is_none() {
            prop_assert_eq!(refusal(&scope, &head, &body), None);
        }
    }
}
