//! The kinds of alarms. A kind is a stable word: dashboards and pagers are built on it.

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// What an alarm is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum AlarmKind {
            $($(#[$doc])* #[serde(rename = $word)] $name,)*
        }

        impl AlarmKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// Reads the word.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
            }
        }
    };
}

kinds! {
    /// A provider sent our key back; the answer was cut. Subject: the credential.
    CredentialEchoed = "credential_echoed";
    /// A provider refused our key. Subject: the credential.
    UpstreamCredential = "upstream_credential";
    /// A provider refused a new version of a key, and the version before it is used while it drains. Subject: the credential.
    CredentialFellBack = "credential_fell_back";
    /// A provider billed more than its documented bound; the windows that it was posted to are blocked. Subject: the provider.
    BillAboveBound = "bill_above_bound";
    /// The wall clock is more than a minute off the time that windows go by, and is not followed until this is closed. Subject: the node.
    ClockOff = "clock_off";
    /// A reseller says another cost of a request than our prices come to, by more than 5 %. Subject: provider and model.
    CostDisagreement = "cost_disagreement";
    /// An answer reports a service tier, speed or region for which the model has no factor; it was charged as what was
    /// reserved, which may be too little. Subject: provider and model.
    FactorUnknown = "factor_unknown";
    /// An answer names another model than the one that was asked for, checked and priced. Subject: provider and model.
    ModelSubstituted = "model_substituted";
    /// What an operator said of a model makes no sense beside the rest and is not used; the model has no price until it is
    /// set anew. Subject: provider and model.
    ModelUnusable = "model_unusable";
    /// What is posted to a budget's window is not what the log adds up to; the window is blocked. Subject: the budget.
    BooksDoNotAddUp = "books_do_not_add_up";
    /// The sums of usage of an hour are not what the log adds up to; they were made anew from it. Subject: the sums.
    UsageDisagrees = "usage_disagrees";
    /// A provider gave an id to a second holder; it stays the first one's, and the second cannot use it. Subject: the provider.
    ObjectTaken = "object_taken";
    /// A row that grants power was changed outside of Bitting, or an old one was put back; it is not used. Subject: table and id.
    RowTampered = "row_tampered";
    /// The rows that grant power do not add up to what was written: one is missing or was put in. Subject: the installation.
    RegisterMismatch = "register_mismatch";
    /// The database is older than the checkpoint kept outside of it, or was restored; nothing is admitted. Subject: the installation.
    Quarantined = "quarantined";
    /// The checkpoint outside of the database cannot be written; what is not in it is not missed after a restore. Subject: the file.
    CheckpointUnwritable = "checkpoint_unwritable";
    /// The key-encryption key cannot be had; the server is sealed until it can. Subject: the source.
    KekUnavailable = "kek_unavailable";
    /// A key service no longer gives the key-encryption key of an open vault, which is sealed if that lasts. Subject: the source.
    KekRefused = "kek_refused";
    /// A key of a provider cannot be moved to the keyring's current term, so the term that it is wrapped in stays. Subject: the credential.
    RewrapBlocked = "rewrap_blocked";
    /// A wrong unseal code or key was presented too often. Subject: the installation.
    UnsealRefused = "unseal_refused";
    /// The webhook took a notice on none of three days, and it was given up. Subject: the webhook.
    WebhookGivenUp = "webhook_given_up";
    /// More notices waited for the webhook than are kept, and the oldest were dropped. Subject: the webhook.
    NoticesDropped = "notices_dropped";
}

impl AlarmKind {
    /// Whether it is about the webhook: that is not told to the webhook, or telling of it would never end.
    pub fn is_about_the_webhook(self) -> bool {
        matches!(self, Self::WebhookGivenUp | Self::NoticesDropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_reads_back_from_its_word_and_no_two_share_one() {
        for kind in AlarmKind::ALL {
            assert_eq!(AlarmKind::parse(kind.as_str()), Some(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(AlarmKind::parse("nothing"), None);
    }
}
