//! What is read from the database to be held against the book: rows with their children, from one moment.

use super::{credential_row, model_row, operator_row, project_row, provider_row, subkey_row};
use crate::service::StoreError;
use crate::store::budget::{BudgetOwner, BudgetRecord};
use crate::store::operator::TokenHolder;
use crate::store::project::ProjectRecord;
use crate::store::subkey::SubKeyFilter;
use crate::store::{self, Conn, Cursor, PAGE_MAX, Snapshot};
use crate::subkey::{SubKey, SubKeyId};
use crate::vault::{PowerRow, PowerTable};
use std::collections::HashMap;
use std::future::Future;

/// A reading that can be made again.
pub(in crate::service) trait Look: Sync {
    /// What is read, to be used.
    type Found: Send;
    /// Tables of which every row is read: one that is missing is a mismatch, too.
    const WHOLE: &'static [PowerTable] = &[];

    /// Reads it, with each row in the form in which it is signed.
    fn read(
        &self,
        moment: &mut Snapshot,
    ) -> impl Future<Output = Result<(Self::Found, Vec<PowerRow>), StoreError>> + Send;
}

/// Sub-keys by id.
pub(in crate::service) struct SubKeys<'a>(pub(in crate::service) &'a [SubKeyId]);

impl Look for SubKeys<'_> {
    type Found = Vec<SubKey>;

    async fn read(&self, moment: &mut Snapshot) -> Result<(Vec<SubKey>, Vec<PowerRow>), StoreError> {
        let subkeys = store::subkey::get_many(&mut moment.conn(), self.0).await?;
        let rows = subkey_rows(&mut moment.conn(), &subkeys).await?;
        Ok((subkeys, rows))
    }
}

/// A page of all sub-keys.
pub(in crate::service) struct SubKeyPage(pub(in crate::service) Option<Cursor<String>>);

impl Look for SubKeyPage {
    type Found = (Vec<String>, Option<Cursor<String>>);

    async fn read(&self, moment: &mut Snapshot) -> Result<(Self::Found, Vec<PowerRow>), StoreError> {
        let filter = SubKeyFilter::default();
        let page = store::subkey::list(&mut moment.conn(), &filter, self.0.as_ref(), PAGE_MAX).await?;
        let rows = subkey_rows(&mut moment.conn(), &page.items).await?;
        let ids = page.items.into_iter().map(|subkey| subkey.id.as_str().to_owned()).collect();
        Ok(((ids, page.next), rows))
    }
}

/// Who holds an operator token.
pub(in crate::service) struct Holder<'a>(pub(in crate::service) &'a [u8; 32]);

impl Look for Holder<'_> {
    type Found = Option<TokenHolder>;

    async fn read(&self, moment: &mut Snapshot) -> Result<(Self::Found, Vec<PowerRow>), StoreError> {
        let Some(holder) = store::operator::find_by_token(&mut moment.conn(), self.0).await? else {
            return Ok((None, Vec::new()));
        };
        let tokens = store::operator::tokens_of(&mut moment.conn(), &holder.operator.id).await?;
        let row = operator_row(&holder.operator, &tokens);
        Ok((Some(holder), vec![row]))
    }
}

/// Every row of every table but that of sub-keys.
pub(in crate::service) struct AllButSubKeys;

impl Look for AllButSubKeys {
    type Found = ();
    const WHOLE: &'static [PowerTable] = &[
        PowerTable::Providers,
        PowerTable::Credentials,
        PowerTable::Models,
        PowerTable::Operators,
        PowerTable::Projects,
    ];

    async fn read(&self, moment: &mut Snapshot) -> Result<((), Vec<PowerRow>), StoreError> {
        Ok(((), all_but_subkeys(&mut moment.conn()).await?))
    }
}

/// Every row of every table but that of sub-keys, in the form in which it is signed.
pub(super) async fn all_but_subkeys(conn: &mut Conn<'_>) -> Result<Vec<PowerRow>, StoreError> {
    let mut rows = Vec::new();
    for operator in store::operator::list(conn).await? {
        let tokens = store::operator::tokens_of(conn, &operator.id).await?;
        rows.push(operator_row(&operator, &tokens));
    }
    let projects = store::project::list(conn).await?;
    rows.extend(project_rows(conn, &projects).await?);
    rows.extend(store::provider::list(conn).await?.iter().map(provider_row));
    rows.extend(store::model::list(conn).await?.iter().map(model_row));
    let mut versions = store::credential::versions_of_all(conn).await?;
    for credential in store::credential::list(conn).await? {
        let versions = versions.remove(&credential.id).unwrap_or_default();
        rows.push(credential_row(&credential, versions));
    }
    Ok(rows)
}

/// Projects with their budgets, in the form in which they are signed.
pub(in crate::service) async fn project_rows(
    conn: &mut Conn<'_>,
    projects: &[ProjectRecord],
) -> Result<Vec<PowerRow>, StoreError> {
    let owners: Vec<BudgetOwner> = projects.iter().map(|one| BudgetOwner::project(&one.slug)).collect();
    let mut budgets: HashMap<String, Vec<BudgetRecord>> = store::budget::of_owners(conn, &owners).await?;
    let row = |(project, owner): (&ProjectRecord, &BudgetOwner)| {
        project_row(project, &budgets.remove(owner.as_str()).unwrap_or_default())
    };
    Ok(projects.iter().zip(&owners).map(row).collect())
}

/// Every project, deleted ones too.
pub(in crate::service) struct Projects;

impl Look for Projects {
    type Found = Vec<ProjectRecord>;
    const WHOLE: &'static [PowerTable] = &[PowerTable::Projects];

    async fn read(&self, moment: &mut Snapshot) -> Result<(Vec<ProjectRecord>, Vec<PowerRow>), StoreError> {
        let projects = store::project::list(&mut moment.conn()).await?;
        let rows = project_rows(&mut moment.conn(), &projects).await?;
        Ok((projects, rows))
    }
}

/// Sub-keys with their budgets, in the form in which they are signed.
pub(super) async fn subkey_rows(
    conn: &mut Conn<'_>,
    subkeys: &[SubKey],
) -> Result<Vec<PowerRow>, StoreError> {
    let owners: Vec<BudgetOwner> = subkeys.iter().map(|subkey| BudgetOwner::subkey(&subkey.id)).collect();
    let mut budgets: HashMap<String, Vec<BudgetRecord>> = store::budget::of_owners(conn, &owners).await?;
    let row = |(subkey, owner): (&SubKey, &BudgetOwner)| {
        subkey_row(subkey, &budgets.remove(owner.as_str()).unwrap_or_default())
    };
    Ok(subkeys.iter().zip(&owners).map(row).collect())
}
