//! Quarantine: the database is not what was written last, so nothing is admitted until an operator has looked.
//!
//! It is written in the signed register, so it outlasts restarts; whoever takes it out of there leaves a register that
//! is not signed, which is a reason for quarantine itself. In memory it only ever closes: a release alone opens.

use super::backup::Manifest;
use super::vault::{Book, Change, FIRST_KEYRING, Standing};
use super::{GuardError, Services, StoreError};
use crate::log::{AdminEntry, AlarmKind};
use crate::store::{self, Tx};
use crate::vault::{Keyring, Quarantine};
use chrono::{DateTime, Utc};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Mutex;

/// Whether anything is admitted. Asking takes one atomic read.
#[derive(Debug, Default)]
pub(super) struct Gate {
    is_closed: AtomicBool,
    why: RwLock<Option<Quarantine>>,
}

impl Gate {
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Whether it was open.
    fn close(&self, why: Quarantine) -> bool {
        *self.why.write().unwrap_or_else(PoisonError::into_inner) = Some(why);
        !self.is_closed.swap(true, Ordering::SeqCst)
    }

    pub(super) fn open(&self) {
        *self.why.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.is_closed.store(false, Ordering::SeqCst);
    }
}

impl Services {
    /// Whether nothing is admitted.
    pub fn is_quarantined(&self) -> bool {
        self.quarantined.is_closed()
    }

    /// Why nothing is admitted; `None` when that is not so.
    pub fn quarantine(&self) -> Option<Quarantine> {
        self.quarantined.why.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in what the register says. `None` opens nothing: a register may be older than what is known here.
    pub(super) fn set_quarantine(&self, quarantine: Option<Quarantine>) {
        let Some(quarantine) = quarantine else { return };
        let (reason, detail) = (quarantine.reason.clone(), quarantine.detail.clone());
        if self.quarantined.close(quarantine) {
            self.registry.stop_all();
            self.alarms.raise(
                AlarmKind::Quarantined,
                &self.installation,
                &json!({"reason": reason, "detail": detail}),
            );
        }
    }

    /// The rows do not add up to the register of a database that is being opened.
    pub(super) async fn quarantine_mismatch(
        &self,
        keyring: &Arc<Keyring>,
        standing: Standing,
    ) -> Result<(), StoreError> {
        match mismatch(standing) {
            None => Ok(()),
            Some(detail) => self.open_quarantined(keyring, MISMATCH, detail).await,
        }
    }

    /// Admits nothing from now on, over restarts, and counts the epoch up. A further reason is added to the first. While
    /// the vault is sealed it cannot be written down; it is found again when that opens.
    pub(super) async fn enter_quarantine(&self, reason: &str, detail: &str) -> Result<(), GuardError> {
        let told = self.close_gate(reason, detail);
        Ok(self.write_quarantine(self.change().await?, told).await?)
    }

    /// The same before the vault is open, by the keyring that it is being opened with.
    pub(super) async fn open_quarantined(
        &self,
        keyring: &Arc<Keyring>,
        reason: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        let told = self.close_gate(reason, detail);
        self.write_quarantine(self.change_while_opening(keyring).await?, told).await
    }

    fn close_gate(&self, reason: &str, detail: &str) -> Quarantine {
        let told =
            Quarantine { since: self.clock.now(), reason: reason.to_owned(), detail: detail.to_owned() };
        if !self.is_quarantined() {
            self.set_quarantine(Some(told.clone()));
        }
        told
    }

    async fn write_quarantine(&self, mut change: Change, told: Quarantine) -> Result<(), StoreError> {
        if !add_reason(&mut change, told) {
            return Ok(());
        }
        let kept = change.state().quarantine.clone();
        change.commit().await?;
        self.set_quarantine(kept);
        Ok(())
    }
}

pub(super) const MISMATCH: &str = "register_mismatch";

/// What a standing of the rows says for people; `None` when nothing is wrong.
pub(super) fn mismatch(standing: Standing) -> Option<&'static str> {
    match standing {
        Standing::Sound => None,
        Standing::RegisterUnsigned => Some("the register of signed rows is missing or was changed"),
        Standing::DoesNotAddUp => Some("rows that grant power were taken away, put in or put back"),
    }
}

/// Writes a reason into the register: the first one with a new epoch, a further one behind it. `false` when it is
/// there already.
pub(super) fn add_reason(change: &mut Change, told: Quarantine) -> bool {
    match &mut change.state().quarantine {
        Some(first) => {
            let further = format!("{}: {}", told.reason, told.detail);
            let is_told =
                first.reason == told.reason || first.detail.contains(&format!("; {}: ", told.reason));
            if !is_told {
                first.detail = format!("{}; {further}", first.detail);
            }
            !is_told
        }
        none @ None => {
            *none = Some(told);
            change.begin_epoch();
            true
        }
    }
}

/// Marks what was restored, and commits it: the last step of the transaction that restores a backup. Whatever server
/// opens the database next admits nothing until an operator releases it.
///
/// A new epoch begins; the admin log says from which backup everything before this entry is. The checkpoint of a data
/// directory is left alone: where it is newer, that is told too when the server starts.
pub(crate) async fn mark_restored(
    mut tx: Tx<'static>,
    keyring: Arc<Keyring>,
    backup: &Manifest,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let figures = store::meta::figures(&mut tx.conn()).await?;
    let is_first_form = store::keyring::get(&mut tx.conn(), FIRST_KEYRING).await?.is_some();
    let (book, is_signed) = Book::of_register(store::register::get(&mut tx.conn()).await?, &keyring);
    let book = Arc::new(Mutex::new(book)).lock_owned().await;
    let mut change = Change::begin(tx, keyring, book);
    let was_quarantined = change.state().quarantine.is_some();
    if !is_signed && !is_first_form {
        // Signed anew below, it would look sound afterwards.
        let detail = mismatch(Standing::RegisterUnsigned).unwrap_or_default().to_owned();
        add_reason(&mut change, Quarantine { since: now, reason: MISMATCH.to_owned(), detail });
    }
    let detail = format!(
        "restored from a backup of {}: epoch {}, change {}, access log {}, admin log {}",
        backup.created_at, figures.epoch, figures.register_seq, figures.access_log_seq, figures.admin_log_seq
    );
    add_reason(&mut change, Quarantine { since: now, reason: "restored".to_owned(), detail });
    if was_quarantined {
        change.begin_epoch();
    }
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
    store::admin_log::append(&mut change.conn(), &entry).await?;
    change.commit().await
}
