//! Why a request was refused, from the rules' words to the caller's: a code, and what to do.

use super::refusal::{Code, Refusal};
use crate::base::{NanoUsd, clip};
use crate::budget::Balance;
use crate::policy::{Denial, Rule};
use crate::provider::{ResolveError, Unpriced};
use crate::service::{Caller, Hold, Misplaced, Stopped, Unpayable};
use serde_json::json;

/// A rule's refusal in the words of the contract, and whose ceiling it was.
pub(super) fn denied(denial: &Denial) -> Refusal {
    let refusal = by_rule(denial);
    match &denial.ceiling {
        Some(project) => {
            let message = format!("{} The ceiling of the project {project} refuses it.", refusal.message);
            Refusal { message, ..refusal }.details(json!({"ceiling": format!("project:{project}")}))
        }
        None => refusal,
    }
}

/// A project above the key is not what Bitting wrote.
fn project_unusable(project: &str) -> Refusal {
    let message = format!(
        "The record of this sub-key's project {project} was changed outside of Bitting, so it is not used. Your security \
         team has to look at it."
    );
    Refusal::new(Code::KeySuspended, message).rule("row_tampered")
}

fn by_rule(denial: &Denial) -> Refusal {
    let value = clip(&denial.value, 256);
    match denial.rule {
        Rule::NotBefore => Refusal::new(Code::KeyNotYetValid, "This sub-key is not valid yet."),
        Rule::Expiry => Refusal::new(Code::KeyExpired, "This sub-key has expired."),
        Rule::ClientIp => {
            Refusal::new(Code::IpNotAllowed, format!("This sub-key may not be used from {value}."))
        }
        Rule::Operation => Refusal::new(
            Code::OperationNotAllowed,
            format!("This sub-key may not use the operation {value}."),
        ),
        Rule::Model => {
            let message =
                format!("This sub-key may not use the model {value}. GET models lists those it may use.");
            Refusal::new(Code::ModelNotAllowed, message).param("model")
        }
        Rule::Feature => Refusal::new(
            Code::FeatureNotAllowed,
            format!("This sub-key does not allow this: {value} is off."),
        ),
        Rule::HostedTool => Refusal::new(
            Code::FeatureNotAllowed,
            format!("This sub-key may not have the provider run the tool {value}."),
        )
        .param("tools"),
        Rule::Beta => {
            let message = format!("This sub-key may not ask for the beta {value}. Leave it out.");
            Refusal::new(Code::FeatureNotAllowed, message).param("betas")
        }
        Rule::ServiceTier => {
            let message = format!("This sub-key may not ask for the service tier {value}.");
            Refusal::new(Code::FeatureNotAllowed, message).param("service_tier")
        }
        Rule::StrictFields => {
            let message = format!("This sub-key admits known fields only, and {value} is none.");
            Refusal::new(Code::FeatureNotAllowed, message).param(value)
        }
        Rule::OutputBound => {
            let bound = if denial.value == u64::MAX.to_string() {
                "no bound".to_owned()
            } else {
                format!("{value} tokens")
            };
            let message = format!(
                "The output bound ({bound}) is above what this sub-key may ask for. State a lower one."
            );
            Refusal::new(Code::OutputBoundExceeded, message)
        }
    }
}

/// No one model of one provider is meant.
pub(super) fn misplaced(error: &Misplaced) -> Refusal {
    let (code, field) = match error {
        Misplaced::Unresolved(error) => return unresolved(error),
        Misplaced::Ambiguous(_) => (Code::ModelAmbiguous, None),
        Misplaced::Twice { .. } => (Code::ModelAmbiguous, Some("model")),
        Misplaced::Deployment { .. } => (Code::ModelNotAllowed, Some("model")),
    };
    let refusal = Refusal::new(code, clip(&error.to_string(), 600));
    match field {
        Some(field) => refusal.param(field),
        None => refusal,
    }
}

/// The request has no price that it may have.
pub(super) fn unpayable(error: &Unpayable, caller: &Caller, model: &str) -> Refusal {
    match error {
        Unpayable::Unpriced(error) => unpriced(error, model),
        Unpayable::TooExpensive { worst, max } => {
            let project = caller.request_cap().and_then(|(project, _)| project);
            too_expensive(*worst, (project, *max))
        }
    }
}

/// A key that does nothing at all.
pub(super) fn stopped(why: &Stopped) -> Refusal {
    match why {
        Stopped::Tampered => Refusal::new(
            Code::KeySuspended,
            "This sub-key's record was changed outside of Bitting, so it is not used. Your security team has to look at it.",
        )
        .rule("row_tampered"),
        Stopped::ProjectSuspended(project) => {
            let message = format!("The project {project} of this sub-key is suspended. Ask your security team.");
            Refusal::new(Code::KeySuspended, message)
        }
        Stopped::ProjectUnusable(project) => project_unusable(project),
        Stopped::Revoked => Refusal::new(
            Code::KeyRevoked,
            "This sub-key was revoked. Ask your security team for a new one.",
        ),
        Stopped::Suspended => {
            Refusal::new(Code::KeySuspended, "This sub-key is suspended. Ask your security team.")
        }
        Stopped::NotYetValid => Refusal::new(Code::KeyNotYetValid, "This sub-key is not valid yet."),
        Stopped::Expired => Refusal::new(
            Code::KeyExpired,
            "This sub-key has expired. Ask your security team for a new one.",
        ),
    }
}

