//! What modifies the token prices of a request: its service tier, its speed, the region where it runs.
//!
//! Before the call each has the dearest factor that the request can come to; afterwards the one that the answer
//! reports. What is reported with no known factor, and what is not reported, keeps the dearest: never less. What has no
//! known factor may still cost more, so somebody has to be told: [`without_factor`].

use super::ask::Ask;
use super::multiplier::{Multiplier, Multipliers};
use super::price::Unpriced;
use super::usage::Reading;
use crate::base::{NanoUsd, clip};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

type Known = BTreeMap<String, Multiplier>;

/// Service tiers that cost the list price unless a factor says otherwise.
const LIST_TIERS: [&str; 3] = ["default", "standard", "standard_only"];
/// Speeds that cost the list price.
const LIST_SPEEDS: [&str; 1] = ["standard"];
/// Regions that cost the list price; Anthropic reports the second for models that cannot be bound to a region.
const LIST_REGIONS: [&str; 2] = ["global", "not_available"];

/// The factors of one request. They multiply, and every class of tokens has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factors {
    service_tier: Multiplier,
    speed: Multiplier,
    region: Multiplier,
}

impl Factors {
    /// The list price.
    pub const LIST: Self =
        Self { service_tier: Multiplier::ONE, speed: Multiplier::ONE, region: Multiplier::ONE };

    /// The price in these circumstances, rounded up.
    pub fn of(self, price: NanoUsd) -> NanoUsd {
        self.region.of(self.speed.of(self.service_tier.of(price)))
    }

    /// The dearest factors that the request can come to; none is below the list price, because providers may fall back
    /// to their standard tier. `tiers` are the service tiers that the key may ask for.
    ///
    /// - A service tier that is named: its own factor. `auto`: the dearest known. None: what the account is set to, of
    ///   which we know what the operator says: the dearest among the key's `tiers`, and a factor for `auto` if the model
    ///   has one. (`OpenAI`'s reference for `service_tier`: without it the project's setting decides, which is
    ///   `default` unless configured otherwise; the answer reports the tier that was used.)
    /// - A speed that is named: its own. None: the standard speed; Anthropic's fast mode is asked for by request only.
    /// - A region that is named: its own. None: the dearest known, since a workspace may set any as its default
    ///   (Anthropic's "Data residency").
    ///
    /// # Errors
    /// A named value without a known factor, by the field that names it.
    pub fn reserved(
        multipliers: &Multipliers,
        ask: &Ask,
        tiers: &BTreeSet<String>,
    ) -> Result<Self, Unpriced> {
        let known = &multipliers.service_tier;
        let service_tier = match ask.service_tier.as_deref() {
            None => {
                dearest(tiers.iter().map(String::as_str).chain(["auto"]).filter_map(|tier| known.get(tier)))
            }
            Some("auto") => dearest(known.values()),
            Some(tier) => named(known, &LIST_TIERS, tier, "service_tier")?,
        };
        let speed = match ask.speed.as_deref() {
            None => Multiplier::ONE,
            Some(speed) => named(&multipliers.speed, &LIST_SPEEDS, speed, "speed")?,
        };
        let region = match ask.region.as_deref() {
            None => dearest(multipliers.region.values()),
            Some(region) => named(&multipliers.region, &LIST_REGIONS, region, "inference_geo")?,
        };
        Ok(Self { service_tier, speed, region })
    }

    /// The factors that the answer reports, of a request for which these were reserved. They may be above.
    #[must_use]
    pub fn billed(self, multipliers: &Multipliers, reading: &Reading) -> Self {
        let billed = |reserved: Multiplier, known: &Known, list: &[&str], reported: Option<&str>| {
            reported.and_then(|value| factor(known, list, value)).unwrap_or(reserved)
        };
        let tier = reading.service_tier.as_deref();
        Self {
            service_tier: billed(self.service_tier, &multipliers.service_tier, &LIST_TIERS, tier),
            speed: billed(self.speed, &multipliers.speed, &LIST_SPEEDS, reading.speed.as_deref()),
            region: billed(self.region, &multipliers.region, &LIST_REGIONS, reading.region.as_deref()),
        }
    }
}

/// What the answer reports that changes the price and has no known factor: the field, and what it says. It is charged as
/// what was reserved for it.
pub fn without_factor(multipliers: &Multipliers, reading: &Reading) -> Option<(&'static str, String)> {
    let reported = [
        ("service_tier", &reading.service_tier, &multipliers.service_tier, LIST_TIERS.as_slice()),
        ("speed", &reading.speed, &multipliers.speed, &LIST_SPEEDS),
        ("region", &reading.region, &multipliers.region, &LIST_REGIONS),
    ];
    reported.into_iter().find_map(|(field, value, known, list)| {
        let value = value.as_deref().filter(|value| factor(known, list, value).is_none())?;
        Some((field, clip(value, 64)))
    })
}

fn factor(known: &Known, list: &[&str], value: &str) -> Option<Multiplier> {
    known.get(value).copied().or_else(|| list.contains(&value).then_some(Multiplier::ONE))
}

fn named(known: &Known, list: &[&str], value: &str, field: &str) -> Result<Multiplier, Unpriced> {
    let factor = factor(known, list, value).ok_or_else(|| Unpriced::Feature { what: field.to_owned() })?;
    Ok(factor.max(Multiplier::ONE))
}

