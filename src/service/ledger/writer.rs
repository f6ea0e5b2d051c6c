//! The writer task: many commands, one transaction.

use super::desk::Desk;
use super::memory::Memory;
use super::time::Timekeeper;
use super::turn::{self, Done, Miss, Tools, TurnError, Verdict, Work};
use super::{
    Command, CorrectError, Corrected, Correction, Hold, LedgerLimits, Mending, ObjectChanges, Opening,
    Request, Reservation, ReserveError, Settlement, Unrecorded, objects,
};
use crate::base::NanoUsd;
use crate::budget::Balance;
use crate::log::{Entry, Outcome, Rollup};
use crate::service::Alarms;
use crate::store::budget::WindowId;
use crate::store::{StoreError, Writer, WriterError};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

const BATCH_MAX: usize = 256;
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Windows whose last state is remembered.
const REMEMBERED_MAX: usize = 100_000;
/// How often leases are looked through for what nobody uses.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often a turn is tried that finds windows changed by somebody else, each time other ones.
const TRIES_MAX: usize = 8;

/// A reservation in this turn, or waiting for room since an earlier one.
pub(super) struct Pending {
    pub(super) request: Box<Request>,
    deadline: Instant,
    /// Where it waited until this turn, and counts until it is asked again.
    pub(super) waited_for: Option<WindowId>,
}

/// A reservation that waits for room, and what refused it last.
struct Waiting {
    pending: Pending,
    hold: Hold,
    balance: Balance,
}

/// Told when what was asked for is durable.
pub(super) type Reply = oneshot::Sender<Result<(), Unrecorded>>;
/// Told what came of a correction.
pub(super) type CorrectReply = oneshot::Sender<Result<Corrected, CorrectError>>;
/// A settlement, and who waits for the balances after it.
pub(super) type Unsettled = (Box<Settlement>, Option<oneshot::Sender<Vec<Balance>>>);
/// An admission that was drawn in memory, and who waits until it is on record.
pub(super) type Admitting = (Box<Opening>, oneshot::Sender<()>);

/// One turn's reservations and records; what is never given up is in [`State`].
#[derive(Default)]
pub(super) struct Batch {
    pub(super) reserves: Vec<Pending>,
    pub(super) records: Vec<(Box<Entry>, Reply)>,
    pub(super) mendings: Vec<(Mending, Reply)>,
    pub(super) corrections: Vec<(Box<Correction>, CorrectReply)>,
    probes: Vec<Reply>,
}

struct State<'a> {
    writer: Writer,
    epoch: i64,
    node: String,
    desk: Desk,
    time: Timekeeper,
    limits: LedgerLimits,
    alarms: &'a Alarms,
    memory: Memory,
    /// How often the right to write was lost, and how often when `memory` was begun.
    losses: (Arc<AtomicU64>, u64),
    waiting: VecDeque<Waiting>,
    /// Settlements that the store has not taken yet. They are never given up.
    unsettled: Vec<Unsettled>,
    /// The same of reservations that were refused after a commit of which nobody knows; a turn takes some of them.
    voids: VecDeque<Box<Settlement>>,
    /// Admissions that were drawn in memory and are not on record yet. Neither are they.
    admitting: Vec<Admitting>,
    next_sweep: Instant,
}

