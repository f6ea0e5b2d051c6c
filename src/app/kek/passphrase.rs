//! The key-encryption key from a passphrase, by Argon2id.
//!
//! What is kept are the salt and the parameters, in clear, in a database that others may be able to change: they are
//! bounded before anything is allocated. A wrong passphrase gives a wrong key, which opens nothing.

use super::read_secret;
use crate::app::secret_file::{Readers, without_line_end};
use crate::base::{Entropy, Secret};
use crate::service::{KekSource, KekSourceError};
use crate::vault::Kek;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use data_encoding::BASE64;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Shorter ones are guessed.
const CHARACTERS_MIN: usize = 12;

/// What a new wrapping costs: 64 MiB, three passes.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
const LANES: u32 = 1;

/// What an old wrapping may cost: whoever can edit the database could ask for all memory there is.
const MEMORY_KIB_RANGE: RangeInclusive<u32> = 8 << 10..=512 << 10;
const PASSES_RANGE: RangeInclusive<u32> = 1..=10;
const LANES_RANGE: RangeInclusive<u32> = 1..=4;

/// Derivations at one time: each takes memory and a core.
const DERIVATIONS_MAX: usize = 2;

/// A file that holds a passphrase, read again for every key.
#[derive(Clone, Debug)]
pub struct PassphraseKek {
    path: PathBuf,
    deriving: Arc<Semaphore>,
}

/// What lies in the database.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// KiB.
    m: u32,
    t: u32,
    p: u32,
    /// Base64.
    salt: String,
    /// Argon2's own, in decimal: 19.
    version: u32,
}

impl PassphraseKek {
    /// The passphrase in this file.
    pub fn new(path: PathBuf) -> Self {
        Self { path, deriving: Arc::new(Semaphore::new(DERIVATIONS_MAX)) }
    }

    fn refused(&self, reason: impl Into<String>) -> KekSourceError {
        KekSourceError::Refused { source_is: self.describe(), reason: reason.into() }
    }

    fn unavailable(&self, reason: impl Into<String>) -> KekSourceError {
        KekSourceError::Unavailable { source_is: self.describe(), reason: reason.into() }
    }

    /// By the passphrase in the file.
    async fn derive(&self, kept: &Kept) -> Result<Kek, KekSourceError> {
        self.derive_from(read_secret(&self.path, Readers::Owner, self.describe()).await?, kept).await
    }

    async fn derive_from(&self, text: Secret<String>, kept: &Kept) -> Result<Kek, KekSourceError> {
        let (params, salt) = kept.check().ok_or_else(|| {
            self.refused("the parameters in the database are out of bounds: it was changed, or is damaged")
        })?;
        let length = without_line_end(text.expose()).chars().count();
        if length < CHARACTERS_MIN {
            let reason = format!("it has {length} characters, and needs at least {CHARACTERS_MIN}");
            return Err(self.refused(reason));
        }
        let deriving = Arc::clone(&self.deriving).acquire_owned().await;
        let deriving = deriving.map_err(|_| self.unavailable("the server is stopping"))?;
        let derived = tokio::task::spawn_blocking(move || {
            let kek = derive_now(&text, &salt, params);
            drop(deriving);
            kek
        });
        let derived = derived.await.map_err(|_| self.unavailable("the derivation broke off"))?;
        derived.ok_or_else(|| self.unavailable(format!("there are no {} KiB of memory for it", kept.m)))
    }
}

impl Kept {
    /// Parameters and salt, where they are in bounds.
    fn check(&self) -> Option<(Params, Vec<u8>)> {
        let salt = BASE64.decode(self.salt.as_bytes()).ok().filter(|salt| (16..=64).contains(&salt.len()))?;
        let in_bounds = MEMORY_KIB_RANGE.contains(&self.m)
            && PASSES_RANGE.contains(&self.t)
            && LANES_RANGE.contains(&self.p)
            && self.version == u32::from(Version::V0x13);
        let params = Params::new(self.m, self.t, self.p, Some(32)).ok()?;
        in_bounds.then_some((params, salt))
    }
}

/// `None` where the memory for it cannot be had. Its blocks are wiped.
fn derive_now(text: &Secret<String>, salt: &[u8], params: Params) -> Option<Kek> {
    let mut blocks: Zeroizing<Vec<Block>> = Zeroizing::new(Vec::new());
    blocks.try_reserve_exact(params.block_count()).ok()?;
    blocks.resize(params.block_count(), Block::default());
    let mut key = Zeroizing::new([0; 32]);
    let passphrase = without_line_end(text.expose()).as_bytes();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase, salt, &mut *key, blocks.as_mut_slice())
        .ok()?;
    Some(Kek::from_bytes(*key))
}

impl KekSource for PassphraseKek {
    fn kind(&self) -> &'static str {
        "passphrase"
    }

    fn describe(&self) -> String {
        format!("the passphrase in {}", self.path.display())
    }

    fn create<'a>(
        &'a self,
        entropy: &'a Entropy,
        _installation: &'a str,
    ) -> BoxFuture<'a, Result<(Kek, Value), KekSourceError>> {
        let salt = BASE64.encode(&entropy.bytes::<16>());
        let version = u32::from(Version::V0x13);
        let kept = Kept { m: MEMORY_KIB, t: PASSES, p: LANES, salt, version };
        Box::pin(async move { Ok((self.derive(&kept).await?, json!(kept))) })
    }

    fn open<'a>(
        &'a self,
        kept: &'a Value,
        _installation: &'a str,
    ) -> BoxFuture<'a, Result<Kek, KekSourceError>> {
        Box::pin(async move {
            let kept = Kept::deserialize(kept)
                .map_err(|_| self.refused("what the database keeps for it is not what was kept"))?;
            self.derive(&kept).await
        })
    }

    fn open_by_passphrase<'a>(
        &'a self,
        passphrase: &'a Secret<String>,
        kept: &'a Value,
        _installation: &'a str,
    ) -> BoxFuture<'a, Result<Kek, KekSourceError>> {
        Box::pin(async move {
            let kept = Kept::deserialize(kept)
                .map_err(|_| self.refused("what the database keeps for it is not what was kept"))?;
            self.derive_from(Secret::new(passphrase.expose().clone()), &kept).await
        })
    }

    fn is_outdated(&self, kept: &Value) -> bool {
        Kept::deserialize(kept).is_ok_and(|kept| kept.m < MEMORY_KIB || kept.t < PASSES)
    }
}
