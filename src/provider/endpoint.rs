//! A provider: where and how each dialect that it speaks is reached.
//!
//! [`ProviderDocument`] is what the admin API takes; [`Provider`] is what it means, checked. Keys are no part of
//! either: a header or query parameter that could carry one is refused, since both are shown to every operator.

use super::base_url::{BaseUrl, BaseUrlError};
use super::dialect::Dialect;
use super::slug::Slug;
use crate::base::CidrSet;
use crate::budget::{RateLimit, RateLimitFault, check_rate_limits};
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// An upstream API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its name here.
    pub slug: Slug,
    /// Where each dialect that it speaks is reached; at least one.
    pub dialects: BTreeMap<Dialect, Endpoint>,
    /// Model to deployment, for providers that name deployments instead of models.
    pub deployments: BTreeMap<String, String>,
    /// What happens upstream when a client hangs up in a stream.
    pub on_client_gone: OnClientGone,
    /// Whether it takes `stream_options`, by which a stream reports its usage.
    pub supports_stream_options: bool,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// What may be sent to all of its accounts together, whoever sends it.
    pub rate_limits: Vec<RateLimit>,
}

/// Where and how one dialect is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What every path is put behind.
    pub base_url: BaseUrl,
    /// Where the provider key goes.
    pub auth: AuthScheme,
    /// Sent with every request; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Put into every URL.
    pub query: BTreeMap<String, String>,
}

/// Where the provider key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthScheme {
    /// `authorization: Bearer KEY`
    Bearer,
    /// `x-api-key: KEY`
    XApiKey,
    /// `api-key: KEY`
    ApiKey,
    /// `x-goog-api-key: KEY`
    XGoogApiKey,
}

impl AuthScheme {
    /// The one that the dialect's own provider uses.
    pub fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenAi => Self::Bearer,
            Dialect::Anthropic => Self::XApiKey,
            Dialect::Gemini => Self::XGoogApiKey,
        }
    }
}

/// What happens upstream when a client hangs up in a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnClientGone {
    /// The provider's stream is cancelled too.
    #[default]
    Cancel,
    /// The provider's stream is read to its end, because the provider bills on.
    Drain,
}

/// How long a provider may take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect_ms: u64,
    /// From the request's end to the answer's first byte.
    pub first_byte_ms: u64,
    /// Between two pieces of an answer.
    pub idle_ms: u64,
    /// For the whole exchange.
    pub total_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 5_000, first_byte_ms: 600_000, idle_ms: 300_000, total_ms: 3_600_000 }
    }
}

/// A provider as the admin API takes and shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderDocument {
    /// See [`Provider::slug`].
    pub slug: Slug,
    /// See [`Provider::dialects`].
    pub dialects: BTreeMap<Dialect, EndpointDocument>,
    /// See [`Provider::deployments`].
    #[serde(default)]
    pub deployments: BTreeMap<String, String>,
    /// See [`Provider::on_client_gone`].
    #[serde(default)]
    pub on_client_gone: OnClientGone,
    /// See [`Provider::supports_stream_options`].
    #[serde(default = "yes")]
    pub supports_stream_options: bool,
    /// See [`Provider::timeouts`].
    #[serde(default)]
    pub timeouts: Timeouts,
    /// See [`Provider::rate_limits`].
    #[serde(default)]
    pub rate_limits: Vec<RateLimit>,
}

