//! The server: two listeners, one ledger, and an orderly end.

use super::webhook::Webhook;
use super::{AppError, files, kek, logging, settings};
use crate::base::{CidrSet, Clock, Entropy, Secret};
use crate::config::{Plane, Settings};
use crate::http::client::AddressRule;
use crate::http::{Entrance, Tls, serve as serve_http};
use crate::proxy::upstream::{Upstream, UpstreamSettings};
use crate::proxy::{Pace, Proxy, ProxySettings};
use crate::sandbox::Sandbox;
use crate::service::{
    KekLease, KekSource, LedgerLimits, Metrics, NoticeSettings, RegistryLimits, RowWatch, Services,
    Settings as ServiceSettings, WrapLimits,
};
use crate::store::Store;
use chrono::TimeDelta;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// `bitting serve`.
pub async fn serve(config: Option<PathBuf>, data_dir: Option<PathBuf>) -> Result<(), AppError> {
    let settings = settings(data_dir, config)?;
    logging::start(&settings)?;
    logging::harden()?;
    let store = files::open_current_store(&settings).await?;
    let server =
        Server::start(&settings, store, kek::source(&settings)?, Clock::system(), Entropy::new()).await?;
    println!("proxy  {}", server.proxy_url());
    println!("admin  {}", server.admin_url());
    server.run_until(stop_signal()?).await;
    Ok(())
}

/// `bitting sandbox`.
pub async fn sandbox(listen: SocketAddr) -> Result<(), AppError> {
    let listener = bind(listen, "sandbox", "--listen").await?;
    let address = listener.local_addr().map_err(|error| AppError::setup("the sandbox's address", error))?;
    println!("sandbox  http://{address}");
    let stop = stop_signal()?;
    crate::sandbox::serve(listener, Sandbox::new(Clock::system()), async move { stop.cancelled().await })
        .await
        .map_err(|error| AppError::setup("sandbox", error))
}

/// A server that listens.
pub struct Server {
    services: Services,
    tasks: TaskTracker,
    ledger_tasks: TaskTracker,
    drain: CancellationToken,
    cut_all: CancellationToken,
    listeners: TaskTracker,
    drain_timeout: Duration,
    proxy: (SocketAddr, bool),
    admin: (SocketAddr, bool),
}

impl Server {
    /// Starts everything over an opened store of this program's schema.
    pub async fn start(
        settings: &Settings,
        store: Store,
        kek: Arc<dyn KekSource>,
        clock: Clock,
        entropy: Entropy,
    ) -> Result<Self, AppError> {
        let (tasks, ledger_tasks, listeners) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
        let (drain, cut_all) = (CancellationToken::new(), CancellationToken::new());
        let proxy_listener = bind(settings.proxy.listen, "proxy", "BITTING_PROXY_LISTEN").await?;
        let admin_listener = bind(settings.admin.listen, "admin", "BITTING_ADMIN_LISTEN").await?;

        let upstream = upstream(settings)?;
        let webhook = Webhook::of(settings).await?;
        let services =
            start_services(settings, store, kek, (clock, entropy), &upstream, &ledger_tasks).await?;
        let proxy = Proxy::new(
            services.clone(),
            upstream,
            ProxySettings {
                trusted_proxies: settings.trusted_proxies.clone(),
                body: settings.bounds.json_body(),
                form_bytes_max: usize::try_from(settings.bounds.multipart_body_bytes).unwrap_or(usize::MAX),
                answers: settings.bounds.answers(),
                pace: Pace {
                    stall: Duration::from_secs(settings.bounds.write_stall_seconds),
                    bytes_per_second: settings.bounds.unread_bytes_per_second,
                },
                answer_bytes_max: usize::try_from(settings.bounds.answer_body_bytes).unwrap_or(usize::MAX),
                error_body_bytes_max: usize::try_from(settings.bounds.upstream_error_body_bytes)
                    .unwrap_or(usize::MAX),
                in_flight_max: usize::try_from(settings.bounds.requests_max).unwrap_or(usize::MAX),
            },
            tasks.clone(),
            cut_all.clone(),
        );
        let (admin_body, import_body) = settings.bounds.admin_bodies();
        let admin = crate::admin::router(services.clone(), admin_body, import_body);
        let limits = settings.bounds.listener();
        let listen =
            |listener: TcpListener, entrance: Entrance, app| -> Result<(SocketAddr, bool), AppError> {
                let address =
                    listener.local_addr().map_err(|error| AppError::setup("a listener's address", error))?;
                let with_tls = entrance.tls.is_some();
                listeners.spawn(serve_http(listener, entrance, limits.clone(), app, drain.clone()));
                Ok((address, with_tls))
            };
        let relays =
            if settings.proxy_protocol { settings.trusted_proxies.clone() } else { CidrSet::default() };
        let entrance = Entrance { tls: tls(&settings.proxy)?, relays, voice: crate::proxy::voice };
        let proxy_at = listen(proxy_listener, entrance, proxy.router())?;
        let entrance = Entrance { tls: tls(&settings.admin)?, ..Entrance::default() };
        let admin_at = listen(admin_listener, entrance, admin)?;
        if let Some(address) = settings.metrics_listen {
            let listener = bind(address, "metrics", "BITTING_METRICS_LISTEN").await?;
            let app = crate::admin::metrics_router(services.clone());
            listeners.spawn(serve_http(listener, Entrance::default(), limits.clone(), app, drain.clone()));
        }
        tasks.spawn(keep_last_used(services.clone(), drain.clone()));
        tasks.spawn(retire_drained_credentials(services.clone(), drain.clone()));
        tasks.spawn(forget_objects(services.clone(), drain.clone()));
        let (vault, drained) = (services.clone(), drain.clone());
        tasks.spawn(async move { drained.run_until_cancelled(vault.keep_vault_open()).await });
        tasks.spawn(keep_terms(services.clone(), wrap_limits(settings), drain.clone()));
        let watch_every = Duration::from_secs(settings.bounds.integrity_check_seconds);
        tasks.spawn(watch_rows(services.clone(), watch_every, drain.clone()));
        let lease = Duration::from_secs(settings.bounds.kek_lease_seconds);
        if let Some(lease) = KekLease::new(services.clone(), lease) {
            tasks.spawn(keep_lease(lease, drain.clone()));
        }
        tasks.spawn(keep_checkpoint(services.clone(), drain.clone()));
        if let Some(webhook) = webhook {
            tasks.spawn(webhook.keep_telling(services.clone(), drain.clone()));
        }
        tracing::info!(proxy = %proxy_at.0, admin = %admin_at.0, store = services.store.backend(), "serving");
        Ok(Self {
            services,
            tasks,
            ledger_tasks,
            drain,
            cut_all,
            listeners,
            drain_timeout: limits.drain_timeout,
            proxy: proxy_at,
            admin: admin_at,
        })
    }

