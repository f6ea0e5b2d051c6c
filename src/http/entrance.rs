//! How a listener lets connections in, and in whose words it turns a request away.
//!
//! A listener knows no route and no dialect, and some requests never come to a route: heads above a bound, two hosts, a
//! handler that panicked. Whoever serves the plane says in which words they are answered.

use crate::base::CidrSet;
use crate::http::{Problem, RequestId, Tls};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;

/// What one listener is told besides its limits.
#[derive(Clone)]
pub struct Entrance {
    /// With a certificate: TLS, and nothing else.
    pub tls: Option<Tls>,
    /// Peers that must say for whom they connect, in a PROXY protocol header of version 2. Nobody else may.
    pub relays: CidrSet,
    /// The words.
    pub voice: Voice,
}

/// Chooses the words by a request's header fields, which are all that is known of it.
pub type Voice = fn(&HeaderMap) -> Say;

/// Says no.
pub type Say = fn(EdgeRefusal, &RequestId) -> Response;

impl Default for Entrance {
    /// Plain connections, from their peers, and problem details.
    fn default() -> Self {
        Self { tls: None, relays: CidrSet::default(), voice: problems }
    }
}

/// Problem details, whoever asks.
pub fn problems(_: &HeaderMap) -> Say {
    |refusal, _| Problem::from(refusal).into_response()
}

/// Why a request is answered before any route, or in place of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeRefusal {
    /// Path and query above their bound.
    UriTooLong {
        /// The bound, in bytes.
        bytes_max: usize,
    },
    /// Too many header fields.
    TooManyHeaders {
        /// The bound.
        headers_max: usize,
    },
    /// `CONNECT`: nothing is tunnelled.
    Connect,
    /// A request target without a path, like `*`.
    NoPath,
    /// No host, two, one that is none, or another than the target's.
    Host,
    /// The handler failed; the log says where.
    Fault,
}

impl EdgeRefusal {
    /// What is wrong and what to do, in words.
    pub fn detail(self) -> String {
        match self {
            Self::UriTooLong { bytes_max } => {
                format!("the path and query are longer than {bytes_max} bytes")
            }
            Self::TooManyHeaders { headers_max } => {
                format!("the request has more than {headers_max} header fields")
            }
            Self::Connect => "this server opens no tunnels".to_owned(),
            Self::NoPath => "the request's target is no path; begin it with /".to_owned(),
            Self::Host => "send exactly one Host header field, of the host in the target".to_owned(),
            Self::Fault => {
                "the server failed to answer; its log has the reason under this request id".to_owned()
            }
        }
    }
}

impl From<EdgeRefusal> for Problem {
    fn from(refusal: EdgeRefusal) -> Self {
        match refusal {
            EdgeRefusal::UriTooLong { bytes_max } => Self::uri_too_long(bytes_max),
            EdgeRefusal::TooManyHeaders { headers_max } => Self::too_many_headers(headers_max),
            EdgeRefusal::Connect => Self::method_not_allowed(),
            EdgeRefusal::NoPath => Self::bad_request("invalid_target", refusal.detail()),
            EdgeRefusal::Host => Self::bad_request("invalid_host", refusal.detail()),
            EdgeRefusal::Fault => Self::fault(),
        }
    }
}
