//! Signing and checking rows with their children: what the verbs call in a change.

use super::book::Tampered;
use super::{
    Change, GuardError, credential_row, model_row, operator_row, project_row, provider_row, subkey_row,
};
use crate::service::StoreError;
use crate::store;
use crate::store::budget::BudgetOwner;
use crate::store::credential::CredentialRecord;
use crate::store::model::ModelRecord;
use crate::store::operator::OperatorRecord;
use crate::store::project::ProjectRecord;
use crate::store::provider::ProviderRecord;
use crate::subkey::{SubKey, SubKeyId};
use crate::vault::PowerTable;

impl Change {
    /// Refuses a sub-key that is not as it was written. To be asked with what this change read of it.
    pub(in crate::service) async fn check_subkey(&mut self, subkey: &SubKey) -> Result<(), GuardError> {
        let owner = BudgetOwner::subkey(&subkey.id);
        let budgets = store::budget::of_owner(&mut self.conn(), &owner).await?;
        Ok(self.check(&subkey_row(subkey, &budgets))?)
    }

    /// Signs a sub-key as this change leaves it, and returns it so.
    pub(in crate::service) async fn sign_subkey(
        &mut self,
        id: &SubKeyId,
    ) -> Result<Option<SubKey>, StoreError> {
        let Some(subkey) = store::subkey::get(&mut self.conn(), id).await? else { return Ok(None) };
        let budgets = store::budget::of_owner(&mut self.conn(), &BudgetOwner::subkey(id)).await?;
        self.sign(&subkey_row(&subkey, &budgets)).await?;
        Ok(Some(subkey))
    }

    /// Refuses a provider that is not as it was written.
    pub(in crate::service) fn check_provider(&self, provider: &ProviderRecord) -> Result<(), Tampered> {
        self.check(&provider_row(provider))
    }

    /// Signs a provider as this change leaves it.
    pub(in crate::service) async fn sign_provider(
        &mut self,
        provider: &ProviderRecord,
    ) -> Result<(), StoreError> {
        self.sign(&provider_row(provider)).await
    }

    /// Refuses a credential that is not as it was written.
    pub(in crate::service) async fn check_credential(
        &mut self,
        credential: &CredentialRecord,
    ) -> Result<(), GuardError> {
        let versions = store::credential::versions_of(&mut self.conn(), &credential.id).await?;
        Ok(self.check(&credential_row(credential, versions))?)
    }

    /// Signs a credential as this change leaves it.
    pub(in crate::service) async fn sign_credential(&mut self, id: &str) -> Result<(), StoreError> {
        match store::credential::get(&mut self.conn(), id).await? {
            Some(credential) => {
                let versions = store::credential::versions_of(&mut self.conn(), id).await?;
                self.sign(&credential_row(&credential, versions)).await
            }
            None => self.remove(PowerTable::Credentials, id).await,
        }
    }

    /// Refuses what an operator said about a model if it is not as it was written.
    pub(in crate::service) fn check_model(&self, model: &ModelRecord) -> Result<(), Tampered> {
        self.check(&model_row(model))
    }

    /// Signs what an operator said about a model.
    pub(in crate::service) async fn sign_model(&mut self, model: &ModelRecord) -> Result<(), StoreError> {
        self.sign(&model_row(model)).await
    }

    /// Signs an operator as this change leaves it.
    pub(in crate::service) async fn sign_operator(
        &mut self,
        operator: &OperatorRecord,
    ) -> Result<(), StoreError> {
        let tokens = store::operator::tokens_of(&mut self.conn(), &operator.id).await?;
        self.sign(&operator_row(operator, &tokens)).await
    }

    /// Refuses a project that is not as it was written. To be asked with what this change read of it.
    pub(in crate::service) async fn check_project(
        &mut self,
        project: &ProjectRecord,
    ) -> Result<(), GuardError> {
        let owner = BudgetOwner::project(&project.slug);
        let budgets = store::budget::of_owner(&mut self.conn(), &owner).await?;
        Ok(self.check(&project_row(project, &budgets))?)
    }

    /// Signs a project as this change leaves it, and returns it so.
    pub(in crate::service) async fn sign_project(
        &mut self,
        slug: &str,
    ) -> Result<Option<ProjectRecord>, StoreError> {
        let Some(project) = store::project::get(&mut self.conn(), slug).await? else { return Ok(None) };
        let budgets = store::budget::of_owner(&mut self.conn(), &BudgetOwner::project(slug)).await?;
        self.sign(&project_row(&project, &budgets)).await?;
        Ok(Some(project))
    }
}
