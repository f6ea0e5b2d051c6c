//! Sealing and unsealing by operators.
//!
//! A seal is written into the signed register before the keyring is dropped, so it holds over restarts. What unseals is
//! the one-time code, by the register's own signature, or the key itself; and who unseals has to be an operator by a row
//! that the keyring vouches for, because a row can be edited while nothing watches.

use super::change::Change;
use super::open::{KEYRING, OpenVaultError, Taken, new_wrap, open_keyring};
use super::presented::{Presented, PresentedKek, PresentedPassphrase};
use super::{GuardError, SealReason, Sealed, Standing, operator_row};
use crate::base::{Entropy, Secret};
use crate::log::{AdminEntry, AlarmKind};
use crate::service::{Actor, Operator, Permission, Services, StoreError};
use crate::store;
use crate::vault::{Keyring, Quarantine, SealedBy};
use data_encoding::HEXLOWER;
use ring::digest;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// 25 characters of base62: 148 bits.
const CODE_GROUPS: usize = 5;
const CODE_GROUP_LEN: usize = 5;

/// Why the vault was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It is sealed already, or the register could not be read.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The seal may not be written down; the vault is open.
    #[error("whether the seal is written down is not known: {0}")]
    NotWritten(StoreError),
}

impl From<StoreError> for SealError {
    fn from(error: StoreError) -> Self {
        Self::Guard(error.into())
    }
}

/// Why the vault was not unsealed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// It is open.
    #[error("the vault is not sealed")]
    NotSealed,
    /// What was presented does not open it, or not by this operator.
    #[error("what was presented does not unseal the vault")]
    Refused,
    /// Too many tries were refused.
    #[error("too many tries to unseal the vault were refused")]
    TooOften {
        /// When one is heard again.
        retry_after: Duration,
    },
    /// What was presented may be right, and the vault cannot be opened now.
    #[error(transparent)]
    Sealed(#[from] Sealed),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How the vault stands.
#[derive(Clone, Debug)]
pub struct VaultStatus {
    /// Why it is closed; `None` while it is open.
    pub sealed: Option<SealReason>,
    /// The kind of the configured source of the key-encryption key.
    pub kek_kind: &'static str,
    /// What and where that is.
    pub kek: String,
    /// The keyring's newest term; not known while sealed.
    pub term: Option<u32>,
    /// Why nothing is admitted.
    pub quarantine: Option<Quarantine>,
}

/// Who unseals, and by what.
#[derive(Clone, Copy)]
pub(super) struct Unsealed<'a> {
    actor: &'a Actor,
    by: &'static str,
}

impl Services {
    /// How the vault stands, without I/O.
    pub fn vault_status(&self) -> VaultStatus {
        let keyring = self.vault.keyring();
        VaultStatus {
            sealed: keyring.as_ref().err().map(|Sealed(reason)| *reason),
            kek_kind: self.kek.kind(),
            kek: self.kek.describe(),
            term: keyring.ok().map(|keyring| keyring.current_term()),
            quarantine: self.quarantine(),
        }
    }

    /// Seals the vault over restarts and returns the one-time code that unseals it. What is in flight is cut.
    pub async fn seal(&self, actor: &Actor) -> Result<Secret<String>, SealError> {
        let _turn = self.opening.lock().await;
        let code = unseal_code(&self.entropy);
        let keyring = self.vault.keyring().ok();
        let mut change = self.change().await?;
        change.state().seal = Some(SealedBy {
            at: self.clock.now(),
            by: actor.operator.name.clone(),
            code_sha256: code_hash(&code),
        });
        self.note(&mut change.conn(), actor, "vault.seal", &self.installation, json!({})).await?;
        change.commit().await.map_err(SealError::NotWritten)?;
        self.vault.close(SealReason::ByOperator);
        drop(self.sealing.take_outdated());
        if let Some(keyring) = keyring {
            self.keep_change_by(&keyring).await;
        }
        tracing::warn!(operator = actor.operator.name, "the vault was sealed");
        Ok(code)
    }

    /// Unseals the vault by what an operator presents. What is refused changes nothing.
    pub async fn unseal(&self, actor: &Actor, presented: &Presented) -> Result<(), UnsealError> {
        self.is_heard()?;
        let _turn = self.opening.lock().await;
        self.is_heard()?;
        if self.vault.sealed().is_none() {
            return Err(UnsealError::NotSealed);
        }
        let unsealed = self.try_unseal(actor, presented).await;
        match &unsealed {
            Ok(()) => tracing::warn!(
                operator = actor.operator.name,
                by = presented.as_str(),
                "the vault was unsealed"
            ),
            Err(UnsealError::Refused) => self.remember_refused(actor, presented),
            // Whether the seal was lifted is the database's to say, when it answers.
            Err(UnsealError::Store(_)) => self.vault.close(SealReason::StoreUnavailable),
            Err(UnsealError::NotSealed | UnsealError::TooOften { .. } | UnsealError::Sealed(_)) => {}
        }
        unsealed
    }

