//! The ledger: reserve, settle, void. Nothing is admitted that a cap does not hold.
//!
//! One writer task owns the store's write connection and commits many requests' changes in one
//! transaction (group commit). A reservation is durable before [`Ledger::reserve`] returns; it
//! resolves exactly once: by [`Reservation::settle`] or [`Reservation::void`], or, when it is dropped
//! unresolved or the process dies, at its full amount.

mod apply;
mod recover;
mod writer;

use crate::base::NanoUsd;
use crate::budget::{Balance, BudgetSpec, Window};
use crate::log::{Entry, Outcome, UsageSource};
use crate::store::budget::{BudgetId, BudgetOwner};
use crate::store::{Store, WriterError};
use crate::subkey::SubKeyId;
use chrono::{DateTime, Utc};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

pub(super) use recover::settle_what_a_crash_left;

/// Bounds of the ledger.
#[derive(Clone, Copy, Debug)]
pub struct LedgerLimits {
    /// Requests between admission and settlement, plus commands waiting for the writer.
    pub queue_commands: usize,
    /// Reservations waiting for requests in flight to settle.
    pub waiting_max: usize,
    /// How long a reservation waits for them.
    pub wait: Duration,
}

/// An amount held in one window of one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The budget, by identity.
    pub budget: BudgetId,
    /// Its window's length, for messages.
    pub window: Window,
    /// When the window began.
    pub window_start: DateTime<Utc>,
    /// When it ends; `None` for a total.
    pub window_end: Option<DateTime<Utc>>,
    /// The worst case.
    pub amount: NanoUsd,
}

impl Hold {
    /// What `amount` takes from a sub-key's budget at `now`.
    pub fn of(subkey: &SubKeyId, spec: &BudgetSpec, now: DateTime<Utc>, amount: NanoUsd) -> Self {
        let window_start = spec.window.start(spec.timezone, now);
        Self {
            budget: BudgetId::new(&BudgetOwner::subkey(subkey), spec.window),
            window: spec.window,
            window_start,
            window_end: spec.window.end(spec.timezone, window_start),
            amount,
        }
    }
}

/// What a request needs before it may be forwarded.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The sub-key, and the version of it that the policy was decided by.
    pub subkey: SubKeyId,
    /// Must still be the current version when the admission is written.
    pub subkey_version: i64,
    /// All of these or nothing.
    pub holds: Vec<Hold>,
    /// The worst case, also for keys without budgets.
    pub amount: NanoUsd,
    /// The entry as far as it is known, kept with the admission in case nobody lives to finish it.
    pub entry: Entry,
}

/// Why a reservation was refused. Nothing is held.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// It would not fit even with nothing in flight.
    #[error("the budget {} is spent", hold.budget)]
    Exceeded {
        /// The budget that refused.
        hold: Hold,
        /// Where it stands.
        balance: Balance,
    },
    /// It will fit when requests in flight settle; they did not in time.
    #[error("the budget {} is held by requests in flight", hold.budget)]
    Held {
        /// The budget that refused.
        hold: Hold,
        /// Where it stands.
        balance: Balance,
    },
    /// The sub-key was changed after the policy was decided: decide again.
    #[error("the sub-key was changed meanwhile")]
    Stale,
    /// The queue is full.
    #[error("too many requests wait for the ledger")]
    Overloaded,
    /// The store cannot write. Nothing is served unrecorded.
    #[error("the ledger cannot be written")]
    Unavailable,
}

/// The entry of a refused request could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access log cannot be written")]
pub struct Unrecorded;

/// The handle on the writer task.
#[derive(Clone)]
pub struct Ledger {
    commands: mpsc::Sender<Command>,
}

enum Command {
    Reserve(Box<Request>),
    Settle(Box<Settlement>, Option<oneshot::Sender<Vec<Balance>>>),
    Record(Box<Entry>, oneshot::Sender<Result<(), Unrecorded>>),
    /// Asks for an empty transaction, to see whether one can be had.
    Probe(oneshot::Sender<Result<(), Unrecorded>>),
    /// Takes no further commands; what is reserved is still settled.
    Stop,
}

/// A demand, the place in the queue for its settlement, and who waits for it.
struct Request {
    demand: Demand,
    settle_slot: mpsc::OwnedPermit<Command>,
    reply: oneshot::Sender<Result<Reservation, ReserveError>>,
}

/// The end of a reservation: what it cost, and its entry.
struct Settlement {
    request_id: String,
    cost: NanoUsd,
    entry: Entry,
}

