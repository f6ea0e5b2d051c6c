//! Who presents a secret: by id in memory, by HMAC in constant time.

use super::rates::{Metered, RateOwner};
use super::registry::{ActiveKey, Cached};
use super::vault::SubKeys;
use super::{Hold, Lineage, Sealed, Services, StoreError};
use crate::base::NanoUsd;
use crate::policy::Bounds;
use crate::store::budget::BudgetOwner;
use crate::subkey::{SecretRecord, SubKeyId, SubKeyToken};
use crate::vault::{KeyUse, Keyring};
use chrono::{DateTime, Utc};
use std::sync::Arc;

/// A sub-key whose right secret was presented. Whether it may do anything is decided later.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The sub-key.
    pub key: Arc<ActiveKey>,
    /// Which of its secrets.
    pub secret_id: String,
    /// Its project and those above it.
    pub lineage: Arc<Lineage>,
}

impl Caller {
    /// The scopes that its requests are held against: its own, and each ceiling above it.
    pub fn bounds(&self) -> Bounds<'_> {
        self.lineage.bounds(&self.key.scope)
    }

    /// The dearest single request, at its worst case, and the project whose ceiling says so; `None`: the key's own bound.
    pub fn request_cap(&self) -> Option<(Option<&str>, NanoUsd)> {
        self.lineage.request_cap(self.key.subkey.definition.max_request_usd)
    }

    /// Whether anything caps what it spends: then whatever has no price is refused.
    pub fn is_capped(&self) -> bool {
        let definition = &self.key.subkey.definition;
        !definition.budgets.is_empty() || definition.max_request_usd.is_some() || self.lineage.is_capped()
    }

    /// What `amount` takes from each budget at `now`, in the order in which they refuse: its own first, then project by
    /// project upwards, each by window.
    pub fn holds(&self, now: DateTime<Utc>, amount: NanoUsd) -> Vec<Hold> {
        let subkey = &self.key.subkey;
        let owner = BudgetOwner::subkey(&subkey.id);
        let mut holds = Hold::of_all(&owner, &subkey.definition.budgets, now, amount);
        holds.extend(self.lineage.holds(now, amount));
        holds
    }

    /// Whose rate limits bind the caller and are told to it: from its key upwards.
    pub fn metered(&self) -> Vec<Metered> {
        let own = Metered { owner: RateOwner::Subkey, rates: Arc::clone(&self.key.rates) };
        std::iter::once(own).chain(self.lineage.metered()).collect()
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
    /// Whether the caller's sub-key and the projects above it are still what they were when it was recognised, by what is
    /// known in memory: a change is known there before the call that made it returns.
    pub fn is_current(&self, caller: &Caller) -> bool {
        let subkey = &caller.key.subkey;
        self.registry.is_current(&subkey.id, subkey.version) && self.projects.is_current(&caller.lineage)
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
        let lineage = self.projects.lineage(&key.subkey.definition.project);
        Ok(Caller { key, secret_id: secret.id, lineage })
    }

    /// Whoever presents a secret of this sub-key, in whatever state it is: to tell of it, not to let anybody in.
    pub(super) async fn caller_of(
        &self,
        id: &SubKeyId,
        keyring: &Keyring,
    ) -> Result<Option<Caller>, StoreError> {
        let Some(key) = self.active_key(id, keyring).await? else { return Ok(None) };
        let lineage = self.projects.lineage(&key.subkey.definition.project);
        Ok(Some(Caller { key, secret_id: String::new(), lineage }))
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
            Ok(Some(self.registry.offer(generation, subkey, !wrong.is_empty(), self.ledger.rate_now())))
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
