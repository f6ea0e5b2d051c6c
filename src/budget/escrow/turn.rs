//! A turn: what many requests did in memory, carried to the rows in one transaction.
//!
//! First the rows are loaded, locked; then settlements are told, reservations asked and leases set right, without any
//! waiting; then the changes are written. At the end the turn is kept or undone, by what became of the commit.

use super::super::balance::{Balance, Refusal};
use super::{Draw, Escrow, Lease};
use crate::base::NanoUsd;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::time::Duration;

/// A window's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The cap in force.
    pub limit: NanoUsd,
    /// Spent for certain.
    pub posted: NanoUsd,
    /// Leased, by every node.
    pub held: NanoUsd,
    /// Nothing is admitted until an operator has looked.
    pub is_blocked: bool,
}

impl Row {
    /// What is neither spent nor leased; negative where a cap was lowered, or a provider billed above its bound.
    fn room(&self) -> NanoUsd {
        self.limit.saturating_sub(self.posted).saturating_sub(self.held)
    }
}

/// How a window's row changes, and with it this node's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// As it was loaded.
    pub before: Row,
    /// As it should be.
    pub after: Row,
    /// By how much this node's lease changes; negative where it shrinks.
    pub lease: NanoUsd,
    /// Whether anything is admitted by the cap in `before`, now or later, out of what is leased.
    pub admits: bool,
}

/// Why a window does not admit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss<W> {
    /// Its row has another cap than the request was decided by.
    Changed(W),
    /// It is blocked.
    Blocked(W),
    /// Would not fit even with nothing in flight.
    Exceeded(W, Balance),
    /// May fit when requests in flight settle, or other nodes give back.
    Held(W, Balance),
}

/// What a turn does to one window.
#[derive(Clone, Copy, Debug)]
struct Seat {
    before: Row,
    row: Row,
    /// Of what was spent, what the lease bore and is posted now, or was before.
    borne: NanoUsd,
    /// Drawn by reservations of this turn.
    drawn: NanoUsd,
    /// What the lease gets, and nobody has drawn.
    more: NanoUsd,
    admits: bool,
}

impl Seat {
    /// What of a lease is above the cap, since that was lowered, and is of no use to anybody.
    fn excess(&self, lease: &Lease) -> NanoUsd {
        lease.idle().min(self.row.room().negated()).max(NanoUsd::ZERO)
    }

    fn give_back(&mut self, lease: &mut Lease, amount: NanoUsd) {
        lease.amount = lease.amount.saturating_sub(amount);
        self.row.held = self.row.held.saturating_sub(amount);
    }

    /// The cap by which what is idle in the lease, or will be, may be drawn without asking the row.
    fn limit_to_draw_by(&self) -> Option<NanoUsd> {
        (self.row.room() >= NanoUsd::ZERO).then_some(self.row.limit)
    }
}

/// What a turn did; [`Turn::kept`] or [`Turn::undone`] ends it.
#[derive(Debug)]
#[must_use = "a turn is kept or undone"]
pub struct Turn<W> {
    now: Duration,
    seats: BTreeMap<W, Seat>,
    /// Windows that reservations wait for since this turn.
    waits: Vec<W>,
    /// Windows that reservations waited for until this turn.
    waited: Vec<W>,
}

impl<W: Clone + Eq + Hash + Ord> Turn<W> {
    /// A turn that has these rows, and no others.
    pub fn new(rows: impl IntoIterator<Item = (W, Row)>, now: Duration) -> Self {
        let none = NanoUsd::ZERO;
        let seat = |row| Seat { before: row, row, borne: none, drawn: none, more: none, admits: false };
        let seats = rows.into_iter().map(|(window, row)| (window, seat(row))).collect();
        Self { now, seats, waits: Vec::new(), waited: Vec::new() }
    }

    /// Posts what a resolved request cost.
    pub fn settle(&mut self, escrow: &mut Escrow<W>, window: &W, drawn: NanoUsd, cost: NanoUsd) {
        let (Some(seat), borne) = (self.seats.get_mut(window), cost.min(drawn)) else { return };
        seat.borne = seat.borne.saturating_add(borne);
        seat.row.posted = seat.row.posted.saturating_add(cost);
        seat.row.held = seat.row.held.saturating_sub(borne);
        if let Some(lease) = escrow.leases.get_mut(window) {
            lease.spent = lease.spent.saturating_sub(borne);
            lease.amount = lease.amount.saturating_sub(borne);
        }
    }

