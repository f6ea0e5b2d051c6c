//! How sub-keys look: every field of the contract, no secret, no MAC of one.

use crate::base::NanoUsd;
use crate::budget::BudgetSpec;
use crate::service::{BudgetState, Explanation, Services, Step, SubKeyState};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

/// A sub-key.
#[derive(Serialize)]
pub(super) struct SubKeyView {
    id: String,
    status: &'static str,
    /// Whether nothing is admitted for it whatever its status: as long as the gateway is in quarantine.
    quarantined: bool,
    /// The fields of mint and patch, without the budgets.
    #[serde(flatten)]
    definition: Map<String, Value>,
    budgets: Vec<BudgetView>,
    secrets: Vec<SecretView>,
    created_at: DateTime<Utc>,
    created_by: String,
    last_used_at: Option<DateTime<Utc>>,
    version: i64,
    parent_id: Option<String>,
}

/// A live secret, by name.
#[derive(Serialize)]
struct SecretView {
    id: String,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

/// A budget, and where it stands.
#[derive(Serialize)]
pub(super) struct BudgetView {
    #[serde(flatten)]
    spec: BudgetSpec,
    spent_usd: NanoUsd,
    held_usd: NanoUsd,
    remaining_usd: NanoUsd,
    resets_at: Option<DateTime<Utc>>,
}

impl SubKeyView {
    pub(super) fn new(state: SubKeyState, services: &Services) -> Self {
        let now = services.clock.now();
        let status = state.status(now);
        let live = state.subkey.live_secrets(now).map(|secret| SecretView {
            id: secret.id.clone(),
            created_at: secret.created_at,
            expires_at: secret.expires_at,
            last_used_at: secret.last_used_at,
        });
        let secrets = live.collect();
        let SubKeyState { subkey, budgets } = state;
        let mut definition = match serde_json::to_value(&subkey.definition) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) | Err(_) => Map::new(),
        };
        definition.remove("budgets");
        Self {
            id: subkey.id.as_str().to_owned(),
            status,
            quarantined: services.is_quarantined(),
            definition,
            budgets: budgets.into_iter().map(BudgetView::from).collect(),
            secrets,
            created_at: subkey.created_at,
            created_by: subkey.created_by,
            last_used_at: subkey.last_used_at,
            version: subkey.version,
            parent_id: None,
        }
    }
}

impl From<BudgetState> for BudgetView {
    fn from(BudgetState { spec, balance, resets_at }: BudgetState) -> Self {
        let remaining_usd = balance.remaining();
        Self { spec, spent_usd: balance.posted, held_usd: balance.held, remaining_usd, resets_at }
    }
}

/// What would become of a request.
#[derive(Serialize)]
pub(super) struct ExplanationView {
    allowed: bool,
    denied_by: Option<String>,
    trace: Vec<StepView>,
}

#[derive(Serialize)]
struct StepView {
    rule: String,
    value: String,
    verdict: &'static str,
}

impl From<Explanation> for ExplanationView {
    fn from(explanation: Explanation) -> Self {
        let denied_by = explanation.denied_by().map(str::to_owned);
        let step = |Step { rule, value, allowed }| StepView {
            rule,
            value,
            verdict: if allowed { "allowed" } else { "denied" },
        };
        let trace = explanation.trace.into_iter().map(step).collect();
        Self { allowed: denied_by.is_none(), denied_by, trace }
    }
}
