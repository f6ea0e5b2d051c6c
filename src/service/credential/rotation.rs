//! Rotation: a new key is tried, takes over, and the old one drains before it is destroyed.
//!
//! At any time there is one version in use and at most one that drains; a version that is neither has no row.

use super::{CredentialError, CredentialFault, check_secret, found};
use crate::base::Secret;
use crate::service::key_probe::{ProbeError, Trial};
use crate::service::{Actor, GuardError, Operator, Services, StoreError};
use crate::store::credential::{CredentialRecord, Draining};
use crate::store::{self, Conn};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

/// A new key for a credential, and how the old one goes.
pub struct Rotation {
    /// The key.
    pub secret: Secret<String>,
    /// How long the old key may still be used; `None` is what the server is set to, zero ends it at once.
    pub drain: Option<TimeDelta>,
    /// Whether the provider must take the key first.
    pub probe: bool,
}

const DRAIN_MAX: TimeDelta = TimeDelta::days(1);

impl Services {
    /// Replaces the key. When this returns, new requests go out with the new one. The old one drains: it is there for
    /// requests that the provider refuses with the new one, until its time is over; a key that drained before is gone.
    pub async fn rotate_credential(
        &self,
        actor: &Actor,
        (provider, id): (&str, &str),
        expected: Option<i64>,
        rotation: Rotation,
    ) -> Result<CredentialRecord, CredentialError> {
        check_secret(&rotation.secret)?;
        let drain = check_drain(rotation.drain.unwrap_or(self.credential_drain))?;
        if rotation.probe {
            self.try_key((provider, id), expected, &rotation.secret).await?;
        }
        let mut tx = self.change().await?;
        self.claim(&mut tx.conn(), actor, id).await??;
        let old = found(&mut tx.conn(), provider, id, expected).await?;
        tx.check_credential(&old).await?;
        let secret_version = old.secret_version + 1;
        let sealed = self.seal_for(&mut tx, &old, secret_version, &rotation.secret).await?;
        let now = self.clock.now();
        let draining = self.drain(&mut tx.conn(), actor, &old, now, drain).await?;
        store::credential::insert_secret(&mut tx.conn(), id, secret_version, &sealed, now).await?;
        let version = store::credential::rotate(&mut tx.conn(), id, old.version, secret_version).await?;
        let version = version.ok_or(CredentialError::Moved)?;
        tx.sign_credential(id).await?;
        let detail = json!({
            "provider": provider, "secret_version": secret_version, "probed": rotation.probe,
            "drain_until": draining.map(|draining| draining.until), "rotation_was_due": old.rotation_due,
        });
        self.note(&mut tx.conn(), actor, "credential.rotate", id, detail).await?;
        tx.commit().await?;
        self.erasure.ask();
        self.reload_directory().await.map_err(CredentialError::NotInForce)?;
        Ok(CredentialRecord { secret_version, draining, rotation_due: None, version, ..old })
    }

    /// Has the provider, as it is now, try a key for the credential. Nothing is open in the database meanwhile.
    async fn try_key(
        &self,
        (provider, id): (&str, &str),
        expected: Option<i64>,
        key: &Secret<String>,
    ) -> Result<(), CredentialError> {
        let mut tx = self.change().await?;
        let record = found(&mut tx.conn(), provider, id, expected).await?;
        let provider = self.usable_provider(&mut tx, provider).await?;
        drop(tx);
        let trial = Trial {
            provider: &provider,
            key,
            organization: record.organization.as_deref(),
            openai_project: record.openai_project.as_deref(),
        };
        self.key_probe.probe(trial).await.map_err(|error| match error {
            ProbeError::Refused { status } => CredentialError::NotAccepted { status },
            ProbeError::NoAnswer { reason } => CredentialError::ProbeFailed { reason },
        })
    }

