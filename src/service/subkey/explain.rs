//! Why a request would be refused or admitted: by what the proxy itself goes by, in its order, nothing spent.
//!
//! What a project above the sub-key says is named by it: `project:SLUG/status`, `project:SLUG/ceiling/FIELD` and
//! `project:SLUG/budgets/WINDOW`.

mod asked;
mod budgets;
mod rates;

pub use asked::Asked;

use self::asked::Request;
use self::budgets::Standing;
use crate::policy::{self, BodyFacts, HeadFacts, Operation, Rule, Verdict};
use crate::provider::ask::{Ask, AskError, Plain};
use crate::provider::operation::{Effect, Matched};
use crate::provider::{ResolveError, Resolved};
use crate::service::{
    Actor, Caller, Case, KeeperError, Kept, Misplaced, ObjectError, ObjectName, Services, Snapshot, Stopped,
    StoreError, read_set_betas,
};
use crate::subkey::SubKeyId;
use crate::vault::Quarantine;
use http::HeaderMap;
use std::net::IpAddr;

/// A request that nobody makes.
#[derive(Clone, Debug)]
pub struct Question {
    /// What it would ask for.
    pub asked: Asked,
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
    /// Every rule in order. Those after the first refusal are judged all the same, as far as there is anything to judge.
    pub trace: Vec<Step>,
}

/// One rule's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The rule: `sealed`, `quarantined`, `status`, `request` (what would be asked for), a field of the sub-key, `object`,
    /// `model` (what the name means), `body`, `price`, `rate_limits/METRIC/PERIOD` (`provider:SLUG/` and `credential:ID/`
    /// before it where it is theirs), `budgets/WINDOW`, or what a project says.
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
        if self.subkey(actor, id).await?.is_none() {
            return Ok(None);
        }
        let keyring = match self.vault.keyring() {
            Ok(keyring) => keyring,
            Err(sealed) => {
                return Ok(Some(Explanation { trace: vec![Step::new("sealed", sealed.to_string(), false)] }));
            }
        };
        let Some(caller) = self.caller_of(id, &keyring).await? else { return Ok(None) };
        let standing = self.standing(&caller).await?;
        let snapshot = self.snapshot();
        let mut trace = Vec::new();
        trace.extend(self.quarantine().as_ref().map(quarantined));
        let judge =
            Judge { services: self, caller: &caller, snapshot: &snapshot, question, standing: &standing };
        judge.judge(&mut trace).await?;
        Ok(Some(Explanation { trace }))
    }
}

/// What comes before everything else: every sub-key is suspended. The rule is the one that the access log names.
fn quarantined(Quarantine { since, reason, .. }: &Quarantine) -> Step {
    let value =
        format!("nothing is admitted since {since} ({reason}) until an operator releases the gateway");
    Step::new("quarantined", value, false)
}

/// A question, and what it is held against.
struct Judge<'a> {
    services: &'a Services,
    caller: &'a Caller,
    snapshot: &'a Snapshot,
    question: &'a Question,
    standing: &'a [Standing],
}

/// What a request came to, as far as it is known.
struct Placed {
    resolved: Resolved,
    kept: Option<Kept>,
}