    /// Takes back what was posted, as an operator says or a use that is told later. Never below nothing.
    pub fn release(&mut self, window: &W, amount: NanoUsd) {
        if let Some(seat) = self.seats.get_mut(window) {
            seat.row.posted = seat.row.posted.saturating_sub(amount).max(NanoUsd::ZERO);
        }
    }

    /// A resolved request turns out to be posted already, by a commit of which nobody knew.
    pub fn was_settled(&mut self, escrow: &mut Escrow<W>, window: &W, drawn: NanoUsd, cost: NanoUsd) {
        if let (Some(seat), Some(lease)) = (self.seats.get_mut(window), escrow.leases.get_mut(window)) {
            let borne = cost.min(drawn);
            seat.borne = seat.borne.saturating_add(borne);
            lease.spent = lease.spent.saturating_sub(borne);
        }
    }

    /// Takes every amount, or none: out of the lease what is idle, out of the row's room what is missing. Draws on windows
    /// that are all different ones. A window that waiting does not help is told before one that it may.
    pub fn reserve(&mut self, escrow: &mut Escrow<W>, draws: &[Draw<W>]) -> Result<(), Miss<W>> {
        debug_assert!(
            (1..draws.len()).all(|at| draws[..at].iter().all(|one| one.window != draws[at].window))
        );
        let (mut missing, mut held) = (Vec::with_capacity(draws.len()), None);
        for draw in draws {
            self.give_back_excess(escrow, &draw.window);
            match self.missing(escrow, draw) {
                Ok(amount) => missing.push(amount),
                Err(miss @ Miss::Held(..)) => held = held.or(Some(miss)),
                Err(miss) => return Err(miss),
            }
        }
        if let Some(miss) = held {
            return Err(miss);
        }
        for (draw, missing) in draws.iter().zip(missing) {
            self.take(escrow, draw, missing);
        }
        Ok(())
    }

    /// What was leased by a higher cap than there is now, and is idle, is not drawn any more.
    fn give_back_excess(&mut self, escrow: &mut Escrow<W>, window: &W) {
        if let (Some(seat), Some(lease)) = (self.seats.get_mut(window), escrow.leases.get_mut(window)) {
            let excess = seat.excess(lease);
            seat.give_back(lease, excess);
        }
    }

    /// A reservation that is refused waits for room in the window.
    pub fn wait(&mut self, escrow: &mut Escrow<W>, window: &W) {
        escrow.wait(window);
        self.waits.push(window.clone());
    }

    /// A reservation that waited for room in the window is about to be asked again. Until this turn is over whoever comes
    /// meanwhile finds what is left of that room, or that it waits once more.
    pub fn stop_waiting(&mut self, escrow: &mut Escrow<W>, window: &W) {
        escrow.stop_waiting(window);
        self.waited.push(window.clone());
    }

    /// How much of the amount has to be leased for it. Nothing is idle above the cap.
    fn missing(&self, escrow: &Escrow<W>, draw: &Draw<W>) -> Result<NanoUsd, Miss<W>> {
        let window = || draw.window.clone();
        let row = self.seats.get(&draw.window).ok_or_else(|| Miss::Changed(window()))?.row;
        let Row { limit, posted, held, is_blocked } = row;
        if limit != draw.limit {
            return Err(Miss::Changed(window()));
        }
        if is_blocked {
            return Err(Miss::Blocked(window()));
        }
        // What is idle here is held by nobody.
        let idle = escrow.idle(&draw.window);
        let balance = Balance { limit, posted, held: held.saturating_sub(idle) };
        match balance.admit(draw.amount) {
            Ok(()) => Ok(draw.amount.saturating_sub(idle).max(NanoUsd::ZERO)),
            Err(Refusal::Exceeded) => Err(Miss::Exceeded(window(), balance)),
            // What takes nothing has nothing to wait for.
            Err(Refusal::Held) if draw.amount == NanoUsd::ZERO => Ok(NanoUsd::ZERO),
            Err(Refusal::Held) => Err(Miss::Held(window(), balance)),
        }
    }

