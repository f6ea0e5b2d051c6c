//! The key-encryption key, wrapped by the transit engine of a `HashiCorp` Vault or an `OpenBao`.
//!
//! The key is drawn here and wrapped there; what is kept is the wrapped key. Purpose and installation go with every
//! call, so a wrapped key opens for nothing else: as `associated_data`, which authenticated ciphers bind (the default
//! `aes256-gcm96` and `chacha20-poly1305`; of a key of another type the engine refuses it), and as `context`, which
//! derived keys need and others ignore. Neither the path nor the key's name is taken from the database.

use super::read_secret;
use crate::app::AppError;
use crate::app::secret_file::Readers;
use crate::base::{Entropy, Secret, clip};
use crate::config::TransitSettings;
use crate::http::client::{
    AddressRule, ConnectError, JsonAnswer, JsonCall, JsonCallError, JsonClient, Outgoing,
};
use crate::service::{KekSource, KekSourceError};
use crate::vault::Kek;
use data_encoding::BASE64;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// For one attempt, from the name service to the answer's last byte.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Before the second attempt and before the third, which is the last.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];

/// An answer holds one short text.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// How much of what the engine says is repeated.
const SAID_BYTES_MAX: usize = 200;

/// A transit engine and its key.
pub struct TransitKek {
    settings: TransitSettings,
    client: JsonClient,
}

/// What lies in the database.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    ciphertext: String,
    key: String,
    mount: String,
}

/// The body of either call.
#[derive(Serialize)]
struct Question<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext: Option<&'a str>,
    context: &'a str,
    associated_data: &'a str,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Wrapped {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Unwrapped {
    plaintext: Secret<String>,
}

#[derive(Default, Deserialize)]
struct Said {
    errors: Vec<String>,
}

/// Why one attempt gave nothing.
enum Attempt {
    /// Another one may.
    Again(KekSourceError),
    /// No other one will.
    Final(KekSourceError),
}

impl TransitKek {
    /// Reads the authority to trust; calls nobody.
    pub fn new(settings: TransitSettings) -> Result<Self, AppError> {
        let setup = |error| AppError::setup("the transit engine's client", error);
        let mut outgoing = Outgoing::new(AddressRule::Configured).within(ATTEMPT_TIMEOUT);
        if let Some(path) = &settings.ca_file {
            let pem = std::fs::read(path).map_err(|error| AppError::File { path: path.clone(), error })?;
            outgoing = outgoing.trusting(&pem).map_err(|error| {
                AppError::setup("BITTING_KEK_TRANSIT_CA_FILE", format!("{}: {error}", path.display()))
            })?;
        }
        let client = JsonClient::new(outgoing, ANSWER_BYTES_MAX).map_err(setup)?;
        Ok(Self { settings, client })
    }

    async fn wrap(&self, kek: &Kek, installation: &str) -> Result<Kept, KekSourceError> {
        let line = kek.to_line();
        let bound = bound(installation);
        let question = Question {
            plaintext: Some(line.expose().trim_end()),
            ciphertext: None,
            context: &bound,
            associated_data: &bound,
        };
        let Wrapped { ciphertext } = self.call("encrypt", &question).await?;
        if ciphertext.len() > 4_096 || !ciphertext.starts_with("vault:v") {
            return Err(self.refused("it answered with something else than a wrapped key"));
        }
        Ok(Kept { ciphertext, key: self.settings.key.clone(), mount: self.settings.mount.clone() })
    }

    async fn unwrap(&self, kept: &Kept, installation: &str) -> Result<Kek, KekSourceError> {
        let TransitSettings { key, mount, .. } = &self.settings;
        if (&kept.key, &kept.mount) != (key, mount) {
            let kept = format!("the key {:?} of the mount {:?}", clip(&kept.key, 64), clip(&kept.mount, 64));
            return Err(self.refused(format!("the database is wrapped by {kept}; configure that one")));
        }
        let bound = bound(installation);
        let question = Question {
            plaintext: None,
            ciphertext: Some(&kept.ciphertext),
            context: &bound,
            associated_data: &bound,
        };
        let Unwrapped { plaintext } = self.call("decrypt", &question).await?;
        Kek::parse(&plaintext).map_err(|_| self.refused("it answered with something else than a key"))
    }

