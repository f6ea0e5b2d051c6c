//! Each kind of row that grants power, in the form in which it is signed.

use super::Tampered;
use crate::store::budget::BudgetRecord;
use crate::store::credential::CredentialRecord;
use crate::store::model::ModelRecord;
use crate::store::operator::{OperatorRecord, TokenRecord};
use crate::store::project::ProjectRecord;
use crate::store::provider::ProviderRecord;
use crate::subkey::{Definition, ProjectState, SubKey};
use crate::vault::{PowerRow, PowerTable};
use chrono::{DateTime, SecondsFormat, Utc};
use data_encoding::HEXLOWER;

/// A sub-key with its secrets and its budgets, inactive ones too. The MACs of the secrets are in it: the MAC of a
/// secret that was rotated out, put in place of the live one's, would bring the old secret back.
pub(in crate::service) fn subkey_row(subkey: &SubKey, budgets: &[BudgetRecord]) -> PowerRow {
    let secret = |secret: &crate::subkey::SecretRecord| {
        let mac = HEXLOWER.encode(&secret.mac);
        let (created, expires) = (instant(secret.created_at), maybe(secret.expires_at));
        format!("{} {mac} {} {created} {expires}", secret.id, secret.mac_term)
    };
    PowerRow::new(PowerTable::Subkeys, subkey.id.as_str(), subkey.version)
        .text(subkey.state.as_str())
        .json(&signed_form(&subkey.definition))
        .time(subkey.created_at)
        .text(&subkey.created_by)
        .children("secrets", subkey.secrets.iter().map(secret))
        .children("budgets", budgets.iter().map(budget))
}

/// A definition in the form in which it is signed: one that refuses no beta values has the form that all had before
/// they could.
fn signed_form(definition: &Definition) -> serde_json::Value {
    let mut document = serde_json::to_value(definition).expect("a definition is JSON");
    if let Some(fields) = document.as_object_mut().filter(|_| definition.deny_betas.is_empty()) {
        fields.remove("deny_betas");
    }
    document
}

fn budget(budget: &BudgetRecord) -> String {
    let BudgetRecord { id, window, limit, timezone, active } = budget;
    format!("{id} {} {} {} {active}", window.as_str(), limit.as_nano(), timezone.name())
}

/// A provider.
pub(in crate::service) fn provider_row(provider: &ProviderRecord) -> PowerRow {
    PowerRow::new(PowerTable::Providers, &provider.slug, provider.version)
        .text(provider.status.as_str())
        .json(&provider.document)
        .time(provider.created_at)
}

/// A credential with its versions, each given as a text of its number and state. Their ciphertexts say by themselves
/// where they belong.
pub(in crate::service) fn credential_row(credential: &CredentialRecord, versions: Vec<String>) -> PowerRow {
    let row = PowerRow::new(PowerTable::Credentials, &credential.id, credential.version)
        .text(&credential.provider)
        .text(&credential.name)
        .number(credential.weight)
        .json(&credential.projects)
        .optional(credential.organization.as_deref())
        .optional(credential.openai_project.as_deref())
        .text(credential.status.as_str())
        .number(credential.secret_version)
        .time(credential.created_at)
        .text(&credential.created_by);
    // Without limits a row has the form that it had before there were any.
    let row = if credential.rate_limits.is_empty() {
        row
    } else {
        row.text("rate_limits").json(&credential.rate_limits)
    };
    row.children("versions", versions)
}

/// What an operator said about a model from a moment on.
pub(in crate::service) fn model_row(model: &ModelRecord) -> PowerRow {
    let id = format!("{}/{} {}", model.provider, model.name, instant(model.effective_from));
    PowerRow::new(PowerTable::Models, id, model.version)
        .text(&model.provider)
        .text(&model.name)
        .time(model.effective_from)
        .json(&model.document)
        .time(model.created_at)
}

/// An operator with its tokens.
pub(in crate::service) fn operator_row(operator: &OperatorRecord, tokens: &[TokenRecord]) -> PowerRow {
    let token = |token: &TokenRecord| {
        let hash = HEXLOWER.encode(&token.sha256);
        format!("{} {hash} {} {}", token.id, instant(token.created_at), maybe(token.expires_at))
    };
    PowerRow::new(PowerTable::Operators, &operator.id, operator.version)
        .text(&operator.name)
        .json(&operator.roles)
        .json(&operator.projects)
        .time(operator.created_at)
        .text(&operator.created_by)
        .children("tokens", tokens.iter().map(token))
}

/// A project with its budgets, inactive ones too. One that never set anything has the form that projects had before
/// they could.
pub(in crate::service) fn project_row(project: &ProjectRecord, budgets: &[BudgetRecord]) -> PowerRow {
    let ProjectRecord { slug, name, status, parent, document, version, created_at } = project;
    let row = PowerRow::new(PowerTable::Projects, slug, *version).text(name).time(*created_at);
    let is_plain = status == ProjectState::Active.as_str() && parent.is_none() && document.is_none();
    if is_plain && budgets.is_empty() {
        return row;
    }
    row.text(status)
        .optional(parent.as_deref())
        .json(document)
        .children("budgets", budgets.iter().map(budget))
}

