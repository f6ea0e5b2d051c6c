//! A change of rows that grant power: the one way to write them.
//!
//! It is one transaction. Every row that it writes is signed in it, the register counts it, and once it is committed
//! the book follows. One change at a time; a change that is dropped changes nothing.

use super::book::{Book, Signed, Tampered};
use super::check::Doubts;
use crate::service::StoreError;
use crate::store::register::{self, RowMac, SignedRegister};
use crate::store::{Conn, Tx};
use crate::subkey::SecretRecord;
use crate::vault::{KeyUse, Keyring, PowerRow, PowerTable, Register, RegisterState};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// A change under way.
pub(in crate::service) struct Change {
    tx: Tx<'static>,
    keyring: Arc<Keyring>,
    book: OwnedMutexGuard<Book>,
    register: Register,
    written: Vec<((&'static str, String), Option<Signed>)>,
    is_new: bool,
    signs_register: bool,
    doubts: Option<Doubts>,
}

impl Change {
    /// Begins one. The book must be what the database holds.
    pub(in crate::service) fn begin(
        tx: Tx<'static>,
        keyring: Arc<Keyring>,
        book: OwnedMutexGuard<Book>,
    ) -> Self {
        let register = book.register.clone();
        let is_new = register.seq == 0;
        Self { tx, keyring, book, register, written: Vec::new(), is_new, signs_register: false, doubts: None }
    }

    /// Whom to tell when a row was tampered with.
    pub(in crate::service) fn telling(mut self, doubts: &Doubts) -> Self {
        self.doubts = Some(doubts.clone());
        self
    }

    /// Lends the transaction to a statement.
    pub(in crate::service) fn conn(&mut self) -> Conn<'_> {
        self.tx.conn()
    }

    /// The keyring that this change signs with.
    pub(in crate::service) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Whether the pepper that a secret's MAC was made with is still there: it was made before this change began.
    pub(in crate::service) fn vouch_for(&self, secret: &SecretRecord) -> Result<(), StoreError> {
        let is_there = |term| self.keyring.has(term, KeyUse::Pepper);
        match u32::try_from(secret.mac_term) {
            Ok(term) if is_there(term) => Ok(()),
            Ok(_) | Err(_) => Err(StoreError::Conflict { table: "keyring" }),
        }
    }

    /// Has the register signed anew although nothing of it changes.
    pub(in crate::service) fn sign_register(&mut self) {
        self.signs_register = true;
    }

    /// Whether a row that was read in this change is the one that was written last, by this change or before. To be
    /// asked before the row is written anew: signing what was tampered with would make it good.
    pub(in crate::service) fn check(&self, row: &PowerRow) -> Result<(), Tampered> {
        let checked = match self.written.iter().find(|(key, _)| *key == (row.table.as_str(), row.id.clone()))
        {
            Some((_, Some(signed))) if signed.is_of(&self.keyring, row) => Ok(()),
            Some(_) => Err(Tampered { table: row.table.as_str(), id: row.id.clone() }),
            None => self.book.check(&self.keyring, row),
        };
        if let (Err(tampered), Some(doubts)) = (&checked, &self.doubts) {
            doubts.tell(std::slice::from_ref(tampered));
        }
        checked
    }

    /// Signs a row as this change leaves it. Of several signatures of one row the last counts.
    pub(in crate::service) async fn sign(&mut self, row: &PowerRow) -> Result<(), StoreError> {
        let (mac, term) = self.keyring.sign_row(row.canonical());
        let (tbl, id) = (row.table.as_str(), row.id.clone());
        let kept = RowMac { tbl: tbl.to_owned(), id: id.clone(), term: i64::from(term), mac: mac.to_vec() };
        register::put_mac(&mut self.tx.conn(), &kept).await?;
        self.replace((tbl, id), Some(Signed { mac, term }));
        Ok(())
    }

    /// Forgets a row that this change removes.
    pub(in crate::service) async fn remove(&mut self, table: PowerTable, id: &str) -> Result<(), StoreError> {
        register::delete_mac(&mut self.tx.conn(), table.as_str(), id).await?;
        self.replace((table.as_str(), id.to_owned()), None);
        Ok(())
    }

    /// What the register says of sealing and quarantine.
    pub(in crate::service) fn state(&mut self) -> &mut RegisterState {
        &mut self.register.state
    }

    /// Counts a restore.
    pub(in crate::service) fn begin_epoch(&mut self) {
        self.register.epoch += 1;
    }

    /// Begins the sum anew with those of `rows` that are as they were written, and forgets the MACs of all others:
    /// they stay unusable. The MACs in the database are those of the sum then, whatever was made of them. Returns which
    /// rows are lost.
    pub(in crate::service) async fn sum_anew(
        &mut self,
        rows: &[PowerRow],
    ) -> Result<Vec<String>, StoreError> {
        let key = |row: &PowerRow| (row.table.as_str(), row.id.clone());
        let (sound, wrong): (Vec<_>, Vec<_>) = rows.iter().partition(|row| self.check(row).is_ok());
        let sound: HashSet<(&'static str, String)> = sound.into_iter().map(key).collect();
        let mut lost: HashSet<_> =
            self.book.rows.keys().filter(|key| !sound.contains(*key)).cloned().collect();
        for key in &lost {
            self.replace(key.clone(), None);
        }
        lost.extend(wrong.into_iter().map(key));
        let kept: Vec<_> = self.book.rows.iter().filter(|(key, _)| sound.contains(*key)).collect();
        register::delete_macs(&mut self.tx.conn()).await?;
        self.register.digest = Register::default().digest;
        for ((tbl, id), Signed { mac, term }) in kept {
            let kept =
                RowMac { tbl: (*tbl).to_owned(), id: id.clone(), term: i64::from(*term), mac: mac.to_vec() };
            register::put_mac(&mut self.tx.conn(), &kept).await?;
            if let Some(share) = self.keyring.share(mac, *term) {
                self.register.add(&share);
            }
        }
        let mut lost: Vec<String> = lost.into_iter().map(|(table, id)| format!("{table}/{id}")).collect();
        lost.sort();
        Ok(lost)
    }

    /// Commits. Whoever used the rows has to be told of it afterwards. After an error the book is read anew at the next
    /// change: whether this one is in the database is not known then.
    pub(in crate::service) async fn commit(mut self) -> Result<(), StoreError> {
        if self.register == self.book.register && self.written.is_empty() && !self.signs_register {
            return self.tx.commit().await;
        }
        let expected = (!self.is_new).then_some(self.book.register.seq);
        self.register.seq += 1;
        let (mac, term) = self.keyring.sign_row(&self.register.canonical());
        let signed =
            SignedRegister { register: self.register.clone(), mac: mac.to_vec(), term: i64::from(term) };
        if !register::replace(&mut self.tx.conn(), expected, &signed).await? {
            self.book.is_stale = true;
            return Err(StoreError::Conflict { table: "register" });
        }
        // Until the commit has answered, nobody knows which of the two holds.
        self.book.is_stale = true;
        self.tx.commit().await?;
        self.book.register = self.register;
        for (key, signed) in self.written {
            match signed {
                Some(signed) => self.book.rows.insert(key, signed),
                None => self.book.rows.remove(&key),
            };
        }
        self.book.is_stale = false;
        Ok(())
    }

    /// The register's sum follows: the row's last share out, its new one in.
    fn replace(&mut self, key: (&'static str, String), new: Option<Signed>) {
        let earlier = self.written.iter().position(|(written, _)| *written == key);
        let old = match earlier {
            Some(index) => self.written.swap_remove(index).1,
            None => self.book.rows.get(&key).copied(),
        };
        let share = |signed: Signed| self.keyring.share(&signed.mac, signed.term);
        if let Some(share) = old.and_then(share) {
            self.register.subtract(&share);
        }
        if let Some(share) = new.and_then(share) {
            self.register.add(&share);
        }
        self.written.push((key, new));
    }
}
