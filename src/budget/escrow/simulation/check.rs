//! What has to hold after every step of the simulation, and at its end.

use super::super::Draw;
use super::{Command, Fate, Holds, NODES, WINDOWS, World, sum};
use crate::base::NanoUsd;

impl World {
    /// What providers may bill at most for all that was admitted.
    pub(super) fn exposed(&self, window: u8) -> NanoUsd {
        let in_flight = self.nodes.iter().flat_map(|node| node.in_flight.values().flatten());
        let held = sum(in_flight.filter(|draw| draw.window == window).map(|draw| draw.amount));
        held.saturating_add(self.billed.get(&window).copied().unwrap_or_default())
    }

    fn above(&self, window: u8) -> NanoUsd {
        self.database.above.get(&window).copied().unwrap_or_default()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (window, row) in &self.database.rows {
            let leased = sum(self.database.leases.iter().filter(|((_, w), _)| w == window).map(|(_, a)| *a));
            if leased != row.held {
                return Err(format!("window {window} holds {:?}, and {leased:?} is leased", row.held));
            }
            if row.posted.saturating_add(row.held) > self.ceilings[window] {
                return Err(format!("window {window} passes its limit: {row:?}"));
            }
            let exposed = self.exposed(*window);
            if exposed > self.exposures[window] {
                return Err(format!("window {window} admits {exposed:?} in all: {row:?}"));
            }
            for (index, node) in self.nodes.iter().enumerate() {
                let of = |holds: &Holds| sum(holds.iter().filter(|d| d.window == *window).map(|d| d.amount));
                let in_flight = sum(node.in_flight.values().map(of));
                let ended = node.commands.iter().map(|command| match command {
                    Command::Settle(_, holds, _) => of(holds),
                    Command::Record(..) => NanoUsd::ZERO,
                });
                let drawn = in_flight.saturating_add(sum(ended));
                let lease = node.escrow.leases.get(window).cloned().unwrap_or_default();
                let waiting = node.waiting.iter().filter(|(_, _, of)| of == window).count();
                if lease.waiting != waiting {
                    return Err(format!("node {index}, window {window}: {waiting} wait, {lease:?}"));
                }
                if lease.drawn != drawn {
                    return Err(format!(
                        "node {index} drew {:?} of window {window}, not {drawn:?}",
                        lease.drawn
                    ));
                }
                let durable = self.database.leases.get(&(index, *window)).copied().unwrap_or_default();
                if !lease.is_shut && (lease.taken() > durable || lease.amount > durable) {
                    return Err(format!("node {index}, window {window}: {lease:?} of {durable:?}"));
                }
            }
            if exposed.saturating_add(self.above(*window)) > row.posted.saturating_add(row.held) {
                return Err(format!("window {window}: providers may bill {exposed:?}, and {row:?}"));
            }
        }
        Ok(())
    }

    /// What is billed above the bound passes a cap; what cost less than it was admitted for makes room below it alone.
    pub(super) fn follow(&mut self) {
        for (window, row) in &self.database.rows {
            let (above, seen) = (self.above(*window), self.above_seen.insert(*window, self.above(*window)));
            let more = above.saturating_sub(seen.unwrap_or_default());
            self.ceilings.insert(*window, self.ceilings[window].saturating_add(more));
            let exposure = self.exposures[window].min(self.exposed(*window)).max(row.limit);
            self.exposures.insert(*window, exposure);
        }
    }

    /// Everybody finishes and gives back: then nothing is held, and what fits is admitted.
    pub(super) fn settle_down(&mut self) -> Result<(), String> {
        for node in 0..NODES {
            // Nobody asks any more, or waits.
            for (_, _, window) in std::mem::take(&mut self.nodes[node].waiting) {
                self.nodes[node].escrow.stop_waiting(&window);
            }
            while !self.nodes[node].in_flight.is_empty() {
                self.finish(node);
            }
            while !(self.nodes[node].commands.is_empty() && self.nodes[node].unsettled.is_empty()) {
                self.turn_with(node, None, Fate::Committed, true);
            }
            self.turn_with(node, None, Fate::Committed, true);
        }
        self.follow();
        self.check()?;
        for window in 0..WINDOWS {
            self.database.rows.get_mut(&window).unwrap().is_blocked = false;
            let row = self.database.rows[&window];
            if row.held != NanoUsd::ZERO {
                return Err(format!("window {window} holds {:?} for nobody", row.held));
            }
            let amount = row.limit.saturating_sub(row.posted);
            if amount <= NanoUsd::ZERO {
                continue;
            }
            let (before, id) = (self.admitted, self.new_id());
            let holds = vec![Draw { window, limit: row.limit, amount }];
            self.turn_with(usize::from(window) % NODES, Some((id, holds)), Fate::Committed, false);
            if self.admitted == before {
                return Err(format!("window {window} refused {amount:?}, which fits: {row:?}"));
            }
        }
        let is_known = |id: &u64| self.nodes.iter().any(|node| node.in_flight.contains_key(id));
        if !self.database.admissions.keys().all(is_known) {
            return Err("an admission is on record of which nobody knows".to_owned());
        }
        self.check()
    }
}