    /// Calls until there is an answer, it is refused, or the attempts are used up. Both calls may be made twice.
    async fn call<T: DeserializeOwned>(
        &self,
        operation: &str,
        question: &Question<'_>,
    ) -> Result<T, KekSourceError> {
        let mut pauses = BACK_OFF.iter();
        loop {
            let failure = match self.attempt(operation, question).await {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Final(failure)) => return Err(failure),
                Err(Attempt::Again(failure)) => failure,
            };
            let Some(pause) = pauses.next() else { return Err(failure) };
            tracing::warn!(source = %self.describe(), error = %failure, "the key service is asked again");
            tokio::time::sleep(*pause).await;
        }
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        operation: &str,
        question: &Question<'_>,
    ) -> Result<T, Attempt> {
        let token = self.token().await.map_err(Attempt::Final)?;
        let call = self.prepare(operation, question, &token).map_err(Attempt::Final)?;
        let answer = self.client.send(call).await.map_err(|failure| self.no_answer(&failure))?;
        if answer.status == StatusCode::OK {
            let read = answer.read::<Answer<T>>().map(|answer| answer.data);
            // Something stands before it, and perhaps not for long.
            return read.ok_or_else(|| {
                Attempt::Final(self.unavailable("its answer is not one of a transit engine"))
            });
        }
        Err(self.not_granted(operation, &answer, &token))
    }

    /// Read for every call: whoever renews it replaces the file.
    async fn token(&self) -> Result<Secret<String>, KekSourceError> {
        let text = read_secret(&self.settings.token_file, Readers::Owner, self.describe()).await?;
        let token = text.expose().trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let path = self.settings.token_file.display();
            return Err(self.refused(format!("{path} holds no token")));
        }
        Ok(Secret::new(token.to_owned()))
    }

    fn prepare(
        &self,
        operation: &str,
        question: &Question<'_>,
        token: &Secret<String>,
    ) -> Result<JsonCall, KekSourceError> {
        let TransitSettings { url, mount, key, namespace, .. } = &self.settings;
        let malformed = || self.refused("its settings make no request");
        let uri: Uri = format!("{url}/v1/{mount}/{operation}/{key}").parse().map_err(|_| malformed())?;
        let mut headers = HeaderMap::new();
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| malformed());
        headers.insert(HeaderName::from_static("x-vault-token"), value(token.expose())?);
        headers.insert(HeaderName::from_static("x-vault-request"), HeaderValue::from_static("true"));
        if let Some(namespace) = namespace {
            headers.insert(HeaderName::from_static("x-vault-namespace"), value(namespace)?);
        }
        // Large enough to be written in place: a buffer that grows leaves copies behind.
        let mut body = Vec::with_capacity(8 << 10);
        serde_json::to_writer(&mut body, question).map_err(|_| malformed())?;
        let body = Some(Secret::new(body));
        Ok(JsonCall { method: Method::POST, uri, headers, body, timeout: ATTEMPT_TIMEOUT })
    }

    fn no_answer(&self, failure: &JsonCallError) -> Attempt {
        let unavailable = || self.unavailable(failure.to_string());
        match failure {
            JsonCallError::NotConnected(ConnectError::AddressDenied { host, ip }) => {
                let reason = format!("{host} is at {ip}, which is never called (or not by plain http)");
                Attempt::Final(self.refused(reason))
            }
            // It had its time, or something else than the engine answers; whoever waits for the key may ask again.
            JsonCallError::NotConnected(ConnectError::Timeout { .. })
            | JsonCallError::Timeout { .. }
            | JsonCallError::TooLarge { .. } => Attempt::Final(unavailable()),
            JsonCallError::NotConnected(
                ConnectError::Resolve { .. }
                | ConnectError::Tcp { .. }
                | ConnectError::Tls { .. }
                | ConnectError::Unused { .. },
            )
            | JsonCallError::BrokenOff { .. } => Attempt::Again(unavailable()),
        }
    }

    fn not_granted(&self, operation: &str, answer: &JsonAnswer, token: &Secret<String>) -> Attempt {
        let TransitSettings { mount, key, .. } = &self.settings;
        let status = answer.status;
        let said = said(answer, token);
        let place = format!("{mount}/{operation}/{key}");
        match status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                let reason = format!(
                    "{place} is denied ({status}); the token is unknown or has expired, or lacks a policy with \
                     `update` on {mount}/encrypt/{key} and {mount}/decrypt/{key}"
                );
                Attempt::Final(self.refused(reason))
            }
            StatusCode::NOT_FOUND => {
                let reason = format!("there is no key {key:?} at the mount {mount:?} ({status}{said})");
                Attempt::Final(self.refused(reason))
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                Attempt::Again(self.unavailable(format!("it is sealed or in standby ({status}{said})")))
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Attempt::Again(self.unavailable(format!("it answered {status}{said}")))
            }
            status if status.is_redirection() => {
                let reason =
                    format!("it answered {status}, and redirects are not followed; name the active node");
                Attempt::Final(self.unavailable(reason))
            }
            status => Attempt::Final(self.refused(format!("{place}: it answered {status}{said}"))),
        }
    }

    fn refused(&self, reason: impl Into<String>) -> KekSourceError {
        KekSourceError::Refused { source_is: self.describe(), reason: reason.into() }
    }

    fn unavailable(&self, reason: impl Into<String>) -> KekSourceError {
        KekSourceError::Unavailable { source_is: self.describe(), reason: reason.into() }
    }
}

