//! Numbers as reports write them: decimal, sometimes with an exponent, never through floats.

use crate::base::NanoUsd;

/// The most digits of a number: what is longer is no count and no amount.
const DIGITS_MAX: usize = 30;

/// An amount in units of 10^`unit` USD, rounded to whole nano-USD.
pub(super) fn amount(text: &str, unit: i32) -> Option<NanoUsd> {
    scaled(text, unit.checked_add(9)?).map(NanoUsd::from_nano)
}

/// A whole number, which some files write like `3.0`.
pub(super) fn count(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    fraction.bytes().all(|byte| byte == b'0').then(|| scaled(whole, 0))?
}

/// The number times 10^`power`, rounded.
fn scaled(text: &str, power: i32) -> Option<i64> {
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mantissa: i128 = digits.parse().ok()?;
    let power = power.checked_add(exponent)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let size = 10_i128.checked_pow(power.unsigned_abs().min(38))?;
    let value = if power >= 0 { mantissa.checked_mul(size)? } else { (mantissa + size / 2) / size };
    i64::try_from(if is_negative { -value } else { value }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_without_floats() {
        for (text, unit, nano) in [
            ("0.06", 0, 60_000_000),
            ("6.2e-05", 0, 62_000),
            ("1E2", 0, 100_000_000_000),
            ("123.78912", -2, 1_237_891_200),
            ("0", 0, 0),
            ("-0.5", 0, -500_000_000),
            ("0.0000000005", 0, 1),
            ("0.00000000049", 0, 0),
            ("0.1234567891234567", 0, 123_456_789),
        ] {
            assert_eq!(amount(text, unit), Some(NanoUsd::from_nano(nano)), "{text}");
        }
        for bad in ["", "x", "1,000", "NaN", "inf", "1e99", "--1", "1.2.3", "99999999999999999999"] {
            assert_eq!(amount(bad, 0), None, "{bad}");
        }
    }

    #[test]
    fn counts_are_whole() {
        assert_eq!((count("3.0"), count("17"), count("")), (Some(3), Some(17), Some(0)));
        assert_eq!((count("3.5"), count("x")), (None, None));
    }
}
