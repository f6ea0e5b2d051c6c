//! Decimal numbers read from their text, exactly. Prices of a token are far finer than a nano-USD, and floats would round
//! them before anybody could say in which direction.

/// A decimal number: an integer of at most 30 digits times a power of ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    digits: u128,
    exponent: i32,
}

/// More digits than this are not read.
const DIGITS_MAX: usize = 30;
/// Exponents beyond this are not read.
const EXPONENT_MAX: i32 = 1_000;

impl Decimal {
    /// Reads `12`, `-0.5`, `1.5e-07`: what JSON takes for a number, leading zeros too. `None` for anything else, and for
    /// more digits than any price has.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, signed(exponent)?),
            None => (text, 0),
        };
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (number, ""),
        };
        let all = format!("{whole}{fraction}");
        if whole.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let kept = all.trim_end_matches('0');
        let cut = i32::try_from(all.len() - kept.len()).ok()?;
        let kept = kept.trim_start_matches('0');
        if kept.is_empty() {
            return Some(Self { negative: false, digits: 0, exponent: 0 });
        }
        let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(cut)?;
        if kept.len() > DIGITS_MAX || exponent.abs() > EXPONENT_MAX {
            return None;
        }
        Some(Self { negative, digits: kept.parse().ok()?, exponent })
    }

    /// Below 0.
    pub fn is_negative(self) -> bool {
        self.negative
    }

    /// Neither above nor below 0.
    pub fn is_zero(self) -> bool {
        self.digits == 0
    }

    /// The number times 10 to the `shift`, rounded up; `None` for what is negative or beyond `i64`.
    pub fn shifted_up(self, shift: i32) -> Option<i64> {
        if self.negative {
            return None;
        }
        let exponent = self.exponent.checked_add(shift)?;
        let places = exponent.unsigned_abs();
        let scaled = if exponent >= 0 {
            self.digits.checked_mul(10_u128.checked_pow(places)?)?
        } else {
            // A divisor beyond u128 is beyond the digits, too.
            10_u128.checked_pow(places).map_or(u128::from(self.digits > 0), |unit| self.digits.div_ceil(unit))
        };
        i64::try_from(scaled).ok()
    }

    /// The number, where it is a whole one that is not negative.
    pub fn as_whole(self) -> Option<u64> {
        let places = u32::try_from(self.exponent).ok().filter(|_| !self.negative)?;
        u64::try_from(self.digits.checked_mul(10_u128.checked_pow(places)?)?).ok()
    }

    /// How often `other` goes into the number, in billionths, rounded up. `None` where that is no number above 0 and
    /// below 2^63.
    pub fn billionths_of(self, other: Self) -> Option<i64> {
        if self.negative || other.negative || other.digits == 0 {
            return None;
        }
        let shift = self.exponent.checked_sub(other.exponent)?.checked_add(9)?;
        let unit = 10_u128.checked_pow(shift.unsigned_abs())?;
        let ratio = if shift >= 0 {
            self.digits.checked_mul(unit)?.div_ceil(other.digits)
        } else {
            self.digits.div_ceil(other.digits.checked_mul(unit)?)
        };
        i64::try_from(ratio).ok().filter(|ratio| *ratio > 0)
    }
}

fn signed(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nano_per_million(text: &str) -> Option<i64> {
        Decimal::parse(text)?.shifted_up(15)
    }

    #[test]
    fn prices_of_a_token_read_exactly_and_round_up() {
        for (text, nano) in [
            ("1.5e-07", 150_000_000),
            ("0.00000015", 150_000_000),
            ("1.5E-7", 150_000_000),
            ("2e-06", 2_000_000_000),
            ("0", 0),
            ("0.0", 0),
            ("0e5", 0),
            ("1e-15", 1),
            ("1e-16", 1),
            ("1e-300", 1),
            ("1.0000000000000001e-15", 2),
            ("0.1e+1", 1_000_000_000_000_000),
        ] {
            assert_eq!(nano_per_million(text), Some(nano), "{text}");
        }
        for bad in [
            "", "-", "+1", "1.", ".5", "1e", "1e+", "e5", "NaN", "1 ", "0x1", "1_0", "1e99999", "-1", "1e9",
            "٣",
        ] {
            assert_eq!(nano_per_million(bad), None, "{bad}");
        }
        assert_eq!(nano_per_million(&"1".repeat(31)), None);
    }

    #[test]
    fn whole_numbers_and_ratios_are_told() {
        for (text, whole) in
            [("128000", Some(128_000)), ("32000.0", Some(32_000)), ("1.28e5", Some(128_000)), ("0.5", None)]
        {
            assert_eq!(Decimal::parse(text).unwrap().as_whole(), whole, "{text}");
        }
        assert_eq!(Decimal::parse("-2").unwrap().as_whole(), None);
        let ratio = |one, other| Decimal::parse(one).unwrap().billionths_of(Decimal::parse(other).unwrap());
        assert_eq!(ratio("3.6e-06", "2e-06"), Some(1_800_000_000));
        assert_eq!(ratio("1e-06", "3e-06"), Some(333_333_334));
        assert_eq!(ratio("1", "0"), None);
        assert_eq!(ratio("0", "1"), None);
    }

    proptest! {
        /// Rounding never goes below, and by less than one.
        #[test]
        fn rounding_is_up_and_by_less_than_one(digits in 0..1_000_000_000_000_u64, places in 0..40_u32, shift in 0..20_i32) {
            let text = format!("{digits}e-{places}");
            let up = Decimal::parse(&text).unwrap().shifted_up(shift);
            // up * 10^places >= digits * 10^shift > (up - 1) * 10^places
            let wide = |power: u32| num(10).checked_pow(power);
            if let (Some(up), Some(low), Some(high)) = (up, wide(places), wide(u32::try_from(shift).unwrap()))
                && let (Some(left), Some(right)) = (num(up.unsigned_abs()).checked_mul(low), num(digits).checked_mul(high))
            {
                prop_assert!(left >= right);
                prop_assert!(left - right < low);
            }
        }

        /// No text is read in two ways or panics.
        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.eE]{0,40}") {
            if let Some(decimal) = Decimal::parse(&text) {
                prop_assert!(text.parse::<f64>().is_ok());
                prop_assert_eq!(decimal.is_negative() && !decimal.is_zero(), text.starts_with('-') && !decimal.is_zero());
            }
        }
    }

    fn num(value: u64) -> u128 {
        u128::from(value)
    }
}
