//! Equation 42: how long to wait before a container that keeps failing is started again.

/// Eq. 42, exponential back-off with decorrelated jitter, in milliseconds.
///
/// `ceiling = min(cap, b·2ⁿ)`, `wait = b + u·(min(ceiling, max(b, 3·previous)) − b)`
///
/// `base_ms` = b and `cap_ms` = cap: the least and the most wait. `attempt` = n: failures so far, from 0.
/// `previous_ms`: the wait before this one, 0 where there was none. `unit_random` = u in [0, 1).
/// In [min(b, cap), cap]. Many containers that failed together drift apart, and none waits beyond its ceiling.
/// Source: Brooker 2015. Local: it may be random and never enters replicated state.
/// Edges: u out of range or not a number counts as the nearer end (not a number: 0); a base above the cap waits the cap.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within [0, cap]
pub fn restart_backoff(base_ms: u64, cap_ms: u64, attempt: u32, previous_ms: u64, unit_random: f64) -> u64 {
    let base = base_ms.min(cap_ms);
    let factor = 1u64.checked_shl(attempt).unwrap_or(u64::MAX);
    let ceiling = base_ms.saturating_mul(factor).min(cap_ms);
    let upper = previous_ms.saturating_mul(3).clamp(base, ceiling.max(base));
    let unit = if unit_random.is_nan() { 0.0 } else { unit_random.clamp(0.0, 1.0) };
    let span = upper - base;
    base + ((span as f64 * unit) as u64).min(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        assert_eq!(restart_backoff(100, 10_000, 0, 0, 0.9), 100);
        assert_eq!(restart_backoff(100, 10_000, 5, 100, 1.0), 300);
        assert_eq!(restart_backoff(100, 10_000, 2, 9_000, 1.0), 400);
        assert_eq!(restart_backoff(100, 10_000, 64, u64::MAX, 1.0), 10_000);
        assert_eq!(restart_backoff(100, 10_000, 9, 5_000, f64::NAN), 100);
        assert_eq!(restart_backoff(500, 100, 3, 0, 0.5), 100);
    }

    proptest! {
        #[test]
        fn it_stays_between_base_and_ceiling(base in 1u64..1 << 40, cap in 1u64..1 << 40, n: u32, previous: u64, u in 0f64..1.0) {
            let wait = restart_backoff(base, cap, n, previous, u);
            prop_assert!(wait >= base.min(cap) && wait <= cap);
            prop_assert!(wait <= restart_backoff(base, cap, n, previous, 1.0));
            prop_assert!(wait <= restart_backoff(base, cap, n.saturating_add(1), previous.saturating_add(9), u));
        }
    }
}
