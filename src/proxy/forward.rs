//! Steps 9 and 10: open the credential and write the upstream request. No permit, no key.

use super::Proxy;
use super::admit::Admitted;
use super::arrival::Arrival;
use super::headers::request_headers;
use super::refusal::{Code, Refusal};
use super::respond;
use super::upstream::Deadlines;
use crate::provider::{AuthScheme, Endpoint, OnClientGone, Timeouts, operation};
use crate::service::Credential;
use crate::vault::{EchoGuard, ProviderKey, open_credential};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Uri};
use http_body_util::Full;
use ring::digest;
use std::time::Duration;

/// The request to the provider, ready to be sent once, and how to treat its answer.
pub(super) struct Call {
    pub(super) request: Request<Full<Bytes>>,
    pub(super) deadlines: Deadlines,
    pub(super) idle: Duration,
    pub(super) total: Duration,
    pub(super) drains: bool,
    pub(super) guard: EchoGuard,
}

/// Opens the credential and writes the request. An error means that nothing was sent.
pub(super) fn prepare(
    proxy: &Proxy,
    arrival: &Arrival,
    matched: &operation::Matched<'_>,
    admitted: &Admitted,
) -> Result<Call, Refusal> {
    let unusable = |what: &str| {
        tracing::error!(provider = %admitted.resolved.provider, what, "an admitted request cannot be forwarded");
        Refusal::new(
            Code::UpstreamCredentialError,
            "The provider's credential cannot be used. Tell your security team.",
        )
    };
    // Not the snapshot that admitted: what was suspended or disabled meanwhile is not used.
    let snapshot = proxy.services.snapshot();
    let entry = snapshot.providers.get(&admitted.resolved.provider).filter(|entry| entry.active);
    let entry = entry.ok_or_else(|| unusable("no provider"))?;
    let id = admitted.entry.credential_id.as_deref();
    let credential = entry
        .credentials
        .iter()
        .find(|one| Some(one.id.as_str()) == id)
        .ok_or_else(|| unusable("no credential"))?;
    let endpoint =
        entry.provider.dialects.get(&matched.row.dialect).ok_or_else(|| unusable("no endpoint"))?;
    let keyring = proxy.services.vault.keyring().map_err(|_| respond::sealed())?;
    let key = open_credential(&admitted.permit, &keyring, &credential.binding, &credential.sealed)
        .map_err(|error| unusable(&error.to_string()))?;
    let uri = uri(endpoint, matched, arrival.query.as_deref()).ok_or_else(|| unusable("no address"))?;
    let headers =
        headers(arrival, endpoint, credential, &key, admitted).ok_or_else(|| unusable("no header"))?;

    let mut request = Request::new(Full::new(admitted.body.clone()));
    *request.method_mut() = matched.row.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    let Timeouts { connect_ms, first_byte_ms, idle_ms, total_ms } = entry.provider.timeouts;
    Ok(Call {
        request,
        deadlines: Deadlines {
            connect: Duration::from_millis(connect_ms),
            first_byte: Duration::from_millis(first_byte_ms),
        },
        idle: Duration::from_millis(idle_ms),
        total: Duration::from_millis(total_ms),
        drains: entry.provider.on_client_gone == OnClientGone::Drain,
        guard: EchoGuard::new(&key),
    })
}

/// The row's own path behind the provider's base URL: nothing of the client's path is sent.
fn uri(endpoint: &Endpoint, matched: &operation::Matched<'_>, query: Option<&str>) -> Option<Uri> {
    let own = endpoint.query.iter().map(|(name, value)| format!("{name}={value}"));
    let client = query.and_then(|query| matched.row.upstream_query(query));
    let query: Vec<String> = own.chain(client).collect();
    let mut path = format!("{}{}", endpoint.base_url.path(), matched.row.upstream_path);
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let base = &endpoint.base_url;
    Uri::builder()
        .scheme(base.scheme().as_str())
        .authority(base.authority())
        .path_and_query(path)
        .build()
        .ok()
}

fn headers(
    arrival: &Arrival,
    endpoint: &Endpoint,
    credential: &Credential,
    key: &ProviderKey,
    admitted: &Admitted,
) -> Option<HeaderMap> {
    let mut headers = request_headers(&arrival.headers);
    for (name, value) in &endpoint.headers {
        headers.insert(name.parse::<HeaderName>().ok()?, value.parse().ok()?);
    }
    // Usage must be readable, and nothing is unpacked here.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(client_key) = arrival.headers.get("idempotency-key") {
        let id = admitted.caller.key.subkey.id.as_str();
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(id.as_bytes());
        context.update(b"/");
        context.update(client_key.as_bytes());
        let hash = BASE64URL_NOPAD.encode(context.finish().as_ref());
        headers.insert(HeaderName::from_static("idempotency-key"), hash.parse().ok()?);
    }
    for (name, value) in
        [("openai-organization", &credential.organization), ("openai-project", &credential.openai_project)]
    {
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value.parse().ok()?);
        }
    }
    let (name, value) = match endpoint.auth {
        AuthScheme::Bearer => (AUTHORIZATION, zeroize::Zeroizing::new(format!("Bearer {}", key.expose()))),
        AuthScheme::XApiKey => {
            (HeaderName::from_static("x-api-key"), zeroize::Zeroizing::new(key.expose().to_owned()))
        }
        AuthScheme::ApiKey => {
            (HeaderName::from_static("api-key"), zeroize::Zeroizing::new(key.expose().to_owned()))
        }
        AuthScheme::XGoogApiKey => {
            (HeaderName::from_static("x-goog-api-key"), zeroize::Zeroizing::new(key.expose().to_owned()))
        }
    };
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Some(headers)
}
