//! Chunks: runs of samples of one series, encoded.

pub mod aggregate;
mod bits;
pub mod cut;
pub mod histogram;
pub mod rewrite;
pub mod series;
mod starts;
pub(crate) mod times;
pub mod value;
pub mod xor;
pub mod xor2;

use model::{Columns, FloatHistogram, Histogram};

pub use crate::chunk::rewrite::{Plain, retain, rewrite_plain, to_plain};
pub use crate::chunk::series::SeriesToChunks;
pub use crate::chunk::value::{Timed, Value};
use crate::error::Damage;

/// How a chunk's data is encoded; the numbers are those of the byte on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// Floats.
    Xor = 1,
    /// Native histograms with integer counts.
    Histogram = 2,
    /// Native histograms with float counts.
    FloatHistogram = 3,
    /// Floats with start timestamps.
    Xor2 = 4,
    /// Integer histograms with start timestamps.
    HistogramStart = 5,
    /// Float histograms with start timestamps.
    FloatHistogramStart = 6,
    /// Aggregates of a downsampled block, up to five chunks in one.
    Aggregate = 255,
}

/// Why a chunk gives no samples, or not all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The data is damaged; what came before the damage was delivered.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The encoding is known but holds no samples of its own: an aggregate chunk holds chunks, and
    /// [`aggregate::split`] finds them.
    #[error("a chunk of encoding {0:?} has no samples of its own: it must be split first")]
    Unsupported(Encoding),
}

impl Encoding {
    /// The encoding that a byte on disk names.
    pub fn from_byte(byte: u8) -> Option<Encoding> {
        Some(match byte {
            1 => Encoding::Xor,
            2 => Encoding::Histogram,
            3 => Encoding::FloatHistogram,
            4 => Encoding::Xor2,
            5 => Encoding::HistogramStart,
            6 => Encoding::FloatHistogramStart,
            255 => Encoding::Aggregate,
            _ => return None,
        })
    }

    /// The byte on disk.
    pub fn to_byte(self) -> u8 {
        self as u8
    }
}

/// Appends a chunk's samples to `columns`; integer histograms are widened to float counts.
///
/// `data` is the chunk's data alone: without length, encoding byte and checksum.
///
/// # Errors
/// [`DecodeError`]; after damage the columns hold the samples before it, never an invented one.
pub fn decode(encoding: Encoding, data: &[u8], columns: &mut Columns) -> Result<(), DecodeError> {
    Ok(match encoding {
        Encoding::Xor => xor::decode(data, columns),
        Encoding::Xor2 => xor2::decode(data, columns),
        Encoding::Histogram => histogram::decode::<Histogram>(data, false, columns),
        Encoding::FloatHistogram => histogram::decode::<FloatHistogram>(data, false, columns),
        Encoding::HistogramStart => histogram::decode::<Histogram>(data, true, columns),
        Encoding::FloatHistogramStart => histogram::decode::<FloatHistogram>(data, true, columns),
        Encoding::Aggregate => return Err(DecodeError::Unsupported(encoding)),
    }?)
}

/// Appends a chunk's samples to `samples` as they are stored: integer histograms stay integer;
/// start timestamps are left out.
///
/// # Errors
/// As [`decode`].
pub fn decode_values(
    encoding: Encoding,
    data: &[u8],
    samples: &mut Vec<Timed>,
) -> Result<(), DecodeError> {
    Ok(match encoding {
        Encoding::Xor | Encoding::Xor2 => {
            let mut columns = Columns::default();
            let result = decode(encoding, data, &mut columns);
            let floats = columns.timestamps_ms.iter().zip(&columns.values);
            samples.extend(floats.map(|(at, value)| Timed::float(*at, *value)));
            return result;
        }
        Encoding::Histogram => histogram::decode_values::<Histogram>(data, false, samples),
        Encoding::FloatHistogram => {
            histogram::decode_values::<FloatHistogram>(data, false, samples)
        }
        Encoding::HistogramStart => histogram::decode_values::<Histogram>(data, true, samples),
        Encoding::FloatHistogramStart => {
            histogram::decode_values::<FloatHistogram>(data, true, samples)
        }
        Encoding::Aggregate => return Err(DecodeError::Unsupported(encoding)),
    }?)
}

/// The most bytes that a chunk's samples take in columns, by its first bytes; 0 when these are
/// damaged, as nothing is decoded then. Of an aggregate chunk that of all its aggregates.
pub fn decoded_bytes_max(encoding: Encoding, data: &[u8]) -> usize {
    let floats = || {
        let count = sample_count(encoding, data).map_or(0, usize::from);
        // A sample takes a bit or more.
        count.min(8 * data.len()) * 3 * size_of::<i64>()
    };
    let bytes = match encoding {
        Encoding::Xor | Encoding::Xor2 => return floats(),
        Encoding::Histogram => histogram::decoded_bytes_max::<Histogram>(data, false),
        Encoding::FloatHistogram => histogram::decoded_bytes_max::<FloatHistogram>(data, false),
        Encoding::HistogramStart => histogram::decoded_bytes_max::<Histogram>(data, true),
        Encoding::FloatHistogramStart => histogram::decoded_bytes_max::<FloatHistogram>(data, true),
        Encoding::Aggregate => return decoded_aggregates_bytes_max(data),
    };
    bytes.unwrap_or(0)
}

fn decoded_aggregates_bytes_max(data: &[u8]) -> usize {
    let Ok(parts) = aggregate::split(data) else { return 0 };
    let bytes = parts.in_order().into_iter().flatten().map(|part| match part.encoding {
        // Not nested in any chunk that is read.
        Encoding::Aggregate => 0,
        encoding => decoded_bytes_max(encoding, data.get(part.range.clone()).unwrap_or_default()),
    });
    bytes.fold(0, usize::saturating_add)
}

/// Number of samples that a chunk declares, in every encoding but the aggregates'.
///
/// # Errors
/// When the data is shorter than its header.
pub fn sample_count(encoding: Encoding, data: &[u8]) -> Result<u16, Damage> {
    let count = crate::codec::Cursor::new("chunk header", data).u16()?;
    Ok(match encoding {
        // The two upper bits hold the counter reset header there.
        Encoding::HistogramStart | Encoding::FloatHistogramStart => count & 0x3fff,
        _ => count,
    })
}

/// Number of samples that a chunk of any encoding counts with in statistics and balances: an
/// aggregate chunk with the windows of its first aggregate.
///
/// # Errors
/// When the data is shorter than its header, or is no aggregate chunk.
pub fn counted_samples(encoding: Encoding, data: &[u8]) -> Result<u64, Damage> {
    if encoding != Encoding::Aggregate {
        return Ok(u64::from(sample_count(encoding, data)?));
    }
    let parts = aggregate::split(data)?;
    let all = [parts.count, parts.sum, parts.min, parts.max, parts.counter];
    let Some(first) = all.into_iter().flatten().next() else { return Ok(0) };
    let data = data.get(first.range).unwrap_or_default();
    Ok(u64::from(sample_count(first.encoding, data)?))
}
