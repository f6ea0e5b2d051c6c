//! A request as it arrived: what its head says, and its entry as far as it is known.

use super::headers::tags;
use super::identify;
use super::refusal::{Code, Refusal};
use crate::base::{CidrSet, clip};
use crate::http::{HangUp, Peer, RequestId};
use crate::log::{Decision, Entry};
use crate::provider::Dialect;
use crate::service::Caller;
use chrono::{DateTime, Utc};
use http::request::Parts;
use http::{HeaderMap, Method};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

const TEXT_MAX_BYTES: usize = 256;

/// The head of a request, and when and from where it came.
pub(super) struct Arrival {
    /// Names the request.
    pub(super) id: RequestId,
    /// When it came, by the wall clock.
    pub(super) time: DateTime<Utc>,
    /// When it came, for durations.
    pub(super) started: Instant,
    /// The method.
    pub(super) method: Method,
    /// The raw path.
    pub(super) path: String,
    /// The raw query.
    pub(super) query: Option<String>,
    /// The headers.
    pub(super) headers: HeaderMap,
    /// Who connected, for himself or for another.
    pub(super) peer: IpAddr,
    /// Ends the client's connection at once, where it carries nothing else.
    pub(super) hang_up: Option<HangUp>,
    /// Step 1: the client behind trusted proxies.
    pub(super) client: Option<IpAddr>,
}

impl Arrival {
    /// Takes a request's head. The listener put the peer and the id into its extensions.
    pub(super) fn new(parts: Parts, time: DateTime<Utc>, trusted: &CidrSet) -> Result<Self, Refusal> {
        let extension =
            || Refusal::new(Code::Overloaded, "The listener did not say who connected. Report this.");
        let peer = *parts.extensions.get::<Peer>().ok_or_else(extension)?;
        let id = parts.extensions.get::<RequestId>().ok_or_else(extension)?.clone();
        Ok(Self {
            id,
            time,
            started: Instant::now(),
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            client: identify::client_address(peer.ip(), trusted, &parts.headers),
            hang_up: parts.extensions.get::<HangUp>().cloned(),
            headers: parts.headers,
            peer: peer.socket_ip(),
        })
    }

    /// The dialect to answer in when the path does not tell.
    pub(super) fn spoken(&self) -> Dialect {
        spoken(&self.headers)
    }

    /// The entry with everything that is known once the caller is.
    pub(super) fn entry(&self, caller: &Caller, node: &str, dialect: Dialect) -> Entry {
        let subkey = &caller.key.subkey;
        let definition = &subkey.definition;
        let user_agent = self.headers.get(http::header::USER_AGENT);
        Entry {
            time: self.time,
            node: node.to_owned(),
            request_id: self.id.as_str().to_owned(),
            subkey_id: subkey.id.to_string(),
            subkey_name: definition.name.clone(),
            secret_id: caller.secret_id.clone(),
            project: definition.project.clone(),
            owner: definition.owner.clone(),
            client_ip: self.client.map(|ip| ip.to_string()),
            peer_ip: self.peer.to_string(),
            method: clip(self.method.as_str(), TEXT_MAX_BYTES),
            path: clip(&self.path, TEXT_MAX_BYTES),
            dialect: dialect.as_str().to_owned(),
            decision: Decision::Denied,
            count: 1,
            user_agent: user_agent
                .map(|value| clip(&String::from_utf8_lossy(value.as_bytes()), TEXT_MAX_BYTES)),
            labels: definition.labels.clone(),
            ..Entry::default()
        }
    }

    /// The tags that the request gives itself, if they fit.
    pub(super) fn tags(&self) -> Result<BTreeMap<String, String>, Refusal> {
        tags(&self.headers).map_err(|error| Refusal::new(Code::InvalidBody, error))
    }

    /// Milliseconds since the request came.
    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Microseconds since the request came.
    pub(super) fn elapsed_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The dialect that header fields alone tell of.
pub(super) fn spoken(headers: &HeaderMap) -> Dialect {
    let google = headers.keys().any(|name| name.as_str().starts_with("x-goog-"));
    if google && !headers.contains_key("anthropic-version") {
        Dialect::Gemini
    } else {
        Dialect::spoken(headers)
    }
}
