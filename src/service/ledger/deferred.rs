//! Charges that are set right once the use is told that they are for.
//!
//! What goes on behind its answer is charged in full when it is accepted. Whoever reads later what it used has that
//! booked with his own entry: another entry says by how much the charge was wrong, names it, bears its time, and is
//! posted to the windows that it was posted to. The row that waits for it is taken in the same transaction, and the entry
//! is named after the charge, so however many read it at once, and wherever, it is booked once.

use super::turn::{self, Tools};
use super::writer::Unsettled;
use crate::base::NanoUsd;
use crate::log::Entry;
use crate::provider::{ObjectId, Slug};
use crate::store::access_log::Posting;
use crate::store::budget::WindowId;
use crate::store::{StoreError, access_log, deferred};

/// What the entry has for a rule.
const DEFERRED_USE: &str = "deferred_use";

/// A use that was told.
#[derive(Clone, Debug)]
pub struct ToldUse {
    /// The provider that told it.
    pub provider: Slug,
    /// The response that tells it.
    pub response_id: ObjectId,
    /// The request whose charge is for it.
    pub request_id: String,
    /// What it comes to.
    pub cost: NanoUsd,
    /// That is above what was held for it: its windows are blocked, and an alarm is raised.
    pub is_above: bool,
    /// What the entry says of it: tokens, model, how it ended.
    pub entry: Entry,
}

/// A use that was booked.
pub(super) struct Booked {
    /// By how much each window changes; negative where too much was charged.
    pub(super) windows: Vec<(WindowId, NanoUsd)>,
    pub(super) is_above: bool,
}

/// Writes what waits, and books what was told, in the order of the settlements. `is_first` says of each whether it was not
/// written before, by a commit of which nobody knew.
pub(super) async fn keep(
    tools: &mut Tools<'_>,
    unsettled: &[Unsettled],
    is_first: impl Iterator<Item = bool>,
) -> Result<Vec<Booked>, StoreError> {
    let mut booked = Vec::new();
    for ((settlement, _), is_first) in unsettled.iter().zip(is_first) {
        if let Some(charge) = settlement.objects.deferred.as_deref() {
            deferred::insert(&mut tools.conn, charge).await?;
        }
        if let Some(told) = settlement.objects.told.as_deref().filter(|_| is_first) {
            booked.extend(book(tools, told).await?);
        }
    }
    Ok(booked)
}

async fn book(tools: &mut Tools<'_>, told: &ToldUse) -> Result<Option<Booked>, StoreError> {
    let ToldUse { provider, response_id, request_id, .. } = told;
    if !deferred::take(&mut tools.conn, provider, response_id, request_id).await? {
        return Ok(None);
    }
    let Some((charge, postings)) = access_log::charged(&mut tools.conn, request_id).await? else {
        return Ok(None);
    };
    let (entry, postings) = delta(&charge, postings, told, tools.node);
    if !turn::append(tools, &entry, &postings).await? {
        return Ok(None);
    }
    let windows = postings.into_iter().map(|posting| (posting.window(), entry.cost_usd)).collect();
    Ok(Some(Booked { windows, is_above: told.is_above }))
}

/// The entry by which the charge becomes what was used, and where it is posted.
fn delta(charge: &Entry, postings: Vec<Posting>, told: &ToldUse, node: &str) -> (Entry, Vec<Posting>) {
    let entry = Entry {
        time: charge.time,
        node: node.to_owned(),
        request_id: format!("use-{}", charge.request_id),
        subkey_id: charge.subkey_id.clone(),
        subkey_name: charge.subkey_name.clone(),
        project: charge.project.clone(),
        owner: charge.owner.clone(),
        operation: charge.operation.clone(),
        dialect: charge.dialect.clone(),
        model: charge.model.clone(),
        provider: charge.provider.clone(),
        credential_id: charge.credential_id.clone(),
        decision: charge.decision,
        rule: Some(DEFERRED_USE.to_owned()),
        count: 0,
        cost_usd: told.cost.saturating_sub(charge.cost_usd),
        price_version: charge.price_version.clone(),
        labels: charge.labels.clone(),
        tags: charge.tags.clone(),
        corrects: Some(charge.request_id.clone()),
        ..told.entry.clone()
    };
    let postings = postings.into_iter().map(|posting| Posting::all(posting.window())).collect();
    (entry, postings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Decision, UsageSource};

    #[test]
    fn the_entry_is_the_charges_by_how_much_it_was_wrong() {
        let usd = NanoUsd::from_nano;
        let charge = Entry {
            request_id: "req_1".into(),
            subkey_id: "maker".into(),
            decision: Decision::Allowed,
            count: 1,
            cost_usd: usd(100),
            rule: None,
            ..Entry::default()
        };
        for (cost, by) in [(30, -70), (100, 0), (130, 30), (0, -100)] {
            let told = ToldUse {
                provider: "p".parse().unwrap(),
                response_id: "resp_1".parse().unwrap(),
                request_id: "req_1".into(),
                cost: usd(cost),
                is_above: false,
                entry: Entry { output_tokens: 7, usage_source: UsageSource::Reported, ..Entry::default() },
            };
            let (entry, _) = delta(&charge, Vec::new(), &told, "n");
            assert_eq!((entry.cost_usd, entry.count, entry.output_tokens), (usd(by), 0, 7));
            assert_eq!((entry.request_id.as_str(), entry.corrects.as_deref()), ("use-req_1", Some("req_1")));
            assert_eq!((entry.subkey_id.as_str(), entry.decision), ("maker", Decision::Allowed));
        }
    }
}
