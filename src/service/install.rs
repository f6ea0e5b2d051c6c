//! Setting an installation up, and opening its vault.

use super::checkpoint::{Beside, ForeignCheckpoint, KeepError};
use super::quarantine::{MISMATCH, add_reason, mismatch};
use super::vault::{Book, Change, INSTALLATION, KEYRING, new_wrap, operator_row, provider_row};
use super::{KekSource, KekSourceError, OpenVaultError, Opened, Services, StoreError, open_keyring};
use crate::base::{Clock, Entropy, Secret};
use crate::log::AdminEntry;
use crate::provider::WELL_KNOWN;
use crate::store::provider::{ProviderRecord, ProviderStatus};
use crate::store::{self, Store};
use crate::vault::{Keyring, Quarantine, Root};
use data_encoding::{BASE64, HEXLOWER};
use ring::digest;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;

/// What a new installation hands to its first operator.
pub struct Installed {
    /// The first operator's token, shown once.
    pub operator_token: Secret<String>,
    /// The public key by which the log's signatures are checked.
    pub log_key: String,
}

/// Why an installation was not set up.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is one already.
    #[error("this database is set up already; nothing was changed")]
    AlreadyInstalled,
    /// The source gave no key-encryption key.
    #[error(transparent)]
    Source(#[from] KekSourceError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why no owner was made from beside the data.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Only who holds the key-encryption key may do this.
    #[error(transparent)]
    Vault(#[from] OpenVaultError),
    /// The data directory belongs to another database.
    #[error(transparent)]
    ForeignCheckpoint(#[from] ForeignCheckpoint),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether the database has an installation.
pub async fn is_installed(store: &Store) -> Result<bool, StoreError> {
    Ok(installation(store).await?.is_some())
}

/// The installation's id.
pub(super) async fn installation(store: &Store) -> Result<Option<String>, StoreError> {
    let mut read = store.read().await?;
    store::meta::get(&mut read.conn(), INSTALLATION).await
}

/// Sets a migrated database up: installation id, keyring under a key of the source, and the first operator, who owns
/// everything.
pub async fn install(
    store: &Store,
    source: &dyn KekSource,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<Installed, InstallError> {
    let (installation, now) = (entropy.id("inst"), clock.now());
    let (root, keyring) = (Root::generate(entropy), Arc::new(Keyring::generate(entropy)));
    let wrap = new_wrap(source, &root, &installation, (clock, entropy)).await?;
    let mut tx = store.write().await?;
    if store::meta::put_if_absent(&mut tx.conn(), INSTALLATION, &installation).await? != installation {
        return Err(InstallError::AlreadyInstalled);
    }
    let sealed = keyring.seal(entropy, &root, &installation);
    store::keyring::put_wrap(&mut tx.conn(), &wrap).await?;
    store::keyring::put(&mut tx.conn(), KEYRING, &sealed, now).await?;
    let book = Arc::new(Mutex::new(Book::default())).lock_owned().await;
    let mut change = Change::begin(tx, Arc::clone(&keyring), book);
    for project in store::project::list(&mut change.conn()).await? {
        change.sign_project(&project.slug).await?;
    }
    let operator_token = add_owner(&mut change, "owner", clock, entropy).await?;
    change.commit().await?;
    Ok(Installed { operator_token, log_key: log_key(&keyring) })
}

/// A new owner, made from beside the data.
pub struct Recovered {
    /// The owner's token, shown once.
    pub token: Secret<String>,
    /// Why the server admits nothing, if it does not.
    pub quarantine: Option<Quarantine>,
    /// Why the checkpoint does not tell of it yet; a server that runs makes up for it.
    pub unkept: Option<KeepError>,
}

/// Gives out a token for a new owner, from beside the data: for an installation whose last token was lost.
///
/// It signs the register anew, so it looks first, as a server that starts does: what is not the database that was
/// written last is quarantined, and told in the checkpoint at that path.
pub async fn recover(
    store: &Store,
    source: &dyn KekSource,
    checkpoint: PathBuf,
    (clock, entropy): (&Clock, &Entropy),
) -> Result<Recovered, RecoverError> {
    let Opened { installation, keyring, .. } = open_keyring(store, source).await?;
    let keyring = Arc::new(keyring);
    let checkpoint = Beside::read(checkpoint, &installation, &keyring).await?;
    let tx = store.write().await?;
    let mut moment = store.snapshot().await?;
    let doubt = checkpoint.doubt(&mut moment).await?;
    let (book, standing) = Book::read(&mut moment, &keyring).await?;
    drop(moment);
    let book = Arc::new(Mutex::new(book)).lock_owned().await;
    let (mut change, now) = (Change::begin(tx, Arc::clone(&keyring), book), clock.now());
    let wrong = mismatch(standing).map(|detail| (MISMATCH, detail.to_owned()));
    for (reason, detail) in wrong.into_iter().chain(doubt) {
        add_reason(&mut change, Quarantine { since: now, reason: reason.to_owned(), detail });
    }
    let quarantine = change.state().quarantine.clone();
    let name = format!("recovered-{}", entropy.base62(8));
    let token = add_owner(&mut change, &name, clock, entropy).await?;
    let entry = AdminEntry {
        time: now,
        actor: "local".to_owned(),
        action: "operator.recover".to_owned(),
        target: name,
        request_id: String::new(),
        detail: json!({"roles": ["owner"]}),
    };
    store::admin_log::append(&mut change.conn(), &entry).await?;
    change.commit().await?;
    let kept = checkpoint.keep(store, (&installation, &keyring), quarantine.is_some(), now).await;
    Ok(Recovered { token, quarantine, unkept: kept.err() })
}

/// How the log's public key is written: `ed25519:` and base64.
pub fn log_key(keyring: &Keyring) -> String {
    format!("ed25519:{}", BASE64.encode(&keyring.log_public_key()))
}

/// A fresh operator token: `bo_` and 256 random bits in hexadecimal.
pub(super) fn operator_token(entropy: &Entropy) -> Secret<String> {
    Secret::new(format!("bo_{}", HEXLOWER.encode(&entropy.bytes::<32>())))
}

/// What is kept of an operator token. Without the pepper, so that it can be checked while the vault is sealed.
pub(super) fn operator_token_hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

async fn add_owner(
    change: &mut Change,
    name: &str,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<Secret<String>, StoreError> {
    let (token, now) = (operator_token(entropy), clock.now());
    let operator = store::operator::OperatorRecord {
        id: entropy.id("op"),
        name: name.to_owned(),
        roles: vec!["owner".to_owned()],
        projects: None,
        version: 1,
        created_at: now,
        created_by: "local".to_owned(),
    };
    store::operator::insert(&mut change.conn(), &operator).await?;
    let sha256 = operator_token_hash(token.expose());
    let record = store::operator::TokenRecord {
        id: entropy.id("ot"),
        operator_id: operator.id.clone(),
        sha256,
        created_at: now,
        expires_at: None,
    };
    store::operator::insert_token(&mut change.conn(), &record).await?;
    change.sign(&operator_row(&operator, &[record])).await?;
    Ok(token)
}

impl Services {
    /// Providers that this version knows and the database never had. One that an operator deleted stays deleted.
    pub(super) async fn add_missing_providers(&self, keyring: &Arc<Keyring>) -> Result<(), StoreError> {
        let mut change = self.change_while_opening(keyring).await?;
        for known in &WELL_KNOWN {
            let Some(document) = known.document().and_then(|document| serde_json::to_value(document).ok())
            else {
                continue;
            };
            let record = ProviderRecord {
                slug: known.slug.to_owned(),
                version: 1,
                document,
                status: ProviderStatus::Active,
                created_at: self.clock.now(),
            };
            let seeded = format!("provider_seeded/{}", known.slug);
            if store::meta::get(&mut change.conn(), &seeded).await?.is_none() {
                if store::provider::insert_if_absent(&mut change.conn(), &record).await? {
                    change.sign(&provider_row(&record)).await?;
                }
                store::meta::put(&mut change.conn(), &seeded, "yes").await?;
            }
        }
        change.commit().await
    }
}
