//! The book: the MACs of all rows that grant power, and the register, in memory and checked.
//!
//! There is one server for a store, so the book is what the rows must be: it is read from the database when the vault
//! opens, held against the register, and from then on follows the server's own changes. A row is used only if its MAC
//! is the book's; what SQL did to the row or to its MAC since then does not count.

use crate::store::register::{self, RowMac, SignedRegister};
use crate::store::{Snapshot, StoreError};
use crate::vault::{Keyring, PowerRow, PowerTable, Register};
use std::collections::{HashMap, HashSet};
use subtle::ConstantTimeEq;

const MACS_PER_PAGE: u32 = 1_000;

/// A row is not as Bitting wrote it, or an old one was put back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("the row {table}/{id} was changed outside of Bitting")]
pub struct Tampered {
    /// Its table.
    pub table: &'static str,
    /// Its id.
    pub id: String,
}

/// The MAC of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) struct Signed {
    pub(super) mac: [u8; 32],
    pub(super) term: u32,
}

impl Signed {
    /// Whether it is the MAC of this row.
    pub(super) fn is_of(&self, keyring: &Keyring, row: &PowerRow) -> bool {
        let mac = keyring.row_mac(row.canonical(), self.term);
        mac.is_some_and(|mac| bool::from(mac.ct_eq(&self.mac)))
    }
}

/// What is known of the rows that grant power.
#[derive(Clone, Debug, Default)]
pub(in crate::service) struct Book {
    pub(super) register: Register,
    pub(super) rows: HashMap<(&'static str, String), Signed>,
    /// The database may be ahead: somebody else with the keyring wrote, or a commit was left without an answer.
    pub(super) is_stale: bool,
}

/// How the database's rows stand to its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Standing {
    /// They are what was written.
    Sound,
    /// The register itself is missing or not signed by this keyring.
    RegisterUnsigned,
    /// Rows are missing, were put in, or are of another time.
    DoesNotAddUp,
}

impl Book {
    /// Reads all of it, from one moment of the database.
    pub(in crate::service) async fn read(
        snapshot: &mut Snapshot,
        keyring: &Keyring,
    ) -> Result<(Self, Standing), StoreError> {
        let signed = register::get(&mut snapshot.conn()).await?;
        let (mut book, mut sum) = (Self::default(), Register::default());
        let mut after: Option<(String, String)> = None;
        loop {
            let from = after.as_ref().map(|(table, id)| (table.as_str(), id.as_str()));
            let page = register::macs(&mut snapshot.conn(), from, None, MACS_PER_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some((last.tbl.clone(), last.id.clone()));
            for row in page {
                // A MAC of no known table or term adds nothing: the sum will tell.
                let Some((key, signed)) = known(row) else { continue };
                if let Some(share) = keyring.share(&signed.mac, signed.term) {
                    sum.add(&share);
                }
                book.rows.insert(key, signed);
            }
        }
        let standing = match &signed {
            Some(signed) if !is_signed(keyring, signed) => Standing::RegisterUnsigned,
            None => Standing::RegisterUnsigned,
            Some(signed) if signed.register.digest != sum.digest => Standing::DoesNotAddUp,
            Some(_) => Standing::Sound,
        };
        if let Some(signed) = signed {
            book.register = signed.register;
        }
        Ok((book, standing))
    }

    /// A book that knows the register and none of the rows, for a change of the register alone; and whether the
    /// register is signed.
    pub(in crate::service) fn of_register(signed: Option<SignedRegister>, keyring: &Keyring) -> (Self, bool) {
        let is_sound = signed.as_ref().is_some_and(|signed| is_signed(keyring, signed));
        let register = signed.map(|signed| signed.register).unwrap_or_default();
        (Self { register, ..Self::default() }, is_sound)
    }

    /// Whether the row is the one that was written last.
    pub(in crate::service) fn check(&self, keyring: &Keyring, row: &PowerRow) -> Result<(), Tampered> {
        let tampered = || Tampered { table: row.table.as_str(), id: row.id.clone() };
        let signed = self.rows.get(&(row.table.as_str(), row.id.clone())).ok_or_else(tampered)?;
        if signed.is_of(keyring, row) { Ok(()) } else { Err(tampered()) }
    }

    /// Which of the rows are not the ones that were written last; and which rows of the tables in `whole` are missing.
    pub(in crate::service) fn wrong(
        &self,
        keyring: &Keyring,
        rows: &[PowerRow],
        whole: &[PowerTable],
    ) -> Vec<Tampered> {
        let mut wrong: Vec<Tampered> = rows.iter().filter_map(|row| self.check(keyring, row).err()).collect();
        let there: HashSet<(&str, &str)> =
            rows.iter().map(|row| (row.table.as_str(), row.id.as_str())).collect();
        for table in whole {
            wrong.extend(self.missing(*table, |id| there.contains(&(table.as_str(), id))));
        }
        wrong
    }

    /// The rows of a table that were written and are not there.
    pub(in crate::service) fn missing(
        &self,
        table: PowerTable,
        is_there: impl Fn(&str) -> bool,
    ) -> Vec<Tampered> {
        let of_table = self.rows.keys().filter(|(known, id)| *known == table.as_str() && !is_there(id));
        of_table.map(|(table, id)| Tampered { table, id: id.clone() }).collect()
    }

    /// Whether the other was read from the same rows and register.
    pub(in crate::service) fn is_as(&self, other: &Self) -> bool {
        self.register == other.register && self.rows == other.rows
    }

    /// What the register says.
    pub(in crate::service) fn register(&self) -> &Register {
        &self.register
    }
}

fn known(row: RowMac) -> Option<((&'static str, String), Signed)> {
    let table = PowerTable::ALL.iter().find(|table| table.as_str() == row.tbl)?;
    let (mac, term) = (row.mac.as_slice().try_into().ok()?, u32::try_from(row.term).ok()?);
    Some(((table.as_str(), row.id), Signed { mac, term }))
}

fn is_signed(keyring: &Keyring, signed: &SignedRegister) -> bool {
    u32::try_from(signed.term)
        .is_ok_and(|term| keyring.row_is_signed(&signed.register.canonical(), &signed.mac, term))
}
