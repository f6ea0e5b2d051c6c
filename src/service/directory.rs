//! The directory: providers, their credentials and the catalog, as one snapshot in memory.
//!
//! The hot path reads the snapshot; a change is committed, then the snapshot is made anew, and only then
//! the call that made the change returns.

use super::StoreError;
use super::provider::sealed_credential;
use crate::base::CidrSet;
use crate::provider::{Catalog, CatalogError, Dialect, Endpoint, Override, Provider, ProviderDocument, Slug};
use crate::store::credential::CredentialRecord;
use crate::store::model::ModelRecord;
use crate::store::provider::ProviderStatus;
use crate::store::{self, Conn, Store};
use crate::vault::{Binding, SealedCredential};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// Everything that routes and prices a request.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Providers by slug.
    pub providers: BTreeMap<Slug, ProviderEntry>,
    /// Models and prices.
    pub catalog: Catalog,
}

impl Snapshot {
    /// The credential, where it may be used.
    pub fn credential(&self, provider: &Slug, id: &str) -> Option<&Credential> {
        let entry = self.providers.get(provider).filter(|entry| entry.active)?;
        entry.credentials.iter().find(|one| one.id == id)
    }

    fn inherit(&mut self, older: &Self) {
        for (slug, entry) in &mut self.providers {
            let Some(older) = older.providers.get(slug) else { continue };
            for credential in &mut entry.credentials {
                older.credentials.iter().for_each(|older| credential.inherit(older));
            }
        }
    }
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
    /// The secret in use.
    pub active: KeyVersion,
    /// The secret before it, while it may be used.
    pub draining: Option<DrainingVersion>,
}

/// One version of a credential's secret, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVersion {
    /// Where the secret belongs.
    pub binding: Binding,
    /// The secret.
    pub sealed: SealedCredential,
}

/// A version that gives way to a newer one.
#[derive(Debug)]
pub struct DrainingVersion {
    /// The version.
    pub key: KeyVersion,
    /// From then on it is not used.
    pub until: DateTime<Utc>,
    /// The provider refused the newer one, so this one is tried first. Kept when the directory is made anew.
    goes_first: Arc<AtomicBool>,
}

impl Credential {
    /// Whether a key of the project, pinned to `pin` or to nothing, may use it. A credential without weight is for
    /// those pinned to it.
    pub fn is_usable(&self, project: &str, pin: Option<&str>) -> bool {
        let project_fits = self.projects.as_ref().is_none_or(|list| list.iter().any(|one| one == project));
        project_fits && pin.map_or(self.weight > 0, |pinned| pinned == self.id)
    }

    /// The version to send with, and the one to send with where the provider refuses that.
    pub fn versions(&self, now: DateTime<Utc>) -> (&KeyVersion, Option<&KeyVersion>) {
        match self.draining.as_ref().filter(|draining| now < draining.until) {
            Some(draining) if draining.goes_first.load(Ordering::Relaxed) => {
                (&draining.key, Some(&self.active))
            }
            Some(draining) => (&self.active, Some(&draining.key)),
            None => (&self.active, None),
        }
    }

    /// The provider took this version after it refused the other: from now on it goes first. Whether that is news.
    pub fn prefer(&self, version: i64) -> bool {
        let draining = self.draining.as_ref();
        draining.is_some_and(|draining| {
            let goes_first = draining.key.binding.version == version;
            draining.goes_first.swap(goes_first, Ordering::Relaxed) != goes_first
        })
    }

    /// Takes over what an older snapshot of the same two versions has learnt.
    fn inherit(&mut self, older: &Self) {
        let (Some(mine), Some(theirs)) = (&mut self.draining, &older.draining) else { return };
        let same = |one: &KeyVersion, other: &KeyVersion| one.binding.version == other.binding.version;
        if self.id == older.id && same(&self.active, &older.active) && same(&mine.key, &theirs.key) {
            mine.goes_first = Arc::clone(&theirs.goes_first);
        }
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
    replaced: Mutex<Vec<Weak<Snapshot>>>,
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
        let mut fresh = load(store, installation, private, &self.built_in).await?;
        fresh.inherit(&self.snapshot());
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, Arc::new(fresh));
        drop(current);
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.retain(|one| one.strong_count() > 0);
        replaced.push(Arc::downgrade(&old));
        Ok(())
    }

    /// Whether nobody looks at an earlier snapshot any more.
    pub(super) fn is_settled(&self) -> bool {
        let replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.iter().all(|one| one.strong_count() == 0)
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
        for record in store::credential::active_of(&mut read.conn(), &slug).await? {
            let id = record.id.clone();
            match load_credential(&mut read.conn(), installation, &provider, record).await? {
                Some(credential) => credentials.push(credential),
                None => {
                    tracing::error!(credential = id, "this credential has no secret and cannot be used");
                }
            }
        }
        let active = record.status == ProviderStatus::Active;
        providers.insert(provider.slug.clone(), ProviderEntry { provider, active, credentials });
    }
    let catalog = catalog(built_in, &store::model::list(&mut read.conn()).await?);
    Ok(Snapshot { providers, catalog })
}

/// The credential with its kept versions; `None` when the one in use is not there.
async fn load_credential(
    conn: &mut Conn<'_>,
    installation: &str,
    provider: &Provider,
    record: CredentialRecord,
) -> Result<Option<Credential>, StoreError> {
    let mut version = async |version: i64| {
        let secret = store::credential::secret(conn, &record.id, version).await?;
        let binding = binding(installation, provider, &record.id, version);
        let sealed = secret.and_then(sealed_credential);
        Ok::<_, StoreError>(sealed.map(|sealed| KeyVersion { binding, sealed }))
    };
    let Some(active) = version(record.secret_version).await? else { return Ok(None) };
    let draining = match record.draining {
        Some(draining) => version(draining.secret_version).await?.map(|key| DrainingVersion {
            key,
            until: draining.until,
            goes_first: Arc::default(),
        }),
        None => None,
    };
    Ok(Some(Credential {
        weight: u64::try_from(record.weight).unwrap_or(0),
        projects: record.projects,
        organization: record.organization,
        openai_project: record.openai_project,
        id: record.id,
        active,
        draining,
    }))
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
