//! When secrets were last used, and MACs of theirs in the term of today: kept in memory, written down every few seconds.

use super::{Services, StoreError};
use crate::store;
use crate::store::subkey::SecretUse;
use crate::store::term::NewMac;
use crate::subkey::{SecretRecord, SubKeyId};
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

const PENDING_MAX: usize = 100_000;
/// Bounds how long one transaction takes. What does not fit is noted at the secret's next use.
const NEW_MACS_MAX: usize = 2_000;

/// What is not written down yet; a later use of the same secret replaces an earlier one.
#[derive(Debug, Default)]
pub(super) struct LastUsed {
    uses: Mutex<HashMap<String, (SubKeyId, DateTime<Utc>)>>,
    new_macs: Mutex<HashMap<String, (SubKeyId, SecretRecord, NewMac)>>,
}

impl LastUsed {
    /// Notes a use. Beyond 100,000 secrets between two writes, further ones are not noted: the log has them.
    pub(super) fn touch(&self, subkey: &SubKeyId, secret_id: &str, now: DateTime<Utc>) {
        let mut pending = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, at)) = pending.get_mut(secret_id) {
            *at = now;
        } else if pending.len() < PENDING_MAX {
            pending.insert(secret_id.to_owned(), (subkey.clone(), now));
        }
    }

    /// Notes that a right secret was presented whose MAC is of an older term; `mac` makes it in the term of today.
    pub(super) fn outdated(
        &self,
        subkey: &SubKeyId,
        secret: &SecretRecord,
        mac: impl FnOnce() -> (Vec<u8>, u32),
    ) {
        let mut pending = self.new_macs.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.contains_key(&secret.id) || pending.len() >= NEW_MACS_MAX {
            return;
        }
        let (mac, term) = mac();
        let term = i64::from(term);
        let new = NewMac { secret_id: secret.id.clone(), old: secret.mac.clone(), mac: mac.clone(), term };
        let secret = SecretRecord { mac, mac_term: term, ..secret.clone() };
        pending.insert(secret.id.clone(), (subkey.clone(), secret, new));
    }

    fn take_uses(&self) -> Vec<SecretUse> {
        let pending = std::mem::take(&mut *self.uses.lock().unwrap_or_else(PoisonError::into_inner));
        pending
            .into_iter()
            .map(|(secret_id, (subkey_id, at))| SecretUse { secret_id, subkey_id, at })
            .collect()
    }

    fn take_new_macs(&self) -> Vec<(SubKeyId, SecretRecord, NewMac)> {
        let taken = std::mem::take(&mut *self.new_macs.lock().unwrap_or_else(PoisonError::into_inner));
        taken.into_values().collect()
    }
}

impl Services {
    /// Writes down what was noted since the last time.
    pub async fn write_last_used(&self) -> Result<(), StoreError> {
        let (uses, new_macs) = (self.last_used.take_uses(), self.last_used.take_new_macs());
        if uses.is_empty() && new_macs.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.write().await?;
        store::subkey::touch(&mut tx.conn(), &uses).await?;
        let (mut written, mut moved_on) = (Vec::new(), Vec::new());
        for (subkey, secret, new) in new_macs {
            if store::term::remake_mac(&mut tx.conn(), &new).await? {
                written.push((subkey, secret));
            } else {
                moved_on.push(subkey);
            }
        }
        tx.commit().await?;
        for (subkey, secret) in &written {
            self.registry.remade(subkey, std::slice::from_ref(secret));
        }
        for subkey in moved_on {
            // What is in memory is behind the store.
            let stored = store::subkey::get(&mut self.store.read().await?.conn(), &subkey).await?;
            stored.and_then(|stored| self.registry.remade(&subkey, &stored.secrets));
        }
        if !written.is_empty() {
            self.terms.wake();
        }
        Ok(())
    }
}
