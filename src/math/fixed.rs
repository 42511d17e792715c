//! Fixed-point numbers for what every node must compute alike.

/// 64 bits before the point, 64 behind.
pub type Fx = fixed::types::I64F64;
