//! Credentials: the real keys of providers. They go in, are sealed at once, and never come out here.

mod rotation;

pub use rotation::Rotation;

use super::provider::sealed_secret;
use super::vault::Change;
use super::{Actor, AlreadyDone, GuardError, Services, StoreError, binding};
use crate::base::Secret;
use crate::budget::{RateLimit, check_rate_limits};
use crate::provider::endpoint::{Provider, ProviderDocument};
use crate::store::credential::{CredentialRecord, CredentialStatus, SealedSecret};
use crate::store::{self, Conn};
use crate::vault::seal_credential;
use serde_json::json;

/// A provider's key, as an operator puts it in.
pub struct NewCredential {
    /// Unique among the provider's.
    pub name: String,
    /// The key.
    pub secret: Secret<String>,
    /// Its share of the provider's requests.
    pub weight: u32,
    /// The projects that may use it; `None` is all.
    pub projects: Option<Vec<String>>,
    /// Sent as `openai-organization`.
    pub organization: Option<String>,
    /// Sent as `openai-project`.
    pub openai_project: Option<String>,
    /// What may be sent with it, whoever sends it.
    pub rate_limits: Vec<RateLimit>,
}

/// A field of a credential that makes no sense. It never repeats what was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct CredentialFault {
    /// The field, as a JSON pointer.
    pub field: String,
    /// What to write instead.
    pub detail: &'static str,
}

