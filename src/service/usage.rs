//! Usage: what the entries of the access log come to, and what of it an operator takes back.

use super::access_log::within_reach;
use super::alarm::REASON_BYTES_MAX;
use super::ledger::{CorrectError, Corrected, Correction};
use super::{Actor, ReadLogError, Services, StoreError};
use crate::base::{NanoUsd, hide_tokens, hide_tokens_in};
use crate::log::{AdminEntry, Filter};
use crate::store;
use crate::store::usage::{GroupBy, UsageRow};
use serde::Deserialize;
use serde_json::json;

/// A charge that an operator takes back, because the provider did not bill it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChargeRelease {
    /// The request whose entry charged it.
    pub request_id: String,
    /// Why; kept in the admin log.
    pub reason: String,
    /// How much of it; absent for all.
    #[serde(default)]
    pub amount_usd: Option<NanoUsd>,
}

/// Why a charge stays.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseChargeError {
    /// The reason is empty or too long.
    #[error("a reason has 1 to {REASON_BYTES_MAX} bytes")]
    Reason,
    /// Nothing is to be taken back.
    #[error("an amount to release is above 0")]
    Amount,
    /// The ledger does not take it back.
    #[error(transparent)]
    Correct(#[from] CorrectError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Services {
    /// Sums the entries that fit the filter, groups in order. Without groups there is one row.
    pub async fn usage(
        &self,
        actor: &Actor,
        filter: Filter,
        group_by: &[GroupBy],
    ) -> Result<Vec<UsageRow>, ReadLogError> {
        let filter = within_reach(actor, filter)?;
        let mut read = self.store.read().await?;
        Ok(store::usage::report(&mut read.conn(), &filter, group_by).await?)
    }

    /// Takes back what was charged for a request that a crash left without an outcome, for leases that it left, or for a
    /// response whose use was never told: once, by an entry of its own, and from the windows that were charged.
    pub async fn release_charge(
        &self,
        actor: &Actor,
        order: ChargeRelease,
    ) -> Result<Corrected, ReleaseChargeError> {
        let ChargeRelease { request_id, reason, amount_usd } = order;
        if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
            return Err(ReleaseChargeError::Reason);
        }
        if amount_usd == Some(NanoUsd::ZERO) {
            return Err(ReleaseChargeError::Amount);
        }
        let mut detail = json!({"operator_id": actor.operator.id, "reason": reason});
        hide_tokens_in(&mut detail);
        let entry = AdminEntry {
            time: self.clock.now(),
            actor: actor.operator.name.clone(),
            action: "usage.release".to_owned(),
            target: hide_tokens(&request_id).into_owned(),
            request_id: actor.request_id.clone(),
            detail,
        };
        let key = actor.idempotency_key.clone().map(|key| (actor.operator.id.clone(), key));
        let waiting = self.deferred_of(&request_id).await?;
        let correction = Correction { request_id, amount: amount_usd, entry, key, waiting };
        Ok(self.ledger.correct(correction).await?)
    }
}
