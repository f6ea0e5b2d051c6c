//! The directory: providers, their credentials and the catalog, as one snapshot in memory.
//!
//! The hot path reads the snapshot; a change is committed, then the snapshot is made anew, and only then
//! the call that made the change returns.

use super::StoreError;
use crate::base::CidrSet;
use crate::provider::{Catalog, CatalogError, Dialect, Endpoint, Override, Provider, ProviderDocument, Slug};
use crate::store::model::ModelRecord;
use crate::store::provider::ProviderStatus;
use crate::store::{self, Store};
use crate::vault::{Binding, SealedCredential};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Everything that routes and prices a request.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Providers by slug.
    pub providers: BTreeMap<Slug, ProviderEntry>,
    /// Models and prices.
    pub catalog: Catalog,
}

/// A provider with its credentials.
#[derive(Debug)]
pub struct ProviderEntry {
    /// The provider.
    pub provider: Provider,
    /// Not suspended.
    pub active: bool,
    /// Credentials that are not disabled.
    pub credentials: Vec<Credential>,
}

/// A credential as the hot path needs it: sealed.
#[derive(Debug)]
pub struct Credential {
    /// Its id.
    pub id: String,
    /// Its share of the provider's requests, among credentials that a key may use.
    pub weight: u64,
    /// Projects that may use it; `None` is all.
    pub projects: Option<Vec<String>>,
    /// Sent as `openai-organization`.
    pub organization: Option<String>,
    /// Sent as `openai-project`.
    pub openai_project: Option<String>,
    /// Where the secret belongs.
    pub binding: Binding,
    /// The secret.
    pub sealed: SealedCredential,
}

impl Credential {
    /// Whether a key of the project, pinned to `pin` or to nothing, may use it.
    pub fn is_usable(&self, project: &str, pin: Option<&str>) -> bool {
        let project_fits = self.projects.as_ref().is_none_or(|list| list.iter().any(|one| one == project));
        project_fits && pin.is_none_or(|pinned| pinned == self.id)
    }
}

/// The place that a credential's ciphertext is bound to.
pub fn binding(installation: &str, provider: &Provider, credential: &str, secret_version: i64) -> Binding {
    let origin = |(dialect, endpoint): (&Dialect, &Endpoint)| {
        format!("{} {}", dialect.as_str(), endpoint.base_url.origin())
    };
    Binding {
        installation: installation.to_owned(),
        credential: credential.to_owned(),
        version: secret_version,
        provider: provider.slug.to_string(),
        origins: provider.dialects.iter().map(origin).collect(),
    }
}

/// Holds the snapshot in force.
#[derive(Debug, Default)]
pub(super) struct Directory {
    current: RwLock<Arc<Snapshot>>,
    built_in: Catalog,
    reloading: tokio::sync::Mutex<()>,
}

impl Directory {
    /// An empty directory over the built-in catalog.
    pub(super) fn new() -> Result<Self, CatalogError> {
        Ok(Self { built_in: Catalog::built_in()?, ..Self::default() })
    }

    /// The snapshot in force.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the snapshot anew from the store. One at a time, so that an older one never replaces a newer one.
    pub(super) async fn reload(
        &self,
        store: &Store,
        installation: &str,
        private: &CidrSet,
    ) -> Result<(), StoreError> {
        let _turn = self.reloading.lock().await;
        let fresh = Arc::new(load(store, installation, private, &self.built_in).await?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

async fn load(
    store: &Store,
    installation: &str,
    private: &CidrSet,
    built_in: &Catalog,
) -> Result<Snapshot, StoreError> {
    let mut read = store.read().await?;
    let mut providers = BTreeMap::new();
    for record in store::provider::list(&mut read.conn()).await? {
        let slug = record.slug.clone();
        let document: Result<ProviderDocument, _> = serde_json::from_value(record.document);
        let provider = document
            .map_err(|error| error.to_string())
            .and_then(|document| document.check(private).map_err(|error| error.to_string()));
        let provider = match provider {
            Ok(provider) => provider,
            Err(error) => {
                // Unusable, not fatal: the other providers go on, and `doctor` names this one.
                tracing::error!(provider = %slug, %error, "this provider cannot be used");
                continue;
            }
        };
        let mut credentials = Vec::new();
        for credential in store::credential::active_of(&mut read.conn(), &slug).await? {
            let secret =
                store::credential::secret(&mut read.conn(), &credential.id, credential.secret_version)
                    .await?;
            let sealed = secret.and_then(|secret| {
                let term = u32::try_from(secret.term).ok()?;
                Some(SealedCredential { term, wrapped_dek: secret.wrapped_dek, sealed: secret.sealed })
            });
            let Some(sealed) = sealed else {
                tracing::error!(
                    credential = credential.id,
                    "this credential has no secret and cannot be used"
                );
                continue;
            };
            let id = credential.id;
            credentials.push(Credential {
                weight: u64::try_from(credential.weight).unwrap_or(0),
                projects: credential.projects,
                organization: credential.organization,
                openai_project: credential.openai_project,
                binding: binding(installation, &provider, &id, credential.secret_version),
                id,
                sealed,
            });
        }
        let active = record.status == ProviderStatus::Active;
        providers.insert(provider.slug.clone(), ProviderEntry { provider, active, credentials });
    }
    let catalog = catalog(built_in, &store::model::list(&mut read.conn()).await?);
    Ok(Snapshot { providers, catalog })
}

/// The built-in catalog with the operators' models over it. One that makes no sense is left out, and named.
fn catalog(built_in: &Catalog, records: &[ModelRecord]) -> Catalog {
    let mut overrides: Vec<Override> = records.iter().filter_map(as_override).collect();
    loop {
        match built_in.with(&overrides) {
            Ok(catalog) => return catalog,
            Err(error) => {
                tracing::error!(%error, "an operator's models cannot be used; the newest is left out");
                overrides.pop();
            }
        }
    }
}

/// A stored model as the catalog takes it.
pub(super) fn as_override(record: &ModelRecord) -> Option<Override> {
    let read = || {
        let provider = record.provider.parse().ok()?;
        let document = serde_json::from_value(record.document.clone()).ok()?;
        let version = u64::try_from(record.version).ok()?;
        Some(Override {
            provider,
            model: record.name.clone(),
            document,
            version,
            set_at: record.effective_from,
        })
    };
    let read = read();
    if read.is_none() {
        tracing::error!(
            provider = record.provider,
            model = record.name,
            "this model's override cannot be read"
        );
    }
    read
}
