//! What a request made or deleted at a provider, on record with its settlement: in the same transaction, so that an answer
//! that has ended left nothing that is nobody's.

use super::ToldUse;
use super::turn::Tools;
use super::writer::Unsettled;
use crate::log::AlarmKind;
use crate::service::Alarms;
use crate::store::StoreError;
use crate::store::deferred::DeferredCharge;
use crate::store::object::{self, NewObject, ObjectKey};
use serde_json::json;

/// What a request came to at the provider beside its answer. Most come to nothing.
#[derive(Clone, Debug, Default)]
pub struct ObjectChanges {
    /// Made, or told of again by their holder.
    pub made: Vec<NewObject>,
    /// Deleted, with what is a part of them. The provider has confirmed it.
    pub deleted: Vec<ObjectKey>,
    /// Shown as a part of what is on record: whoever has them has them, and what nobody has is the holder's of that.
    pub shown: Vec<NewObject>,
    /// What it was charged waits for a use that will be told.
    pub deferred: Option<Box<DeferredCharge>>,
    /// A use for which a charge waits.
    pub told: Option<Box<ToldUse>>,
}

impl ObjectChanges {
    /// Whether there is nothing to write of objects.
    pub fn is_empty(&self) -> bool {
        self.made.is_empty() && self.deleted.is_empty() && self.shown.is_empty()
    }
}

/// An id that a provider gave to a second holder, and the request that was given it.
pub(super) struct TakenId {
    request_id: String,
    object: ObjectKey,
}

/// Writes the objects of what is settled, in the order of the settlements. A settlement that a commit of which nobody
/// knew has written before comes to the same once more.
pub(super) async fn keep(tools: &mut Tools<'_>, unsettled: &[Unsettled]) -> Result<Vec<TakenId>, StoreError> {
    let mut taken = Vec::new();
    for (settlement, _) in unsettled.iter().filter(|(settlement, _)| !settlement.objects.is_empty()) {
        let ObjectChanges { made, deleted, shown, .. } = &settlement.objects;
        if !made.is_empty() {
            let request_id = &settlement.entry.request_id;
            let others = object::insert(&mut tools.conn, made).await?;
            taken.extend(others.into_iter().map(|object| TakenId { request_id: request_id.clone(), object }));
        }
        object::insert_unknown(&mut tools.conn, shown).await?;
        let now = tools.alarms.outbox().clock().now();
        for object in deleted {
            object::mark_deleted(&mut tools.conn, object, now).await?;
        }
    }
    Ok(taken)
}

/// Tells of the ids that stay somebody else's: their second holder cannot use them.
pub(super) fn tell(alarms: &Alarms, taken: &[TakenId]) {
    for TakenId { request_id, object } in taken {
        let detail = json!({"request_id": request_id, "object": object.id.as_str()});
        alarms.raise(AlarmKind::ObjectTaken, object.provider.as_str(), &detail);
    }
}
