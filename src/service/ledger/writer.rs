//! The writer task: many commands, one transaction.

use super::apply::{self, Miss, Turn, Verdict};
use super::base;
use super::memory::{Left, Memory};
use super::{
    AuditError, Command, Hold, LedgerLimits, Mending, Request, Reservation, ReserveError, Settlement,
    Unrecorded,
};
use crate::base::NanoUsd;
use crate::budget::Balance;
use crate::log::{AdminEntry, Entry, Outcome};
use crate::service::Alarms;
use crate::store::{StoreError, Tx, Writer, WriterError, admin_log};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

const BATCH_MAX: usize = 256;
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Windows whose last state is remembered.
const REMEMBERED_MAX: usize = 100_000;

/// A reservation in this turn, or waiting for room since an earlier one.
struct Pending {
    request: Box<Request>,
    deadline: Instant,
}

/// A reservation that waits for room, and what refused it last.
struct Waiting {
    pending: Pending,
    hold: Hold,
    balance: Balance,
}

/// Told when what was asked for is durable.
type Done = oneshot::Sender<Result<(), Unrecorded>>;
/// A settlement, and who waits for the balances after it.
type Unsettled = (Box<Settlement>, Option<oneshot::Sender<Vec<Balance>>>);

/// One turn's reservations and records; its settlements are in [`State::unsettled`].
#[derive(Default)]
struct Batch {
    reserves: Vec<Pending>,
    records: Vec<(Box<Entry>, Done)>,
    mendings: Vec<(Mending, Done)>,
    probes: Vec<Done>,
}

struct State<'a> {
    writer: Writer,
    limits: LedgerLimits,
    alarms: &'a Alarms,
    memory: Memory,
    /// How often the right to write was lost, and how often when `memory` was begun.
    losses: (Arc<AtomicU64>, u64),
    waiting: VecDeque<Waiting>,
    /// Settlements that the store has not taken yet. They are never given up.
    unsettled: VecDeque<Unsettled>,
}

