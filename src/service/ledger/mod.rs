//! The ledger: reserve, settle, void. Nothing is admitted that a cap does not hold.
//!
//! Budgets are leased: an amount of a window is moved to this node, durably, and requests draw on it in memory. One
//! writer task owns the store's write connection and commits many requests' changes in one transaction (group commit).
//! A request that a lease covers waits for no commit before it is forwarded, and its admission is durable before
//! anything of the answer is seen ([`Reservation::recorded`]). A reservation resolves exactly once: by
//! [`Reservation::settle`] or [`Reservation::void`], or, when it is dropped unresolved or the process dies, at its full
//! amount.
//!
//! The books are compared with the log at start, every ten minutes, and, for the windows in use, before every change:
//! a window that somebody else changed is blocked, and an alarm is raised.

mod audit;
mod base;
mod books;
mod correct;
mod deferred;
mod desk;
mod hold;
mod memory;
mod mend;
mod objects;
mod recover;
mod reservation;
mod rows;
mod seal;
mod time;
mod turn;
mod usage;
mod watch;
mod writer;

use super::Alarms;
use crate::base::{Clock, NanoUsd};
use crate::budget::Balance;
use crate::log::{AdminEntry, Entry};
use crate::store::budget::{Standing, WindowId};
use crate::store::{Store, StoreError, WriterError};
use crate::subkey::SubKeyId;
use crate::vault::Keyring;
use audit::Auditor;
use desk::Desk;
use std::sync::Arc;
use std::time::Duration;
use time::Timekeeper;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watch::{audit_and_block, audit_regularly, mend};

pub use audit::AuditError;
pub use correct::{CorrectError, Corrected, Correction};
pub use deferred::ToldUse;
pub use hold::Hold;
pub use objects::ObjectChanges;
pub use reservation::{Reservation, Settled};
pub use seal::RowSeal;

/// How long anybody waits for the writer, beside what he may wait for room.
const REPLY_WAIT: Duration = Duration::from_secs(5);

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

/// When an admission has to be durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before anything of the answer is seen.
    #[default]
    BeforeAnswer,
    /// Before anything is sent to the provider.
    BeforeForward,
}

impl Durability {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeAnswer => "before_answer",
            Self::BeforeForward => "before_forward",
        }
    }
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
    /// The name of this node.
    pub node: String,
    /// When admissions have to be durable.
    pub durability: Durability,
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

/// What a request needs before it may be forwarded.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The sub-key, and the version of it that the policy was decided by.
    pub subkey: SubKeyId,
    /// Must still be the current version when the admission is written.
    pub subkey_version: i64,
    /// Its project and those above it, with the versions that the policy was decided by. They must still be current, too.
    pub projects: Arc<[(String, i64)]>,
    /// All of these are current by what is known in memory, where a change comes before the call that made it returns.
    pub is_current: bool,
    /// All of these or nothing. The first that refuses is told: those of the sub-key come first, then project by project
    /// upwards, each by window.
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
    /// The sub-key or a project above it was changed after the policy was decided: decide again.
    #[error("the sub-key or its project was changed meanwhile")]
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

/// Windows in which nothing is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Those of this budget.
    Of(String),
    /// Those to which this provider billed more than its bound.
    ByBill(String),
}

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
    desk: Desk,
    time: Timekeeper,
    durability: Durability,
    /// How long a reservation waits for room.
    room_wait: Duration,
    commands: mpsc::Sender<Command>,
    auditor: Arc<Mutex<Auditor>>,
    stopping: CancellationToken,
}

