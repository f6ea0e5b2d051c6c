//! The decision: a scope and the ceilings over it held against the facts of one request.
//!
//! One list of rules in the order in which refusals are reported, one function that judges a rule.
//! Each rule is asked of the innermost scope first, then of each ceiling upwards. The proxy stops at the first refusal, first with what the request's head tells and then with the
//! whole; `explain` lists every verdict. A permit is made here and nowhere else.

use super::scope::Bound;
use super::{Bounds, FeatureSet, Operation};
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
    /// The beta values asked for, in lower case.
    pub betas: Vec<String>,
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
    /// `deny_betas`
    Beta,
    /// `service_tiers`
    ServiceTier,
    /// `strict_fields`
    StrictFields,
    /// `max_output_tokens`
    OutputBound,
}

const HEAD: [Rule; 4] = [Rule::NotBefore, Rule::Expiry, Rule::ClientIp, Rule::Operation];
const BODY: [Rule; 7] = [
    Rule::Model,
    Rule::Feature,
    Rule::HostedTool,
    Rule::Beta,
    Rule::ServiceTier,
    Rule::StrictFields,
    Rule::OutputBound,
];

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
            Self::Beta => "deny_betas",
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
    /// The project whose ceiling refused; `None` when it was the innermost scope.
    pub ceiling: Option<String>,
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
pub fn decide_head(bounds: Bounds<'_>, head: &HeadFacts) -> Result<Permit<Head>, Denial> {
    HEAD.iter()
        .try_for_each(|rule| bounds.iter().try_for_each(|one| judge_head(*rule, one, head).map(drop)))?;
    Ok(Permit(PhantomData))
}

/// Decides the whole request; the head was admitted before.
pub fn decide(bounds: Bounds<'_>, _head: &Permit<Head>, body: &BodyFacts) -> Result<Permit<Whole>, Denial> {
    BODY.iter()
        .try_for_each(|rule| bounds.iter().try_for_each(|one| judge_body(*rule, one, body).map(drop)))?;
    Ok(Permit(PhantomData))
}

/// One rule of one scope, and what it said: the value it saw, or the denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The rule.
    pub rule: Rule,
    /// The project whose ceiling was asked; `None` for the innermost scope.
    pub ceiling: Option<String>,
    /// What it said.
    pub said: Result<String, Denial>,
}

/// Every verdict, in the order in which refusals are reported; of the head alone where nothing is known of the body.
pub fn explain(bounds: Bounds<'_>, head: &HeadFacts, body: Option<&BodyFacts>) -> Vec<Verdict> {
    let verdict = |rule, one: Bound<'_>, said: Result<Seen<'_>, Denial>| Verdict {
        rule,
        ceiling: one.project.map(str::to_owned),
        said: said.map(|seen| seen.to_string()),
    };
    let of_head = HEAD
        .into_iter()
        .flat_map(|rule| bounds.iter().map(move |one| verdict(rule, one, judge_head(rule, one, head))));
    let of_body = body.into_iter().flat_map(|body| {
        BODY.into_iter().flat_map(move |rule| {
            bounds.iter().map(move |one| verdict(rule, one, judge_body(rule, one, body)))
        })
    });
    of_head.chain(of_body).collect()
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

fn judge_head<'a>(rule: Rule, one: Bound<'_>, head: &HeadFacts) -> Result<Seen<'a>, Denial> {
    let scope = one.scope;
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
        | Rule::Beta
        | Rule::ServiceTier
        | Rule::StrictFields
        | Rule::OutputBound => (true, Seen::Text("")),
    };
    if admitted { Ok(seen) } else { Err(denial(rule, one, &seen.to_string())) }
}

fn judge_body<'a>(rule: Rule, one: Bound<'_>, body: &'a BodyFacts) -> Result<Seen<'a>, Denial> {
    let scope = one.scope;
    let refuse = |value: &str| Err(denial(rule, one, value));
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
        Rule::Beta => match body.betas.iter().find(|value| !scope.admits_beta(value)) {
            Some(value) => refuse(value),
            None => Ok(Seen::Many(body.betas.iter().map(String::as_str).collect())),
        },
        Rule::ServiceTier => match &body.service_tier {
            Some(tier) if !scope.service_tiers.admits(tier) => refuse(tier),
            tier => Ok(Seen::Text(tier.as_deref().unwrap_or("none"))),
        },
        Rule::StrictFields => match body.unknown_fields.first() {
            Some(field) if scope.strict_fields => refuse(field),
            _ => Ok(Seen::Many(body.unknown_fields.iter().map(String::as_str).collect())),
        },
        Rule::OutputBound => match (body.output_bound, scope.max_output_tokens) {
            (Some(bound), Some(max)) if bound > max && !one.clamp_output => refuse(&bound.to_string()),
            (bound, _) => Ok(Seen::Number(bound)),
        },
        Rule::NotBefore | Rule::Expiry | Rule::ClientIp | Rule::Operation => Ok(Seen::Text("")),
    }
}

fn denial(rule: Rule, one: Bound<'_>, value: &str) -> Denial {
    Denial { rule, ceiling: one.project.map(str::to_owned), value: value.to_owned() }
}

#[cfg(test)]
mod tests;
