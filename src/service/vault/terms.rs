//! The terms of the keyring: what is left of each, how far the rewrap is, and the task that moves everything on.

use crate::service::{Services, StoreError};
use crate::store::{self, Conn};
use crate::vault::{KeyUse, Keyring};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

/// How long the task rests when nobody wakes it: what failed is tried again then.
const REST: Duration = Duration::from_secs(30);
/// While requests look at an earlier snapshot of the directory, nothing of what that needs is retired.
const SHORT_REST: Duration = Duration::from_secs(1);

/// When a term's wrap key has done enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrapLimits {
    /// How many data keys it may wrap: a nonce of 96 random bits must not come twice.
    pub uses_max: i64,
    /// How long it may be used.
    pub age_max: TimeDelta,
}

/// A term, and what still needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TermState {
    /// Its number; the highest makes what is made now.
    pub term: u32,
    /// Data keys that are wrapped in it.
    pub wraps_left: i64,
    /// Signatures that were made in it.
    pub rows_left: i64,
    /// Secrets of sub-keys that are recognised by it.
    pub secrets_left: i64,
    /// How often it wrapped a data key.
    pub uses: i64,
}

/// How far the rewrap is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RewrapState {
    /// Whether it is at work, or was asked to be.
    pub running: bool,
    /// What was moved to the current term since the server started.
    pub done: u64,
    /// Data keys and signatures of older terms. Secrets move when they are used.
    pub left: i64,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TermsState {
    /// The terms, oldest first.
    pub terms: Vec<TermState>,
    /// The rewrap.
    pub rewrap: RewrapState,
}

/// What the task shares with whoever asks for it.
#[derive(Debug, Default)]
pub(in crate::service) struct Terms {
    /// The keyring is written anew by one at a time.
    pub(super) turn: Mutex<()>,
    wake: Notify,
    is_asked: AtomicBool,
    is_working: AtomicBool,
    done: AtomicU64,
}

impl Terms {
    /// Has the task look again soon.
    pub(in crate::service) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) fn ask(&self) {
        self.is_asked.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn count(&self, done: usize) {
        self.done.fetch_add(u64::try_from(done).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// What there is of each term, by the key that it needs.
pub(super) struct Needs(BTreeMap<u32, [i64; 3]>);

impl Needs {
    /// Asks the database.
    pub(super) async fn read(conn: &mut Conn<'_>, now: DateTime<Utc>) -> Result<Self, StoreError> {
        let wraps = store::term::wraps(conn).await?;
        let secrets = store::term::secrets(conn, now).await?;
        let signatures = store::term::signatures(conn).await?;
        let mut needs: BTreeMap<u32, [i64; 3]> = BTreeMap::new();
        for (key_use, counts) in KeyUse::ALL.into_iter().zip([wraps, secrets, signatures]) {
            for (term, count) in counts {
                // A term that is no number was written by somebody else; its row opens by nothing.
                let Ok(term) = u32::try_from(term) else { continue };
                needs.entry(term).or_default()[place(key_use)] += count;
            }
        }
        Ok(Self(needs))
    }

    /// How much needs this key.
    pub(super) fn of(&self, term: u32, key_use: KeyUse) -> i64 {
        self.0.get(&term).map_or(0, |counts| counts[place(key_use)])
    }

    /// The keys of older terms that nothing needs.
    pub(super) fn unneeded(&self, keyring: &Keyring) -> Vec<(u32, KeyUse)> {
        let older = keyring.terms().filter(|(term, _)| *term != keyring.current_term());
        let each = older.flat_map(|(term, uses)| uses.into_iter().map(move |key_use| (term, key_use)));
        each.filter(|(term, key_use)| self.of(*term, *key_use) == 0).collect()
    }

    /// What the rewrap has to move.
    fn left(&self, current: u32) -> i64 {
        let moves = |counts: &[i64; 3]| counts[place(KeyUse::Wrap)] + counts[place(KeyUse::RowMac)];
        self.0.iter().filter(|(term, _)| **term < current).map(|(_, counts)| moves(counts)).sum()
    }
}

fn place(key_use: KeyUse) -> usize {
    match key_use {
        KeyUse::Wrap => 0,
        KeyUse::Pepper => 1,
        KeyUse::RowMac => 2,
    }
}

impl Services {
    /// Where the terms stand. Terms that the keyring lacks and rows still name are in it, too.
    pub async fn terms_state(&self) -> Result<TermsState, StoreError> {
        let keyring = self.vault.keyring().ok();
        let mut read = self.store.read().await?;
        let needs = Needs::read(&mut read.conn(), self.clock.now()).await?;
        let uses = store::term::uses(&mut read.conn()).await?;
        let in_keyring = keyring.iter().flat_map(|keyring| keyring.terms().map(|(term, _)| term));
        let mut numbers: Vec<u32> = in_keyring.chain(needs.0.keys().copied()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let state = |term: u32| TermState {
            term,
            wraps_left: needs.of(term, KeyUse::Wrap),
            rows_left: needs.of(term, KeyUse::RowMac),
            secrets_left: needs.of(term, KeyUse::Pepper),
            uses: uses.iter().find(|one| one.term == i64::from(term)).map_or(0, |one| one.uses),
        };
        let current = keyring.map_or_else(|| numbers.last().copied().unwrap_or(0), |one| one.current_term());
        let work = &self.terms;
        let rewrap = RewrapState {
            running: work.is_asked.load(Ordering::SeqCst) || work.is_working.load(Ordering::SeqCst),
            done: work.done.load(Ordering::Relaxed),
            left: needs.left(current),
        };
        Ok(TermsState { terms: numbers.into_iter().map(state).collect(), rewrap })
    }

    /// Has everything of older terms moved to the current one, in the background.
    pub fn ask_for_rewrap(&self) {
        self.terms.ask();
    }

    /// The task: rotates a term that did enough, moves what is of older terms, retires what is empty; until `drain`.
    /// Begins at once, so whatever a crash left goes on.
    pub async fn keep_terms(&self, limits: WrapLimits, drain: CancellationToken) {
        while !drain.is_cancelled() {
            self.terms.is_working.store(true, Ordering::SeqCst);
            self.terms.is_asked.store(false, Ordering::SeqCst);
            if self.vault.sealed().is_none() {
                if let Err(error) = self.rotate_when_due(limits).await {
                    tracing::warn!(%error, "the keyring is due for a rotation, which failed; it is tried again");
                }
                self.move_to_current_term(&drain).await;
            }
            self.terms.is_working.store(false, Ordering::SeqCst);
            tokio::select! {
                () = drain.cancelled() => {}
                () = self.terms.wake.notified() => {}
                () = tokio::time::sleep(if self.directory.is_settled() { REST } else { SHORT_REST }) => {}
            }
        }
    }
}
