//! A database of the first version: its keyring gets a root, and its rows are signed for the first time.

use super::look::{all_but_subkeys, subkey_rows};
use super::open::{FIRST_KEYRING, KEYRING, OpenVaultError, new_wrap};
use super::{Book, Change};
use crate::base::{Clock, Entropy};
use crate::log::AdminEntry;
use crate::service::{KekSource, StoreError};
use crate::store::subkey::SubKeyFilter;
use crate::store::{self, Cursor, PAGE_MAX, Store};
use crate::vault::{Keyring, PowerRow, Root};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Puts a keyring of the first form under a root and signs every row that is there, in one transaction. The rows are
/// believed this once: whoever could write the database before could write them.
pub(super) async fn adopt(
    store: &Store,
    source: &dyn KekSource,
    keyring: &Arc<Keyring>,
    installation: &str,
    (clock, entropy): (&Clock, &Entropy),
) -> Result<(), OpenVaultError> {
    let root = Root::generate(entropy);
    let wrap = new_wrap(source, &root, installation, (clock, entropy)).await?;
    let sealed = keyring.seal(entropy, &root, installation);
    let mut tx = store.write().await?;
    store::keyring::put_wrap(&mut tx.conn(), &wrap).await?;
    store::keyring::put(&mut tx.conn(), KEYRING, &sealed, clock.now()).await?;
    store::keyring::delete(&mut tx.conn(), FIRST_KEYRING).await?;
    // There is a register already where such a database was restored: its quarantine stays.
    let (book, _) = Book::of_register(store::register::get(&mut tx.conn()).await?, keyring);
    let book = Arc::new(Mutex::new(book)).lock_owned().await;
    let mut change = Change::begin(tx, Arc::clone(keyring), book);
    let signed = sign_all(&mut change).await?;
    let entry = AdminEntry {
        time: clock.now(),
        actor: "bitting".to_owned(),
        action: "vault.adopt".to_owned(),
        target: installation.to_owned(),
        request_id: String::new(),
        detail: json!({"rows_signed": signed, "kek": source.kind()}),
    };
    store::admin_log::append(&mut change.conn(), &entry).await?;
    change.commit().await?;
    tracing::info!(rows = signed, "the rows that grant power are signed from now on");
    Ok(())
}

/// Signs every row as it is; returns how many.
async fn sign_all(change: &mut Change) -> Result<usize, StoreError> {
    let rows = all_rows(change).await?;
    for row in &rows {
        change.sign(row).await?;
    }
    Ok(rows.len())
}

/// Every row that grants power, as it is in the database.
pub(in crate::service) async fn all_rows(change: &mut Change) -> Result<Vec<PowerRow>, StoreError> {
    let mut rows = all_but_subkeys(&mut change.conn()).await?;
    let mut after: Option<Cursor<String>> = None;
    loop {
        let filter = SubKeyFilter::default();
        let page = store::subkey::list(&mut change.conn(), &filter, after.as_ref(), PAGE_MAX).await?;
        rows.extend(subkey_rows(&mut change.conn(), &page.items).await?);
        after = page.next;
        if after.is_none() {
            return Ok(rows);
        }
    }
}
