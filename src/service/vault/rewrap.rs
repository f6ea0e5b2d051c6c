//! The rewrap: everything of older terms moves to the current one, in batches.
//!
//! Each batch is a change of its own that moves only what is still as it was read, so it can be cut off anywhere, run
//! beside anything and begin anew. What does not open or was tampered with stays as it is, is told, and keeps its
//! term's key alive. Nothing here opens a provider's key.

use super::{
    Change, GuardError, credential_row, model_row, operator_row, project_row, provider_row, subkey_row,
};
use crate::log::AlarmKind;
use crate::provider::Provider;
use crate::provider::endpoint::ProviderDocument;
use crate::service::ledger::AuditError;
use crate::service::{Services, StoreError, binding};
use crate::store::budget::BudgetOwner;
use crate::store::register::RowMac;
use crate::store::term::Wrapped;
use crate::store::{self, Conn};
use crate::subkey::SubKeyId;
use crate::vault::{PowerRow, PowerTable, SealedCredential, rewrap_credential};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const BATCH: u32 = 200;
/// Between two batches the database is left to requests for as long as a batch took, up to this.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Why a pass was interrupted.
#[derive(Debug, thiserror::Error)]
enum RewrapError {
    /// Nothing can be changed.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The sums of the log were not signed anew.
    #[error(transparent)]
    Sums(#[from] AuditError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Services {
    /// One pass over everything of older terms, and then what nothing needs any more is retired.
    pub(super) async fn move_to_current_term(&self, drain: &CancellationToken) {
        let Ok(keyring) = self.vault.keyring() else { return };
        if keyring.terms().count() < 2 {
            return;
        }
        let current = keyring.current_term();
        drop(keyring);
        if let Err(error) = self.move_all(current, drain).await {
            tracing::warn!(%error, "the rewrap was interrupted; it goes on by itself");
            return;
        }
        match self.retire_unneeded().await {
            Ok(gone) => gone.iter().for_each(|(term, key_use)| {
                tracing::info!(term, key = key_use.as_str(), "a key of an older term was retired");
            }),
            Err(error) => tracing::warn!(%error, "keys of older terms were not retired; it is tried again"),
        }
    }

    async fn move_all(&self, current: u32, drain: &CancellationToken) -> Result<(), RewrapError> {
        let mut after = None;
        let mut has_moved = false;
        while !drain.is_cancelled() {
            let begun = Instant::now();
            let Some((last, moved)) = self.rewrap_batch(current, after.as_ref()).await? else { break };
            has_moved |= moved > 0;
            after = Some(last);
            pause(begun).await;
        }
        if has_moved {
            self.reload_directory().await?;
        }
        let mut after = None;
        while !drain.is_cancelled() {
            let begun = Instant::now();
            let Some(last) = self.sign_batch(current, after.as_ref()).await? else { break };
            after = Some(last);
            pause(begun).await;
        }
        let signed = self.ledger.sign_sums_again(current).await?;
        self.terms.count(signed + self.sign_deferred_again(current).await?);
        Ok(self.sign_register(current).await?)
    }

    /// Wraps up to 200 data keys in the current term. Returns the last that was looked at, and how many moved; `None`
    /// when there are no more.
    async fn rewrap_batch(
        &self,
        current: u32,
        after: Option<&(String, i64)>,
    ) -> Result<Option<((String, i64), usize)>, GuardError> {
        let mut change = self.change().await?;
        let from = after.map(|(credential, version)| (credential.as_str(), *version));
        let some = store::term::wraps_before(&mut change.conn(), i64::from(current), from, BATCH).await?;
        let Some(last) = some.last().map(|last| (last.credential_id.clone(), last.secret_version)) else {
            return Ok(None);
        };
        let providers = self.usable_providers(&mut change.conn()).await?;
        let mut moved = 0;
        for old in &some {
            let provider = providers.get(&old.provider);
            let new = provider.and_then(|provider| self.rewrapped(&change, provider, old));
            let Some(new) = new else {
                let detail = json!({
                    "secret_version": old.secret_version, "provider": old.provider, "term": old.term,
                    "provider_is_usable": provider.is_some(),
                });
                self.alarms.raise(AlarmKind::RewrapBlocked, &old.credential_id, &detail);
                continue;
            };
            let term = i64::from(new.term);
            if store::term::rewrap(&mut change.conn(), old, &new.wrapped_dek, term).await? {
                store::term::count_uses(&mut change.conn(), term, 1, self.clock.now()).await?;
                moved += 1;
            }
        }
        change.commit().await?;
        self.terms.count(moved);
        Ok(Some((last, moved)))
    }

    fn rewrapped(&self, change: &Change, provider: &Provider, old: &Wrapped) -> Option<SealedCredential> {
        let place = binding(&self.installation, provider, &old.credential_id, old.secret_version);
        let sealed = SealedCredential {
            term: u32::try_from(old.term).ok()?,
            wrapped_dek: old.wrapped_dek.clone(),
            sealed: old.sealed.clone(),
        };
        rewrap_credential(&self.entropy, change.keyring(), &place, &sealed).ok()
    }

    async fn usable_providers(&self, conn: &mut Conn<'_>) -> Result<BTreeMap<String, Provider>, StoreError> {
        let mut usable = BTreeMap::new();
        for record in store::provider::list(conn).await? {
            let document: Option<ProviderDocument> = serde_json::from_value(record.document).ok();
            if let Some(provider) = document.and_then(|document| document.check(&self.private_upstreams).ok())
            {
                usable.insert(record.slug, provider);
            }
        }
        Ok(usable)
    }

    /// Signs up to 200 rows in the current term. Returns the last that was looked at; `None` when there are no more.
    async fn sign_batch(
        &self,
        current: u32,
        after: Option<&(String, String)>,
    ) -> Result<Option<(String, String)>, GuardError> {
        let mut change = self.change().await?;
        let from = after.map(|(table, id)| (table.as_str(), id.as_str()));
        let some = store::register::macs(&mut change.conn(), from, Some(i64::from(current)), BATCH).await?;
        let Some(last) = some.last().map(|last| (last.tbl.clone(), last.id.clone())) else {
            return Ok(None);
        };
        let mut moved = 0;
        for RowMac { tbl, id, .. } in &some {
            let row = power_row(&mut change.conn(), tbl, id).await?;
            // Signing what was tampered with would make it good.
            match row.filter(|row| change.check(row).is_ok()) {
                Some(row) => {
                    change.sign(&row).await?;
                    moved += 1;
                }
                None => self.alarms.raise(
                    AlarmKind::RowTampered,
                    &format!("{tbl}/{id}"),
                    &json!({"found_by": "rewrap"}),
                ),
            }
        }
        change.commit().await?;
        self.terms.count(moved);
        Ok(Some(last))
    }

    /// The register is signed with each change; this is for one that none came after.
    async fn sign_register(&self, current: u32) -> Result<(), GuardError> {
        let signed = store::register::get(&mut self.store.read().await?.conn()).await?;
        if signed.is_some_and(|signed| signed.term < i64::from(current)) {
            let mut change = self.change().await?;
            change.sign_register();
            change.commit().await?;
        }
        Ok(())
    }
}

async fn pause(begun: Instant) {
    tokio::time::sleep(begun.elapsed().min(PAUSE_MAX)).await;
}

/// A row as it is in the database, in the form in which it is signed; `None` when there is none.
async fn power_row(conn: &mut Conn<'_>, table: &str, id: &str) -> Result<Option<PowerRow>, StoreError> {
    let Some(table) = PowerTable::ALL.iter().find(|known| known.as_str() == table) else { return Ok(None) };
    let is_it = |row: &PowerRow| row.id == id;
    Ok(match table {
        PowerTable::Subkeys => {
            let Some(id) = SubKeyId::parse(id) else { return Ok(None) };
            let Some(subkey) = store::subkey::get(conn, &id).await? else { return Ok(None) };
            let budgets = store::budget::of_owner(conn, &BudgetOwner::subkey(&id)).await?;
            Some(subkey_row(&subkey, &budgets))
        }
        PowerTable::Providers => store::provider::get(conn, id).await?.as_ref().map(provider_row),
        PowerTable::Credentials => {
            let Some(credential) = store::credential::get(conn, id).await? else { return Ok(None) };
            let versions = store::credential::versions_of(conn, id).await?;
            Some(credential_row(&credential, versions))
        }
        PowerTable::Models => store::model::list(conn).await?.iter().map(model_row).find(is_it),
        PowerTable::Operators => {
            let all = store::operator::list(conn).await?;
            let Some(operator) = all.into_iter().find(|operator| operator.id == id) else { return Ok(None) };
            let tokens = store::operator::tokens_of(conn, id).await?;
            Some(operator_row(&operator, &tokens))
        }
        PowerTable::Projects => {
            let Some(project) = store::project::get(conn, id).await? else { return Ok(None) };
            let budgets = store::budget::of_owner(conn, &BudgetOwner::project(id)).await?;
            Some(project_row(&project, &budgets))
        }
    })
}
