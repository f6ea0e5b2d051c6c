//! Writing the keyring anew: a fresh term comes in, keys that nothing needs go out.
//!
//! The root is not kept in memory, so each time the source is asked for its key again. What is written takes the place
//! of the very bytes that were read: of two who do this at once, one finds that it came too late and changes nothing.

use super::open::{KEYRING, Rooted};
use super::terms::{Needs, WrapLimits};
use super::{GuardError, OpenVaultError, Opened, Sealed, open_keyring};
use crate::log::AdminEntry;
use crate::service::{Actor, AlreadyDone, Services, StoreError};
use crate::store::{self, Conn};
use crate::vault::{KeyUse, Keyring, Root};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::MutexGuard;

/// Why the keyring was not written anew. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RotateVaultError {
    /// The keyring cannot be opened: the source of its key does not answer, or the key is another one.
    #[error(transparent)]
    Open(#[from] OpenVaultError),
    /// Somebody else wrote it at the same time.
    #[error("the keyring was written anew by somebody else meanwhile; nothing was changed, try again")]
    Moved,
    /// The request is a repeat.
    #[error(transparent)]
    AlreadyDone(#[from] AlreadyDone),
    /// The vault is sealed.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Sealed> for RotateVaultError {
    fn from(sealed: Sealed) -> Self {
        Self::Guard(sealed.into())
    }
}

/// The keyring with what it takes to write it anew.
struct Draft {
    was: Vec<u8>,
    root: Root,
    keyring: Keyring,
}

impl Services {
    /// Puts a fresh term into the keyring, which makes everything from now on, and has the rest moved to it in the
    /// background. Returns the term.
    pub async fn rotate_vault(&self, actor: &Actor) -> Result<u32, RotateVaultError> {
        let turn = self.terms.turn.lock().await;
        self.rotate(&turn, Some(actor), "asked for").await
    }

    /// Rotates by itself when the current term wrapped enough, or for long enough.
    pub async fn rotate_when_due(&self, limits: WrapLimits) -> Result<Option<u32>, RotateVaultError> {
        // Of two who find it due, the second finds it done.
        let turn = self.terms.turn.lock().await;
        let current = i64::from(self.vault.keyring()?.current_term());
        let uses = store::term::uses(&mut self.store.read().await?.conn()).await?;
        let Some(uses) = uses.into_iter().find(|uses| uses.term == current) else {
            // Its age begins now.
            let mut tx = self.store.write().await?;
            store::term::count_uses(&mut tx.conn(), current, 0, self.clock.now()).await?;
            tx.commit().await?;
            return Ok(None);
        };
        let reason = if uses.uses >= limits.uses_max {
            "its wrap key was used as often as it may be"
        } else if self.clock.now() - uses.created_at >= limits.age_max {
            "its wrap key is as old as it may get"
        } else {
            return Ok(None);
        };
        self.rotate(&turn, None, reason).await.map(Some)
    }

    async fn rotate(
        &self,
        _turn: &MutexGuard<'_, ()>,
        actor: Option<&Actor>,
        reason: &str,
    ) -> Result<u32, RotateVaultError> {
        self.vault.keyring()?;
        let Draft { was, root, keyring } = self.draft().await?;
        let keyring = keyring.with_new_term(&self.entropy);
        let term = keyring.current_term();
        let mut tx = self.store.write().await?;
        if let Some(actor) = actor {
            self.claim(&mut tx.conn(), actor, &self.installation).await??;
        }
        self.replace_keyring(&mut tx.conn(), &was, &keyring, &root).await?;
        store::term::count_uses(&mut tx.conn(), i64::from(term), 0, self.clock.now()).await?;
        let detail = json!({"term": term, "reason": reason});
        match actor {
            Some(actor) => {
                self.note(&mut tx.conn(), actor, "vault.rotate", &self.installation, detail).await?;
            }
            None => self.note_by_itself(&mut tx.conn(), "vault.rotate", detail).await?,
        }
        tx.commit().await?;
        // Sealed meanwhile: whoever opens it reads the new keyring.
        self.vault.renew(Arc::new(keyring));
        self.terms.ask();
        tracing::info!(term, reason, "the keyring has a new term");
        Ok(term)
    }

    /// Takes the keys out that nothing needs any more. Returns what is gone.
    pub(super) async fn retire_unneeded(&self) -> Result<Vec<(u32, KeyUse)>, RotateVaultError> {
        let _turn = self.terms.turn.lock().await;
        let held = self.vault.keyring()?;
        let needs = Needs::read(&mut self.store.read().await?.conn(), self.clock.now()).await?;
        if needs.unneeded(&held).is_empty() {
            return Ok(Vec::new());
        }
        drop(held);
        let Draft { was, root, mut keyring } = self.draft().await?;
        // No change is under way from here on, nor is an audit, and a later one begins with the keyring of then: what is counted stays.
        let _no_audits = self.ledger.without_audits().await;
        let mut change = self.change().await?;
        let needs = Needs::read(&mut change.conn(), self.clock.now()).await?;
        let mut unneeded = needs.unneeded(&keyring);
        // A request that took an earlier snapshot may yet open what was wrapped in an older term.
        unneeded.retain(|(_, key_use)| *key_use != KeyUse::Wrap || self.directory.is_settled());
        if unneeded.is_empty() {
            return Ok(Vec::new());
        }
        let mut by_term: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for (term, key_use) in &unneeded {
            keyring = keyring.without(*term, *key_use);
            by_term.entry(*term).or_default().push(key_use.as_str());
        }
        self.replace_keyring(&mut change.conn(), &was, &keyring, &root).await?;
        for (term, keys) in by_term {
            let is_gone = keyring.terms().all(|(left, _)| left != term);
            let detail = json!({"term": term, "keys": keys, "is_gone": is_gone});
            self.note_by_itself(&mut change.conn(), "vault.retire_term", detail).await?;
        }
        // Before the commit, while no change can begin: nothing that this keyring lacks is needed, committed or not.
        self.vault.renew(Arc::new(keyring));
        change.commit().await?;
        self.erasure.ask();
        Ok(unneeded)
    }

    async fn draft(&self) -> Result<Draft, RotateVaultError> {
        let Opened { keyring, root, .. } = open_keyring(&self.store, self.kek.as_ref()).await?;
        let Rooted { root, sealed: was, .. } = root.ok_or(RotateVaultError::Moved)?;
        Ok(Draft { was, root, keyring })
    }

    async fn replace_keyring(
        &self,
        conn: &mut Conn<'_>,
        was: &[u8],
        keyring: &Keyring,
        root: &Root,
    ) -> Result<(), RotateVaultError> {
        let sealed = keyring.seal(&self.entropy, root, &self.installation);
        let is_replaced = store::keyring::replace(conn, KEYRING, was, &sealed, self.clock.now()).await?;
        if is_replaced { Ok(()) } else { Err(RotateVaultError::Moved) }
    }

    async fn note_by_itself(
        &self,
        conn: &mut Conn<'_>,
        action: &str,
        detail: Value,
    ) -> Result<(), StoreError> {
        let entry = AdminEntry {
            time: self.clock.now(),
            actor: "bitting".to_owned(),
            action: action.to_owned(),
            target: self.installation.clone(),
            request_id: String::new(),
            detail,
        };
        store::admin_log::append(conn, &entry).await.map(drop)
    }
}
