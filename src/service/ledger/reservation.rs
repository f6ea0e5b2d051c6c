//! What an admitted request holds, and how it ends: exactly once.

use super::{Command, Hold, ObjectChanges, Settlement, Unrecorded};
use crate::base::NanoUsd;
use crate::budget::Balance;
use crate::log::{Entry, Outcome, UsageSource};
use tokio::sync::{mpsc, oneshot};

/// A worst case held for one admitted request. Dropped unresolved, it is voided when nothing was sent
/// yet, and otherwise charged in full: never refunded on hope.
pub struct Reservation {
    open: Option<(mpsc::OwnedPermit<Command>, Entry)>,
    amount: NanoUsd,
    holds: Vec<Hold>,
    was_sent: bool,
    recorded: Option<oneshot::Receiver<()>>,
}

impl Reservation {
    /// What is held, and where its end is told. `recorded` is told when the admission is durable; `None` if it is.
    pub(super) fn new(
        (entry, amount, holds): (Entry, NanoUsd, Vec<Hold>),
        settle_slot: mpsc::OwnedPermit<Command>,
        recorded: Option<oneshot::Receiver<()>>,
    ) -> Self {
        Self { open: Some((settle_slot, entry)), amount, holds, was_sent: false, recorded }
    }

    /// What is held.
    pub fn amount(&self) -> NanoUsd {
        self.amount
    }

    /// Where it is held; empty for a key without budgets.
    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    /// From here on the provider may bill.
    pub fn mark_sent(&mut self) {
        self.was_sent = true;
    }

    /// Returns when the admission is durable: before that, nothing of an answer may be seen. Cancel-safe.
    ///
    /// # Errors
    /// When the writer is gone.
    pub async fn recorded(&mut self) -> Result<(), Unrecorded> {
        if let Some(recorded) = &mut self.recorded {
            recorded.await.map_err(|_| Unrecorded)?;
            self.recorded = None;
        }
        Ok(())
    }

    /// Posts the actual cost, gives back the rest and writes the entry. The answer comes when that is
    /// durable, with the balances of the budgets; it needs not be waited for.
    pub fn settle(self, cost: NanoUsd, entry: Entry) -> Settled {
        self.settle_with(cost, entry, ObjectChanges::default())
    }

    /// The same with what the request made and deleted at the provider, durable with the entry or not at all.
    pub fn settle_with(mut self, cost: NanoUsd, entry: Entry, objects: ObjectChanges) -> Settled {
        let (reply, answer) = oneshot::channel();
        self.resolve((cost, entry, objects), Some(reply));
        Settled(answer)
    }

    /// Gives everything back: nothing was sent, or the provider bills nothing for it.
    pub fn void(self, entry: Entry) -> Settled {
        self.settle(NanoUsd::ZERO, entry)
    }

    fn resolve(
        &mut self,
        (cost, entry, objects): (NanoUsd, Entry, ObjectChanges),
        reply: Option<oneshot::Sender<Vec<Balance>>>,
    ) {
        if let Some((slot, _)) = self.open.take() {
            let entry = Entry { cost_usd: cost, reserved_usd: self.amount, ..entry };
            let holds = std::mem::take(&mut self.holds);
            let settlement = Settlement { cost, entry, holds, objects, is_drawn: true };
            slot.send(Command::Settle(Box::new(settlement), reply));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some((_, opening)) = &self.open {
            let opening = opening.clone();
            let (cost, entry) = if self.was_sent {
                (self.amount, unknown_outcome(opening))
            } else {
                (NanoUsd::ZERO, Entry { outcome: Some(Outcome::ClientGone), ..opening })
            };
            self.resolve((cost, entry, ObjectChanges::default()), None);
        }
    }
}

/// A settlement on its way to the disk.
pub struct Settled(oneshot::Receiver<Vec<Balance>>);

impl Settled {
    /// Waits until it is durable. The balances come in the order of the holds; none if the writer is gone.
    pub async fn durable(self) -> Vec<Balance> {
        self.0.await.unwrap_or_default()
    }
}

/// The entry of a request of which nobody knows how it ended.
pub(super) fn unknown_outcome(opening: Entry) -> Entry {
    Entry {
        outcome: Some(Outcome::UnknownOutcome),
        usage_source: UsageSource::Reserved,
        status: None,
        ..opening
    }
}
