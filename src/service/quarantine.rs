//! Quarantine: the database is not what was written last, so nothing is admitted until an operator has looked.

use super::backup::Manifest;
use super::vault::{Change, Standing};
use super::{Services, StoreError};
use crate::log::{AdminEntry, AlarmKind};
use crate::store::{self, Tx};
use crate::vault::{Keyring, Quarantine};
use chrono::{DateTime, Utc};
use serde_json::json;
use std::sync::{Arc, PoisonError};

impl Services {
    /// Why nothing is admitted; `None` when that is not so.
    pub fn quarantine(&self) -> Option<Quarantine> {
        self.quarantined.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers what the register says.
    pub(super) fn set_quarantine(&self, quarantine: Option<Quarantine>) {
        *self.quarantined.write().unwrap_or_else(PoisonError::into_inner) = quarantine;
    }

    /// The rows do not add up to the register.
    pub(super) async fn quarantine_mismatch(
        &self,
        keyring: &Arc<Keyring>,
        standing: Standing,
    ) -> Result<(), StoreError> {
        let detail = match standing {
            Standing::Sound => return Ok(()),
            Standing::RegisterUnsigned => "the register of signed rows is missing or was changed",
            Standing::DoesNotAddUp => "rows that grant power were taken away, put in or put back",
        };
        self.enter_quarantine(keyring, "register_mismatch", detail).await
    }

    /// Admits nothing from now on, over restarts.
    pub(super) async fn enter_quarantine(
        &self,
        keyring: &Arc<Keyring>,
        reason: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        let quarantine =
            Quarantine { since: self.clock.now(), reason: reason.to_owned(), detail: detail.to_owned() };
        self.set_quarantine(Some(quarantine.clone()));
        self.alarms.raise(
            AlarmKind::Quarantined,
            &self.installation,
            &json!({"reason": reason, "detail": detail}),
        );
        let tx = self.store.write().await?;
        let book = Arc::clone(&self.book).lock_owned().await;
        let mut change = Change::begin(tx, Arc::clone(keyring), book);
        if change.state().quarantine.is_none() {
            change.state().quarantine = Some(quarantine);
        }
        change.commit().await
    }
}

/// Marks what was restored, and commits it: the last step of the transaction that restores a backup.
///
/// The admin log says from which backup everything before this entry is.
pub(crate) async fn mark_restored(
    mut tx: Tx<'static>,
    keyring: Arc<Keyring>,
    backup: &Manifest,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    drop(keyring);
    let entry = AdminEntry {
        time: now,
        actor: "local".to_owned(),
        action: "backup.restore".to_owned(),
        target: backup.installation.clone(),
        request_id: String::new(),
        detail: json!({
            "created_at": backup.created_at,
            "backend": backup.backend,
            "register_seq": backup.register_seq,
            "log_seq": backup.log_seq,
            "sha256": backup.sha256,
        }),
    };
    store::admin_log::append(&mut tx.conn(), &entry).await?;
    tx.commit().await
}
