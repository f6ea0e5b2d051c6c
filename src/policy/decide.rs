//! The decision: a scope held against the facts of one request.
//!
//! One list of rules in the order in which refusals are reported, one function that judges a rule.
//! The proxy stops at the first refusal, first with what the request's head tells and then with the
//! whole; `explain` lists every verdict. A permit is made here and nowhere else.

use super::{FeatureSet, Operation, Scope};
use chrono::{DateTime, Utc};
use std::marker::PhantomData;
use std::net::IpAddr;

/// What is known before the body is read.
#[derive(Clone, Debug)]
pub struct HeadFacts {
    /// When the request came.
    pub now: DateTime<Utc>,
    /// The client's address; `None` when a trusted proxy named none that can be read.
    pub client_ip: Option<IpAddr>,
    /// What the path asks for.
    pub operation: Operation,
}

/// What the body tells.
#[derive(Clone, Debug, Default)]
pub struct BodyFacts {
    /// `provider/model` as resolved; `None` where the operation has no model.
    pub model: Option<String>,
    /// The features used.
    pub features: FeatureSet,
    /// Kinds of provider-executed tools.
    pub hosted_tools: Vec<String>,
    /// The service tier named.
    pub service_tier: Option<String>,
    /// Fields that no list knows.
    pub unknown_fields: Vec<String>,
    /// The largest output bound stated, in tokens.
    pub output_bound: Option<u64>,
}

/// The rules, in the order in which refusals are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// `not_before`
    NotBefore,
    /// `expires_at`
    Expiry,
    /// `ip_allow`
    ClientIp,
    /// `operations`
    Operation,
    /// `models` and `deny_models`
    Model,
    /// The `allow_*` switches
    Feature,
    /// `hosted_tools`
    HostedTool,
    /// `service_tiers`
    ServiceTier,
    /// `strict_fields`
    StrictFields,
    /// `max_output_tokens`
    OutputBound,
}

const HEAD: [Rule; 4] = [Rule::NotBefore, Rule::Expiry, Rule::ClientIp, Rule::Operation];
const BODY: [Rule; 6] =
    [Rule::Model, Rule::Feature, Rule::HostedTool, Rule::ServiceTier, Rule::StrictFields, Rule::OutputBound];

impl Rule {
    /// The field of the sub-key that holds the rule.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotBefore => "not_before",
            Self::Expiry => "expires_at",
            Self::ClientIp => "ip_allow",
            Self::Operation => "operations",
            Self::Model => "models",
            Self::Feature => "features",
            Self::HostedTool => "hosted_tools",
            Self::ServiceTier => "service_tiers",
            Self::StrictFields => "strict_fields",
            Self::OutputBound => "max_output_tokens",
        }
    }
}

/// Why a request was refused: the rule, and what about the request broke it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The rule.
    pub rule: Rule,
    /// The value that the rule does not admit, in words for the caller.
    pub value: String,
}

/// Marks a permit that covers the head of a request only.
#[derive(Debug)]
pub struct Head(());
/// Marks a permit that covers a whole request.
#[derive(Debug)]
pub struct Whole(());

/// Proof that a scope admitted a request. Only [`decide_head`] and [`decide`] make one.
#[derive(Debug)]
pub struct Permit<Extent>(PhantomData<Extent>);

/// Decides what needs no body.
pub fn decide_head(scope: &Scope, head: &HeadFacts) -> Result<Permit<Head>, Denial> {
    HEAD.iter().try_for_each(|rule| judge_head(*rule, scope, head).map(drop))?;
    Ok(Permit(PhantomData))
}

/// Decides the whole request; the head was admitted before.
pub fn decide(scope: &Scope, _head: &Permit<Head>, body: &BodyFacts) -> Result<Permit<Whole>, Denial> {
    BODY.iter().try_for_each(|rule| judge_body(*rule, scope, body).map(drop))?;
    Ok(Permit(PhantomData))
}

/// Every rule's verdict in order: the value it saw, or the denial.
pub fn explain(scope: &Scope, head: &HeadFacts, body: &BodyFacts) -> Vec<(Rule, Result<String, Denial>)> {
    let of_head = HEAD.into_iter().map(|rule| (rule, judge_head(rule, scope, head)));
    let of_body = BODY.into_iter().map(|rule| (rule, judge_body(rule, scope, body)));
    of_head.chain(of_body).map(|(rule, verdict)| (rule, verdict.map(|seen| seen.to_string()))).collect()
}

/// What a rule saw, rendered only when somebody asks.
enum Seen<'a> {
    Time(DateTime<Utc>),
    Address(Option<IpAddr>),
    Text(&'a str),
    Number(Option<u64>),
    Many(Vec<&'a str>),
}

impl std::fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(time) => write!(f, "{}", time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
            Self::Address(Some(ip)) => write!(f, "{ip}"),
            Self::Address(None) => f.write_str("unknown address"),
            Self::Text(text) => f.write_str(text),
            Self::Number(Some(number)) => write!(f, "{number}"),
            Self::Number(None) => f.write_str("none"),
            Self::Many(texts) => f.write_str(&texts.join(", ")),
        }
    }
}

