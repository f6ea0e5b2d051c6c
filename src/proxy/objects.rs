//! What a request names of what providers keep: whose it is, and with which credential it was made; and what is put on
//! record of what an answer made.

use super::admit::{Admission, Admitted};
use super::deferred::{LOOK_UP_MAX, response_in, shown_response};
use super::exchange::Exchange;
use super::refusal::{Code, Refusal};
use super::respond;
use crate::base::clip;
use crate::log::Entry;
use crate::provider::operation::{Effect, Form, Row};
use crate::provider::{Made, ObjectDocument, ObjectId, ObjectKind, Reading, Resolved, Slug};
use crate::service::{
    Caller, KeeperError, Kept, NewObject, ObjectChanges, ObjectError, ObjectKey, ObjectName, Snapshot,
};
use crate::subkey::{Belonging, Holder};
use chrono::{DateTime, Utc};
use tokio::time::timeout;

impl Admission<'_> {
    /// Whether all that is named is the caller's, and where it is kept. The provider sees nothing of a request that names
    /// what is not.
    pub(super) async fn own(&self, caller: &Caller, snapshot: &Snapshot) -> Result<Option<Kept>, Refusal> {
        let in_path = self.matched.object().map(|id| ObjectName { kind: self.matched.row.effect.kind(), id });
        let in_body = self.ask.objects.iter().map(|one| ObjectName { kind: one.kind, id: &one.id });
        let names: Vec<ObjectName<'_>> = in_path.into_iter().chain(in_body).collect();
        if names.is_empty() {
            return Ok(None);
        }
        let fixed = self.matched.provider.and_then(|slug| slug.parse::<Slug>().ok());
        let kept = self.proxy.services.keeper(caller, snapshot, fixed.as_ref(), &names).await;
        kept.map_err(|error| match error {
            KeeperError::Object(error) => self.unowned(&error),
            KeeperError::DifferentAccounts | KeeperError::Credential { .. } => {
                Refusal::new(Code::ObjectNotFound, error.to_string())
            }
        })
    }

    /// Whether the request stays where its objects are, and mentions nothing of somebody else's there.
    pub(super) async fn stays(
        &self,
        caller: &Caller,
        kept: Option<&Kept>,
        resolved: &Resolved,
    ) -> Result<(), Refusal> {
        if let Some(kept) = kept.filter(|kept| kept.provider != resolved.provider) {
            let message = format!(
                "The request names objects that {} keeps, and its model is served by {}.",
                kept.provider, resolved.provider
            );
            return Err(Refusal::new(Code::ObjectNotFound, message).param("model"));
        }
        let mentions: Vec<&str> = self.ask.mentions.iter().map(String::as_str).collect();
        let others = self.proxy.services.anyone_elses(caller, &resolved.provider, &mentions).await;
        match others.map_err(|error| self.unowned(&error))?.first() {
            None => Ok(()),
            Some(id) => Err(not_found(id).param("input")),
        }
    }

    /// What the caller may not use, in the words of the contract.
    pub(super) fn unowned(&self, error: &ObjectError) -> Refusal {
        match error {
            ObjectError::NotFound { id } => {
                let field = self.ask.objects.iter().find(|one| one.id == *id).map(|one| one.field.as_str());
                match field {
                    Some(field) => not_found(id).param(clip(field, 64)),
                    None => not_found(id),
                }
            }
            ObjectError::Ambiguous { .. } => {
                Refusal::new(Code::ProviderAmbiguous, clip(&error.to_string(), 600))
            }
            ObjectError::TooMany { .. } => Refusal::new(Code::InvalidBody, error.to_string()),
            ObjectError::Store(error) => {
                tracing::error!(%error, "whose an object is cannot be looked up");
                respond::store_unavailable()
            }
        }
    }
}

fn not_found(id: &str) -> Refusal {
    let message = format!(
        "There is no {} that this sub-key may use. What a provider keeps is its maker's.",
        clip(id, 64)
    );
    Refusal::new(Code::ObjectNotFound, message)
}

/// What the settlement puts on record of objects: those that the answer made or showed, and the one that it deleted.
pub(super) fn changes(
    admitted: &Admitted,
    row: &Row,
    reading: &Reading,
    entry: &Entry,
    now: DateTime<Utc>,
) -> ObjectChanges {
    let provider = &admitted.resolved.provider;
    let is_done = entry.upstream_status.is_some_and(|status| (200..300).contains(&status) || status == 404);
    let deleted =
        admitted.named_object.as_deref().filter(|_| is_done && matches!(row.effect, Effect::Deletes(_)));
    let deleted = deleted.and_then(|id| id.parse().ok());
    let Some(credential_id) = &admitted.entry.credential_id else { return ObjectChanges::default() };
    let new = |made: &Made, belongs: Belonging, model: Option<&String>| {
        let id: ObjectId = made.id.parse().ok()?;
        Some(NewObject {
            provider: provider.clone(),
            id,
            kind: made.kind,
            belongs,
            credential_id: credential_id.clone(),
            model: model.cloned(),
            parent: made.parent.as_deref().and_then(|id| id.parse().ok()),
            created_at: now,
            expires_at: made.expires_after.and_then(|after| now.checked_add_signed(after)),
            document: made.document.as_deref().and_then(ObjectDocument::parse),
        })
    };
    // Of what is made shorter nothing is kept.
    let makes = matches!(row.effect, Effect::Generates | Effect::Keeps(_)) && row.form != Form::Compaction;
    let model = Some(&admitted.resolved.model).filter(|model| !model.is_empty());
    let made = |made: &Made| new(made, Holder::of(&admitted.caller.key.subkey).makes(), model);
    ObjectChanges {
        made: reading.made.iter().filter(|_| makes).filter_map(made).collect(),
        deleted: deleted.map(|id| ObjectKey { provider: provider.clone(), id }).into_iter().collect(),
        shown: shown(admitted, row, reading)
            .iter()
            .filter_map(|(made, kept)| new(made, kept.belongs.clone(), kept.model.as_ref()))
            .collect(),
        ..ObjectChanges::default()
    }
}

/// What a response has that is shown. It may have been made out of sight, and then it is on nobody's record: whose the
/// response is, whoever reads it.
fn shown<'a>(admitted: &'a Admitted, row: &Row, reading: &Reading) -> Vec<(Made, &'a Kept)> {
    let (Some(response), Some(kept)) = (shown_response(row, admitted), &admitted.kept) else {
        return Vec::new();
    };
    if response_in(reading).is_some_and(|told| told.id != response.as_str()) {
        return Vec::new();
    }
    let parts = reading.made.iter().filter(|made| made.kind != ObjectKind::Response);
    let parent = |made: &Made| {
        if made.kind == ObjectKind::Item { Some(response.to_string()) } else { made.parent.clone() }
    };
    parts.map(|made| (Made { parent: parent(made), ..made.clone() }, kept)).collect()
}

/// Those that are on nobody's record: whoever polls is shown the same again, and writing it again is the writer's time. What
/// cannot be looked up is left to the writer.
pub(super) async fn not_known(exchange: &Exchange, mut shown: Vec<NewObject>) -> Vec<NewObject> {
    if shown.is_empty() {
        return shown;
    }
    let (services, provider) = (&exchange.proxy.services, &exchange.admitted.resolved.provider);
    let ids: Vec<&ObjectId> = shown.iter().map(|one| &one.id).collect();
    if let Ok(Ok(known)) = timeout(LOOK_UP_MAX, services.known_objects(provider, &ids)).await {
        shown.retain(|one| !known.contains(&one.id));
    }
    shown
}
