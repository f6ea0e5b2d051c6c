//! Why a request would be refused or admitted: the same rules in the same order as the proxy's, nothing spent.

mod rates;

use super::{BudgetState, SubKeyState};
use crate::budget::Refusal;
use crate::policy::{self, BodyFacts, HeadFacts, Operation, Rule};
use crate::provider::ask::{Ask, Bound, InputMeasure, OutputAsk};
use crate::provider::price::Unpriced;
use crate::provider::resolve::{Candidate, Choice, ResolveError, Resolved, resolve};
use crate::provider::worst_case::{Estimate, Terms, worst_case};
use crate::provider::{Dialect, Slug};
use crate::service::{Actor, Metered, RateOwner, Rates, Services, Snapshot, StoreError};
use crate::subkey::{Definition, SubKeyId};
use crate::vault::Quarantine;
use std::net::IpAddr;
use std::sync::Arc;

/// A request that nobody makes.
#[derive(Clone, Debug)]
pub struct Question {
    /// What it would do.
    pub operation: Operation,
    /// The model as a client would write it.
    pub model: Option<String>,
    /// Where it would come from.
    pub client_ip: Option<IpAddr>,
    /// At most so many tokens of text in the input.
    pub input_tokens: u64,
    /// The output bound that it would state.
    pub max_output_tokens: Option<u64>,
}

/// What would become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Every rule in order. Those after the first refusal are judged all the same.
    pub trace: Vec<Step>,
}

/// One rule's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The rule: `quarantined`, a field of the sub-key, `status`, `model` (what the name means), `price`,
    /// `rate_limits/METRIC/PERIOD`, after `providers/SLUG/` and the like where it is not the key's, or `budgets/WINDOW`.
    pub rule: String,
    /// What it saw.
    pub value: String,
    /// Whether it admits that.
    pub allowed: bool,
}

impl Explanation {
    /// The rule that refuses first; `None` when the request would be admitted.
    pub fn denied_by(&self) -> Option<&str> {
        self.trace.iter().find(|step| !step.allowed).map(|step| step.rule.as_str())
    }
}

impl Step {
    fn new(rule: impl Into<String>, value: impl Into<String>, allowed: bool) -> Self {
        Self { rule: rule.into(), value: value.into(), allowed }
    }
}

impl Services {
    /// Judges a request without making it; `None` when there is no such sub-key within the operator's reach.
    pub async fn explain(
        &self,
        actor: &Actor,
        id: &SubKeyId,
        question: &Question,
    ) -> Result<Option<Explanation>, StoreError> {
        let Some(state) = self.subkey(actor, id).await? else { return Ok(None) };
        // What is not in memory has counted nothing.
        let fresh = || Arc::new(Rates::new(state.subkey.definition.rate_limits.clone(), u64::MAX));
        let rates = self.registry.rates(id).unwrap_or_else(fresh);
        let own = [Metered { owner: RateOwner::Subkey, rates }];
        let own = (&own[..], self.ledger.now());
        let mut explanation = explain((&state, own), &self.snapshot(), question, self.clock.now());
        if let Some(quarantine) = self.quarantine() {
            explanation.trace.insert(0, quarantined(&quarantine));
        }
        Ok(Some(explanation))
    }
}

/// What comes before everything else: every sub-key is suspended. The rule is the one that the access log names.
fn quarantined(Quarantine { since, reason, .. }: &Quarantine) -> Step {
    let value =
        format!("nothing is admitted since {since} ({reason}) until an operator releases the gateway");
    Step::new("quarantined", value, false)
}

fn explain(
    (state, (own, window_now)): (&SubKeyState, (&[Metered], chrono::DateTime<chrono::Utc>)),
    snapshot: &Snapshot,
    question: &Question,
    now: chrono::DateTime<chrono::Utc>,
) -> Explanation {
    let definition = &state.subkey.definition;
    let stopped = state.subkey.state;
    let mut trace = vec![Step::new("status", stopped.as_str(), stopped == crate::subkey::State::Active)];

    let needs_model = question.operation != Operation::Models;
    let written = question.model.as_deref().unwrap_or_default();
    let resolved = needs_model.then(|| resolve_any(definition, snapshot, question.operation, written));
    let head = HeadFacts { now, client_ip: question.client_ip, operation: question.operation };
    let found = resolved.as_ref().and_then(|resolved| resolved.as_ref().ok());
    let body = BodyFacts {
        model: found.map(|found| format!("{}/{}", found.provider, found.model)),
        output_bound: output_bound(definition, found, question),
        ..BodyFacts::default()
    };
    for (rule, verdict) in policy::explain(&definition.scope(), &head, &body) {
        match (rule, &resolved) {
            (Rule::Model, Some(Err(error))) => trace.push(unresolved(written, error)),
            _ => trace.push(match verdict {
                Ok(value) => Step::new(rule.as_str(), value, true),
                Err(denial) => Step::new(rule.as_str(), denial.value, false),
            }),
        }
    }
    let estimate = found.map(|found| estimate(definition, found, question, now));
    if let Some(estimate) = &estimate {
        trace.extend(price(definition, estimate.as_ref(), question));
    }
    let tokens = match &estimate {
        Some(Ok(estimate)) => Some(tokens(definition, estimate)),
        Some(Err(_)) => question.operation.is_free().then_some(0),
        None => Some(0),
    };
    trace.extend(rates::rates(own, (snapshot, definition, found), tokens, window_now));
    if let Some(Ok(estimate)) = &estimate {
        trace.extend(state.budgets.iter().map(|budget| of_budget(definition, budget, estimate)));
    }
    Explanation { trace }
}

