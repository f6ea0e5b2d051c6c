//! The one client for providers.
//!
//! It dials by [`crate::http::client`], keeps a pool, and is exact about whether anything of a request was sent: on that
//! hangs what the request costs. Nothing is sent twice: a request is put on a second connection only where hyper gives
//! it back unwritten.

mod chain;
mod heard;
mod idle;

pub use chain::Chain;
pub use heard::Heard;
pub use idle::{AnswerError, IdleTimeout};

use crate::http::client::{AddressRule, ConnectError, Connector, Outgoing, OutgoingError, cause};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// What is read of an answer at once. Whoever passes it on has several such pieces in hand.
const BUFFER_BYTES: usize = 64 * 1024;

/// What holds for all providers.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// Which addresses may be dialled.
    pub addresses: AddressRule,
    /// The longest that one connection may take to come about: name service, TCP and TLS.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept. Shorter than providers keep theirs: a request written to a connection
    /// that the provider is just closing is paid for.
    pub pool_idle_timeout: Duration,
    /// Unused connections kept for each provider.
    pub pool_idle_max: usize,
}

impl UpstreamSettings {
    /// The defaults, with these addresses.
    pub fn new(addresses: AddressRule) -> Self {
        Self {
            addresses,
            connect_timeout: Duration::from_secs(5),
            pool_idle_timeout: Duration::from_secs(30),
            pool_idle_max: 256,
        }
    }
}

/// How long one request may wait.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For a connection, new or from the pool.
    pub connect: Duration,
    /// From the start to the head of the answer.
    pub first_byte: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), first_byte: Duration::from_mins(10) }
    }
}

/// Why there is no answer, told apart by whether the provider may have seen the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Nothing was sent: it costs nothing and may be tried elsewhere.
    #[error(transparent)]
    NotConnected(#[from] ConnectError),
    /// Some of the request may have been sent, and then the connection ended: it may have been worked on.
    #[error("the provider broke off before it answered: {reason}")]
    BrokenOff {
        /// What happened, in words.
        reason: String,
    },
    /// The request was sent and no answer began in time: it may still be worked on.
    #[error("the provider did not begin to answer within {} s", after.as_secs())]
    FirstByteTimeout {
        /// The time it had.
        after: Duration,
    },
}

/// Sends requests to providers over pooled connections. Clones share the pool.
#[derive(Clone)]
pub struct Upstream {
    client: Client<Connector, Chain>,
}

impl Upstream {
    /// A client that trusts the roots of the web.
    pub fn new(settings: UpstreamSettings) -> Result<Self, OutgoingError> {
        let UpstreamSettings { addresses, connect_timeout, pool_idle_timeout, pool_idle_max } = settings;
        let outgoing = Outgoing::new(addresses).within(connect_timeout);
        Self::over(outgoing, pool_idle_timeout, pool_idle_max)
    }

    fn over(
        outgoing: Outgoing,
        pool_idle_timeout: Duration,
        pool_idle_max: usize,
    ) -> Result<Self, OutgoingError> {
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(pool_idle_timeout)
            .pool_max_idle_per_host(pool_idle_max)
            .http1_max_buf_size(BUFFER_BYTES)
            .retry_canceled_requests(true)
            .build(outgoing.connector()?);
        Ok(Self { client })
    }

    /// Sends one request and waits for the head of its answer, which is returned whatever its status: a redirect is
    /// an answer too. The URI is absolute; `http` is dialled only where the configuration lists the address.
    ///
    /// Dropping the future, or the answer's body, cancels the request at the provider: an HTTP/1 connection is
    /// closed.
    pub async fn send(
        &self,
        mut request: Request<Chain>,
        deadlines: Deadlines,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let first_byte_at = Instant::now() + deadlines.first_byte;
        // The version is the connection's to choose; one that is demanded could not be met.
        *request.version_mut() = Version::HTTP_11;
        let mut connection = capture_connection(&mut request);
        let mut answer = pin!(self.client.request(request));
        tokio::select! {
            biased;
            answer = answer.as_mut() => return answer.map_err(|error| failure(&error)),
            connected = timeout(deadlines.connect, connected(&mut connection)) => {
                if connected.is_err() {
                    return Err(ConnectError::Timeout { after: deadlines.connect }.into());
                }
            }
        }
        match timeout_at(first_byte_at, answer).await {
            Ok(answer) => answer.map_err(|error| failure(&error)),
            Err(_elapsed) => Err(UpstreamError::FirstByteTimeout { after: deadlines.first_byte }),
        }
    }
}

/// Returns once the request has a connection, from where on it counts as sent.
async fn connected(connection: &mut CaptureConnection) {
    if connection.wait_for_connection_metadata().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Three errors of hyper's client mean that nothing was written: it could not connect, it failed before it had
/// picked a connection (no connection info), or it gives the request back unwritten (canceled). All others may have
/// been written to the wire, in part or whole.
fn failure(error: &legacy::Error) -> UpstreamError {
    if let Some(connect) = cause::<ConnectError>(error) {
        return connect.clone().into();
    }
    let hyper = cause::<hyper::Error>(error);
    let unwritten = hyper.is_some_and(hyper::Error::is_canceled);
    if error.is_connect() || error.connect_info().is_none() || unwritten {
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        return ConnectError::Unused { reason }.into();
    }
    let reason = match (cause::<io::Error>(error), hyper) {
        (Some(io), _) => io.kind().to_string(),
        (None, Some(hyper)) if hyper.is_incomplete_message() => "the connection was closed".to_owned(),
        (None, Some(hyper)) if hyper.is_parse() => "the answer was not HTTP".to_owned(),
        (None, Some(hyper)) => hyper.to_string(),
        (None, None) => "the connection ended".to_owned(),
    };
    UpstreamError::BrokenOff { reason }
}

#[cfg(test)]
mod tests;
