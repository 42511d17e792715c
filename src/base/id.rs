//! Identifiers: who a node is, which object is meant.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A node's identity: its ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 32]);

impl NodeId {
    /// The first eight hexadecimal digits, for people and for paths.
    #[must_use]
    pub fn short(&self) -> String {
        hex(&self.0[..4])
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

/// Names one object for all time, also after another of the same name takes its place. Printed as a UUID (RFC 9562,
/// version 8: the bits are a hash, see [`Uid::derive`]).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Uid(pub [u8; 16]);

impl Uid {
    /// The uid of the `index`th thing made by the transaction with this hash: the same on every node.
    #[must_use]
    pub fn derive(transaction: &[u8; 32], index: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("entroos 2026 object uid");
        hasher.update(transaction);
        hasher.update(&index.to_be_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// Reads the printed form; `None` where it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|&c| c != '-').collect();
        if text.len() != 36 || digits.len() != 32 || !digits.is_ascii() {
            return None;
        }
        let mut bytes = [0; 16];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
        }
        // One printed form only: no sign that a number may have, no dash elsewhere.
        let uid = Self(bytes);
        (uid.to_string() == text.to_ascii_lowercase()).then_some(uid)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let h = hex(&self.0);
        write!(f, "{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_survives_printing() {
        let uid = Uid::derive(&[7; 32], 3);
        assert_eq!(Uid::parse(&uid.to_string()), Some(uid));
        assert_ne!(uid, Uid::derive(&[7; 32], 4));
        assert_eq!(Uid::parse("not-a-uid"), None);
        assert_eq!(Uid::parse("ééééééééé-éééé"), None);
        let text = uid.to_string();
        assert_eq!(Uid::parse(&text.to_uppercase()), Some(uid));
        assert_eq!(Uid::parse(&format!("+{}", &text[1..])), None);
        assert_eq!(Uid::parse(&format!("{}-{}", &text[..7], text[7..].replacen('-', "", 1))), None);
    }
}
