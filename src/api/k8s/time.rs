//! Kubernetes' times: RFC 3339 in UTC, whole seconds; and how long ago, in kubectl's words.

use jiff::Timestamp;

use crate::base::UnixMillis;

/// `2026-01-02T03:04:05Z`. Times past the year 9999 print as its end.
pub(super) fn rfc3339(time: UnixMillis) -> String {
    let seconds = i64::try_from(time.0 / 1000).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Reads RFC 3339, with or without a fraction, in any zone; `None` where it is not a time since 1970.
pub(super) fn parse_rfc3339(text: &str) -> Option<UnixMillis> {
    let millis = text.parse::<Timestamp>().ok()?.as_millisecond();
    u64::try_from(millis).ok().map(UnixMillis)
}

/// How long ago, as kubectl writes ages: `3s`, `4m12s`, `5h`, `2d3h`, `400d`, `3y20d`.
pub(super) fn age(then: UnixMillis, now: UnixMillis) -> String {
    let seconds = now.0.saturating_sub(then.0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => two(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 2920 => two(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_printing() {
        let time = UnixMillis(1_767_323_045_000);
        assert_eq!(rfc3339(time), "2026-01-02T03:04:05Z");
        assert_eq!(parse_rfc3339("2026-01-02T03:04:05Z"), Some(time));
        assert_eq!(parse_rfc3339("2026-01-02T04:04:05.000000+01:00"), Some(time));
        assert_eq!(parse_rfc3339("1960-01-02T03:04:05Z"), None);
        assert_eq!(parse_rfc3339("yesterday"), None);
        assert_eq!(rfc3339(UnixMillis(u64::MAX)).len(), 20);
    }

    #[test]
    fn ages_read_as_in_kubectl() {
        let say = |seconds: u64| age(UnixMillis(1000), UnixMillis(1000 + seconds * 1000));
        for (seconds, words) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
        ] {
            assert_eq!(say(seconds), words);
        }
        assert_eq!(age(UnixMillis(5000), UnixMillis(0)), "0s", "a clock that runs behind");
    }
}
