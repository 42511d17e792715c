//! Fixed-point numbers for what every node must compute alike: integers inside, so the same bits everywhere.

/// 64 bits before the point, 64 behind.
pub type Fx = fixed::types::I64F64;

/// Most digits before the point that [`parse`] reads.
const INTEGER_DIGITS_MAX: usize = 19;
/// Most digits behind the point that [`parse`] reads: more than the 64 bits there can tell apart.
const FRACTION_DIGITS_MAX: usize = 40;

/// Why text is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("is not a decimal number: use digits with an optional point, such as 0.8")]
    Syntax,
    #[error("has too many digits: use 19 before the point and 40 behind it at most")]
    TooLong,
    #[error("is too large")]
    TooLarge,
}

/// Reads decimal text such as `0.8` or `-12`, rounded to the nearest number there is. No exponent, no spaces.
///
/// # Errors
/// Where it is not such text or the number is out of range.
pub fn parse(text: &str) -> Result<Fx, ParseError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (integer, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(integer) || !all_digits(fraction) {
        return Err(ParseError::Syntax);
    }
    if integer.len() > INTEGER_DIGITS_MAX || fraction.len() > FRACTION_DIGITS_MAX {
        return Err(ParseError::TooLong);
    }
    text.parse().map_err(|_| ParseError::TooLarge)
}

/// The shortest decimal text that [`parse`] reads back as the same number.
#[must_use]
pub fn text(value: Fx) -> String {
    value.to_string()
}

/// `numerator / denominator`, rounded down; held at [`Fx::MAX`] where it is larger. `None` for a zero denominator.
#[must_use]
pub fn ratio(numerator: u64, denominator: u64) -> Option<Fx> {
    let bits = (u128::from(numerator) << 64).checked_div(u128::from(denominator))?;
    Some(Fx::from_bits(i128::try_from(bits).unwrap_or(i128::MAX)))
}

/// The square root, rounded down: an error below 2⁻⁶⁴. Zero for what is below zero.
#[must_use]
pub fn sqrt(x: Fx) -> Fx {
    let Ok(bits) = u128::try_from(x.to_bits()) else { return Fx::ZERO };
    // √(bits·2⁻⁶⁴) = √(bits·2⁶⁴)·2⁻⁶⁴, and bits·2⁶⁴ needs up to 191 bits.
    if bits >> 64 == 0 {
        return Fx::from_bits((bits << 64).isqrt().cast_signed());
    }
    let mut root = bits.isqrt() << 32;
    for shift in (0..32).rev() {
        let candidate = root | (1 << shift);
        if square_at_most(candidate, bits) {
            root = candidate;
        }
    }
    Fx::from_bits(root.cast_signed())
}

/// `root² ≤ bits·2⁶⁴` for `root < 2⁹⁶`, without a number of 192 bits.
fn square_at_most(root: u128, bits: u128) -> bool {
    const LOW: u128 = u64::MAX as u128;
    let (high, low) = (root >> 64, root & LOW);
    let low_square = low * low;
    // root² = (high²·2⁶⁴ + 2·high·low + low²/2⁶⁴)·2⁶⁴ + low² mod 2⁶⁴
    let upper = ((high * high) << 64) + 2 * high * low + (low_square >> 64);
    upper < bits || (upper == bits && low_square & LOW == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimal_text_is_read_strictly() {
        assert_eq!(parse("0.5"), Ok(Fx::from_num(0.5)));
        assert_eq!(parse("-12"), Ok(Fx::from_num(-12)));
        for bad in ["", ".", "1.", ".5", "+1", "1e3", " 1", "0x1", "1_000", "--1", "1.2.3", "NaN"] {
            assert_eq!(parse(bad), Err(ParseError::Syntax), "{bad:?}");
        }
        assert_eq!(parse(&"9".repeat(20)), Err(ParseError::TooLong));
        assert_eq!(parse(&format!("0.{}", "1".repeat(41))), Err(ParseError::TooLong));
        assert_eq!(parse("9223372036854775808"), Err(ParseError::TooLarge));
        assert_eq!(text(parse("0.8").unwrap()), "0.8");
    }

    #[test]
    fn ratios_have_edges() {
        assert_eq!(ratio(1, 4), Some(Fx::from_num(0.25)));
        assert_eq!(ratio(1, 0), None);
        assert_eq!(ratio(u64::MAX, 1), Some(Fx::MAX));
    }

    proptest! {
        #[test]
        fn text_round_trips(bits: i128) {
            let x = Fx::from_bits(bits);
            prop_assert_eq!(parse(&text(x)), Ok(x));
        }

        /// The root is exact to the last bit: r² ≤ x < (r + 2⁻⁶⁴)².
        #[test]
        fn roots_are_exact(bits in 0..i128::MAX) {
            for bits in [bits, bits >> 40, bits >> 64, bits >> 90] {
                let root = sqrt(Fx::from_bits(bits)).to_bits().cast_unsigned();
                prop_assert!(square_at_most(root, bits.cast_unsigned()));
                prop_assert!(!square_at_most(root + 1, bits.cast_unsigned()));
            }
        }
    }

    #[test]
    fn roots_known() {
        assert_eq!(sqrt(Fx::from_num(2)).to_bits(), 0x1_6A09_E667_F3BC_C908);
        assert_eq!(sqrt(Fx::from_num(9)), Fx::from_num(3));
        assert_eq!(sqrt(Fx::ZERO), Fx::ZERO);
        assert_eq!(sqrt(Fx::from_num(-1)), Fx::ZERO);
    }
}
