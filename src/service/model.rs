//! Models for operators: the catalog with what they said about it, and setting that.

use super::directory::{imported_from, overrides};
use super::import::deciding;
use super::{Actor, GuardError, Services, StoreError};
use crate::provider::catalog::{Catalog, CatalogError, ModelFault};
use crate::provider::model::{Model, ModelDocument};
use crate::store;
use crate::store::model::ModelRecord;
use chrono::SubsecRound;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// A model of the catalog in force.
#[derive(Clone, Debug)]
pub struct ModelState {
    /// The model with its prices.
    pub model: Arc<Model>,
    /// Counts what was said about it; 0 for a model that is as the catalog has it.
    pub version: i64,
    /// The price list that what holds of it came from; `None` for the catalog's own, and for what an operator set.
    pub imported_from: Option<String>,
}

/// Why a model was not set.
#[derive(Debug, thiserror::Error)]
pub enum SetModelError {
    /// There is no such provider.
    #[error("there is no such provider")]
    NoProvider,
    /// It is not at the version that the call named.
    #[error("the model was changed; it is at version {version} now")]
    Moved {
        /// Its version.
        version: i64,
    },
    /// A field makes no sense.
    #[error("{0}")]
    Fault(ModelFault),
    /// The catalog itself does not read.
    #[error(transparent)]
    Catalog(CatalogError),
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

impl Services {
    /// Every model, by provider and name.
    pub async fn list_models(&self) -> Result<Vec<ModelState>, StoreError> {
        let records = {
            let mut read = self.store.read().await?;
            store::model::list(&mut read.conn()).await?
        };
        let mut versions: HashMap<(&str, &str), i64> = HashMap::new();
        for record in &records {
            let version = versions.entry((&record.provider, &record.name)).or_default();
            *version = record.version.max(*version);
        }
        let deciding = deciding(&records, self.clock.now());
        let state = |model: &Arc<Model>| {
            let key = (model.provider.as_str(), model.name.as_str());
            let version = versions.get(&key).copied().unwrap_or(0);
            let imported_from =
                deciding.get(&key).and_then(|record| imported_from(record)).map(str::to_owned);
            ModelState { model: Arc::clone(model), version, imported_from }
        };
        Ok(self.snapshot().catalog.models().map(state).collect())
    }

    /// Sets what a model can do, and what it costs from `effective_from` on (from now on when that is null). In force
    /// when this returns.
    pub async fn set_model(
        &self,
        actor: &Actor,
        (provider, name): (&str, &str),
        expected: Option<i64>,
        document: ModelDocument,
    ) -> Result<ModelState, SetModelError> {
        let now = self.clock.now();
        let effective_from = document.effective_from.unwrap_or(now).trunc_subsecs(6);
        let document = ModelDocument { effective_from: Some(effective_from), ..document };
        let mut tx = self.change().await?;
        if store::provider::get(&mut tx.conn(), provider).await?.is_none() {
            return Err(SetModelError::NoProvider);
        }
        let mut records = store::model::list(&mut tx.conn()).await?;
        let of_model = |record: &&ModelRecord| record.provider == provider && record.name == name;
        let version = records.iter().filter(of_model).map(|record| record.version).max().unwrap_or_default();
        if expected.is_some_and(|expected| expected != version) {
            return Err(SetModelError::Moved { version });
        }
        let before: Vec<_> = records.iter().filter(of_model).map(|record| record.document.clone()).collect();
        let mut record = ModelRecord {
            provider: provider.to_owned(),
            name: name.to_owned(),
            effective_from,
            version: 1,
            document: serde_json::to_value(&document).unwrap_or_default(),
            created_at: now,
        };
        let is_this = |other: &ModelRecord| {
            (&*other.provider, &*other.name, other.effective_from) == (provider, name, effective_from)
        };
        let replaced = records.iter().find(|other| is_this(other)).cloned();
        if let Some(replaced) = &replaced {
            tx.check_model(replaced).map_err(GuardError::from)?;
            record.created_at = replaced.created_at;
        }
        let version = store::model::put(&mut tx.conn(), &record).await?;
        record.version = version;
        tx.sign_model(&record).await?;
        // What others made of the table is not in force, so it is not in the way either.
        records.retain(|other| !is_this(other) && tx.check_model(other).is_ok());
        records.push(record);
        let overrides = overrides(&records);
        Catalog::built_in().and_then(|catalog| catalog.with(&overrides)).map_err(refused)?;
        let target = format!("{provider}/{name}");
        let detail = json!({"before": before, "after": document, "version": version});
        self.note(&mut tx.conn(), actor, "model.set", &target, detail).await?;
        tx.commit().await?;
        self.reload_directory().await.map_err(SetModelError::NotInForce)?;
        let model = self.snapshot().catalog.find(provider, name).cloned();
        let model = model.ok_or(SetModelError::NoProvider)?;
        Ok(ModelState { model, version, imported_from: None })
    }
}

fn refused(error: CatalogError) -> SetModelError {
    match error {
        CatalogError::Model { fault, .. } => SetModelError::Fault(fault),
        error @ CatalogError::File { .. } => SetModelError::Catalog(error),
    }
}
