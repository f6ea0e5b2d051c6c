//! Usage: sums of the access log by group.

use super::access_log::within_reach;
use super::{Actor, ReadLogError, Services};
use crate::log::Filter;
use crate::store;
use crate::store::access_log::{GroupBy, UsageRow};

impl Services {
    /// Sums the entries that fit the filter, groups in order. Without groups there is one row.
    pub async fn usage(
        &self,
        actor: &Actor,
        filter: Filter,
        group_by: &[GroupBy],
    ) -> Result<Vec<UsageRow>, ReadLogError> {
        let filter = within_reach(actor, filter)?;
        let mut read = self.store.read().await?;
        Ok(store::access_log::usage(&mut read.conn(), &filter, group_by).await?)
    }
}
