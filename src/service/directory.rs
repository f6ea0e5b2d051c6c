//! The directory: providers, their credentials and the catalog, as one snapshot in memory.
//!
//! The hot path reads the snapshot; a change is committed, then the snapshot is made anew, and only then
//! the call that made the change returns.

mod models;

pub(super) use models::{as_override, imported_from, overrides, stored};

use super::provider::sealed_credential;
use super::rates::{RateOwner, Rates};
use super::vault::{Look, Tampered, credential_row, model_row, provider_row};
use super::{Lineage, Services, StoreError};
use crate::base::CidrSet;
use crate::budget::RateLimit;
use crate::log::AlarmKind;
use crate::provider::{Catalog, CatalogError, Dialect, Endpoint, Provider, ProviderDocument, Slug};
use crate::store::credential::CredentialRecord;
use crate::store::model::ModelRecord;
use crate::store::provider::ProviderStatus;
use crate::store::{self, Conn};
use crate::vault::{Binding, Keyring, PowerRow, PowerTable, SealedCredential, opens_there};
use chrono::{DateTime, Utc};
use models::LeftOut;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// Everything that routes and prices a request.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Providers by slug.
    pub providers: BTreeMap<Slug, ProviderEntry>,
    /// Models and prices.
    pub catalog: Catalog,
    /// What providers and credentials have counted that are not here now: back again, they go on from there.
    gone: HashMap<RateOwner, Arc<Rates>>,
}

impl Snapshot {
    /// The credential, where it may be used.
    pub fn credential(&self, provider: &Slug, id: &str) -> Option<&Credential> {
        let entry = self.providers.get(provider).filter(|entry| entry.active)?;
        entry.credentials.iter().find(|one| one.id == id)
    }

