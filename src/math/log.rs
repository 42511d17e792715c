//! Logarithm and exponential in fixed point, by table and polynomial.
//!
//! The tables are computed at compile time from their definition, in 128-bit arithmetic.

use super::fixed::Fx;

/// ln 2 · 2¹²⁸, rounded down.
const LN2_128: u128 = 0xB172_17F7_D1CF_79AB_C9E3_B398_03F2_F6AF;
/// ln 2 · 2⁶⁴, rounded down.
const LN2_64: u128 = LN2_128 >> 64;
/// log₂ e · 2⁶⁴, rounded down.
const LOG2_E_64: i128 = 0x1_7154_7652_B82F_E177;
const ONE_64: i128 = 1 << 64;
/// The tables cut [1, 2) into this many parts.
const PARTS: usize = 128;
const PARTS_BITS: u32 = 7;

/// For each part of [1, 2): 1/middle · 2⁶⁴, and −log₂ of just that number, · 2⁶⁴.
static LOGS: [(u64, u64); PARTS] = logs();
/// 2^(i/128) · 2⁶³.
static POWERS: [u64; PARTS] = powers();

/// The logarithm to base 2 of `x` > 0, with an error below 2⁻⁶⁰, and none for powers of two. [`Fx::MIN`] for what is not above zero.
#[must_use]
pub fn log2(x: Fx) -> Fx {
    let Some(bits) = u128::try_from(x.to_bits()).ok().filter(|&bits| bits > 0) else { return Fx::MIN };
    let zeros = bits.leading_zeros();
    // x = m·2^exponent with m = mantissa·2⁻⁶³ in [1, 2)
    let exponent = 63 - i128::from(zeros);
    let mantissa = (bits << zeros) >> 64;
    if mantissa == 1 << 63 {
        return Fx::from_bits(exponent * ONE_64);
    }
    let (inverse, log) = LOGS[(mantissa >> (63 - PARTS_BITS)) as usize % PARTS];
    // m/middle = 1 + ε with |ε| ≤ 2⁻⁸; the product is (1 + ε)·2¹²⁷.
    let epsilon = (mantissa * u128::from(inverse)).wrapping_sub(1 << 127).cast_signed() >> 63;
    Fx::from_bits(exponent * ONE_64 + i128::from(log) + ((ln_1p(epsilon) * LOG2_E_64) >> 64))
}

/// ln(1 + ε) for ε·2⁶⁴ with |ε| ≤ 2⁻⁷: ε − ε²/2 + ε³/3 − …, whose ninth term is below 2⁻⁶⁶.
fn ln_1p(epsilon: i128) -> i128 {
    const COEFFICIENTS: [i128; 8] =
        [ONE_64 / 8, ONE_64 / 7, ONE_64 / 6, ONE_64 / 5, ONE_64 / 4, ONE_64 / 3, ONE_64 / 2, ONE_64];
    let sum = COEFFICIENTS.iter().fold(0, |sum, coefficient| coefficient - ((epsilon * sum) >> 64));
    (epsilon * sum) >> 64
}

/// The natural logarithm of `x` > 0, with an error below 2⁻⁵⁸. [`Fx::MIN`] for what is not above zero.
#[must_use]
pub fn ln(x: Fx) -> Fx {
    const LN2: Fx = Fx::from_bits(LN2_64.cast_signed());
    if x <= Fx::ZERO { Fx::MIN } else { log2(x).saturating_mul(LN2) }
}

/// 2^x, with an error below 2⁻⁶⁰ of the result or 2⁻⁶⁴, whichever is more; held at [`Fx::MAX`] from x = 63.
#[must_use]
pub fn exp2(x: Fx) -> Fx {
    let whole = x.to_bits() >> 64;
    if whole >= 63 {
        return Fx::MAX;
    }
    if whole < -64 {
        return Fx::ZERO;
    }
    let fraction = x.to_bits().cast_unsigned() & u128::from(u64::MAX);
    let part = (fraction >> (64 - PARTS_BITS)) as usize % PARTS;
    let rest = fraction & ((1 << (64 - PARTS_BITS)) - 1);
    let power = u128::from(POWERS[part]) * exp_small((rest * LN2_64) >> 64);
    // power = 2^fraction · 2¹²⁷
    let shift = u32::try_from(63 - whole).unwrap_or(u32::MAX);
    Fx::from_bits(power.checked_shr(shift).unwrap_or(0).cast_signed())
}

