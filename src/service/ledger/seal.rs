//! What signs the sums of the log and the time of windows: a keyring, or the vault that holds one.

use crate::service::Vault;
use crate::vault::Keyring;

/// Signs rows, and tells whether a row is as it was signed. `None` while the vault is sealed.
pub trait RowSeal: Send + Sync {
    /// The MAC and its term.
    fn sign(&self, message: &[u8]) -> Option<([u8; 32], u32)>;
    /// Whether `mac`, made in `term`, is the message's.
    fn holds(&self, message: &[u8], mac: &[u8], term: u32) -> Option<bool>;
}

impl RowSeal for Keyring {
    fn sign(&self, message: &[u8]) -> Option<([u8; 32], u32)> {
        Some(self.sign_row(message))
    }

    fn holds(&self, message: &[u8], mac: &[u8], term: u32) -> Option<bool> {
        Some(self.row_is_signed(message, mac, term))
    }
}

impl RowSeal for Vault {
    fn sign(&self, message: &[u8]) -> Option<([u8; 32], u32)> {
        Some(self.keyring().ok()?.sign_row(message))
    }

    fn holds(&self, message: &[u8], mac: &[u8], term: u32) -> Option<bool> {
        Some(self.keyring().ok()?.row_is_signed(message, mac, term))
    }
}