    /// Lets the version in use drain, or ends it at once. A version that drained before is retired: one drains at most.
    async fn drain(
        &self,
        conn: &mut Conn<'_>,
        actor: &Actor,
        old: &CredentialRecord,
        now: DateTime<Utc>,
        drain: TimeDelta,
    ) -> Result<Option<Draining>, StoreError> {
        if let Some(before) = old.draining {
            self.retire(conn, actor, &old.id, before.secret_version).await?;
        }
        if drain <= TimeDelta::zero() {
            self.retire(conn, actor, &old.id, old.secret_version).await?;
            return Ok(None);
        }
        let draining = Draining { secret_version: old.secret_version, until: now + drain };
        store::credential::drain_secret(conn, &old.id, draining.secret_version, draining.until).await?;
        Ok(Some(draining))
    }

    /// Destroys a version: with its data key goes what the data key sealed.
    async fn retire(
        &self,
        conn: &mut Conn<'_>,
        actor: &Actor,
        id: &str,
        secret_version: i64,
    ) -> Result<(), StoreError> {
        if store::credential::delete_secret(conn, id, secret_version).await? {
            let detail = json!({"secret_version": secret_version});
            self.note(conn, actor, "credential.retire", id, detail).await?;
        }
        Ok(())
    }

    /// Retires every version whose time to drain is over; returns how many. They are not used from that time on even
    /// before this is called.
    pub async fn retire_drained(&self) -> Result<usize, GuardError> {
        let now = self.clock.now();
        let mut read = self.store.read().await?;
        let over = store::credential::drained_secrets(&mut read.conn(), now).await?;
        drop(read);
        if over.is_empty() {
            return Ok(0);
        }
        let mut tx = self.change().await?;
        // Once more, under the lock: a rotation may have retired some meanwhile.
        let over = store::credential::drained_secrets(&mut tx.conn(), now).await?;
        let mut retired = 0;
        for (id, secret_version) in &over {
            // What SQL changed stays as it is: it is not used, and signing it would make it good.
            let record = store::credential::get(&mut tx.conn(), id).await?;
            match tx
                .check_credential(record.as_ref().ok_or(StoreError::Reference { table: "credentials" })?)
                .await
            {
                Err(GuardError::Tampered(_)) => continue,
                checked => checked?,
            }
            self.retire(&mut tx.conn(), &the_server(), id, *secret_version).await?;
            tx.sign_credential(id).await?;
            retired += 1;
        }
        tx.commit().await?;
        self.erasure.ask();
        self.reload_directory().await?;
        Ok(retired)
    }

    /// Notes why an operator should rotate the credential, if that version of its key is in use; the first reason stays
    /// until then. Whether it was noted.
    pub async fn mark_rotation_due(
        &self,
        id: &str,
        secret_version: i64,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let mut read = self.store.read().await?;
        let record = store::credential::get(&mut read.conn(), id).await?;
        drop(read);
        // The usual case of a provider that echoes again and again, without a lock.
        if record.is_none_or(|record| record.rotation_due.is_some()) {
            return Ok(false);
        }
        let mut tx = self.store.write().await?;
        let noted = store::credential::set_rotation_due(&mut tx.conn(), id, secret_version, reason).await?;
        if noted {
            let detail = json!({"secret_version": secret_version, "reason": reason});
            self.note(&mut tx.conn(), &the_server(), "credential.rotation_due", id, detail).await?;
        }
        tx.commit().await?;
        Ok(noted)
    }
}

/// What the server does of itself is done by nobody in particular.
fn the_server() -> Actor {
    let name = "server".to_owned();
    let operator = Operator { id: name.clone(), name, roles: Vec::new(), projects: None, below: Vec::new() };
    Actor { operator, request_id: String::new(), idempotency_key: None }
}

fn check_drain(drain: TimeDelta) -> Result<TimeDelta, CredentialFault> {
    if (TimeDelta::zero()..=DRAIN_MAX).contains(&drain) {
        return Ok(drain);
    }
    Err(CredentialFault {
        field: "/drain_seconds".to_owned(),
        detail: "a time to drain is 0 to 86400 seconds",
    })
}
