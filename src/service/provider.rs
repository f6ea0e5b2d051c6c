//! Providers for operators.
//!
//! A provider's keys are sealed for its origins. A change of an origin seals each of them anew in the transaction of
//! the change, so a base URL that was edited behind our back opens nothing. A change is in force when the call returns.

use super::vault::Change;
use super::{Actor, AlreadyDone, GuardError, Services, StoreError, binding};
use crate::provider::endpoint::{Provider, ProviderDocument, ProviderError};
use crate::store::credential::SealedSecret;
use crate::store::provider::{ProviderRecord, ProviderStatus};
use crate::store::{self, Conn};
use crate::vault::{OpenError, PowerTable, SealedCredential, reseal_credential};
use serde_json::{Value, json};

/// Why a provider was not registered.
#[derive(Debug, thiserror::Error)]
pub enum CreateProviderError {
    /// A field makes no sense.
    #[error(transparent)]
    Document(#[from] ProviderError),
    /// There is one.
    #[error("there is a provider of this slug")]
    SlugTaken {
        /// The slug.
        slug: String,
    },
    /// The request is a repeat.
    #[error(transparent)]
    AlreadyDone(#[from] AlreadyDone),
    /// It was registered and is not in force yet; the same call again, or a restart, puts it in force.
    #[error("the change is written and could not be put in force")]
    NotInForce(StoreError),
    /// The vault is sealed, or a row was changed outside of Bitting.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a provider was not changed. `R` is the change's own reason to refuse.
#[derive(Debug, thiserror::Error)]
pub enum ChangeProviderError<R> {
    /// There is none.
    #[error("there is no such provider")]
    NotFound,
    /// It is not at the version that the change was made for.
    #[error("the provider was changed meanwhile")]
    Moved,
    /// The change refuses.
    #[error("{0}")]
    Refused(R),
    /// A field makes no sense.
    #[error(transparent)]
    Document(#[from] ProviderError),
    /// The slug is what everything else names.
    #[error("a slug cannot be changed; register another provider")]
    SlugChanged,
    /// A key of it cannot be sealed for the new origin.
    #[error(
        "the key of {credential} cannot be opened, so it cannot be moved to another origin; rotate it first"
    )]
    Unmovable {
        /// The credential.
        credential: String,
        /// Why.
        source: OpenError,
    },
    /// The request is a repeat.
    #[error(transparent)]
    AlreadyDone(#[from] AlreadyDone),
    /// It is written and not in force yet; the same call again puts it in force.
    #[error("the change is written and could not be put in force")]
    NotInForce(StoreError),
    /// The vault is sealed, or a row was changed outside of Bitting.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a provider was not removed.
#[derive(Debug, thiserror::Error)]
pub enum DeleteProviderError {
    /// There is none.
    #[error("there is no such provider")]
    NotFound,
    /// It is not at the version that the call named.
    #[error("the provider was changed meanwhile")]
    Moved,
    /// It has credentials.
    #[error("the provider has credentials; suspend it instead")]
    InUse,
    /// It is removed and still in force; a restart ends that.
    #[error("the change is written and could not be put in force")]
    NotInForce(StoreError),
    /// The vault is sealed, or a row was changed outside of Bitting.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Services {
    /// All providers, by slug.
    pub async fn list_providers(&self) -> Result<Vec<ProviderRecord>, StoreError> {
        let mut read = self.store.read().await?;
        store::provider::list(&mut read.conn()).await
    }

    /// The provider, if there is one.
    pub async fn provider(&self, slug: &str) -> Result<Option<ProviderRecord>, StoreError> {
        let mut read = self.store.read().await?;
        store::provider::get(&mut read.conn(), slug).await
    }

    /// Registers a provider.
    pub async fn create_provider(
        &self,
        actor: &Actor,
        document: ProviderDocument,
    ) -> Result<ProviderRecord, CreateProviderError> {
        let provider = document.check(&self.private_upstreams)?;
        let record = ProviderRecord {
            slug: provider.slug.to_string(),
            version: 1,
            document: kept(&provider),
            status: ProviderStatus::Active,
            created_at: self.clock.now(),
        };
        let mut tx = self.change().await?;
        self.claim(&mut tx.conn(), actor, &record.slug).await??;
        if !store::provider::insert_if_absent(&mut tx.conn(), &record).await? {
            return Err(CreateProviderError::SlugTaken { slug: record.slug });
        }
        tx.sign_provider(&record).await?;
        let detail = json!({"version": record.version, "document": record.document});
        self.note(&mut tx.conn(), actor, "provider.create", &record.slug, detail).await?;
        tx.commit().await?;
        self.reload_directory().await.map_err(CreateProviderError::NotInForce)?;
        Ok(record)
    }

    /// Changes the provider to what `change` makes of it. `change` may be called again with a newer document.
    pub async fn change_provider<R: Send>(
        &self,
        actor: &Actor,
        slug: &str,
        expected: Option<i64>,
        change: impl Fn(&Value) -> Result<ProviderDocument, R> + Send + Sync,
    ) -> Result<ProviderRecord, ChangeProviderError<R>> {
        let mut tx = self.change().await?;
        self.claim(&mut tx.conn(), actor, slug).await??;
        let old = found(&mut tx.conn(), slug, expected).await?;
        tx.check_provider(&old).map_err(GuardError::from)?;
        let document = change(&old.document).map_err(ChangeProviderError::Refused)?;
        if document.slug.as_str() != slug {
            return Err(ChangeProviderError::SlugChanged);
        }
        let new = document.check(&self.private_upstreams)?;
        self.reseal(&mut tx, &old, &new).await?;
        let document = kept(&new);
        let detail = json!({"before": old.document, "after": document});
        let record = self.write_provider(&mut tx.conn(), old, document, None).await?;
        tx.sign_provider(&record).await?;
        self.note(&mut tx.conn(), actor, "provider.patch", slug, detail).await?;
        tx.commit().await?;
        self.reload_directory().await.map_err(ChangeProviderError::NotInForce)?;
        Ok(record)
    }

    /// Suspends or resumes a provider. What is so already stays so.
    pub async fn set_provider_status(
        &self,
        actor: &Actor,
        slug: &str,
        expected: Option<i64>,
        status: ProviderStatus,
    ) -> Result<ProviderRecord, ChangeProviderError<std::convert::Infallible>> {
        let mut tx = self.change().await?;
        self.claim(&mut tx.conn(), actor, slug).await??;
        let mut record = found(&mut tx.conn(), slug, expected).await?;
        tx.check_provider(&record).map_err(GuardError::from)?;
        if record.status != status {
            let detail = json!({"before": record.status.as_str(), "after": status.as_str()});
            let document = record.document.clone();
            record = self.write_provider(&mut tx.conn(), record, document, Some(status)).await?;
            tx.sign_provider(&record).await?;
            let action = match status {
                ProviderStatus::Active => "provider.resume",
                ProviderStatus::Suspended => "provider.suspend",
            };
            self.note(&mut tx.conn(), actor, action, slug, detail).await?;
        }
        tx.commit().await?;
        self.reload_directory().await.map_err(ChangeProviderError::NotInForce)?;
        Ok(record)
    }

    /// Removes a provider that has no credentials.
    pub async fn delete_provider(
        &self,
        actor: &Actor,
        slug: &str,
        expected: Option<i64>,
    ) -> Result<(), DeleteProviderError> {
        let mut tx = self.change().await?;
        let old = store::provider::get(&mut tx.conn(), slug).await?.ok_or(DeleteProviderError::NotFound)?;
        let is_expected = expected.is_none_or(|expected| expected == old.version);
        if !is_expected {
            return Err(DeleteProviderError::Moved);
        }
        match store::provider::delete(&mut tx.conn(), slug, old.version).await {
            Ok(true) => {}
            Ok(false) => return Err(DeleteProviderError::Moved),
            Err(StoreError::Reference { .. }) => return Err(DeleteProviderError::InUse),
            Err(error) => return Err(error.into()),
        }
        tx.remove(PowerTable::Providers, slug).await?;
        let detail = json!({"before": old.document});
        self.note(&mut tx.conn(), actor, "provider.delete", slug, detail).await?;
        tx.commit().await?;
        self.reload_directory().await.map_err(DeleteProviderError::NotInForce)
    }

    async fn write_provider<R>(
        &self,
        conn: &mut Conn<'_>,
        old: ProviderRecord,
        document: Value,
        status: Option<ProviderStatus>,
    ) -> Result<ProviderRecord, ChangeProviderError<R>> {
        let status = status.unwrap_or(old.status);
        let version = store::provider::update(conn, &old.slug, old.version, &document, status).await?;
        let version = version.ok_or(ChangeProviderError::Moved)?;
        Ok(ProviderRecord { version, document, status, ..old })
    }

    /// Seals every kept key of the provider for its new origins, where those differ.
    async fn reseal<R>(
        &self,
        change: &mut Change,
        old: &ProviderRecord,
        new: &Provider,
    ) -> Result<(), ChangeProviderError<R>> {
        let old_provider =
            read(&old.document).and_then(|document| document.check(&self.private_upstreams).ok());
        for credential in store::credential::list(&mut change.conn()).await? {
            if credential.provider != old.slug {
                continue;
            }
            let unmovable =
                |source| ChangeProviderError::Unmovable { credential: credential.id.clone(), source };
            change.check_credential(&credential).await?;
            for version in credential.kept_versions() {
                let Some(secret) =
                    store::credential::secret(&mut change.conn(), &credential.id, version).await?
                else {
                    continue;
                };
                let to = binding(&self.installation, new, &credential.id, version);
                let from = old_provider.as_ref().ok_or_else(|| unmovable(OpenError::Refused))?;
                let from = binding(&self.installation, from, &credential.id, version);
                if from == to {
                    break;
                }
                let sealed = sealed_credential(secret).ok_or_else(|| unmovable(OpenError::UnknownForm))?;
                let sealed = reseal_credential(&self.entropy, change.keyring(), &from, &to, &sealed)
                    .map_err(unmovable)?;
                let sealed = sealed_secret(&sealed);
                store::term::count_uses(&mut change.conn(), sealed.term, 1, self.clock.now()).await?;
                store::credential::reseal_secret(&mut change.conn(), &credential.id, version, &sealed)
                    .await?;
            }
            change.sign_credential(&credential.id).await?;
        }
        Ok(())
    }
}

async fn found<R>(
    conn: &mut Conn<'_>,
    slug: &str,
    expected: Option<i64>,
) -> Result<ProviderRecord, ChangeProviderError<R>> {
    let old = store::provider::get(conn, slug).await?.ok_or(ChangeProviderError::NotFound)?;
    match expected {
        Some(expected) if expected != old.version => Err(ChangeProviderError::Moved),
        Some(_) | None => Ok(old),
    }
}

fn read(document: &Value) -> Option<ProviderDocument> {
    serde_json::from_value(document.clone()).ok()
}

/// What is kept of a provider: its document, with every default said.
fn kept(provider: &Provider) -> Value {
    serde_json::to_value(ProviderDocument::from(provider)).unwrap_or_default()
}

/// The store's form of a sealed key.
pub(super) fn sealed_secret(sealed: &SealedCredential) -> SealedSecret {
    SealedSecret {
        term: i64::from(sealed.term),
        wrapped_dek: sealed.wrapped_dek.clone(),
        sealed: sealed.sealed.clone(),
    }
}

/// The vault's form of a sealed key; `None` when its term makes no sense.
pub(super) fn sealed_credential(secret: SealedSecret) -> Option<SealedCredential> {
    let SealedSecret { term, wrapped_dek, sealed } = secret;
    Some(SealedCredential { term: u32::try_from(term).ok()?, wrapped_dek, sealed })
}
