//! Chunks of native histograms, with integer and with float counts, byte for byte as Prometheus
//! writes them.
//!
//! A big-endian `u16` sample count and a byte of flags, then a stream of bits: the layout that all
//! histograms of the chunk share, and the histograms one by one, each number as the change to the
//! one before it in time. See `docs/format/chunks.md`.

mod append;
mod decode;
mod float;
mod integer;
mod kind;
mod layout;
mod spans;

pub use crate::chunk::histogram::append::{Appended, Appender};
pub(super) use crate::chunk::histogram::decode::Decoder;
pub use crate::chunk::histogram::decode::{decode, decode_values, decoded_bytes_max};
pub use crate::chunk::histogram::kind::Kind;

use crate::error::Damage;

/// Most histograms of one chunk: the count is a `u16`.
pub const SAMPLES_MAX: u16 = u16::MAX;
/// Sample count and flags.
const HEADER_BYTES: usize = 3;

/// What a chunk says about a counter reset before its first histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetHeader {
    /// Nothing is known.
    #[default]
    Unknown,
    /// The counters were not reset.
    NotReset,
    /// The counters were reset.
    Reset,
    /// The histograms are gauges.
    Gauge,
}

impl ResetHeader {
    /// What the upper two bits of a byte say.
    fn from_byte(byte: u8) -> ResetHeader {
        match byte >> 6 {
            0 => ResetHeader::Unknown,
            1 => ResetHeader::NotReset,
            2 => ResetHeader::Reset,
            _ => ResetHeader::Gauge,
        }
    }

    /// A byte whose upper two bits say it.
    fn to_byte(self) -> u8 {
        match self {
            ResetHeader::Unknown => 0,
            ResetHeader::NotReset => 0b0100_0000,
            ResetHeader::Reset => 0b1000_0000,
            ResetHeader::Gauge => 0b1100_0000,
        }
    }
}

/// What a chunk says about a counter reset before its first histogram.
///
/// # Errors
/// When the data is shorter than its header.
pub fn reset_header(data: &[u8], has_starts: bool) -> Result<ResetHeader, Damage> {
    let header = decode::Header::read("histogram chunk", data, has_starts)?;
    Ok(header.reset)
}
