//! Work that goes on behind its answer: what has to be kept to price its use once it is told, signed.

use super::{Services, StoreError};
use crate::base::NanoUsd;
use crate::log::{AlarmKind, Entry};
use crate::provider::{DeferredTerms, ObjectId, Slug};
use crate::store::access_log::Posting;
use crate::store::audit::Signature;
use crate::store::budget::WindowId;
use crate::store::deferred::{self, DeferredCharge};
use crate::vault::Keyring;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What the message begins with that is signed.
const LABEL: &str = "bitting/deferred-charge/1";

/// What is signed of a charge that waits: what it was, and by what it is set right. The access log says the first, too, but
/// nothing there is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deferral {
    /// By what the use is priced.
    pub terms: DeferredTerms,
    /// What was charged.
    pub charged_usd: NanoUsd,
    /// To which windows, all of it to each.
    pub windows: Vec<WindowId>,
    /// The model, as it was sent.
    pub model: String,
    /// By which prices it was admitted.
    pub price_version: Option<String>,
    /// All that the request can come to has a price and a bound, so what its use comes to is all of it.
    pub is_bounded: bool,
}

impl Deferral {
    /// Whether the entry and its postings say what was charged, and to which windows.
    pub(super) fn is_of(&self, charge: &Entry, postings: &[Posting]) -> bool {
        let mut posted: Vec<WindowId> = postings.iter().cloned().map(Posting::window).collect();
        let mut windows = self.windows.clone();
        posted.sort();
        windows.sort();
        charge.cost_usd == self.charged_usd
            && postings.iter().all(|posting| posting.amount_usd.is_none())
            && posted == windows
    }
}

/// A charge that waits, as its signature says.
#[derive(Clone, Debug)]
pub struct WaitingCharge {
    /// The provider that works on it.
    pub provider: Slug,
    /// The response that will tell its use.
    pub response_id: ObjectId,
    /// The request that was charged.
    pub request_id: String,
    /// What was signed of it.
    pub deferral: Deferral,
}

impl Services {
    /// What has to go on record so that the charge of this request can be set right once the response tells its use.
    /// `None` while the vault is sealed: then it stays as it is.
    pub fn defer(
        &self,
        (provider, response_id): (&Slug, &ObjectId),
        request_id: &str,
        deferral: &Deferral,
    ) -> Option<DeferredCharge> {
        let terms = serde_json::to_string(deferral).ok()?;
        let keyring = self.vault.keyring().ok()?;
        let signature = signature(&keyring, &message((provider, response_id), request_id, &terms));
        Some(DeferredCharge {
            provider: provider.clone(),
            response_id: response_id.clone(),
            request_id: request_id.to_owned(),
            terms,
            created_at: self.clock.now(),
            signature,
        })
    }

    /// The charge that waits for what this response tells. A row that is not what was written is alarmed and not used; one
    /// of a term that is gone is not used.
    ///
    /// # Errors
    /// The database failed.
    pub async fn deferred(
        &self,
        provider: &Slug,
        response_id: &ObjectId,
    ) -> Result<Option<WaitingCharge>, StoreError> {
        let found = deferred::find(&mut self.store.read().await?.conn(), provider, response_id).await?;
        Ok(found.and_then(|charge| self.as_signed(charge)))
    }

    /// The same of the charge of this request.
    ///
    /// # Errors
    /// The database failed.
    pub(super) async fn deferred_of(&self, request_id: &str) -> Result<Option<WaitingCharge>, StoreError> {
        let found = deferred::find_of(&mut self.store.read().await?.conn(), request_id).await?;
        Ok(found.and_then(|charge| self.as_signed(charge)))
    }

