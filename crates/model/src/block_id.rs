//! The name of a block: a ULID, 48 bits of milliseconds and 80 bits of randomness.

use std::fmt;
use std::str::FromStr;

/// A block's ULID, printed as 26 characters of Crockford's base 32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(ulid::Ulid);

/// The text is not a ULID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a ULID (26 characters of Crockford's base 32)")]
pub struct BlockIdError {
    text: String,
}

impl BlockId {
    /// Length of the printed form in bytes.
    pub const TEXT_BYTES: usize = 26;

    /// A block id from its parts; the caller brings time and randomness.
    pub fn from_parts(timestamp_ms: u64, random: u128) -> BlockId {
        BlockId(ulid::Ulid::from_parts(timestamp_ms, random))
    }

    /// When the block was made, in milliseconds since the Unix epoch, as its maker's clock said.
    pub fn timestamp_ms(&self) -> u64 {
        self.0.timestamp_ms()
    }
}

impl FromStr for BlockId {
    type Err = BlockIdError;

    fn from_str(text: &str) -> Result<BlockId, BlockIdError> {
        // Only the canonical form is a block's name: a directory in lower case is not a block.
        let id = ulid::Ulid::from_string(text).ok().map(BlockId);
        id.filter(|id| id.to_string() == text)
            .ok_or_else(|| BlockIdError { text: text.chars().take(64).collect() })
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_text_is_a_name() {
        let text = "01K4N9V0000000000000000000";
        assert_eq!(text.parse::<BlockId>().unwrap().to_string(), text);
        assert!("01k4n9v0000000000000000000".parse::<BlockId>().is_err());
        assert!("debug".parse::<BlockId>().is_err());
    }
}
