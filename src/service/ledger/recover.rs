//! After a crash: admissions on record without an outcome are posted in full.

use super::memory::Memory;
use super::{Settlement, apply, unknown_outcome};
use crate::log::Entry;
use crate::service::Alarms;
use crate::store::{Store, StoreError, admission};

const BATCH_MAX: u32 = 200;

/// Posts every admission that an earlier run left open at its full amount, as `unknown_outcome`.
/// Returns how many there were. Runs before anything is admitted, and by nobody but who may keep the ledger.
pub(super) async fn settle_what_a_crash_left(store: &Store, alarms: &Alarms) -> Result<usize, StoreError> {
    let mut settled = 0;
    loop {
        // Nothing was left by this run.
        let mut memory = Memory::new(1);
        let mut tx = store.write().await?;
        let open = admission::list_open(&mut tx.conn(), BATCH_MAX).await?;
        for opening in open.iter().map(|admission| &admission.entry) {
            let cost = opening.reserved_usd;
            let entry = Entry { cost_usd: cost, ..unknown_outcome(opening.clone()) };
            let settlement = Settlement { request_id: opening.request_id.clone(), cost, entry };
            let mut turn = apply::Turn { conn: tx.conn(), memory: &mut memory, alarms };
            apply::settle(&mut turn, &settlement).await?;
        }
        tx.commit().await?;
        if open.is_empty() {
            return Ok(settled);
        }
        settled += open.len();
    }
}
