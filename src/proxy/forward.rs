//! Steps 9 and 10: open the credential and write the upstream request. No permit, no key.

use super::Proxy;
use super::admit::Admitted;
use super::arrival::Arrival;
use super::headers::request_headers;
use super::refusal::{Code, Refusal};
use super::respond;
use super::upstream::{Chain, Deadlines};
use crate::provider::ask::{BETA_HEADERS, betas_beyond};
use crate::provider::{AuthScheme, Endpoint, ModelPlace, OnClientGone, Timeouts, operation};
use crate::service::{Credential, KeyVersion, Snapshot};
use crate::vault::{Binding, EchoGuard, open_credential};
use data_encoding::BASE64URL_NOPAD;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use ring::digest;
use std::time::Duration;
use zeroize::Zeroizing;

/// The request to the provider, ready to be sent, and how to treat its answer.
pub(super) struct Call {
    pub(super) attempt: Attempt,
    /// For the case that the provider refuses the key, while another version of it may be used.
    pub(super) again: Option<Again>,
    pub(super) deadlines: Deadlines,
    pub(super) idle: Duration,
    pub(super) total: Duration,
    pub(super) drains: bool,
}

/// The request with a key in it, to be sent once.
pub(super) struct Attempt {
    pub(super) request: Request<Chain>,
    /// Looks for that key in the answer.
    pub(super) guard: EchoGuard,
    /// Which version of the credential's key it is.
    pub(super) version: i64,
}

/// The request without its key, and where it was sent with which.
pub(super) struct Again {
    bare: Request<Chain>,
    auth: AuthScheme,
    tried: Binding,
}

/// Why there is no key for an attempt.
enum Unusable {
    /// The vault is closed.
    Sealed,
    /// The key does not open, or is no header.
    Key(String),
}

/// Opens the credential and writes the request. An error means that nothing was sent.
pub(super) fn prepare(
    proxy: &Proxy,
    arrival: &Arrival,
    matched: &operation::Matched<'_>,
    admitted: &mut Admitted,
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
    let credential = in_force(&snapshot, admitted).ok_or_else(|| unusable("no credential"))?;
    let endpoint =
        entry.provider.dialects.get(&matched.row.dialect).ok_or_else(|| unusable("no endpoint"))?;
    let place = entry.provider.model_place(matched.row.dialect, &admitted.resolved.model);
    let uri = uri(endpoint, matched, (&place, &admitted.resolved.model), arrival.query.as_deref());
    let uri = uri.ok_or_else(|| unusable("no address"))?;
    let mut headers =
        headers(arrival, endpoint, credential, admitted).ok_or_else(|| unusable("no header"))?;
    if matched.row.method == Method::POST && admitted.body.is_empty() {
        // Servers answer 411 to a POST that does not say that nothing follows.
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }

    // From here on it is in the attempts alone: what was written is let go, and no answer is as long as a body is kept.
    let mut bare = Request::new(std::mem::take(&mut admitted.body));
    *bare.method_mut() = matched.row.method.clone();
    *bare.uri_mut() = uri;
    *bare.headers_mut() = headers;
    let (first, other) = credential.versions(proxy.services.clock.now());
    let auth = endpoint.auth;
    let again = other.map(|_| Again { bare: bare.clone(), auth, tried: first.binding.clone() });
    let attempt = Attempt::new(proxy, &*admitted, (bare, auth), first).map_err(|why| match why {
        Unusable::Sealed => respond::sealed(),
        Unusable::Key(what) => unusable(&what),
    })?;
    let Timeouts { connect_ms, first_byte_ms, idle_ms, total_ms } = entry.provider.timeouts;
    Ok(Call {
        attempt,
        again,
        deadlines: Deadlines {
            connect: Duration::from_millis(connect_ms),
            first_byte: Duration::from_millis(first_byte_ms),
        },
        idle: Duration::from_millis(idle_ms),
        total: Duration::from_millis(total_ms),
        drains: entry.provider.on_client_gone == OnClientGone::Drain,
    })
}

/// The request's credential, where at this moment it may be used.
pub(super) fn in_force<'s>(snapshot: &'s Snapshot, admitted: &Admitted) -> Option<&'s Credential> {
    let id = admitted.entry.credential_id.as_deref()?;
    snapshot.credential(&admitted.resolved.provider, id)
}

