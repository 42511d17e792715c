//! The equations that decide, one pure function each; fixed point where every node must agree to the bit.
//!
//! Invariant: no I/O, no state, no `async`.

pub mod fixed;
