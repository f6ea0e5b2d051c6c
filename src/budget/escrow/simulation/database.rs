//! The simulated database: what is durable.

use super::super::Row;
use super::Holds;
use crate::base::NanoUsd;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Database {
    pub(super) rows: BTreeMap<u8, Row>,
    pub(super) leases: BTreeMap<(usize, u8), NanoUsd>,
    pub(super) admissions: BTreeMap<u64, (usize, Holds)>,
    pub(super) settled: BTreeSet<u64>,
    /// What was billed above what was held, and is posted.
    pub(super) above: BTreeMap<u8, NanoUsd>,
}

/// What a transaction is to change.
#[derive(Default)]
pub(super) struct Transaction {
    pub(super) rows: Vec<(u8, Row)>,
    pub(super) leases: Vec<(u8, NanoUsd)>,
    pub(super) admitted: Vec<(u64, Holds)>,
    pub(super) resolved: BTreeSet<u64>,
    pub(super) above: Vec<(u8, NanoUsd)>,
}

impl Database {
    pub(super) fn lease(&self, node: usize, window: u8) -> NanoUsd {
        self.leases.get(&(node, window)).copied().unwrap_or_default()
    }

    pub(super) fn commit(&mut self, node: usize, transaction: Transaction) {
        self.rows.extend(transaction.rows);
        self.leases.extend(transaction.leases.into_iter().map(|(window, amount)| ((node, window), amount)));
        self.admissions.extend(transaction.admitted.into_iter().map(|(id, holds)| (id, (node, holds))));
        for (window, amount) in transaction.above {
            let above = self.above.entry(window).or_default();
            *above = above.saturating_add(amount);
        }
        for id in transaction.resolved {
            self.admissions.remove(&id);
            self.settled.insert(id);
        }
    }
}
