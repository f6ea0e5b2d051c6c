//! Opening the vault: from a source's key-encryption key over the root to the keyring, and the rows held against the
//! register.

use super::adopt::adopt;
use super::book::Standing;
use super::seal::Unsealed;
use super::{Book, Change, GuardError, SealReason};
use crate::base::{Clock, Entropy};
use crate::log::AlarmKind;
use crate::service::{KekSource, KekSourceError, RepairError, Services, StoreError};
use crate::store::keyring::Wrap;
use crate::store::{self, Store, Tx};
use crate::vault::{Kek, Keyring, OpenError, Root, SealedBy};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// The row of the keyring under the root.
pub(in crate::service) const KEYRING: &str = "root";
/// The row of a keyring of the first form, directly under the key-encryption key.
pub(in crate::service) const FIRST_KEYRING: &str = "kek";
pub(in crate::service) const INSTALLATION: &str = "installation";

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

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
    pub root: Option<Rooted>,
}

/// The root by which a keyring was opened.
pub struct Rooted {
    /// The root.
    pub root: Root,
    /// The wrapping that it came out of.
    pub wrap: Wrap,
    /// Every wrapping there was, oldest first.
    pub wraps: Vec<Wrap>,
    /// The sealed keyring. Whoever writes another replaces exactly this one.
    pub sealed: Vec<u8>,
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
            let (root, wrap) = open_root(source, &installation, &wraps).await?;
            let keyring = Keyring::open(&root, &installation, &sealed)?;
            Ok(Opened { installation, keyring, root: Some(Rooted { root, wrap, wraps, sealed }) })
        }
        (None, Some(first)) => {
            let kek = source.open(&json!({}), &installation).await?;
            let keyring = Keyring::open_first_form(&kek, &installation, &first)?;
            Ok(Opened { installation, keyring, root: None })
        }
        (None, None) => Err(OpenVaultError::NotInstalled),
    }
}

