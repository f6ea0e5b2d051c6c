//! Why a request would be refused or admitted: the same rules in the same order as the proxy's, nothing spent.
//!
//! What a project above the sub-key says is named by it: `project:SLUG/status`, `project:SLUG/ceiling/FIELD` and
//! `project:SLUG/budgets/WINDOW`.

mod rates;

use super::SubKeyState;
use crate::base::NanoUsd;
use crate::budget::Refusal;
use crate::policy::{self, BodyFacts, HeadFacts, Operation, Rule};
use crate::provider::ask::{Ask, Bound, InputMeasure, Media, OutputAsk, PicturesAsk};
use crate::provider::price::Unpriced;
use crate::provider::resolve::{Candidate, Choice, ResolveError, Resolved, resolve};
use crate::provider::worst_case::{Estimate, Terms, worst_case};
use crate::provider::{Dialect, Slug};
use crate::service::{
    Actor, BudgetState, Lineage, Metered, RateOwner, Services, Snapshot, Standing, StoreError,
};
use crate::store::budget::BudgetOwner;
use crate::subkey::{Definition, SubKeyId};
use crate::vault::Quarantine;
use std::net::IpAddr;

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
    /// `rate_limits/METRIC/PERIOD` (`provider:SLUG/` and `credential:ID/` before it where it is theirs), `budgets/WINDOW`,
    /// or what a project says.
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
        let lineage = self.projects.lineage(&state.subkey.definition.project);
        let owners: Vec<_> = lineage
            .definitions()
            .map(|one| (BudgetOwner::project(&one.slug), one.budgets.as_slice()))
            .collect();
        let budgets = self.budgets_of(&mut self.store.read().await?.conn(), &owners).await?;
        let rates = self.registry.rates(&state.subkey);
        let own = Metered { owner: RateOwner::Subkey, rates };
        let metered: Vec<Metered> = std::iter::once(own).chain(lineage.metered()).collect();
        let binding = Binding {
            state: &state,
            lineage: &lineage,
            budgets: &budgets,
            metered: &metered,
            provider_order: &self.provider_order,
        };
        let moments = (self.clock.now(), self.ledger.rate_now());
        let mut explanation = explain(&binding, &self.snapshot(), question, moments);
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

/// What a request of the sub-key is held against.
struct Binding<'a> {
    state: &'a SubKeyState,
    lineage: &'a Lineage,
    /// Those of each project of the lineage.
    budgets: &'a [Vec<BudgetState>],
    /// The rates of the sub-key, and of each project of the lineage.
    metered: &'a [Metered],
    /// Whom bare model names prefer at last.
    provider_order: &'a [Slug],
}

/// Whether the projects admit anything, told by the one that does not, or else by the nearest.
fn of_projects(lineage: &Lineage, own: &str) -> Step {
    match lineage.standing() {
        Standing::Active => Step::new(format!("project:{own}/status"), "active", true),
        Standing::Suspended { project } => Step::new(format!("project:{project}/status"), "suspended", false),
        Standing::Unusable { project } => {
            Step::new(format!("project:{project}/status"), "changed outside of Bitting", false)
        }
    }
}

