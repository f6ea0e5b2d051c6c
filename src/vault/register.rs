//! The register: one signed row about all signed rows.
//!
//! It counts the changes, and holds the sum of what each signed row adds (`Keyring::share`), modulo 2^256. A row that
//! was put back, taken away or put in with a MAC from another time changes the sum of the rows, and nobody without the
//! keyring can change the register to fit. A whole database that is older agrees with itself: that is noticed by the
//! checkpoint kept outside of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

const LABEL: &[u8] = b"bitting/register/v1";

/// What the register says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Counts the changes of rows that grant power; never goes back.
    pub seq: i64,
    /// What all signed rows add up to, big endian.
    pub digest: [u8; 32],
    /// Counts restores.
    pub epoch: i64,
    /// Whether the server may serve.
    pub state: RegisterState,
}

/// Whether the server may serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterState {
    /// Set while an operator has it sealed.
    pub seal: Option<SealedBy>,
    /// Set until an operator releases it.
    pub quarantine: Option<Quarantine>,
}

/// A seal by an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedBy {
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub by: String,
    /// The SHA-256 of the one-time unseal code, in hexadecimal.
    pub code_sha256: String,
}

/// Why nothing is admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// Since when.
    pub since: DateTime<Utc>,
    /// `restored`, `database_older` or `register_mismatch`.
    pub reason: String,
    /// For people.
    pub detail: String,
}

impl Default for Register {
    /// The register of no rows.
    fn default() -> Self {
        Self { seq: 0, digest: [0; 32], epoch: 1, state: RegisterState::default() }
    }
}

impl Register {
    /// Takes a row in: what it adds, by `Keyring::share`.
    pub fn add(&mut self, share: &[u8; 32]) {
        let mut carry = 0;
        for (sum, part) in self.digest.iter_mut().zip(share).rev() {
            let total = u16::from(*sum) + u16::from(*part) + carry;
            (carry, *sum) = split(total);
        }
    }

    /// Takes a row out again.
    pub fn subtract(&mut self, share: &[u8; 32]) {
        // The complement and one more: what adds up to 2^256.
        let mut carry = 1;
        let negative = share.map(|byte| !byte);
        for (sum, part) in self.digest.iter_mut().zip(negative).rev() {
            let total = u16::from(*sum) + u16::from(part) + carry;
            (carry, *sum) = split(total);
        }
    }

    /// What is signed.
    ///
    /// # Panics
    /// Never: the state is JSON.
    pub fn canonical(&self) -> Vec<u8> {
        let state = serde_json::to_vec(&self.state).expect("the state is JSON");
        [LABEL, &self.seq.to_be_bytes(), &self.digest, &self.epoch.to_be_bytes(), &state].concat()
    }
}

/// High byte and low byte.
fn split(total: u16) -> (u16, u8) {
    let [high, low] = total.to_be_bytes();
    (u16::from(high), low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// In whatever order rows come and go, the register holds the sum of those that are there.
        #[test]
        fn the_sum_is_that_of_the_rows_that_are_there(
            rows in prop::collection::vec((any::<[u8; 32]>(), any::<bool>()), 0..8),
        ) {
            let (mut all, mut kept) = (Register::default(), Register::default());
            for (share, _) in &rows {
                all.add(share);
            }
            for (share, stays) in rows.iter().rev() {
                if *stays { kept.add(share) } else { all.subtract(share) }
            }
            prop_assert_eq!(all.digest, kept.digest);
        }

        /// A row too many, too few or another one is a difference.
        #[test]
        fn another_row_is_another_sum(one in any::<[u8; 32]>(), two in any::<[u8; 32]>()) {
            let (mut with_one, mut with_two) = (Register::default(), Register::default());
            with_one.add(&one);
            with_two.add(&two);
            prop_assert_eq!(with_one.digest == with_two.digest, one == two);
        }
    }

    #[test]
    fn every_part_of_the_register_is_signed() {
        let seal = SealedBy { at: DateTime::UNIX_EPOCH, by: "a".into(), code_sha256: "b".into() };
        let quarantine =
            Quarantine { since: DateTime::UNIX_EPOCH, reason: "restored".into(), detail: String::new() };
        let changes: [fn(&mut Register); 3] = [
            |register| register.seq += 1,
            |register| register.epoch += 1,
            |register| register.digest[31] = 1,
        ];
        let plain = Register::default();
        for change in changes {
            let mut other = plain.clone();
            change(&mut other);
            assert_ne!(other.canonical(), plain.canonical());
        }
        for state in [
            RegisterState { seal: Some(seal), quarantine: None },
            RegisterState { seal: None, quarantine: Some(quarantine) },
        ] {
            assert_ne!(Register { state, ..plain.clone() }.canonical(), plain.canonical());
        }
    }
}