    /// The verbs, for whoever runs in the same process.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Where applications are served.
    pub fn proxy_url(&self) -> String {
        url(self.proxy)
    }

    /// Where operators are served.
    pub fn admin_url(&self) -> String {
        url(self.admin)
    }

    /// Serves until told to stop, then drains: admits no more, lets streams end, settles everything.
    pub async fn run_until(self, stop: CancellationToken) {
        stop.cancelled().await;
        tracing::info!("draining");
        self.drain.cancel();
        self.listeners.close();
        self.tasks.close();
        // Listeners cut their connections at the deadline; exchanges that outlive them settle what they saw.
        self.listeners.wait().await;
        if tokio::time::timeout(self.drain_timeout.min(Duration::from_secs(5)), self.tasks.wait())
            .await
            .is_err()
        {
            self.cut_all.cancel();
            self.tasks.wait().await;
        }
        if let Err(error) = self.services.write_last_used().await {
            tracing::warn!(%error, "the last uses of secrets were not written down");
        }
        self.services.ledger.stop().await;
        self.ledger_tasks.close();
        self.ledger_tasks.wait().await;
        self.services.keep_checkpoint().await;
        self.services.store.close().await;
        tracing::info!("stopped");
    }
}

fn url((address, with_tls): (SocketAddr, bool)) -> String {
    format!("{}://{address}", if with_tls { "https" } else { "http" })
}

/// The client for providers.
pub(super) fn upstream(settings: &Settings) -> Result<Upstream, AppError> {
    let addresses = AddressRule::new(settings.private_upstreams.clone());
    let mut upstream = UpstreamSettings::new(addresses);
    upstream.connect_timeout = Duration::from_secs(settings.bounds.connect_seconds);
    upstream.pool_idle_timeout = Duration::from_secs(settings.bounds.pool_idle_seconds);
    Upstream::new(upstream).map_err(|error| AppError::setup("the client for providers", error))
}

/// The verbs, over an opened store.
pub(super) async fn start_services(
    settings: &Settings,
    store: Store,
    kek: Arc<dyn KekSource>,
    (clock, entropy): (Clock, Entropy),
    upstream: &Upstream,
    tasks: &TaskTracker,
) -> Result<Services, AppError> {
    let requests_max = usize::try_from(settings.bounds.requests_max).unwrap_or(usize::MAX / 4);
    let settings = ServiceSettings {
        clock,
        entropy,
        node: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        private_upstreams: settings.private_upstreams.clone(),
        provider_order: settings.provider_order.clone(),
        key_probe: Arc::new(upstream.clone()),
        credential_drain: seconds(settings.bounds.credential_drain_seconds),
        metrics: Metrics::new().map_err(|error| AppError::setup("metrics", error))?,
        durability: settings.durability,
        notices: NoticeSettings {
            has_webhook: settings.webhook.is_some(),
            waiting_max: settings.bounds.notices_max,
        },
        ledger: LedgerLimits {
            queue_commands: requests_max.saturating_mul(2).saturating_add(256),
            waiting_max: requests_max,
            wait: Duration::from_secs(2),
        },
        registry: RegistryLimits {
            cached_max: 100_000,
            unknown_max: 10_000,
            unknown_for: TimeDelta::seconds(5),
            concurrent_default: settings.bounds.key_requests_max,
        },
        checkpoint: super::checkpoint(settings),
    };
    Ok(Services::start(store, kek, settings, tasks).await?)
}

