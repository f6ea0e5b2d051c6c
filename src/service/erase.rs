//! Keys that were destroyed leave the database's files too, soon after.

use super::{Services, StoreError};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something was destroyed that the files may still hold. At the start nobody knows, so it is.
#[derive(Debug)]
pub(super) struct Erasure(AtomicBool);

impl Default for Erasure {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Erasure {
    /// To be called after the commit that destroyed something.
    pub(super) fn ask(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Services {
    /// Erases destroyed keys from the database's files, where there are any and nobody uses the database just now; to
    /// be called again and again. Whether none is left.
    pub async fn erase_destroyed(&self) -> Result<bool, StoreError> {
        // Taken back first: what is destroyed meanwhile asks again.
        if !self.erasure.0.swap(false, Ordering::SeqCst) {
            return Ok(true);
        }
        let erased = self.store.erase_deleted().await;
        if !matches!(erased, Ok(true)) {
            self.erasure.ask();
        }
        erased
    }
}