impl Again {
    /// The request with the other version of the key, where at this moment that may be used, at the same place.
    pub(super) fn attempt(self, proxy: &Proxy, admitted: &Admitted) -> Option<Attempt> {
        let snapshot = proxy.services.snapshot();
        let (first, other) = in_force(&snapshot, admitted)?.versions(proxy.services.clock.now());
        let fits = |key: &&KeyVersion| {
            key.binding.version != self.tried.version && key.binding.origins == self.tried.origins
        };
        let key = [Some(first), other].into_iter().flatten().find(fits)?;
        Attempt::new(proxy, admitted, (self.bare, self.auth), key).ok()
    }
}

impl Attempt {
    /// Opens the key and puts it where the provider takes it.
    fn new(
        proxy: &Proxy,
        admitted: &Admitted,
        (mut request, auth): (Request<Chain>, AuthScheme),
        key: &KeyVersion,
    ) -> Result<Self, Unusable> {
        let version = key.binding.version;
        let keyring = proxy.services.vault.keyring().map_err(|_| Unusable::Sealed)?;
        let key = open_credential(&admitted.permit, &keyring, &key.binding, &key.sealed)
            .map_err(|error| Unusable::Key(error.to_string()))?;
        let (name, value) = match auth {
            AuthScheme::Bearer => (AUTHORIZATION, Zeroizing::new(format!("Bearer {}", key.expose()))),
            AuthScheme::XApiKey => {
                (HeaderName::from_static("x-api-key"), Zeroizing::new(key.expose().to_owned()))
            }
            AuthScheme::ApiKey => {
                (HeaderName::from_static("api-key"), Zeroizing::new(key.expose().to_owned()))
            }
            AuthScheme::XGoogApiKey => {
                (HeaderName::from_static("x-goog-api-key"), Zeroizing::new(key.expose().to_owned()))
            }
        };
        let value = HeaderValue::from_str(&value);
        let mut value = value.map_err(|error| Unusable::Key(error.to_string()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
        Ok(Self { request, guard: EchoGuard::new(&key), version })
    }
}

/// The row's own path behind the provider's base URL: nothing of the client's path is sent.
fn uri(
    endpoint: &Endpoint,
    matched: &operation::Matched<'_>,
    (place, model): (&ModelPlace, &str),
    query: Option<&str>,
) -> Option<Uri> {
    let is_azure = matches!(place, ModelPlace::Path(_)) || endpoint.query.contains_key("api-version");
    let client = query.and_then(|query| matched.upstream_query(query, is_azure));
    // What the client says itself, it says instead of the operator.
    let is_said = |name: &str| {
        let said = client.iter().flat_map(|query| query.split('&'));
        said.into_iter().any(|pair| pair.split('=').next() == Some(name))
    };
    let own = endpoint.query.iter().filter(|(name, _)| !is_said(name));
    let query: Vec<String> =
        own.map(|(name, value)| format!("{name}={value}")).chain(client.clone()).collect();
    let base = endpoint.base_url.path();
    let mut path = match place {
        ModelPlace::Path(deployment) => {
            format!("{base}/deployments/{deployment}{}", matched.upstream_path(model))
        }
        ModelPlace::Body(_) => format!("{base}{}", matched.upstream_path(model)),
    };
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
    admitted: &Admitted,
) -> Option<HeaderMap> {
    let mut headers = request_headers(&arrival.headers);
    for (name, value) in &endpoint.headers {
        let name = name.parse::<HeaderName>().ok()?;
        if BETA_HEADERS.contains(&name.as_str()) {
            add_betas(&mut headers, name, value)?;
        } else {
            headers.insert(name, value.parse().ok()?);
        }
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
    Some(headers)
}

/// Puts the provider's own beta values behind the application's. Where those have them all, they stay as they came.
fn add_betas(headers: &mut HeaderMap, name: HeaderName, set: &str) -> Option<()> {
    let asked = headers.get_all(&name).iter().map(HeaderValue::to_str).collect::<Result<Vec<_>, _>>().ok()?;
    let more = betas_beyond(headers, name.as_str(), set);
    if !more.is_empty() {
        // In one line: there are servers that read no other than the first.
        let both = [asked, more].concat().join(",").parse().ok()?;
        headers.insert(name, both);
    }
    Some(())
}