/// Runs until it is told to stop, or every sender is gone, and everything is settled.
pub(super) async fn run(
    writer: Writer,
    mut queue: mpsc::Receiver<Command>,
    limits: LedgerLimits,
    alarms: &Alarms,
) {
    let mut state = State {
        losses: (writer.losses(), 0),
        writer,
        limits,
        alarms,
        memory: Memory::new(REMEMBERED_MAX),
        waiting: VecDeque::new(),
        unsettled: VecDeque::new(),
    };
    let mut commands = Vec::with_capacity(BATCH_MAX);
    loop {
        let timer = state.next_timer();
        tokio::select! {
            count = queue.recv_many(&mut commands, BATCH_MAX) => {
                if count == 0 && state.unsettled.is_empty() {
                    return;
                }
                if count == 0 {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
            () = tokio::time::sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {}
        }
        if commands.iter().any(|command| matches!(command, Command::Stop)) {
            queue.close();
        }
        let batch = state.sort(commands.drain(..));
        state.turn(batch).await;
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.reserves.is_empty()
            && self.records.is_empty()
            && self.mendings.is_empty()
            && self.probes.is_empty()
    }

    /// Who waits for reservations, and who waits for anything else.
    fn split(self) -> (Vec<Pending>, impl Iterator<Item = Done>) {
        let records = self.records.into_iter().map(|(_, reply)| reply);
        let mendings = self.mendings.into_iter().map(|(_, reply)| reply);
        (self.reserves, records.chain(mendings).chain(self.probes))
    }
}

impl State<'_> {
    fn next_timer(&self) -> Option<Instant> {
        let retry = (!self.unsettled.is_empty()).then(|| Instant::now() + RETRY_PAUSE);
        retry.into_iter().chain(self.waiting.iter().map(|waiting| waiting.pending.deadline)).min()
    }

    fn sort(&mut self, commands: impl Iterator<Item = Command>) -> Batch {
        let mut batch = Batch::default();
        let deadline = Instant::now() + self.limits.wait;
        for command in commands {
            match command {
                Command::Reserve(request) => batch.reserves.push(Pending { request, deadline }),
                Command::Settle(settlement, reply) => self.unsettled.push_back((settlement, reply)),
                Command::Record(entry, reply) => batch.records.push((entry, reply)),
                Command::Mend(mending, reply) => batch.mendings.push((mending, reply)),
                Command::Probe(reply) => batch.probes.push(reply),
                Command::Stop => {}
            }
        }
        batch
    }

    async fn turn(&mut self, mut batch: Batch) {
        // Only a settlement makes room: then whoever waits is tried again, before those who came later.
        if !self.unsettled.is_empty() {
            let again = std::mem::take(&mut self.waiting).into_iter().map(|waiting| waiting.pending);
            batch.reserves = again.chain(batch.reserves).collect();
        }
        if !self.unsettled.is_empty() || !batch.is_empty() {
            match self.write(&batch).await {
                Ok((verdicts, balances)) => self.answer(batch, verdicts, balances),
                Err(error) => {
                    tracing::error!(%error, kept = self.unsettled.len(), "the ledger cannot be written; settlements are kept");
                    self.refuse_all(batch, &error);
                }
            }
        }
        self.give_up_waiting();
    }

    /// Everything in one transaction, or nothing. Settlements go first: they make room.
    async fn write(&mut self, batch: &Batch) -> Result<(Vec<Verdict>, Vec<Vec<Balance>>), WriteError> {
        let mut tx = self.writer.begin().await.map_err(WriteError::Nothing)?;
        let losses = self.losses.0.load(Ordering::SeqCst);
        if losses != self.losses.1 {
            // Another server may have kept the ledger meanwhile.
            self.memory.forget();
            self.losses.1 = losses;
        }
        let applied = apply_all(&mut tx, (&mut self.memory, self.alarms), &self.unsettled, batch).await;
        let results = match applied {
            Ok(results) => results,
            Err(error) => {
                self.memory.discard();
                return Err(error);
            }
        };
        match tx.commit().await {
            Ok(()) => {
                self.memory.keep();
                Ok(results)
            }
            Err(error) => {
                self.memory.forget();
                Err(WriteError::Unknown(error.into()))
            }
        }
    }

    /// After the commit: say what became of each.
    fn answer(&mut self, batch: Batch, verdicts: Vec<Verdict>, balances: Vec<Vec<Balance>>) {
        for ((_, reply), balances) in self.unsettled.drain(..).zip(balances) {
            // Nobody has to wait for a settlement.
            let _ = reply.map(|reply| reply.send(balances));
        }
        let (reserves, others) = batch.split();
        for reply in others {
            let _ = reply.send(Ok(()));
        }
        for (pending, verdict) in reserves.into_iter().zip(verdicts) {
            let miss = match verdict {
                Verdict::Reserved => {
                    let (reservation, reply) = Reservation::new(*pending.request);
                    // If the caller has left, the reservation comes back here and is voided by its drop.
                    let _ = reply.send(Ok(reservation));
                    continue;
                }
                Verdict::Abandoned => continue,
                Verdict::Refused(miss) => *miss,
            };
            match miss {
                Miss::Stale => refuse(pending, ReserveError::Stale),
                Miss::Tampered(hold) => refuse(pending, ReserveError::Tampered { hold }),
                Miss::Blocked(hold) => refuse(pending, ReserveError::Blocked { hold }),
                Miss::Exceeded(hold, balance) => refuse(pending, ReserveError::Exceeded { hold, balance }),
                Miss::Held(hold, balance) if self.waiting.len() < self.limits.waiting_max => {
                    self.waiting.push_back(Waiting { pending, hold, balance });
                }
                Miss::Held(hold, balance) => refuse(pending, ReserveError::Held { hold, balance }),
            }
        }
    }

    /// A commit that failed may have been made all the same: each reservation is voided, which does nothing
    /// where there is none. What was never committed needs no voiding.
    fn refuse_all(&mut self, batch: Batch, error: &WriteError) {
        let (reserves, others) = batch.split();
        for pending in reserves {
            if let WriteError::Unknown(_) = error {
                let opening = pending.request.demand.entry.clone();
                let request_id = opening.request_id.clone();
                let entry = Entry { outcome: Some(Outcome::UpstreamFailed), ..opening };
                let void = Settlement { request_id, cost: NanoUsd::ZERO, entry };
                self.unsettled.push_back((Box::new(void), None));
            }
            refuse(pending, ReserveError::Unavailable);
        }
        for reply in others {
            let _ = reply.send(Err(Unrecorded));
        }
    }

    fn give_up_waiting(&mut self) {
        let now = Instant::now();
        let (over, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|w| w.pending.deadline <= now || w.pending.request.reply.is_closed());
        self.waiting = waiting;
        let over: VecDeque<Waiting> = over;
        for Waiting { pending, hold, balance } in over {
            refuse(pending, ReserveError::Held { hold, balance });
        }
    }
}

/// Why a turn's changes are not in force.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("nothing was changed: {0}")]
    Nothing(WriterError),
    #[error("nothing was changed: {0}")]
    Books(AuditError),
    #[error("whether it was committed is not known: {0}")]
    Unknown(WriterError),
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::Nothing(error.into())
    }
}

