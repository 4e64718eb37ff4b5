//! Chunks written again: without some of their samples, and without start timestamps, which only
//! some readers know.

use bytes::Bytes;
use model::{Columns, FloatHistogram, Histogram};

use crate::block::ChunkData;
use crate::chunk::histogram::{Appender, Decoder, Kind, ResetHeader};
use crate::chunk::{DecodeError, Encoding, xor, xor2};
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
    let plain = match encoding {
        Encoding::Xor | Encoding::Xor2 => floats(encoding, data, keep)?,
        Encoding::Histogram => histograms::<Histogram>(data, false, keep)?,
        Encoding::FloatHistogram => histograms::<FloatHistogram>(data, false, keep)?,
        Encoding::HistogramStart => histograms::<Histogram>(data, true, keep)?,
        Encoding::FloatHistogramStart => histograms::<FloatHistogram>(data, true, keep)?,
        Encoding::Aggregate => return Err(DecodeError::Unsupported(encoding)),
    };
    Ok(plain.chunk)
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
    let mut is_whole = true;
    while decoder.advance()? {
        let timestamp_ms = decoder.timestamp_ms();
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
    Ok(Plain { chunk, sample_count: u64::from(appender.sample_count()), starts_dropped })
}
