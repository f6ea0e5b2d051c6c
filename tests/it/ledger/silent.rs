//! A database that says nothing, as when a cable is cut, and one that takes everything but the commit: nobody waits for it
//! for long, nothing piles up, and what is over is settled when it works again.

use super::{books, entries_once, list_model, total};
use crate::support::server::TestServer;
use crate::support::store::TestStore;
use bitting::base::NanoUsd;
use bitting::store::Store;
use futures_util::future::join_all;
use sqlx::postgres::PgConnectOptions;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

const HELD: &str = "sandbox-mini+hold";

/// Stands before PostgreSQL, and passes bytes on or keeps them.
struct Relay {
    passes: watch::Sender<bool>,
    folder: TempDir,
}

impl Relay {
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where PostgreSQL is")]
    fn start() -> Self {
        let url = std::env::var("BITTING_TEST_POSTGRES_URL").unwrap();
        let options = PgConnectOptions::from_str(&url).unwrap();
        let name = format!(".s.PGSQL.{}", options.get_port());
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(&name)).unwrap();
        let server: PathBuf = options.get_socket().expect("a socket in a folder: ?host=/FOLDER").join(name);
        let (passes, is_passing) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&server).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, is_passing.clone()));
                tokio::spawn(pass(from_server, to_client, is_passing.clone()));
            }
        });
        Self { passes, folder }
    }

    /// A store that is reached by way of this, and can be tampered with directly.
    async fn store(&self) -> TestStore {
        let (url, folder) = TestStore::empty_postgres().await;
        let store = Store::open(&format!("{url}&host={}", self.folder.path().display())).await.unwrap();
        store.migrate().await.unwrap();
        TestStore { store, url, folder }
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut passes: watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if passes.wait_for(|passes| *passes).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    // The end of a connection does not get through either.
    let _ = passes.wait_for(|passes| *passes).await;
}

async fn is_refused_within(server: &TestServer, secret: &str, seconds: f64) {
    let began = Instant::now();
    let answer = server.chat(secret, "sandbox-mini").await;
    assert_eq!(answer.refusal(), (503, "store_unavailable".to_owned()), "{:?}", answer.json());
    let took = began.elapsed().as_secs_f64();
    assert!(took < seconds, "refused after {took} s");
}

async fn serves_within(server: &TestServer, secret: &str, limit: Duration) {
    let began = Instant::now();
    while server.chat(secret, "sandbox-mini").await.status != 200 {
        assert!(began.elapsed() < limit, "it does not recover");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_while_the_database_says_nothing_everybody_is_refused_at_once() {
    let relay = Relay::start();
    let server = TestServer::start(relay.store().await).await;
    list_model(&server, "sandbox", HELD).await;
    let (id, secret) = server.mint(total("1")).await;
    let held = server.chat(&secret, HELD);
    let silent = async {
        server.sandbox.wait_held(1).await;
        for _ in 0..2 {
            relay.passes.send_replace(false);
            // The first ones find out.
            let first = join_all((0..8).map(|_| is_refused_within(&server, &secret, 12.0)));
            tokio::join!(first, async {
                let not_ready = server.services.not_ready();
                let reasons = tokio::time::timeout(Duration::from_secs(15), not_ready).await.unwrap();
                assert!(reasons.contains(&"ledger_unavailable"), "{reasons:?}");
            });
            for _ in 0..5 {
                is_refused_within(&server, &secret, 1.0).await;
                assert!(!server.services.ledger.is_writing().await);
            }
            relay.passes.send_replace(true);
            serves_within(&server, &secret, Duration::from_secs(5)).await;
        }
        server.sandbox.release();
    };
    let (answer, ()) = tokio::join!(held, silent);
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert_eq!(books(&server, &id).await, (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
    assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_before_forward_nobody_waits_for_a_record_that_cannot_be_made() {
    let relay = Relay::start();
    let durability = [("BITTING_DURABILITY", "before_forward")];
    let server =
        TestServer::start_with(relay.store().await, bitting::base::Clock::system(), &durability).await;
    let (id, secret) = server.mint(total("1")).await;
    assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
    relay.passes.send_replace(false);
    is_refused_within(&server, &secret, 12.0).await;
    assert_eq!(server.sandbox.bill().requests, 1, "nothing is sent that is not on record");
    relay.passes.send_replace(true);
    serves_within(&server, &secret, Duration::from_secs(5)).await;
    assert_eq!(books(&server, &id).await, (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
    server.end().await;
}

/// As on a full disk: every statement is taken, and no commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_while_no_commit_is_taken_what_is_refused_does_not_pile_up() {
    let server = TestServer::start(TestStore::postgres().await).await;
    let (id, secret) = server.mint(total("1")).await;
    server
        .store
        .tamper(
            "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'full'; END $$ LANGUAGE plpgsql; \
             CREATE CONSTRAINT TRIGGER full_disk AFTER INSERT ON admissions DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
    for _ in 0..30 {
        let refused = join_all((0..60).map(|_| server.chat(&secret, "sandbox-mini"))).await;
        assert!(refused.iter().all(|answer| [503, 429].contains(&answer.status.as_u16())), "{refused:?}");
    }
    assert_eq!(server.sandbox.bill().requests, 0);
    server.store.tamper("DROP TRIGGER full_disk ON admissions").await;
    serves_within(&server, &secret, Duration::from_secs(5)).await;
    let entries = entries_once(&server, &id, server.entries(&id).await.len()).await;
    assert!(entries.iter().any(|entry| entry["status"] == 200));
    assert_eq!(books(&server, &id).await, (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
    assert_eq!(server.services.ledger.audit().await.unwrap(), 0);
    server.end().await;
}
