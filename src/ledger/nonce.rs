//! Which nonces of a signer were used.
//!
//! Invariant: no nonce is taken twice, ever. Those more than [`WINDOW`] below the highest are taken for used.

use serde::{Deserialize, Serialize};

use crate::base::codec;

/// How far below a signer's highest nonce another may still come.
pub const WINDOW: u64 = 1024;
const WORDS: usize = 16;
const LIMIT: usize = 512;

/// One signer's nonces: the highest, and a bit for each of the [`WINDOW`] up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonces {
    highest: u64,
    /// Bit `n % WINDOW` tells of nonce `n`, for the `n` in `highest − WINDOW + 1 ..= highest`.
    used: [u64; WORDS],
}

impl Nonces {
    /// The highest that was used; 0 where none was (0 itself is never valid).
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    #[must_use]
    pub fn is_free(&self, nonce: u64) -> bool {
        nonce > self.highest || (nonce != 0 && self.highest - nonce < WINDOW && !self.bit(nonce))
    }

    /// Marks a nonce as used. `false` where it was not free.
    pub fn take(&mut self, nonce: u64) -> bool {
        if !self.is_free(nonce) {
            return false;
        }
        if nonce > self.highest {
            // What falls out of the window makes room for what comes in.
            for entering in 0..(nonce - self.highest).min(WINDOW) {
                self.set(nonce - entering, false);
            }
            self.highest = nonce;
        }
        self.set(nonce, true);
        true
    }

    pub fn encode(&self) -> Result<Vec<u8>, codec::Error> {
        codec::encode::<LIMIT, _>(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        codec::decode::<LIMIT, _>(bytes)
    }

    fn bit(&self, nonce: u64) -> bool {
        let (word, mask) = place(nonce);
        self.used[word] & mask != 0
    }

    fn set(&mut self, nonce: u64, used: bool) {
        let (word, mask) = place(nonce);
        if used {
            self.used[word] |= mask;
        } else {
            self.used[word] &= !mask;
        }
    }
}

fn place(nonce: u64) -> (usize, u64) {
    let bit = nonce % WINDOW;
    // At most 15, so it fits.
    (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_window_has_sharp_borders() {
        let mut nonces = Nonces::default();
        assert!(!nonces.take(0));
        assert!(nonces.take(2000));
        assert!(!nonces.take(2000));
        assert!(nonces.take(2000 - (WINDOW - 1)));
        assert!(!nonces.take(2000 - WINDOW));
        assert!(nonces.take(1999));
        assert!(!nonces.take(1999));
        assert!(nonces.take(u64::MAX));
        assert!(!nonces.take(1998));
        assert!(nonces.take(u64::MAX - 1));
        assert_eq!(Nonces::decode(&nonces.encode().unwrap()).unwrap(), nonces);
    }

    proptest::proptest! {
        /// The window agrees with a set that remembers everything.
        #[test]
        fn no_nonce_is_taken_twice(steps in proptest::collection::vec(0_u64..5000, 1..400)) {
            let (mut nonces, mut all) = (Nonces::default(), BTreeSet::new());
            for nonce in steps {
                let highest = all.last().copied().unwrap_or(0);
                let free = nonce != 0 && !all.contains(&nonce) && nonce + WINDOW > highest;
                assert_eq!(nonces.take(nonce), free, "{nonce} after {highest}");
                if free {
                    all.insert(nonce);
                }
            }
        }
    }
}
