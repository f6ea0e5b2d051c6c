//! What `doctor` says of the webhook: whether it can be signed for, and whether what it is to be told arrives.

use super::Report;
use crate::app::AppError;
use crate::app::webhook::secrets;
use crate::config::{Settings, WebhookSettings};
use crate::store::notice::NoticesState;
use crate::store::{self, Store};

pub(super) async fn check(report: &mut Report, settings: &Settings, store: &Store) -> Result<(), AppError> {
    let state = store::notice::state(&mut store.read().await?.conn()).await?;
    let result = match &settings.webhook {
        Some(webhook) => configured(webhook, &state).await,
        None if state.waiting > 0 => {
            let waiting = state.waiting;
            Err(format!("{waiting} notices wait, and there is no webhook to tell; set BITTING_WEBHOOK_URL"))
        }
        None => Ok("none; alerts and alarms are in the admin log alone".to_owned()),
    };
    report.say("webhook", result);
    Ok(())
}

async fn configured(webhook: &WebhookSettings, state: &NoticesState) -> Result<String, String> {
    secrets(&webhook.secret_file).await?;
    let NoticesState { waiting, failed, oldest } = state;
    let origin = webhook.url.origin();
    match oldest {
        Some((since, Some(error))) => Err(format!(
            "{waiting} notices wait for {origin}, the oldest since {since}: {error}; set it right, and start the server \
             anew to have them sent at once"
        )),
        _ => Ok(format!("{origin}; {waiting} notices wait, {failed} were given up")),
    }
}
