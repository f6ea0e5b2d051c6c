//! Corrections: what was charged because nobody knew how a request ended is taken back, once an operator knows.
//!
//! The entry that charged it stays as it is. Another one says how much less it is, names it, and is posted, negative, to
//! the windows that were charged, in the writer's turn; so the log goes on adding up to what is posted. It bears the time of
//! the entry that it corrects: usage, hour by hour, and the windows then show the same.
//!
//! A charge that waits for the use of work out of sight can be taken back, too, while it waits: whatever is told of it
//! later is not booked any more. It is corrected once, by whichever comes first.
//!
//! What keys of a project lost at once may be more than was leased to the project. So whatever is taken back of one
//! charge, a project goes on bearing what the others can still come to, as far as it was leased.

use super::Unrecorded;
use super::deferred::{is_as_signed, use_id};
use super::recover::{CRASH_CHARGE, run_of};
use super::turn::{self, Tools};
use super::writer::CorrectReply;
use crate::base::NanoUsd;
use crate::log::{AdminEntry, Decision, Entry, Outcome};
use crate::service::deferred::WaitingCharge;
use crate::store::access_log::Posting;
use crate::store::budget::{BudgetId, WindowId};
use crate::store::idempotency::{self, KeyUse};
use crate::store::{StoreError, access_log, admin_log, deferred};
use chrono::{DateTime, Utc};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

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
    /// What was signed of the charge, where it waits for a use that nobody has told.
    pub waiting: Option<WaitingCharge>,
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
    #[error("this was corrected already; an entry is corrected once")]
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
    for id in [use_id(&correction.request_id), release_id(&correction.request_id)] {
        if access_log::get(&mut tools.conn, &id).await?.is_some() {
            return Ok(Err(CorrectError::AlreadyDone { id }));
        }
    }
    let waiting = still_waiting(tools, correction, (&charge, &postings)).await?;
    let written = match run_of(&charge) {
        None => vec![(charge.clone(), postings)],
        // A crash's charges are of one moment, and what was taken back of them has their time.
        run => {
            let mut written = access_log::charged_at(&mut tools.conn, charge.time).await?;
            written.retain(|(entry, _)| run_of(entry) == run);
            written
        }
    };
    let amount = (correction.amount, waiting.is_some());
    let (entry, postings) = match corrected(&charge, &written, amount, tools.node) {
        Ok(written) => written,
        Err(error) => return Ok(Err(error)),
    };
    if let Some((operator_id, key)) = &correction.key {
        let used = KeyUse { operator_id, key, resource_id: &entry.request_id };
        if let Some(id) = idempotency::put(&mut tools.conn, used, correction.entry.time).await? {
            return Ok(Err(CorrectError::AlreadyDone { id }));
        }
    }
    if let Some(WaitingCharge { provider, response_id, request_id, .. }) = waiting {
        deferred::take(&mut tools.conn, provider, response_id, request_id).await?;
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

/// The charge that was found to wait, if it does so still, and the log says of it what was signed.
async fn still_waiting<'c>(
    tools: &mut Tools<'_>,
    correction: &'c Correction,
    (charge, postings): (&Entry, &[Posting]),
) -> Result<Option<&'c WaitingCharge>, StoreError> {
    let Some(waiting) = &correction.waiting else { return Ok(None) };
    let found = deferred::find(&mut tools.conn, &waiting.provider, &waiting.response_id).await?;
    let waits = found.is_some_and(|row| row.request_id == waiting.request_id);
    Ok((waits && is_as_signed(tools.alarms, waiting, (charge, postings))).then_some(waiting))
}

/// The request id of the entry by which the charge of this request is taken back.
pub(super) fn release_id(request_id: &str) -> String {
    format!("release-{request_id}")
}

