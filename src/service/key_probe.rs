//! Asking a provider what is free: trying a key before it is used, fetching the model list. The verbs have no HTTP client: whoever starts them brings one.

use crate::base::Secret;
use crate::provider::Provider;
use futures_util::future::BoxFuture;

/// A key to be tried, and where.
pub struct Trial<'a> {
    /// The provider, with the addresses that it has now.
    pub provider: &'a Provider,
    /// The key.
    pub key: &'a Secret<String>,
    /// Sent as `openai-organization`.
    pub organization: Option<&'a str>,
    /// Sent as `openai-project`.
    pub openai_project: Option<&'a str>,
}

/// Asks a provider for something that is free.
pub trait KeyProbe: Send + Sync {
    /// Whether the provider takes the key. Bounded in time; costs nothing.
    fn probe<'a>(&'a self, trial: Trial<'a>) -> BoxFuture<'a, Result<(), ProbeError>>;

    /// The provider's model list as it came, asked for without a key. Bounded in time and size; no redirect is followed.
    fn model_list<'a>(&'a self, provider: &'a Provider) -> BoxFuture<'a, Result<String, ProbeError>>;
}

/// Why a key was not found good. The texts hold nothing of the key, nor of what the provider said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The provider refused the key.
    #[error("the provider refused the key ({status})")]
    Refused {
        /// The status of its answer.
        status: u16,
    },
    /// The provider could not be reached, or said nothing that tells whether the key is good.
    #[error("{reason}")]
    NoAnswer {
        /// What happened, in words.
        reason: String,
    },
}