/// e^y for y·2⁶⁴ with 0 ≤ y < 2⁻⁷: Σ yᵏ/k!, whose ninth term is below 2⁻⁷⁸.
fn exp_small(y: u128) -> u128 {
    const ONE: u128 = 1 << 64;
    const COEFFICIENTS: [u128; 9] =
        [ONE / 40_320, ONE / 5_040, ONE / 720, ONE / 120, ONE / 24, ONE / 6, ONE / 2, ONE, ONE];
    COEFFICIENTS.iter().fold(0, |sum, coefficient| coefficient + ((y * sum) >> 64))
}

/// x^w for x ≥ 0, as 2^(w·log₂ x): an error below 2⁻⁵⁹·(1 + |w|) of the result or 2⁻⁶⁴, whichever is more.
/// 0^w is 0 for w > 0, else 1; what is below zero counts as zero.
#[must_use]
pub fn pow(x: Fx, w: Fx) -> Fx {
    if x > Fx::ZERO {
        exp2(log2(x).saturating_mul(w))
    } else if w > Fx::ZERO {
        Fx::ZERO
    } else {
        Fx::ONE
    }
}

#[allow(clippy::cast_possible_truncation)] // inverse < 1, so it has 64 bits
const fn logs() -> [(u64, u64); PARTS] {
    let mut table = [(0, 0); PARTS];
    let mut i = 0;
    while i < PARTS {
        // The middle is (257 + 2i)/256.
        let inverse = ((1u128 << 72) / (257 + 2 * i as u128)) as u64;
        // −log₂(inverse/2⁶⁴) = 1 − log₂(inverse/2⁶³)
        table[i] = (inverse, log2_bits((inverse as u128) << 64).wrapping_neg());
        i += 1;
    }
    table
}

/// log₂ m · 2⁶⁴ for m·2¹²⁷ with m in [1, 2): each squaring gives one bit.
const fn log2_bits(mut m: u128) -> u64 {
    let mut bits = 0;
    let mut i = 0;
    while i < 64 {
        // m²·2¹²⁶
        m = high_product(m, m);
        bits <<= 1;
        if m >> 127 == 1 {
            bits |= 1;
        } else {
            m <<= 1;
        }
        i += 1;
    }
    bits
}

#[allow(clippy::cast_possible_truncation)] // the upper half of 128 bits
const fn powers() -> [u64; PARTS] {
    let mut table = [0; PARTS];
    let mut i = 0;
    while i < PARTS {
        table[i] = (exp_bits((LN2_128 >> PARTS_BITS) * i as u128) >> 64) as u64;
        i += 1;
    }
    table
}

/// e^y · 2¹²⁷ for y·2¹²⁸ with 0 ≤ y < ln 2, by 40 terms of its series.
const fn exp_bits(y: u128) -> u128 {
    let one = 1 << 127;
    let mut sum = one;
    let mut k = 40;
    while k > 0 {
        sum = one + high_product(y, sum) / k;
        k -= 1;
    }
    sum
}