    fn as_signed(&self, charge: DeferredCharge) -> Option<WaitingCharge> {
        let keyring = self.vault.keyring().ok()?;
        let deferral = serde_json::from_str(&charge.terms).ok();
        match (standing(&keyring, &charge), deferral) {
            (Standing::Signed, Some(deferral)) => {
                let DeferredCharge { provider, response_id, request_id, .. } = charge;
                Some(WaitingCharge { provider, response_id, request_id, deferral })
            }
            (Standing::TermGone, _) => None,
            (Standing::Signed | Standing::Changed, _) => {
                self.tell_changed(&charge);
                None
            }
        }
    }

    fn tell_changed(&self, charge: &DeferredCharge) {
        let DeferredCharge { provider, response_id, request_id, .. } = charge;
        let subject = format!("deferred_charges/{provider}/{response_id}");
        self.alarms.raise(AlarmKind::RowTampered, &subject, &json!({"request_id": request_id}));
    }

    /// Signs what older terms signed in the current one, `before`; how many that were. What is not as it was written is
    /// alarmed and stays, and keeps its term alive until it is forgotten.
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
            for charge in &some {
                match standing(&keyring, charge) {
                    Standing::Signed => {
                        let signature = signature(&keyring, &message_of(charge));
                        // Each by itself: who holds one row waits for none that the ledger has.
                        let mut tx = self.store.write().await?;
                        deferred::sign(&mut tx.conn(), &DeferredCharge { signature, ..charge.clone() })
                            .await?;
                        tx.commit().await?;
                        signed += 1;
                    }
                    Standing::Changed => self.tell_changed(charge),
                    Standing::TermGone => {}
                }
            }
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
    let message = message_of(charge);
    let Signature { term, mac } = &charge.signature;
    match u32::try_from(*term).ok().filter(|term| keyring.row_mac(&message, *term).is_some()) {
        None => Standing::TermGone,
        Some(term) if keyring.row_is_signed(&message, mac, term) => Standing::Signed,
        Some(_) => Standing::Changed,
    }
}

fn signature(keyring: &Keyring, message: &[u8]) -> Signature {
    let (mac, term) = keyring.sign_row(message);
    Signature { term: i64::from(term), mac: mac.to_vec() }
}

fn message_of(charge: &DeferredCharge) -> Vec<u8> {
    message((&charge.provider, &charge.response_id), &charge.request_id, &charge.terms)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Window;
    use crate::store::budget::{BudgetId, BudgetOwner};
    use chrono::DateTime;

    fn window(project: &str) -> WindowId {
        let budget = BudgetId::new(&BudgetOwner::project(project), Window::Total);
        WindowId { budget, window_start: DateTime::UNIX_EPOCH }
    }

    #[test]
    fn an_entry_of_another_amount_or_of_other_windows_is_not_the_charge() {
        let terms = json!({
            "prices": {}, "factors": crate::provider::Factors::LIST, "hosted": [], "picture_fees": "0",
            "bound": "0.10", "is_capped": true,
        });
        let deferral = Deferral {
            terms: serde_json::from_value(terms).unwrap(),
            charged_usd: NanoUsd::from_nano(100),
            windows: vec![window("b"), window("a")],
            model: "m".into(),
            price_version: None,
            is_bounded: true,
        };
        let charge = |nano| Entry { cost_usd: NanoUsd::from_nano(nano), ..Entry::default() };
        let to = |names: &[&str]| names.iter().map(|name| Posting::all(window(name))).collect::<Vec<_>>();
        assert!(deferral.is_of(&charge(100), &to(&["a", "b"])));
        for (nano, names) in
            [(101, &["a", "b"][..]), (99, &["a", "b"]), (100, &["a"]), (100, &[]), (100, &["a", "c"])]
        {
            assert!(!deferral.is_of(&charge(nano), &to(names)), "{nano} {names:?}");
        }
        assert!(!deferral.is_of(&charge(100), &to(&["a", "a", "b"])));
        let mut part = to(&["a", "b"]);
        part[0].amount_usd = Some(NanoUsd::from_nano(1));
        assert!(!deferral.is_of(&charge(100), &part));
    }
}
