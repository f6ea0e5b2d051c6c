//! Whether the server can do its work.

use super::Services;

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
}
