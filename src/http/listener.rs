//! Serves a router on a bound socket, HTTP/1.1 and HTTP/2, with every wait and size bounded.
//!
//! `axum::serve` sets no timer, which leaves hyper's timeouts without effect, so connections are driven here. A
//! connection ends when its client is slow with a head, idles, does not read, frames a request in two ways, or when
//! the server drains.

use crate::base::Entropy;
use crate::http::Entrance;
use crate::http::edge::{Edge, HangUp, Peer};
use crate::http::framing::Guarded;
use crate::http::panic::catch_panic;
use crate::http::relay::{self, Relayed};
use crate::http::stall::StallGuard;
use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The bounds of one listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the first byte of a request's head to its end; also for the TLS handshake.
    pub header_read_timeout: Duration,
    /// Request line and header fields together, in bytes; above it 431.
    pub header_block_bytes_max: usize,
    /// Header fields of one request; above it 431.
    pub headers_max: usize,
    /// Path and query, in bytes; above it 414.
    pub uri_bytes_max: usize,
    /// How long a connection without a request is kept.
    pub keep_alive_timeout: Duration,
    /// How long a client may leave its answer unread while there is more to send.
    pub write_stall_timeout: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// Connections at once; further ones wait in the socket's backlog.
    pub connections_max: usize,
    /// How long requests in flight may take to end once the server drains.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read_timeout: Duration::from_secs(10),
            header_block_bytes_max: 32 * 1024,
            headers_max: 100,
            uri_bytes_max: 8 * 1024,
            keep_alive_timeout: Duration::from_secs(75),
            write_stall_timeout: Duration::from_mins(5),
            http2_streams_max: 100,
            connections_max: 8192,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Serves `app` until `shutdown`, then drains: accepts no more, lets requests in flight end for
/// [`Limits::drain_timeout`], and cuts the rest. Returns how many connections were cut.
///
/// Every request carries [`Peer`] and [`crate::http::RequestId`] in its extensions. Dropping the future cuts all.
pub async fn serve(
    listener: TcpListener,
    entrance: Entrance,
    limits: Limits,
    app: Router,
    shutdown: CancellationToken,
) -> usize {
    let connections = TaskTracker::new();
    let server = Arc::new(Server {
        app: app.layer(catch_panic()),
        entrance,
        entropy: Entropy::new(),
        permits: Arc::new(Semaphore::new(limits.connections_max)),
        limits: Arc::new(limits),
        drain: shutdown.clone(),
        cut: CancellationToken::new(),
    });
    if let Some(tls) = server.entrance.tls.clone() {
        connections.spawn(tls.follow(shutdown.clone()));
    }
    let cut_on_drop = server.cut.clone().drop_guard();
    while let Some((stream, peer, permit)) = shutdown.run_until_cancelled(server.accept(&listener)).await {
        let server = Arc::clone(&server);
        connections.spawn(async move {
            let _permit = permit;
            let cut = server.cut.clone();
            cut.run_until_cancelled(Box::pin(server.connection(stream, Peer::new(peer)))).await;
        });
    }
    drop(listener);
    connections.close();
    let drained = timeout(server.limits.drain_timeout, connections.wait()).await;
    let left = if drained.is_ok() { 0 } else { connections.len() };
    drop(cut_on_drop);
    connections.wait().await;
    left
}

struct Server {
    app: Router,
    entrance: Entrance,
    entropy: Entropy,
    permits: Arc<Semaphore>,
    limits: Arc<Limits>,
    /// Accept no more, end what is idle.
    drain: CancellationToken,
    /// End at once.
    cut: CancellationToken,
}

