//! Corrections: what was charged because nobody knew how a request ended is taken back, once an operator knows.
//!
//! The entry that charged it stays as it is. Another one says how much less it is, names it, and is posted, negative, to
//! the windows that were charged, in the writer's turn; so the log goes on adding up to what is posted. It bears the time of
//! the entry that it corrects: usage, hour by hour, and the windows then show the same.

use super::Unrecorded;
use super::recover::CRASH_CHARGE;
use super::turn::{self, Tools};
use super::writer::CorrectReply;
use crate::base::NanoUsd;
use crate::log::{AdminEntry, Decision, Entry, Outcome};
use crate::store::access_log::Posting;
use crate::store::budget::WindowId;
use crate::store::idempotency::{self, KeyUse};
use crate::store::{StoreError, access_log, admin_log};
use chrono::{DateTime, Utc};
use serde_json::json;
use std::collections::BTreeMap;

/// What the entry of a correction has for a rule.
const CORRECTION: &str = "correction";

/// What an operator takes back.
#[derive(Clone, Debug)]
pub struct Correction {
    /// The request whose entry charged it.
    pub request_id: String,
    /// How much of it; `None` for all.
    pub amount: Option<NanoUsd>,
    /// The entry of the admin log that is written with it; what it came to is added.
    pub entry: AdminEntry,
    /// Who asked, and the request's own name for what it does.
    pub key: Option<(String, String)>,
}

/// What was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrected {
    /// The request id of the entry that says so.
    pub request_id: String,
    /// When what was corrected was charged.
    pub time: DateTime<Utc>,
    /// What was charged.
    pub charged: NanoUsd,
    /// How much of it was taken back.
    pub released: NanoUsd,
    /// From which windows, and how much from each.
    pub windows: Vec<(WindowId, NanoUsd)>,
}

