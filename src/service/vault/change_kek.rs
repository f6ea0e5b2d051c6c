//! Moving from one source of the key-encryption key to another, beside the data.
//!
//! First the root is wrapped for the new source too, and both open it. Then, run by the new source, the keyring gets a
//! new root that only this source opens. Each step is one transaction, so whatever is interrupted leaves what opens. A
//! running server holds the keyring and not the root, and goes on.

use super::open::{KEYRING, OpenVaultError, Opened, Rooted, new_wrap, open_keyring};
use crate::base::{Clock, Entropy};
use crate::log::AdminEntry;
use crate::service::{KekSource, KekSourceError, StoreError};
use crate::store::{self, Store};
use crate::vault::Root;
use serde_json::{Value, json};

/// Why the key-encryption key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeKekError {
    /// The present source does not open the vault.
    #[error(transparent)]
    Open(#[from] OpenVaultError),
    /// The new source gave no key.
    #[error("the new source: {0}")]
    Source(#[from] KekSourceError),
    /// The database is of the first version.
    #[error("the database is of an older version; start the server once, then try again")]
    FirstForm,
    /// Both are one.
    #[error(
        "the new source holds the key that is in use already: if it has only moved, set the new source and start the server \
         anew; to change it, name a source with a key of its own"
    )]
    SameKey,
    /// The configuration is not that of the new source.
    #[error(
        "the configuration is that of an older source ({configured}), and the newest is {newest}; set the new source, then \
         confirm"
    )]
    OldSource {
        /// The kind that opened it.
        configured: String,
        /// The kind that was added last.
        newest: String,
    },
    /// Somebody else wrote the keyring meanwhile.
    #[error("the keyring was written anew meanwhile; nothing was changed: try again")]
    Moved,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Both sources open the vault now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The old source.
    pub from: String,
    /// The new one.
    pub to: String,
}

/// One source opens the vault now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// That source.
    pub source_is: String,
    /// How many wrappings were dropped.
    pub dropped: usize,
}

/// Wraps the root for the source `to` as well.
pub async fn add_kek(
    store: &Store,
    (from, to): (&dyn KekSource, &dyn KekSource),
    (clock, entropy): (&Clock, &Entropy),
) -> Result<Added, ChangeKekError> {
    let Opened { installation, root, .. } = open_keyring(store, from).await?;
    let Rooted { root, wrap: used, sealed, .. } = root.ok_or(ChangeKekError::FirstForm)?;
    let wrap = new_wrap(to, &root, &installation, (clock, entropy)).await?;
    if wrap.id == used.id {
        return Err(ChangeKekError::SameKey);
    }
    let mut tx = store.write().await?;
    // The same keyring is put in its own place: under another root the new wrapping would open nothing.
    if !store::keyring::replace(&mut tx.conn(), KEYRING, &sealed, &sealed, clock.now()).await? {
        return Err(ChangeKekError::Moved);
    }
    store::keyring::put_wrap(&mut tx.conn(), &wrap).await?;
    let detail = json!({"from": used.source, "to": wrap.source});
    store::admin_log::append(&mut tx.conn(), &entry(clock, "vault.change_kek", &installation, detail))
        .await?;
    tx.commit().await?;
    Ok(Added { from: from.describe(), to: to.describe() })
}

/// Gives the keyring a new root that only `source` opens; every other wrapping is gone then. `source` has to be the one
/// that was added last.
pub async fn confirm_kek(
    store: &Store,
    source: &dyn KekSource,
    (clock, entropy): (&Clock, &Entropy),
) -> Result<Confirmed, ChangeKekError> {
    let Opened { installation, keyring, root } = open_keyring(store, source).await?;
    let Rooted { wrap: used, wraps, sealed: old, .. } = root.ok_or(ChangeKekError::FirstForm)?;
    if let Some(newest) = wraps.last().filter(|newest| newest.id != used.id) {
        let (configured, newest) = (used.source, newest.source.clone());
        return Err(ChangeKekError::OldSource { configured, newest });
    }
    let root = Root::generate(entropy);
    let wrap = new_wrap(source, &root, &installation, (clock, entropy)).await?;
    let sealed = keyring.seal(entropy, &root, &installation);
    let mut tx = store.write().await?;
    if !store::keyring::replace(&mut tx.conn(), KEYRING, &old, &sealed, clock.now()).await? {
        return Err(ChangeKekError::Moved);
    }
    // Read again: one may have been added since.
    let others = store::keyring::wraps(&mut tx.conn()).await?;
    for other in &others {
        store::keyring::delete_wrap(&mut tx.conn(), &other.id).await?;
    }
    store::keyring::put_wrap(&mut tx.conn(), &wrap).await?;
    let dropped: Vec<&str> =
        others.iter().filter(|other| other.id != used.id).map(|other| other.source.as_str()).collect();
    let detail = json!({"kek": wrap.source, "dropped": dropped});
    store::admin_log::append(&mut tx.conn(), &entry(clock, "vault.confirm_kek", &installation, detail))
        .await?;
    let dropped = dropped.len();
    tx.commit().await?;
    Ok(Confirmed { source_is: source.describe(), dropped })
}

fn entry(clock: &Clock, action: &str, installation: &str, detail: Value) -> AdminEntry {
    AdminEntry {
        time: clock.now(),
        actor: "local".to_owned(),
        action: action.to_owned(),
        target: installation.to_owned(),
        request_id: String::new(),
        detail,
    }
}
