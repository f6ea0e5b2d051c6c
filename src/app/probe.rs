//! Trying a provider, and a key, with its free model list.

use crate::base::Secret;
use crate::provider::answer::Refused;
use crate::provider::endpoint::{AuthScheme, Provider};
use crate::provider::{Dialect, Endpoint, well_known};
use crate::proxy::upstream::{Chain, Deadlines, Upstream};
use crate::service::{KeyProbe, ProbeError, Trial};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use std::time::Duration;

const ANSWER_MAX_BYTES: usize = 8 << 20;

impl KeyProbe for Upstream {
    fn probe<'a>(&'a self, trial: Trial<'a>) -> BoxFuture<'a, Result<(), ProbeError>> {
        Box::pin(async move { count_models(self, &trial).await.map(drop) })
    }

    fn model_list<'a>(&'a self, provider: &'a Provider) -> BoxFuture<'a, Result<String, ProbeError>> {
        Box::pin(fetch_model_list(self, provider))
    }
}

async fn fetch_model_list(upstream: &Upstream, provider: &Provider) -> Result<String, ProbeError> {
    let no_answer = |reason: &str| ProbeError::NoAnswer { reason: reason.to_owned() };
    let endpoint = provider.dialects.get(&Dialect::OpenAi);
    let endpoint = endpoint.ok_or_else(|| no_answer("the provider does not speak the OpenAI dialect"))?;
    let configured =
        endpoint.headers.iter().map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
    let headers: Option<HeaderMap> = configured.collect();
    let headers = headers.ok_or_else(|| no_answer("the provider's headers are none"))?;
    let answer = get(upstream, endpoint, "/models", headers).await;
    match answer.map_err(|reason| ProbeError::NoAnswer { reason })? {
        (StatusCode::OK, body) => {
            String::from_utf8(body.into()).map_err(|_| no_answer("the model list is not UTF-8"))
        }
        (status, _) => Err(no_answer(&format!("the provider answered {status}"))),
    }
}

/// Asks for the model list with the key, and says how many models there are.
pub(super) async fn count_models(upstream: &Upstream, trial: &Trial<'_>) -> Result<usize, ProbeError> {
    let no_answer = |reason: &str| ProbeError::NoAnswer { reason: reason.to_owned() };
    let (dialect, path) = model_list(trial.provider);
    let endpoint = trial.provider.dialects.get(&dialect);
    let endpoint = endpoint.ok_or_else(|| no_answer("it does not speak the dialect of its model list"))?;
    let headers = headers(dialect, endpoint, trial);
    let headers = headers.ok_or_else(|| no_answer("the key has characters that no header can carry"))?;
    let answer = get(upstream, endpoint, path, headers).await;
    let (status, body) = answer.map_err(|reason| ProbeError::NoAnswer { reason })?;
    if Refused::read(status, &body).is_some() {
        return Err(ProbeError::Refused { status: status.as_u16() });
    }
    if status != StatusCode::OK {
        return Err(no_answer(&format!("the provider answered {status}")));
    }
    let list: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let list = list.ok_or_else(|| no_answer("the answer is not JSON"))?;
    let models = list.get("data").or_else(|| list.get("models")).and_then(serde_json::Value::as_array);
    models.map(Vec::len).ok_or_else(|| no_answer("the answer is no model list"))
}

/// Whether the provider answers at all, whatever it says to a request without a key.
pub(super) async fn is_reachable(upstream: &Upstream, provider: &Provider) -> Result<(), String> {
    let (dialect, path) = model_list(provider);
    let endpoint =
        provider.dialects.get(&dialect).ok_or("it does not speak the dialect of its model list")?;
    get(upstream, endpoint, path, HeaderMap::new()).await.map(drop)
}

/// Where the provider has its model list: known, or the usual place of a dialect that it speaks.
fn model_list(provider: &Provider) -> (Dialect, &'static str) {
    let known = well_known(provider.slug.as_str()).map(|known| known.model_list);
    if let Some(known) = known.filter(|(dialect, _)| provider.dialects.contains_key(dialect)) {
        return known;
    }
    match provider.dialects.keys().next() {
        Some(Dialect::Anthropic) => (Dialect::Anthropic, "/v1/models"),
        Some(Dialect::Gemini) => (Dialect::Gemini, "/v1beta/models"),
        Some(Dialect::OpenAi) | None => (Dialect::OpenAi, "/models"),
    }
}

async fn get(
    upstream: &Upstream,
    endpoint: &Endpoint,
    path: &str,
    headers: HeaderMap,
) -> Result<(StatusCode, Bytes), String> {
    let base = &endpoint.base_url;
    let query: Vec<String> = endpoint.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    let uri = Uri::builder()
        .scheme(base.scheme().as_str())
        .authority(base.authority())
        .path_and_query(format!("{}{path}{mark}{}", base.path(), query.join("&")))
        .build()
        .map_err(|error| error.to_string())?;
    let mut request = Request::new(Chain::default());
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    let deadlines = Deadlines { connect: Duration::from_secs(5), first_byte: Duration::from_secs(15) };
    let answer = upstream.send(request, deadlines).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect();
    let body = tokio::time::timeout(Duration::from_secs(15), body)
        .await
        .map_err(|_| "the answer did not end in time")?;
    Ok((status, body.map_err(|_| "the answer broke off")?.to_bytes()))
}

/// What a request of that dialect carries; `None` when a value cannot be a header.
fn headers(dialect: Dialect, endpoint: &Endpoint, trial: &Trial<'_>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &endpoint.headers {
        headers.insert(name.parse::<HeaderName>().ok()?, value.parse().ok()?);
    }
    if dialect == Dialect::Anthropic {
        let name = HeaderName::from_static("anthropic-version");
        headers.entry(name).or_insert(HeaderValue::from_static("2023-06-01"));
    }
    for (name, value) in
        [("openai-organization", trial.organization), ("openai-project", trial.openai_project)]
    {
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value.parse().ok()?);
        }
    }
    let (name, value) = auth_header(endpoint.auth, trial.key)?;
    headers.insert(name, value);
    Some(headers)
}

fn auth_header(scheme: AuthScheme, key: &Secret<String>) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = match scheme {
        AuthScheme::Bearer => (AUTHORIZATION, format!("Bearer {}", key.expose())),
        AuthScheme::XApiKey => (HeaderName::from_static("x-api-key"), key.expose().clone()),
        AuthScheme::ApiKey => (HeaderName::from_static("api-key"), key.expose().clone()),
        AuthScheme::XGoogApiKey => (HeaderName::from_static("x-goog-api-key"), key.expose().clone()),
    };
    let mut value = HeaderValue::from_str(&zeroize::Zeroizing::new(value)).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}
