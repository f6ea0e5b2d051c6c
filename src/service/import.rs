//! Importing price lists: what a list says goes over the catalog, all of it or nothing, and everything that changes is told.
//!
//! What an operator set by hand stays unless the order says otherwise. A model that the list does not change is not
//! written, so the second import of a list changes nothing.

use super::directory::{as_override, imported_from, overrides, stored};
use super::vault::Change;
use super::{Actor, GuardError, ProbeError, Services, StoreError};
use crate::provider::Slug;
use crate::provider::catalog::{Catalog, CatalogError, ModelFault};
use crate::provider::import::{self, Import, ImportError, Imported, Remark, Selection, Source};
use crate::provider::model::ModelDocument;
use crate::store;
use crate::store::model::ModelRecord;
use chrono::{DateTime, SubsecRound, Utc};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

/// What is to be imported, and how.
#[derive(Clone, Debug)]
pub struct ImportOrder {
    /// Whose format the list has.
    pub source: Source,
    /// The list.
    pub list: String,
    /// Which of our providers a provider of the list is, by its name there.
    pub providers: BTreeMap<String, Slug>,
    /// Only models like these; empty is all.
    pub only: Vec<String>,
    /// Says what would change, and changes nothing.
    pub dry_run: bool,
    /// Also replaces what an operator set.
    pub replace_set: bool,
}

/// What an import came to.
#[derive(Clone, Debug, Serialize)]
pub struct ImportReport {
    /// Whose list it was.
    pub source: Source,
    /// Nothing was changed: this is what would be.
    pub dry_run: bool,
    /// Models that were not here.
    pub added: Vec<AddedModel>,
    /// Models that were here and differ now.
    pub changed: Vec<ChangedModel>,
    /// Models that an operator set, which the list would have changed.
    pub kept: Vec<ChangedModel>,
    /// How many models the list did not change.
    pub unchanged: usize,
    /// What of the list has no place here.
    pub unmapped: Vec<Remark>,
    /// What was taken for something dearer.
    pub approximated: Vec<Remark>,
    /// How many models of providers that are not here, by the provider's name in the list.
    pub skipped: BTreeMap<String, u64>,
}

/// A model that was not here.
#[derive(Clone, Debug, Serialize)]
pub struct AddedModel {
    /// Provider and name.
    pub model: String,
    /// The model.
    pub document: ModelDocument,
}

/// A model, and what changes of it.
#[derive(Clone, Debug, Serialize)]
pub struct ChangedModel {
    /// Provider and name.
    pub model: String,
    /// What changes.
    pub changes: Vec<import::Change>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportModelsError {
    /// There is no provider of this slug.
    #[error("there is no provider {0}")]
    NoProvider(String),
    /// The list does not read.
    #[error(transparent)]
    List(#[from] ImportError),
    /// The list cannot be had.
    #[error("the list cannot be had: {0}")]
    NoList(ProbeError),
    /// A model makes no sense beside the others.
    #[error("{model}: {fault}")]
    Fault {
        /// Provider and name.
        model: String,
        /// What is wrong.
        fault: ModelFault,
    },
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

impl From<CatalogError> for ImportModelsError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Model { provider, model, fault } => {
                Self::Fault { model: format!("{provider}/{model}"), fault }
            }
            error @ CatalogError::File { .. } => Self::Catalog(error),
        }
    }
}

/// A model that is to be written.
struct Planned {
    imported: Imported,
    /// What is to be told of it: the changes, or the whole of a new one.
    detail: serde_json::Value,
}

