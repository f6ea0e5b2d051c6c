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
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
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
    /// Its record was changed outside of Bitting: it may do nothing.
    pub tampered: bool,
    /// It was used since its row was last looked at.
    used: AtomicBool,
    /// When its row was last looked at, counted in looks.
    looked_at: AtomicU64,
}

impl ActiveKey {
    /// Notes a use.
    pub(super) fn touch(&self) {
        self.used.store(true, Ordering::Relaxed);
    }
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
    /// What keys that are not in memory have counted in windows that are not over: loaded anew, they go on from there.
    counted: HashMap<SubKeyId, Arc<Rates>>,
    /// Keys that requests use and that were not kept: a change stops them all the same.
    loose: Vec<Weak<ActiveKey>>,
    /// What every key's `stopped` hangs on.
    all: CancellationToken,
}

impl Inner {
    /// Stops the keys that were not kept and that `is_meant`.
    fn stop_loose(&self, is_meant: impl Fn(&ActiveKey) -> bool) {
        let used = self.loose.iter().filter_map(Weak::upgrade);
        used.filter(|key| is_meant(key)).for_each(|key| key.stopped.cancel());
    }
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

    /// Takes in a sub-key that was loaded when the cache stood at `generation`, usable or tampered with. It is kept
    /// only if nothing changed since.
    pub fn offer(
        &self,
        generation: u64,
        subkey: SubKey,
        tampered: bool,
        now: DateTime<Utc>,
    ) -> Arc<ActiveKey> {
        let mut inner = self.lock();
        if inner.generation == generation && inner.keys.len() >= self.limits.cached_max {
            // Requests in flight keep their own handle.
            let Inner { keys, counted, .. } = &mut *inner;
            let idle =
                keys.extract_if(|_, key| Arc::strong_count(key) == 1 && Arc::strong_count(&key.rates) == 1);
            counted.retain(|_, rates| !rates.is_idle(now));
            counted.extend(
                idle.filter(|(_, key)| !key.rates.is_idle(now)).map(|(id, key)| (id, Arc::clone(&key.rates))),
            );
        }
        if let Some(known) = inner.keys.get(&subkey.id)
            && (known.subkey.version, known.tampered) == (subkey.version, tampered)
        {
            return Arc::clone(known);
        }
        let (limits, default) = (subkey.definition.rate_limits.clone(), self.limits.concurrent_default);
        let known = inner.keys.get(&subkey.id).map(|known| Arc::clone(&known.rates));
        let rates = match known.or_else(|| inner.counted.remove(&subkey.id)) {
            Some(older) => older.carry_over(limits, default),
            None => Rates::new(limits, default),
        };
        let key = entry(subkey, Arc::new(rates), inner.all.child_token(), tampered);
        if inner.generation == generation && inner.keys.len() < self.limits.cached_max {
            inner.keys.insert(key.subkey.id.clone(), Arc::clone(&key));
        } else {
            inner.counted.insert(key.subkey.id.clone(), Arc::clone(&key.rates));
            inner.loose.retain(|one| one.strong_count() > 0);
            inner.loose.push(Arc::downgrade(&key));
        }
        key
    }

    /// Whether the cache has this sub-key at this version, and it may be used.
    pub fn is_current(&self, id: &SubKeyId, version: i64) -> bool {
        let is_it = |key: &Arc<ActiveKey>| key.subkey.version == version && !key.stopped.is_cancelled();
        self.lock().keys.get(id).is_some_and(is_it)
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
        if subkey.state != State::Active {
            inner.stop_loose(|key| key.subkey.id == subkey.id && key.subkey.version < subkey.version);
        }
        let Some(old) = inner.keys.get(&subkey.id).cloned() else { return };
        // What a tampered row says of its version counts for nothing.
        if old.subkey.version >= subkey.version && !old.tampered {
            return;
        }
        let key = self.succeed(&inner.all, &old, subkey);
        inner.keys.insert(key.subkey.id.clone(), key);
    }

