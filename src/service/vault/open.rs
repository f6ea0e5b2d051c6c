//! Opening the vault: from a source's key-encryption key over the root to the keyring, and the rows held against the
//! register.

use super::adopt::adopt;
use super::book::Standing;
use super::{Book, Change, GuardError, SealReason};
use crate::base::{Clock, Entropy};
use crate::service::{KekSource, KekSourceError, RepairError, Services, StoreError};
use crate::store::keyring::Wrap;
use crate::store::{self, Store};
use crate::vault::{Kek, Keyring, OpenError, Root};
use serde_json::{Value, json};
use std::sync::Arc;

/// The row of the keyring under the root.
pub(in crate::service) const KEYRING: &str = "root";
/// The row of a keyring of the first form, directly under the key-encryption key.
pub(in crate::service) const FIRST_KEYRING: &str = "kek";
pub(in crate::service) const INSTALLATION: &str = "installation";

/// Why the vault was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenVaultError {
    /// The database was never set up.
    #[error("this database has no installation; run `bitting init` first")]
    NotInstalled,
    /// An operator sealed it.
    #[error("an operator has sealed it; unseal it with the unseal code (bitting vault unseal)")]
    SealedByOperator,
    /// The source gave no key.
    #[error(transparent)]
    Source(#[from] KekSourceError),
    /// The source gave a key that wraps nothing here.
    #[error(
        "the key of {source_is} is not one that this database is wrapped by; use the source that belongs to it{}",
        wrapped_by(kinds)
    )]
    WrongKey {
        /// The source, as it describes itself.
        source_is: String,
        /// The kinds of sources that it is wrapped by.
        kinds: Vec<String>,
    },
    /// The key is right and what it wraps does not open.
    #[error("the keyring in the database does not open: {0}")]
    Keyring(#[from] OpenError),
    /// The books of the budgets cannot be compared with the log.
    #[error("the books cannot be compared with the log: {0}")]
    Books(#[from] RepairError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn wrapped_by(kinds: &[String]) -> String {
    if kinds.is_empty() { String::new() } else { format!(" (it is wrapped by: {})", kinds.join(", ")) }
}

impl OpenVaultError {
    /// What it leaves the vault at.
    pub fn reason(&self) -> SealReason {
        match self {
            Self::SealedByOperator => SealReason::ByOperator,
            Self::Source(KekSourceError::Unavailable { .. }) => SealReason::KekUnavailable,
            Self::Store(_) | Self::Books(_) => SealReason::StoreUnavailable,
            Self::NotInstalled
            | Self::Source(KekSourceError::Refused { .. })
            | Self::WrongKey { .. }
            | Self::Keyring(_) => SealReason::KekRefused,
        }
    }
}

/// A keyring that was opened, with what it takes to write it anew.
pub struct Opened {
    /// Names the installation.
    pub installation: String,
    /// The keyring.
    pub keyring: Keyring,
    /// What wraps it; `None` for one of the first form.
    pub root: Option<Root>,
}

/// Opens the keyring of a database by a source. Nothing is changed.
pub async fn open_keyring(store: &Store, source: &dyn KekSource) -> Result<Opened, OpenVaultError> {
    let mut read = store.snapshot().await?;
    let installation = store::meta::get(&mut read.conn(), INSTALLATION).await?;
    let installation = installation.ok_or(OpenVaultError::NotInstalled)?;
    let first = store::keyring::get(&mut read.conn(), FIRST_KEYRING).await?;
    let sealed = store::keyring::get(&mut read.conn(), KEYRING).await?;
    let wraps = store::keyring::wraps(&mut read.conn()).await?;
    drop(read);
    match (sealed, first) {
        (Some(sealed), _) => {
            let root = open_root(source, &installation, &wraps).await?;
            let keyring = Keyring::open(&root, &installation, &sealed)?;
            Ok(Opened { installation, keyring, root: Some(root) })
        }
        (None, Some(first)) => {
            let kek = source.open(&json!({}), &installation).await?;
            let keyring = Keyring::open_first_form(&kek, &installation, &first)?;
            Ok(Opened { installation, keyring, root: None })
        }
        (None, None) => Err(OpenVaultError::NotInstalled),
    }
}

/// The root, by the wrapping that is under this source's key: told by the key's id, not by trying.
async fn open_root(
    source: &dyn KekSource,
    installation: &str,
    wraps: &[Wrap],
) -> Result<Root, OpenVaultError> {
    for wrap in wraps.iter().filter(|wrap| wrap.source == source.kind()) {
        let kek = source.open(&wrap.kept, installation).await?;
        if kek.id() == wrap.id {
            return Ok(Root::open(&kek, installation, &wrap.sealed)?);
        }
    }
    let mut kinds: Vec<String> = wraps.iter().map(|wrap| wrap.source.clone()).collect();
    kinds.dedup();
    Err(OpenVaultError::WrongKey { source_is: source.describe(), kinds })
}

/// A fresh wrapping of the root under a source's key, to be written down.
pub(in crate::service) async fn new_wrap(
    source: &dyn KekSource,
    root: &Root,
    installation: &str,
    (clock, entropy): (&Clock, &Entropy),
) -> Result<Wrap, KekSourceError> {
    let (kek, kept): (Kek, Value) = source.create(entropy, installation).await?;
    Ok(Wrap {
        id: kek.id(),
        source: source.kind().to_owned(),
        kept,
        sealed: root.seal(entropy, &kek, installation),
        created_at: clock.now(),
    })
}

impl Services {
    /// Begins a change of rows that grant power.
    pub(in crate::service) async fn change(&self) -> Result<Change, GuardError> {
        let keyring = self.vault.keyring()?;
        let mut tx = self.store.write().await?;
        let mut book = Arc::clone(&self.book).lock_owned().await;
        let signed = store::register::get(&mut tx.conn()).await?;
        if book.is_stale || signed.map(|signed| signed.register.seq) != Some(book.register().seq) {
            self.catch_up(&keyring, &mut book).await?;
        }
        Ok(Change::begin(tx, keyring, book))
    }

    /// Takes in what others with the keyring wrote (a command beside the data), if it is that: later than what is known,
    /// and in itself sound. Returns whether anything was taken in.
    pub(in crate::service) async fn catch_up(
        &self,
        keyring: &Keyring,
        book: &mut Book,
    ) -> Result<bool, StoreError> {
        let (found, standing) = Book::read(&mut self.store.snapshot().await?, keyring).await?;
        let is_later = found.register().seq > book.register().seq || book.is_stale;
        if standing == Standing::Sound && is_later && found.register().seq >= book.register().seq {
            self.set_quarantine(found.register().state.quarantine.clone());
            *book = found;
            return Ok(true);
        }
        Ok(false)
    }

    /// Opens the vault by the configured source, brings rows of an older version under their signatures, and takes
    /// everything into force. What fails leaves it closed, with the reason.
    pub async fn open_vault(&self) -> Result<(), OpenVaultError> {
        let _turn = self.opening.lock().await;
        if self.vault.sealed().is_none() {
            return Ok(());
        }
        let opened = self.try_open().await;
        if let Err(error) = &opened {
            self.vault.close(error.reason());
        }
        opened
    }

    async fn try_open(&self) -> Result<(), OpenVaultError> {
        if self.is_sealed_by_operator().await? {
            return Err(OpenVaultError::SealedByOperator);
        }
        self.open_regardless().await
    }

    /// Whether the register says so. It is not checked yet; it is once the keyring is open.
    async fn is_sealed_by_operator(&self) -> Result<bool, StoreError> {
        let mut read = self.store.read().await?;
        let signed = store::register::get(&mut read.conn()).await?;
        Ok(signed.is_some_and(|signed| signed.register.state.seal.is_some()))
    }

    async fn open_regardless(&self) -> Result<(), OpenVaultError> {
        let Opened { keyring, root, .. } = open_keyring(&self.store, self.kek.as_ref()).await?;
        let keyring = Arc::new(keyring);
        if root.is_none() {
            let by = (&self.clock, &self.entropy);
            adopt(&self.store, self.kek.as_ref(), &keyring, &self.installation, by).await?;
        }
        let (book, standing) = Book::read(&mut self.store.snapshot().await?, &keyring).await?;
        self.set_quarantine(book.register().state.quarantine.clone());
        *self.book.lock().await = book;
        if standing != Standing::Sound {
            self.quarantine_mismatch(&keyring, standing).await?;
        }
        self.add_missing_providers(&keyring).await?;
        self.reload_directory().await?;
        self.ledger.audit_with(&keyring).await?;
        self.vault.open(keyring);
        Ok(())
    }
}
