//! Setting an installation up, and opening its vault.

use super::{Services, StartError, StoreError};
use crate::base::{Clock, Entropy, Secret};
use crate::log::AdminEntry;
use crate::provider::WELL_KNOWN;
use crate::store::provider::{ProviderRecord, ProviderStatus};
use crate::store::{self, Store};
use crate::vault::{Kek, Keyring};
use data_encoding::{BASE64, HEXLOWER};
use ring::digest;
use serde_json::json;

const INSTALLATION: &str = "installation";
const KEYRING: &str = "kek";

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
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether the database has an installation.
pub async fn is_installed(store: &Store) -> Result<bool, StoreError> {
    let mut read = store.read().await?;
    Ok(store::meta::get(&mut read.conn(), INSTALLATION).await?.is_some())
}

/// Sets a migrated database up: installation id, keyring under `kek`, well-known providers, and the
/// first operator, who owns everything.
pub async fn install(
    store: &Store,
    kek: &Kek,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<Installed, InstallError> {
    let (installation, keyring, now) = (entropy.id("inst"), Keyring::generate(entropy), clock.now());
    let mut tx = store.write().await?;
    if store::meta::put_if_absent(&mut tx.conn(), INSTALLATION, &installation).await? != installation {
        return Err(InstallError::AlreadyInstalled);
    }
    let sealed = keyring.seal(entropy, kek, &installation);
    store::keyring::put(&mut tx.conn(), KEYRING, &sealed, now).await?;
    let operator_token = add_owner(&mut tx, "owner", clock, entropy).await?;
    tx.commit().await?;
    Ok(Installed { operator_token, log_key: log_key(&keyring) })
}

/// Gives out a token for a new owner, from beside the data: for an installation whose last token was lost.
pub async fn recover(
    store: &Store,
    kek: &Kek,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<Secret<String>, StartError> {
    // Only who holds the KEK may do this.
    open(store, kek).await?;
    let mut tx = store.write().await?;
    let name = format!("recovered-{}", entropy.base62(8));
    let token = add_owner(&mut tx, &name, clock, entropy).await?;
    let entry = AdminEntry {
        time: clock.now(),
        actor: "local".to_owned(),
        action: "operator.recover".to_owned(),
        target: name,
        request_id: String::new(),
        detail: json!({"roles": ["owner"]}),
    };
    store::admin_log::append(&mut tx.conn(), &entry).await?;
    tx.commit().await?;
    Ok(token)
}

/// Opens the vault.
pub(super) async fn open(store: &Store, kek: &Kek) -> Result<(String, Keyring), StartError> {
    let mut read = store.read().await?;
    let installation =
        store::meta::get(&mut read.conn(), INSTALLATION).await?.ok_or(StartError::NotInstalled)?;
    let sealed = store::keyring::get(&mut read.conn(), KEYRING).await?.ok_or(StartError::NotInstalled)?;
    let keyring = Keyring::open(kek, &installation, &sealed).map_err(StartError::Sealed)?;
    Ok((installation, keyring))
}

/// Whether the KEK opens the vault.
pub async fn opens(store: &Store, kek: &Kek) -> Result<(), StartError> {
    open(store, kek).await.map(drop)
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
    tx: &mut store::Tx<'_>,
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
        created_at: now,
        created_by: "local".to_owned(),
    };
    store::operator::insert(&mut tx.conn(), &operator).await?;
    let sha256 = operator_token_hash(token.expose());
    let record = store::operator::TokenRecord {
        id: entropy.id("ot"),
        operator_id: operator.id.clone(),
        sha256,
        created_at: now,
        expires_at: None,
    };
    store::operator::insert_token(&mut tx.conn(), &record).await?;
    Ok(token)
}

impl Services {
    /// Providers that this version knows and the database never had. One that an operator deleted stays deleted.
    pub(super) async fn add_missing_providers(&self) -> Result<(), StoreError> {
        let mut tx = self.store.write().await?;
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
            if store::meta::get(&mut tx.conn(), &seeded).await?.is_none() {
                store::provider::insert_if_absent(&mut tx.conn(), &record).await?;
                store::meta::put(&mut tx.conn(), &seeded, "yes").await?;
            }
        }
        tx.commit().await
    }
}
