//! Equations of where work runs: 27 to 30, 33, 35, 36.

use super::fixed::{Fx, ratio, sqrt};
use super::log::{exp2, log2};

/// The least a factor of eq. 35 counts as: a bad one weighs heavily and yet does not forbid.
pub const TERM_FLOOR: Fx = Fx::from_bits(1 << 58);

/// Eq. 27, dominant share.
///
/// `s = max_r used_r / cap_r`
///
/// `resources`: pairs (used, capacity) in one unit each. s ≥ 0. Source: Ghodsi et al. 2011 (DRF).
/// Edges: no resources, or none used, give 0; use of a resource nobody has gives [`Fx::MAX`].
#[must_use]
pub fn dominant_share(resources: &[(u64, u64)]) -> Fx {
    let share = |&(used, capacity): &(u64, u64)| match used {
        0 => Fx::ZERO,
        _ => ratio(used, capacity).unwrap_or(Fx::MAX),
    };
    resources.iter().map(share).max().unwrap_or(Fx::ZERO)
}

/// Eq. 28, fit alignment: whether a pod wants what the node has to spare.
///
/// `a = q·f / (‖q‖‖f‖)`, `q_r = req_r/cap_r`, `f_r = free_r/cap_r`
///
/// `resources`: pairs `(q_r, f_r)`, each ≥ 0. a in [0, 1], a cosine. Source: Grandl et al. 2014 (Tetris).
/// Edges: a pod that asks for nothing fits anywhere (1); a node with nothing free fits nothing (0).
#[must_use]
pub fn fit_alignment(resources: &[(Fx, Fx)]) -> Fx {
    let most = |of: fn(&(Fx, Fx)) -> Fx| resources.iter().map(of).max().unwrap_or(Fx::ZERO);
    let (most_q, most_f) = (most(|r| r.0), most(|r| r.1));
    if most_q <= Fx::ZERO {
        return Fx::ONE;
    }
    if most_f <= Fx::ZERO {
        return Fx::ZERO;
    }
    // A cosine does not depend on lengths: with the largest part at 1 nothing small is lost to rounding.
    let (mut dot, mut qq, mut ff) = (Fx::ZERO, Fx::ZERO, Fx::ZERO);
    for (q, f) in resources {
        let (q, f) = (*q / most_q, *f / most_f);
        dot += q * f;
        qq += q * q;
        ff += f * f;
    }
    sqrt(dot * dot / (qq * ff)).min(Fx::ONE)
}

/// Eq. 29, stranded capacity: what is free of one resource while another is short.
///
/// `1 / (1 + Σ_r (free_r/cap_r − min_r' free_r'/cap_r'))`, after placement
///
/// `free`: `free_r/cap_r` in [0, 1]. In (0, 1], 1 where nothing is stranded. Source: the catalogue itself.
/// Edges: no resources give 1.
#[must_use]
pub fn stranded_capacity(free: &[Fx]) -> Fx {
    let least = free.iter().copied().min().unwrap_or(Fx::ZERO);
    let stranded = free.iter().fold(Fx::ZERO, |sum, share| sum + (*share - least));
    Fx::ONE / (Fx::ONE + stranded)
}

/// Eq. 30, balance: how alike the shares of a node's resources in use are.
///
/// `1 − (max_r u_r − min_r u_r)`, after placement
///
/// `used`: `u_r` in [0, 1]. In [0, 1]. Source: Kubernetes `NodeResourcesBalancedAllocation`. Edges: no resources give 1.
#[must_use]
pub fn balance(used: &[Fx]) -> Fx {
    let most = used.iter().copied().max().unwrap_or(Fx::ZERO);
    let least = used.iter().copied().min().unwrap_or(Fx::ZERO);
    (Fx::ONE - (most - least)).clamp(Fx::ZERO, Fx::ONE)
}

/// Eq. 33, bandwidth headroom.
///
/// `min(1, (free − req)/cap)`
///
/// `free`, `request`, `capacity`: bits per second. In [0, 1]. Source: the catalogue itself.
/// Edges: a request beyond what is free, or a link without capacity, gives 0.
#[must_use]
pub fn bandwidth_headroom(free: u64, request: u64, capacity: u64) -> Fx {
    ratio(free.saturating_sub(request), capacity).map_or(Fx::ZERO, |share| share.min(Fx::ONE))
}

