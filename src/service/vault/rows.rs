//! Each kind of row that grants power, in the form in which it is signed.

use crate::store::budget::BudgetRecord;
use crate::store::credential::CredentialRecord;
use crate::store::model::ModelRecord;
use crate::store::operator::{OperatorRecord, TokenRecord};
use crate::store::project::ProjectRecord;
use crate::store::provider::ProviderRecord;
use crate::subkey::SubKey;
use crate::vault::{PowerRow, PowerTable};
use chrono::{DateTime, SecondsFormat, Utc};
use data_encoding::HEXLOWER;

/// A sub-key with the ids and times of its secrets and with its budgets, inactive ones too. The MACs of the secrets
/// are not in it: they are made with the pepper, and are made anew when that rotates.
pub(in crate::service) fn subkey_row(subkey: &SubKey, budgets: &[BudgetRecord]) -> PowerRow {
    let secret = |secret: &crate::subkey::SecretRecord| {
        format!("{} {} {}", secret.id, instant(secret.created_at), maybe(secret.expires_at))
    };
    let budget = |budget: &BudgetRecord| {
        let BudgetRecord { id, window, limit, timezone, active } = budget;
        format!("{id} {} {} {} {active}", window.as_str(), limit.as_nano(), timezone.name())
    };
    PowerRow::new(PowerTable::Subkeys, subkey.id.as_str(), subkey.version)
        .text(subkey.state.as_str())
        .json(&subkey.definition)
        .time(subkey.created_at)
        .text(&subkey.created_by)
        .children("secrets", subkey.secrets.iter().map(secret))
        .children("budgets", budgets.iter().map(budget))
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
    PowerRow::new(PowerTable::Credentials, &credential.id, credential.version)
        .text(&credential.provider)
        .text(&credential.name)
        .number(credential.weight)
        .json(&credential.projects)
        .optional(credential.organization.as_deref())
        .optional(credential.openai_project.as_deref())
        .text(credential.status.as_str())
        .number(credential.secret_version)
        .time(credential.created_at)
        .text(&credential.created_by)
        .children("versions", versions)
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

/// A project.
pub(in crate::service) fn project_row(project: &ProjectRecord) -> PowerRow {
    PowerRow::new(PowerTable::Projects, &project.slug, project.version)
        .text(&project.name)
        .time(project.created_at)
}

fn instant(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn maybe(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "-".to_owned(), instant)
}