    /// Makes a sub-key unusable whose row was changed outside of Bitting; its requests in flight are told to stop. It
    /// keeps the secrets that it had, so that one put in by SQL is nobody's.
    pub fn condemn(&self, id: &SubKeyId) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.stop_loose(|key| key.subkey.id == *id);
        let Some(old) = inner.keys.get(id).filter(|old| !old.tampered).cloned() else { return };
        let key = entry(old.subkey.clone(), Arc::clone(&old.rates), old.stopped.clone(), true);
        inner.keys.insert(id.clone(), key);
    }

    /// Makes a sub-key usable again whose row is as it was written again.
    pub fn reinstate(&self, subkey: SubKey) {
        let mut inner = self.lock();
        inner.generation += 1;
        let Some(old) = inner.keys.get(&subkey.id).filter(|old| old.tampered).cloned() else { return };
        let key = self.succeed(&inner.all, &old, subkey);
        inner.keys.insert(key.subkey.id.clone(), key);
    }

    /// The keys whose rows are to be looked at now: those used since they last were, and those that are unusable, at
    /// most `max`, those first that wait longest.
    pub fn to_look_at(&self, turn: u64, max: usize) -> Vec<SubKeyId> {
        let inner = self.lock();
        let waits = |key: &&Arc<ActiveKey>| key.tampered || key.used.load(Ordering::Relaxed);
        let mut due: Vec<&Arc<ActiveKey>> = inner.keys.values().filter(waits).collect();
        due.sort_by_key(|key| key.looked_at.load(Ordering::Relaxed));
        due.truncate(max);
        for key in &due {
            key.used.store(false, Ordering::Relaxed);
            key.looked_at.store(turn, Ordering::Relaxed);
        }
        due.into_iter().map(|key| key.subkey.id.clone()).collect()
    }

    /// Whether a sub-key in memory is unusable.
    pub fn is_condemned(&self, id: &SubKeyId) -> bool {
        self.lock().keys.get(id).is_some_and(|key| key.tampered)
    }

    /// The new form of a key, with what its rates counted.
    fn succeed(&self, all: &CancellationToken, old: &ActiveKey, subkey: SubKey) -> Arc<ActiveKey> {
        let limits = subkey.definition.rate_limits.clone();
        let rates = Arc::new(old.rates.carry_over(limits, self.limits.concurrent_default));
        let stopped = if old.stopped.is_cancelled() { all.child_token() } else { old.stopped.clone() };
        entry(subkey, rates, stopped, false)
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
        let key = entry(subkey, Arc::clone(&old.rates), old.stopped.clone(), old.tampered);
        inner.keys.insert(id.clone(), Arc::clone(&key));
        Some(key)
    }

    /// Tells the requests in flight of keys to stop whose project is not among these, in which requests are admitted. The
    /// keys stay what they are: requests that come later are held against the project.
    pub(super) fn stop_outside(&self, admitting: &HashSet<String>) {
        let is_stopped = |project: &str| !admitting.contains(project);
        let mut inner = self.lock();
        inner.stop_loose(|key| is_stopped(&key.subkey.definition.project));
        let Inner { keys, all, .. } = &mut *inner;
        let usable = keys.values_mut().filter(|key| !key.stopped.is_cancelled());
        for key in usable.filter(|key| is_stopped(&key.subkey.definition.project)) {
            key.stopped.cancel();
            *key = entry(key.subkey.clone(), Arc::clone(&key.rates), all.child_token(), key.tampered);
        }
    }

    /// Tells every request in flight to stop. The keys are known as they were: what SQL made of their rows meanwhile is
    /// not loaded for that.
    pub fn stop_all(&self) {
        let mut inner = self.lock();
        inner.generation += 1;
        std::mem::take(&mut inner.all).cancel();
    }

    /// Forgets every key, so that none stays stopped. What they have counted stays.
    pub fn forget_all(&self) {
        let mut inner = self.lock();
        inner.generation += 1;
        let Inner { keys, counted, .. } = &mut *inner;
        counted.extend(keys.drain().map(|(id, key)| (id, Arc::clone(&key.rates))));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is complete before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key as it is used; what may do nothing is stopped.
fn entry(subkey: SubKey, rates: Arc<Rates>, stopped: CancellationToken, tampered: bool) -> Arc<ActiveKey> {
    if subkey.state != State::Active || tampered {
        stopped.cancel();
    }
    let scope = subkey.definition.scope();
    let (used, looked_at) = (AtomicBool::default(), AtomicU64::default());
    Arc::new(ActiveKey { subkey, scope, rates, stopped, tampered, used, looked_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{InFlight, Metered, RateOwner, RateRefusal};
    use serde_json::json;

    fn subkey(id: &str) -> SubKey {
        let limits = json!([{"metric": "requests", "limit": 1, "per": "day"}]);
        SubKey {
            id: SubKeyId::parse(id).unwrap(),
            version: 1,
            definition: serde_json::from_value(json!({"name": "n", "models": [], "rate_limits": limits}))
                .unwrap(),
            state: State::Active,
            secrets: Vec::new(),
            created_at: now(),
            created_by: "ana".into(),
            last_used_at: None,
        }
    }

    fn now() -> DateTime<Utc> {
        "2026-11-23T16:00:00Z".parse().unwrap()
    }

    fn limits(cached_max: usize) -> RegistryLimits {
        let unknown_for = TimeDelta::seconds(1);
        RegistryLimits { cached_max, unknown_max: 1, unknown_for, concurrent_default: 8 }
    }

    fn enter(key: &ActiveKey) -> Result<InFlight, RateRefusal> {
        let metered = Metered { owner: RateOwner::Subkey, rates: Arc::clone(&key.rates) };
        InFlight::enter(&[metered], now()).map_err(|over| over.refusal)
    }

    #[test]
    fn p5_a_key_that_was_not_kept_is_stopped_like_any_other() {
        // One was loaded while something changed, for the other there was no place.
        for (generation, cached_max) in [(1, 8), (0, 0)] {
            let registry = Registry::new(limits(cached_max));
            let offered = subkey("0000000000000001");
            let (used, other) = (
                registry.offer(generation, offered.clone(), false, now()),
                registry.offer(generation, subkey("0000000000000002"), false, now()),
            );
            registry.changed(SubKey { version: 2, state: State::Suspended, ..offered });
            assert!(used.stopped.is_cancelled() && !other.stopped.is_cancelled());
            registry.condemn(&other.subkey.id);
            assert!(other.stopped.is_cancelled());
        }
    }

    #[test]
    fn a_key_that_is_forgotten_and_loaded_again_has_no_fresh_window() {
        for cached_max in [0, 1] {
            let registry = Registry::new(limits(cached_max));
            assert!(enter(&registry.offer(0, subkey("0000000000000001"), false, now())).is_ok());
            for other in ["0000000000000002", "0000000000000003"] {
                assert!(enter(&registry.offer(0, subkey(other), false, now())).is_ok(), "it takes the place");
            }
            assert!(enter(&registry.offer(0, subkey("0000000000000001"), false, now())).is_err());
            registry.forget_all();
            for id in ["0000000000000001", "0000000000000002", "0000000000000003"] {
                assert!(enter(&registry.offer(1, subkey(id), false, now())).is_err(), "{cached_max} {id}");
            }
            let tomorrow = now() + TimeDelta::days(1);
            registry.offer(1, subkey("0000000000000004"), false, tomorrow);
            assert!(registry.lock().counted.len() <= 1, "what is over is forgotten");
        }
    }
}
