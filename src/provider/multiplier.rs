//! What a request's circumstances make of its token prices: a faster tier, a faster model, a region, a batch.
//!
//! Providers state these as factors of the list price. A request can be in several circumstances at once; the factors then multiply.

use crate::base::NanoUsd;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// A factor of a price: a decimal above 0 and up to 1,000, with at most nine decimals, written as a string like `"0.5"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Multiplier(u64);

impl Multiplier {
    const UNIT: u64 = 1_000_000_000;
    const MAX: u64 = 1_000 * Self::UNIT;

    /// Leaves the price as it is.
    pub const ONE: Self = Self(Self::UNIT);

    /// So many billionths; `None` for what is no factor.
    pub fn from_billionths(billionths: i64) -> Option<Self> {
        u64::try_from(billionths).ok().filter(|number| (1..=Self::MAX).contains(number)).map(Self)
    }

    /// The price times the factor, rounded up; the largest amount where that is more.
    pub fn of(self, price: NanoUsd) -> NanoUsd {
        let product = i128::from(price.as_nano()) * i128::from(self.0);
        let unit = i128::from(Self::UNIT);
        let rounded_up = product.div_euclid(unit) + i128::from(product.rem_euclid(unit) > 0);
        i64::try_from(rounded_up).map_or(NanoUsd::MAX, NanoUsd::from_nano)
    }
}

impl Serialize for Multiplier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (whole, rest) = (self.0 / Self::UNIT, self.0 % Self::UNIT);
        let text = format!("{whole}.{rest:09}");
        serializer.serialize_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl<'de> Deserialize<'de> for Multiplier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.parse::<NanoUsd>().ok().and_then(|number| u64::try_from(number.as_nano()).ok());
        number.filter(|number| (1..=Self::MAX).contains(number)).map(Self).ok_or_else(|| {
            serde::de::Error::custom("a multiplier is a decimal above 0 and up to 1000, like \"0.5\"")
        })
    }
}

/// The factors of a model, each by the value that a request asks for or an answer reports. What is absent is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Multipliers {
    /// By service tier: `flex`, `priority`, ...
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub service_tier: BTreeMap<String, Multiplier>,
    /// By speed: `fast`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub speed: BTreeMap<String, Multiplier>,
    /// By where the model is to run: `us`, ...
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub region: BTreeMap<String, Multiplier>,
    /// Of requests in a batch. Kept for when batches are served: they are refused today, so nothing is priced by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Multiplier>,
}

impl Multipliers {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multiplier(text: &str) -> Multiplier {
        serde_json::from_value(text.into()).unwrap()
    }

    #[test]
    fn a_factor_reads_prints_back_and_rounds_prices_up() {
        for (text, price, product) in [("0.5", 3, 2), ("1.1", 10, 11), ("2", i64::MAX, i64::MAX), ("1", 7, 7)]
        {
            let one = multiplier(text);
            assert_eq!(one.of(NanoUsd::from_nano(price)), NanoUsd::from_nano(product), "{text}");
            assert_eq!(serde_json::to_value(one).unwrap(), text);
        }
        assert_eq!(multiplier("1"), Multiplier::ONE);
    }

    #[test]
    fn what_is_no_factor_is_refused() {
        for bad in ["0", "-1", "1000.1", "1e3", "", "NaN", "0.0000000001"] {
            assert!(serde_json::from_value::<Multiplier>(bad.into()).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Multiplier>("2").is_err(), "a number for a decimal string");
    }
}
