//! One node's escrow: how much of each budget's window it has leased, and how much of that is taken.
//!
//! A lease is an amount that the window's row holds for one node. It is durable before it is drawn on, and whatever the
//! node admits is drawn from leases; so all nodes together cannot admit more than the rows hold, and a crash costs at
//! most what was leased. Requests draw and resolve in memory, at once; a [`Turn`] carries many of them to the rows in one
//! transaction. Everything here is arithmetic: the caller brings the time and the rows, and takes the changes away.

mod recent;
#[cfg(test)]
mod simulation;
mod turn;

pub use turn::{Change, Miss, Row, Turn};

use crate::base::NanoUsd;
use recent::Recent;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

/// An amount to be taken from one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw<W> {
    /// The window.
    pub window: W,
    /// The cap that the request was decided by.
    pub limit: NanoUsd,
    /// How much; not negative.
    pub amount: NanoUsd,
}

/// One node's leases, by window.
#[derive(Clone, Debug)]
pub struct Escrow<W> {
    leases: HashMap<W, Lease>,
    /// Those that are shut: there are few, and every turn asks.
    shut: HashSet<W>,
}

/// The lease of one window.
#[derive(Clone, Debug, Default)]
struct Lease {
    /// The cap by which all of it may be drawn; `None` when the rows have to be asked: no turn has found all that is leased
    /// and spent within the cap that is in force.
    limit: Option<NanoUsd>,
    /// What the rows hold for this node.
    amount: NanoUsd,
    /// Taken by requests in flight.
    drawn: NanoUsd,
    /// Spent by requests that are over, and not posted yet.
    spent: NanoUsd,
    /// Reservations that wait for room. While any does, nobody draws in memory: the rows are asked, after who waits. What
    /// fits beside it is admitted there all the same; nobody is refused for another's sake.
    waiting: usize,
    /// A commit failed: nobody knows what the rows hold.
    is_shut: bool,
    /// Nothing is admitted until an operator has looked.
    is_blocked: bool,
    recent: Recent,
}

impl Lease {
    fn taken(&self) -> NanoUsd {
        self.drawn.saturating_add(self.spent)
    }

    fn idle(&self) -> NanoUsd {
        if self.is_shut { NanoUsd::ZERO } else { self.surplus_over(self.taken()) }
    }

    fn surplus_over(&self, amount: NanoUsd) -> NanoUsd {
        self.amount.saturating_sub(amount).max(NanoUsd::ZERO)
    }

    fn draw(&mut self, amount: NanoUsd, now: Duration) {
        self.drawn = self.drawn.saturating_add(amount);
        self.recent.held(self.drawn, now);
    }

    fn undraw(&mut self, amount: NanoUsd) {
        self.drawn = self.drawn.saturating_sub(amount);
    }

    /// What it should be: enough for what was in flight at once and was spent in the last seconds, and what is taken.
    fn target(&self, now: Duration) -> NanoUsd {
        if self.waiting > 0 { self.taken() } else { self.recent.use_until(now).max(self.taken()) }
    }
}

impl<W> Default for Escrow<W> {
    fn default() -> Self {
        Self { leases: HashMap::new(), shut: HashSet::new() }
    }
}

impl<W: Clone + Eq + Hash> Escrow<W> {
    /// Takes every amount out of its lease, or none. `false` when the rows have to be asked: a lease does not cover it,
    /// the cap is another one than when it was leased, or somebody waits for that window already. An amount of nothing
    /// needs a lease, too, if an empty one: without any, nobody knows whether the window is blocked.
    pub fn draw(&mut self, draws: &[Draw<W>], now: Duration) -> bool {
        let is_covered = draws.iter().all(|draw| {
            self.leases.get(&draw.window).is_some_and(|lease| {
                lease.limit == Some(draw.limit)
                    && !lease.is_blocked
                    && !lease.is_shut
                    && (draw.amount == NanoUsd::ZERO || (lease.waiting == 0 && draw.amount <= lease.idle()))
            })
        });
        if is_covered {
            for draw in draws {
                if let Some(lease) = self.leases.get_mut(&draw.window) {
                    lease.draw(draw.amount, now);
                }
            }
        }
        is_covered
    }

    /// A request is over: what it drew is idle again, but for what it cost. A cost above what was drawn is not the
    /// lease's to bear. Said once, when the first turn is about to begin that posts it ([`Turn::settle`]): what is idle
    /// sooner could be on record for two requests at once, and a crash would charge more than was leased.
    pub fn resolve(&mut self, window: &W, drawn: NanoUsd, cost: NanoUsd, now: Duration) {
        if let Some(lease) = self.leases.get_mut(window) {
            let borne = cost.min(drawn);
            lease.undraw(drawn);
            lease.spent = lease.spent.saturating_add(borne);
            lease.recent.spent(borne, now);
        }
    }

    /// A reservation waits for room in the window. In a turn, by [`Turn::wait`].
    fn wait(&mut self, window: &W) {
        self.leases.entry(window.clone()).or_default().waiting += 1;
    }

    /// It waits no more. In a turn, by [`Turn::stop_waiting`].
    pub fn stop_waiting(&mut self, window: &W) {
        if let Some(lease) = self.leases.get_mut(window) {
            lease.waiting = lease.waiting.saturating_sub(1);
        }
    }

    /// Windows of which the rows hold more than was of use lately: a turn that has their rows gives it back.
    pub fn with_surplus(&self, now: Duration) -> Vec<W> {
        let is_over = |lease: &Lease| !lease.is_shut && lease.amount > lease.target(now);
        self.leases.iter().filter(|(_, lease)| is_over(lease)).map(|(window, _)| window.clone()).collect()
    }

    /// Windows of which nobody knows what the rows hold, since a commit failed. Tell by [`Escrow::reload`].
    pub fn uncertain(&self) -> Vec<W> {
        self.shut.iter().cloned().collect()
    }

    /// What the rows hold for this node, read after whatever may have changed it.
    pub fn reload(&mut self, window: &W, amount: NanoUsd) {
        self.shut.remove(window);
        if let Some(lease) = self.leases.get_mut(window) {
            lease.amount = amount;
            lease.is_shut = false;
        }
    }

    /// The window is gone, and with it whatever was leased of it.
    pub fn forget(&mut self, window: &W) {
        self.shut.remove(window);
        self.leases.remove(window);
    }

    /// Whether nothing is leased.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// The windows that something is leased of.
    pub fn windows(&self) -> impl Iterator<Item = &W> {
        self.leases.keys()
    }

    /// What of the rows' hold is taken by nobody.
    pub fn idle(&self, window: &W) -> NanoUsd {
        self.leases.get(window).map_or(NanoUsd::ZERO, Lease::idle)
    }

    /// Drops what is remembered of windows that nothing is leased of, and nothing was drawn from lately.
    pub fn forget_idle(&mut self, now: Duration) {
        self.leases.retain(|_, lease| {
            let is_empty =
                lease.amount <= NanoUsd::ZERO && lease.taken() <= NanoUsd::ZERO && lease.waiting == 0;
            !is_empty || lease.is_shut || lease.recent.is_of_late(now)
        });
    }
}
