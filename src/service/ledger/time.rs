//! Tells the time of windows, keeps it with the books, and raises an alarm while the wall clock is not believed.

use super::audit::{self, AuditError};
use super::{Ledger, RowSeal};
use crate::base::{Clock, Clocks};
use crate::budget::WindowTime;
use crate::log::AlarmKind;
use crate::service::Alarms;
use crate::store::window_time::{self, Found, Kept};
use crate::store::{Conn, StoreError};
use crate::vault::Keyring;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the clocks are compared while nobody asks for the time.
const WATCH_EVERY: Duration = Duration::from_secs(5);
/// How old what is kept may get while the books are written.
const KEEP_EVERY: TimeDelta = TimeDelta::seconds(10);
/// What an alarm calls what is kept.
const ROW: &str = "meta/window_time";

/// Shared by the ledger's handles and its writer.
#[derive(Clone)]
pub(super) struct Timekeeper(Arc<Inner>);

struct Inner {
    clock: Clock,
    /// What the clocks showed when this process began.
    began: Clocks,
    node: String,
    alarms: Alarms,
    seal: Arc<dyn RowSeal>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` until the keyring has vouched for what was kept.
    time: Option<WindowTime>,
    /// The wall clock is too far off, and an alarm was raised.
    is_off: bool,
    /// The machine's uptime when the time was kept last.
    kept_at: Option<TimeDelta>,
}

impl Ledger {
    /// The time that windows go by. Before the vault was opened for the first time it is the wall clock's.
    pub fn now(&self) -> DateTime<Utc> {
        self.time.now()
    }

    /// The time that rates go by: they are counted in memory, so it is the wall clock's of the start of this process and
    /// what passed since, whatever any clock is set to and whoever accepts it.
    pub fn rate_now(&self) -> DateTime<Utc> {
        self.time.rate_now()
    }

    /// Begins, or goes on, to tell the time of windows by what was kept, once the keyring can vouch for it.
    pub(in crate::service) async fn begin_time(&self, keyring: &Keyring) -> Result<(), StoreError> {
        let auditor = self.auditor.lock().await;
        let mut tx = auditor.store.write().await?;
        self.time.begin(&mut tx.conn(), keyring).await?;
        tx.commit().await
    }

    /// From now on windows go by the wall clock, which an operator says is right. `conn` is of the transaction that says
    /// so; takes hold when the closure is called, after the commit.
    pub(in crate::service) async fn accept_clock(
        &self,
        conn: &mut Conn<'_>,
    ) -> Result<impl FnOnce() + use<>, AuditError> {
        self.time.accept(conn).await
    }
}

impl Timekeeper {
    pub(super) fn new(clock: Clock, (node, alarms): (String, Alarms), seal: Arc<dyn RowSeal>) -> Self {
        let began = clock.clocks();
        Self(Arc::new(Inner { clock, began, node, alarms, seal, state: Mutex::default() }))
    }

    fn rate_now(&self) -> DateTime<Utc> {
        let passed = self.0.clock.clocks().uptime - self.0.began.uptime;
        self.0.began.wall + passed.max(TimeDelta::zero())
    }

    /// The time.
    pub(super) fn now(&self) -> DateTime<Utc> {
        let clocks = self.0.clock.clocks();
        let mut state = self.state();
        let Some(time) = &mut state.time else { return clocks.wall };
        let (now, off) = time.tell(&clocks);
        let was_off = std::mem::replace(&mut state.is_off, off.is_some());
        drop(state);
        if let Some(off) = off.filter(|_| !was_off) {
            let detail = json!({
                "wall_clock": clocks.wall, "window_time": now, "off_seconds": off.num_seconds(),
                "detail": "budgets go on by the time that passed; set the clock right, or close this alarm to \
                    have them follow the wall clock",
            });
            self.0.alarms.raise(AlarmKind::ClockOff, &self.0.node, &detail);
        }
        now
    }

    /// Compares the clocks now and then, until it is told to end.
    pub(super) async fn watch(self, stopping: CancellationToken) {
        while stopping.run_until_cancelled(tokio::time::sleep(WATCH_EVERY)).await.is_some() {
            self.now();
        }
    }

    /// Goes on from what was kept, if the keyring vouches for it; the first time only.
    pub(super) async fn begin(&self, conn: &mut Conn<'_>, keyring: &Keyring) -> Result<(), StoreError> {
        if self.state().time.is_some() {
            return Ok(());
        }
        let kept = match window_time::get(conn).await? {
            Found::Nothing => None,
            Found::Unreadable => self.tampered(),
            Found::Kept(Kept { time, signature }) => {
                let term = u32::try_from(signature.term).ok();
                let message = Kept::message(&time)?;
                let holds = term.is_some_and(|term| keyring.row_is_signed(&message, &signature.mac, term));
                if holds { Some(time) } else { self.tampered() }
            }
        };
        self.state().time = Some(WindowTime::begin(kept, &self.0.clock.clocks()));
        self.now();
        Ok(())
    }

    fn tampered(&self) -> Option<WindowTime> {
        let detail = json!({"detail": "windows go by the wall clock from here on"});
        self.0.alarms.raise(AlarmKind::RowTampered, ROW, &detail);
        None
    }

    /// Whether what is kept is old.
    pub(super) fn is_due(&self) -> bool {
        let uptime = self.0.clock.clocks().uptime;
        let state = self.state();
        state.time.is_some() && state.kept_at.is_none_or(|kept| uptime - kept >= KEEP_EVERY)
    }

    /// Keeps the time, where it is told and can be signed.
    pub(super) async fn keep(&self, conn: &mut Conn<'_>) -> Result<(), AuditError> {
        let clocks = self.0.clock.clocks();
        let time = self.state().time.clone();
        if let Some(mut time) = time {
            time.tell(&clocks);
            self.put(conn, time).await?;
            self.state().kept_at = Some(clocks.uptime);
        }
        Ok(())
    }

    /// Follows the wall clock from now on. What is returned takes it into force, after the commit.
    pub(super) async fn accept(&self, conn: &mut Conn<'_>) -> Result<impl FnOnce() + use<>, AuditError> {
        let clocks = self.0.clock.clocks();
        let time = self.state().time.clone();
        if let Some(mut time) = time {
            time.tell(&clocks);
            time.accept(&clocks);
            self.put(conn, time).await?;
        }
        let this = self.clone();
        Ok(move || {
            let mut state = this.state();
            if let Some(time) = &mut state.time {
                time.accept(&clocks);
            }
            state.is_off = false;
        })
    }

    async fn put(&self, conn: &mut Conn<'_>, time: WindowTime) -> Result<(), AuditError> {
        let signature = audit::sign(&*self.0.seal, &Kept::message(&time)?)?;
        Ok(window_time::put(conn, &Kept { time, signature }).await?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