    fn take(&mut self, escrow: &mut Escrow<W>, draw: &Draw<W>, missing: NanoUsd) {
        let Some(seat) = self.seats.get_mut(&draw.window) else { return };
        let lease = escrow.leases.entry(draw.window.clone()).or_default();
        lease.amount = lease.amount.saturating_add(missing);
        lease.draw(draw.amount, self.now);
        seat.admits = true;
        seat.row.held = seat.row.held.saturating_add(missing);
        lease.limit = seat.limit_to_draw_by();
        seat.drawn = seat.drawn.saturating_add(draw.amount);
    }

    /// Admits nothing in the window any more.
    pub fn block(&mut self, escrow: &mut Escrow<W>, window: &W) {
        if let Some(seat) = self.seats.get_mut(window) {
            seat.row.is_blocked = true;
        }
        if let Some(lease) = escrow.leases.get_mut(window) {
            lease.is_blocked = true;
        }
    }

    /// The window's row, as it is after what was told so far; what is idle here, or gets so, counts as held by nobody.
    pub fn balance(&self, escrow: &Escrow<W>, window: &W) -> Option<Balance> {
        let Seat { row: Row { limit, posted, held, .. }, more, .. } = *self.seats.get(window)?;
        let idle = escrow.idle(window).saturating_add(more);
        Some(Balance { limit, posted, held: held.saturating_sub(idle).max(NanoUsd::ZERO) })
    }

    /// Sets the leases of this turn's windows to what is of use: gives back the rest, or takes more where there is room.
    /// `all` gives back whatever is idle, because somebody else asks for it.
    pub fn trim(&mut self, escrow: &mut Escrow<W>, all: bool) {
        for (window, seat) in &mut self.seats {
            let Some(lease) = escrow.leases.get_mut(window).filter(|lease| !lease.is_shut) else { continue };
            let target = if all { lease.taken() } else { lease.target(self.now) };
            let surplus = lease.surplus_over(target).max(seat.excess(lease));
            seat.give_back(lease, surplus);
            // What is decided by another cap asks the row from now on.
            let is_open = lease.limit == Some(seat.row.limit) && !seat.row.is_blocked;
            lease.limit = seat.limit_to_draw_by();
            let more = target.saturating_sub(lease.amount).max(NanoUsd::ZERO);
            if is_open && more > NanoUsd::ZERO && more <= seat.row.room() {
                seat.more = seat.more.saturating_add(more);
                seat.row.held = seat.row.held.saturating_add(more);
            }
            seat.admits |= is_open && lease.amount.saturating_add(seat.more) > NanoUsd::ZERO;
        }
    }

    /// What is to be written.
    pub fn changes(&self) -> impl Iterator<Item = (&W, Change)> {
        let change = |seat: &Seat| Change {
            before: seat.before,
            after: Row { held: seat.row.held.max(NanoUsd::ZERO), ..seat.row },
            lease: seat.row.held.saturating_sub(seat.before.held),
            admits: seat.admits,
        };
        let changes = self.seats.iter().map(move |(window, seat)| (window, change(seat)));
        changes.filter(|(_, change)| {
            change.before != change.after || change.lease != NanoUsd::ZERO || change.admits
        })
    }

    /// It is durable.
    pub fn kept(self, escrow: &mut Escrow<W>) {
        for (window, seat) in self.seats {
            if let Some(lease) = escrow.leases.get_mut(&window) {
                lease.amount = lease.amount.saturating_add(seat.more);
                lease.is_blocked = seat.row.is_blocked;
            }
        }
    }

