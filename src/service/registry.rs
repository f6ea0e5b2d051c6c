//! The sub-keys in use, in memory: authentication without I/O, and revocation that takes hold at once.
//!
//! A change of a sub-key is committed, then [`Registry::changed`] drops what is cached and cuts what is
//! in flight, and only then the call that made the change returns. A load that raced with a change is
//! used once at most and not kept; and an admission is written only if the version it was decided by
//! is still the current one.

use super::rates::Rates;
use crate::policy::Scope;
use crate::subkey::{SecretRecord, State, SubKey, SubKeyId};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// A sub-key with what the hot path needs of it, computed once.
#[derive(Debug)]
pub struct ActiveKey {
    /// The sub-key.
    pub subkey: SubKey,
    /// Its scope.
    pub scope: Scope,
    /// Its rates.
    pub rates: Arc<Rates>,
    /// Cancelled when the sub-key is stopped; requests in flight listen to it.
    pub stopped: CancellationToken,
}

/// Bounds of the registry.
#[derive(Clone, Copy, Debug)]
pub struct RegistryLimits {
    /// Sub-keys kept in memory.
    pub cached_max: usize,
    /// Unknown ids remembered.
    pub unknown_max: usize,
    /// How long an id is remembered as unknown.
    pub unknown_for: TimeDelta,
    /// Requests in flight for a sub-key that names no limit.
    pub concurrent_default: u64,
}

/// The cache of sub-keys.
#[derive(Debug)]
pub struct Registry {
    limits: RegistryLimits,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Counts changes: a load that began before a change is not kept.
    generation: u64,
    keys: HashMap<SubKeyId, Arc<ActiveKey>>,
    unknown: HashMap<SubKeyId, DateTime<Utc>>,
}

/// What the cache knows of an id.
#[derive(Debug)]
pub enum Cached {
    /// The sub-key.
    Known(Arc<ActiveKey>),
    /// There was none a moment ago.
    Unknown,
    /// Nothing: load it, and offer what was found with this number.
    Missing(u64),
}

impl Registry {
    /// An empty cache.
    pub fn new(limits: RegistryLimits) -> Self {
        Self { limits, inner: Mutex::default() }
    }

    /// Looks an id up.
    pub fn get(&self, id: &SubKeyId, now: DateTime<Utc>) -> Cached {
        let inner = self.lock();
        if let Some(key) = inner.keys.get(id) {
            Cached::Known(Arc::clone(key))
        } else if inner.unknown.get(id).is_some_and(|until| now < *until) {
            Cached::Unknown
        } else {
            Cached::Missing(inner.generation)
        }
    }

    /// Takes in a sub-key that was loaded when the cache stood at `generation`. It is kept only if
    /// nothing changed since.
    pub fn offer(&self, generation: u64, subkey: SubKey) -> Arc<ActiveKey> {
        let mut inner = self.lock();
        if inner.generation == generation && inner.keys.len() >= self.limits.cached_max {
            // Requests in flight keep their own handle; counters of idle keys start anew with their window.
            inner.keys.retain(|_, key| Arc::strong_count(key) > 1 || Arc::strong_count(&key.rates) > 1);
        }
        if let Some(known) = inner.keys.get(&subkey.id)
            && known.subkey.version == subkey.version
        {
            return Arc::clone(known);
        }
        let stopped = CancellationToken::new();
        if subkey.state != State::Active {
            stopped.cancel();
        }
        let rates = Rates::new(subkey.definition.rate_limits.clone(), self.limits.concurrent_default);
        let key =
            Arc::new(ActiveKey { scope: subkey.definition.scope(), rates: Arc::new(rates), stopped, subkey });
        if inner.generation == generation && inner.keys.len() < self.limits.cached_max {
            inner.keys.insert(key.subkey.id.clone(), Arc::clone(&key));
        }
        key
    }

    /// Remembers that there is no such sub-key.
    pub fn offer_unknown(&self, generation: u64, id: SubKeyId, now: DateTime<Utc>) {
        let mut inner = self.lock();
        if inner.unknown.len() >= self.limits.unknown_max {
            inner.unknown.retain(|_, until| now < *until);
        }
        if inner.generation == generation && inner.unknown.len() < self.limits.unknown_max {
            inner.unknown.insert(id, now + self.limits.unknown_for);
        }
    }

    /// Takes in the new form of a sub-key that was just committed. When it is not active any more,
    /// its requests in flight are told to stop.
    pub fn changed(&self, subkey: SubKey) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.unknown.remove(&subkey.id);
        let Some(old) = inner.keys.get(&subkey.id).cloned() else { return };
        if old.subkey.version >= subkey.version {
            return;
        }
        let still_active = subkey.state == State::Active;
        let limits = subkey.definition.rate_limits.clone();
        let rates = Arc::new(old.rates.carry_over(limits, self.limits.concurrent_default));
        let stopped = if old.stopped.is_cancelled() { CancellationToken::new() } else { old.stopped.clone() };
        if !still_active {
            stopped.cancel();
        }
        let key = Arc::new(ActiveKey { scope: subkey.definition.scope(), rates, stopped, subkey });
        inner.keys.insert(key.subkey.id.clone(), key);
    }

    /// Takes in MACs of the key's secrets that were made anew. Nothing else of the key changes, so requests in flight,
    /// counters and what stops them stay. Returns the key if it is in memory.
    pub fn remade(&self, id: &SubKeyId, secrets: &[SecretRecord]) -> Option<Arc<ActiveKey>> {
        let mut inner = self.lock();
        let old = inner.keys.get(id)?;
        let mut subkey = old.subkey.clone();
        for known in &mut subkey.secrets {
            let newer = |one: &&SecretRecord| one.id == known.id && one.mac_term > known.mac_term;
            if let Some(new) = secrets.iter().find(newer) {
                known.mac.clone_from(&new.mac);
                known.mac_term = new.mac_term;
            }
        }
        let (scope, rates, stopped) = (old.scope.clone(), Arc::clone(&old.rates), old.stopped.clone());
        let key = Arc::new(ActiveKey { subkey, scope, rates, stopped });
        inner.keys.insert(id.clone(), Arc::clone(&key));
        Some(key)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is complete before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
