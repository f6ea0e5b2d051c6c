//! Money: whole nano-USD in `i64`, checked, never floats. Decimal strings outside.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

const NANO: i64 = 1_000_000_000;

/// An amount in nano-USD (10^-9 USD). Up to about 9.2 thousand million USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoUsd(i64);

/// Why a decimal string is not an amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not `digits` or `digits.digits`.
    #[error("an amount is a decimal string in USD, like \"25.00\"")]
    Syntax,
    /// More than nine decimals.
    #[error("an amount has at most nine decimals")]
    TooFine,
    /// Beyond what `i64` nano-USD holds.
    #[error("the amount is too large")]
    TooLarge,
}

impl NanoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(i64::MAX);

    /// From whole nano-USD.
    pub const fn from_nano(nano: i64) -> Self {
        Self(nano)
    }

    /// As whole nano-USD.
    pub const fn as_nano(self) -> i64 {
        self.0
    }

    /// The sum, or `None` on overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` on overflow.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The sum, held at the largest amount.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, held at the smallest amount.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// What `units` cost when a million of them cost `self`: rounded up, held at the largest amount.
    #[must_use]
    pub fn per_million(self, units: u64) -> Self {
        let product = i128::from(self.0) * i128::from(units);
        let rounded = product.div_euclid(1_000_000) + i128::from(product.rem_euclid(1_000_000) != 0);
        Self(i64::try_from(rounded).unwrap_or(i64::MAX))
    }

    /// The amount with the other sign, held at the largest amount.
    #[must_use]
    pub fn negated(self) -> Self {
        Self(self.0.saturating_neg())
    }

    /// Reads an amount with or without a minus: what is printed reads back.
    pub fn parse_signed(text: &str) -> Result<Self, MoneyError> {
        match text.strip_prefix('-') {
            Some(amount) => amount.parse().map(Self::negated),
            None => text.parse(),
        }
    }

    /// `units` times the amount, held at the largest amount.
    #[must_use]
    pub fn times(self, units: u64) -> Self {
        Self(i64::try_from(i128::from(self.0) * i128::from(units)).unwrap_or(i64::MAX))
    }
}

impl FromStr for NanoUsd {
    type Err = MoneyError;

    /// Reads `25`, `25.00` or `0.000000001`; no sign, exponent or spaces.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(MoneyError::Syntax);
        }
        if fraction.len() > 9 {
            return Err(MoneyError::TooFine);
        }
        let nano: i64 = format!("{fraction:0<9}").parse().map_err(|_| MoneyError::Syntax)?;
        let usd: i64 = whole.parse().map_err(|_| MoneyError::TooLarge)?;
        usd.checked_mul(NANO).and_then(|n| n.checked_add(nano)).map(Self).ok_or(MoneyError::TooLarge)
    }
}

impl fmt::Display for NanoUsd {
    /// USD with at least two decimals and no other trailing zeros: `25.00`, `0.000015`, `-0.50`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (abs, nano) = (self.0.unsigned_abs(), NANO.unsigned_abs());
        let fraction = format!("{:09}", abs % nano);
        let kept = fraction.trim_end_matches('0').len().max(2);
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{}", abs / nano, &fraction[..kept])
    }
}

/// Amounts that may be negative, as what corrects another is: for `#[serde(deserialize_with)]`.
pub mod signed {
    use super::NanoUsd;
    use serde::{Deserialize, Deserializer};

    /// Reads `-0.50` as well as `0.50`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NanoUsd, D::Error> {
        let text = String::deserialize(deserializer)?;
        NanoUsd::parse_signed(&text).map_err(serde::de::Error::custom)
    }

    /// The same of what may be absent.
    pub fn deserialize_some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NanoUsd>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| NanoUsd::parse_signed(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

impl Serialize for NanoUsd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NanoUsd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix('-') {
            Some(_) => Err(serde::de::Error::custom("an amount is not negative")),
            None => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_read_and_print() {
        for (text, nano) in [("25", 25 * NANO), ("0.15", 150_000_000), ("0.000000001", 1), ("0.00", 0)] {
            assert_eq!(text.parse(), Ok(NanoUsd::from_nano(nano)), "{text}");
        }
        assert_eq!(NanoUsd::from_nano(25 * NANO).to_string(), "25.00");
        assert_eq!(NanoUsd::from_nano(-500_000_000).to_string(), "-0.50");
        for bad in ["", "-1", "1e3", "1.", ".5", " 1", "1,0", "٣"] {
            assert_eq!(bad.parse::<NanoUsd>(), Err(MoneyError::Syntax), "{bad}");
        }
        assert_eq!("0.0000000001".parse::<NanoUsd>(), Err(MoneyError::TooFine));
        assert_eq!("99999999999".parse::<NanoUsd>(), Err(MoneyError::TooLarge));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(nano in 0..i64::MAX) {
            prop_assert_eq!(NanoUsd(nano).to_string().parse(), Ok(NanoUsd(nano)));
        }

        #[test]
        fn what_is_negative_reads_back_where_it_may_be(nano in -i64::MAX..i64::MAX) {
            let printed = NanoUsd(nano).to_string();
            prop_assert_eq!(NanoUsd::parse_signed(&printed), Ok(NanoUsd(nano)));
            prop_assert_eq!(printed.parse::<NanoUsd>().is_ok(), nano >= 0);
        }

        /// Rounding is up and by less than one nano-USD.
        #[test]
        fn per_million_rounds_up(price in 0..1_000_000_000_000_i64, units in 0..10_000_000_u64) {
            let cost = i128::from(NanoUsd(price).per_million(units).as_nano()) * 1_000_000;
            let exact = i128::from(price) * i128::from(units);
            prop_assert!(cost >= exact && cost - exact < 1_000_000);
        }
    }
}
