//! The vault in memory: open with its keyring, or sealed and without.
//!
//! What needs the keyring asks for it each time; after a seal nobody gets it, and what is in flight is told to stop.

mod adopt;
mod book;
mod change;
mod change_kek;
mod check;
mod lease;
mod look;
mod open;
mod presented;
mod rewrap;
mod rotate;
mod row_watch;
mod rows;
mod seal;
mod signing;
mod terms;
mod tries;

pub(super) use adopt::all_rows;
pub use book::Tampered;
pub(super) use book::{Book, Standing};
pub(super) use change::Change;
pub use change_kek::{Added, ChangeKekError, Confirmed, add_kek, confirm_kek};
pub(super) use check::Doubts;
pub use lease::KekLease;
pub(super) use look::{Holder, Look, Projects, SubKeys};
pub(super) use open::{FIRST_KEYRING, INSTALLATION, KEYRING, new_wrap};
pub use open::{OpenVaultError, Opened, open_keyring};
pub use presented::Presented;
pub use rotate::RotateVaultError;
pub(super) use rows::{credential_row, model_row, operator_row, project_row, provider_row, subkey_row};
pub(super) use terms::Terms;
pub use terms::{RewrapState, TermState, TermsState, WrapLimits};

pub use row_watch::RowWatch;
pub use seal::{SealError, UnsealError, VaultStatus};
pub(super) use tries::Sealing;

use super::StoreError;
use crate::vault::Keyring;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Why the vault is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealReason {
    /// An operator sealed it; the unseal code or the key-encryption key opens it.
    ByOperator,
    /// The key-encryption key cannot be had now; it is asked for again by itself.
    KekUnavailable,
    /// The key-encryption key that the configuration names is not the one.
    KekRefused,
    /// The database did not answer.
    StoreUnavailable,
}

impl SealReason {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ByOperator => "sealed_by_operator",
            Self::KekUnavailable => "kek_unavailable",
            Self::KekRefused => "kek_refused",
            Self::StoreUnavailable => "store_unavailable",
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::ByOperator => {
                "an operator sealed the vault; unseal it with the unseal code or the key (bitting vault unseal)"
            }
            Self::KekUnavailable => {
                "the key-encryption key cannot be had now; it is asked for again by itself"
            }
            Self::KekRefused => {
                "the key-encryption key of the configuration does not open the vault; run bitting doctor"
            }
            Self::StoreUnavailable => "the database did not answer; it is asked again by itself",
        }
    }

    /// Whether it may pass by itself.
    fn is_temporary(self) -> bool {
        match self {
            Self::KekUnavailable | Self::StoreUnavailable => true,
            Self::ByOperator | Self::KekRefused => false,
        }
    }
}

/// The vault is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the vault is sealed ({})", .0.as_str())]
pub struct Sealed(pub SealReason);

/// Why what the store holds cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The vault is closed, so nothing can be checked.
    #[error(transparent)]
    Sealed(#[from] Sealed),
    /// The row is not as Bitting wrote it.
    #[error(transparent)]
    Tampered(#[from] Tampered),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The vault's state. Reading it takes no I/O.
pub struct Vault {
    state: RwLock<State>,
    changes: watch::Sender<()>,
}

enum State {
    Open { keyring: Arc<Keyring>, sealed: CancellationToken },
    Closed(SealReason),
}

impl Vault {
    pub(super) fn closed(reason: SealReason) -> Self {
        Self { state: RwLock::new(State::Closed(reason)), changes: watch::Sender::new(()) }
    }

    /// The keyring, while the vault is open. Whoever takes it uses it for one request and lets it go.
    pub fn keyring(&self) -> Result<Arc<Keyring>, Sealed> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open { keyring, .. } => Ok(Arc::clone(keyring)),
            State::Closed(reason) => Err(Sealed(*reason)),
        }
    }

    /// Why it is closed; `None` while it is open.
    pub fn sealed(&self) -> Option<SealReason> {
        self.keyring().err().map(|Sealed(reason)| reason)
    }

    /// Cancelled when the vault is sealed: what is in flight ends then.
    pub fn until_sealed(&self) -> CancellationToken {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open { sealed, .. } => sealed.clone(),
            State::Closed(_) => {
                let cancelled = CancellationToken::new();
                cancelled.cancel();
                cancelled
            }
        }
    }

    /// Opens it, or goes on with another keyring.
    pub(super) fn open(&self, keyring: Arc<Keyring>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let sealed = match &*state {
            State::Open { sealed, .. } => sealed.clone(),
            State::Closed(_) => CancellationToken::new(),
        };
        *state = State::Open { keyring, sealed };
        self.changes.send_replace(());
    }

    /// Goes on with another keyring; `false`, changing nothing, while it is closed.
    pub(super) fn renew(&self, renewed: Arc<Keyring>) -> bool {
        match &mut *self.state.write().unwrap_or_else(PoisonError::into_inner) {
            State::Open { keyring, .. } => {
                *keyring = renewed;
                true
            }
            State::Closed(_) => false,
        }
    }

    /// Closes it. The keyring is wiped when the last request that took it lets it go.
    pub(super) fn close(&self, reason: SealReason) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Open { sealed, .. } = &*state {
            sealed.cancel();
        }
        *state = State::Closed(reason);
        self.changes.send_replace(());
    }

    /// Tells of each opening and closing.
    fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Entropy;

    #[test]
    fn a_sealed_vault_gives_no_keyring_and_stops_what_is_in_flight() {
        let vault = Vault::closed(SealReason::KekUnavailable);
        assert_eq!(vault.keyring().err(), Some(Sealed(SealReason::KekUnavailable)));
        assert!(vault.until_sealed().is_cancelled());

        vault.open(Arc::new(Keyring::generate(&Entropy::new())));
        let in_flight = vault.until_sealed();
        assert_eq!(vault.sealed(), None);
        vault.open(Arc::new(Keyring::generate(&Entropy::new())));
        assert!(!in_flight.is_cancelled(), "another keyring is no seal");

        vault.close(SealReason::ByOperator);
        assert!(in_flight.is_cancelled());
        assert_eq!(vault.sealed(), Some(SealReason::ByOperator));
    }
}
