//! Work that goes on behind its answer: what has to be kept to price its use once it is told, signed.

use super::{Services, StoreError};
use crate::log::AlarmKind;
use crate::provider::{DeferredTerms, ObjectId, Slug};
use crate::store::audit::Signature;
use crate::store::deferred::{self, DeferredCharge};
use crate::vault::Keyring;
use serde_json::json;

/// What the message begins with that is signed.
const LABEL: &str = "bitting/deferred-charge/1";

impl Services {
    /// What has to go on record so that the charge of this request can be set right once the response tells its use.
    /// `None` while the vault is sealed: then it stays as it is.
    pub fn defer(
        &self,
        (provider, response_id): (&Slug, &ObjectId),
        request_id: &str,
        terms: &DeferredTerms,
    ) -> Option<DeferredCharge> {
        let terms = serde_json::to_string(terms).ok()?;
        let message = message((provider, response_id), request_id, &terms);
        let (mac, term) = self.vault.keyring().ok()?.sign_row(&message);
        Some(DeferredCharge {
            provider: provider.clone(),
            response_id: response_id.clone(),
            request_id: request_id.to_owned(),
            terms,
            created_at: self.clock.now(),
            signature: Signature { term: i64::from(term), mac: mac.to_vec() },
        })
    }

    /// The request whose charge waits for what this response tells, and by what that is priced. A row that is not what
    /// was written is alarmed and not used; one of a term that is gone is not used.
    ///
    /// # Errors
    /// The database failed.
    pub async fn deferred(
        &self,
        provider: &Slug,
        response_id: &ObjectId,
    ) -> Result<Option<(String, DeferredTerms)>, StoreError> {
        let found = deferred::find(&mut self.store.read().await?.conn(), provider, response_id).await?;
        let Some(charge) = found else { return Ok(None) };
        let Ok(keyring) = self.vault.keyring() else { return Ok(None) };
        let terms = serde_json::from_str(&charge.terms).ok();
        match (standing(&keyring, &charge), terms) {
            (Standing::Signed, Some(terms)) => Ok(Some((charge.request_id, terms))),
            (Standing::TermGone, _) => Ok(None),
            (Standing::Signed | Standing::Changed, _) => {
                let detail = json!({"request_id": charge.request_id});
                let subject = format!("deferred_charges/{provider}/{response_id}");
                self.alarms.raise(AlarmKind::RowTampered, &subject, &detail);
                Ok(None)
            }
        }
    }

    /// Signs what older terms signed in the current one, `before`; how many that were. What is not as it was written
    /// stays, and keeps its term alive until it is forgotten.
    ///
    /// # Errors
    /// The database failed.
    pub(super) async fn sign_deferred_again(&self, before: u32) -> Result<usize, StoreError> {
        const SOME: u32 = 200;
        let Ok(keyring) = self.vault.keyring() else { return Ok(0) };
        let (mut signed, mut after) = (0, None);
        loop {
            let mut read = self.store.read().await?;
            let some =
                deferred::signed_before(&mut read.conn(), i64::from(before), after.as_ref(), SOME).await?;
            drop(read);
            if some.is_empty() {
                return Ok(signed);
            }
            let mut tx = self.store.write().await?;
            for charge in &some {
                if matches!(standing(&keyring, charge), Standing::Signed) {
                    let place = (&charge.provider, &charge.response_id);
                    let (mac, term) = keyring.sign_row(&message(place, &charge.request_id, &charge.terms));
                    let signature = Signature { term: i64::from(term), mac: mac.to_vec() };
                    deferred::sign(&mut tx.conn(), &DeferredCharge { signature, ..charge.clone() }).await?;
                    signed += 1;
                }
            }
            tx.commit().await?;
            after = some.into_iter().last();
        }
    }
}

/// What a row's signature says of it.
enum Standing {
    Signed,
    Changed,
    TermGone,
}

fn standing(keyring: &Keyring, charge: &DeferredCharge) -> Standing {
    let message = message((&charge.provider, &charge.response_id), &charge.request_id, &charge.terms);
    let Signature { term, mac } = &charge.signature;
    match u32::try_from(*term).ok().filter(|term| keyring.row_mac(&message, *term).is_some()) {
        None => Standing::TermGone,
        Some(term) if keyring.row_is_signed(&message, mac, term) => Standing::Signed,
        Some(_) => Standing::Changed,
    }
}

/// All that the row says, each with its length.
fn message((provider, response_id): (&Slug, &ObjectId), request_id: &str, terms: &str) -> Vec<u8> {
    let mut message = Vec::new();
    for part in [LABEL, provider.as_str(), response_id.as_str(), request_id, terms] {
        message.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        message.extend(part.as_bytes());
    }
    message
}
