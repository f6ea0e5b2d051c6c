//! When secrets were last used: kept in memory, written down every few seconds.

use super::{Services, StoreError};
use crate::store;
use crate::store::subkey::SecretUse;
use crate::subkey::SubKeyId;
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

const PENDING_MAX: usize = 100_000;

/// Uses that are not written down yet; a later use of the same secret replaces an earlier one.
#[derive(Debug, Default)]
pub(super) struct LastUsed(Mutex<HashMap<String, (SubKeyId, DateTime<Utc>)>>);

impl LastUsed {
    /// Notes a use. Beyond 100,000 secrets between two writes, further ones are not noted: the log has them.
    pub(super) fn touch(&self, subkey: &SubKeyId, secret_id: &str, now: DateTime<Utc>) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, at)) = pending.get_mut(secret_id) {
            *at = now;
        } else if pending.len() < PENDING_MAX {
            pending.insert(secret_id.to_owned(), (subkey.clone(), now));
        }
    }

    fn take(&self) -> Vec<SecretUse> {
        let pending = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        pending
            .into_iter()
            .map(|(secret_id, (subkey_id, at))| SecretUse { secret_id, subkey_id, at })
            .collect()
    }
}

impl Services {
    /// Writes down the uses noted since the last time.
    pub async fn write_last_used(&self) -> Result<(), StoreError> {
        let uses = self.last_used.take();
        if uses.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.write().await?;
        store::subkey::touch(&mut tx.conn(), &uses).await?;
        tx.commit().await
    }
}