impl Judge<'_> {
    async fn judge(&self, trace: &mut Vec<Step>) -> Result<(), StoreError> {
        let now = self.services.clock.now();
        trace.extend(self.key());
        let requests = Request::all(&self.question.asked, self.question.model.as_deref());
        let Some(first) = requests.first() else {
            // What an unknown path asks for, no policy lists.
            let head = HeadFacts { now, client_ip: self.question.client_ip, operation: Operation::Models };
            trace.extend(self.policy(&head, None, None));
            let why = if self.question.model.is_none() && self.question.asked.needs_model() {
                "name a model: the path of this operation has it"
            } else {
                "no operation that this gateway knows"
            };
            trace.push(Step::new("request", why, false));
            return Ok(());
        };
        // In the first dialect that has an answer.
        let mut at = 0;
        while at + 1 < requests.len() && self.is_elsewhere(&requests[at]) {
            at += 1;
        }
        let request = requests.get(at).unwrap_or(first);
        let Some(matched) = request.matched() else { return Ok(()) };
        trace.push(Step::new("request", request.to_string(), true));
        let head = HeadFacts { now, client_ip: self.question.client_ip, operation: matched.row.operation };
        match matched.row.effect {
            Effect::NotServed => {
                trace.extend(self.policy(&head, None, None));
                let value = format!("this gateway does not serve {}", matched.row.operation.as_str());
                trace.push(Step::new(Rule::Operation.as_str(), value, false));
            }
            Effect::ListsModels => self.list_of_models(&matched, &head, trace),
            _ => self.request(&matched, &head, trace).await?,
        }
        Ok(())
    }

    /// Whether the model, or what needs none, is served in another dialect alone.
    fn is_elsewhere(&self, request: &Request) -> bool {
        let Some(matched) = request.matched() else { return true };
        let Ok(ask) = self.ask(&matched) else { return false };
        match self.case(&matched, &ask).resolve(None) {
            Err(Misplaced::Unresolved(error)) => match error {
                ResolveError::DialectNotSupported { .. } => true,
                ResolveError::ProviderAmbiguous { providers } => providers.is_empty(),
                ResolveError::UnknownProvider(_)
                | ResolveError::ModelRequired
                | ResolveError::AnyModel
                | ResolveError::ModelNotAllowed { .. }
                | ResolveError::NoCredential { .. }
                | ResolveError::OperationNotServed { .. }
                | ResolveError::ModelAmbiguous { .. } => false,
            },
            Ok(_) | Err(Misplaced::Ambiguous(_) | Misplaced::Twice { .. } | Misplaced::Deployment { .. }) => {
                false
            }
        }
    }

    /// Whether the key, and each project above it, admits anything.
    fn key(&self) -> Vec<Step> {
        let subkey = &self.caller.key.subkey;
        let stopped = self.caller.stopped(self.services.clock.now());
        let own = format!("project:{}/status", subkey.definition.project);
        // Time has rules of its own.
        let status = if stopped == Some(Stopped::Tampered) {
            Step::new("status", "changed outside of Bitting", false)
        } else {
            let is_active = subkey.state == crate::subkey::State::Active;
            Step::new("status", subkey.state.as_str(), is_active)
        };
        let project = match stopped {
            Some(Stopped::ProjectSuspended(project)) => {
                Step::new(format!("project:{project}/status"), "suspended", false)
            }
            Some(Stopped::ProjectUnusable(project)) => {
                Step::new(format!("project:{project}/status"), "changed outside of Bitting", false)
            }
            _ => Step::new(own, "active", true),
        };
        vec![status, project]
    }

    fn ask(&self, matched: &Matched<'_>) -> Result<Ask, AskError> {
        let Question { model, input_tokens, max_output_tokens, .. } = self.question;
        // A path that names the model is all that names it.
        let model = model.as_deref().filter(|_| matched.model().is_none());
        let of = Plain { model, text_bytes: *input_tokens, max_output_tokens: *max_output_tokens };
        Ask::plain(matched.row, of)
    }

    fn case<'c>(&'c self, matched: &'c Matched<'c>, ask: &'c Ask) -> Case<'c> {
        let Self { caller, snapshot, services, .. } = *self;
        Case {
            caller,
            snapshot,
            provider_order: &services.provider_order,
            matched,
            ask,
            now: services.clock.now(),
        }
    }

    /// What is answered from the catalog: nothing of it is sent or spent.
    fn list_of_models(&self, matched: &Matched<'_>, head: &HeadFacts, trace: &mut Vec<Step>) {
        trace.extend(self.policy(head, None, None));
        trace.extend(self.rates(None, Some(0)));
        if let Some(wanted) = matched.model() {
            let is_there = self.case(matched, &Ask::default()).usable_model(wanted).is_some();
            trace.push(Step::new("object", wanted, is_there));
        }
    }

    async fn request(
        &self,
        matched: &Matched<'_>,
        head: &HeadFacts,
        trace: &mut Vec<Step>,
    ) -> Result<(), StoreError> {
        let mut ask = match self.ask(matched) {
            Ok(ask) => ask,
            Err(error) => {
                trace.extend(self.policy(head, None, None));
                let rule = if matches!(error, AskError::ModelRequired) { "model" } else { "body" };
                trace.push(Step::new(rule, error.to_string(), false));
                return Ok(());
            }
        };
        let kept = match self.kept(matched).await? {
            Ok(kept) => kept,
            Err(step) => {
                trace.extend(self.policy(head, None, None));
                trace.push(step);
                return Ok(());
            }
        };
        let resolved = self.case(matched, &ask).resolve(kept.as_ref());
        let placed = resolved.map(|resolved| Placed { resolved, kept });
        if let Ok(placed) = &placed {
            read_set_betas((&mut ask, &HeaderMap::new()), self.snapshot, matched.row, &placed.resolved);
        }
        let case = self.case(matched, &ask);
        let facts = match &placed {
            Ok(placed) => case.facts(&placed.resolved, placed.kept.as_ref()),
            Err(_) => BodyFacts::default(),
        };
        let misplaced = placed.as_ref().err();
        trace.extend(self.policy(head, Some(&facts), misplaced));
        let placed = placed.ok();
        let estimate = placed.as_ref().and_then(|placed| case.estimate(&placed.resolved));
        match &estimate {
            Some(Ok(priced)) => trace.extend(self.price(priced)),
            Some(Err(error)) => trace.push(Step::new("price", error.to_string(), !self.caller.is_capped())),
            None => {}
        }
        let tokens = match &estimate {
            Some(Ok(priced)) => self.tokens(priced),
            Some(Err(_)) => None,
            None => Some(0),
        };
        // A list is answered from our own record: the provider's and the credentials' rates are not touched.
        let shared = placed.as_ref().filter(|_| !matches!(matched.row.effect, Effect::Lists(_)));
        trace.extend(self.rates(shared, tokens));
        if !matched.row.is_free() {
            trace.extend(self.budgets(estimate.as_ref().and_then(|estimate| estimate.as_ref().ok())));
        }
        Ok(())
    }

    /// Where the object is kept that the path names.
    async fn kept(&self, matched: &Matched<'_>) -> Result<Result<Option<Kept>, Step>, StoreError> {
        let Some(id) = matched.object() else { return Ok(Ok(None)) };
        let fixed = matched.provider.and_then(|slug| slug.parse().ok());
        let name = ObjectName { kind: matched.row.effect.kind(), id };
        let found = self.services.keeper(self.caller, self.snapshot, fixed.as_ref(), &[name]).await;
        Ok(match found {
            Ok(kept) => Ok(kept),
            Err(KeeperError::Object(ObjectError::Store(error))) => return Err(error),
            Err(
                error @ (KeeperError::Object(
                    ObjectError::NotFound { .. }
                    | ObjectError::Ambiguous { .. }
                    | ObjectError::TooMany { .. },
                )
                | KeeperError::DifferentAccounts
                | KeeperError::Credential { .. }),
            ) => Err(Step::new("object", error.to_string(), false)),
        })
    }

    /// The verdicts of the policy, of the head alone where nothing is known of the body. Where no model is meant, that stands in the place of what it says of the model.
    fn policy(&self, head: &HeadFacts, body: Option<&BodyFacts>, misplaced: Option<&Misplaced>) -> Vec<Step> {
        let verdicts = policy::explain(self.caller.bounds(), head, body);
        let step = |Verdict { rule, ceiling, said }: Verdict| {
            // There is no model that a ceiling could be asked about.
            if let (Rule::Model, Some(error)) = (rule, misplaced) {
                return ceiling.is_none().then(|| misplaced_by(error));
            }
            let name = match &ceiling {
                Some(project) => format!("project:{project}/ceiling/{}", rule.as_str()),
                None => rule.as_str().to_owned(),
            };
            Some(match said {
                Ok(value) => Step::new(name, value, true),
                Err(denial) => Step::new(name, denial.value, false),
            })
        };
        verdicts.into_iter().filter_map(step).collect()
    }
}

fn misplaced_by(error: &Misplaced) -> Step {
    match error {
        Misplaced::Unresolved(ResolveError::ModelNotAllowed { model }) => {
            Step::new(Rule::Model.as_str(), model.as_str(), false)
        }
        Misplaced::Unresolved(
            ResolveError::UnknownProvider(_)
            | ResolveError::ModelRequired
            | ResolveError::AnyModel
            | ResolveError::NoCredential { .. }
            | ResolveError::DialectNotSupported { .. }
            | ResolveError::OperationNotServed { .. }
            | ResolveError::ModelAmbiguous { .. }
            | ResolveError::ProviderAmbiguous { .. },
        )
        | Misplaced::Ambiguous(_)
        | Misplaced::Twice { .. }
        | Misplaced::Deployment { .. } => Step::new("model", error.to_string(), false),
    }
}
