//! The words everyone shares: ids, units, keys and signatures, the canonical codec, the lifetime of tasks.
//!
//! Invariant: nothing here knows a subsystem.

pub mod codec;
pub mod id;
pub mod key;
#[cfg(feature = "full")]
pub mod scope;
#[cfg(feature = "full")]
pub mod seal;
pub mod unit;

pub use id::{NodeId, Uid};
pub use unit::{Bytes, Height, Millicores, UnixMillis};