/// What a wrapped key is bound to, in base64 as the engine takes it.
fn bound(installation: &str) -> String {
    BASE64.encode(format!("bitting/kek/v1/{installation}").as_bytes())
}

/// The first of the engine's own words, on one line; nothing where they repeat the token.
fn said(answer: &JsonAnswer, token: &Secret<String>) -> String {
    let errors = answer.read::<Said>().unwrap_or_default().errors;
    let Some(first) = errors.first().filter(|text| !text.contains(token.expose())) else {
        return String::new();
    };
    let words: Vec<&str> = first.split_whitespace().collect();
    format!(": {}", clip(&words.join(" "), SAID_BYTES_MAX))
}

impl KekSource for TransitKek {
    fn kind(&self) -> &'static str {
        "transit"
    }

    fn describe(&self) -> String {
        let TransitSettings { url, key, mount, .. } = &self.settings;
        format!("the transit key {key} (mount {mount}) of {url}")
    }

    fn is_a_service(&self) -> bool {
        true
    }

    fn create<'a>(
        &'a self,
        entropy: &'a Entropy,
        installation: &'a str,
    ) -> BoxFuture<'a, Result<(Kek, Value), KekSourceError>> {
        Box::pin(async move {
            let kek = Kek::generate(entropy);
            let kept = self.wrap(&kek, installation).await?;
            // A token that may wrap and not unwrap would be noticed at the next start, when it is too late.
            let opened = self.unwrap(&kept, installation).await?;
            if opened.to_line().expose() != kek.to_line().expose() {
                return Err(self.refused("it does not give back what it wrapped"));
            }
            Ok((kek, json!(kept)))
        })
    }

    fn open<'a>(
        &'a self,
        kept: &'a Value,
        installation: &'a str,
    ) -> BoxFuture<'a, Result<Kek, KekSourceError>> {
        Box::pin(async move {
            let kept = Kept::deserialize(kept)
                .map_err(|_| self.refused("what the database keeps for it is not what was kept"))?;
            self.unwrap(&kept, installation).await
        })
    }
}
