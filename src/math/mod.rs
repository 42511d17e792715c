//! The equations that decide, one pure function each; fixed point where every node must agree to the bit.
//!
//! Invariant: no I/O, no state, no `async`.

mod backoff;
mod diversity;
pub mod fixed;
pub mod log;
mod placement;
mod registry;

pub use backoff::restart_backoff;
pub use diversity::{class_share, entropy_score, evenness, shannon_entropy};
pub use placement::{
    TERM_FLOOR, balance, bandwidth_headroom, dominant_share, fit_alignment, placement_score, rendezvous_tiebreak,
    stranded_capacity,
};
pub use registry::{Arithmetic, Equation, equation, registry};