impl Ledger {
    /// Starts the writer task. It ends after [`Ledger::stop`], or when every handle is gone, all settled.
    ///
    /// # Errors
    /// When another server holds the store, or the store cannot be reached.
    pub async fn start(
        store: &Store,
        limits: LedgerLimits,
        tasks: &TaskTracker,
    ) -> Result<Self, WriterError> {
        let writer = store.writer().await?;
        let (commands, queue) = mpsc::channel(limits.queue_commands);
        tasks.spawn(writer::run(writer, queue, limits));
        Ok(Self { commands })
    }

    /// Holds the worst case in every budget, durably, or says which refused. May wait for requests in
    /// flight to settle. Cancel-safe: a reservation that nobody waits for any more is voided.
    pub async fn reserve(&self, demand: Demand) -> Result<Reservation, ReserveError> {
        // The place in the queue for the settlement is taken first: settling can then never fail for want of room.
        let settle_slot = self.commands.clone().try_reserve_owned().map_err(|_| ReserveError::Overloaded)?;
        let (reply, answer) = oneshot::channel();
        let command = Command::Reserve(Box::new(Request { demand, settle_slot, reply }));
        self.commands.try_send(command).map_err(|_| ReserveError::Overloaded)?;
        answer.await.map_err(|_| ReserveError::Unavailable)?
    }

    /// Writes the entry of a refused request, durably.
    pub async fn record(&self, entry: Entry) -> Result<(), Unrecorded> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Record(Box::new(entry), reply)).await.map_err(|_| Unrecorded)?;
        answer.await.map_err(|_| Unrecorded)?
    }

    /// Takes no further commands. The writer ends once every reservation is settled.
    pub async fn stop(&self) {
        // If the writer is gone, it has stopped.
        let _ = self.commands.send(Command::Stop).await;
    }

    /// Returns when everything that the writer had taken on before is committed or refused.
    pub async fn pass(&self) {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Probe(reply)).await.is_ok() {
            // A writer that cannot commit admits nothing either.
            let _ = answer.await;
        }
    }

    /// Whether the writer can commit.
    pub async fn is_writing(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        // A full queue is at work, not broken.
        self.commands.try_send(Command::Probe(reply)).is_err()
            || answer.await.is_ok_and(|written| written.is_ok())
    }
}

/// A worst case held for one admitted request. Dropped unresolved, it is voided when nothing was sent
/// yet, and otherwise charged in full: never refunded on hope.
pub struct Reservation {
    open: Option<(mpsc::OwnedPermit<Command>, Entry)>,
    amount: NanoUsd,
    holds: Vec<Hold>,
    was_sent: bool,
}

impl Reservation {
    fn new(request: Request) -> (Self, oneshot::Sender<Result<Self, ReserveError>>) {
        let Request { demand, settle_slot, reply } = request;
        let open = Some((settle_slot, demand.entry));
        (Self { open, amount: demand.amount, holds: demand.holds, was_sent: false }, reply)
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

    /// Posts the actual cost, gives back the rest and writes the entry. The answer comes when that is
    /// durable, with the balances of the budgets; it needs not be waited for.
    pub fn settle(mut self, cost: NanoUsd, entry: Entry) -> Settled {
        let (reply, answer) = oneshot::channel();
        self.resolve(cost, entry, Some(reply));
        Settled(answer)
    }

    /// Gives everything back: nothing was sent, or the provider bills nothing for it.
    pub fn void(self, entry: Entry) -> Settled {
        self.settle(NanoUsd::ZERO, entry)
    }

    fn resolve(&mut self, cost: NanoUsd, entry: Entry, reply: Option<oneshot::Sender<Vec<Balance>>>) {
        if let Some((slot, opening)) = self.open.take() {
            let entry = Entry { cost_usd: cost, reserved_usd: self.amount, ..entry };
            let settlement = Settlement { request_id: opening.request_id, cost, entry };
            slot.send(Command::Settle(Box::new(settlement), reply));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some((_, opening)) = &self.open {
            let opening = opening.clone();
            if self.was_sent {
                self.resolve(self.amount, unknown_outcome(opening), None);
            } else {
                self.resolve(NanoUsd::ZERO, Entry { outcome: Some(Outcome::ClientGone), ..opening }, None);
            }
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
fn unknown_outcome(opening: Entry) -> Entry {
    Entry {
        outcome: Some(Outcome::UnknownOutcome),
        usage_source: UsageSource::Reserved,
        status: None,
        ..opening
    }
}