/// Why a credential was not put in, rotated or disabled.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// There is no such provider, or it has no such credential.
    #[error("there is no such provider or credential")]
    NotFound,
    /// It is not at the version that the call named.
    #[error("the credential was changed meanwhile")]
    Moved,
    /// A field makes no sense.
    #[error(transparent)]
    Fault(#[from] CredentialFault),
    /// The provider cannot be used, so there is no place to seal a key for.
    #[error("the provider's document cannot be used; patch it first")]
    ProviderUnusable,
    /// The provider has one of that name.
    #[error("the provider has a credential of this name")]
    NameTaken {
        /// That credential.
        id: String,
    },
    /// The provider refused the new key; nothing was changed.
    #[error("the provider refused the new key ({status}); nothing was changed")]
    NotAccepted {
        /// The status of the provider's answer.
        status: u16,
    },
    /// Whether the provider takes the new key could not be found out; nothing was changed.
    #[error("the new key could not be tried: {reason}; nothing was changed")]
    ProbeFailed {
        /// What happened, in words.
        reason: String,
    },
    /// The request is a repeat.
    #[error(transparent)]
    AlreadyDone(#[from] AlreadyDone),
    /// It is written and not in force yet; the same call again, or a restart, puts it in force.
    #[error("the change is written and could not be put in force")]
    NotInForce(StoreError),
    /// The vault is sealed, or a row was changed outside of Bitting.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

const SECRET_BYTES_MAX: usize = 8 * 1024;
const WEIGHT_MAX: u32 = 1_000_000;
const PROJECTS_MAX: usize = 256;

impl Services {
    /// The provider's credentials, by name; `None` when there is no such provider.
    pub async fn list_credentials(
        &self,
        provider: &str,
    ) -> Result<Option<Vec<CredentialRecord>>, StoreError> {
        let mut read = self.store.read().await?;
        if store::provider::get(&mut read.conn(), provider).await?.is_none() {
            return Ok(None);
        }
        let mut all = store::credential::list(&mut read.conn()).await?;
        all.retain(|credential| credential.provider == provider);
        Ok(Some(all))
    }

    /// Seals a key for its provider. In use when this returns.
    pub async fn create_credential(
        &self,
        actor: &Actor,
        provider: &str,
        new: NewCredential,
    ) -> Result<CredentialRecord, CredentialError> {
        check(&new)?;
        check_secret(&new.secret)?;
        let NewCredential { name, secret, weight, projects, organization, openai_project, rate_limits } = new;
        let record = CredentialRecord {
            id: self.entropy.id("cred"),
            provider: provider.to_owned(),
            name,
            weight: i64::from(weight),
            projects,
            organization,
            openai_project,
            rate_limits,
            status: CredentialStatus::Active,
            secret_version: 1,
            draining: None,
            rotation_due: None,
            version: 1,
            created_at: self.clock.now(),
            created_by: actor.operator.name.clone(),
        };
        let mut tx = self.change().await?;
        self.claim(&mut tx.conn(), actor, &record.id).await??;
        let sealed = self.seal_for(&mut tx, &record, 1, &secret).await?;
        match store::credential::insert(&mut tx.conn(), &record).await {
            Ok(()) => {}
            Err(StoreError::Conflict { .. }) => {
                drop(tx);
                let all = self.list_credentials(provider).await?.unwrap_or_default();
                let holder = all.into_iter().find(|other| other.name == record.name);
                return Err(CredentialError::NameTaken {
                    id: holder.map(|other| other.id).unwrap_or_default(),
                });
            }
            Err(error) => return Err(error.into()),
        }
        store::credential::insert_secret(&mut tx.conn(), &record.id, 1, &sealed, record.created_at).await?;
        tx.sign_credential(&record.id).await?;
        let detail = json!({
            "provider": provider, "name": record.name, "projects": record.projects, "rate_limits": record.rate_limits,
        });
        self.note(&mut tx.conn(), actor, "credential.create", &record.id, detail).await?;
        tx.commit().await?;
        self.reload_directory().await.map_err(CredentialError::NotInForce)?;
        Ok(record)
    }

    /// Limits what may be sent with the key. What counts in a window that is not over counts under the new limits.
    pub async fn limit_credential(
        &self,
        actor: &Actor,
        (provider, id): (&str, &str),
        expected: Option<i64>,
        limits: Vec<RateLimit>,
    ) -> Result<CredentialRecord, CredentialError> {
        check_limits(&limits)?;
        let mut tx = self.change().await?;
        self.claim(&mut tx.conn(), actor, id).await??;
        let mut record = found(&mut tx.conn(), provider, id, expected).await?;
        tx.check_credential(&record).await?;
        if record.rate_limits != limits {
            let version =
                store::credential::set_rate_limits(&mut tx.conn(), id, record.version, &limits).await?;
            record.version = version.ok_or(CredentialError::Moved)?;
            tx.sign_credential(id).await?;
            let detail = json!({"provider": provider, "before": record.rate_limits, "after": limits});
            self.note(&mut tx.conn(), actor, "credential.patch", id, detail).await?;
            record.rate_limits = limits;
        }
        tx.commit().await?;
        self.reload_directory().await.map_err(CredentialError::NotInForce)?;
        Ok(record)
    }

    /// The credential, if the provider has it.
    pub async fn credential(&self, provider: &str, id: &str) -> Result<CredentialRecord, CredentialError> {
        let mut read = self.store.read().await?;
        found(&mut read.conn(), provider, id, None).await
    }

    /// Disables the key: nothing is sent with it when this returns. What is disabled already stays so.
    pub async fn disable_credential(
        &self,
        actor: &Actor,
        (provider, id): (&str, &str),
        expected: Option<i64>,
    ) -> Result<CredentialRecord, CredentialError> {
        let mut tx = self.change().await?;
        self.claim(&mut tx.conn(), actor, id).await??;
        let mut record = found(&mut tx.conn(), provider, id, expected).await?;
        tx.check_credential(&record).await?;
        if record.status != CredentialStatus::Disabled {
            record.status = CredentialStatus::Disabled;
            let version =
                store::credential::set_status(&mut tx.conn(), id, record.version, record.status).await?;
            record.version = version.ok_or(CredentialError::Moved)?;
            tx.sign_credential(id).await?;
            let detail = json!({"provider": provider});
            self.note(&mut tx.conn(), actor, "credential.disable", id, detail).await?;
        }
        tx.commit().await?;
        self.reload_directory().await.map_err(CredentialError::NotInForce)?;
        Ok(record)
    }

    /// Seals a key for the place where the provider is now.
    async fn seal_for(
        &self,
        change: &mut Change,
        credential: &CredentialRecord,
        secret_version: i64,
        secret: &Secret<String>,
    ) -> Result<SealedSecret, CredentialError> {
        let provider = self.usable_provider(change, &credential.provider).await?;
        let place = binding(&self.installation, &provider, &credential.id, secret_version);
        let sealed = sealed_secret(&seal_credential(&self.entropy, change.keyring(), &place, secret));
        store::term::count_uses(&mut change.conn(), sealed.term, 1, self.clock.now()).await?;
        Ok(sealed)
    }

    /// The provider as it is now.
    async fn usable_provider(&self, change: &mut Change, slug: &str) -> Result<Provider, CredentialError> {
        let record = store::provider::get(&mut change.conn(), slug).await?;
        let record = record.ok_or(CredentialError::NotFound)?;
        // A key must not be sealed for, or sent to, a place that was put in by SQL.
        change.check_provider(&record).map_err(GuardError::from)?;
        let document: Option<ProviderDocument> = serde_json::from_value(record.document).ok();
        let provider = document.and_then(|document| document.check(&self.private_upstreams).ok());
        provider.ok_or(CredentialError::ProviderUnusable)
    }
}

async fn found(
    conn: &mut Conn<'_>,
    provider: &str,
    id: &str,
    expected: Option<i64>,
) -> Result<CredentialRecord, CredentialError> {
    let record = store::credential::get(conn, id).await?.filter(|record| record.provider == provider);
    let record = record.ok_or(CredentialError::NotFound)?;
    match expected {
        Some(expected) if expected != record.version => Err(CredentialError::Moved),
        Some(_) | None => Ok(record),
    }
}

fn check(new: &NewCredential) -> Result<(), CredentialFault> {
    let fault = |field: &str, detail| Err(CredentialFault { field: field.to_owned(), detail });
    let name_fits = (1..=128).contains(&new.name.len()) && !new.name.chars().any(char::is_control);
    if !name_fits || new.name.trim() != new.name {
        return fault("/name", "a name has 1 to 128 bytes, no control characters and no spaces around it");
    }
    if new.weight > WEIGHT_MAX {
        return fault("/weight", "a weight is at most 1000000");
    }
    if new.projects.as_ref().is_some_and(|projects| projects.len() > PROJECTS_MAX) {
        return fault("/projects", "at most 256 projects");
    }
    for (field, value) in [("/organization", &new.organization), ("/openai_project", &new.openai_project)] {
        if value.as_ref().is_some_and(|value| !is_visible(value) || value.len() > 256) {
            return fault(field, "1 to 256 visible ASCII characters");
        }
    }
    check_limits(&new.rate_limits)
}

fn check_limits(limits: &[RateLimit]) -> Result<(), CredentialFault> {
    check_rate_limits(limits)
        .map_err(|fault| CredentialFault { field: format!("/rate_limits{}", fault.at), detail: fault.detail })
}

/// A key goes into a header as it is, so it is refused rather than trimmed.
fn check_secret(secret: &Secret<String>) -> Result<(), CredentialFault> {
    let secret = secret.expose();
    if is_visible(secret) && secret.len() <= SECRET_BYTES_MAX {
        return Ok(());
    }
    let detail = "a key is 1 to 8192 visible ASCII characters, without spaces or line ends";
    Err(CredentialFault { field: "/secret".to_owned(), detail })
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_no_header_value_is_refused_and_not_repeated() {
        for bad in ["", "sk canary", "sk-canary\n", "\u{feff}sk-canary", "sk-\u{e9}", " sk-canary"] {
            let fault = check_secret(&Secret::new(bad.to_owned())).unwrap_err();
            assert_eq!(fault.field, "/secret");
            assert!(!fault.to_string().contains("canary"));
        }
        assert!(check_secret(&Secret::new("sk-proj-abc_123".to_owned())).is_ok());
        assert!(check_secret(&Secret::new("x".repeat(SECRET_BYTES_MAX + 1))).is_err());
    }
}
