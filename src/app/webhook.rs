//! Tells the webhook what is in the outbox: each notice until the receiver has taken it, signed by the Standard Webhooks
//! specification. Redirects are not followed, addresses are those that upstreams may have, and of an answer nothing but
//! its status is read.

use super::AppError;
use super::secret_file::{self, Readers};
use crate::base::Secret;
use crate::config::{Settings, WebhookSettings};
use crate::http::client::{AddressRule, JsonCall, JsonCallError, JsonClient, Outgoing};
use crate::log::Setback;
use crate::service::{DueNotice, Services, StoreError, Undelivered};
use crate::vault::WebhookSecrets;
use ::http::header::{HeaderName, HeaderValue, USER_AGENT};
use ::http::{HeaderMap, Method, StatusCode};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// For one attempt, from the name service to the answer's status.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts at once.
const ATTEMPTS_MAX: usize = 8;
/// How often the outbox is looked into.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is tidied.
const TIDY_EVERY: Duration = Duration::from_mins(1);

/// The webhook, and how it is reached.
pub(super) struct Webhook {
    settings: WebhookSettings,
    client: JsonClient,
}

impl Webhook {
    /// The configured one, if there is one. Its secrets are read, so that a server that cannot sign does not start.
    pub(super) async fn of(settings: &Settings) -> Result<Option<Self>, AppError> {
        let Some(webhook) = settings.webhook.clone() else { return Ok(None) };
        secrets(&webhook.secret_file)
            .await
            .map_err(|error| AppError::setup("BITTING_WEBHOOK_SECRET_FILE", error))?;
        let addresses = AddressRule::new(settings.private_upstreams.clone());
        let client = JsonClient::new(Outgoing::new(addresses).within(ATTEMPT_TIMEOUT), 0)
            .map_err(|error| AppError::setup("the webhook's client", error))?;
        Ok(Some(Self { settings: webhook, client }))
    }

    /// Sends what is due until the server drains. What is cut off then is sent again by the next one.
    pub(super) async fn keep_telling(self, services: Services, drain: CancellationToken) {
        let telling = async {
            if let Err(error) = services.hasten_notices().await {
                tracing::warn!(%error, "notices wait for their next attempt");
            }
            let mut tidied: Option<Instant> = None;
            loop {
                if tidied.is_none_or(|at| at.elapsed() >= TIDY_EVERY) {
                    tidied = Some(Instant::now());
                    if let Err(error) = services.tidy_notices().await {
                        tracing::warn!(%error, "the outbox was not tidied");
                    }
                }
                if let Err(error) = self.tell(&services).await {
                    tracing::warn!(%error, "the outbox could not be looked into");
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        drain.run_until_cancelled(telling).await;
    }

    /// Sends some of what is due.
    async fn tell(&self, services: &Services) -> Result<(), StoreError> {
        let due = services.due_notices().await?;
        if due.is_empty() {
            return Ok(());
        }
        // Read anew, so that a secret can be replaced while the server runs.
        let secrets = secrets(&self.settings.secret_file).await;
        let attempts: Vec<_> =
            due.into_iter().map(|notice| self.attempt(services, &secrets, notice)).collect();
        stream::iter(attempts).buffer_unordered(ATTEMPTS_MAX).try_collect().await
    }

    /// Sends one, and notes what came of it.
    async fn attempt(
        &self,
        services: &Services,
        secrets: &Result<WebhookSecrets, String>,
        notice: DueNotice,
    ) -> Result<(), StoreError> {
        let outcome = match secrets {
            Ok(secrets) => self.send(services, secrets, &notice).await,
            Err(error) => Err(Undelivered { setback: Setback::Passing, error: error.clone() }),
        };
        services.note_delivery(&notice, outcome).await
    }

    async fn send(
        &self,
        services: &Services,
        secrets: &WebhookSecrets,
        notice: &DueNotice,
    ) -> Result<(), Undelivered> {
        let timestamp = services.clock.now().timestamp();
        let body = notice.body().as_bytes();
        let signed = [
            ("webhook-id", notice.id().to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", secrets.sign(notice.id(), timestamp, body)),
        ];
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("bitting"));
        for (name, value) in signed {
            // An id, a number and base64 are header values.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let call = JsonCall {
            method: Method::POST,
            uri: self.settings.url.uri().clone(),
            headers,
            body: Some(Secret::new(body.to_vec())),
            timeout: ATTEMPT_TIMEOUT,
        };
        judge(self.client.send_for_status(call).await)
    }
}

/// What an answer means.
fn judge(answer: Result<StatusCode, JsonCallError>) -> Result<(), Undelivered> {
    let (setback, error) = match answer {
        Ok(status) if status.is_success() => return Ok(()),
        Ok(status) if status.is_redirection() => {
            (Setback::Lasting, format!("it answered {status}, and redirects are not followed"))
        }
        Ok(status) => (setback(status), format!("it answered {status}")),
        Err(error) => (Setback::Passing, error.to_string()),
    };
    Err(Undelivered { setback, error })
}

/// Whether somebody has to set something right before it can go better.
fn setback(status: StatusCode) -> Setback {
    let passes = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_client_error() && !passes.contains(&status) { Setback::Lasting } else { Setback::Passing }
}

/// The secrets in the file, or what is wrong with it.
pub(super) async fn secrets(file: &Path) -> Result<WebhookSecrets, String> {
    let text = secret_file::read(file, Readers::OwnerAndListed).await.map_err(|error| error.to_string())?;
    WebhookSecrets::parse(&text).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_is_delivery_and_what_people_have_to_correct_is_tried_slowly() {
        let judged =
            |status: u16| judge(Ok(StatusCode::from_u16(status).unwrap())).err().map(|it| it.setback);
        for (status, expected) in [
            (200, None),
            (204, None),
            (301, Some(Setback::Lasting)),
            (400, Some(Setback::Lasting)),
            (404, Some(Setback::Lasting)),
            (408, Some(Setback::Passing)),
            (410, Some(Setback::Lasting)),
            (429, Some(Setback::Passing)),
            (500, Some(Setback::Passing)),
            (503, Some(Setback::Passing)),
        ] {
            assert_eq!(judged(status), expected, "{status}");
        }
    }
}