    async fn try_unseal(&self, actor: &Actor, presented: &Presented) -> Result<(), UnsealError> {
        let seal = self.seal_in_register().await?;
        let taken = match presented {
            Presented::Code(code) => {
                // A wrong code asks nobody. A right one is right by this only if the register turns out to be signed.
                if !seal.is_some_and(|seal| fits(code, &seal)) {
                    return Err(UnsealError::Refused);
                }
                let taken = self.take_in_by_source().await?;
                self.is_vouched_for(&taken, code)?;
                taken
            }
            Presented::Nothing if seal.is_some() => return Err(UnsealError::Refused),
            Presented::Nothing => self.take_in_by_source().await?,
            Presented::Kek(text) => {
                let source = PresentedKek::parse(text).map_err(|_| UnsealError::Refused)?;
                let opened = open_keyring(&self.store, &source).await.map_err(not_presented)?;
                self.take_in(opened, &source).await.map_err(not_presented)?
            }
            Presented::Passphrase(passphrase) => {
                let source = PresentedPassphrase { source: self.kek.as_ref(), passphrase };
                let opened = open_keyring(&self.store, &source).await.map_err(not_presented)?;
                self.take_in(opened, &source).await.map_err(not_presented)?
            }
        };
        if !self.is_allowed_by_the_book(actor, &taken).await? {
            return Err(UnsealError::Refused);
        }
        let by = presented.as_str();
        self.go_into_force(taken, Some(Unsealed { actor, by })).await.map_err(|error| {
            tracing::error!(%error, "the vault was not unsealed");
            // Whether the seal was lifted is the database's to say, when it answers.
            self.vault.close(error.reason());
            UnsealError::Sealed(Sealed(error.reason()))
        })
    }

    async fn take_in_by_source(&self) -> Result<Taken, UnsealError> {
        let source = self.kek.as_ref();
        let opened = open_keyring(&self.store, source).await.map_err(|error| not_by_source(&error))?;
        self.take_in(opened, source).await.map_err(|error| not_by_source(&error))
    }

    /// A code counts only if the register that holds its hash is signed: the hash could be anybody's.
    fn is_vouched_for(&self, taken: &Taken, code: &Secret<String>) -> Result<(), UnsealError> {
        let seal = taken.book.register().state.seal.as_ref();
        if taken.standing != Standing::RegisterUnsigned && seal.is_some_and(|seal| fits(code, seal)) {
            return Ok(());
        }
        let detail = json!({
            "detail": "an unseal code was presented, and the register that holds its hash was changed outside of Bitting; \
                       unseal with the key-encryption key",
        });
        self.alarms.raise(AlarmKind::RegisterMismatch, &self.installation, &detail);
        Err(UnsealError::Refused)
    }

    /// Whether the operator's row is as Bitting wrote it and still grants this: while sealed nothing looked at it.
    async fn is_allowed_by_the_book(&self, actor: &Actor, taken: &Taken) -> Result<bool, StoreError> {
        let mut read = self.store.read().await?;
        let found = store::operator::find_by_name(&mut read.conn(), &actor.operator.name).await?;
        let Some(record) = found.filter(|record| record.id == actor.operator.id) else { return Ok(false) };
        let tokens = store::operator::tokens_of(&mut read.conn(), &record.id).await?;
        if let Err(error) = taken.book.check(&taken.keyring, &operator_row(&record, &tokens)) {
            let detail = json!({"detail": "an operator tried to unseal the vault with a row that was changed outside of Bitting"});
            self.alarms.raise(AlarmKind::RowTampered, &format!("{}/{}", error.table, error.id), &detail);
            return Ok(false);
        }
        Ok(Operator::from(record).may(Permission::Unseal))
    }

    fn is_heard(&self) -> Result<(), UnsealError> {
        match self.sealing.closed_for(Instant::now()) {
            Some(retry_after) => Err(UnsealError::TooOften { retry_after }),
            None => Ok(()),
        }
    }

    fn remember_refused(&self, actor: &Actor, presented: &Presented) {
        let (operator, by) = (&actor.operator.name, presented.as_str());
        tracing::error!(operator, by, "a try to unseal the vault was refused");
        if self.sealing.refused(operator, Instant::now(), self.clock.now()) {
            let detail = json!({"refused_tries": self.sealing.unrecorded().tries, "operator": operator});
            self.alarms.raise(AlarmKind::UnsealRefused, &self.installation, &detail);
        }
    }

