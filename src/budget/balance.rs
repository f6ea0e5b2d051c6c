//! The arithmetic of one window: posted, held, and what still fits.

use crate::base::NanoUsd;

/// Where one window of one budget stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// The cap in force.
    pub limit: NanoUsd,
    /// Spent for certain.
    pub posted: NanoUsd,
    /// Held for requests in flight.
    pub held: NanoUsd,
}

/// Why an amount does not fit a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It would not fit even with nothing in flight.
    Exceeded,
    /// It will fit once requests in flight settle, or may.
    Held,
}

impl Balance {
    /// Whether `amount` fits now; the same condition as the store's conditional UPDATE.
    pub fn admit(&self, amount: NanoUsd) -> Result<(), Refusal> {
        let fits = |taken: Option<NanoUsd>| {
            taken.and_then(|sum| sum.checked_add(amount)).is_some_and(|sum| sum <= self.limit)
        };
        if fits(self.posted.checked_add(self.held)) {
            Ok(())
        } else if fits(Some(self.posted)) {
            Err(Refusal::Held)
        } else {
            Err(Refusal::Exceeded)
        }
    }

    /// What is neither posted nor held; zero when a lowered cap lies below.
    pub fn remaining(&self) -> NanoUsd {
        self.limit.saturating_sub(self.posted).saturating_sub(self.held).max(NanoUsd::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Reserve(i64),
        Settle(usize, i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..200_i64).prop_map(Step::Reserve),
            (0..8_usize, 0..=100_i64).prop_map(|(i, s)| Step::Settle(i, s))
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// No order of reserving and settling at or below the reservation passes the limit, and a
        /// refusal is `Exceeded` exactly when the amount would not fit with nothing in flight.
        #[test]
        fn a_cap_is_a_cap(limit in 0..1_000_i64, steps in steps()) {
            let mut balance = Balance { limit: NanoUsd::from_nano(limit), ..Balance::default() };
            let mut held: Vec<i64> = vec![];
            for step in steps {
                match step {
                    Step::Reserve(amount) => match balance.admit(NanoUsd::from_nano(amount)) {
                        Ok(()) => {
                            balance.held = balance.held.checked_add(NanoUsd::from_nano(amount)).unwrap();
                            held.push(amount);
                        }
                        Err(Refusal::Exceeded) => prop_assert!(balance.posted.as_nano() + amount > limit),
                        Err(Refusal::Held) => {
                            prop_assert!(balance.posted.as_nano() + amount <= limit && !held.is_empty());
                        }
                    },
                    Step::Settle(which, percent) if which < held.len() => {
                        let amount = held.remove(which);
                        balance.held = balance.held.checked_sub(NanoUsd::from_nano(amount)).unwrap();
                        balance.posted = balance.posted.checked_add(NanoUsd::from_nano(amount * percent / 100)).unwrap();
                    }
                    Step::Settle(..) => {}
                }
                prop_assert_eq!(balance.held.as_nano(), held.iter().sum::<i64>());
                prop_assert!(balance.posted.as_nano() + balance.held.as_nano() <= limit);
            }
        }
    }

    #[test]
    fn overflow_is_a_refusal() {
        let balance = Balance { limit: NanoUsd::MAX, posted: NanoUsd::MAX, held: NanoUsd::ZERO };
        assert_eq!(balance.admit(NanoUsd::from_nano(1)), Err(Refusal::Exceeded));
    }
}