impl Services {
    /// Imports a list: all that it changes, in one change. In force when this returns.
    pub async fn import_models(
        &self,
        actor: &Actor,
        order: ImportOrder,
    ) -> Result<ImportReport, ImportModelsError> {
        let listed = self.read_list(&order).await?;
        let now = self.clock.now().trunc_subsecs(6);
        let mut tx = self.change().await?;
        for Imported { provider, .. } in &listed.models {
            if !self.snapshot().providers.contains_key(provider)
                && store::provider::get(&mut tx.conn(), provider.as_str()).await?.is_none()
            {
                return Err(ImportModelsError::NoProvider(provider.to_string()));
            }
        }
        let mut records = store::model::list(&mut tx.conn()).await?;
        // What others made of the table is not in force.
        records.retain(|record| tx.check_model(record).is_ok());
        let mut overrides = overrides(&records);
        let built_in = Catalog::built_in()?;
        let catalog = built_in.with(&overrides)?;
        let (report, planned) = plan(&order, listed, (&built_in, &catalog), &records, now);
        if order.dry_run {
            return Ok(report);
        }
        for Planned { imported, .. } in &planned {
            let record = self.put_imported(&mut tx, imported, order.source, &records, now).await?;
            overrides.retain(|known| {
                (&known.provider, &known.model, known.set_at) != (&imported.provider, &imported.name, now)
            });
            overrides.extend(as_override(&record));
        }
        built_in.with(&overrides)?;
        let counts = json!({
            "source": order.source, "added": report.added.len(), "changed": report.changed.len(),
            "kept": report.kept.len(), "unchanged": report.unchanged, "unmapped": report.unmapped.len(),
            "replace_set": order.replace_set,
        });
        self.note(&mut tx.conn(), actor, "models.import", order.source.as_str(), counts).await?;
        for Planned { imported: Imported { provider, name, .. }, detail } in planned {
            self.note(&mut tx.conn(), actor, "model.import", &format!("{provider}/{name}"), detail).await?;
        }
        tx.commit().await?;
        self.reload_directory().await.map_err(ImportModelsError::NotInForce)?;
        Ok(report)
    }

    /// Fetches the model list of a provider that has OpenRouter's, and imports it.
    pub async fn sync_models(
        &self,
        actor: &Actor,
        provider: Slug,
        dry_run: bool,
        replace_set: bool,
    ) -> Result<ImportReport, ImportModelsError> {
        let snapshot = self.snapshot();
        let entry = snapshot.providers.get(&provider).filter(|entry| entry.active);
        let entry = entry.ok_or_else(|| ImportModelsError::NoProvider(provider.to_string()))?;
        let list = self.key_probe.model_list(&entry.provider).await.map_err(ImportModelsError::NoList)?;
        let providers = BTreeMap::from([("openrouter".to_owned(), provider)]);
        let source = Source::Openrouter;
        let order = ImportOrder { source, list, providers, only: Vec::new(), dry_run, replace_set };
        self.import_models(actor, order).await
    }