/// ⌊a·b / 2¹²⁸⌋
const fn high_product(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (middle, other) = (a1 * b0, a0 * b1);
    let carry = ((a0 * b0) >> 64) + (middle & LOW) + (other & LOW);
    a1 * b1 + (middle >> 64) + (other >> 64) + (carry >> 64)
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss)] // f64 is the rough second opinion here
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2^-bits as a number.
    fn tiny(bits: u32) -> Fx {
        Fx::from_bits(1 << (64 - bits))
    }

    /// log₂ by squaring alone, in 128 bits: slow, and right to the last bit or two.
    fn reference_log2(x: Fx) -> Fx {
        let bits = x.to_bits().cast_unsigned();
        let zeros = bits.leading_zeros();
        Fx::from_bits((63 - i128::from(zeros)) * ONE_64 + i128::from(log2_bits(bits << zeros)))
    }

    /// 2^x by the series alone, in 128 bits.
    fn reference_exp2(x: Fx) -> Fx {
        let fraction = x.to_bits().cast_unsigned() << 64;
        let power = exp_bits(high_product(fraction, LN2_128));
        let shift = 63 - (x.to_bits() >> 64);
        Fx::from_bits((power >> shift).cast_signed())
    }

    #[test]
    fn constants_are_what_they_say() {
        // ln 2 = Σ 1/(k·2ᵏ)
        let series: u128 = (1..=127u32).map(|k| (1u128 << (127 - k)) / u128::from(k) * 2).sum();
        assert!(LN2_128.abs_diff(series) < 1 << 10);
        // log₂ e · ln 2 = 1
        let product = high_product(LOG2_E_64.cast_unsigned() << 63, LN2_64 << 64);
        assert!((product >> 63).abs_diff(1 << 64) <= 2);
        assert_eq!(ln(Fx::from_num(10)).to_string()[..19], "2.30258509299404568401"[..19]);
        assert_eq!(exp2(Fx::from_num(0.5)).to_string()[..19], "1.41421356237309504880"[..19]);
    }

    #[test]
    fn powers_of_two_are_exact() {
        for n in -64i32..63 {
            let x = if n < 0 { tiny(n.unsigned_abs()) } else { Fx::from_num(1i64 << n) };
            assert!(log2(x) == Fx::from_num(n), "log2 2^{n}");
            assert!(exp2(Fx::from_num(n)) == x, "2^{n}");
        }
    }

    #[test]
    fn edges_are_held() {
        assert_eq!(log2(Fx::ZERO), Fx::MIN);
        assert_eq!(ln(Fx::from_num(-1)), Fx::MIN);
        assert_eq!(exp2(Fx::from_num(63)), Fx::MAX);
        assert_eq!(exp2(Fx::MAX), Fx::MAX);
        assert_eq!(exp2(Fx::MIN), Fx::ZERO);
        assert_eq!(pow(Fx::ZERO, Fx::ONE), Fx::ZERO);
        assert_eq!(pow(Fx::ZERO, Fx::ZERO), Fx::ONE);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn log2_is_within_its_bound(bits in 1..i128::MAX, shift in 0u32..126) {
            let x = Fx::from_bits((bits >> shift).max(1));
            prop_assert!(log2(x).abs_diff(reference_log2(x)) <= tiny(60));
            let rough = log2(x).to_num::<f64>() - x.to_num::<f64>().log2();
            prop_assert!(rough.abs() < 1e-13);
        }

        #[test]
        fn exp2_is_within_its_bound(bits in (-64i128 << 64)..(63i128 << 64)) {
            let x = Fx::from_bits(bits);
            let (got, want) = (exp2(x), reference_exp2(x));
            prop_assert!(got.abs_diff(want) <= (want >> 60) + Fx::from_bits(1));
            let rough = got.to_num::<f64>() / x.to_num::<f64>().exp2() - 1.0;
            prop_assert!(rough.abs() < 1e-13 || got.to_bits() < 1 << 44);
        }

        #[test]
        fn logarithm_and_exponential_undo_each_other(bits in (-30i128 << 64)..(30i128 << 64)) {
            let x = Fx::from_bits(bits);
            prop_assert!(log2(exp2(x)).abs_diff(x) <= tiny(32));
        }

        #[test]
        fn a_logarithm_turns_products_into_sums(a in 1u32.., b in 1u32..) {
            let (a, b) = (Fx::from_num(a) >> 8, Fx::from_num(b) >> 8);
            prop_assert!(ln(a * b).abs_diff(ln(a) + ln(b)) <= tiny(55));
        }

        #[test]
        fn both_rise(bits in 1..i128::MAX - 1, shift in 0u32..120) {
            let bits = (bits >> shift).max(1);
            let (x, more) = (Fx::from_bits(bits), Fx::from_bits(bits.saturating_add((bits >> 50).max(1))));
            prop_assert!(log2(x) <= log2(more) + tiny(60));
            let (y, higher) = (Fx::from_bits(bits >> 58), Fx::from_bits((bits >> 58) + (1 << 10)));
            prop_assert!(exp2(y) <= exp2(higher));
        }
    }
}