/// Why nothing was taken back.
#[derive(Debug, thiserror::Error)]
pub enum CorrectError {
    /// There is no entry of such a request.
    #[error("the access log has no entry of such a request")]
    NotFound,
    /// What was charged is known to be right, or the provider's to say.
    #[error("{0}")]
    NotCorrectable(&'static str),
    /// More than was charged.
    #[error("{charged} USD were charged, and no more can be released")]
    TooMuch {
        /// What was.
        charged: NanoUsd,
    },
    /// It was taken back before, or the request is a repeat.
    #[error("this was released already; an entry is released once")]
    AlreadyDone {
        /// The entry that says so.
        id: String,
    },
    /// The ledger cannot be written.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
}

/// Writes the entries of all of them. What is taken back from the windows is for the turn to do.
pub(super) async fn all(
    tools: &mut Tools<'_>,
    corrections: &[(Box<Correction>, CorrectReply)],
) -> Result<Vec<Result<Corrected, CorrectError>>, StoreError> {
    let mut corrected = Vec::with_capacity(corrections.len());
    for (correction, _) in corrections {
        corrected.push(one(tools, correction).await?);
    }
    Ok(corrected)
}

async fn one(
    tools: &mut Tools<'_>,
    correction: &Correction,
) -> Result<Result<Corrected, CorrectError>, StoreError> {
    let Some((charge, postings)) = access_log::charged(&mut tools.conn, &correction.request_id).await? else {
        return Ok(Err(CorrectError::NotFound));
    };
    let (entry, postings) = match corrected(&charge, &postings, correction.amount, tools.node) {
        Ok(written) => written,
        Err(error) => return Ok(Err(error)),
    };
    let id = &entry.request_id;
    if access_log::get(&mut tools.conn, id).await?.is_some() {
        return Ok(Err(CorrectError::AlreadyDone { id: id.clone() }));
    }
    if let Some((operator_id, key)) = &correction.key {
        let used = KeyUse { operator_id, key, resource_id: id };
        if let Some(id) = idempotency::put(&mut tools.conn, used, correction.entry.time).await? {
            return Ok(Err(CorrectError::AlreadyDone { id }));
        }
    }
    turn::append(tools, &entry, &postings).await?;
    let released = entry.cost_usd.negated();
    let windows: Vec<(WindowId, NanoUsd)> = postings
        .into_iter()
        .map(|posting| {
            let amount = posting.amount_usd.unwrap_or(entry.cost_usd).negated();
            (posting.window(), amount)
        })
        .collect();
    let mut told = correction.entry.clone();
    told.detail["entry"] = json!(entry.request_id);
    told.detail["charged_usd"] = json!(charge.cost_usd);
    told.detail["released_usd"] = json!(released);
    told.detail["windows"] = windows
        .iter()
        .map(|(window, amount)| {
            json!({"budget": window.budget, "window_start": window.window_start, "released_usd": amount})
        })
        .collect();
    admin_log::append(&mut tools.conn, &told).await?;
    let Entry { request_id, time, .. } = entry;
    Ok(Ok(Corrected { request_id, time, charged: charge.cost_usd, released, windows }))
}

/// The entry that takes `amount` of what was charged back, or all of it, and what of it each window gets.
fn corrected(
    charge: &Entry,
    postings: &[Posting],
    amount: Option<NanoUsd>,
    node: &str,
) -> Result<(Entry, Vec<Posting>), CorrectError> {
    let charged = charge.cost_usd;
    if charge.corrects.is_some() {
        return Err(CorrectError::NotCorrectable("that entry is a release itself"));
    }
    let is_unknown = charge.outcome == Some(Outcome::UnknownOutcome);
    if charge.rule.as_deref() != Some(CRASH_CHARGE) && !is_unknown {
        return Err(CorrectError::NotCorrectable(
            "only what was charged after a crash (rule crash_charge, outcome unknown_outcome) can be released; this request's end is known",
        ));
    }
    if charged <= NanoUsd::ZERO {
        return Err(CorrectError::NotCorrectable("nothing was charged for this request"));
    }
    let amount = amount.unwrap_or(charged);
    if amount > charged {
        return Err(CorrectError::TooMuch { charged });
    }
    // A budget bore up to all of the charge, in one window or more, and goes on bearing up to what remains of it: the
    // earlier windows before the later ones, which requests may still need.
    let remains = charged.saturating_sub(amount);
    let mut borne: BTreeMap<&str, NanoUsd> = BTreeMap::new();
    let mut in_order: Vec<&Posting> = postings.iter().collect();
    in_order.sort_by_key(|posting| posting.window_start);
    let back = in_order.into_iter().map(|posting| {
        let posted = posting.amount_usd.unwrap_or(charged);
        let borne = borne.entry(posting.budget.as_str()).or_default();
        let stays = posted.min(remains.saturating_sub(*borne));
        *borne = borne.saturating_add(stays);
        Posting { amount_usd: Some(posted.saturating_sub(stays).negated()), ..posting.clone() }
    });
    let back = back.filter(|back| back.amount_usd != Some(NanoUsd::ZERO)).collect();
    let entry = Entry {
        time: charge.time,
        node: node.to_owned(),
        request_id: format!("release-{}", charge.request_id),
        subkey_id: charge.subkey_id.clone(),
        subkey_name: charge.subkey_name.clone(),
        project: charge.project.clone(),
        owner: charge.owner.clone(),
        operation: charge.operation.clone(),
        model: charge.model.clone(),
        provider: charge.provider.clone(),
        credential_id: charge.credential_id.clone(),
        decision: Decision::Allowed,
        rule: Some(CORRECTION.to_owned()),
        cost_usd: amount.negated(),
        price_version: charge.price_version.clone(),
        labels: charge.labels.clone(),
        tags: charge.tags.clone(),
        corrects: Some(charge.request_id.clone()),
        ..Entry::default()
    };
    Ok((entry, back))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Window;
    use crate::store::budget::{BudgetId, BudgetOwner};
    use crate::subkey::SubKeyId;
    use chrono::DateTime;

    fn window(of: Window, start: i64) -> WindowId {
        let owner = BudgetOwner::subkey(&SubKeyId::parse("0123456789abcdef").unwrap());
        let window_start = DateTime::from_timestamp(start, 0).unwrap();
        WindowId { budget: BudgetId::new(&owner, of), window_start }
    }

    fn usd(nano: i64) -> NanoUsd {
        NanoUsd::from_nano(nano)
    }

    fn charge(rule: Option<&str>, outcome: Option<Outcome>) -> Entry {
        Entry {
            request_id: "r".into(),
            cost_usd: usd(100),
            rule: rule.map(str::to_owned),
            outcome,
            count: 1,
            ..Entry::default()
        }
    }

    fn amounts(postings: &[Posting]) -> Vec<Option<i64>> {
        postings.iter().map(|posting| posting.amount_usd.map(NanoUsd::as_nano)).collect()
    }

    #[test]
    fn all_of_a_charge_is_taken_back_from_every_window() {
        let charge = charge(None, Some(Outcome::UnknownOutcome));
        let postings = [Posting::all(window(Window::Hour, 1)), Posting::all(window(Window::Day, 2))];
        let (entry, back) = corrected(&charge, &postings, None, "n").unwrap();
        assert_eq!((entry.cost_usd, entry.count, entry.corrects.as_deref()), (usd(-100), 0, Some("r")));
        assert_eq!(
            (entry.rule.as_deref(), entry.outcome, entry.time),
            (Some("correction"), None, charge.time)
        );
        assert_eq!(amounts(&back), [Some(-100), Some(-100)]);
        let (entry, back) = corrected(&charge, &postings, Some(usd(30)), "n").unwrap();
        assert_eq!((entry.cost_usd, amounts(&back)), (usd(-30), vec![Some(-30), Some(-30)]));
    }

    #[test]
    fn a_window_that_bore_less_gives_back_what_is_above_the_rest() {
        let charge = charge(Some(CRASH_CHARGE), Some(Outcome::UnknownOutcome));
        let postings = [(Window::Hour, 100), (Window::Day, 60), (Window::Month, 10)]
            .map(|(of, nano)| Posting { amount_usd: Some(usd(nano)), ..Posting::all(window(of, 1)) });
        for (amount, expected) in [
            (None, vec![-100, -60, -10]),
            (Some(70), vec![-70, -30]),
            (Some(30), vec![-30]),
            (Some(0), vec![]),
        ] {
            let (_, back) = corrected(&charge, &postings, amount.map(usd), "n").unwrap();
            let expected: Vec<_> = expected.into_iter().map(Some).collect();
            assert_eq!(amounts(&back), expected, "{amount:?}");
        }
    }

    #[test]
    fn of_several_windows_of_a_budget_the_later_ones_give_back_first() {
        let charge = charge(Some(CRASH_CHARGE), Some(Outcome::UnknownOutcome));
        let postings = [(7_200, 30), (0, 50), (3_600, 20)].map(|(start, nano)| Posting {
            amount_usd: Some(usd(nano)),
            ..Posting::all(window(Window::Hour, start))
        });
        for (amount, expected) in
            [(100, vec![-50, -20, -30]), (60, vec![-10, -20, -30]), (30, vec![-30]), (10, vec![-10])]
        {
            let (_, back) = corrected(&charge, &postings, Some(usd(amount)), "n").unwrap();
            let expected: Vec<_> = expected.into_iter().map(Some).collect();
            assert_eq!(amounts(&back), expected, "{amount}");
        }
    }

    #[test]
    fn nothing_else_is_taken_back_and_no_more_than_was_charged() {
        let refused = |charge: Entry| {
            matches!(corrected(&charge, &[], None, "n"), Err(CorrectError::NotCorrectable(_)))
        };
        let unknown = charge(None, Some(Outcome::UnknownOutcome));
        for outcome in [
            None,
            Some(Outcome::Completed),
            Some(Outcome::UpstreamFailed),
            Some(Outcome::ClientGone),
            Some(Outcome::Cut),
        ] {
            assert!(refused(charge(None, outcome)), "{outcome:?}");
        }
        assert!(refused(Entry { corrects: Some("q".into()), ..unknown.clone() }));
        assert!(refused(Entry { cost_usd: NanoUsd::ZERO, ..unknown.clone() }));
        assert!(matches!(corrected(&unknown, &[], Some(usd(101)), "n"), Err(CorrectError::TooMuch { .. })));
    }
}