fn explain(
    binding: &Binding<'_>,
    snapshot: &Snapshot,
    question: &Question,
    (now, window_now): (chrono::DateTime<chrono::Utc>, chrono::DateTime<chrono::Utc>),
) -> Explanation {
    let Binding { state, lineage, .. } = *binding;
    let definition = &state.subkey.definition;
    let stopped = state.subkey.state;
    let mut trace = vec![
        Step::new("status", stopped.as_str(), stopped == crate::subkey::State::Active),
        of_projects(lineage, &definition.project),
    ];
    let own = definition.scope();
    let bounds = lineage.bounds(&own);
    let needs_model = question.operation != Operation::Models;
    let written = question.model.as_deref().unwrap_or_default();
    let resolved = needs_model.then(|| resolve_any(binding, snapshot, question.operation, written));
    let head = HeadFacts { now, client_ip: question.client_ip, operation: question.operation };
    let found = resolved.as_ref().and_then(|resolved| resolved.as_ref().ok());
    let body = BodyFacts {
        model: found.map(|found| format!("{}/{}", found.provider, found.model)),
        output_bound: output_bound(definition, found, question),
        ..BodyFacts::default()
    };
    for policy::Verdict { rule, ceiling, said } in policy::explain(bounds, &head, &body) {
        let name = match &ceiling {
            Some(project) => format!("project:{project}/ceiling/{}", rule.as_str()),
            None => rule.as_str().to_owned(),
        };
        match (rule, &resolved) {
            // There is no model that a ceiling could be asked about.
            (Rule::Model, Some(Err(error))) if ceiling.is_none() => trace.push(unresolved(written, error)),
            (Rule::Model, Some(Err(_))) => {}
            _ => trace.push(match said {
                Ok(value) => Step::new(name, value, true),
                Err(denial) => Step::new(name, denial.value, false),
            }),
        }
    }
    let estimate = found.map(|found| {
        let max_output = bounds.max_output_tokens();
        estimate(definition, max_output, found, question, now)
    });
    let is_capped =
        !definition.budgets.is_empty() || definition.max_request_usd.is_some() || lineage.is_capped();
    let may_be_unpriced = question.operation.is_free() || !is_capped;
    match &estimate {
        Some(Ok(estimate)) => trace.extend(price(binding, estimate)),
        Some(Err(error)) => trace.push(Step::new("price", error.to_string(), may_be_unpriced)),
        None => {}
    }
    let tokens = match &estimate {
        Some(Ok(estimate)) => Some(tokens(binding, estimate)),
        Some(Err(_)) => question.operation.is_free().then_some(0),
        None => Some(0),
    };
    trace.extend(rates::rates(binding, (snapshot, found), tokens, window_now));
    if let Some(Ok(estimate)) = &estimate {
        trace.extend(of_budgets(binding, estimate));
    }
    Explanation { trace }
}

/// What the name means in the first dialect that the model is served in.
fn resolve_any(
    binding: &Binding<'_>,
    snapshot: &Snapshot,
    operation: Operation,
    written: &str,
) -> Result<Resolved, ResolveError> {
    let (definition, lineage) = (&binding.state.subkey.definition, binding.lineage);
    let dialects: Vec<Vec<Dialect>> =
        snapshot.providers.values().map(|entry| entry.provider.dialects.keys().copied().collect()).collect();
    let pin = definition.credential.as_deref();
    let candidates: Vec<Candidate<'_>> = snapshot
        .providers
        .iter()
        .zip(&dialects)
        .map(|((slug, entry), dialects)| {
            let fits = |one: &crate::service::Credential| one.is_usable(lineage, pin);
            Candidate { slug, dialects, usable: entry.active && entry.credentials.iter().any(fits) }
        })
        .collect();
    let mut order = lineage.provider_order(&definition.provider_order);
    order.extend_from_slice(binding.provider_order);
    let own = definition.scope();
    let bounds = lineage.bounds(&own);
    let in_dialect = |dialect, allowed: &dyn Fn(&str) -> bool| {
        let choice = Choice {
            catalog: &snapshot.catalog,
            providers: &candidates,
            dialect,
            operation,
            fixed: None,
            allowed,
            provider_order: &order,
        };
        resolve(&choice, written)
    };
    let in_any = |allowed: &dyn Fn(&str) -> bool| match in_dialect(Dialect::OpenAi, allowed) {
        Err(ResolveError::DialectNotSupported { .. }) => {
            in_dialect(Dialect::Anthropic, allowed).or_else(|_| in_dialect(Dialect::Gemini, allowed))
        }
        answer => answer,
    };
    // As the proxy does: what a ceiling alone refuses is refused by its name.
    in_any(&|name| bounds.admits_model(name)).or_else(|error| match error {
        ResolveError::ModelNotAllowed { .. } => in_any(&|name| own.admits_model(name)).map_err(|_| error),
        error => Err(error),
    })
}