    /// Takes over what an older snapshot has counted and learnt.
    fn inherit(&mut self, older: &Self, now: DateTime<Utc>) {
        let mut counted = older.gone.clone();
        for (slug, entry) in &older.providers {
            counted.insert(RateOwner::Provider(slug.clone()), Arc::clone(&entry.rates));
            let credentials = entry.credentials.iter();
            counted.extend(
                credentials.map(|one| (RateOwner::Credential(one.id.clone()), Arc::clone(&one.rates))),
            );
        }
        let mut go_on = |rates: &mut Arc<Rates>, owner: RateOwner| {
            if let Some(older) = counted.remove(&owner) {
                *rates = Arc::new(rates.continuing(&older));
            }
        };
        for (slug, entry) in &mut self.providers {
            go_on(&mut entry.rates, RateOwner::Provider(slug.clone()));
            for credential in &mut entry.credentials {
                go_on(&mut credential.rates, RateOwner::Credential(credential.id.clone()));
                let older = older.providers.get(slug).into_iter().flat_map(|older| &older.credentials);
                older.for_each(|older| credential.inherit(older));
            }
        }
        counted.retain(|_, rates| !rates.is_idle(now));
        self.gone = counted;
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
    /// What all who use the provider may do together. The counts are kept when the directory is made anew.
    pub rates: Arc<Rates>,
}

/// A credential as the hot path needs it: sealed.
#[derive(Debug)]
pub struct Credential {
    /// Its id.
    pub id: String,
    /// Its share of the provider's requests, among credentials that a key may use.
    pub weight: u64,
    /// Projects that may use it, with those below them; `None` is all.
    pub projects: Option<Vec<String>>,
    /// Sent as `openai-organization`.
    pub organization: Option<String>,
    /// Sent as `openai-project`.
    pub openai_project: Option<String>,
    /// What all who use it may do together. The counts are kept when the directory is made anew.
    pub rates: Arc<Rates>,
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
    /// Whether a key of the project, pinned to `pin` or to nothing, may use it: what is for a project is for those below
    /// it, too. A credential without weight is for those pinned to it.
    pub fn is_usable(&self, project: &Lineage, pin: Option<&str>) -> bool {
        let is_for = |list: &Vec<String>| list.iter().any(|one| project.is_within(one));
        let project_fits = self.projects.as_ref().is_none_or(is_for);
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

    /// Whether the keys that it has would open where they are.
    fn opens(&self, keyring: &Keyring) -> bool {
        let mut versions =
            std::iter::once(&self.active).chain(self.draining.iter().map(|draining| &draining.key));
        versions.all(|version| opens_there(keyring, &version.binding, &version.sealed))
    }

    /// Takes over what an older snapshot of the same credential has learnt about the same two versions.
    fn inherit(&mut self, older: &Self) {
        if self.id != older.id {
            return;
        }
        let (Some(mine), Some(theirs)) = (&mut self.draining, &older.draining) else { return };
        let same = |one: &KeyVersion, other: &KeyVersion| one.binding.version == other.binding.version;
        if same(&self.active, &older.active) && same(&mine.key, &theirs.key) {
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

    /// Whether nobody looks at an earlier snapshot any more.
    pub(super) fn is_settled(&self) -> bool {
        let replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.iter().all(|one| one.strong_count() == 0)
    }
}

impl Services {
    /// Takes a committed change of providers, credentials or models into force. What was changed outside of Bitting is
    /// left out. While the vault is sealed nothing is in force to be replaced.
    pub async fn reload_directory(&self) -> Result<(), StoreError> {
        match self.vault.keyring() {
            Ok(keyring) => self.reload_directory_with(&keyring).await,
            Err(_) => Ok(()),
        }
    }

    /// As [`Services::reload_directory`], with the keyring of a vault that is being opened. One at a time, so that an
    /// older snapshot never replaces a newer one.
    pub(super) async fn reload_directory_with(&self, keyring: &Keyring) -> Result<(), StoreError> {
        let _turn = self.directory.reloading.lock().await;
        let reading = Reading { installation: &self.installation, private: &self.private_upstreams };
        let (mut loaded, mut wrong) = self.look(keyring, &reading).await?;
        // Whatever was read is wrapped in a term that the keyring had before it was read.
        let mut displaced = loaded.displaced(self.vault.keyring().as_deref().unwrap_or(keyring), &wrong);
        if !displaced.is_empty() {
            // Unless all of it moved to another term since, and that one is gone.
            (loaded, wrong) = self.look(keyring, &reading).await?;
            displaced = loaded.displaced(self.vault.keyring().as_deref().unwrap_or(keyring), &wrong);
        }
        self.doubts.tell(&displaced);
        wrong.extend(displaced);
        let (mut fresh, left_out) = loaded.without(&wrong, &self.directory.built_in);
        for LeftOut { provider, model, why } in left_out {
            let detail = json!({"why": why, "detail": "it has no price until it is set anew"});
            self.alarms.raise(AlarmKind::ModelUnusable, &format!("{provider}/{model}"), &detail);
        }
        fresh.inherit(&self.snapshot(), self.ledger.now());
        let directory = &self.directory;
        let mut current = directory.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, Arc::new(fresh));
        drop(current);
        let mut replaced = directory.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.retain(|one| one.strong_count() > 0);
        replaced.push(Arc::downgrade(&old));
        Ok(())
    }
}

/// What the database says, before it is known whether that was written by Bitting.
struct Loaded {
    providers: BTreeMap<Slug, ProviderEntry>,
    models: Vec<ModelRecord>,
}

struct Reading<'a> {
    installation: &'a str,
    private: &'a CidrSet,
}

impl Look for Reading<'_> {
    type Found = Loaded;
    const WHOLE: &'static [PowerTable] = &[PowerTable::Models];

    async fn read(&self, moment: &mut store::Snapshot) -> Result<(Loaded, Vec<PowerRow>), StoreError> {
        load(moment, self.installation, self.private).await
    }
}

impl Loaded {
    /// Credentials whose ciphertext is not that of their place: it was moved there.
    fn displaced(&self, keyring: &Keyring, wrong: &[Tampered]) -> Vec<Tampered> {
        let trusted = self
            .providers
            .values()
            .filter(|entry| !is_wrong(wrong, PowerTable::Providers, entry.provider.slug.as_str()));
        let credentials = trusted.flat_map(|entry| &entry.credentials);
        let displaced = credentials
            .filter(|one| !is_wrong(wrong, PowerTable::Credentials, &one.id) && !one.opens(keyring));
        displaced
            .map(|one| Tampered { table: PowerTable::Credentials.as_str(), id: one.id.clone() })
            .collect()
    }

