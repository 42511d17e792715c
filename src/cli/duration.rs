//! Durations and ages as people write and read them: `90s`, `5m`, `1h30m`, `3d4h`.

use std::time::Duration;

/// The longest duration that can be asked for: ten years.
const MAX_SECONDS: u64 = 10 * 365 * 24 * 3600;

/// Reads `30`, `500ms`, `90s`, `5m`, `1h30m`, `2d`.
///
/// # Errors
/// A sentence that says what is allowed.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: write for example 30s, 5m or 1h30m");
    if let Ok(seconds) = text.parse::<u64>() {
        return bounded(Duration::from_secs(seconds)).ok_or_else(wrong);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let millis = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)?;
        total = total.checked_add(part).and_then(bounded).ok_or_else(wrong)?;
        rest = &rest[unit_end..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

fn bounded(duration: Duration) -> Option<Duration> {
    (duration.as_secs() <= MAX_SECONDS).then_some(duration)
}

/// An age as kubectl prints it: two units at most, the smaller dropped as it stops to matter.
#[cfg(feature = "full")]
#[must_use]
pub fn human(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |big: u64, unit: char, small: u64, small_unit: char| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=599 => two(minutes, 'm', seconds % 60, 's'),
        600..=10_799 => format!("{minutes}m"),
        10_800..=28_799 => two(hours, 'h', minutes % 60, 'm'),
        28_800..=172_799 => format!("{hours}h"),
        172_800..=691_199 => two(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "s", "5 m", "5y", "-1s", "1.5h", "99999999999999999999s", "99999d"] {
            assert!(parse(wrong).unwrap_err().contains("30s"), "{wrong}");
        }
    }

    #[cfg(feature = "full")]
    #[test]
    fn ages_read_like_kubectls() {
        let ages =
            [(5, "5s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (3600, "60m"), (11_000, "3h3m"), (700_000, "8d")];
        for (seconds, text) in ages {
            assert_eq!(human(seconds), text);
        }
    }
}
