//! Which entries a reader wants.

use super::Decision;
use chrono::{DateTime, Utc};
use serde::Deserialize;

/// The filters of the access log; every one given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// From this time on.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub to: Option<DateTime<Utc>>,
    /// The project.
    pub project: Option<String>,
    /// These projects, of which the reader reaches no other; `None` is all.
    #[serde(skip)]
    pub within: Option<Vec<String>>,
    /// The sub-key's id.
    pub subkey: Option<String>,
    /// The provider.
    pub provider: Option<String>,
    /// The model as sent.
    pub model: Option<String>,
    /// Admitted or refused.
    pub decision: Option<Decision>,
    /// The status answered.
    pub status: Option<u16>,
    /// One request.
    pub request_id: Option<String>,
    /// The client's address.
    pub client_ip: Option<String>,
}
