//! Who presents a secret: by id in memory, by HMAC in constant time.

use super::rates::{Metered, RateOwner};
use super::registry::{ActiveKey, Cached};
use super::vault::SubKeys;
use super::{Sealed, Services, StoreError};
use crate::subkey::{SecretRecord, SubKeyId, SubKeyToken};
use crate::vault::{KeyUse, Keyring};
use std::sync::Arc;

/// A sub-key whose right secret was presented. Whether it may do anything is decided later.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The sub-key.
    pub key: Arc<ActiveKey>,
    /// Which of its secrets.
    pub secret_id: String,
}

impl Caller {
    /// Whose rate limits bind the caller and are told to it: from its key upwards.
    pub fn metered(&self) -> Vec<Metered> {
        vec![Metered { owner: RateOwner::Subkey, rates: Arc::clone(&self.key.rates) }]
    }
}

/// Why nobody was recognised.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// No such sub-key, or not its secret, or a secret that was rotated out. Nothing tells which.
    #[error("the secret is nobody's")]
    Unknown,
    /// Nobody can be recognised while the vault is closed.
    #[error(transparent)]
    Sealed(#[from] Sealed),
    /// It could not be looked up.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Services {
    /// Whether the caller's sub-key is still what it was recognised as, by what is known in memory: a change of it is
    /// known there before the call that made it returns.
    pub fn is_current(&self, caller: &Caller) -> bool {
        let subkey = &caller.key.subkey;
        self.registry.is_current(&subkey.id, subkey.version)
    }

    /// Recognises the sub-key that a token belongs to, in whatever state it is.
    pub async fn authenticate(&self, token: &SubKeyToken) -> Result<Caller, AuthenticateError> {
        let keyring = self.vault.keyring()?;
        let Some(key) = self.active_key(token.id(), &keyring).await? else {
            // As much work as for a known id, so that time does not tell which ids exist.
            let _ = keyring.recognises(&token.mac_input(), &[0; 32], keyring.current_term());
            return Err(AuthenticateError::Unknown);
        };
        let (now, input) = (self.clock.now(), token.mac_input());
        let (keyring, key) = if key.subkey.live_secrets(now).all(|secret| has_pepper(&keyring, secret)) {
            (keyring, key)
        } else {
            // The pepper was rotated between the look at the keyring and the look at the key.
            let keyring = self.vault.keyring()?;
            let key = self.with_macs_of_now(key, &keyring).await?;
            (keyring, key)
        };
        let recognised = key.subkey.live_secrets(now).find(|secret| {
            u32::try_from(secret.mac_term).is_ok_and(|term| keyring.recognises(&input, &secret.mac, term))
        });
        let secret = recognised.ok_or(AuthenticateError::Unknown)?.clone();
        key.touch();
        self.last_used.touch(&key.subkey.id, &secret.id, now);
        if secret.mac_term != i64::from(keyring.current_term()) {
            self.last_used.outdated(&key.subkey.id, &secret, || keyring.mac(&input));
        }
        Ok(Caller { key, secret_id: secret.id })
    }

    /// The key with the MACs that the store has by now. A secret whose pepper is gone for good costs a look at the
    /// store, one at a time for each key.
    async fn with_macs_of_now(
        &self,
        key: Arc<ActiveKey>,
        keyring: &Keyring,
    ) -> Result<Arc<ActiveKey>, StoreError> {
        let id = &key.subkey.id;
        let _loading = self.loading.lock_for(id).await;
        let (mut stored, wrong) = self.look(keyring, &SubKeys(std::slice::from_ref(id))).await?;
        let renewed = stored
            .pop()
            .filter(|_| wrong.is_empty())
            .and_then(|stored| self.registry.remade(id, &stored.secrets));
        Ok(renewed.unwrap_or(key))
    }

    /// The sub-key as it stands, from memory or the store; one whose row was changed behind our back is unusable.
    async fn active_key(
        &self,
        id: &SubKeyId,
        keyring: &Keyring,
    ) -> Result<Option<Arc<ActiveKey>>, StoreError> {
        let generation = match self.registry.get(id, self.clock.now()) {
            Cached::Known(key) => return Ok(Some(key)),
            Cached::Unknown => return Ok(None),
            Cached::Missing(generation) => generation,
        };
        // A crowd that asks for the same id waits for the one that loads it.
        let _loading = self.loading.lock_for(id).await;
        match self.registry.get(id, self.clock.now()) {
            Cached::Known(key) => return Ok(Some(key)),
            Cached::Unknown => return Ok(None),
            Cached::Missing(_) => {}
        }
        let (mut found, wrong) = self.look(keyring, &SubKeys(std::slice::from_ref(id))).await?;
        if let Some(subkey) = found.pop() {
            Ok(Some(self.registry.offer(generation, subkey, !wrong.is_empty(), self.ledger.now())))
        } else {
            self.registry.offer_unknown(generation, id.clone(), self.clock.now());
            Ok(None)
        }
    }
}

fn has_pepper(keyring: &Keyring, secret: &SecretRecord) -> bool {
    u32::try_from(secret.mac_term).is_ok_and(|term| keyring.has(term, KeyUse::Pepper))
}

/// One load at a time for each id, by a fixed number of locks.
#[derive(Debug)]
pub(super) struct SingleFlight([tokio::sync::Mutex<()>; 64]);

impl Default for SingleFlight {
    fn default() -> Self {
        Self(std::array::from_fn(|_| tokio::sync::Mutex::new(())))
    }
}

impl SingleFlight {
    async fn lock_for(&self, id: &SubKeyId) -> tokio::sync::MutexGuard<'_, ()> {
        let at = id.as_str().bytes().fold(0_usize, |sum, byte| (sum * 31 + usize::from(byte)) % self.0.len());
        self.0[at].lock().await
    }
}
