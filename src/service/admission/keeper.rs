//! Where the objects of a request are kept: nothing else can serve it.

use crate::provider::Slug;
use crate::service::{Caller, ObjectError, ObjectName, ObjectRecord, Services, Snapshot};
use crate::subkey::Belonging;

/// Who keeps the objects that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The provider.
    pub provider: Slug,
    /// The credential that they were made with.
    pub credential_id: String,
    /// The model that made them, where it is known.
    pub model: Option<String>,
    /// Whose the first of them is: the one that the path names, where it names one.
    pub belongs: Belonging,
}

/// Why the objects of a request cannot be used together, or at all.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// They are not the caller's, or cannot be looked up.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Each is the caller's, in an account of its own.
    #[error("The request names objects of different accounts, which no provider can use together.")]
    DifferentAccounts,
    /// The credential that made this one is not the caller's any more.
    #[error("{id} was made with a credential that this sub-key does not use any more.")]
    Credential {
        /// Its id.
        id: String,
    },
}

impl Services {
    /// Whether all objects that are named are the caller's, and where they are kept; `None` where none is named. Where no
    /// provider is `fixed`, they may be with any.
    pub async fn keeper(
        &self,
        caller: &Caller,
        snapshot: &Snapshot,
        fixed: Option<&Slug>,
        names: &[ObjectName<'_>],
    ) -> Result<Option<Kept>, KeeperError> {
        let records = self.owned_objects(caller, fixed, names).await?;
        let Some(first) = records.first().map(|record| &record.object) else { return Ok(None) };
        let is_together = |record: &ObjectRecord| {
            record.object.provider == first.provider && record.object.credential_id == first.credential_id
        };
        if !records.iter().all(is_together) {
            return Err(KeeperError::DifferentAccounts);
        }
        let pin = caller.key.subkey.definition.credential.as_deref();
        let credential = snapshot.credential(&first.provider, &first.credential_id);
        if !credential.is_some_and(|one| one.is_usable(&caller.lineage, pin)) {
            return Err(KeeperError::Credential { id: crate::base::clip(first.id.as_str(), 64) });
        }
        let (provider, credential_id) = (first.provider.clone(), first.credential_id.clone());
        Ok(Some(Kept { provider, credential_id, model: first.model.clone(), belongs: first.belongs.clone() }))
    }
}
