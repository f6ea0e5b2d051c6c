//! Whether the server can do its work, and where budgets stand.

use super::{Hold, Services, StoreError};
use crate::base::NanoUsd;
use crate::budget::Balance;
use crate::store;
use crate::subkey::SubKey;

impl Services {
    /// Why the server cannot authenticate, reserve and record; empty when it can.
    pub async fn not_ready(&self) -> Vec<&'static str> {
        let mut reasons = Vec::new();
        if let Some(reason) = self.vault.sealed() {
            reasons.extend(["sealed", reason.as_str()]);
        }
        if self.quarantine().is_some() {
            reasons.push("quarantined");
        }
        if self.store.ping().await.is_err() {
            reasons.push("store_unavailable");
        }
        if !self.ledger.is_writing().await {
            reasons.push("ledger_unavailable");
        }
        if self.is_checkpoint_unwritable() {
            reasons.push("checkpoint_unwritable");
        }
        reasons
    }

    /// Where each budget of a sub-key stands in its present window, in the order of its definition.
    pub async fn budget_standing(&self, subkey: &SubKey) -> Result<Vec<(Hold, Balance)>, StoreError> {
        let now = self.clock.now();
        let holds: Vec<Hold> = subkey
            .definition
            .budgets
            .iter()
            .map(|spec| Hold::of(&subkey.id, spec, now, NanoUsd::ZERO))
            .collect();
        let windows: Vec<_> = holds.iter().map(|hold| (hold.budget.clone(), hold.window_start)).collect();
        let mut read = self.store.read().await?;
        let mut balances = store::budget::balances(&mut read.conn(), &windows).await?;
        Ok(holds
            .into_iter()
            .zip(&subkey.definition.budgets)
            .map(|(hold, spec)| {
                let fresh = Balance { limit: spec.limit_usd, ..Balance::default() };
                let balance = balances.remove(&hold.budget).unwrap_or(fresh);
                let balance = self.ledger.without_idle(&hold.window_id(), balance);
                (hold, balance)
            })
            .collect())
    }
}
