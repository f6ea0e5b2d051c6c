//! The store's contract, on both databases.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod budgets;
mod dump;
mod first;
mod logs;
mod migrating;
mod objects;
mod opening;
mod records;
mod subkeys;
mod usage;

use bitting::base::{Entropy, NanoUsd};
use bitting::log::{Decision, Entry};
use bitting::store::{Store, StoreError, subkey};
use bitting::subkey::{Definition, SecretRecord, State, SubKey, SubKeyId};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

/// A moment, and `seconds` after it.
fn at(seconds: i64) -> DateTime<Utc> {
    "2026-11-22T16:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

fn definition(name: &str) -> Definition {
    serde_json::from_value(json!({"name": name, "models": ["openai/*"]})).unwrap()
}

fn key(name: &str, created: DateTime<Utc>) -> SubKey {
    let entropy = Entropy::new();
    SubKey {
        id: SubKeyId::generate(&entropy),
        version: 1,
        definition: definition(name),
        state: State::Active,
        secrets: vec![secret(&entropy.id("sec"), created)],
        created_at: created,
        created_by: "op_1".into(),
        last_used_at: None,
    }
}

fn secret(id: &str, created_at: DateTime<Utc>) -> SecretRecord {
    SecretRecord {
        id: id.into(),
        mac: vec![7; 32],
        mac_term: 1,
        created_at,
        expires_at: None,
        last_used_at: None,
    }
}

async fn insert(store: &Store, key: &SubKey) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    subkey::insert(&mut tx.conn(), key).await?;
    tx.commit().await
}

fn entry(request_id: &str, time: DateTime<Utc>) -> Entry {
    Entry {
        request_id: request_id.into(),
        time,
        project: "default".into(),
        subkey_id: "k".into(),
        provider: Some("openai".into()),
        model: Some("gpt-4o".into()),
        decision: Decision::Allowed,
        count: 1,
        status: Some(200),
        input_tokens: 10,
        output_tokens: 5,
        cost_usd: NanoUsd::from_nano(100),
        ..Entry::default()
    }
}
