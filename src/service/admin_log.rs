//! The admin log: one entry for each change, in the change's own transaction, and one for each read of evidence.

use super::{Actor, Services, StoreError};
use crate::base::{hide_tokens, hide_tokens_in};
use crate::log::AdminEntry;
use crate::store::admin_log::AdminFilter;
use crate::store::{self, Conn, Cursor, Page};
use futures_util::Stream;
use serde_json::{Value, json};

/// How many entries of an export are in memory at a time.
const EXPORT_ENTRIES: u32 = 500;

impl Services {
    /// Appends the entry of a change; belongs into its transaction. `detail` is an object without secrets; a token that an
    /// operator put where it does not belong is hidden.
    pub(super) async fn note(
        &self,
        conn: &mut Conn<'_>,
        actor: &Actor,
        action: &str,
        target: &str,
        mut detail: Value,
    ) -> Result<(), StoreError> {
        if let Some(detail) = detail.as_object_mut() {
            detail.insert("operator_id".to_owned(), json!(actor.operator.id));
        }
        hide_tokens_in(&mut detail);
        let entry = AdminEntry {
            time: self.clock.now(),
            actor: actor.operator.name.clone(),
            action: action.to_owned(),
            target: hide_tokens(target).into_owned(),
            request_id: actor.request_id.clone(),
            detail,
        };
        store::admin_log::append(conn, &entry).await.map(drop)
    }

    /// Appends the entry of a read of evidence, durably, before anything is read.
    pub(super) async fn note_read(
        &self,
        actor: &Actor,
        action: &str,
        target: &str,
        detail: Value,
    ) -> Result<(), StoreError> {
        let mut tx = self.store.write().await?;
        self.note(&mut tx.conn(), actor, action, target, detail).await?;
        tx.commit().await
    }

    /// A page of the admin log, newest first. The read is an entry itself.
    pub async fn admin_log(
        &self,
        actor: &Actor,
        filter: &AdminFilter,
        after: Option<&Cursor<i64>>,
        limit: u32,
    ) -> Result<Page<AdminEntry, i64>, StoreError> {
        self.note_read(actor, "admin_log.read", "admin_log", described(filter)).await?;
        let mut read = self.store.read().await?;
        let page = store::admin_log::page(&mut read.conn(), filter, after, limit).await?;
        Ok(Page { items: page.items.into_iter().map(|logged| logged.entry).collect(), next: page.next })
    }

    /// The admin log in the order of appending, a few hundred entries at a time.
    pub async fn export_admin_log(
        &self,
        actor: &Actor,
        filter: AdminFilter,
    ) -> Result<impl Stream<Item = Result<Vec<AdminEntry>, StoreError>> + Send + use<>, StoreError> {
        self.note_read(actor, "admin_log.export", "admin_log", described(&filter)).await?;
        let start = (self.clone(), filter, Some(0));
        Ok(futures_util::stream::try_unfold(start, async |(services, filter, after)| {
            let Some(after) = after else { return Ok(None) };
            let mut read = services.store.read().await?;
            let some = store::admin_log::export(&mut read.conn(), &filter, after, EXPORT_ENTRIES).await?;
            drop(read);
            let Some(last) = some.last() else { return Ok(None) };
            let is_whole = u32::try_from(some.len()).is_ok_and(|count| count == EXPORT_ENTRIES);
            let next = is_whole.then_some(last.seq);
            let entries = some.into_iter().map(|logged| logged.entry).collect();
            Ok(Some((entries, (services, filter, next))))
        }))
    }
}

fn described(filter: &AdminFilter) -> Value {
    let AdminFilter { from, to, actor, action, target } = filter;
    json!({"filter": {"from": from, "to": to, "actor": actor, "action": action, "target": target}})
}