/// What the name means in the first dialect that the model is served in.
fn resolve_any(
    definition: &Definition,
    snapshot: &Snapshot,
    operation: Operation,
    written: &str,
) -> Result<Resolved, ResolveError> {
    let dialects: Vec<Vec<Dialect>> =
        snapshot.providers.values().map(|entry| entry.provider.dialects.keys().copied().collect()).collect();
    let pin = definition.credential.as_deref();
    let candidates: Vec<Candidate<'_>> = snapshot
        .providers
        .iter()
        .zip(&dialects)
        .map(|((slug, entry), dialects)| {
            let fits = |one: &crate::service::Credential| one.is_usable(&definition.project, pin);
            Candidate { slug, dialects, usable: entry.active && entry.credentials.iter().any(fits) }
        })
        .collect();
    let order: Vec<Slug> = definition.provider_order.iter().filter_map(|slug| slug.parse().ok()).collect();
    let scope = definition.scope();
    let in_dialect = |dialect| {
        let choice = Choice {
            catalog: &snapshot.catalog,
            providers: &candidates,
            dialect,
            operation,
            fixed: None,
            allowed: &|name| scope.admits_model(name),
            provider_order: &order,
        };
        resolve(&choice, written)
    };
    match in_dialect(Dialect::OpenAi) {
        Err(ResolveError::DialectNotSupported { .. }) => {
            in_dialect(Dialect::Anthropic).or_else(|_| in_dialect(Dialect::Gemini))
        }
        answer => answer,
    }
}

fn unresolved(written: &str, error: &ResolveError) -> Step {
    match error {
        ResolveError::ModelNotAllowed { .. } => Step::new(Rule::Model.as_str(), written, false),
        ResolveError::UnknownProvider(_)
        | ResolveError::ModelRequired
        | ResolveError::NoCredential { .. }
        | ResolveError::DialectNotSupported { .. }
        | ResolveError::OperationNotServed { .. }
        | ResolveError::ModelAmbiguous { .. }
        | ResolveError::ProviderAmbiguous { .. } => Step::new("model", error.to_string(), false),
    }
}

/// The bound that the provider would go by, as the proxy takes it.
fn output_bound(definition: &Definition, found: Option<&Resolved>, question: &Question) -> Option<u64> {
    if !matches!(question.operation, Operation::Chat | Operation::Completions | Operation::Responses) {
        return None;
    }
    let ceiling = found.and_then(|found| found.entry.as_ref()).and_then(|model| model.max_output_tokens);
    let stated = question.max_output_tokens.or(definition.default_max_output_tokens);
    Some(stated.or(ceiling).unwrap_or(u64::MAX))
}

/// The price, and whether one request may cost that.
fn price(definition: &Definition, estimate: Result<&Estimate, &Unpriced>, question: &Question) -> Vec<Step> {
    let is_capped = !definition.budgets.is_empty() || definition.max_request_usd.is_some();
    let estimate = match estimate {
        Ok(estimate) => estimate,
        Err(error) => {
            let free = question.operation.is_free();
            return vec![Step::new("price", error.to_string(), free || !is_capped)];
        }
    };
    let mut steps = vec![Step::new("price", format!("at most {} USD", estimate.total), true)];
    if let Some(max) = definition.max_request_usd {
        let fits = estimate.total <= max || definition.clamp_to_budget && estimate.clamp(max).is_some();
        steps.push(Step::new("max_request_usd", format!("{} of {max} USD", estimate.total), fits));
    }
    steps
}

/// The most tokens, with the output bound lowered to what one request may cost.
fn tokens(definition: &Definition, estimate: &Estimate) -> u64 {
    let bound = definition.max_request_usd.filter(|max| estimate.total > *max);
    let bound = bound.and_then(|max| estimate.clamp(max));
    let output =
        bound.map_or(estimate.output_tokens, |bound| estimate.clone().with_output_bound(bound).output_tokens);
    estimate.input_tokens.saturating_add(output)
}

fn of_budget(definition: &Definition, budget: &BudgetState, estimate: &Estimate) -> Step {
    let remaining = budget.balance.remaining();
    let clamped = || definition.clamp_to_budget && estimate.clamp(remaining).is_some();
    let (allowed, why) = match budget.balance.admit(estimate.total) {
        Ok(()) => (true, ""),
        Err(Refusal::Exceeded | Refusal::Held) if clamped() => (true, ", with a lower output bound"),
        Err(Refusal::Held) => (false, ", the rest is held by requests in flight"),
        Err(Refusal::Exceeded) => (false, ""),
    };
    let value = format!("{} of {remaining} USD left{why}", estimate.total);
    Step::new(format!("budgets/{}", budget.spec.window.as_str()), value, allowed)
}

fn estimate(
    definition: &Definition,
    found: &Resolved,
    question: &Question,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Estimate, Unpriced> {
    let unpriced = || Unpriced::Model { direction: "input and output" };
    let model = found.entry.as_ref().ok_or_else(unpriced)?;
    let version = model.prices_at(now).ok_or_else(unpriced)?;
    let bound = |tokens| Bound { field: "max_output_tokens", tokens, span: 0..0 };
    let ask = Ask {
        input: InputMeasure { text_bytes: question.input_tokens, messages: 1, ..InputMeasure::default() },
        output: OutputAsk {
            bounds: question.max_output_tokens.map(bound).into_iter().collect(),
            ..OutputAsk::default()
        },
        ..Ask::default()
    };
    let terms = Terms {
        default_max_output_tokens: definition.default_max_output_tokens,
        service_tiers: &definition.service_tiers,
    };
    let estimate = worst_case(model, version, question.operation, &ask, terms)?;
    Ok(match definition.max_output_tokens {
        Some(max) if definition.clamp_output && max < estimate.output_bound => {
            estimate.with_output_bound(max)
        }
        _ => estimate,
    })
}