/// Whether the row is one of these.
pub(super) fn is_among(rows: &[PowerRow], row: &Tampered) -> bool {
    rows.iter().any(|one| one.table.as_str() == row.table && one.id == row.id)
}

fn instant(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn maybe(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "-".to_owned(), instant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::NanoUsd;
    use crate::budget::{RateLimit, RateMetric, RatePeriod, Window};
    use crate::policy::BetaGlob;
    use crate::store::budget::{BudgetId, BudgetOwner};
    use crate::store::credential::CredentialStatus;
    use crate::store::provider::ProviderStatus;
    use crate::subkey::{SecretRecord, State, SubKeyId};
    use serde_json::json;

    type Key = (SubKey, Vec<BudgetRecord>);
    type Holder = (OperatorRecord, Vec<TokenRecord>);
    type One = (CredentialRecord, Vec<String>);
    type Owned = (ProjectRecord, Vec<BudgetRecord>);

    /// Each change alone makes another row, and no two make the same one.
    fn all_differ<T: Clone>(base: &T, row: impl Fn(&T) -> PowerRow, changes: &[fn(&mut T)]) {
        let mut seen = vec![row(base).canonical().to_vec()];
        for (index, change) in changes.iter().enumerate() {
            let mut other = base.clone();
            change(&mut other);
            let bytes = row(&other).canonical().to_vec();
            assert!(!seen.contains(&bytes), "change {index} is not signed");
            seen.push(bytes);
        }
    }

    fn limits(limit: u64) -> Vec<RateLimit> {
        vec![RateLimit { metric: RateMetric::Requests, limit, per: Some(RatePeriod::Minute) }]
    }

    fn later(time: &mut DateTime<Utc>) {
        *time += chrono::TimeDelta::microseconds(1);
    }

    fn at() -> DateTime<Utc> {
        "2026-11-22T16:00:00Z".parse().unwrap()
    }

    #[test]
    fn everything_about_a_sub_key_is_signed_but_its_last_use() {
        let id = SubKeyId::parse("0123456789abcdef").unwrap();
        let secret = SecretRecord {
            id: "sec_1".into(),
            mac: vec![1; 32],
            mac_term: 1,
            created_at: at(),
            expires_at: None,
            last_used_at: None,
        };
        let definition = serde_json::from_value(json!({"name": "n", "models": ["a/*"]})).unwrap();
        let subkey = SubKey {
            id: id.clone(),
            version: 1,
            definition,
            state: State::Active,
            secrets: vec![secret],
            created_at: at(),
            created_by: "ana".into(),
            last_used_at: None,
        };
        let budget = BudgetRecord {
            id: BudgetId::new(&BudgetOwner::subkey(&id), Window::Day),
            window: Window::Day,
            limit: NanoUsd::from_nano(1),
            timezone: chrono_tz::UTC,
            active: true,
        };
        let base: Key = (subkey, vec![budget]);
        let row = |(subkey, budgets): &Key| subkey_row(subkey, budgets);
        let says_betas = memchr::memmem::find(row(&base).canonical(), b"deny_betas").is_some();
        assert!(!says_betas, "whoever denies none is signed as all were before they could");
        all_differ(
            &base,
            row,
            &[
                |key| key.0.id = SubKeyId::parse("0123456789abcdeF").unwrap(),
                |key| key.0.version = 2,
                |key| key.0.definition.name = "m".into(),
                |key| key.0.definition.project = "other".into(),
                |key| key.0.definition.models.clear(),
                |key| key.0.definition.deny_betas = vec![BetaGlob::parse("x-*").unwrap()],
                |key| key.0.definition.allow_tools = false,
                |key| key.0.definition.expires_at = Some(at()),
                |key| key.0.definition.max_request_usd = Some(NanoUsd::from_nano(1)),
                |key| key.0.state = State::Suspended,
                |key| later(&mut key.0.created_at),
                |key| key.0.created_by = "eve".into(),
                |key| key.0.secrets.clear(),
                |key| key.0.secrets[0].id = "sec_2".into(),
                |key| key.0.secrets[0].mac[0] = 2,
                |key| key.0.secrets[0].mac_term = 2,
                |key| later(&mut key.0.secrets[0].created_at),
                |key| key.0.secrets[0].expires_at = Some(at()),
                |key| key.1.clear(),
                |key| key.1[0].window = Window::Hour,
                |key| key.1[0].limit = NanoUsd::from_nano(2),
                |key| key.1[0].timezone = chrono_tz::Europe::Berlin,
                |key| key.1[0].active = false,
            ],
        );
        let mut used = base.clone();
        used.0.last_used_at = Some(at());
        used.0.secrets[0].last_used_at = Some(at());
        assert_eq!(row(&used), row(&base));
    }

    #[test]
    fn everything_about_a_provider_and_a_model_is_signed() {
        let provider = ProviderRecord {
            slug: "p".into(),
            version: 1,
            document: json!({"a": 1}),
            status: ProviderStatus::Active,
            created_at: at(),
        };
        all_differ(
            &provider,
            provider_row,
            &[
                |one| one.slug = "q".into(),
                |one| one.version = 2,
                |one| one.document = json!({"a": 2}),
                |one| one.status = ProviderStatus::Suspended,
                |one| later(&mut one.created_at),
            ],
        );
        let model = ModelRecord {
            provider: "p".into(),
            name: "m".into(),
            effective_from: at(),
            version: 1,
            document: json!({"a": 1}),
            created_at: at(),
        };
        all_differ(
            &model,
            model_row,
            &[
                |one| one.provider = "q".into(),
                |one| one.name = "n".into(),
                |one| later(&mut one.effective_from),
                |one| one.version = 2,
                |one| one.document = json!({"a": 2}),
                |one| later(&mut one.created_at),
            ],
        );
    }

    #[test]
    fn everything_about_a_project_is_signed_and_one_that_sets_nothing_as_before() {
        let project = ProjectRecord {
            slug: "p".into(),
            name: "n".into(),
            status: "active".into(),
            parent: None,
            document: None,
            version: 1,
            created_at: at(),
        };
        let budget = BudgetRecord {
            id: BudgetId::new(&BudgetOwner::project("p"), Window::Day),
            window: Window::Day,
            limit: NanoUsd::from_nano(1),
            timezone: chrono_tz::UTC,
            active: true,
        };
        let before = PowerRow::new(PowerTable::Projects, "p", 1).text("n").time(at());
        assert_eq!(project_row(&project, &[]), before);
        let row = |(project, budgets): &Owned| project_row(project, budgets);
        let changes: [fn(&mut Owned); 12] = [
            |one| one.0.slug = "q".into(),
            |one| one.0.name = "m".into(),
            |one| one.0.version = 2,
            |one| later(&mut one.0.created_at),
            |one| one.0.status = "suspended".into(),
            |one| one.0.parent = Some("q".into()),
            |one| one.0.document = Some(json!({"slug": "p"})),
            |one| one.0.document = Some(json!({"slug": "p", "parent": "q"})),
            |one| one.1.iter_mut().for_each(|one| one.limit = NanoUsd::from_nano(2)),
            |one| one.1.iter_mut().for_each(|one| one.active = false),
            |one| one.1.iter_mut().for_each(|one| one.timezone = chrono_tz::Europe::Berlin),
            |one| one.1.clear(),
        ];
        all_differ(&(project.clone(), vec![budget]), row, &changes);
        all_differ(&(project, vec![]), row, &changes[..8]);
    }

    #[test]
    fn everything_about_an_operator_is_signed() {
        let operator = OperatorRecord {
            id: "op_1".into(),
            name: "ana".into(),
            roles: vec!["viewer".into()],
            projects: None,
            version: 1,
            created_at: at(),
            created_by: "local".into(),
        };
        let token = TokenRecord {
            id: "ot_1".into(),
            operator_id: "op_1".into(),
            sha256: [1; 32],
            created_at: at(),
            expires_at: None,
        };
        let row = |(operator, tokens): &Holder| operator_row(operator, tokens);
        all_differ(
            &(operator, vec![token]),
            row,
            &[
                |one| one.0.id = "op_2".into(),
                |one| one.0.name = "eve".into(),
                |one| one.0.roles = vec!["owner".into()],
                |one| one.0.projects = Some(Vec::new()),
                |one| one.0.version = 2,
                |one| later(&mut one.0.created_at),
                |one| one.0.created_by = "eve".into(),
                |one| one.1.clear(),
                |one| one.1[0].id = "ot_2".into(),
                |one| one.1[0].sha256[0] = 2,
                |one| later(&mut one.1[0].created_at),
                |one| one.1[0].expires_at = Some(at()),
            ],
        );
    }

    #[test]
    fn everything_about_a_credential_is_signed() {
        let credential = CredentialRecord {
            id: "cred_1".into(),
            provider: "p".into(),
            name: "n".into(),
            weight: 1,
            projects: Some(vec!["a".into()]),
            organization: None,
            openai_project: None,
            rate_limits: Vec::new(),
            status: CredentialStatus::Active,
            secret_version: 1,
            draining: None,
            rotation_due: None,
            version: 1,
            created_at: at(),
            created_by: "ana".into(),
        };
        let row = |(credential, versions): &One| credential_row(credential, versions.clone());
        all_differ(
            &(credential, vec!["1 active 0".into()]),
            row,
            &[
                |one| one.0.id = "cred_2".into(),
                |one| one.0.provider = "q".into(),
                |one| one.0.name = "m".into(),
                |one| one.0.weight = 2,
                |one| one.0.projects = None,
                |one| one.0.organization = Some("o".into()),
                |one| one.0.openai_project = Some("o".into()),
                |one| one.0.rate_limits = limits(1),
                |one| one.0.rate_limits = limits(2),
                |one| one.0.status = CredentialStatus::Disabled,
                |one| one.0.secret_version = 2,
                |one| one.0.version = 2,
                |one| later(&mut one.0.created_at),
                |one| one.0.created_by = "eve".into(),
                |one| one.1.push("2 active 0".into()),
                |one| one.1.clear(),
            ],
        );
    }
}
