//! When a budget alerts: which shares of its cap spending has reached.
//!
//! However spending comes about, in one step or in many, each share of one cap is reached in exactly one of the steps.

use super::window::Share;
use crate::base::NanoUsd;

/// The most shares of one budget.
pub const ALERTS_MAX: usize = 10;

const WHOLE: i128 = 1_000_000_000;

/// The shares of `limit` that are reached when what is spent grows from `before` to `after`, in the order given.
pub fn reached(
    shares: &[Share],
    limit: NanoUsd,
    before: NanoUsd,
    after: NanoUsd,
) -> impl Iterator<Item = &Share> {
    shares.iter().filter(move |share| {
        let least = least(share, limit);
        i128::from(before.as_nano()) < least && least <= i128::from(after.as_nano())
    })
}

/// The least amount that reaches the share. Of a cap of nothing, something has to be spent all the same.
fn least(share: &Share, limit: NanoUsd) -> i128 {
    let product = i128::from(limit.as_nano()) * i128::from(share.as_nano());
    (product.div_euclid(WHOLE) + i128::from(product.rem_euclid(WHOLE) != 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn share(text: &str) -> Share {
        serde_json::from_value(serde_json::json!(text)).unwrap()
    }

    fn texts(shares: &[Share], limit: i64, before: i64, after: i64) -> Vec<&str> {
        let nano = NanoUsd::from_nano;
        reached(shares, nano(limit), nano(before), nano(after)).map(Share::as_str).collect()
    }

    #[test]
    fn a_share_is_reached_at_its_amount_and_not_before_or_again() {
        let shares = [share("0.5"), share("0.8"), share("1")];
        for (before, after, expected) in [
            (0, 49, vec![]),
            (0, 50, vec!["0.5"]),
            (49, 50, vec!["0.5"]),
            (50, 79, vec![]),
            (50, 80, vec!["0.8"]),
            (0, 100, vec!["0.5", "0.8", "1"]),
            (99, 101, vec!["1"]),
            (100, 200, vec![]),
            (60, 40, vec![]),
        ] {
            assert_eq!(texts(&shares, 100, before, after), expected, "{before} {after}");
        }
    }

    #[test]
    fn what_falls_between_two_amounts_counts_from_the_upper_one() {
        assert_eq!(texts(&[share("0.5")], 3, 0, 1), Vec::<&str>::new());
        assert_eq!(texts(&[share("0.5")], 3, 1, 2), ["0.5"]);
        assert_eq!(texts(&[share("0.000000001")], 3, 0, 0), Vec::<&str>::new());
        assert_eq!(texts(&[share("1")], 0, 0, 0), Vec::<&str>::new());
        assert_eq!(texts(&[share("1")], 0, 0, 1), ["1"]);
        assert_eq!(texts(&[share("1")], i64::MAX, i64::MAX - 1, i64::MAX), ["1"]);
    }

    proptest! {
        /// Reached is what the fraction says, exactly, and in one of any two steps alone.
        #[test]
        fn each_share_is_reached_in_exactly_one_step(
            limit in 0..=i64::MAX, nano in 1..=1_000_000_000_i64, amounts in prop::array::uniform3(0..=i64::MAX),
        ) {
            let mut amounts = amounts;
            amounts.sort_unstable();
            let [before, between, after] = amounts;
            let share = share(&format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000));
            let is_past = |spent: i64| spent > 0 && i128::from(spent) * WHOLE >= i128::from(limit) * i128::from(nano);
            let count = |from, to| texts(std::slice::from_ref(&share), limit, from, to).len();
            prop_assert_eq!(count(before, after), usize::from(is_past(after) && !is_past(before)));
            prop_assert_eq!(count(before, between) + count(between, after), count(before, after));
        }
    }
}
