//! Equations of information and diversity: 1, 2, 13, 14.

use super::fixed::Fx;
use super::log::ln;

/// Eq. 1, Shannon's entropy.
///
/// `H = −Σ p_i ln p_i`
///
/// `p_i`: shares in [0, 1] that sum to 1. H in nats, in [0, ln n]. Source: Shannon 1948.
/// Edges: a share of zero adds nothing (p·ln p → 0); no shares give 0. Never below zero.
#[must_use]
pub fn shannon_entropy(shares: &[Fx]) -> Fx {
    let term = |&p: &Fx| if p > Fx::ZERO { p.saturating_mul(ln(p)) } else { Fx::ZERO };
    let sum = shares.iter().map(term).fold(Fx::ZERO, Fx::saturating_add);
    sum.saturating_neg().max(Fx::ZERO)
}

/// Eq. 2, Pielou's evenness.
///
/// `J = H / ln K`
///
/// `shares`: as in [`shannon_entropy`]. `classes` = K: how many classes there could be. J in [0, 1].
/// Source: Pielou 1966. Edges: K ≤ 1 gives 1, for there is no other way to be spread; rounding is held within [0, 1].
#[must_use]
pub fn evenness(shares: &[Fx], classes: u32) -> Fx {
    if classes <= 1 {
        return Fx::ONE;
    }
    (shannon_entropy(shares) / ln(Fx::from_num(classes))).clamp(Fx::ZERO, Fx::ONE)
}

/// Eq. 13, a class's share of stake in one dimension of diversity.
///
/// `p_d(c) = Σ_{j: c_d(j)=c} S_j / Σ_j S_j`
///
/// `of_class`, `of_all`: sums of stake in one unit. Shares are of stake, not of identities: a thousand empty
/// identities make no class. In [0, 1]. Source: the catalogue itself. Edges: no stake at all counts as one class, share 1.
#[must_use]
pub fn class_share(of_class: u64, of_all: u64) -> Fx {
    super::fixed::ratio(of_class, of_all).map_or(Fx::ONE, |share| share.min(Fx::ONE))
}

/// Eq. 14, a node's entropy score: how little ordinary it is.
///
/// `E = e + (1 − e)·(1 − o)`, `o = Σ_d λ_d·p_d(c_d(i))`
///
/// `dimensions`: pairs `(λ_d, p_d)` of a dimension's weight and the share (eq. 13) of the node's class in it, Σλ = 1.
/// `floor` = e in [½, 1): the score of a node that is as all others. E in [e, 1].
/// Source: ordinariness, Leinster & Cobbold 2012. Edges: no dimensions give 1; o is held within [0, 1].
#[must_use]
pub fn entropy_score(floor: Fx, dimensions: &[(Fx, Fx)]) -> Fx {
    let ordinariness = dimensions.iter().fold(Fx::ZERO, |sum, (weight, share)| sum + *weight * *share);
    floor + (Fx::ONE - floor) * (Fx::ONE - ordinariness.clamp(Fx::ZERO, Fx::ONE))
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

    /// Shares of integer weights, as the scheduler makes them.
    fn shares(weights: &[u32]) -> Vec<Fx> {
        let total = weights.iter().map(|&w| u64::from(w)).sum();
        weights.iter().map(|&w| class_share(u64::from(w), total)).collect()
    }

    #[test]
    fn known_values() {
        assert!(near(shannon_entropy(&[fx(0.5), fx(0.5)]), std::f64::consts::LN_2));
        assert!(near(shannon_entropy(&[fx(0.25); 4]), 4f64.ln()));
        assert_eq!(shannon_entropy(&[]), Fx::ZERO);
        assert_eq!(shannon_entropy(&[Fx::ONE, Fx::ZERO]), Fx::ZERO);
        assert!(near(evenness(&[fx(0.25); 4], 4), 1.0));
        assert_eq!(evenness(&[Fx::ONE], 4), Fx::ZERO);
        assert_eq!(evenness(&[Fx::ONE], 1), Fx::ONE);
        assert_eq!(class_share(1, 4), fx(0.25));
        assert_eq!(class_share(0, 0), Fx::ONE);
        assert_eq!(entropy_score(fx(0.5), &[(Fx::ONE, Fx::ONE)]), fx(0.5));
        assert_eq!(entropy_score(fx(0.5), &[(fx(0.5), fx(0.25)), (fx(0.5), fx(0.75))]), fx(0.75));
    }

    proptest! {
        #[test]
        fn entropy_is_bounded_and_symmetric(mut weights in prop::collection::vec(1u32..1_000_000, 1..20)) {
            let h = shannon_entropy(&shares(&weights));
            let most = ln(Fx::from_num(weights.len()));
            prop_assert!(h >= Fx::ZERO && h <= most + fx(1e-12));
            weights.reverse();
            prop_assert_eq!(shannon_entropy(&shares(&weights)), h);
        }

        /// Splitting a class never lowers entropy.
        #[test]
        fn splitting_a_class_adds_entropy(weights in prop::collection::vec(2u32..1_000_000, 1..12), cut in 0f64..1.0) {
            let mut split = weights.clone();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let part = (f64::from(weights[0]) * cut) as u32;
            split[0] -= part;
            split.push(part);
            prop_assert!(shannon_entropy(&shares(&split)) + fx(1e-12) >= shannon_entropy(&shares(&weights)));
        }

        #[test]
        fn evenness_is_a_share(weights in prop::collection::vec(0u32..1_000_000, 1..12), more in 0u32..5) {
            let classes = u32::try_from(weights.len()).unwrap() + more;
            let j = evenness(&shares(&weights), classes);
            prop_assert!((Fx::ZERO..=Fx::ONE).contains(&j));
        }

        /// The score lies in [e, 1] and falls as the node's classes become common.
        #[test]
        fn a_common_node_scores_less(e in 0.5f64..0.99, a in 0f64..1.0, b in 0f64..1.0) {
            let (low, high) = (a.min(b), a.max(b));
            let score = |share| entropy_score(fx(e), &[(fx(0.5), fx(share)), (fx(0.5), fx(0.3))]);
            prop_assert!(score(low) >= score(high));
            prop_assert!(score(high) >= fx(e) && score(low) <= Fx::ONE);
        }
    }
}
