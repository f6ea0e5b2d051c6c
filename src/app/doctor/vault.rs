//! What `doctor` says of the vault: whether its key opens it, who closed it, and whether its term has done enough.

use super::Report;
use crate::app::server::wrap_limits;
use crate::app::{AppError, checkpoint};
use crate::base::clip;
use crate::config::Settings;
use crate::service::{self, DoubtError, KekSource, Opened, WrapLimits};
use crate::store::term::Uses;
use crate::store::{self, Store};
use crate::vault::{Quarantine, RegisterState, SealedBy};
use chrono::{DateTime, Utc};

/// Says a line for each reason for which nothing would be served, and for a term that is due.
pub(super) async fn check(
    report: &mut Report,
    settings: &Settings,
    store: &Store,
    source: &dyn KekSource,
    now: DateTime<Utc>,
) -> Result<(), AppError> {
    let state = state(store).await?;
    let opened = service::open_keyring(store, source).await;
    match &opened {
        Ok(opened) => {
            report.say("vault", Ok(opens(opened, source)));
            let doubt = service::doubt_of_database(store, checkpoint(settings), opened).await;
            report.say("checkpoint", not_older(doubt));
        }
        Err(error) => report.say("vault", Err(error.to_string())),
    }
    report.say("seal", seal(&state));
    report.say("quarantine", quarantine(&state));
    if let Ok(opened) = opened {
        let uses = store::term::uses(&mut store.read().await?.conn()).await?;
        report.say("keyring", term(opened.keyring.current_term(), &uses, wrap_limits(settings), now));
    }
    Ok(())
}

/// What the register says of sealing and quarantine.
async fn state(store: &Store) -> Result<RegisterState, AppError> {
    let mut read = store.read().await?;
    let signed = store::register::get(&mut read.conn()).await?;
    Ok(signed.map(|signed| signed.register.state).unwrap_or_default())
}

/// Whether the database is at least as new as the checkpoint beside it.
fn not_older(doubt: Result<Option<String>, DoubtError>) -> Result<String, String> {
    match doubt {
        Ok(None) => Ok("the database is not older than it".to_owned()),
        Ok(Some(detail)) => Err(format!(
            "{detail}; a server that starts with it admits nothing until an operator releases it: put the right database back, or \
             bitting vault release"
        )),
        Err(error) => Err(error.to_string()),
    }
}

fn opens(opened: &Opened, source: &dyn KekSource) -> String {
    let others = opened.root.as_ref().map_or(0, |root| root.wraps.len().saturating_sub(1));
    let opens = format!("{} opens the keyring", source.describe());
    if others == 0 {
        return opens;
    }
    format!("{opens}; so do {others} others, until: bitting vault change-kek --confirm")
}

fn seal(state: &RegisterState) -> Result<String, String> {
    match &state.seal {
        None => Ok("no operator has sealed the vault".to_owned()),
        Some(SealedBy { at, by, .. }) => Err(format!(
            "{} sealed the vault at {at}; unseal it with the code that was given out then, or with what opens the source of \
             the key: bitting vault unseal",
            clip(by, 200)
        )),
    }
}

fn quarantine(state: &RegisterState) -> Result<String, String> {
    match &state.quarantine {
        None => Ok("not quarantined".to_owned()),
        Some(Quarantine { since, reason, detail }) => Err(format!(
            "nothing is admitted since {since} ({reason}: {detail}); find out why, then have an operator release it: bitting \
             vault release"
        )),
    }
}

/// A server rotates a term by itself when it is due: one that stays due has no server, or one that cannot.
fn term(current: u32, uses: &[Uses], limits: WrapLimits, now: DateTime<Utc>) -> Result<String, String> {
    let Some(Uses { uses, created_at, .. }) = uses.iter().find(|one| one.term == i64::from(current)) else {
        return Ok(format!("term {current} has wrapped nothing yet"));
    };
    let standing = format!("term {current} has wrapped {uses} data keys since {created_at}");
    if *uses >= limits.uses_max || now - *created_at >= limits.age_max {
        return Err(format!(
            "{standing}, which is enough; a server rotates it by itself, if it can: start one, read its log, or run: bitting \
             vault rotate"
        ));
    }
    Ok(standing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn a_term_is_due_when_it_wrapped_enough_or_long_enough() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1_000);
        let limits = WrapLimits { uses_max: 10, age_max: TimeDelta::days(90) };
        let of = |uses, days| [Uses { term: 2, uses, created_at: now - TimeDelta::days(days) }];
        let due = |uses: &[Uses]| term(2, uses, limits, now);
        assert!(due(&of(9, 89)).is_ok() && due(&[]).is_ok());
        for uses in [of(10, 0), of(0, 90)] {
            assert!(due(&uses).unwrap_err().contains("bitting vault rotate"));
        }
        let older = Uses { term: 1, uses: 1_000, created_at: DateTime::UNIX_EPOCH };
        assert!(due(&[older]).is_ok(), "an older term wraps nothing more");
    }
}
