//! When secrets were last used, and MACs of theirs in the term of today: kept in memory, written down every second.

use super::{GuardError, Services, StoreError};
use crate::store;
use crate::store::subkey::SecretUse;
use crate::store::term::NewMac;
use crate::subkey::{SecretRecord, SubKeyId};
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

const PENDING_MAX: usize = 100_000;
/// Bounds how long one transaction takes. What does not fit is noted at the secret's next use.
const NEW_MACS_MAX: usize = 500;

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
        if !uses.is_empty() {
            let mut tx = self.store.write().await?;
            store::subkey::touch(&mut tx.conn(), &uses).await?;
            tx.commit().await?;
        }
        if new_macs.is_empty() {
            return Ok(());
        }
        match self.remake_macs(new_macs).await {
            // Sealed, they are noted again at the next use.
            Ok(()) | Err(GuardError::Sealed(_) | GuardError::Tampered(_)) => Ok(()),
            Err(GuardError::Store(error)) => Err(error),
        }
    }

    /// Writes MACs of today's term down, and signs the sub-keys with them. What SQL changed stays as it is.
    async fn remake_macs(&self, new_macs: Vec<(SubKeyId, SecretRecord, NewMac)>) -> Result<(), GuardError> {
        let mut tx = self.change().await?;
        let (mut written, mut moved_on) = (Vec::new(), Vec::new());
        for (id, secret, new) in new_macs {
            let Some(stored) = store::subkey::get(&mut tx.conn(), &id).await? else { continue };
            let checked = tx.check_subkey(&stored).await;
            if matches!(checked, Err(GuardError::Tampered(_))) || tx.vouch_for(&secret).is_err() {
                continue;
            }
            checked?;
            if store::term::remake_mac(&mut tx.conn(), &new).await? {
                tx.sign_subkey(&id).await?;
                written.push((id, secret));
            } else {
                moved_on.push(stored);
            }
        }
        tx.commit().await?;
        for (subkey, secret) in &written {
            self.registry.remade(subkey, std::slice::from_ref(secret));
        }
        for stored in moved_on {
            // What is in memory is behind the store.
            self.registry.remade(&stored.id, &stored.secrets);
        }
        if !written.is_empty() {
            self.terms.wake();
        }
        Ok(())
    }
}
