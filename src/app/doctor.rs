//! `doctor`: checks one thing after the other and says what to do about each that is wrong.

mod surroundings;
mod vault;
mod webhook;

use super::server::upstream;
use super::{AppError, files, kek, probe, settings};
use crate::base::Clock;
use crate::config::Settings;
use crate::log::{Filter, Hour};
use crate::provider::{ProviderDocument, is_asked_in_vain};
use crate::store::{self, Store};
use chrono::TimeDelta;

/// Hours whose sums are held against the log.
const HOURS_CHECKED: usize = 26;

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
    surroundings::check(&mut report, &settings);
    let store = match files::open_current_store(&settings).await {
        Ok(store) => store,
        Err(error) => {
            report.say("store", Err(error.to_string()));
            return report.end();
        }
    };
    report.say("store", Ok("open, schema up to date".to_owned()));
    let source = kek::source(&settings)?;
    vault::check(&mut report, &settings, &store, source.as_ref(), Clock::system().now()).await?;
    report.say("clock", clock(&store).await);
    webhook::check(&mut report, &settings, &store).await?;
    report.say("usage", usage(&store).await);
    providers(&mut report, &settings, &store).await?;
    store.close().await;
    report.end()
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

/// The sums of the last day have to be what the log adds up to.
async fn usage(store: &Store) -> Result<String, String> {
    let failed = |error: store::StoreError| error.to_string();
    let mut after = Some(Hour::of(Clock::system().now() - TimeDelta::days(1)).to_string());
    let mut read = store.read().await.map_err(failed)?;
    for _ in 0..=HOURS_CHECKED {
        let next =
            store::usage::first_hour_after(&mut read.conn(), after.as_deref()).await.map_err(failed)?;
        let Some(hour) = next else { break };
        if let (Some(_), _) = store::usage::look(&mut read.conn(), &hour).await.map_err(failed)? {
            return Err(format!(
                "the sums of {hour} are not what the log adds up to; a running server makes them anew (bitting alarm list)"
            ));
        }
        after = Some(hour);
    }
    Ok("the last day's sums are what the log adds up to".to_owned())
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
            Ok(provider) if is_asked_in_vain(&provider) => Err(format!(
                "it tells a stream's usage unasked, or refuses to be asked; say so by bitting provider update {} --set \
                 supports_stream_options=false",
                record.slug
            )),
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