/// Runs until it is told to stop, or every sender is gone, and everything is settled. What is leased then goes back.
pub(super) async fn run(
    (writer, epoch, node): (Writer, i64, String),
    mut queue: mpsc::Receiver<Command>,
    (desk, time): (Desk, Timekeeper),
    limits: LedgerLimits,
    alarms: &Alarms,
) {
    let mut state = State {
        losses: (writer.losses(), 0),
        writer,
        epoch,
        node,
        desk,
        time,
        limits,
        alarms,
        memory: Memory::new(REMEMBERED_MAX),
        waiting: VecDeque::new(),
        unsettled: Vec::new(),
        voids: VecDeque::new(),
        admitting: Vec::new(),
        next_sweep: Instant::now() + SWEEP_EVERY,
    };
    let mut commands = Vec::with_capacity(BATCH_MAX);
    loop {
        let timer = state.next_timer();
        let mut is_over = false;
        tokio::select! {
            count = queue.recv_many(&mut commands, BATCH_MAX) => {
                is_over = count == 0;
                if is_over && state.has_kept() {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
            () = tokio::time::sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {}
        }
        if commands.iter().any(|command| matches!(command, Command::Stop)) {
            queue.close();
        }
        let batch = state.sort(commands.drain(..));
        state.turn(batch, is_over).await;
        if is_over && !state.has_kept() {
            return;
        }
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.reserves.is_empty()
            && self.records.is_empty()
            && self.mendings.is_empty()
            && self.corrections.is_empty()
            && self.probes.is_empty()
    }

    /// Who waits for reservations, and who waits for anything else.
    fn split(self) -> (Vec<Pending>, impl Iterator<Item = Reply>) {
        let records = self.records.into_iter().map(|(_, reply)| reply);
        let mendings = self.mendings.into_iter().map(|(_, reply)| reply);
        (self.reserves, records.chain(mendings).chain(self.probes))
    }
}

impl State<'_> {
    fn has_kept(&self) -> bool {
        self.kept() > 0
    }

    /// What is kept until it can be written.
    fn kept(&self) -> usize {
        self.unsettled.len() + self.voids.len() + self.admitting.len()
    }

    /// Takes voids into the next turn. Whatever a turn failed with is in the next one again, so only some are.
    fn take_voids(&mut self) {
        let taken = self.unsettled.iter().filter(|(settlement, _)| !settlement.is_drawn).count();
        let count = BATCH_MAX.saturating_sub(taken).min(self.voids.len());
        self.unsettled.extend(self.voids.drain(..count).map(|void| (void, None)));
    }

    fn next_timer(&self) -> Option<Instant> {
        let retry = (self.has_kept() || self.desk.is_silent()).then(|| Instant::now() + RETRY_PAUSE);
        let sweep = (!self.desk.escrow().is_empty()).then_some(self.next_sweep);
        let waiting = self.waiting.iter().map(|waiting| waiting.pending.deadline);
        retry.into_iter().chain(sweep).chain(waiting).min()
    }

    fn sort(&mut self, commands: impl Iterator<Item = Command>) -> Batch {
        let mut batch = Batch::default();
        let deadline = Instant::now() + self.limits.wait;
        for command in commands {
            match command {
                Command::Reserve(request) => {
                    batch.reserves.push(Pending { request, deadline, waited_for: None });
                }
                Command::Admit(opening, reply) => self.admitting.push((opening, reply)),
                Command::Settle(settlement, reply) => {
                    self.resolve(&settlement);
                    self.unsettled.push((settlement, reply));
                }
                Command::Record(entry, reply) => batch.records.push((entry, reply)),
                Command::Correct(correction, reply) => batch.corrections.push((correction, reply)),
                Command::Mend(mending, reply) => batch.mendings.push((mending, reply)),
                Command::Probe(reply) => batch.probes.push(reply),
                Command::Stop => {}
            }
        }
        batch
    }

    /// What the request drew is idle again, but for what it cost.
    fn resolve(&self, settlement: &Settlement) {
        if settlement.is_drawn {
            let (now, mut escrow) = (self.desk.now(), self.desk.escrow());
            for hold in &settlement.holds {
                escrow.resolve(&hold.window_id(), hold.amount, settlement.cost, now);
            }
        }
    }

    /// Whoever waits for room where there may be some now: it is asked before those who came later.
    fn ask_again(&mut self, batch: &Batch) -> impl Iterator<Item = Pending> + use<> {
        // Only a settlement makes room, an operator, or a use that is told. After a commit of which nobody knew, what it took is idle again.
        let is_told = self.unsettled.iter().any(|(settlement, _)| settlement.objects.told.is_some());
        let is_open_to_all = !batch.corrections.is_empty() || !batch.mendings.is_empty() || is_told;
        let mut with_room: HashSet<WindowId> = HashSet::new();
        if !self.waiting.is_empty() {
            let settled = self.unsettled.iter().flat_map(|(settlement, _)| &settlement.holds);
            with_room.extend(settled.map(Hold::window_id));
            with_room.extend(self.desk.escrow().uncertain());
        }
        let (again, waiting): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| is_open_to_all || with_room.contains(&waiting.hold.window_id()));
        self.waiting = waiting;
        again
            .into_iter()
            .map(|Waiting { pending, hold, .. }| Pending { waited_for: Some(hold.window_id()), ..pending })
    }

    async fn turn(&mut self, mut batch: Batch, closes: bool) {
        if self.desk.is_silent() {
            // Whoever asks meanwhile need not wait until it is known that it says nothing still.
            self.refuse_all(std::mem::take(&mut batch), false);
        }
        let again = self.ask_again(&batch);
        batch.reserves = again.chain(batch.reserves).collect();
        if self.kept() > self.limits.queue_commands {
            // Whoever is refused after a commit of which nobody knows is one more to keep.
            let reserves = std::mem::take(&mut batch.reserves);
            self.refuse_all(Batch { reserves, ..Batch::default() }, false);
        }
        self.take_voids();
        let sweeps = self.next_sweep <= Instant::now();
        if sweeps {
            self.next_sweep = Instant::now() + SWEEP_EVERY;
            self.desk.escrow().forget_idle(self.desk.now());
        }
        let has_surplus = || {
            let escrow = self.desk.escrow();
            let is_due =
                || !escrow.uncertain().is_empty() || !escrow.with_surplus(self.desk.now()).is_empty();
            if closes { !escrow.is_empty() } else { sweeps && is_due() }
        };
        if self.has_kept() || !batch.is_empty() || has_surplus() || self.desk.is_silent() {
            match self.write(&batch, (sweeps, closes)).await {
                Ok(done) => {
                    self.desk.committed();
                    self.answer(batch, done);
                }
                Err(error) => {
                    self.desk.failed(self.writer.patience().was_silent());
                    tracing::error!(%error, kept = self.kept(), "the ledger cannot be written; settlements are kept");
                    self.refuse_all(batch, matches!(error, WriteError::Unknown(_)));
                }
            }
        }
        self.give_up_waiting();
    }

    /// Everything in one transaction, or nothing.
    async fn write(&mut self, batch: &Batch, (sweeps, closes): (bool, bool)) -> Result<Done, WriteError> {
        let mut tries = 0;
        let patience = self.writer.patience();
        let patience = if batch.mendings.is_empty() { patience } else { patience.for_long_work() };
        loop {
            let mut tx = self.writer.begin().await.map_err(WriteError::Nothing)?;
            let losses = self.losses.0.load(Ordering::SeqCst);
            if losses != self.losses.1 {
                // Another server may have kept the ledger meanwhile.
                self.memory.forget();
                self.losses.1 = losses;
            }
            let mut tools = Tools {
                conn: tx.conn(),
                patience: &patience,
                epoch: self.epoch,
                node: &self.node,
                desk: &self.desk,
                time: &self.time,
                memory: &mut self.memory,
                alarms: self.alarms,
                rollup: Rollup::default(),
            };
            let work = Work { admitting: &self.admitting, unsettled: &self.unsettled, batch, sweeps, closes };
            let done = turn::run(&mut tools, &work).await;
            match done {
                Ok(done) => match patience.listen(tx.commit()).await.and_then(|committed| committed) {
                    Ok(()) => {
                        self.memory.keep();
                        return Ok(done);
                    }
                    Err(error) => {
                        self.memory.forget();
                        done.turn.undone(&mut self.desk.escrow());
                        return Err(WriteError::Unknown(error.into()));
                    }
                },
                Err(error) => {
                    drop(tx);
                    self.memory.discard();
                    match error {
                        TurnError::Disturbed(windows) if tries < TRIES_MAX => {
                            tries += 1;
                            self.examine(&windows).await?;
                        }
                        error => return Err(WriteError::Turn(error)),
                    }
                }
            }
        }
    }

    /// Looks at windows that somebody else changed, and remembers them as they are found.
    async fn examine(&mut self, windows: &[WindowId]) -> Result<(), WriteError> {
        let patience = self.writer.patience();
        let mut tx = self.writer.begin().await.map_err(WriteError::Nothing)?;
        let examined = async {
            for window in windows {
                super::rows::examine(&mut tx.conn(), &mut self.memory, self.alarms, window).await?;
            }
            Ok::<(), StoreError>(())
        };
        patience.listen(examined).await??;
        match patience.listen(tx.commit()).await.and_then(|committed| committed) {
            Ok(()) => {
                self.memory.keep();
                Ok(())
            }
            Err(error) => {
                self.memory.forget();
                Err(WriteError::Unknown(error.into()))
            }
        }
    }

    /// After the commit: say what became of each.
    fn answer(&mut self, mut batch: Batch, done: Done) {
        let Done { verdicts, balances, turn, corrected, taken } = done;
        objects::tell(self.alarms, &taken);
        turn.kept(&mut self.desk.escrow());
        for (_, reply) in self.admitting.drain(..) {
            // Nobody has to wait for it.
            let _ = reply.send(());
        }
        for ((_, reply), balances) in self.unsettled.drain(..).zip(balances) {
            let _ = reply.map(|reply| reply.send(balances));
        }
        for ((_, reply), corrected) in batch.corrections.drain(..).zip(corrected) {
            let _ = reply.send(corrected);
        }
        let (reserves, others) = batch.split();
        for reply in others {
            let _ = reply.send(Ok(()));
        }
        for (pending, verdict) in reserves.into_iter().zip(verdicts) {
            let miss = match verdict {
                Verdict::Reserved => {
                    let Request { demand, settle_slot, reply } = *pending.request;
                    let held = (demand.entry, demand.amount, demand.holds);
                    // If the caller has left, the reservation comes back here and is voided by its drop.
                    let _ = reply.send(Ok(Reservation::new(held, settle_slot, None)));
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
                Miss::Held(hold, balance) => {
                    self.desk.escrow().stop_waiting(&hold.window_id());
                    refuse(pending, ReserveError::Held { hold, balance });
                }
            }
        }
    }

    /// A commit that failed may have been made all the same: each reservation is voided, which does nothing
    /// where there is none. What was never committed needs no voiding.
    fn refuse_all(&mut self, batch: Batch, may_be_committed: bool) {
        let (reserves, others) = batch.split();
        for pending in reserves {
            if let Some(window) = &pending.waited_for {
                self.desk.escrow().stop_waiting(window);
            }
            if may_be_committed {
                let entry =
                    Entry { outcome: Some(Outcome::UpstreamFailed), ..pending.request.demand.entry.clone() };
                // Nothing of it is drawn any more.
                let (holds, objects) = (Vec::new(), ObjectChanges::default());
                let void = Settlement { cost: NanoUsd::ZERO, entry, holds, objects, is_drawn: false };
                self.voids.push_back(Box::new(void));
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
            self.desk.escrow().stop_waiting(&hold.window_id());
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
    Turn(TurnError),
    #[error("whether it was committed is not known: {0}")]
    Unknown(WriterError),
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::Nothing(error.into())
    }
}

fn refuse(pending: Pending, error: ReserveError) {
    // If the caller has left there is nobody to tell, and nothing is held.
    let _ = pending.request.reply.send(Err(error));
}