enum Command {
    Reserve(Box<Request>),
    /// Puts an admission on record that was drawn in memory.
    Admit(Box<Opening>, oneshot::Sender<()>),
    Settle(Box<Settlement>, Option<oneshot::Sender<Vec<Balance>>>),
    Record(Box<Entry>, oneshot::Sender<Result<(), Unrecorded>>),
    /// Takes back what was charged for an entry.
    Correct(Box<Correction>, oneshot::Sender<Result<Corrected, CorrectError>>),
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

/// An admission that goes on record.
struct Opening {
    subkey: SubKeyId,
    holds: Vec<Hold>,
    entry: Entry,
}

/// The end of a reservation: what it cost, and its entry.
struct Settlement {
    cost: NanoUsd,
    entry: Entry,
    /// Where it was held.
    holds: Vec<Hold>,
    /// What it made and deleted at the provider.
    objects: ObjectChanges,
    /// It was drawn from leases of this run; else it was put on record by somebody else, and holds nothing.
    is_drawn: bool,
}

/// A change of windows for the sake of the books.
enum Mending {
    /// Admits nothing in these any more.
    Block(Vec<WindowId>),
    /// Sets these windows right, and writes an entry like this one for each.
    Repair { which: Blocked, entry: Box<AdminEntry>, seal: Arc<dyn RowSeal> },
    /// Makes the sums of usage of these hours anew from the log, and writes an entry like this one for each.
    SumAgain { hours: Vec<String>, entry: Box<AdminEntry> },
}

impl Mending {
    fn blocks(&self, window: &WindowId) -> bool {
        matches!(self, Self::Block(windows) if windows.contains(window))
    }
}

impl Ledger {
    /// Takes the right to write, settles what a crash left, and starts the writer task
    /// and the audits. The writer ends after [`Ledger::stop`], or when every handle is gone, all settled; then alarms
    /// are told to end, too.
    ///
    /// # Errors
    /// When another server holds the store, or the store cannot be reached.
    pub async fn start(parts: LedgerParts, tasks: &TaskTracker) -> Result<Self, StartLedgerError> {
        let LedgerParts { store, clock, alarms, seal, node, durability, limits } = parts;
        let writer = store.writer().await?;
        let epoch = recover::begin_epoch(&store, (&node, durability), clock.now()).await?;
        let unsettled = recover::settle_what_a_crash_left(&store, epoch, (&clock, alarms.outbox())).await?;
        let time = Timekeeper::new(clock.clone(), (node.clone(), alarms.clone()), Arc::clone(&seal));
        let usage = usage::Sweep::default();
        let auditor = Auditor { store: store.clone(), clock, alarms: alarms.clone(), seal, usage };
        if unsettled > 0 {
            tracing::warn!(count = unsettled, "admissions that an earlier run left open were posted in full");
        }
        let (commands, queue) = mpsc::channel(limits.queue_commands);
        let ledger = Self {
            desk: Desk::new(),
            time,
            durability,
            room_wait: limits.wait,
            commands,
            auditor: Arc::new(Mutex::new(auditor)),
            stopping: CancellationToken::new(),
        };
        let (desk, time) = (ledger.desk.clone(), ledger.time.clone());
        tasks.spawn(ledger.time.clone().watch(ledger.stopping.clone()));
        tasks.spawn(audit_regularly(
            ledger.commands.downgrade(),
            Arc::clone(&ledger.auditor),
            ledger.stopping.clone(),
        ));
        let stopping = ledger.stopping.clone();
        tasks.spawn(async move {
            writer::run((writer, epoch, node), queue, (desk, time), limits, &alarms).await;
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

    /// Has the sums of the log, and the time, that terms before this one signed signed in the current term; returns how
    /// many.
    pub(super) async fn sign_sums_again(&self, before: u32) -> Result<usize, AuditError> {
        let auditor = self.auditor.lock().await;
        let mut tx = auditor.store.write().await?;
        self.time.keep(&mut tx.conn()).await?;
        tx.commit().await?;
        auditor.sign_again(before).await
    }

    /// Waits for the audit under way; none begins, and no sum is signed, while the guard lives.
    pub(super) async fn without_audits(&self) -> impl Drop + use<> {
        Arc::clone(&self.auditor).lock_owned().await
    }

    /// Sets blocked windows right and admits in them again: what is posted becomes the greater of what is posted and
    /// what the log says. `entry` is written once for each, with what it came to.
    pub async fn repair(&self, which: Blocked, entry: AdminEntry) -> Result<(), RepairError> {
        let auditor = self.auditor.lock().await;
        // What is new in the log is counted before, so that the writer has little to read.
        audit_and_block(&auditor, &self.commands).await?;
        let seal = Arc::clone(&auditor.seal);
        let mending = Mending::Repair { which, entry: Box::new(entry), seal };
        Ok(mend(&self.commands, mending).await?)
    }

    /// Holds the worst case in every budget, or says which refused: out of what is leased if that covers it, else out of
    /// the windows' rows. May wait for requests in flight to settle. Cancel-safe: a reservation that nobody waits for any
    /// more is voided.
    pub async fn reserve(&self, demand: Demand) -> Result<Reservation, ReserveError> {
        // The place in the queue for the settlement is taken first: settling can then never fail for want of room.
        let settle_slot = self.commands.clone().try_reserve_owned().map_err(|_| ReserveError::Overloaded)?;
        let record_slot = self.commands.clone().try_reserve_owned().map_err(|_| ReserveError::Overloaded)?;
        if demand.is_current && self.desk.draw(&demand.holds) {
            let Demand { subkey, holds, amount, entry, .. } = demand;
            let (reply, recorded) = oneshot::channel();
            let opening = Opening { subkey, holds: holds.clone(), entry: entry.clone() };
            record_slot.send(Command::Admit(Box::new(opening), reply));
            let mut reservation = Reservation::new((entry, amount, holds), settle_slot, Some(recorded));
            if self.durability == Durability::BeforeForward {
                let recorded = timeout(REPLY_WAIT, reservation.recorded()).await;
                recorded.unwrap_or(Err(Unrecorded)).map_err(|Unrecorded| ReserveError::Unavailable)?;
            }
            return Ok(reservation);
        }
        drop(record_slot);
        if self.desk.is_silent() {
            return Err(ReserveError::Unavailable);
        }
        let (reply, answer) = oneshot::channel();
        let command = Command::Reserve(Box::new(Request { demand, settle_slot, reply }));
        self.commands.try_send(command).map_err(|_| ReserveError::Overloaded)?;
        let answer = timeout(self.room_wait + REPLY_WAIT, answer).await;
        answer.map_err(|_| ReserveError::Unavailable)?.map_err(|_| ReserveError::Unavailable)?
    }

    /// Where a window stands for people: what is leased and taken by no request in flight is not held.
    pub fn without_idle(&self, window: &WindowId, balance: Balance) -> Balance {
        let held = balance.held.saturating_sub(self.desk.escrow().idle(window)).max(NanoUsd::ZERO);
        Balance { held, ..balance }
    }

    /// Writes the entry of a refused request, durably.
    pub async fn record(&self, entry: Entry) -> Result<(), Unrecorded> {
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Record(Box::new(entry), reply), answer).await?
    }

    /// Takes back what was charged for an entry, durably: an entry of its own, and once only.
    pub async fn correct(&self, correction: Correction) -> Result<Corrected, CorrectError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Correct(Box::new(correction), reply);
        self.ask(command, answer).await?
    }

    /// The writer's answer. What it was asked may yet be done when none comes in time.
    async fn ask<T>(&self, command: Command, answer: oneshot::Receiver<T>) -> Result<T, Unrecorded> {
        if self.desk.is_silent() {
            return Err(Unrecorded);
        }
        let asked = async {
            self.commands.send(command).await.map_err(|_| Unrecorded)?;
            answer.await.map_err(|_| Unrecorded)
        };
        timeout(REPLY_WAIT, asked).await.unwrap_or(Err(Unrecorded))
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
        if self.desk.is_silent() {
            return false;
        }
        let (reply, answer) = oneshot::channel();
        // A full queue is at work, not broken.
        self.commands.try_send(Command::Probe(reply)).is_err()
            || timeout(REPLY_WAIT, answer)
                .await
                .is_ok_and(|answer| answer.is_ok_and(|written| written.is_ok()))
    }
}
