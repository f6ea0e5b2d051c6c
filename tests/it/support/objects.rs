//! Objects put on record as if a request of the key had made them, whatever the operation that makes such ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::server::TestServer;
use bitting::base::{Entropy, NanoUsd};
use bitting::log::{Decision, Entry};
use bitting::provider::{ObjectDocument, ObjectKind};
use bitting::service::{Demand, NewObject, ObjectChanges};
use bitting::subkey::{Holder, SubKeyToken};

/// Where an object is kept, and of what it is.
#[derive(Clone, Copy)]
pub(crate) struct Kept<'a> {
    pub(crate) provider: &'a str,
    pub(crate) credential_id: &'a str,
    pub(crate) model: Option<&'a str>,
}

/// The key made `id`.
pub(crate) async fn put_on_record(
    server: &TestServer,
    secret: &str,
    kept: Kept<'_>,
    kind: ObjectKind,
    id: &str,
) {
    let caller = server.services.authenticate(&SubKeyToken::parse(secret).unwrap()).await.unwrap();
    let subkey = &caller.key.subkey;
    let entry = Entry {
        time: server.clock.now(),
        request_id: Entropy::new().id("req"),
        subkey_id: subkey.id.to_string(),
        project: subkey.definition.project.clone(),
        decision: Decision::Allowed,
        count: 1,
        ..Entry::default()
    };
    let made = NewObject {
        provider: kept.provider.parse().unwrap(),
        id: id.parse().unwrap(),
        kind,
        belongs: Holder::of(subkey).makes(),
        credential_id: kept.credential_id.to_owned(),
        model: kept.model.map(str::to_owned),
        parent: None,
        created_at: server.clock.now(),
        expires_at: None,
        document: ObjectDocument::parse(&format!(r#"{{"id":"{id}"}}"#)),
    };
    let demand = Demand {
        subkey: subkey.id.clone(),
        subkey_version: subkey.version,
        projects: caller.lineage.versions(),
        is_current: true,
        holds: Vec::new(),
        amount: NanoUsd::ZERO,
        entry: entry.clone(),
    };
    let reservation = server.services.ledger.reserve(demand).await.unwrap();
    let changes = ObjectChanges { made: vec![made], ..ObjectChanges::default() };
    reservation.settle_with(NanoUsd::ZERO, entry, changes).durable().await;
}
