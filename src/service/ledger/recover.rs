//! After a crash: admissions on record without an outcome are posted in full.

use super::memory::Memory;
use super::{Command, Ledger, Settlement, Unrecorded, apply, unknown_outcome};
use crate::base::NanoUsd;
use crate::log::Entry;
use crate::service::Alarms;
use crate::store::{Store, StoreError, admission};
use tokio::sync::oneshot;

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

impl Ledger {
    /// Settles an admission that is on record and not this process's own: posts `cost` and writes the entry, durably.
    pub(in crate::service) async fn settle_on_record(
        &self,
        cost: NanoUsd,
        entry: Entry,
    ) -> Result<(), Unrecorded> {
        let (reply, answer) = oneshot::channel();
        let settlement = Settlement { request_id: entry.request_id.clone(), cost, entry };
        let command = Command::Settle(Box::new(settlement), Some(reply));
        self.commands.send(command).await.map_err(|_| Unrecorded)?;
        answer.await.map(drop).map_err(|_| Unrecorded)
    }
}
