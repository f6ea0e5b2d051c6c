//! Reading the access log: pages for people, whole exports for auditors. Each read is an entry of the admin log.

use super::{Actor, OutOfReach, Services, StoreError};
use crate::log::{Entry, Filter};
use crate::store::{self, Cursor, Page};
use futures_util::Stream;
use serde_json::{Value, json};

/// How many entries of an export are in memory at a time.
const EXPORT_ENTRIES: u32 = 500;

/// Why entries or sums of the access log are not shown.
#[derive(Debug, thiserror::Error)]
pub enum ReadLogError {
    /// Another project's.
    #[error(transparent)]
    OutOfReach(#[from] OutOfReach),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Services {
    /// A page of the access log, newest first.
    pub async fn access_log(
        &self,
        actor: &Actor,
        filter: Filter,
        after: Option<&Cursor<i64>>,
        limit: u32,
    ) -> Result<Page<Entry, i64>, ReadLogError> {
        let filter = within_reach(actor, filter)?;
        self.note_read(actor, "access_log.read", "access_log", described(&filter)).await?;
        let mut read = self.store.read().await?;
        let page = store::access_log::page(&mut read.conn(), &filter, after, limit).await?;
        Ok(Page { items: page.items.into_iter().map(|logged| logged.entry).collect(), next: page.next })
    }

    /// The access log in the order of appending, a few hundred entries at a time: memory does not grow with the log.
    pub async fn export_access_log(
        &self,
        actor: &Actor,
        filter: Filter,
    ) -> Result<impl Stream<Item = Result<Vec<Entry>, StoreError>> + Send + use<>, ReadLogError> {
        let filter = within_reach(actor, filter)?;
        self.note_read(actor, "access_log.export", "access_log", described(&filter)).await?;
        let start = (self.clone(), filter, Some(0));
        Ok(futures_util::stream::try_unfold(start, async |(services, filter, after)| {
            let Some(after) = after else { return Ok(None) };
            let mut read = services.store.read().await?;
            let some = store::access_log::export(&mut read.conn(), &filter, after, EXPORT_ENTRIES).await?;
            // A slow reader does not keep a connection.
            drop(read);
            let Some(last) = some.last() else { return Ok(None) };
            let is_whole = u32::try_from(some.len()).is_ok_and(|count| count == EXPORT_ENTRIES);
            let next = is_whole.then_some(last.seq);
            let entries = some.into_iter().map(|logged| logged.entry).collect();
            Ok(Some((entries, (services, filter, next))))
        }))
    }
}

/// The filter, cut to what the operator reaches.
pub(super) fn within_reach(actor: &Actor, filter: Filter) -> Result<Filter, OutOfReach> {
    let operator = &actor.operator;
    match &filter.project {
        Some(asked) if operator.reaches(asked) => Ok(filter),
        Some(_) => Err(OutOfReach),
        None => Ok(Filter { within: operator.reached(), ..filter }),
    }
}

fn described(filter: &Filter) -> Value {
    let Filter {
        from,
        to,
        project,
        within,
        subkey,
        provider,
        model,
        decision,
        status,
        request_id,
        client_ip,
    } = filter;
    json!({"filter": {
        "from": from, "to": to, "project": project, "within": within, "subkey": subkey, "provider": provider, "model": model,
        "decision": decision, "status": status, "request_id": request_id, "client_ip": client_ip,
    }})
}