fn unresolved(written: &str, error: &ResolveError) -> Step {
    match error {
        ResolveError::ModelNotAllowed { .. } => Step::new(Rule::Model.as_str(), written, false),
        ResolveError::UnknownProvider(_)
        | ResolveError::ModelRequired
        | ResolveError::AnyModel
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
    // A default above the ceiling would be refused by the provider.
    let default = definition.default_max_output_tokens;
    let default = default.map(|default| ceiling.map_or(default, |ceiling| default.min(ceiling)));
    Some(question.max_output_tokens.or(default).or(ceiling).unwrap_or(u64::MAX))
}

/// The price, and whether one request may cost that.
fn price(binding: &Binding<'_>, estimate: &Estimate) -> Vec<Step> {
    let Binding { state, lineage, .. } = *binding;
    let definition = &state.subkey.definition;
    let mut steps = vec![Step::new("price", format!("at most {} USD", estimate.total), true)];
    let fits =
        |max: NanoUsd| estimate.total <= max || definition.clamp_to_budget && estimate.clamp(max).is_some();
    let value = |max: NanoUsd| format!("{} of {max} USD", estimate.total);
    if let Some(max) = definition.max_request_usd {
        steps.push(Step::new("max_request_usd", value(max), fits(max)));
    }
    for (project, max) in lineage.request_caps() {
        let name = format!("project:{project}/ceiling/max_request_usd");
        steps.push(Step::new(name, value(max), fits(max)));
    }
    steps
}

/// The most tokens, with the output bound lowered to what one request may cost.
fn tokens(binding: &Binding<'_>, estimate: &Estimate) -> u64 {
    let Binding { state, lineage, .. } = *binding;
    let max = lineage.request_cap(state.subkey.definition.max_request_usd).map(|(_, max)| max);
    let bound = max.filter(|max| estimate.total > *max).and_then(|max| estimate.clamp(max));
    let output =
        bound.map_or(estimate.output_tokens, |bound| estimate.clone().with_output_bound(bound).output_tokens);
    estimate.input_tokens.saturating_add(output)
}

/// The budgets, in the order in which they refuse.
fn of_budgets(binding: &Binding<'_>, estimate: &Estimate) -> Vec<Step> {
    let Binding { state, lineage, budgets, .. } = *binding;
    let own = std::iter::once((String::new(), state.budgets.as_slice()));
    let above = lineage.slugs().zip(budgets).map(|(slug, of)| (format!("project:{slug}/"), of.as_slice()));
    let mut steps = Vec::new();
    for (owner, budgets) in own.chain(above) {
        let mut by_window: Vec<&BudgetState> = budgets.iter().collect();
        by_window.sort_by_key(|budget| budget.spec.window);
        let definition = &state.subkey.definition;
        steps.extend(by_window.into_iter().map(|budget| of_budget(definition, &owner, budget, estimate)));
    }
    steps
}

fn of_budget(definition: &Definition, owner: &str, budget: &BudgetState, estimate: &Estimate) -> Step {
    let remaining = budget.balance.remaining();
    let clamped = || definition.clamp_to_budget && estimate.clamp(remaining).is_some();
    let (allowed, why) = match budget.balance.admit(estimate.total) {
        Ok(()) => (true, ""),
        Err(Refusal::Exceeded | Refusal::Held) if clamped() => (true, ", with a lower output bound"),
        Err(Refusal::Held) => (false, ", the rest is held by requests in flight"),
        Err(Refusal::Exceeded) => (false, ""),
    };
    let value = format!("{} of {remaining} USD left{why}", estimate.total);
    Step::new(format!("{owner}budgets/{}", budget.spec.window.as_str()), value, allowed)
}

fn estimate(
    definition: &Definition,
    max_output: Option<u64>,
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
        // Nobody says what picture it is to be: one of any kind.
        media: (question.operation == Operation::Images)
            .then(|| Media::Pictures(PicturesAsk { count: 1, ..PicturesAsk::default() })),
        ..Ask::default()
    };
    let terms = Terms {
        default_max_output_tokens: definition.default_max_output_tokens,
        service_tiers: &definition.service_tiers,
    };
    let estimate = worst_case(model, version, question.operation, &ask, terms)?;
    Ok(match max_output {
        Some(max) if definition.clamp_output && max < estimate.output_bound => {
            estimate.with_output_bound(max)
        }
        _ => estimate,
    })
}
