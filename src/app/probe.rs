//! Trying a provider with its free model list.

use crate::base::Secret;
use crate::provider::Dialect;
use crate::provider::endpoint::{AuthScheme, Provider};
use crate::provider::wellknown::WellKnown;
use crate::proxy::upstream::{Deadlines, Upstream};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use std::time::Duration;

const ANSWER_MAX_BYTES: usize = 8 << 20;

/// Asks for the model list with the key. Returns how many models there are, or what is wrong in words.
pub(super) async fn count_models(
    upstream: &Upstream,
    provider: &Provider,
    known: &WellKnown,
    key: &Secret<String>,
) -> Result<usize, String> {
    let (dialect, path) = known.model_list;
    let endpoint =
        provider.dialects.get(&dialect).ok_or("it does not speak the dialect of its model list")?;
    let mut headers =
        auth_header(endpoint.auth, key).ok_or("the key has characters that no header can carry")?;
    if dialect == Dialect::Anthropic {
        headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));
    }
    let (status, body) = get(upstream, provider, dialect, path, headers).await?;
    match status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(format!("the provider refused the key ({status})"));
        }
        status => return Err(format!("the provider answered {status}")),
    }
    let list: serde_json::Value = serde_json::from_slice(&body).map_err(|_| "the answer is not JSON")?;
    let models = list.get("data").or_else(|| list.get("models")).and_then(serde_json::Value::as_array);
    models.map(Vec::len).ok_or_else(|| "the answer is no model list".to_owned())
}

/// Whether the provider answers at all, whatever it says to a request without a key.
pub(super) async fn is_reachable(upstream: &Upstream, provider: &Provider) -> Result<(), String> {
    let Some(dialect) = provider.dialects.keys().next() else {
        return Err("it speaks no dialect".to_owned());
    };
    let path = if *dialect == Dialect::OpenAi { "/models" } else { "/v1/models" };
    get(upstream, provider, *dialect, path, HeaderMap::new()).await.map(drop)
}

async fn get(
    upstream: &Upstream,
    provider: &Provider,
    dialect: Dialect,
    path: &str,
    headers: HeaderMap,
) -> Result<(StatusCode, Bytes), String> {
    let base = &provider.dialects.get(&dialect).ok_or("it does not speak that dialect")?.base_url;
    let uri = Uri::builder()
        .scheme(base.scheme().as_str())
        .authority(base.authority())
        .path_and_query(format!("{}{path}", base.path()))
        .build()
        .map_err(|error| error.to_string())?;
    let mut request = Request::new(Full::new(Bytes::new()));
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

fn auth_header(scheme: AuthScheme, key: &Secret<String>) -> Option<HeaderMap> {
    let (name, value) = match scheme {
        AuthScheme::Bearer => (AUTHORIZATION, format!("Bearer {}", key.expose())),
        AuthScheme::XApiKey => (HeaderName::from_static("x-api-key"), key.expose().clone()),
        AuthScheme::ApiKey => (HeaderName::from_static("api-key"), key.expose().clone()),
        AuthScheme::XGoogApiKey => (HeaderName::from_static("x-goog-api-key"), key.expose().clone()),
    };
    let mut value = HeaderValue::from_str(&zeroize::Zeroizing::new(value)).ok()?;
    value.set_sensitive(true);
    Some(HeaderMap::from_iter([(name, value)]))
}
