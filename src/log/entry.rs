//! One entry for each proxied request, and one for each administrative change.

use crate::base::{NanoUsd, signed};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The access-log entry of one request. Client-controlled text was clipped and escaped before it came here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The place in the sequenced log; `None` until sequenced.
    pub index: Option<i64>,
    /// When it was sequenced.
    pub logged_at: Option<DateTime<Utc>>,
    /// When the request came.
    pub time: DateTime<Utc>,
    /// The node that served it.
    pub node: String,
    /// The request.
    pub request_id: String,
    /// The sub-key's id.
    pub subkey_id: String,
    /// Its name at the time.
    pub subkey_name: String,
    /// Which of its secrets was presented.
    pub secret_id: String,
    /// The sub-key it was cut from, if any.
    pub parent_subkey: Option<String>,
    /// The project that owns it.
    pub project: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// The client's address behind trusted proxies; `None` when none could be read.
    pub client_ip: Option<String>,
    /// The address that connected.
    pub peer_ip: String,
    /// The method.
    pub method: String,
    /// The path, without query.
    pub path: String,
    /// What was asked for.
    pub operation: Option<String>,
    /// The client's dialect.
    pub dialect: String,
    /// The model as the client wrote it.
    pub model_requested: Option<String>,
    /// The model as sent.
    pub model: Option<String>,
    /// The model the provider says it served.
    pub model_reported: Option<String>,
    /// The provider.
    pub provider: Option<String>,
    /// The credential used.
    pub credential_id: Option<String>,
    /// Admitted or refused.
    pub decision: Decision,
    /// The contract's code of the refusal.
    pub rule: Option<String>,
    /// Rules of observed policies that would have refused.
    pub would_deny: Vec<String>,
    /// How many requests the entry stands for; none where it only changes what was charged.
    pub count: u64,
    /// The status answered; `None` when the client was gone before.
    pub status: Option<u16>,
    /// The provider's status.
    pub upstream_status: Option<u16>,
    /// The provider's id for the request.
    pub upstream_request_id: Option<String>,
    /// How often the provider was asked.
    pub attempts: u32,
    /// Why another target than the first answered.
    pub fallback: Option<String>,
    /// What was changed in the request.
    pub changed: Vec<String>,
    /// The answer was a stream.
    pub streamed: bool,
    /// Why the output ended, in the provider's words.
    pub finish_reason: Option<String>,
    /// Input tokens at the plain price.
    pub input_tokens: u64,
    /// Input tokens read from a cache.
    pub cached_input_tokens: u64,
    /// Input tokens written to a cache.
    pub cache_write_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// How many of them were reasoning.
    pub reasoning_tokens: u64,
    /// The worst case that was held.
    pub reserved_usd: NanoUsd,
    /// What was charged; negative in an entry that corrects another.
    #[serde(deserialize_with = "signed::deserialize")]
    pub cost_usd: NanoUsd,
    /// What the provider says it cost, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_cost_usd: Option<NanoUsd>,
    /// What it costs by our prices, where the provider says a cost of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_cost_usd: Option<NanoUsd>,
    /// The price list that priced it.
    pub price_version: Option<String>,
    /// Where the token counts come from.
    pub usage_source: UsageSource,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// From the first byte in to the last byte out.
    pub duration_ms: u64,
    /// From the first byte in to the first byte out.
    pub first_byte_ms: Option<u64>,
    /// Time spent here before the first byte, the provider's excluded.
    pub overhead_us: u64,
    /// The client's software.
    pub user_agent: Option<String>,
    /// Versions of the policies that decided.
    pub policy_versions: BTreeMap<String, i64>,
    /// The sub-key's labels at the time.
    pub labels: BTreeMap<String, String>,
    /// The request's own tags.
    pub tags: BTreeMap<String, String>,
    /// The request whose entry this one corrects, by taking back what was charged for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrects: Option<String>,
}

/// Whether the gate opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Admitted.
    Allowed,
    /// Refused.
    #[default]
    Denied,
}

impl Decision {
    /// The word in entries and filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

/// Where token counts come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider reported them.
    Reported,
    /// Counted here, because the provider reported none.
    Estimated,
    /// The whole reservation was charged, because the outcome is not known.
    Reserved,
    /// Nothing was used.
    #[default]
    None,
}

/// How an admitted request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The whole answer was passed on.
    Completed,
    /// The client went away first.
    ClientGone,
    /// We cut it: key revoked, cap reached, drain over.
    Cut,
    /// The provider failed or broke off.
    UpstreamFailed,
    /// The server died in between.
    UnknownOutcome,
}

/// The admin-log entry of one change or one read of evidence: who did what to what. No secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminEntry {
    /// When.
    pub time: DateTime<Utc>,
    /// The operator, or `local` for commands run beside the data.
    pub actor: String,
    /// What was done, like `subkey.mint`.
    pub action: String,
    /// What it was done to.
    pub target: String,
    /// The request that did it; empty for local commands.
    pub request_id: String,
    /// What it came to: before and after, without secrets.
    pub detail: serde_json::Value,
}
