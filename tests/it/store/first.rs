//! The databases that the first release wrote: set up by `init`, an owner, a sandbox at [`PROVIDER`], a model of its own,
//! three sub-keys (live, revoked, suspended), seven requests. What was secret in them stands beside them.

use crate::support::process::Installation;
use crate::support::store::{TestStore, tamper};
use crate::support::transit::write_secret;
use bitting::store::Store;
use serde_json::Value;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Where the first release had its provider. The key of a provider opens for this place alone.
const PROVIDER: &str = "127.84.2.1:8402";

/// A database that nothing has opened since, and what was secret in it.
pub(super) struct First {
    pub(super) place: (String, TempDir),
    pub(super) known: Value,
}

impl First {
    pub(super) async fn sqlite() -> Self {
        Self::write(
            TestStore::empty_sqlite(),
            include_str!("first/sqlite.sql"),
            include_str!("first/sqlite.json"),
        )
        .await
    }

    pub(super) async fn postgres() -> Self {
        let place = TestStore::empty_postgres().await;
        Self::write(place, include_str!("first/postgres.sql"), include_str!("first/postgres.json")).await
    }

    async fn write(place: (String, TempDir), sql: &str, known: &str) -> Self {
        // Makes the file.
        Store::open(&place.0).await.unwrap().close().await;
        tamper(&place.0, sql).await;
        let known: Value = serde_json::from_str(known).unwrap();
        write_secret(&place.1.path().join("kek"), known["kek"].as_str().unwrap(), 0o600);
        Self { place, known }
    }

    pub(super) async fn store(&self) -> Store {
        Store::open(&self.place.0).await.unwrap()
    }

    /// With its provider. One at a time: whoever comes second waits for the address.
    pub(super) async fn with_provider(self) -> (Installation, Value) {
        for _ in 0..1_200 {
            if let Ok(listener) = TcpListener::bind(PROVIDER).await {
                let token = self.known["operator_token"].as_str().unwrap();
                return (Installation::found(self.place, token, listener), self.known);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{PROVIDER} is not free");
    }
}
