//! Chunks written again: without some of their samples, and without start timestamps, which only
//! some readers know.

use bytes::Bytes;
use model::{Columns, FloatHistogram, Histogram};

use crate::block::ChunkData;
use crate::chunk::histogram::{Appender, Decoder, Kind, ResetHeader};
use crate::chunk::{DecodeError, Encoding, times, xor, xor2};
use crate::error::Damage;

/// What became of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// The same samples without start timestamps, of encoding 1, 2 or 3; none for no samples.
    pub chunk: Option<ChunkData>,
    /// Number of samples.
    pub sample_count: u64,
    /// How many samples lost a start timestamp.
    pub starts_dropped: u64,
    /// Whether each sample that was read is later than the one before it.
    pub ascends: bool,
}

impl Plain {
    /// Checks that the samples ascend and those that are left lie within the times of the chunk
    /// that was read.
    ///
    /// # Errors
    /// [`Damage`] when they do not.
    pub(crate) fn check_times(&self, min_time_ms: i64, max_time_ms: i64) -> Result<(), Damage> {
        let inside =
            |it: &ChunkData| it.min_time_ms >= min_time_ms && it.max_time_ms <= max_time_ms;
        if self.ascends && self.chunk.as_ref().is_none_or(inside) {
            return Ok(());
        }
        Err(times::outside(min_time_ms, max_time_ms))
    }
}

/// Writes a chunk of encoding 4, 5 or 6 again as 1, 2 or 3; `None` for any other, which is plain
/// already.
///
/// # Errors
/// When it is damaged.
pub fn rewrite_plain(encoding: Encoding, data: &[u8]) -> Result<Option<Plain>, DecodeError> {
    Ok(Some(match encoding {
        Encoding::Xor2 => floats(encoding, data, |_| true)?,
        Encoding::HistogramStart => histograms::<Histogram>(data, true, |_| true)?,
        Encoding::FloatHistogramStart => histograms::<FloatHistogram>(data, true, |_| true)?,
        Encoding::Xor | Encoding::Histogram | Encoding::FloatHistogram | Encoding::Aggregate => {
            return Ok(None);
        }
    }))
}

/// A chunk in an encoding that every reader knows: as it is, or written again like
/// [`rewrite_plain`] does.
///
/// # Errors
/// When it has to be written again and is damaged.
pub fn to_plain(encoding: Encoding, data: Bytes) -> Result<(Encoding, Bytes), DecodeError> {
    let Some(plain) = rewrite_plain(encoding, &data)? else { return Ok((encoding, data)) };
    // No samples are no samples in any encoding.
    let none = (Encoding::Xor, Bytes::from_static(&[0, 0]));
    Ok(plain.chunk.map_or(none, |it| (it.encoding, it.data)))
}

/// Writes a chunk again with the samples at times that `keep` accepts; `None` when it accepts
/// none. The chunk is plain: start timestamps are left out.
///
/// # Errors
/// When it is damaged, or an aggregate chunk.
pub fn retain(
    encoding: Encoding,
    data: &[u8],
    keep: impl FnMut(i64) -> bool,
) -> Result<Option<ChunkData>, DecodeError> {
    Ok(retain_plain(encoding, data, keep)?.chunk)
}

/// As [`retain`], and tells what was read.
pub(crate) fn retain_plain(
    encoding: Encoding,
    data: &[u8],
    keep: impl FnMut(i64) -> bool,
) -> Result<Plain, DecodeError> {
    Ok(match encoding {
        Encoding::Xor | Encoding::Xor2 => floats(encoding, data, keep)?,
        Encoding::Histogram => histograms::<Histogram>(data, false, keep)?,
        Encoding::FloatHistogram => histograms::<FloatHistogram>(data, false, keep)?,
        Encoding::HistogramStart => histograms::<Histogram>(data, true, keep)?,
        Encoding::FloatHistogramStart => histograms::<FloatHistogram>(data, true, keep)?,
        Encoding::Aggregate => return Err(DecodeError::Unsupported(encoding)),
    })
}

fn floats(
    encoding: Encoding,
    data: &[u8],
    mut keep: impl FnMut(i64) -> bool,
) -> Result<Plain, Damage> {
    let mut columns = Columns::default();
    if encoding == Encoding::Xor2 {
        xor2::decode(data, &mut columns)?;
    } else {
        xor::decode(data, &mut columns)?;
    }
    let mut appender = xor::Appender::new();
    let (mut min_time_ms, mut max_time_ms) = (i64::MAX, i64::MIN);
    for (timestamp_ms, value) in columns.timestamps_ms.iter().zip(&columns.values) {
        // Both encodings count their samples in 16 bits.
        if keep(*timestamp_ms) && appender.append(*timestamp_ms, *value) {
            min_time_ms = min_time_ms.min(*timestamp_ms);
            max_time_ms = max_time_ms.max(*timestamp_ms);
        }
    }
    let starts = columns.start_timestamps_ms.iter().filter(|it| **it != 0);
    Ok(Plain {
        chunk: (!appender.is_empty()).then(|| ChunkData {
            encoding: Encoding::Xor,
            min_time_ms,
            max_time_ms,
            data: Bytes::from(appender.to_bytes()),
        }),
        sample_count: u64::from(appender.sample_count()),
        starts_dropped: starts.count() as u64,
        ascends: columns.timestamps_ms.is_sorted_by(|a, b| a < b),
    })
}

fn histograms<K: Kind>(
    data: &[u8],
    has_starts: bool,
    mut keep: impl FnMut(i64) -> bool,
) -> Result<Plain, Damage> {
    let mut decoder = Decoder::<K>::new(data, has_starts)?;
    let mut appender = Appender::<K>::new();
    let (mut min_time_ms, mut max_time_ms, mut starts_dropped) = (i64::MAX, i64::MIN, 0);
    let (mut is_whole, mut ascends, mut last_ms) = (true, true, None);
    while decoder.advance()? {
        let timestamp_ms = decoder.timestamp_ms();
        ascends &= last_ms.is_none_or(|it| it < timestamp_ms);
        last_ms = Some(timestamp_ms);
        if !keep(timestamp_ms) {
            is_whole = false;
            continue;
        }
        starts_dropped += u64::from(decoder.start_ms() != 0);
        appender.copy(&decoder);
        min_time_ms = min_time_ms.min(timestamp_ms);
        max_time_ms = max_time_ms.max(timestamp_ms);
    }
    // What was known of a reset before the chunk need not be true of what is left.
    if !is_whole && appender.reset_header() != ResetHeader::Gauge {
        appender.set_reset_header(ResetHeader::Unknown);
    }
    let chunk = appender.to_chunk(min_time_ms).map(|it| ChunkData { max_time_ms, ..it });
    Ok(Plain { chunk, sample_count: u64::from(appender.sample_count()), starts_dropped, ascends })
}
