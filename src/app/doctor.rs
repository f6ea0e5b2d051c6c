//! `doctor`: checks one thing after the other and says what to do about each that is wrong.

use super::server::upstream;
use super::{AppError, checkpoint, files, kek, probe, settings};
use crate::base::{Clock, clip};
use crate::config::Settings;
use crate::log::Filter;
use crate::provider::ProviderDocument;
use crate::service::{self, DoubtError};
use crate::store::{self, Store};
use crate::vault::{Quarantine, RegisterState, SealedBy};

/// Prints a line for each check. Fails when one does.
pub async fn doctor() -> Result<(), AppError> {
    let mut report = Report::default();
    let settings = match settings(None, None) {
        Ok(settings) => settings,
        Err(error) => {
            report.say("configuration", Err(error.to_string()));
            return report.end();
        }
    };
    report
        .say("configuration", Ok(format!("data in {}, {}", settings.data_dir.display(), settings.database)));
    let store = match files::open_current_store(&settings).await {
        Ok(store) => store,
        Err(error) => {
            report.say("store", Err(error.to_string()));
            return report.end();
        }
    };
    report.say("store", Ok("open, schema up to date".to_owned()));
    let source = kek::source(&settings)?;
    let opened = service::open_keyring(&store, source.as_ref()).await;
    let doubt = match &opened {
        Ok(opened) => Some(service::doubt_of_database(&store, checkpoint(&settings), opened).await),
        Err(_) => None,
    };
    let opens = |_| format!("{} opens the keyring", source.describe());
    report.say("vault", opened.map(opens).map_err(|error| error.to_string()));
    if let Some(doubt) = doubt {
        report.say("checkpoint", not_older(doubt));
    }
    let state = state(&store).await?;
    report.say("seal", seal(&state));
    report.say("quarantine", quarantine(&state));
    report.say("clock", clock(&store).await);
    providers(&mut report, &settings, &store).await?;
    store.close().await;
    report.end()
}

/// Whether the database is at least as new as the checkpoint beside it.
fn not_older(doubt: Result<Option<String>, DoubtError>) -> Result<String, String> {
    match doubt {
        Ok(None) => Ok("the database is not older than it".to_owned()),
        Ok(Some(detail)) => Err(format!(
            "{detail}; a server that starts with it admits nothing until an operator releases it: put the right database back, or              bitting vault release"
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// What the register says of sealing and quarantine.
async fn state(store: &Store) -> Result<RegisterState, AppError> {
    let mut read = store.read().await?;
    let signed = store::register::get(&mut read.conn()).await?;
    Ok(signed.map(|signed| signed.register.state).unwrap_or_default())
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
            "nothing is admitted since {since} ({reason}: {detail}); find out why, then have an operator release it: bitting vault release"
        )),
    }
}

/// A clock behind the log has been set back, or the log was written by one that ran ahead.
async fn clock(store: &Store) -> Result<String, String> {
    let failed = |error: store::StoreError| error.to_string();
    let now = Clock::system().now();
    let mut read = store.read().await.map_err(failed)?;
    let newest =
        store::access_log::page(&mut read.conn(), &Filter::default(), None, 1).await.map_err(failed)?;
    match newest.items.first().map(|logged| logged.entry.time) {
        Some(time) if time > now => Err(format!(
            "it is {now} here, and the newest entry of the access log is from {time}; set the clock, by NTP if you can"
        )),
        _ => Ok(now.to_string()),
    }
}

/// Every provider that has a credential is asked for something, without the key.
async fn providers(report: &mut Report, settings: &Settings, store: &Store) -> Result<(), AppError> {
    let upstream = upstream(settings)?;
    let mut read = store.read().await?;
    let credentials = store::credential::list(&mut read.conn()).await?;
    for record in store::provider::list(&mut read.conn()).await? {
        if !credentials.iter().any(|credential| credential.provider == record.slug) {
            continue;
        }
        let name = format!("provider {}", record.slug);
        let document: Result<ProviderDocument, _> = serde_json::from_value(record.document);
        let provider = document.map_err(|error| error.to_string()).and_then(|document| {
            document.check(&settings.private_upstreams).map_err(|error| error.to_string())
        });
        let reached = match provider {
            Ok(provider) => probe::is_reachable(&upstream, &provider).await.map(|()| "answers".to_owned()),
            Err(error) => Err(format!("{error}; a private address needs BITTING_PRIVATE_UPSTREAMS")),
        };
        report.say(&name, reached);
    }
    Ok(())
}

#[derive(Default)]
struct Report {
    failed: usize,
}

impl Report {
    fn say(&mut self, what: &str, result: Result<String, String>) {
        match result {
            Ok(fine) => println!("ok    {what}: {fine}"),
            Err(wrong) => {
                self.failed += 1;
                println!("FAIL  {what}: {wrong}");
            }
        }
    }

    fn end(self) -> Result<(), AppError> {
        if self.failed == 0 { Ok(()) } else { Err(AppError::Unhealthy(self.failed)) }
    }
}