/// What hyper keeps of one answer while its client does not read, and reads of a request at once. Its own 400 KiB are a
/// lot for thousands of clients.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long to wait where the system has no descriptor or memory for one more connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Server {
    /// The next connection, once there is room for it.
    async fn accept(&self, listener: &TcpListener) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, permit),
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// One connection from its first byte to its last.
    async fn connection(&self, mut stream: TcpStream, peer: Peer) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let Some(peer) = self.told(&mut stream, peer).await else { return };
        let hang_up = CancellationToken::new();
        let stream = StallGuard::new(stream, self.limits.write_stall_timeout)
            .breaking_off(hang_up.clone(), |stream| drop(stream.set_zero_linger()));
        let hang_up = HangUp(hang_up);
        let Some(tls) = &self.entrance.tls else { return self.http(stream, peer, hang_up).await };
        match timeout(self.limits.header_read_timeout, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => self.http(stream, peer, hang_up).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake failed"),
            Err(_elapsed) => tracing::debug!(%peer, "TLS handshake took too long"),
        }
    }

    /// The peer, with what it tells of its client where it is a relay. `None`: it is one and does not tell.
    async fn told(&self, stream: &mut TcpStream, peer: Peer) -> Option<Peer> {
        if !self.entrance.relays.contains(peer.socket_ip()) {
            return Some(peer);
        }
        let read = timeout(self.limits.header_read_timeout, relay::read(stream));
        match self.drain.run_until_cancelled(read).await? {
            Ok(Ok(Relayed::Client(client))) => Some(peer.relaying(client)),
            Ok(Ok(Relayed::Itself)) => Some(peer),
            Ok(Err(error)) => {
                tracing::warn!(%error, %peer, "a connection of a trusted proxy was refused");
                None
            }
            Err(_elapsed) => {
                tracing::debug!(%peer, "a trusted proxy did not say in time for whom it connects");
                None
            }
        }
    }

    async fn http<T>(&self, mut stream: T, peer: Peer, hang_up: HangUp)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = &self.limits;
        let first =
            self.drain.run_until_cancelled(timeout(limits.header_read_timeout, preface(&mut stream))).await;
        let Some(Ok(Ok((version, read)))) = first else { return };
        let (in_flight, watched) = watch::channel(0);
        let cut = hang_up.0.clone();
        let service = Edge {
            app: self.app.clone(),
            peer,
            hang_up: matches!(version, Preface::Http1).then_some(hang_up),
            voice: self.entrance.voice,
            entropy: self.entropy.clone(),
            limits: Arc::clone(limits),
            in_flight,
        };
        match version {
            Preface::Http1 => {
                // The head's time is kept by `Guarded`: hyper's own timer also runs while a connection idles.
                let io = TokioIo::new(Guarded::http1(stream, read, limits.header_read_timeout));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(None)
                    // Where it is not far above the bound, the refusal is ours and says something.
                    .max_headers(limits.headers_max.saturating_mul(4))
                    .max_header_size(limits.header_block_bytes_max)
                    .max_buf_size(limits.header_block_bytes_max.max(BUFFER_BYTES))
                    .serve_connection(io, service);
                cut.run_until_cancelled(self.drive(connection, watched, peer)).await;
            }
            Preface::Http2 => {
                let io = TokioIo::new(Guarded::http2(stream, read));
                let connection = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .max_concurrent_streams(limits.http2_streams_max)
                    .max_send_buf_size(BUFFER_BYTES)
                    .max_header_list_size(u32::try_from(limits.header_block_bytes_max).unwrap_or(u32::MAX))
                    .keep_alive_interval(limits.keep_alive_timeout)
                    .keep_alive_timeout(limits.header_read_timeout)
                    .serve_connection(io, service);
                self.drive(connection, watched, peer).await;
            }
        }
    }

    /// Runs the connection. It is asked to finish when the server drains or when it has idled for its time; what has
    /// no request in flight and does not finish then is dropped.
    async fn drive<C: GracefulConnection>(&self, connection: C, in_flight: watch::Receiver<usize>, peer: Peer)
    where
        C::Error: std::fmt::Display,
    {
        let mut connection = pin!(connection);
        let mut idle = pin!(idle(in_flight.clone(), self.limits.keep_alive_timeout));
        let asked = tokio::select! {
            biased;
            ended = connection.as_mut() => Some(ended),
            () = self.drain.cancelled() => None,
            () = idle.as_mut() => None,
        };
        let ended = if asked.is_some() {
            asked
        } else {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = connection.as_mut() => Some(ended),
                () = self::idle(in_flight, self.limits.header_read_timeout) => None,
            }
        };
        if let Some(Err(error)) = ended {
            tracing::debug!(%error, %peer, "connection ended");
        }
    }
}

enum Preface {
    Http1,
    Http2,
}

const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it is clear which protocol the client speaks, and returns what was read.
async fn preface<T: AsyncRead + Unpin>(stream: &mut T) -> io::Result<(Preface, Vec<u8>)> {
    let mut read = Vec::with_capacity(HTTP2_PREFACE.len());
    while read.len() < HTTP2_PREFACE.len() {
        let left = HTTP2_PREFACE.len() - read.len();
        if (&mut *stream).take(left as u64).read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !HTTP2_PREFACE.starts_with(&read) {
            return Ok((Preface::Http1, read));
        }
    }
    Ok((Preface::Http2, read))
}

/// Returns once nothing has been in flight for `after`.
async fn idle(mut in_flight: watch::Receiver<usize>, after: Duration) {
    loop {
        if in_flight.wait_for(|count| *count == 0).await.is_err() {
            return std::future::pending().await;
        }
        if timeout(after, in_flight.changed()).await.is_err() {
            return;
        }
    }
}

/// Errors that say that one client went away before it was accepted.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests;