/// The root, by the newest wrapping that is under this source's key: told by the key's id, not by trying.
pub(super) async fn open_root(
    source: &dyn KekSource,
    installation: &str,
    wraps: &[Wrap],
) -> Result<(Root, Wrap), OpenVaultError> {
    let mut refused = None;
    for wrap in wraps.iter().rev().filter(|wrap| source.fits(&wrap.source)) {
        match source.open(&wrap.kept, installation).await {
            Ok(kek) if kek.id() == wrap.id => {
                return Ok((Root::open(&kek, installation, &wrap.sealed)?, wrap.clone()));
            }
            Ok(_of_another_wrapping) => {}
            Err(unavailable @ KekSourceError::Unavailable { .. }) => return Err(unavailable.into()),
            // Perhaps another source of this kind is moved to, or was moved from.
            Err(refusal @ KekSourceError::Refused { .. }) => {
                refused.get_or_insert(refusal);
            }
        }
    }
    if let Some(refusal) = refused {
        return Err(refusal.into());
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

/// A keyring with what it vouches for.
pub(super) struct Taken {
    pub(super) keyring: Arc<Keyring>,
    pub(super) book: Book,
    pub(super) standing: Standing,
    /// The wrapping that it came out of.
    pub(super) wrap_id: Option<String>,
    /// The same, where a new one would be stronger.
    pub(super) outdated: Option<Rooted>,
}

impl Services {
    /// Begins a change of rows that grant power.
    pub(in crate::service) async fn change(&self) -> Result<Change, GuardError> {
        self.vault.keyring()?;
        let turn = self.turn_to_change().await?;
        // Only now: the change that was waited for may have been a seal, or have given the keyring another term.
        let keyring = self.vault.keyring()?;
        Ok(self.begin_change(turn, keyring).await?)
    }

    /// Begins one before the vault is open, by the keyring that it is being opened with: nobody rotates that meanwhile.
    pub(in crate::service) async fn change_while_opening(
        &self,
        keyring: &Arc<Keyring>,
    ) -> Result<Change, StoreError> {
        let turn = self.turn_to_change().await?;
        self.begin_change(turn, Arc::clone(keyring)).await
    }

    async fn turn_to_change(&self) -> Result<(Tx<'static>, OwnedMutexGuard<Book>), StoreError> {
        let tx = self.store.write().await?;
        Ok((tx, Arc::clone(&self.book).lock_owned().await))
    }

    async fn begin_change(
        &self,
        (mut tx, mut book): (Tx<'static>, OwnedMutexGuard<Book>),
        keyring: Arc<Keyring>,
    ) -> Result<Change, StoreError> {
        let signed = store::register::get(&mut tx.conn()).await?;
        if book.is_stale || signed.map(|signed| signed.register.seq) != Some(book.register().seq) {
            self.catch_up(&keyring, &mut book).await?;
        }
        Ok(Change::begin(tx, keyring, book).telling(&self.doubts))
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
            let reason = error.reason();
            self.vault.close(reason);
            if reason == SealReason::KekUnavailable && self.sealing.is_first_without_kek() {
                let detail = json!({"error": error.to_string()});
                self.alarms.raise(AlarmKind::KekUnavailable, &self.kek.describe(), &detail);
            }
        }
        opened
    }

    /// Opens the vault again whenever it is closed for a reason that may pass, at longer and longer distances, and
    /// renews a wrapping that has fallen behind. Never returns.
    pub async fn keep_vault_open(&self) {
        let (mut changes, mut wait) = (self.vault.changes(), RETRY_FIRST);
        loop {
            changes.mark_unchanged();
            self.renew_wrapping().await;
            if !self.vault.sealed().is_some_and(|reason| self.may_pass(reason)) {
                wait = RETRY_FIRST;
                // The sender lives as long as the vault.
                let _ = changes.changed().await;
                continue;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
            match self.open_vault().await {
                Ok(()) => tracing::info!("the vault is open"),
                Err(error) => tracing::warn!(%error, "the vault is still sealed"),
            }
        }
    }

    /// Whether the vault may open again by itself. A key service that refuses may be told otherwise where it stands.
    fn may_pass(&self, reason: SealReason) -> bool {
        reason.is_temporary() || reason == SealReason::KekRefused && self.kek.is_a_service()
    }

    async fn try_open(&self) -> Result<(), OpenVaultError> {
        if self.seal_in_register().await?.is_some() {
            return Err(OpenVaultError::SealedByOperator);
        }
        let opened = open_keyring(&self.store, self.kek.as_ref()).await?;
        let taken = self.take_in(opened, self.kek.as_ref()).await?;
        if taken.book.register().state.seal.is_some() {
            return Err(OpenVaultError::SealedByOperator);
        }
        self.go_into_force(taken, None).await
    }

    /// The seal that the register tells of. Whether the register is signed is not known before the keyring is open.
    pub(super) async fn seal_in_register(&self) -> Result<Option<SealedBy>, StoreError> {
        let mut read = self.store.read().await?;
        let signed = store::register::get(&mut read.conn()).await?;
        Ok(signed.and_then(|signed| signed.register.state.seal))
    }

    /// Reads what the keyring vouches for. Nothing is in force yet.
    pub(super) async fn take_in(
        &self,
        opened: Opened,
        source: &dyn KekSource,
    ) -> Result<Taken, OpenVaultError> {
        let Opened { keyring, root, .. } = opened;
        let keyring = Arc::new(keyring);
        if root.is_none() {
            let by = (&self.clock, &self.entropy);
            adopt(&self.store, source, &keyring, &self.installation, by).await?;
        }
        let wrap_id = root.as_ref().map(|rooted| rooted.wrap.id.clone());
        let outdated = root.filter(|rooted| source.is_outdated(&rooted.wrap.kept));
        let (book, standing) = Book::read(&mut self.store.snapshot().await?, &keyring).await?;
        Ok(Taken { keyring, book, standing, wrap_id, outdated })
    }

    /// Takes everything into force and opens the vault, at last. `unsealed` says who did it, where somebody did: then the seal is
    /// lifted before anything else.
    pub(super) async fn go_into_force(
        &self,
        taken: Taken,
        unsealed: Option<Unsealed<'_>>,
    ) -> Result<(), OpenVaultError> {
        let Taken { keyring, book, standing, wrap_id, outdated } = taken;
        self.set_quarantine(book.register().state.quarantine.clone());
        *self.book.lock().await = book;
        if standing != Standing::Sound {
            let detail = json!({"detail": "found when the vault was opened"});
            self.alarms.raise(AlarmKind::RegisterMismatch, &self.installation, &detail);
            self.quarantine_mismatch(&keyring, standing).await?;
        }
        self.hold_against_checkpoint(&keyring).await?;
        self.record_opening(&keyring, unsealed).await?;
        self.add_missing_providers(&keyring).await?;
        self.check_every_row(&keyring).await?;
        self.reload_projects_with(&keyring).await?;
        self.reload_directory_with(&keyring).await?;
        self.ledger.begin_time(&keyring).await?;
        self.ledger.audit_with(&keyring).await?;
        self.sealing.opened(wrap_id, outdated);
        self.vault.open(keyring);
        Ok(())
    }
}
