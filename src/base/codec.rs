//! The one way bytes get on the wire and on disk: a format byte, then bincode 2.
//!
//! Every message type states the most bytes it may take ([`Wire::LIMIT`]); a length field that promises more is refused
//! before anything is allocated, and bytes left over are refused too. Hash the bytes received, never a re-encoding.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Serialize, de::DeserializeOwned};

/// The format byte of everything written today.
pub const FORMAT: u8 = 1;

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("empty message")]
    Empty,
    #[error("format {0} is not known to this version")]
    Format(u8),
    #[error("message is larger than its limit of {0} bytes")]
    TooLarge(usize),
    #[error("{0} bytes are left over after the message")]
    Trailing(usize),
    #[error("malformed message")]
    Decode(#[source] bincode::error::DecodeError),
    #[error("message cannot be encoded")]
    Encode(#[source] bincode::error::EncodeError),
}

/// Encodes `value` as a message of at most `LIMIT` bytes.
///
/// # Errors
/// [`Error::TooLarge`] where it would not be read back under the same limit.
pub fn encode<const LIMIT: usize, T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![FORMAT];
    bincode::serde::encode_into_std_write(value, &mut bytes, config::<LIMIT>()).map_err(Error::Encode)?;
    if bytes.len() > LIMIT { Err(Error::TooLarge(LIMIT)) } else { Ok(bytes) }
}

/// Decodes a message of at most `LIMIT` bytes, all of which must be consumed.
///
/// # Errors
/// Whatever is wrong with the bytes; never a panic, never an allocation beyond the limit.
pub fn decode<const LIMIT: usize, T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let (&format, rest) = bytes.split_first().ok_or(Error::Empty)?;
    if format != FORMAT {
        return Err(Error::Format(format));
    }
    if bytes.len() > LIMIT {
        return Err(Error::TooLarge(LIMIT));
    }
    let (value, read) = bincode::serde::decode_from_slice(rest, config::<LIMIT>()).map_err(Error::Decode)?;
    match rest.len() - read {
        0 => Ok(value),
        left => Err(Error::Trailing(left)),
    }
}

const fn config<const LIMIT: usize>() -> Configuration<LittleEndian, Varint, Limit<LIMIT>> {
    bincode::config::standard().with_limit::<LIMIT>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length of 2^40 in a ten-byte message: without the limit bincode takes 1 TiB and the process aborts.
    #[test]
    fn a_lying_length_is_refused() {
        let bytes = [FORMAT, 0x07, 0xfd, 0, 0, 0, 0, 0, 1, 0, 0];
        assert!(matches!(decode::<1024, (u64, String)>(&bytes), Err(Error::Decode(_))));
    }

    #[test]
    fn every_byte_must_be_consumed() {
        let mut bytes = encode::<64, _>(&(7u64, "x")).unwrap();
        assert_eq!(decode::<64, (u64, String)>(&bytes).unwrap(), (7, "x".into()));
        bytes.push(0);
        assert!(matches!(decode::<64, (u64, String)>(&bytes), Err(Error::Trailing(1))));
        assert!(matches!(decode::<64, u8>(&[9, 0]), Err(Error::Format(9))));
        assert!(matches!(decode::<64, u8>(&[]), Err(Error::Empty)));
    }
}