fn unresolved(error: &ResolveError) -> Refusal {
    let code = match error {
        ResolveError::UnknownProvider(_) => Code::UnknownOperation,
        ResolveError::ModelRequired => Code::ModelRequired,
        ResolveError::ModelNotAllowed { .. } | ResolveError::AnyModel | ResolveError::NoCredential { .. } => {
            Code::ModelNotAllowed
        }
        ResolveError::DialectNotSupported { .. } => Code::DialectNotSupported,
        ResolveError::OperationNotServed { .. } => Code::OperationNotAllowed,
        ResolveError::ModelAmbiguous { .. } => Code::ModelAmbiguous,
        ResolveError::ProviderAmbiguous { .. } => Code::ProviderAmbiguous,
    };
    Refusal::new(code, clip(&error.to_string(), 600)).param("model")
}

fn unpriced(error: &Unpriced, model: &str) -> Refusal {
    let code = match error {
        Unpriced::Model { .. } => Code::ModelUnpriced,
        Unpriced::Feature { .. } | Unpriced::Unbounded { .. } => Code::FeatureUnpriced,
    };
    let message = format!(
        "{error} ({}), and this sub-key has a cap. Ask your security team to set it.",
        clip(model, 128)
    );
    Refusal::new(code, message)
}

/// A request costs too much for the sub-key, or for the ceiling of a project above it.
pub(super) fn too_expensive(worst: NanoUsd, (project, max): (Option<&str>, NanoUsd)) -> Refusal {
    let bound = match project {
        None => format!("this sub-key may spend {max} USD on one"),
        Some(project) => format!("the ceiling of the project {project} is {max} USD for one"),
    };
    let message = format!("The request could cost {worst} USD, and {bound}. State a lower output bound.");
    let mut details = json!({"limit_usd": max, "requested_usd": worst});
    if let Some(project) = project {
        details["ceiling"] = json!(format!("project:{project}"));
    }
    Refusal::new(Code::RequestTooExpensive, message).details(details)
}

pub(super) fn budget_exceeded(hold: &Hold, balance: &Balance, now: chrono::DateTime<chrono::Utc>) -> Refusal {
    let message = format!(
        "The budget of {} USD per {}{} has {} USD left, and the request could cost {} USD.",
        balance.limit,
        hold.window.as_str(),
        whose(hold),
        balance.remaining(),
        hold.amount
    );
    let refusal = Refusal::new(Code::BudgetExceeded, message).details(standing(hold, balance));
    match hold.window_end {
        Some(end) => refusal.retry_after(end - now),
        None => refusal,
    }
}

pub(super) fn budget_held(hold: &Hold, balance: &Balance) -> Refusal {
    let message = format!(
        "The budget of {} USD per {}{} is held by requests in flight. Try again.",
        balance.limit,
        hold.window.as_str(),
        whose(hold)
    );
    Refusal::new(Code::BudgetHeld, message)
        .details(standing(hold, balance))
        .retry_after(chrono::TimeDelta::seconds(1))
}

/// Nothing is admitted in a window; where it stands, if that can be told.
pub(super) fn books_in_disorder(hold: &Hold, balance: Option<Balance>) -> Refusal {
    let message = format!(
        "Nothing is admitted in this sub-key's budget per {}{}: its books do not add up, or a provider billed more than its \
         bound. An operator must look at the alarm.",
        hold.window.as_str(),
        whose(hold)
    );
    let details = balance.map_or_else(
        || {
            json!({
                "budget": hold.budget, "owner": owner(hold), "window": hold.window, "limit_usd": hold.limit,
                "requested_usd": hold.amount,
            })
        },
        |balance| standing(hold, &balance),
    );
    Refusal::new(Code::BudgetExceeded, message).details(details)
}

pub(super) fn budget_tampered(hold: &Hold) -> Refusal {
    if let Some(project) = hold.project() {
        return project_unusable(project);
    }
    let message = "The record of this sub-key was changed outside of Bitting, so it is not used. Tell your security team.";
    Refusal::new(Code::KeySuspended, message).rule("row_tampered")
}

/// Who has the budget, for programs.
fn owner(hold: &Hold) -> String {
    hold.project().map_or_else(|| "subkey".to_owned(), |project| format!("project:{project}"))
}

/// Who has the budget, for people; nothing where it is the key's own.
fn whose(hold: &Hold) -> String {
    hold.project().map(|project| format!(" of the project {project}")).unwrap_or_default()
}

fn standing(hold: &Hold, balance: &Balance) -> serde_json::Value {
    json!({
        "budget": hold.budget,
        "owner": owner(hold),
        "window": hold.window,
        "limit_usd": balance.limit,
        "spent_usd": balance.posted,
        "held_usd": balance.held,
        "requested_usd": hold.amount,
        "resets_at": hold.window_end,
    })
}
