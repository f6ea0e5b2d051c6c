//! Dials: resolves the host itself, checks every address, and connects to exactly a checked one.
//!
//! Nothing between the check and the connection looks a name up again, so an answer of the name service that
//! changes in between changes nothing.

use super::address::AddressRule;
use futures_util::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tower::Service;

/// Why no connection came about. In every case nothing of the request was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The name service knows no address, or did not answer.
    #[error("the host {host} cannot be resolved: {reason}")]
    Resolve {
        /// The host asked for.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// Every address of the host is one that upstreams may not have.
    #[error(
        "the host {host} is at {ip}, where upstreams are not allowed; list its network in BITTING_PRIVATE_UPSTREAMS if it is yours"
    )]
    AddressDenied {
        /// The host asked for.
        host: String,
        /// The first of its addresses.
        ip: IpAddr,
    },
    /// Refused, unreachable, reset.
    #[error("no connection to {address}: {reason}")]
    Tcp {
        /// The address dialled last.
        address: SocketAddr,
        /// What the system says.
        reason: String,
    },
    /// The certificate is not trusted, or no common version or cipher.
    #[error("no TLS with {host}: {reason}")]
    Tls {
        /// The host asked for.
        host: String,
        /// What rustls says.
        reason: String,
    },
    /// Name service, TCP and TLS together took longer than they may.
    #[error("no connection within {} ms", after.as_millis())]
    Timeout {
        /// The time it had.
        after: Duration,
    },
    /// The connection came about and ended before the request was written to it.
    #[error("the connection ended before the request was sent: {reason}")]
    Unused {
        /// What hyper says.
        reason: String,
    },
}

type BoxError = Box<dyn Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;
type Tcp = TokioIo<TcpStream>;

/// Looks names up. Asked once for each connection; what it answers is checked before it is dialled.
pub trait Resolve: Send + Sync {
    /// The addresses of a host that is no literal address, in the order in which to try them.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The system's name service.
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let lookup = async move { Ok(lookup_host((host, 0)).await?.map(|address| address.ip()).collect()) };
        Box::pin(lookup)
    }
}

/// The whole of connecting, within one timeout. Its only error is [`ConnectError`].
#[derive(Clone)]
pub struct Connector {
    pub(super) https: HttpsConnector<Dialler>,
    pub(super) connect_timeout: Duration,
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Tcp>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default().to_owned();
        let after = self.connect_timeout;
        let connecting = self.https.call(uri);
        Box::pin(async move {
            let failure = match timeout(after, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => match error.downcast::<ConnectError>() {
                    Ok(failure) => *failure,
                    Err(tls) => ConnectError::Tls { host, reason: tls.to_string() },
                },
                Err(_elapsed) => ConnectError::Timeout { after },
            };
            Err(failure.into())
        })
    }
}

/// From a host to a TCP connection.
#[derive(Clone)]
pub(super) struct Dialler {
    pub(super) addresses: AddressRule,
    pub(super) connect_timeout: Duration,
    pub(super) resolver: Arc<dyn Resolve>,
}

impl Service<Uri> for Dialler {
    type Response = Tcp;
    type Error = BoxError;
    type Future = Connecting<Tcp>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialler = self.clone();
        Box::pin(async move { dialler.dial(&uri).await.map(TokioIo::new).map_err(Into::into) })
    }
}

impl Dialler {
    async fn dial(&self, uri: &Uri) -> Result<TcpStream, ConnectError> {
        let deadline = Instant::now() + self.connect_timeout;
        let tls = uri.scheme() != Some(&Scheme::HTTP);
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let resolved = self.resolve(host, port).await?;
        let admitted = |address: &&SocketAddr| {
            let ip = address.ip();
            if tls { self.addresses.admits(ip) } else { self.addresses.admits_plaintext(ip) }
        };
        let dialled: Vec<SocketAddr> = resolved.iter().filter(admitted).copied().collect();
        let mut failure = match resolved.first() {
            Some(first) => ConnectError::AddressDenied { host: host.to_owned(), ip: first.ip() },
            None => ConnectError::Resolve { host: host.to_owned(), reason: "it has no address".to_owned() },
        };
        for (index, address) in dialled.iter().enumerate() {
            // An address that does not answer leaves the others their share of the time.
            let left = u32::try_from(dialled.len() - index).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let tcp =
                        |error: io::Error| ConnectError::Tcp { address: *address, reason: error.to_string() };
                    stream.set_nodelay(true).map_err(tcp)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => {
                    failure = ConnectError::Tcp { address: *address, reason: error.to_string() }
                }
                Err(_elapsed) => failure = ConnectError::Timeout { after: self.connect_timeout },
            }
        }
        Err(failure)
    }

    /// The addresses of a host; of a literal address, that one. Odd spellings of addresses (`0x7f.1`) are left to the
    /// name service, and its answer to the check.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        match self.resolver.resolve(host).await {
            Ok(addresses) => Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()),
            Err(error) => Err(ConnectError::Resolve { host: host.to_owned(), reason: error.to_string() }),
        }
    }
}