/// The entry that takes `amount` of what was charged back, or all of it, and what of it each window gets. `written` is
/// that charge with its postings, and whatever else was charged for the same crash or taken back of it. `is_waiting`: its
/// use was never told.
fn corrected(
    charge: &Entry,
    written: &[(Entry, Vec<Posting>)],
    (amount, is_waiting): (Option<NanoUsd>, bool),
    node: &str,
) -> Result<(Entry, Vec<Posting>), CorrectError> {
    let charged = charge.cost_usd;
    if charge.corrects.is_some() {
        return Err(CorrectError::NotCorrectable("that entry corrects another one itself"));
    }
    let is_unknown = charge.outcome == Some(Outcome::UnknownOutcome);
    if charge.rule.as_deref() != Some(CRASH_CHARGE) && !is_unknown && !is_waiting {
        return Err(CorrectError::NotCorrectable(
            "only what was charged after a crash (rule crash_charge, outcome unknown_outcome), or for a background response whose use is still waited for, can be released; this request is neither",
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
    let borne = Borne::of(charge, written);
    let mut kept: BTreeMap<&BudgetId, NanoUsd> = BTreeMap::new();
    let back = borne.windows.iter().map(|(window, bears)| {
        let others = borne.others.get(&window.budget).copied().unwrap_or_default();
        let kept = kept.entry(&window.budget).or_default();
        let stays = remains.saturating_add(others).saturating_sub(*kept).min(*bears);
        *kept = kept.saturating_add(stays);
        Posting { amount_usd: Some(bears.saturating_sub(stays).negated()), ..Posting::all(window.clone()) }
    });
    let back = back.filter(|back| back.amount_usd != Some(NanoUsd::ZERO)).collect();
    let entry = Entry {
        time: charge.time,
        node: node.to_owned(),
        request_id: release_id(&charge.request_id),
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

/// What the budgets bear that a charge was posted to.
#[derive(Default)]
struct Borne {
    /// Each of their windows, of all that was charged at once and not taken back.
    windows: BTreeMap<WindowId, NanoUsd>,
    /// What the other charges can come to that bear on them.
    others: BTreeMap<BudgetId, NanoUsd>,
}

impl Borne {
    fn of(charge: &Entry, written: &[(Entry, Vec<Posting>)]) -> Self {
        let mut released: BTreeMap<&str, NanoUsd> = BTreeMap::new();
        for (entry, _) in written {
            if let Some(corrects) = entry.corrects.as_deref() {
                released.insert(corrects, entry.cost_usd);
            }
        }
        let own = written.iter().find(|(entry, _)| entry.request_id == charge.request_id);
        let budgets: BTreeSet<&BudgetId> =
            own.into_iter().flat_map(|(_, postings)| postings).map(|posting| &posting.budget).collect();
        let mut borne = Self::default();
        for (entry, postings) in written {
            let mut bears_on = BTreeSet::new();
            for posting in postings.iter().filter(|posting| budgets.contains(&posting.budget)) {
                bears_on.insert(&posting.budget);
                let sum = borne.windows.entry(posting.clone().window()).or_default();
                *sum = sum.saturating_add(posting.amount_usd.unwrap_or(entry.cost_usd));
            }
            if entry.corrects.is_some() || entry.request_id == charge.request_id {
                continue;
            }
            let taken_back = released.get(entry.request_id.as_str()).copied().unwrap_or_default();
            for budget in bears_on {
                let sum = borne.others.entry(budget.clone()).or_default();
                *sum = sum.saturating_add(entry.cost_usd).saturating_add(taken_back);
            }
        }
        borne
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Window;
    use crate::store::budget::BudgetOwner;
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

    /// What is taken back of a charge that stands alone.
    fn alone(
        charge: &Entry,
        postings: &[Posting],
        amount: Option<NanoUsd>,
    ) -> Result<(Entry, Vec<Posting>), CorrectError> {
        corrected(charge, &[(charge.clone(), postings.to_vec())], (amount, false), "n")
    }

    fn amounts(postings: &[Posting]) -> Vec<Option<i64>> {
        postings.iter().map(|posting| posting.amount_usd.map(NanoUsd::as_nano)).collect()
    }

    #[test]
    fn all_of_a_charge_is_taken_back_from_every_window() {
        let charge = charge(None, Some(Outcome::UnknownOutcome));
        let postings = [Posting::all(window(Window::Hour, 1)), Posting::all(window(Window::Day, 2))];
        let (entry, back) = alone(&charge, &postings, None).unwrap();
        assert_eq!((entry.cost_usd, entry.count, entry.corrects.as_deref()), (usd(-100), 0, Some("r")));
        assert_eq!(
            (entry.rule.as_deref(), entry.outcome, entry.time),
            (Some("correction"), None, charge.time)
        );
        assert_eq!(amounts(&back), [Some(-100), Some(-100)]);
        let (entry, back) = alone(&charge, &postings, Some(usd(30))).unwrap();
        assert_eq!((entry.cost_usd, amounts(&back)), (usd(-30), vec![Some(-30), Some(-30)]));
    }

    #[test]
    fn a_window_that_bore_less_gives_back_what_is_above_the_rest() {
        let charge = charge(Some(CRASH_CHARGE), Some(Outcome::UnknownOutcome));
        let postings = [(Window::Day, 60), (Window::Hour, 100), (Window::Month, 10)]
            .map(|(of, nano)| Posting { amount_usd: Some(usd(nano)), ..Posting::all(window(of, 1)) });
        for (amount, expected) in [
            (None, vec![-60, -100, -10]),
            (Some(70), vec![-30, -70]),
            (Some(30), vec![-30]),
            (Some(0), vec![]),
        ] {
            let (_, back) = alone(&charge, &postings, amount.map(usd)).unwrap();
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
            let (_, back) = alone(&charge, &postings, Some(usd(amount))).unwrap();
            let expected: Vec<_> = expected.into_iter().map(Some).collect();
            assert_eq!(amounts(&back), expected, "{amount}");
        }
    }

    /// Two keys lost 100 each, and their project, to which 120 was leased, so much.
    #[test]
    fn a_project_goes_on_bearing_what_its_other_keys_can_come_to() {
        let of = |owner: BudgetOwner| WindowId {
            budget: BudgetId::new(&owner, Window::Total),
            window_start: DateTime::UNIX_EPOCH,
        };
        let key = |id| of(BudgetOwner::subkey(&SubKeyId::parse(id).unwrap()));
        let (one, other, team) =
            (key("0123456789abcdef"), key("fedcba9876543210"), of(BudgetOwner::project("team")));
        let posting =
            |window: &WindowId, nano| Posting { amount_usd: Some(usd(nano)), ..Posting::all(window.clone()) };
        let lost = |id: &str, postings: Vec<Posting>| {
            (
                Entry { request_id: id.into(), ..charge(Some(CRASH_CHARGE), Some(Outcome::UnknownOutcome)) },
                postings,
            )
        };
        let first = lost("crash-1-a", vec![posting(&one, 100), posting(&team, 100)]);
        let second = lost("crash-1-b", vec![posting(&other, 100), posting(&team, 20)]);
        for (parts, expected) in [
            ([None, None], [[100, 20], [100, 100]]),
            // What remains of the two is less than was leased to the project.
            ([Some(60), Some(60)], [[60, 0], [60, 40]]),
            ([Some(60), None], [[60, 0], [100, 80]]),
        ] {
            let mut written = vec![first.clone(), second.clone()];
            let mut left = 120;
            for (at, (charge, own)) in [(&first.0, &one), (&second.0, &other)].into_iter().enumerate() {
                let (entry, back) = corrected(charge, &written, (parts[at].map(usd), false), "n").unwrap();
                let of = |window: &WindowId| {
                    let posting = back.iter().find(|back| (*back).clone().window() == *window);
                    posting.map_or(0, |back| -back.amount_usd.unwrap().as_nano())
                };
                assert_eq!([of(own), of(&team)], expected[at], "{parts:?}");
                left -= of(&team);
                written.push((entry, back));
            }
            let remain = |amount: Option<i64>| 100 - amount.unwrap_or(100);
            assert_eq!(left, 120.min(remain(parts[0]) + remain(parts[1])), "{parts:?}");
        }
    }

    #[test]
    fn nothing_else_is_taken_back_and_no_more_than_was_charged() {
        let refused =
            |charge: Entry| matches!(alone(&charge, &[], None), Err(CorrectError::NotCorrectable(_)));
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
        assert!(matches!(alone(&unknown, &[], Some(usd(101))), Err(CorrectError::TooMuch { .. })));
    }
}