/// An endpoint as the admin API takes and shows it; a plain string is short for its `base_url`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointDocument {
    /// See [`Endpoint::base_url`].
    pub base_url: String,
    /// See [`Endpoint::auth`]; null is the dialect's own.
    pub auth: Option<AuthScheme>,
    /// See [`Endpoint::headers`].
    pub headers: BTreeMap<String, String>,
    /// See [`Endpoint::query`].
    pub query: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for EndpointDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            base_url: String,
            #[serde(default)]
            auth: Option<AuthScheme>,
            #[serde(default)]
            headers: BTreeMap<String, String>,
            #[serde(default)]
            query: BTreeMap<String, String>,
        }

        impl<'de> Visitor<'de> for Either {
            type Value = EndpointDocument;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a base URL or {\"base_url\": ...}")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<EndpointDocument, E> {
                Ok(EndpointDocument::from(text))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointDocument, A::Error> {
                let Whole { base_url, auth, headers, query } =
                    Whole::deserialize(MapAccessDeserializer::new(map))?;
                Ok(EndpointDocument { base_url, auth, headers, query })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl From<&str> for EndpointDocument {
    fn from(base_url: &str) -> Self {
        Self { base_url: base_url.to_owned(), auth: None, headers: BTreeMap::new(), query: BTreeMap::new() }
    }
}

/// Why a document is no provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It speaks nothing.
    #[error("name the base URL of at least one dialect")]
    NoDialect,
    /// A base URL is refused.
    #[error("{source}")]
    BaseUrl {
        /// Of which dialect.
        dialect: Dialect,
        /// Why.
        source: BaseUrlError,
    },
    /// A header that is malformed, set by Bitting itself, or could carry a key.
    #[error("the header {name:?} cannot be set: it is malformed, set by Bitting, or could carry a key")]
    Header {
        /// Of which dialect.
        dialect: Dialect,
        /// As written.
        name: String,
    },
    /// A query parameter that is malformed or could carry a key.
    #[error("the query parameter {name:?} cannot be set: it is malformed or could carry a key")]
    Query {
        /// Of which dialect.
        dialect: Dialect,
        /// As written.
        name: String,
    },
    /// A model's name that is malformed, or a deployment's that is no segment of a path.
    #[error(
        "the deployment of {0:?} is malformed: it has 1 to 128 letters, digits and -._~, and is not all dots"
    )]
    Deployment(String),
    /// A timeout that is 0 or above a day.
    #[error("a timeout is 1 to 86400000 milliseconds")]
    Timeout,
    /// A rate limit that makes no sense.
    #[error(transparent)]
    RateLimit(#[from] RateLimitFault),
}

impl ProviderError {
    /// The field at fault, as a JSON pointer into the document.
    pub fn field(&self) -> String {
        match self {
            Self::NoDialect => "/dialects".to_owned(),
            Self::BaseUrl { dialect, .. } => format!("/dialects/{}/base_url", dialect.as_str()),
            Self::Header { dialect, .. } => format!("/dialects/{}/headers", dialect.as_str()),
            Self::Query { dialect, .. } => format!("/dialects/{}/query", dialect.as_str()),
            Self::Deployment(_) => "/deployments".to_owned(),
            Self::Timeout => "/timeouts".to_owned(),
            Self::RateLimit(fault) => format!("/rate_limits{}", fault.at),
        }
    }
}

impl ProviderDocument {
    /// What the document means. `private` are the networks that the server's configuration lists as private upstreams.
    pub fn check(self, private: &CidrSet) -> Result<Provider, ProviderError> {
        if self.dialects.is_empty() {
            return Err(ProviderError::NoDialect);
        }
        let mut deployments = self.deployments.iter();
        let bad = deployments.find(|(model, deployment)| !is_token(model) || !is_segment(deployment));
        if let Some((model, _)) = bad {
            return Err(ProviderError::Deployment(model.clone()));
        }
        let Timeouts { connect_ms, first_byte_ms, idle_ms, total_ms } = self.timeouts;
        if ![connect_ms, first_byte_ms, idle_ms, total_ms].iter().all(|ms| (1..=86_400_000).contains(ms)) {
            return Err(ProviderError::Timeout);
        }
        check_rate_limits(&self.rate_limits)?;
        let endpoints = self
            .dialects
            .into_iter()
            .map(|(dialect, endpoint)| Ok((dialect, endpoint.check(dialect, private)?)));
        Ok(Provider {
            slug: self.slug,
            dialects: endpoints.collect::<Result<_, ProviderError>>()?,
            deployments: self.deployments,
            on_client_gone: self.on_client_gone,
            supports_stream_options: self.supports_stream_options,
            timeouts: self.timeouts,
            rate_limits: self.rate_limits,
        })
    }
}

impl EndpointDocument {
    fn check(self, dialect: Dialect, private: &CidrSet) -> Result<Endpoint, ProviderError> {
        let base_url = BaseUrl::parse(&self.base_url, private)
            .map_err(|source| ProviderError::BaseUrl { dialect, source })?
            .for_dialect(dialect);
        let mut headers = BTreeMap::new();
        for (name, value) in self.headers {
            let lower = name.to_ascii_lowercase();
            if !is_free_header(&lower) || !is_value(&value) || headers.insert(lower, value).is_some() {
                return Err(ProviderError::Header { dialect, name });
            }
        }
        if let Some(name) = self.query.iter().find(|(name, value)| !is_free_query(name) || !is_value(value)) {
            return Err(ProviderError::Query { dialect, name: name.0.clone() });
        }
        let auth = self.auth.unwrap_or(AuthScheme::of(dialect));
        Ok(Endpoint { base_url, auth, headers, query: self.query })
    }
}

impl From<&Provider> for ProviderDocument {
    fn from(provider: &Provider) -> Self {
        let document = |endpoint: &Endpoint| EndpointDocument {
            base_url: endpoint.base_url.to_string(),
            auth: Some(endpoint.auth),
            headers: endpoint.headers.clone(),
            query: endpoint.query.clone(),
        };
        Self {
            slug: provider.slug.clone(),
            dialects: provider
                .dialects
                .iter()
                .map(|(dialect, endpoint)| (*dialect, document(endpoint)))
                .collect(),
            deployments: provider.deployments.clone(),
            on_client_gone: provider.on_client_gone,
            supports_stream_options: provider.supports_stream_options,
            timeouts: provider.timeouts,
            rate_limits: provider.rate_limits.clone(),
        }
    }
}

/// A header that an operator may set: a token that neither Bitting nor HTTP sets, and that no key travels in.
fn is_free_header(lower: &str) -> bool {
    const SET_BY_BITTING: [&str; 18] = [
        "accept",
        "accept-encoding",
        "api-key",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
    ];
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=64).contains(&lower.len())
        && lower.bytes().all(token)
        && !SET_BY_BITTING.contains(&lower)
        && !lower.starts_with("x-bitting-")
        && !lower.starts_with("x-forwarded-")
        && !names_a_key(lower)
}

fn is_free_query(name: &str) -> bool {
    is_token(name) && !names_a_key(&name.to_ascii_lowercase())
}

fn names_a_key(lower: &str) -> bool {
    ["key", "token", "secret", "auth", "password", "credential"].iter().any(|word| lower.contains(word))
}

fn is_token(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether the text is one segment of a URL's path as it is: nothing in it has to be escaped, and it leads nowhere else.
fn is_segment(text: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (1..=128).contains(&text.len())
        && text.bytes().all(is_unreserved)
        && text.bytes().any(|byte| byte != b'.')
}

fn is_value(text: &str) -> bool {
    text.len() <= 1_024
        && text.trim() == text
        && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests;