fn judge_head<'a>(rule: Rule, scope: &Scope, head: &HeadFacts) -> Result<Seen<'a>, Denial> {
    let (admitted, seen) = match rule {
        Rule::NotBefore => (scope.not_before.is_none_or(|start| head.now >= start), Seen::Time(head.now)),
        Rule::Expiry => (scope.expires_at.is_none_or(|end| head.now < end), Seen::Time(head.now)),
        Rule::ClientIp => {
            let admitted = match (&scope.ip_allow, head.client_ip) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(networks), Some(ip)) => networks.contains(ip),
            };
            (admitted, Seen::Address(head.client_ip))
        }
        Rule::Operation => (
            head.operation.is_free() || scope.operations.admits(&head.operation),
            Seen::Text(head.operation.as_str()),
        ),
        Rule::Model
        | Rule::Feature
        | Rule::HostedTool
        | Rule::ServiceTier
        | Rule::StrictFields
        | Rule::OutputBound => (true, Seen::Text("")),
    };
    if admitted { Ok(seen) } else { Err(Denial { rule, value: seen.to_string() }) }
}

fn judge_body<'a>(rule: Rule, scope: &Scope, body: &'a BodyFacts) -> Result<Seen<'a>, Denial> {
    let refuse = |value: &str| Err(Denial { rule, value: value.to_owned() });
    match rule {
        Rule::Model => match &body.model {
            Some(model) if !scope.admits_model(model) => refuse(model),
            model => Ok(Seen::Text(model.as_deref().unwrap_or("none"))),
        },
        Rule::Feature => match body.features.iter().find(|feature| !scope.features.contains(*feature)) {
            Some(feature) => refuse(feature.switch()),
            None => Ok(Seen::Many(body.features.iter().map(super::Feature::switch).collect())),
        },
        Rule::HostedTool => match body.hosted_tools.iter().find(|kind| !scope.hosted_tools.admits(*kind)) {
            Some(kind) => refuse(kind),
            None => Ok(Seen::Many(body.hosted_tools.iter().map(String::as_str).collect())),
        },
        Rule::ServiceTier => match &body.service_tier {
            Some(tier) if !scope.service_tiers.contains(tier) => refuse(tier),
            tier => Ok(Seen::Text(tier.as_deref().unwrap_or("none"))),
        },
        Rule::StrictFields => match body.unknown_fields.first() {
            Some(field) if scope.strict_fields => refuse(field),
            _ => Ok(Seen::Many(body.unknown_fields.iter().map(String::as_str).collect())),
        },
        Rule::OutputBound => match (body.output_bound, scope.max_output_tokens) {
            (Some(bound), Some(max)) if bound > max && !scope.clamp_output => refuse(&bound.to_string()),
            (bound, _) => Ok(Seen::Number(bound)),
        },
        Rule::NotBefore | Rule::Expiry | Rule::ClientIp | Rule::Operation => Ok(Seen::Text("")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::CidrSet;
    use crate::policy::{Feature, Glob, OneOf};
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
            service_tiers: ["auto".to_owned(), "default".to_owned()].into(),
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

    fn refusal(scope: &Scope, head: &HeadFacts, body: &BodyFacts) -> Option<Rule> {
        match decide_head(scope, head) {
            Err(denial) => Some(denial.rule),
            Ok(permit) => decide(scope, &permit, body).err().map(|denial| denial.rule),
        }
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

    prop_compose! {
        fn scopes()(
            models in prop::sample::subsequence(vec!["a/*", "a/x", "b/*", "*"], 0..3),
            deny in prop::sample::subsequence(vec!["a/x", "b/*"], 0..2),
            ops in prop::option::of(prop::sample::subsequence(vec![Operation::Chat, Operation::Embeddings], 0..2)),
            ip in prop::option::of(prop::sample::subsequence(vec!["10.0.0.0/8", "192.0.2.0/24"], 0..2)),
            features in prop::sample::subsequence(Feature::ALL.to_vec(), 0..8),
            max in prop::option::of(0..20_u64),
        ) -> Scope {
            Scope {
                models: globs(&models), deny_models: globs(&deny),
                operations: ops.map_or(OneOf::Any, OneOf::Listed),
                ip_allow: ip.map(|list| CidrSet::parse(&list).unwrap()),
                features: features.into_iter().collect(),
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
        ) -> (HeadFacts, BodyFacts) {
            let features = features.into_iter().collect();
            (HeadFacts { operation, ..chat_from(ip) }, BodyFacts { features, output_bound, ..asking(model) })
        }
    }

    proptest! {
        /// `explain` and the proxy never disagree, and the proxy reports the first refusal of the list.
        #[test]
        fn explain_is_the_decision(scope in scopes(), (head, body) in requests()) {
            let first = explain(&scope, &head, &body).into_iter().find_map(|(_, verdict)| verdict.err());
            prop_assert_eq!(refusal(&scope, &head, &body), first.map(|denial| denial.rule));
        }

        /// Taking anything out of a scope never admits more.
        #[test]
        fn narrowing_never_admits_more(scope in scopes(), (head, body) in requests(), which in 0..5) {
            let mut narrow = scope.clone();
            match which {
                0 => { narrow.models.pop(); }
                1 => narrow.deny_models.push(Glob::parse("a/*").unwrap()),
                2 => narrow.operations = OneOf::Listed(vec![]),
                3 => narrow.ip_allow = Some(CidrSet::default()),
                _ => narrow.features = FeatureSet::default(),
            }
            if refusal(&narrow, &head, &body).is_none() {
                prop_assert_eq!(refusal(&scope, &head, &body), None);
            }
        }
    }
}