fn dearest<'a>(factors: impl Iterator<Item = &'a Multiplier>) -> Multiplier {
    factors.copied().max().unwrap_or(Multiplier::ONE).max(Multiplier::ONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn multipliers() -> Multipliers {
        serde_json::from_value(json!({
            "service_tier": {"flex": "0.5", "priority": "2", "scale": "3"}, "speed": {"fast": "6"},
            "region": {"us": "1.1"},
        }))
        .unwrap()
    }

    fn keys(tiers: &[&str]) -> BTreeSet<String> {
        tiers.iter().map(|tier| (*tier).to_owned()).collect()
    }

    /// What a price of 1,000 becomes.
    fn price(factors: Factors) -> i64 {
        factors.of(NanoUsd::from_nano(1_000)).as_nano()
    }

    fn asking(tier: Option<&str>, speed: Option<&str>, region: Option<&str>) -> Ask {
        let text = |value: Option<&str>| value.map(str::to_owned);
        Ask { service_tier: text(tier), speed: text(speed), region: text(region), ..Ask::default() }
    }

    fn reserved(ask: &Ask, tiers: &[&str]) -> Result<i64, Unpriced> {
        Factors::reserved(&multipliers(), ask, &keys(tiers)).map(price)
    }

    #[test]
    fn what_is_reserved_is_the_dearest_that_the_request_can_come_to() {
        let global = Some("global");
        let tier = |tier, tiers: &[&str]| reserved(&asking(tier, None, global), tiers).unwrap();
        assert_eq!(tier(None, &["auto", "default"]), 1_000, "an ordinary request of an ordinary key");
        assert_eq!(tier(None, &["default", "priority"]), 2_000, "the operator says what the account gives");
        assert_eq!(tier(Some("auto"), &["auto"]), 3_000);
        assert_eq!(tier(Some("default"), &["priority"]), 1_000);
        assert_eq!(tier(Some("priority"), &[]), 2_000);
        assert_eq!(tier(Some("flex"), &[]), 1_000, "the provider may fall back to its standard tier");
        assert_eq!(
            reserved(&asking(None, Some("fast"), Some("us")), &[]).unwrap(),
            6_600,
            "factors multiply"
        );
        assert_eq!(
            reserved(&asking(None, Some("standard"), None), &[]).unwrap(),
            1_100,
            "the workspace's region"
        );
        let auto: Multipliers = serde_json::from_value(json!({"service_tier": {"auto": "1.5"}})).unwrap();
        let told = Factors::reserved(&auto, &Ask::default(), &keys(&[])).map(price);
        assert_eq!(told, Ok(1_500), "a model can say what no tier comes to");
    }

    #[test]
    fn a_named_value_without_a_factor_has_no_price() {
        for (ask, field) in [
            (asking(Some("turbo"), None, None), "service_tier"),
            (asking(Some("Default"), None, None), "service_tier"),
            (asking(None, Some("ludicrous"), None), "speed"),
            (asking(None, None, Some("eu")), "inference_geo"),
        ] {
            assert_eq!(reserved(&ask, &["turbo"]), Err(Unpriced::Feature { what: field.to_owned() }));
        }
    }

    #[test]
    fn what_is_billed_is_what_the_answer_reports_and_never_less_for_what_is_not_known() {
        let ask = asking(Some("priority"), Some("fast"), None);
        let held = Factors::reserved(&multipliers(), &ask, &keys(&[])).unwrap();
        let billed = |tier: Option<&str>, speed: Option<&str>, region: Option<&str>| {
            let text = |value: Option<&str>| value.map(str::to_owned);
            let reading = Reading {
                service_tier: text(tier),
                speed: text(speed),
                region: text(region),
                ..Reading::default()
            };
            price(held.billed(&multipliers(), &reading))
        };
        assert_eq!(billed(Some("default"), Some("standard"), Some("global")), 1_000);
        assert_eq!(billed(Some("flex"), Some("standard"), Some("us")), 550);
        assert_eq!(billed(Some("scale"), Some("fast"), Some("us")), 19_800, "above what was asked for");
        assert_eq!(billed(None, None, None), 13_200);
        assert_eq!(billed(Some("turbo"), Some("?"), Some("mars")), 13_200);
    }

    #[test]
    fn what_is_reported_with_no_factor_is_named() {
        let told = |tier: Option<&str>, speed: Option<&str>, region: Option<&str>| {
            let text = |value: Option<&str>| value.map(str::to_owned);
            let reading = Reading {
                service_tier: text(tier),
                speed: text(speed),
                region: text(region),
                ..Reading::default()
            };
            without_factor(&multipliers(), &reading).map(|(field, value)| format!("{field} {value}"))
        };
        assert_eq!(told(Some("default"), Some("standard"), Some("not_available")), None);
        assert_eq!(told(Some("priority"), Some("fast"), Some("us")), None);
        assert_eq!(told(None, None, None), None);
        assert_eq!(told(Some("turbo"), None, Some("mars")).as_deref(), Some("service_tier turbo"));
        assert_eq!(told(Some("flex"), Some("?"), None).as_deref(), Some("speed ?"));
        assert_eq!(told(None, None, Some("mars")).as_deref(), Some("region mars"));
    }
}
