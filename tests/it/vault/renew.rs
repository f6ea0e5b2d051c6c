//! A wrapping that has fallen behind is replaced while the server runs.

use crate::admin::plane::settings;
use crate::support::store::{TestStore, on_both};
use bitting::base::{Clock, Entropy};
use bitting::service::{self, KekSource, KekSourceError, Services, open_keyring};
use bitting::store;
use bitting::vault::Kek;
use futures_util::future::{BoxFuture, ready};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// A source whose keys have a strength: the strength is what is kept.
struct Strength(u8);

fn key(kept: &Value) -> Kek {
    Kek::from_bytes([u8::try_from(kept["strength"].as_u64().unwrap()).unwrap(); 32])
}

impl KekSource for Strength {
    fn kind(&self) -> &'static str {
        "strength"
    }

    fn describe(&self) -> String {
        format!("keys of strength {}", self.0)
    }

    fn create<'a>(
        &'a self,
        _: &'a Entropy,
        _: &'a str,
    ) -> BoxFuture<'a, Result<(Kek, Value), KekSourceError>> {
        let kept = json!({"strength": self.0});
        Box::pin(ready(Ok((key(&kept), kept))))
    }

    fn open<'a>(&'a self, kept: &'a Value, _: &'a str) -> BoxFuture<'a, Result<Kek, KekSourceError>> {
        Box::pin(ready(Ok(key(kept))))
    }

    fn is_outdated(&self, kept: &Value) -> bool {
        kept["strength"].as_u64().unwrap() < u64::from(self.0)
    }
}

async fn strengths(test: &TestStore) -> Vec<Value> {
    let mut read = test.store.read().await.unwrap();
    let wraps = store::keyring::wraps(&mut read.conn()).await.unwrap();
    wraps.into_iter().map(|wrap| wrap.kept["strength"].clone()).collect()
}

/// A stronger source that takes its time: meanwhile the keyring gets another root.
struct Meanwhile {
    store: store::Store,
    is_over: AtomicBool,
}

impl KekSource for Meanwhile {
    fn kind(&self) -> &'static str {
        "strength"
    }

    fn describe(&self) -> String {
        "keys of strength 2, by and by".to_owned()
    }

    fn create<'a>(
        &'a self,
        entropy: &'a Entropy,
        installation: &'a str,
    ) -> BoxFuture<'a, Result<(Kek, Value), KekSourceError>> {
        Box::pin(async move {
            let by = (&Clock::system(), entropy);
            service::confirm_kek(&self.store, &Strength(1), by).await.unwrap();
            self.is_over.store(true, Ordering::SeqCst);
            Strength(2).create(entropy, installation).await
        })
    }

    fn open<'a>(&'a self, kept: &'a Value, _: &'a str) -> BoxFuture<'a, Result<Kek, KekSourceError>> {
        Box::pin(ready(Ok(key(kept))))
    }

    fn is_outdated(&self, kept: &Value) -> bool {
        Strength(2).is_outdated(kept)
    }
}

on_both! {
    async fn a_wrapping_of_a_root_that_is_gone_is_not_put_in_the_place_of_a_good_one(test: TestStore) {
        let (clock, entropy) = (Clock::system(), Entropy::new());
        assert!(service::install(&test.store, &Strength(1), &clock, &entropy).await.is_ok());
        let source = Arc::new(Meanwhile { store: test.store.clone(), is_over: AtomicBool::new(false) });
        let settings = settings(clock, entropy, &[], test.folder.path());
        let services = Services::start(test.store.clone(), source.clone(), settings, &TaskTracker::new()).await;
        let services = services.ok().unwrap();
        let renewing = tokio::time::timeout(Duration::from_millis(500), services.keep_vault_open()).await;
        assert!(renewing.is_err() && source.is_over.load(Ordering::SeqCst));
        assert_eq!(strengths(&test).await, [1]);
        assert!(open_keyring(&test.store, &Strength(1)).await.is_ok());
    }

    async fn a_wrapping_that_has_fallen_behind_is_replaced_by_a_stronger_one(test: TestStore) {
        let (clock, entropy) = (Clock::system(), Entropy::new());
        assert!(service::install(&test.store, &Strength(1), &clock, &entropy).await.is_ok());
        assert_eq!(strengths(&test).await, [1]);
        let settings = settings(clock, entropy, &[], test.folder.path());
        let tasks = TaskTracker::new();
        let services = Services::start(test.store.clone(), Arc::new(Strength(2)), settings, &tasks).await;
        let services = services.ok().unwrap();
        assert_eq!(services.vault.sealed(), None);
        let renewed = async {
            while strengths(&test).await != [2] {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = services.keep_vault_open() => unreachable!("it goes on"),
            () = renewed => {}
            () = tokio::time::sleep(Duration::from_secs(10)) => panic!("it was not renewed"),
        }
        assert!(open_keyring(&test.store, &Strength(2)).await.is_ok());
    }
}
