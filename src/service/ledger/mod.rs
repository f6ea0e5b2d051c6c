//! The ledger: reserve, settle, void. Nothing is admitted that a cap does not hold.
//!
//! One writer task owns the store's write connection and commits many requests' changes in one
//! transaction (group commit). A reservation is durable before [`Ledger::reserve`] returns; it
//! resolves exactly once: by [`Reservation::settle`] or [`Reservation::void`], or, when it is dropped
//! unresolved or the process dies, at its full amount.
//!
//! The books are compared with the log at start, every ten minutes, and, for the windows in use, before every change:
//! a window that somebody else changed is blocked, and an alarm is raised.

mod apply;
mod audit;
mod base;
mod books;
mod memory;
mod recover;
mod writer;

use super::{Alarms, Vault};
use crate::base::{Clock, NanoUsd};
use crate::budget::{Balance, BudgetSpec, Window};
use crate::log::{AdminEntry, Entry, Outcome, UsageSource};
use crate::store::budget::{BudgetId, BudgetOwner, Standing, WindowId};
use crate::store::{Store, StoreError, WriterError};
use crate::subkey::SubKeyId;
use crate::vault::Keyring;
use audit::Auditor;
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use audit::AuditError;

/// How often the books are compared with the log.
const AUDIT_EVERY: Duration = Duration::from_mins(10);

/// Signs rows, and tells whether a row is as it was signed. `None` while the vault is sealed.
pub trait RowSeal: Send + Sync {
    /// The MAC and its term.
    fn sign(&self, message: &[u8]) -> Option<([u8; 32], u32)>;
    /// Whether `mac`, made in `term`, is the message's.
    fn holds(&self, message: &[u8], mac: &[u8], term: u32) -> Option<bool>;
}

impl RowSeal for Keyring {
    fn sign(&self, message: &[u8]) -> Option<([u8; 32], u32)> {
        Some(self.sign_row(message))
    }

    fn holds(&self, message: &[u8], mac: &[u8], term: u32) -> Option<bool> {
        Some(self.row_is_signed(message, mac, term))
    }
}

impl RowSeal for Vault {
    fn sign(&self, message: &[u8]) -> Option<([u8; 32], u32)> {
        Some(self.keyring().ok()?.sign_row(message))
    }

    fn holds(&self, message: &[u8], mac: &[u8], term: u32) -> Option<bool> {
        Some(self.keyring().ok()?.row_is_signed(message, mac, term))
    }
}

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

/// What the ledger works with.
pub struct LedgerParts {
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Where alarms are raised.
    pub alarms: Alarms,
    /// Signs what the log adds up to.
    pub seal: Arc<dyn RowSeal>,
    /// Bounds.
    pub limits: LedgerLimits,
}

/// Why the ledger did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartLedgerError {
    /// Another server keeps it, or the lock cannot be had.
    #[error(transparent)]
    Writer(#[from] WriterError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    /// The cap by the sub-key's definition. The budget's row has to say the same.
    pub limit: NanoUsd,
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
            limit: spec.limit_usd,
            amount,
        }
    }

    fn window_id(&self) -> WindowId {
        WindowId { budget: self.budget.clone(), window_start: self.window_start }
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
    /// The books of a window do not add up: nothing is admitted in it until an operator has looked.
    #[error("the books of the budget {} do not add up", hold.budget)]
    Blocked {
        /// The budget that refused.
        hold: Hold,
    },
    /// The budget's row was changed outside of Bitting.
    #[error("the record of the budget {} was changed outside of Bitting", hold.budget)]
    Tampered {
        /// The budget that refused.
        hold: Hold,
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

/// A window that was set right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The window.
    pub window: WindowId,
    /// How it was found.
    pub before: Standing,
    /// What the log says was spent.
    pub logged: NanoUsd,
    /// How it is now.
    pub after: Standing,
}

/// Why the books were not set right.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The books cannot be compared with the log now.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The ledger cannot be written.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
}

/// The handle on the writer task.
#[derive(Clone)]
pub struct Ledger {
    commands: mpsc::Sender<Command>,
    auditor: Arc<Mutex<Auditor>>,
    stopping: CancellationToken,
}

