//! The name of one request, made at the edge and never taken from the client.

use crate::base::Entropy;
use axum::extract::FromRequestParts;
use http::HeaderValue;
use http::request::Parts;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

/// Names one request, as `req_` and 22 base62 characters. Public: it is answered, logged and exported.
///
/// The listener puts one into the extensions of every request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A fresh id.
    pub fn new(entropy: &Entropy) -> Self {
        Self(entropy.id("req").into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as a header value; base62 always is one.
    pub(super) fn header_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    /// The id that the listener gave the request; a router driven without the listener (a test) gets a fresh one.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self::new(&Entropy::new())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_prefix_and_22_characters_and_never_the_same() {
        let (one, two) = (RequestId::new(&Entropy::new()), RequestId::new(&Entropy::new()));
        let tail = one.as_str().strip_prefix("req_").unwrap();
        assert!(tail.len() == 22 && tail.bytes().all(|b| b.is_ascii_alphanumeric()), "{one}");
        assert_ne!(one, two);
    }
}