    /// The snapshot of what was written by Bitting, and what of it cannot be used.
    fn without(mut self, wrong: &[Tampered], built_in: &Catalog) -> (Snapshot, Vec<LeftOut>) {
        self.providers.retain(|slug, _| !is_wrong(wrong, PowerTable::Providers, slug.as_str()));
        for entry in self.providers.values_mut() {
            entry.credentials.retain(|one| !is_wrong(wrong, PowerTable::Credentials, &one.id));
        }
        // Which price an operator meant is not known any more, so the model has none: neither its own nor a built-in one.
        let unpriced: Vec<(&str, &str)> = wrong
            .iter()
            .filter(|row| row.table == PowerTable::Models.as_str())
            .filter_map(|row| row.id.rsplit_once(' ')?.0.split_once('/'))
            .collect();
        let models = self.models.into_iter();
        let records: Vec<ModelRecord> = models
            .filter(|model| !unpriced.contains(&(model.provider.as_str(), model.name.as_str())))
            .collect();
        let (catalog, left_out) = models::catalog(built_in, &records);
        let also = left_out.iter().map(|out| (out.provider.as_str(), out.model.as_str()));
        let catalog = catalog.without_prices(&unpriced.into_iter().chain(also).collect::<Vec<_>>());
        (Snapshot { providers: self.providers, catalog, gone: HashMap::new() }, left_out)
    }
}

fn is_wrong(wrong: &[Tampered], table: PowerTable, id: &str) -> bool {
    wrong.iter().any(|row| row.table == table.as_str() && row.id == id)
}

async fn load(
    read: &mut store::Snapshot,
    installation: &str,
    private: &CidrSet,
) -> Result<(Loaded, Vec<PowerRow>), StoreError> {
    let mut rows = Vec::new();
    let mut providers = BTreeMap::new();
    for record in store::provider::list(&mut read.conn()).await? {
        let slug = record.slug.clone();
        rows.push(provider_row(&record));
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
            let versions = store::credential::versions_of(&mut read.conn(), &record.id).await?;
            rows.push(credential_row(&record, versions));
            let id = record.id.clone();
            match load_credential(&mut read.conn(), installation, &provider, record).await? {
                Some(credential) => credentials.push(credential),
                None => {
                    tracing::error!(credential = id, "this credential has no secret and cannot be used");
                }
            }
        }
        let active = record.status == ProviderStatus::Active;
        let rates = shared_rates(&provider.rate_limits);
        providers.insert(provider.slug.clone(), ProviderEntry { provider, active, credentials, rates });
    }
    let models = store::model::list(&mut read.conn()).await?;
    rows.extend(models.iter().map(model_row));
    Ok((Loaded { providers, models }, rows))
}

/// Fresh counters. Nothing limits how many requests are in flight where the limits do not say so.
fn shared_rates(limits: &[RateLimit]) -> Arc<Rates> {
    Arc::new(Rates::new(limits.to_vec(), u64::MAX))
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
        rates: shared_rates(&record.rate_limits),
        id: record.id,
        active,
        draining,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{InFlight, Metered};
    use chrono::TimeDelta;

    #[test]
    fn what_a_provider_counted_outlasts_its_being_left_out_for_a_while() {
        let document = json!({"slug": "p", "dialects": {"openai": "https://api.example.com/v1"}});
        let document: ProviderDocument = serde_json::from_value(document).unwrap();
        let provider = document.check(&CidrSet::default()).unwrap();
        let limits = json!([{"metric": "requests", "limit": 1, "per": "day"}]);
        let limits: Vec<RateLimit> = serde_json::from_value(limits).unwrap();
        let with_it = || {
            let (provider, rates) = (provider.clone(), shared_rates(&limits));
            let entry = ProviderEntry { provider, active: true, credentials: Vec::new(), rates };
            Snapshot { providers: [(entry.provider.slug.clone(), entry)].into(), ..Snapshot::default() }
        };
        let now = "2026-11-23T16:00:00Z".parse().unwrap();
        let enter = |snapshot: &Snapshot| {
            let entry = &snapshot.providers[&provider.slug];
            let (owner, rates) = (RateOwner::Provider(provider.slug.clone()), Arc::clone(&entry.rates));
            InFlight::enter(&[Metered { owner, rates }], now).map(|mut sent| sent.mark_sent()).is_ok()
        };
        let first = with_it();
        assert!(enter(&first) && !enter(&first));
        let (mut without, mut again) = (Snapshot::default(), with_it());
        without.inherit(&first, now);
        again.inherit(&without, now);
        assert!(!enter(&again), "it opens no fresh window");
        let mut tomorrow = Snapshot::default();
        tomorrow.inherit(&without, now + TimeDelta::days(1));
        assert!(tomorrow.gone.is_empty(), "what is over is forgotten");
    }
}
