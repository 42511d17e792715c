//! The catalogue of the equations that are in use.

/// Who computes it, and how alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Every node, to the same bit: fixed point.
    Consensus,
    /// One node for itself: `f64`.
    Local,
}

impl Arithmetic {
    /// `C` or `L`, as the catalogue prints it.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Consensus => 'C',
            Self::Local => 'L',
        }
    }
}

/// One equation as the catalogue tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Equation {
    pub number: u8,
    /// Its function in [`crate::math`].
    pub name: &'static str,
    pub formula: &'static str,
    pub source: &'static str,
    /// What it decides.
    pub used: &'static str,
    pub arithmetic: Arithmetic,
}

/// Every equation in use, by number.
#[must_use]
pub const fn registry() -> &'static [Equation] {
    EQUATIONS
}

/// The equation of this number, where it is in use.
#[must_use]
pub fn equation(number: u8) -> Option<&'static Equation> {
    EQUATIONS.iter().find(|equation| equation.number == number)
}

const fn of_consensus(
    number: u8,
    name: &'static str,
    formula: &'static str,
    source: &'static str,
    used: &'static str,
) -> Equation {
    Equation { number, name, formula, source, used, arithmetic: Arithmetic::Consensus }
}

const EQUATIONS: &[Equation] = &[
    of_consensus(
        1,
        "shannon_entropy",
        "H = −Σ p_i ln p_i",
        "Shannon 1948",
        "diversity of the network in `pod explain`",
    ),
    of_consensus(2, "evenness", "J = H / ln K", "Pielou 1966", "diversity of the network in `pod explain`"),
    of_consensus(13, "class_share", "p_d(c) = Σ_{j: c_d(j)=c} S_j / Σ_j S_j", "EntroOS", "input of 14"),
    of_consensus(
        14,
        "entropy_score",
        "E = e + (1−e)(1−o), o = Σ_d λ_d·p_d(c_d)",
        "ordinariness, Leinster & Cobbold 2012",
        "placement; `constraints.entropy_score`",
    ),
    of_consensus(
        27,
        "dominant_share",
        "s = max_r used_r/cap_r",
        "Ghodsi et al. 2011 (DRF)",
        "which namespace's pod is placed next",
    ),
    of_consensus(
        28,
        "fit_alignment",
        "a = q·f/(‖q‖‖f‖), q_r = req_r/cap_r, f_r = free_r/cap_r",
        "Grandl et al. 2014 (Tetris)",
        "placement: packing",
    ),
    of_consensus(
        29,
        "stranded_capacity",
        "1/(1 + Σ_r (free_r/cap_r − min_r' free_r'/cap_r'))",
        "EntroOS",
        "placement: packing",
    ),
    of_consensus(
        30,
        "balance",
        "1 − (max_r u_r − min_r u_r)",
        "Kubernetes NodeResourcesBalancedAllocation",
        "placement: packing",
    ),
    of_consensus(
        33,
        "bandwidth_headroom",
        "min(1, (free−req)/cap)",
        "EntroOS",
        "placement: `connectivity_requirements`",
    ),
    of_consensus(
        35,
        "placement_score",
        "Π_k f_k^{w_k}, Σ w_k = 1",
        "weighted geometric mean",
        "the scheduler's choice",
    ),
    of_consensus(
        36,
        "rendezvous_tiebreak",
        "argmax BLAKE3(pod‖node)",
        "Thaler & Ravishankar 1996",
        "placement: equal scores",
    ),
    Equation {
        number: 42,
        name: "restart_backoff",
        formula: "min(cap, b·2ⁿ) with decorrelated jitter",
        source: "Brooker 2015",
        used: "wait before a failed container starts again",
        arithmetic: Arithmetic::Local,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    /// Lines of code outside `src/math`, without comments.
    fn callers() -> String {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        sources(&src, &mut files);
        let texts = files.iter().filter(|file| !file.starts_with(src.join("math"))).map(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    /// No equation is decoration: each is called by code that decides.
    #[test]
    fn every_equation_has_a_caller() {
        let code = callers();
        let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/node/agent");
        for equation in registry() {
            // 42 is the node agent's.
            if equation.number == 42 && !agent.exists() {
                continue;
            }
            assert!(code.contains(&format!("{}(", equation.name)), "eq. {} has no caller", equation.name);
        }
        assert!(!code.contains("no_such_equation("));
    }

    #[test]
    fn numbers_rise_and_names_are_functions_here() {
        let math = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/math");
        let mut files = Vec::new();
        sources(&math, &mut files);
        let code: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        assert!(registry().is_sorted_by_key(|equation| equation.number));
        for equation in registry() {
            assert!(code.contains(&format!("pub fn {}(", equation.name)), "{}", equation.name);
        }
        assert_eq!(equation(35).unwrap().name, "placement_score");
        assert_eq!(equation(0), None);
    }
}
