//! `Idempotency-Key`: a request that is repeated makes nothing, and learns what it made.

use super::{Actor, Services, StoreError};
use crate::store::Conn;
use crate::store::idempotency::{self, KeyUse};

/// An earlier request with the same key did it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request with this idempotency key was carried out already")]
pub struct AlreadyDone {
    /// What it made or changed.
    pub id: String,
}

impl Services {
    /// Claims the request's key, if it has one, for what it makes or changes. Belongs into the change's transaction,
    /// first: of two at once, one waits and then finds the other's.
    pub(super) async fn claim(
        &self,
        conn: &mut Conn<'_>,
        actor: &Actor,
        resource_id: &str,
    ) -> Result<Result<(), AlreadyDone>, StoreError> {
        let Some(key) = &actor.idempotency_key else { return Ok(Ok(())) };
        let used = KeyUse { operator_id: &actor.operator.id, key, resource_id };
        let earlier = idempotency::put(conn, used, self.clock.now()).await?;
        Ok(earlier.map_or(Ok(()), |id| Err(AlreadyDone { id })))
    }
}
