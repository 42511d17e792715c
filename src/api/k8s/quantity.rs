//! Kubernetes' quantities and the specification's decimals: exact, from text to integers and back.

use crate::base::{Bytes, Millicores};
use crate::math::fixed::Fx;

const NANO: u128 = 1_000_000_000;
/// More digits than this are a mistake, or an attack on the multiplication below.
const DIGITS_MAX: usize = 24;

/// A quantity in billionths, rounded up as Kubernetes does. `None` where it is malformed, negative or too large.
fn parse_nano(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || whole.len() + fraction.len() > DIGITS_MAX || whole.len() + fraction.len() == 0 {
        return None;
    }
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (numerator, denominator) = factor(suffix)?;
    Some(mantissa.checked_mul(numerator)?.div_ceil(scale.checked_mul(denominator)?))
}

/// What a suffix multiplies by, in billionths, as a fraction.
fn factor(suffix: &str) -> Option<(u128, u128)> {
    let binary = |power: u32| Some((NANO << (10 * power), 1));
    match suffix {
        "n" => Some((1, 1)),
        "u" => Some((1_000, 1)),
        "m" => Some((1_000_000, 1)),
        "" => Some((NANO, 1)),
        "k" => Some((NANO * 1_000, 1)),
        "M" => Some((NANO * 1_000_000, 1)),
        "G" => Some((NANO * NANO, 1)),
        "T" => Some((NANO * NANO * 1_000, 1)),
        "P" => Some((NANO * NANO * 1_000_000, 1)),
        "E" => Some((NANO * NANO * NANO, 1)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10u128.checked_pow(exponent.unsigned_abs())?;
            if exponent >= 0 { Some((NANO.checked_mul(power)?, 1)) } else { Some((NANO, power)) }
        }
    }
}

/// Processor time: `500m`, `0.5`, `2`. Rounded up to a thousandth.
pub(super) fn parse_cpu(text: &str) -> Option<Millicores> {
    u64::try_from(parse_nano(text)?.div_ceil(1_000_000)).ok().map(Millicores)
}

/// Memory: `256Mi`, `268435456`, `1.5Gi`. Rounded up to a byte.
pub(super) fn parse_memory(text: &str) -> Option<Bytes> {
    u64::try_from(parse_nano(text)?.div_ceil(NANO)).ok().map(Bytes)
}

/// As Kubernetes writes it: whole cores where it is whole, else thousandths.
pub(super) fn print_cpu(cpu: Millicores) -> String {
    if cpu.0.is_multiple_of(1000) { (cpu.0 / 1000).to_string() } else { format!("{}m", cpu.0) }
}

/// As Kubernetes writes it: the largest power of 1,024 that divides it.
pub(super) fn print_memory(memory: Bytes) -> String {
    const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let (mut value, mut unit) = (memory.0, 0);
    while value != 0 && value.is_multiple_of(1024) && unit < 6 {
        value /= 1024;
        unit += 1;
    }
    format!("{value}{}", UNITS[unit])
}

/// A bandwidth such as `10Mbps`, in bits per second; units `bps`, `kbps`, `Mbps`, `Gbps`.
pub(super) fn parse_bandwidth(text: &str) -> Option<u64> {
    let number = text.trim().strip_suffix("bps")?;
    let suffix = number.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim_start();
    let digits = number[..number.len() - suffix.len()].trim_end();
    if !matches!(suffix, "" | "k" | "M" | "G") {
        return None;
    }
    let nano = parse_nano(&format!("{digits}{suffix}"))?;
    u64::try_from(nano.div_ceil(NANO)).ok()
}

/// The largest unit that divides it.
pub(super) fn print_bandwidth(bits: u64) -> String {
    match bits {
        0 => "0bps".into(),
        b if b.is_multiple_of(1_000_000_000) => format!("{}Gbps", b / 1_000_000_000),
        b if b.is_multiple_of(1_000_000) => format!("{}Mbps", b / 1_000_000),
        b if b.is_multiple_of(1_000) => format!("{}kbps", b / 1_000),
        b => format!("{b}bps"),
    }
}

/// A decimal such as `0.8` into fixed point, from its digits and never through a float.
pub(super) fn parse_decimal(text: &str) -> Option<Fx> {
    if let Some((mantissa, exponent)) = text.split_once(['e', 'E']) {
        // The shortest text of a tiny number has an exponent: 1e-7.
        let exponent: i32 = exponent.parse().ok()?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits_only = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        if !(-40..=20).contains(&exponent) || !digits_only || whole.is_empty() || mantissa.len() > 40 {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        let point = i32::try_from(whole.len()).ok()? + exponent;
        let plain = if point <= 0 {
            format!("0.{}{digits}", "0".repeat(usize::try_from(-point).ok()?))
        } else {
            let point = usize::try_from(point).ok()?;
            let padded = format!("{digits}{}", "0".repeat(point.saturating_sub(digits.len())));
            format!("{}.{}", &padded[..point], &padded[point..])
        };
        return parse_decimal(plain.trim_end_matches('.'));
    }
    let shape = text.len() <= 64 && !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    if shape && text.matches('.').count() <= 1 && text.starts_with(|c: char| c.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_quantities_are_equal() {
        for text in ["0.5", "500m", "500000u", "5e-1", "+.5"] {
            assert_eq!(parse_cpu(text), Some(Millicores(500)), "{text}");
        }
        for text in ["256Mi", "268435456", "0.25Gi", "262144Ki", "268435456000m", "268435.456k"] {
            assert_eq!(parse_memory(text), Some(Bytes(268_435_456)), "{text}");
        }
        assert_eq!(parse_cpu("1n"), Some(Millicores(1)), "rounded up, as in Kubernetes");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", ".", "-1", "1.2.3", "5x", "m", "1e999", "1e", "99999999999999999999E", "0x10", "1 Mi", "é"] {
            assert_eq!(parse_cpu(text), None, "{text}");
            assert_eq!(parse_memory(text), None, "{text}");
        }
    }

    #[test]
    fn bandwidths() {
        assert_eq!(parse_bandwidth("10Mbps"), Some(10_000_000));
        assert_eq!(parse_bandwidth("1.5 Gbps"), Some(1_500_000_000));
        assert_eq!(parse_bandwidth("9600bps"), Some(9600));
        for text in ["10", "10MBps", "10Mibps", "Mbps", "-1Mbps", "10Mbit", "1e3bps"] {
            assert_eq!(parse_bandwidth(text), None, "{text}");
        }
    }

    #[test]
    fn decimals_are_read_exactly() {
        assert_eq!(parse_decimal("0.8"), Some("0.8".parse().unwrap()));
        assert_eq!(parse_decimal("1e-7"), Some("0.0000001".parse().unwrap()));
        assert_eq!(parse_decimal("1.25e1"), Some(Fx::from_num(12.5)));
        assert_eq!(parse_decimal("1e0"), Some(Fx::ONE));
        for text in ["", "-0.1", ".5", "1.2.3", "NaN", "inf", "1e99", "0.8x", "e5", "1e5é"] {
            assert_eq!(parse_decimal(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_survives(n in any::<u64>()) {
            prop_assert_eq!(parse_cpu(&print_cpu(Millicores(n))), Some(Millicores(n)));
            prop_assert_eq!(parse_memory(&print_memory(Bytes(n))), Some(Bytes(n)));
            prop_assert_eq!(parse_bandwidth(&print_bandwidth(n)), Some(n));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (parse_cpu(&text), parse_memory(&text), parse_bandwidth(&text), parse_decimal(&text));
        }
    }
}
