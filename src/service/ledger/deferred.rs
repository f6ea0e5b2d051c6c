//! Charges that are set right once the use is told that they are for.
//!
//! By how much is said by what was signed when it was charged, never by the log alone, which is not: a log that says
//! anything else books nothing.
//!
//! What goes on behind its answer is charged in full when it is accepted. Whoever reads later what it used has that
//! booked with his own entry: another entry says by how much the charge was wrong, names it, bears its time, and is
//! posted to the windows that it was posted to. The row that waits for it is taken in the same transaction, and the entry
//! is named after the charge, so however many read it at once, and wherever, it is booked once.

use super::correct::release_id;
use super::turn::{self, Tools};
use super::writer::Unsettled;
use crate::base::NanoUsd;
use crate::log::{AlarmKind, Entry};
use crate::service::Alarms;
use crate::service::deferred::WaitingCharge;
use crate::store::access_log::Posting;
use crate::store::budget::WindowId;
use crate::store::{StoreError, access_log, deferred};
use serde_json::json;

/// What the entry has for a rule.
const DEFERRED_USE: &str = "deferred_use";

/// A use that was told.
#[derive(Clone, Debug)]
pub struct ToldUse {
    /// The charge that is for it.
    pub waiting: WaitingCharge,
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
    // What was written before, by a commit of which nobody knew, wrote its row, too: by now that may be taken.
    let first = unsettled.iter().zip(is_first).filter(|(_, is_first)| *is_first);
    let first: Vec<_> = first.map(|((settlement, _), _)| &settlement.objects).collect();
    // In one order, whoever else takes several of them.
    let mut charges: Vec<_> = first.iter().filter_map(|objects| objects.deferred.as_deref()).collect();
    charges.sort_by_key(|charge| (&charge.response_id, &charge.provider));
    for charge in charges {
        deferred::insert(&mut tools.conn, charge).await?;
    }
    let mut told: Vec<_> = first.iter().filter_map(|objects| objects.told.as_deref()).collect();
    told.sort_by_key(|told| (&told.waiting.response_id, &told.waiting.provider));
    let mut booked = Vec::new();
    for told in told {
        booked.extend(book(tools, told).await?);
    }
    Ok(booked)
}

async fn book(tools: &mut Tools<'_>, told: &ToldUse) -> Result<Option<Booked>, StoreError> {
    let WaitingCharge { provider, response_id, request_id, .. } = &told.waiting;
    let Some((charge, postings)) = access_log::charged(&mut tools.conn, request_id).await? else {
        return Ok(None);
    };
    if !is_as_signed(tools.alarms, &told.waiting, (&charge, &postings)) {
        return Ok(None);
    }
    if !deferred::take(&mut tools.conn, provider, response_id, request_id).await? {
        return Ok(None);
    }
    // An operator has said what it comes to.
    if access_log::get(&mut tools.conn, &release_id(request_id)).await?.is_some() {
        return Ok(None);
    }
    let (entry, postings) = delta(&charge, told, tools.node);
    if !turn::append(tools, &entry, &postings).await? {
        return Ok(None);
    }
    let windows = postings.into_iter().map(|posting| (posting.window(), entry.cost_usd)).collect();
    Ok(Some(Booked { windows, is_above: told.is_above }))
}

/// Whether the log says of the charge what was signed; if not, that is told.
pub(super) fn is_as_signed(
    alarms: &Alarms,
    waiting: &WaitingCharge,
    (charge, postings): (&Entry, &[Posting]),
) -> bool {
    let WaitingCharge { request_id, deferral, .. } = waiting;
    let is_same = deferral.is_of(charge, postings);
    if !is_same {
        let detail = json!({
            "charged_usd": deferral.charged_usd, "found_usd": charge.cost_usd,
            "windows": deferral.windows, "found_windows": postings,
        });
        alarms.raise(AlarmKind::RowTampered, &format!("access_log/{request_id}"), &detail);
    }
    is_same
}

/// The request id of the entry by which the use of this request is booked.
pub(super) fn use_id(request_id: &str) -> String {
    format!("use-{request_id}")
}

/// The entry by which the charge becomes what was used, and where it is posted.
fn delta(charge: &Entry, told: &ToldUse, node: &str) -> (Entry, Vec<Posting>) {
    let WaitingCharge { request_id, deferral, .. } = &told.waiting;
    let reported = told.entry.model_reported.clone();
    let entry = Entry {
        time: charge.time,
        node: node.to_owned(),
        request_id: use_id(request_id),
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
        model_reported: reported.filter(|model| Some(model) != charge.model.as_ref()),
        cost_usd: told.cost.saturating_sub(deferral.charged_usd),
        price_version: charge.price_version.clone(),
        labels: charge.labels.clone(),
        tags: charge.tags.clone(),
        corrects: Some(request_id.clone()),
        ..told.entry.clone()
    };
    (entry, deferral.windows.iter().cloned().map(Posting::all).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Decision, UsageSource};
    use crate::service::deferred::Deferral;

    fn waiting(charged_usd: NanoUsd) -> WaitingCharge {
        let terms = json!({
            "prices": {}, "factors": crate::provider::Factors::LIST, "hosted": [], "picture_fees": "0",
            "bound": "0.10", "is_capped": true,
        });
        WaitingCharge {
            provider: "p".parse().unwrap(),
            response_id: "resp_1".parse().unwrap(),
            request_id: "req_1".into(),
            deferral: Deferral {
                terms: serde_json::from_value(terms).unwrap(),
                charged_usd,
                windows: Vec::new(),
                model: "m".into(),
                price_version: None,
                is_bounded: true,
            },
        }
    }

    #[test]
    fn the_entry_is_the_charges_by_how_much_it_was_wrong() {
        let usd = NanoUsd::from_nano;
        let charge = Entry {
            request_id: "req_1".into(),
            subkey_id: "maker".into(),
            decision: Decision::Allowed,
            count: 1,
            cost_usd: usd(100),
            model: Some("m".into()),
            rule: None,
            ..Entry::default()
        };
        for (cost, by) in [(30, -70), (100, 0), (130, 30), (0, -100)] {
            let told = ToldUse {
                waiting: waiting(usd(100)),
                cost: usd(cost),
                is_above: false,
                entry: Entry {
                    output_tokens: 7,
                    usage_source: UsageSource::Reported,
                    model_reported: Some("m".into()),
                    ..Entry::default()
                },
            };
            let (entry, _) = delta(&charge, &told, "n");
            assert_eq!(entry.model_reported, None, "it is the one that was asked for");
            assert_eq!((entry.cost_usd, entry.count, entry.output_tokens), (usd(by), 0, 7));
            assert_eq!((entry.request_id.as_str(), entry.corrects.as_deref()), ("use-req_1", Some("req_1")));
            assert_eq!((entry.subkey_id.as_str(), entry.decision), ("maker", Decision::Allowed));
        }
    }
}