async fn bind(
    address: SocketAddr,
    plane: &'static str,
    variable: &'static str,
) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|error| AppError::Listen { address, plane, error, variable })
}

fn tls(plane: &Plane) -> Result<Option<Tls>, AppError> {
    let load = |files: &crate::config::TlsFiles| Tls::load(&files.cert_file, &files.key_file);
    plane.tls.as_ref().map(load).transpose().map_err(|error| AppError::setup("TLS", error))
}

fn seconds(count: u64) -> TimeDelta {
    i64::try_from(count).ok().and_then(TimeDelta::try_seconds).unwrap_or(TimeDelta::MAX)
}

/// Destroys provider keys whose time to drain is over, at the start and every few seconds.
async fn retire_drained_credentials(services: Services, drain: CancellationToken) {
    let every = Duration::from_secs(5);
    loop {
        if let Err(error) = services.retire_drained().await {
            tracing::warn!(%error, "provider keys that have drained were not destroyed");
        }
        if let Err(error) = services.erase_destroyed().await {
            tracing::warn!(%error, "destroyed keys were not erased from the database's files; it is tried again");
        }
        if drain.run_until_cancelled(tokio::time::sleep(every)).await.is_none() {
            break;
        }
    }
}

/// Forgets what providers have not kept for long, at the start and every few minutes, a little at a time.
async fn forget_objects(services: Services, drain: CancellationToken) {
    let (every, pause) = (Duration::from_mins(5), Duration::from_millis(200));
    loop {
        let has_more = services.forget_objects().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "objects that are gone were not forgotten");
            false
        });
        let wait = if has_more { pause } else { every };
        if drain.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            break;
        }
    }
}

/// Writes the last uses of secrets down every second: a server that is killed again and again gets on, too, with moving
/// them to the term of today.
async fn keep_last_used(services: Services, drain: CancellationToken) {
    let every = Duration::from_secs(1);
    while drain.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        if let Err(error) = services.write_last_used().await {
            tracing::warn!(%error, "the last uses of secrets were not written down");
        }
    }
}

/// Rotates, rewraps and retires the keyring's terms.
async fn keep_terms(services: Services, limits: WrapLimits, drain: CancellationToken) {
    services.keep_terms(limits, drain).await;
}

/// When a term's wrap key has done enough.
pub(super) fn wrap_limits(settings: &Settings) -> WrapLimits {
    WrapLimits {
        uses_max: i64::try_from(settings.bounds.wrap_uses_max).unwrap_or(i64::MAX),
        age_max: TimeDelta::days(i64::try_from(settings.bounds.wrap_days_max).unwrap_or(90)),
    }
}

/// Compares the rows in use with the database every few seconds.
async fn watch_rows(services: Services, every: Duration, drain: CancellationToken) {
    let mut watch = RowWatch::new(services);
    while drain.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        if let Some(Err(error)) = drain.run_until_cancelled(watch.turn()).await {
            tracing::warn!(%error, "the rows that grant power could not be compared with the database");
        }
    }
}

/// Asks a key service again and again whether it still gives the key.
async fn keep_lease(mut lease: KekLease, drain: CancellationToken) {
    while drain.run_until_cancelled(tokio::time::sleep(lease.pause())).await.is_some() {
        if let Some(Err(error)) = drain.run_until_cancelled(lease.turn()).await {
            tracing::warn!(%error, "the lease of the key could not be looked at");
        }
    }
}

/// Writes how far the logs have come into the checkpoint every second.
async fn keep_checkpoint(services: Services, drain: CancellationToken) {
    let every = Duration::from_secs(1);
    while drain.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        services.keep_checkpoint().await;
    }
}

/// Cancelled at SIGTERM or SIGINT.
pub(super) fn stop_signal() -> Result<CancellationToken, AppError> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error| AppError::setup("signals", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}

/// Both sets of networks together.
pub(super) fn with_networks(set: &CidrSet, more: &[&str]) -> CidrSet {
    let texts: Vec<String> = set
        .iter()
        .map(|network| network.to_string())
        .chain(more.iter().map(|text| (*text).to_owned()))
        .collect();
    CidrSet::parse(&texts).unwrap_or_else(|_| set.clone())
}

/// A key that opens nothing real: the sandbox takes any.
pub(super) fn sandbox_key(entropy: &Entropy) -> Secret<String> {
    Secret::new(format!("sandbox-{}", entropy.base62(32)))
}