    /// Lifts the seal, where somebody unsealed, and writes down who and what was refused before.
    pub(super) async fn record_opening(
        &self,
        keyring: &Arc<Keyring>,
        unsealed: Option<Unsealed<'_>>,
    ) -> Result<(), StoreError> {
        let refused = self.sealing.unrecorded();
        if unsealed.is_none() && refused.tries == 0 {
            return Ok(());
        }
        let tx = self.store.write().await?;
        let book = Arc::clone(&self.book).lock_owned().await;
        let mut change = Change::begin(tx, Arc::clone(keyring), book);
        if refused.tries > 0 {
            let entry = AdminEntry {
                time: self.clock.now(),
                actor: "bitting".to_owned(),
                action: "vault.unseal_refused".to_owned(),
                target: self.installation.clone(),
                request_id: String::new(),
                detail: json!({"refused_tries": refused.tries, "last_at": refused.last_at, "by": refused.by}),
            };
            store::admin_log::append(&mut change.conn(), &entry).await?;
        }
        if let Some(Unsealed { actor, by }) = unsealed {
            change.state().seal = None;
            let detail = json!({"by": by, "refused_tries": refused.tries});
            self.note(&mut change.conn(), actor, "vault.unseal", &self.installation, detail).await?;
        }
        change.commit().await
    }

    /// Puts a fresh wrapping in the place of one that has fallen behind. What fails is tried again at the next opening.
    pub(super) async fn renew_wrapping(&self) {
        let Some(rooted) = self.sealing.take_outdated() else { return };
        let by = (&self.clock, &self.entropy);
        let renewed = async {
            let wrap = new_wrap(self.kek.as_ref(), &rooted.root, &self.installation, by).await?;
            let mut tx = self.store.write().await?;
            let (conn, now) = (&mut tx.conn(), self.clock.now());
            if !store::keyring::replace(conn, KEYRING, &rooted.sealed, &rooted.sealed, now).await?
                || !store::keyring::delete_wrap(conn, &rooted.wrap.id).await?
            {
                return Ok(false);
            }
            // It stays as old as the one that it replaces: the newest is that of a source that is moved to.
            let wrap = store::keyring::Wrap { created_at: rooted.wrap.created_at, ..wrap };
            store::keyring::put_wrap(conn, &wrap).await?;
            let entry = AdminEntry {
                time: now,
                actor: "bitting".to_owned(),
                action: "vault.renew_wrapping".to_owned(),
                target: self.installation.clone(),
                request_id: String::new(),
                detail: json!({"kek": wrap.source}),
            };
            store::admin_log::append(conn, &entry).await?;
            tx.commit().await?;
            Ok::<_, OpenVaultError>(true)
        };
        match renewed.await {
            Ok(true) => tracing::info!("the wrapping of the keyring was renewed"),
            Ok(false) => tracing::info!(
                "the keyring was written anew meanwhile; its wrapping is renewed at the next start"
            ),
            Err(error) => tracing::warn!(%error, "the wrapping of the keyring was not renewed"),
        }
    }
}

/// A configured source that does not give the key is no wrong try.
fn not_by_source(error: &OpenVaultError) -> UnsealError {
    tracing::error!(%error, "the vault cannot be opened by its source");
    UnsealError::Sealed(Sealed(error.reason()))
}

/// What was presented does not open it; why is nobody's to know.
fn not_presented(error: OpenVaultError) -> UnsealError {
    match error {
        OpenVaultError::Store(error) => UnsealError::Store(error),
        OpenVaultError::NotInstalled
        | OpenVaultError::SealedByOperator
        | OpenVaultError::Source(_)
        | OpenVaultError::WrongKey { .. }
        | OpenVaultError::Keyring(_)
        | OpenVaultError::Books(_) => UnsealError::Refused,
    }
}

/// A fresh code, in groups that can be read out.
fn unseal_code(entropy: &Entropy) -> Secret<String> {
    let groups: [String; CODE_GROUPS] = std::array::from_fn(|_| entropy.base62(CODE_GROUP_LEN));
    Secret::new(groups.join("-"))
}

/// What is kept of a code: the SHA-256 of its letters and digits, in hexadecimal. It has too many bits to be guessed from that.
fn code_hash(code: &Secret<String>) -> String {
    let plain = code.expose().bytes().filter(u8::is_ascii_alphanumeric);
    let plain = Secret::new(plain.collect::<Vec<u8>>());
    HEXLOWER.encode(digest::digest(&digest::SHA256, plain.expose()).as_ref())
}

fn fits(code: &Secret<String>, seal: &SealedBy) -> bool {
    code_hash(code).as_bytes().ct_eq(seal.code_sha256.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_known_however_it_is_grouped_and_no_other_is() {
        let code = unseal_code(&Entropy::new());
        assert_eq!(code.expose().len(), 29);
        let at = chrono::DateTime::UNIX_EPOCH;
        let seal = SealedBy { at, by: "ana".into(), code_sha256: code_hash(&code) };
        assert!(!seal.code_sha256.contains(code.expose()));
        for same in [code.expose().clone(), code.expose().replace('-', ""), format!(" {}\n", code.expose())] {
            assert!(fits(&Secret::new(same), &seal));
        }
        let wrong = |text: String| !fits(&Secret::new(text), &seal);
        assert!(wrong(String::new()) && wrong(code.expose()[1..].to_owned()));
        assert!(wrong(unseal_code(&Entropy::new()).expose().clone()));
        let unset = SealedBy { code_sha256: String::new(), ..seal };
        assert!(!fits(&code, &unset));
    }
}
