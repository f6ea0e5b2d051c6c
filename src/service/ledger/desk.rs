//! Where requests draw and resolve: what this node has leased, in memory, and how lately the store could be written.

use super::Hold;
use crate::budget::escrow::{Draw, Escrow};
use crate::store::budget::WindowId;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A commit counts as proof that the store can be written for so long.
const FRESH_FOR: Duration = Duration::from_secs(2);

/// Shared by the ledger's handles and its writer.
#[derive(Clone)]
pub(super) struct Desk(Arc<Inner>);

struct Inner {
    escrow: Mutex<Escrow<WindowId>>,
    began: Instant,
    /// Milliseconds after `began`, plus one; 0 when the last attempt failed, or there was none.
    committed_ms: AtomicU64,
    /// The database says nothing: whoever asks it waits in vain.
    is_silent: AtomicBool,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            escrow: Mutex::new(Escrow::default()),
            began: Instant::now(),
            committed_ms: AtomicU64::new(0),
            is_silent: AtomicBool::new(false),
        }))
    }

    /// The escrow; nobody waits for anything while he has it.
    pub(super) fn escrow(&self) -> MutexGuard<'_, Escrow<WindowId>> {
        // Each change of it is arithmetic that does not panic half-way.
        self.0.escrow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time that the escrow goes by: it never steps.
    pub(super) fn now(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// Draws what a request needs out of what is leased: all or nothing, and only while the store is known to work.
    pub(super) fn draw(&self, holds: &[Hold]) -> bool {
        if !self.is_fresh() {
            return false;
        }
        let draws: Vec<Draw<WindowId>> = holds.iter().map(draw).collect();
        self.escrow().draw(&draws, self.now())
    }

    pub(super) fn committed(&self) {
        let now = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX - 1);
        self.0.committed_ms.store(now.saturating_add(1), Ordering::SeqCst);
        self.0.is_silent.store(false, Ordering::SeqCst);
    }

    pub(super) fn failed(&self, is_silent: bool) {
        self.0.committed_ms.store(0, Ordering::SeqCst);
        self.0.is_silent.store(is_silent, Ordering::SeqCst);
    }

    /// Whether the last attempt ended in silence. Nobody need ask before the next one, which the writer makes by itself.
    pub(super) fn is_silent(&self) -> bool {
        self.0.is_silent.load(Ordering::SeqCst)
    }

    fn is_fresh(&self) -> bool {
        let committed = self.0.committed_ms.load(Ordering::SeqCst);
        committed > 0 && self.now().saturating_sub(Duration::from_millis(committed - 1)) <= FRESH_FOR
    }
}

/// As the escrow takes it.
pub(super) fn draw(hold: &Hold) -> Draw<WindowId> {
    Draw { window: hold.window_id(), limit: hold.limit, amount: hold.amount }
}