    /// Reads the list beside the requests that are served: it may be megabytes.
    async fn read_list(&self, order: &ImportOrder) -> Result<Import, ImportModelsError> {
        let records = {
            let mut read = self.store.read().await?;
            store::provider::list(&mut read.conn()).await?
        };
        let registered: std::collections::BTreeSet<Slug> =
            records.iter().filter_map(|record| record.slug.parse().ok()).collect();
        if let Some(slug) = order.providers.values().find(|slug| !registered.contains(*slug)) {
            return Err(ImportModelsError::NoProvider(slug.to_string()));
        }
        let selection = Selection { named: order.providers.clone(), registered, only: order.only.clone() };
        let (source, list) = (order.source, order.list.clone());
        match tokio::task::spawn_blocking(move || import::read(source, &list, &selection)).await {
            Ok(read) => Ok(read?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    async fn put_imported(
        &self,
        tx: &mut Change,
        imported: &Imported,
        source: Source,
        records: &[ModelRecord],
        now: DateTime<Utc>,
    ) -> Result<ModelRecord, ImportModelsError> {
        let Imported { provider, name, document } = imported;
        let document = ModelDocument { effective_from: Some(now), ..document.clone() };
        let same = |other: &&ModelRecord| {
            (&*other.provider, &*other.name, other.effective_from) == (provider.as_str(), name, now)
        };
        let mut record = ModelRecord {
            provider: provider.to_string(),
            name: name.clone(),
            effective_from: now,
            version: 1,
            document: stored(&document, source),
            created_at: records.iter().find(same).map_or(now, |replaced| replaced.created_at),
        };
        record.version = store::model::put(&mut tx.conn(), &record).await?;
        tx.sign_model(&record).await?;
        Ok(record)
    }
}

/// What the list changes.
fn plan(
    order: &ImportOrder,
    listed: Import,
    (built_in, catalog): (&Catalog, &Catalog),
    records: &[ModelRecord],
    now: DateTime<Utc>,
) -> (ImportReport, Vec<Planned>) {
    let Import { models, mut unmapped, mut approximated, skipped } = listed;
    let (mut added, mut changed, mut kept, mut planned) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut unchanged = 0;
    let deciding = deciding(records, now);
    let is_by_hand = |provider: &Slug, name: &str| {
        deciding.get(&(provider.as_str(), name)).is_some_and(|record| imported_from(record).is_none())
    };
    for Imported { provider, name, mut document } in models {
        let model = format!("{provider}/{name}");
        let Some(known) = catalog.find(provider.as_str(), &name) else {
            if let Some(why) = bound_reasoning(built_in, provider.as_str(), &mut document) {
                approximated.push(Remark { model: model.clone(), field: Some("reasoning".to_owned()), why });
            }
            let detail = json!({"source": order.source, "added": document});
            added.push(AddedModel { model, document: document.clone() });
            planned.push(Planned { imported: Imported { provider, name, document }, detail });
            continue;
        };
        if known.name != name {
            let why = format!("the name is an alias of {} here, whose prices hold", known.name);
            unmapped.push(Remark { model, field: None, why });
            continue;
        }
        let before = known.document_at(now);
        approximated.extend(import::zeros_over_prices(&before, &document).into_iter().map(|direction| {
            Remark {
                model: model.clone(),
                field: Some(direction.to_owned()),
                why: "0 over a price that is known is taken for not listed; what is known is kept".to_owned(),
            }
        }));
        let after = import::merged(&before, &document);
        let differences = import::changes(&before, &after);
        if differences.is_empty() {
            unchanged += 1;
        } else if !order.replace_set && is_by_hand(&provider, &name) {
            kept.push(ChangedModel { model, changes: differences });
        } else {
            let detail = json!({"source": order.source, "changes": differences});
            changed.push(ChangedModel { model, changes: differences });
            planned.push(Planned { imported: Imported { provider, name, document: after }, detail });
        }
    }
    let (source, dry_run) = (order.source, order.dry_run);
    let report =
        ImportReport { source, dry_run, added, changed, kept, unchanged, unmapped, approximated, skipped };
    (report, planned)
}

/// No list tells whether a bound on the output bounds reasoning, too. What is true of every built-in model of the provider
/// is taken to be true of a new one. Returns what is to be told of it.
fn bound_reasoning(built_in: &Catalog, provider: &str, document: &mut ModelDocument) -> Option<String> {
    const REASONING: &str = "reasoning";
    let is_told = document.bound_covers_reasoning || document.max_reasoning_tokens.is_some();
    if is_told || !document.capabilities.iter().any(|known| known == REASONING) {
        return None;
    }
    let mut alike = built_in.models_of(provider).filter(|model| model.can(REASONING)).peekable();
    document.bound_covers_reasoning =
        alike.peek().is_some() && alike.all(|model| model.bound_covers_reasoning);
    let why = if document.bound_covers_reasoning {
        "the bound on its output is taken to bound its reasoning, as with every known model of this provider"
    } else {
        "how much it reasons is not listed, so each request holds a whole context window for it: set \
         bound_covers_reasoning or max_reasoning_tokens"
    };
    Some(why.to_owned())
}

/// Of each model, by provider and name, what was said that holds now; or, where nothing has begun, what will.
pub(super) fn deciding(records: &[ModelRecord], now: DateTime<Utc>) -> BTreeMap<(&str, &str), &ModelRecord> {
    let mut deciding: BTreeMap<(&str, &str), &ModelRecord> = BTreeMap::new();
    // In the order of their times: the last that has begun decides, and the first of those to come where none has.
    for record in records {
        let decides = deciding.entry((&record.provider, &record.name)).or_insert(record);
        if record.effective_from <= now {
            *decides = record;
        }
    }
    deciding
}