    /// It was not committed, or nobody knows: nothing of it counts. Its reservations are refused, its settlements are to
    /// be told to another turn, and its windows are [`Escrow::uncertain`]. Whoever waited before waits.
    pub fn undone(self, escrow: &mut Escrow<W>) {
        for (window, seat) in self.seats {
            if let Some(lease) = escrow.leases.get_mut(&window) {
                escrow.shut.insert(window);
                lease.undraw(seat.drawn);
                lease.spent = lease.spent.saturating_add(seat.borne);
                lease.is_shut = true;
                // What was given back to come within the cap was not, perhaps.
                lease.limit = None;
            }
        }
        for window in &self.waits {
            escrow.stop_waiting(window);
        }
        for window in &self.waited {
            escrow.wait(window);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nano(amount: i64) -> NanoUsd {
        NanoUsd::from_nano(amount)
    }

    fn row(posted: i64, held: i64) -> Row {
        Row { limit: nano(100), posted: nano(posted), held: nano(held), is_blocked: false }
    }

    fn draw(window: &str) -> Draw<&str> {
        Draw { window, limit: nano(100), amount: nano(10) }
    }

    #[test]
    fn nobody_waits_for_one_budget_while_another_can_never_have_room() {
        let mut escrow = Escrow::default();
        let now = Duration::from_secs(1);
        let mut turn = Turn::new([("key", row(0, 95)), ("project", row(95, 0)), ("open", row(0, 0))], now);
        let reserved = turn.reserve(&mut escrow, &[draw("open"), draw("key"), draw("project")]);
        assert!(matches!(reserved, Err(Miss::Exceeded("project", _))), "{reserved:?}");
        let reserved = turn.reserve(&mut escrow, &[draw("open"), draw("key")]);
        assert!(matches!(reserved, Err(Miss::Held("key", _))), "{reserved:?}");
        assert!(turn.changes().next().is_none(), "all or nothing");
        turn.undone(&mut escrow);
    }

    /// A lease of five by a cap of ten, of which two are drawn; four are spent, and the cap is six now.
    fn lowered() -> (Escrow<&'static str>, Row) {
        let (mut escrow, now) = (Escrow::default(), Duration::from_secs(1));
        let by_ten = |amount| Draw { window: "key", limit: nano(10), amount: nano(amount) };
        let mut turn = Turn::new([("key", Row { limit: nano(10), ..row(4, 0) })], now);
        assert_eq!(turn.reserve(&mut escrow, &[by_ten(3)]), Ok(()));
        assert_eq!(turn.reserve(&mut escrow, &[by_ten(2)]), Ok(()));
        turn.kept(&mut escrow);
        escrow.resolve(&"key", nano(3), nano(0), now);
        (escrow, Row { limit: nano(6), ..row(4, 5) })
    }

    #[test]
    fn p3_what_is_idle_above_a_lowered_cap_refuses_nobody_and_is_not_drawn() {
        let by_six = |amount| Draw { window: "key", limit: nano(6), amount: nano(amount) };
        let now = Duration::from_secs(1);
        let (mut escrow, row) = lowered();
        let mut turn = Turn::new([("key", row)], now);
        let reserved = turn.reserve(&mut escrow, &[by_six(1)]);
        assert!(matches!(reserved, Err(Miss::Held("key", _))), "two are in flight: {reserved:?}");
        turn.undone(&mut escrow);

        let (mut escrow, row) = lowered();
        escrow.resolve(&"key", nano(2), nano(0), now);
        let mut turn = Turn::new([("key", row)], now);
        assert_eq!(turn.reserve(&mut escrow, &[by_six(1)]), Ok(()), "nothing is in flight");
        let after = turn.changes().next().map(|(_, change)| (change.after.held, change.lease));
        assert_eq!(after, Some((nano(2), nano(-3))));
        assert!(!escrow.draw(&[by_six(2)], now), "one is left");
        assert!(escrow.draw(&[by_six(1)], now));
        turn.kept(&mut escrow);
    }

    #[test]
    fn p3_what_gets_idle_above_a_lowered_cap_is_not_drawn() {
        let by_six = Draw { window: "key", limit: nano(6), amount: nano(3) };
        let now = Duration::from_secs(1);
        for is_committed in [true, false] {
            let (mut escrow, row) = lowered();
            let mut turn = Turn::new([("key", row)], now);
            turn.trim(&mut escrow, false);
            if is_committed {
                turn.kept(&mut escrow);
            } else {
                turn.undone(&mut escrow);
                escrow.reload(&"key", row.held);
            }
            escrow.resolve(&"key", nano(2), nano(0), now);
            assert!(!escrow.draw(&[by_six], now), "four are spent already: {escrow:?}");
        }
    }

    #[test]
    fn what_costs_nothing_passes_until_its_window_is_over_or_blocked() {
        let (mut escrow, now) = (Escrow::default(), Duration::from_secs(1));
        let free = [Draw { amount: nano(0), ..draw("key") }];
        assert!(!escrow.draw(&free, now), "nobody knows the window");
        for (found, passes) in [
            (row(100, 0), true),
            (row(90, 20), true),
            (row(101, 0), false),
            (Row { is_blocked: true, ..row(0, 0) }, false),
        ] {
            let mut turn = Turn::new([("key", found)], now);
            assert_eq!(turn.reserve(&mut escrow, &free).is_ok(), passes, "{found:?}");
            let asks_the_row = turn.changes().any(|(_, change)| change.admits && change.lease == nano(0));
            assert_eq!(asks_the_row, passes, "its cap and its block are looked at when it is written");
            turn.kept(&mut escrow);
            let is_within = found.posted.saturating_add(found.held) <= found.limit;
            assert_eq!(escrow.draw(&free, now), passes && is_within, "{found:?}");
            escrow.forget(&"key");
        }
    }

    #[test]
    fn p3_what_was_to_cost_nothing_and_is_billed_is_posted_and_blocks_its_window() {
        let (mut escrow, now) = (Escrow::default(), Duration::from_secs(1));
        let free = [Draw { amount: nano(0), ..draw("key") }];
        let mut turn = Turn::new([("key", row(0, 0))], now);
        assert_eq!(turn.reserve(&mut escrow, &free), Ok(()));
        turn.kept(&mut escrow);
        assert!(escrow.draw(&free, now));
        escrow.resolve(&"key", nano(0), nano(7), now);
        let mut turn = Turn::new([("key", row(0, 0))], now);
        turn.settle(&mut escrow, &"key", nano(0), nano(7));
        turn.block(&mut escrow, &"key");
        assert!(!escrow.draw(&free, now), "as soon as it is known");
        turn.trim(&mut escrow, false);
        let after = turn.changes().next().map(|(_, change)| (change.after, change.lease));
        assert_eq!(after, Some((Row { is_blocked: true, ..row(7, 0) }, nano(0))));
        turn.kept(&mut escrow);
        assert!(!escrow.draw(&free, now));
    }

    #[test]
    fn nobody_goes_ahead_of_who_waits_for_a_window_before_he_was_asked_again() {
        let (mut escrow, now) = (Escrow::default(), Duration::from_secs(1));
        let of = |amount| [Draw { amount: nano(amount), ..draw("key") }];
        let mut turn = Turn::new([("key", row(0, 0))], now);
        assert_eq!(turn.reserve(&mut escrow, &of(90)), Ok(()));
        assert!(matches!(turn.reserve(&mut escrow, &of(50)), Err(Miss::Held(..))));
        turn.wait(&mut escrow, &"key");
        turn.kept(&mut escrow);
        escrow.resolve(&"key", nano(90), nano(0), now);
        assert!(!escrow.draw(&of(60), now), "what is idle is for who waits");
        for is_committed in [false, true] {
            let mut turn = Turn::new([("key", row(0, 90))], now);
            turn.stop_waiting(&mut escrow, &"key");
            assert_eq!(turn.reserve(&mut escrow, &of(50)), Ok(()));
            if is_committed {
                turn.kept(&mut escrow);
            } else {
                turn.undone(&mut escrow);
                escrow.reload(&"key", nano(90));
                escrow.leases.get_mut("key").unwrap().limit = Some(nano(100));
                assert!(!escrow.draw(&of(10), now), "he waits still");
            }
        }
        assert!(escrow.draw(&of(40), now), "nobody waits");
    }

    #[test]
    fn what_is_leased_ahead_is_held_by_nobody() {
        let mut escrow = Escrow::default();
        let now = Duration::from_secs(1);
        let mut first = Turn::new([("key", row(0, 0))], now);
        assert_eq!(first.reserve(&mut escrow, &[draw("key")]), Ok(()));
        first.kept(&mut escrow);
        escrow.resolve(&"key", nano(10), nano(4), now);
        let mut second = Turn::new([("key", row(0, 10))], now);
        second.settle(&mut escrow, &"key", nano(10), nano(4));
        second.trim(&mut escrow, false);
        let leased = second.changes().next().map(|(_, change)| change.after.held);
        assert!(leased > Some(NanoUsd::ZERO), "the lease stays for the next one");
        let balance = second.balance(&escrow, &"key").unwrap();
        assert_eq!((balance.posted, balance.held), (nano(4), NanoUsd::ZERO));
        second.kept(&mut escrow);
    }
}