/// Eq. 35, placement score: the weighted geometric mean of the terms.
///
/// `Π_k f_k^{w_k}`, computed as `2^(Σ w_k·log₂ f_k)`
///
/// `terms`: pairs `(f_k, w_k)`, `f_k` in [0, 1] and held within [`TERM_FLOOR`], 1 (so that one bad term does not veto), Σw = 1.
/// In [2⁻⁶, 1]. Source: weighted geometric mean. Edges: no terms give 1.
#[must_use]
pub fn placement_score(terms: &[(Fx, Fx)]) -> Fx {
    let log = |sum: Fx, (value, weight): &(Fx, Fx)| sum + *weight * log2((*value).clamp(TERM_FLOOR, Fx::ONE));
    exp2(terms.iter().fold(Fx::ZERO, log)).min(Fx::ONE)
}

/// Eq. 36, rendezvous: the draw of a node for a pod. Among equal scores the node with the greatest draw wins.
///
/// `argmax_node BLAKE3(pod ‖ node)`
///
/// `pod`, `node`: their names; the length of the first goes before it, so that no two pairs run together.
/// Source: Thaler & Ravishankar 1996. The same everywhere, spread evenly, and a lost node moves only its own pods.
#[must_use]
pub fn rendezvous_tiebreak(pod: &str, node: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("entroos 2026 rendezvous");
    hasher.update(&(pod.len() as u64).to_be_bytes());
    hasher.update(pod.as_bytes());
    hasher.update(node.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fx(x: f64) -> Fx {
        Fx::from_num(x)
    }

    fn near(a: Fx, b: f64) -> bool {
        (a.to_num::<f64>() - b).abs() < 1e-12
    }

    #[test]
    fn known_values() {
        assert_eq!(dominant_share(&[(1, 4), (1, 2)]), fx(0.5));
        assert_eq!(dominant_share(&[]), Fx::ZERO);
        assert_eq!(dominant_share(&[(0, 0)]), Fx::ZERO);
        assert_eq!(dominant_share(&[(1, 0)]), Fx::MAX);
        assert!(near(fit_alignment(&[(fx(0.5), fx(0.5)), (fx(0.25), fx(0.25))]), 1.0));
        assert!(near(fit_alignment(&[(fx(1.0), fx(1.0)), (fx(0.0), fx(1.0))]), 0.5f64.sqrt()));
        assert_eq!(fit_alignment(&[(Fx::ZERO, Fx::ONE)]), Fx::ONE);
        assert_eq!(fit_alignment(&[(Fx::ONE, Fx::ZERO)]), Fx::ZERO);
        // A single byte of a terabyte still has a direction.
        assert!(near(fit_alignment(&[(Fx::from_bits(1 << 24), Fx::ONE), (Fx::ZERO, Fx::ZERO)]), 1.0));
        assert_eq!(stranded_capacity(&[fx(0.5), fx(0.5)]), Fx::ONE);
        assert_eq!(stranded_capacity(&[fx(1.0), fx(0.0)]), fx(0.5));
        assert_eq!(balance(&[fx(0.75), fx(0.25)]), fx(0.5));
        assert_eq!(bandwidth_headroom(10, 5, 20), fx(0.25));
        assert_eq!(bandwidth_headroom(1, 2, 4), Fx::ZERO);
        assert_eq!(bandwidth_headroom(1, 0, 0), Fx::ZERO);
        assert!(near(placement_score(&[(fx(0.25), fx(0.5)), (Fx::ONE, fx(0.5))]), 0.5));
        assert!(near(placement_score(&[(Fx::ZERO, Fx::ONE)]), 1.0 / 64.0));
        assert_eq!(placement_score(&[]), Fx::ONE);
    }

    #[test]
    fn a_draw_depends_on_both_names() {
        let draw = rendezvous_tiebreak("default/a", "n1");
        assert_eq!(draw, rendezvous_tiebreak("default/a", "n1"));
        assert_ne!(draw, rendezvous_tiebreak("default/a", "n2"));
        assert_ne!(rendezvous_tiebreak("ab", "c"), rendezvous_tiebreak("a", "bc"));
    }

    /// 4,000 pods over 4 nodes: each gets its quarter, and taking one away moves no pod of the others.
    #[test]
    fn draws_spread_evenly_and_stay() {
        let winner = |pod: &str, nodes: &[&'static str]| {
            *nodes.iter().max_by_key(|node| rendezvous_tiebreak(pod, node)).unwrap()
        };
        let mut won = std::collections::BTreeMap::new();
        for i in 0..4_000 {
            let pod = format!("default/p{i}");
            let node = winner(&pod, &["a", "b", "c", "d"]);
            *won.entry(node).or_insert(0) += 1;
            let without = winner(&pod, &["a", "b", "c"]);
            assert!(node == "d" || node == without);
        }
        assert!(won.values().all(|n| (850..1_150).contains(n)), "{won:?}");
    }

    fn share() -> impl Strategy<Value = Fx> {
        (0u64..=1 << 40).prop_map(|n| ratio(n, 1 << 40).unwrap())
    }

    proptest! {
        #[test]
        fn a_larger_use_dominates(used in 0u64..1 << 50, more in 0u64..1 << 50, cap in 1u64..1 << 50, other in 0u64..100) {
            let s = dominant_share(&[(used, cap), (other, 100)]);
            prop_assert!(dominant_share(&[(used + more, cap), (other, 100)]) >= s);
            prop_assert_eq!(dominant_share(&[(other, 100), (used, cap)]), s);
        }

        #[test]
        fn a_cosine_is_bounded_and_blind_to_length(a in share(), b in share(), c in share(), d in share()) {
            let cosine = fit_alignment(&[(a, b), (c, d)]);
            prop_assert!((Fx::ZERO..=Fx::ONE).contains(&cosine));
            prop_assert_eq!(fit_alignment(&[(c, d), (a, b)]), cosine);
            let halved = fit_alignment(&[(a / 2, b), (c / 2, d)]);
            prop_assert!(halved.abs_diff(cosine) < fx(1e-6));
        }

        #[test]
        fn stranding_and_imbalance_lower_the_terms(a in share(), b in share()) {
            let (stranded, level) = (stranded_capacity(&[a, b]), balance(&[a, b]));
            prop_assert!(stranded > Fx::ZERO && stranded <= Fx::ONE);
            prop_assert!((Fx::ZERO..=Fx::ONE).contains(&level));
            prop_assert_eq!(stranded_capacity(&[b, a]), stranded);
            prop_assert_eq!(balance(&[b, a]), level);
            let middle = (a + b) / 2;
            prop_assert!(balance(&[middle, b]) >= level);
            prop_assert!(stranded_capacity(&[middle, b]) >= stranded);
        }

        #[test]
        fn headroom_falls_with_the_request(free in 0u64..1 << 50, a in 0u64..1 << 50, b in 0u64..1 << 50, cap in 1u64..1 << 50) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(bandwidth_headroom(free, low, cap) >= bandwidth_headroom(free, high, cap));
            prop_assert!(bandwidth_headroom(free, low, cap) <= Fx::ONE);
        }

        /// A mean: between the least and the greatest term, rising in each, the term itself where all are equal.
        #[test]
        fn the_score_is_a_mean(a in share(), b in share(), up in share(), weight in 1u32..1_000) {
            let w = ratio(u64::from(weight), 1_000).unwrap();
            let terms = |a: Fx, b: Fx| placement_score(&[(a, w), (b, Fx::ONE - w)]);
            let slack = fx(1e-12);
            let (low, high) = (a.min(b).max(TERM_FLOOR), a.max(b).max(TERM_FLOOR));
            prop_assert!(terms(a, b) + slack >= low && terms(a, b) <= high + slack);
            prop_assert!(terms(a.max(up), b) + slack >= terms(a, b));
            prop_assert!(terms(a, a).abs_diff(a.max(TERM_FLOOR)) < slack);
        }
    }
}