impl From<AuditError> for WriteError {
    fn from(error: AuditError) -> Self {
        Self::Books(error)
    }
}

async fn apply_all(
    tx: &mut Tx<'_>,
    (memory, alarms): (&mut Memory, &Alarms),
    unsettled: &VecDeque<Unsettled>,
    batch: &Batch,
) -> Result<(Vec<Verdict>, Vec<Vec<Balance>>), WriteError> {
    let mut turn = Turn { conn: tx.conn(), memory, alarms };
    let mut balances = Vec::with_capacity(unsettled.len());
    for (settlement, _) in unsettled {
        balances.push(apply::settle(&mut turn, settlement).await?);
    }
    for (entry, _) in &batch.records {
        apply::record(&mut turn.conn, entry).await?;
    }
    for (mending, _) in &batch.mendings {
        mend(&mut turn, mending).await?;
    }
    let mut verdicts = Vec::with_capacity(batch.reserves.len());
    for Pending { request, .. } in &batch.reserves {
        verdicts.push(if request.reply.is_closed() {
            Verdict::Abandoned
        } else {
            apply::reserve(&mut turn, &request.demand).await?
        });
    }
    Ok((verdicts, balances))
}

async fn mend(turn: &mut Turn<'_>, mending: &Mending) -> Result<(), WriteError> {
    match mending {
        Mending::Block(windows) => {
            for window in windows {
                apply::block(turn, window).await?;
            }
        }
        Mending::Repair { budget, entry, seal } => {
            for repaired in base::repair(&mut turn.conn, &**seal, budget).await? {
                let mut detail = entry.detail.clone();
                detail["window_start"] = json!(repaired.window.window_start);
                detail["logged_usd"] = json!(repaired.logged);
                for (name, standing) in [("before", repaired.before), ("after", repaired.after)] {
                    detail[name] = json!({"posted_usd": standing.posted, "held_usd": standing.held});
                }
                let entry = AdminEntry { detail, ..(**entry).clone() };
                admin_log::append(&mut turn.conn, &entry).await?;
                let left = Left { standing: repaired.after, is_blocked: false };
                turn.memory.leave(repaired.window, left);
            }
        }
    }
    Ok(())
}

fn refuse(pending: Pending, error: ReserveError) {
    // If the caller has left there is nobody to tell, and nothing is held.
    let _ = pending.request.reply.send(Err(error));
}