enum Command {
    Reserve(Box<Request>),
    Settle(Box<Settlement>, Option<oneshot::Sender<Vec<Balance>>>),
    Record(Box<Entry>, oneshot::Sender<Result<(), Unrecorded>>),
    /// Changes windows for the sake of the books.
    Mend(Mending, oneshot::Sender<Result<(), Unrecorded>>),
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

/// A change of windows for the sake of the books.
enum Mending {
    /// Admits nothing in these any more.
    Block(Vec<WindowId>),
    /// Sets the blocked windows of this budget right, and writes an entry like this one for each.
    Repair { budget: String, entry: Box<AdminEntry>, seal: Arc<dyn RowSeal> },
}

impl Ledger {
    /// Takes the right to write, settles what a crash left, and starts the writer task
    /// and the audits. The writer ends after [`Ledger::stop`], or when every handle is gone, all settled; then alarms
    /// are told to end, too.
    ///
    /// # Errors
    /// When another server holds the store, or the store cannot be reached.
    pub async fn start(parts: LedgerParts, tasks: &TaskTracker) -> Result<Self, StartLedgerError> {
        let LedgerParts { store, clock, alarms, seal, limits } = parts;
        let writer = store.writer().await?;
        let auditor = Auditor { store: store.clone(), clock, alarms: alarms.clone(), seal };
        let unsettled = recover::settle_what_a_crash_left(&store, &alarms).await?;
        if unsettled > 0 {
            tracing::warn!(count = unsettled, "admissions that an earlier run left open were posted in full");
        }
        let (commands, queue) = mpsc::channel(limits.queue_commands);
        let ledger =
            Self { commands, auditor: Arc::new(Mutex::new(auditor)), stopping: CancellationToken::new() };
        tasks.spawn(audit_regularly(
            ledger.commands.downgrade(),
            Arc::clone(&ledger.auditor),
            ledger.stopping.clone(),
        ));
        let stopping = ledger.stopping.clone();
        tasks.spawn(async move {
            writer::run(writer, queue, limits, &alarms).await;
            stopping.cancel();
            alarms.stop();
        });
        Ok(ledger)
    }

    /// Compares the books with the log now. Windows that do not add up are blocked when this returns, and alarms raised;
    /// tells how many.
    pub async fn audit(&self) -> Result<usize, RepairError> {
        let auditor = self.auditor.lock().await;
        audit_and_block(&auditor, &self.commands).await
    }

    /// The same with a keyring that is not in force yet: a vault that is opened has the books compared before anything is
    /// admitted.
    pub async fn audit_with(&self, keyring: &Arc<Keyring>) -> Result<usize, RepairError> {
        let auditor = self.auditor.lock().await;
        let seal = Arc::<Keyring>::clone(keyring);
        audit_and_block(&Auditor { seal, ..auditor.clone() }, &self.commands).await
    }

    /// Has the sums of the log that terms before this one signed signed in the current term; returns how many.
    pub(super) async fn sign_sums_again(&self, before: u32) -> Result<usize, AuditError> {
        self.auditor.lock().await.sign_again(before).await
    }

    /// Waits for the audit under way; none begins, and no sum is signed, while the guard lives.
    pub(super) async fn without_audits(&self) -> impl Drop + use<> {
        Arc::clone(&self.auditor).lock_owned().await
    }

    /// Sets the blocked windows of a budget right and admits in them again: what is posted becomes the greater of what
    /// is posted and what the log says. `entry` is written once for each, with what it came to.
    pub async fn repair(&self, budget: &str, entry: AdminEntry) -> Result<(), RepairError> {
        let auditor = self.auditor.lock().await;
        // What is new in the log is counted before, so that the writer has little to read.
        audit_and_block(&auditor, &self.commands).await?;
        let seal = Arc::clone(&auditor.seal);
        let mending = Mending::Repair { budget: budget.to_owned(), entry: Box::new(entry), seal };
        Ok(mend(&self.commands, mending).await?)
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
        self.stopping.cancel();
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

async fn audit_and_block(auditor: &Auditor, commands: &mpsc::Sender<Command>) -> Result<usize, RepairError> {
    let mismatches = auditor.run().await?;
    let count = mismatches.len();
    if count > 0 {
        let windows = mismatches.into_iter().map(|mismatch| mismatch.window).collect();
        mend(commands, Mending::Block(windows)).await?;
    }
    Ok(count)
}

async fn mend(commands: &mpsc::Sender<Command>, mending: Mending) -> Result<(), Unrecorded> {
    let (reply, answer) = oneshot::channel();
    commands.send(Command::Mend(mending, reply)).await.map_err(|_| Unrecorded)?;
    answer.await.map_err(|_| Unrecorded)?
}

/// Ends with the writer, which it does not keep alive.
async fn audit_regularly(
    commands: mpsc::WeakSender<Command>,
    auditor: Arc<Mutex<Auditor>>,
    stopping: CancellationToken,
) {
    while stopping.run_until_cancelled(tokio::time::sleep(AUDIT_EVERY)).await.is_some() {
        let Some(commands) = commands.upgrade() else { return };
        let audit = async { audit_and_block(&*auditor.lock().await, &commands).await };
        match stopping.run_until_cancelled(audit).await {
            None => return,
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::error!(%error, "the books were not compared with the log"),
        }
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
