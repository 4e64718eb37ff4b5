//! `SeriesResponse` on the wire, by hand: it carries all samples, so its chunks are slices of the
//! message that was received, and its labels become label sets without a detour over strings.

use bytes::{BufMut, Bytes};
use model::Labels;

use crate::request::Aggregate;
use crate::store::{AggrChunk, Chunk, ChunkEncoding, SeriesFrame, StoreSeries};
use crate::wire::{Fields, Value, WireError, put_varint, varint_len};

/// One message of a Series stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeriesResponse {
    /// Series or a warning.
    Frame(SeriesFrame),
    /// One series in the old form, `series` instead of `batch`.
    Series(StoreSeries),
    /// Something that carries no series: hints, or a kind of message that is newer than we are.
    Other,
}

// Field numbers of `SeriesResponse`, `SeriesBatch`, `Series`, `Label`, `AggrChunk` and `Chunk`.
const RESPONSE_SERIES: u32 = 1;
const RESPONSE_WARNING: u32 = 2;
const RESPONSE_BATCH: u32 = 4;
const BATCH_SERIES: u32 = 1;
const SERIES_LABELS: u32 = 1;
const SERIES_CHUNKS: u32 = 2;
const LABEL_NAME: u32 = 1;
const LABEL_VALUE: u32 = 2;
const AGGR_MIN_TIME: u32 = 1;
const AGGR_MAX_TIME: u32 = 2;
const AGGR_RAW: u32 = 3;
const AGGR_COUNT: u32 = 4;
const AGGR_SUM: u32 = 5;
const AGGR_MIN: u32 = 6;
const AGGR_MAX: u32 = 7;
const AGGR_COUNTER: u32 = 8;
const CHUNK_TYPE: u32 = 1;
const CHUNK_DATA: u32 = 2;

impl SeriesResponse {
    /// Reads one message. Chunk data are slices of `message` and keep all of it in memory.
    ///
    /// # Errors
    /// [`WireError`] for bytes that are no such message, and for labels that no series can have.
    pub fn decode(message: &Bytes) -> Result<SeriesResponse, WireError> {
        let mut decoder = Decoder { message, pairs: Vec::with_capacity(32) };
        let mut series = Vec::new();
        let mut response = SeriesResponse::Other;
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.field()? {
            match number {
                RESPONSE_SERIES => series.push(decoder.series(value.bytes(number)?)?),
                RESPONSE_BATCH => decoder.batch(value.bytes(number)?, &mut series)?,
                RESPONSE_WARNING => {
                    let text = value.text(number)?.to_owned();
                    response = SeriesResponse::Frame(SeriesFrame::Warning(text));
                }
                _ => {}
            }
        }
        if series.is_empty() {
            return Ok(response);
        }
        Ok(SeriesResponse::Frame(SeriesFrame::Batch(series)))
    }

    /// Appends the message to `out`, for which `reserve` is told the length first.
    pub fn encode<B: BufMut>(&self, out: &mut B, reserve: impl FnOnce(&mut B, usize)) {
        match self {
            SeriesResponse::Other => {}
            SeriesResponse::Series(series) => {
                let length = series_len(series);
                reserve(out, field_len(length));
                put_key_len(out, RESPONSE_SERIES, length);
                put_series(out, series);
            }
            SeriesResponse::Frame(SeriesFrame::Warning(text)) => {
                reserve(out, field_len(text.len()));
                put_field(out, RESPONSE_WARNING, text.as_bytes());
            }
            SeriesResponse::Frame(SeriesFrame::Batch(batch)) => {
                let lengths: Vec<usize> = batch.iter().map(series_len).collect();
                let length = lengths.iter().map(|it| field_len(*it)).sum();
                reserve(out, field_len(length));
                put_key_len(out, RESPONSE_BATCH, length);
                for (series, length) in batch.iter().zip(lengths) {
                    put_key_len(out, BATCH_SERIES, length);
                    put_series(out, series);
                }
            }
        }
    }
}

struct Decoder<'a> {
    message: &'a Bytes,
    /// The labels of the series that is being read; kept for its memory.
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Decoder<'a> {
    fn batch(&mut self, bytes: &'a [u8], series: &mut Vec<StoreSeries>) -> Result<(), WireError> {
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.field()? {
            if number == BATCH_SERIES {
                series.push(self.series(value.bytes(number)?)?);
            }
        }
        Ok(())
    }

    fn series(&mut self, bytes: &'a [u8]) -> Result<StoreSeries, WireError> {
        self.pairs.clear();
        let mut chunks = Vec::new();
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.field()? {
            match number {
                SERIES_LABELS => self.pairs.push(label(value.bytes(number)?)?),
                SERIES_CHUNKS => chunks.push(self.aggr_chunk(value.bytes(number)?)?),
                _ => {}
            }
        }
        Ok(StoreSeries { labels: self.labels()?, chunks })
    }

    fn labels(&self) -> Result<Labels, WireError> {
        let sorted = self.pairs.windows(2).all(|two| two[0].0 < two[1].0);
        if sorted && self.pairs.first().is_none_or(|(name, _)| !name.is_empty()) {
            return Ok(Labels::from_sorted(self.pairs.iter().copied()));
        }
        if self.pairs.iter().any(|(name, _)| name.is_empty()) {
            return Err(WireError::Labels("a label without a name"));
        }
        // Whether they are out of order or repeated is only told by sorting them.
        Labels::from_pairs(self.pairs.iter().copied())
            .map_err(|_| WireError::Labels("the same label twice"))
    }

    fn aggr_chunk(&self, bytes: &'a [u8]) -> Result<AggrChunk, WireError> {
        let mut chunk = AggrChunk::default();
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.field()? {
            match number {
                AGGR_MIN_TIME => chunk.min_time_ms = value.int64(number)?,
                AGGR_MAX_TIME => chunk.max_time_ms = value.int64(number)?,
                AGGR_RAW => chunk.raw = self.chunk(number, value)?,
                AGGR_COUNT..=AGGR_COUNTER => {
                    let part = self.chunk(number, value)?;
                    let aggregates = chunk.aggregates.get_or_insert_default();
                    match number {
                        AGGR_COUNT => aggregates.count = part,
                        AGGR_SUM => aggregates.sum = part,
                        AGGR_MIN => aggregates.min = part,
                        AGGR_MAX => aggregates.max = part,
                        _ => aggregates.counter = part,
                    }
                }
                _ => {}
            }
        }
        Ok(chunk)
    }

    fn chunk(&self, number: u32, value: Value<'a>) -> Result<Option<Chunk>, WireError> {
        let mut chunk = Chunk { encoding: ChunkEncoding::Xor, data: Bytes::new() };
        let mut fields = Fields::new(value.bytes(number)?);
        while let Some((number, value)) = fields.field()? {
            match number {
                CHUNK_TYPE => chunk.encoding = encoding(value.varint(number)?)?,
                CHUNK_DATA => chunk.data = self.message.slice_ref(value.bytes(number)?),
                _ => {}
            }
        }
        Ok(Some(chunk))
    }
}

fn label(bytes: &[u8]) -> Result<(&str, &str), WireError> {
    let (mut name, mut text) = ("", "");
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.field()? {
        match number {
            LABEL_NAME => name = value.text(number)?,
            LABEL_VALUE => text = value.text(number)?,
            _ => {}
        }
    }
    Ok((name, text))
}

fn encoding(number: u64) -> Result<ChunkEncoding, WireError> {
    match number {
        0 => Ok(ChunkEncoding::Xor),
        1 => Ok(ChunkEncoding::Histogram),
        2 => Ok(ChunkEncoding::FloatHistogram),
        _ => Err(WireError::Encoding(number)),
    }
}

fn encoding_number(encoding: ChunkEncoding) -> u64 {
    match encoding {
        ChunkEncoding::Xor => 0,
        ChunkEncoding::Histogram => 1,
        ChunkEncoding::FloatHistogram => 2,
    }
}

/// The parts of a chunk with their field numbers.
fn parts(chunk: &AggrChunk) -> impl Iterator<Item = (u32, &Chunk)> {
    chunk.parts().map(|(kind, part)| {
        let number = match kind {
            Aggregate::Raw => AGGR_RAW,
            Aggregate::Count => AGGR_COUNT,
            Aggregate::Sum => AGGR_SUM,
            Aggregate::Min => AGGR_MIN,
            Aggregate::Max => AGGR_MAX,
            Aggregate::Counter => AGGR_COUNTER,
        };
        (number, part)
    })
}

/// A length as the wire writes it.
fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Bytes of a field of bytes: its key (all numbers here are below 16), its length, its content.
fn field_len(length: usize) -> usize {
    1 + varint_len(wide(length)) + length
}

fn int64_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value.cast_unsigned()) }
}

fn text_len(text: &str) -> usize {
    if text.is_empty() { 0 } else { field_len(text.len()) }
}

fn label_len(name: &str, value: &str) -> usize {
    text_len(name) + text_len(value)
}

fn series_len(series: &StoreSeries) -> usize {
    let labels = series.labels.iter().map(|(name, value)| field_len(label_len(name, value)));
    let chunks = series.chunks.iter().map(|chunk| field_len(aggr_chunk_len(chunk)));
    labels.sum::<usize>() + chunks.sum::<usize>()
}

fn aggr_chunk_len(chunk: &AggrChunk) -> usize {
    let times = int64_len(chunk.min_time_ms) + int64_len(chunk.max_time_ms);
    times + parts(chunk).map(|(_, it)| field_len(chunk_len(it))).sum::<usize>()
}

fn chunk_len(chunk: &Chunk) -> usize {
    let encoding = if chunk.encoding == ChunkEncoding::Xor { 0 } else { 2 };
    encoding + if chunk.data.is_empty() { 0 } else { field_len(chunk.data.len()) }
}

fn put_key_len(out: &mut impl BufMut, number: u32, length: usize) {
    put_varint(out, u64::from(number << 3 | 2));
    put_varint(out, wide(length));
}

fn put_field(out: &mut impl BufMut, number: u32, content: &[u8]) {
    put_key_len(out, number, content.len());
    out.put_slice(content);
}

fn put_int64(out: &mut impl BufMut, number: u32, value: i64) {
    if value != 0 {
        put_varint(out, u64::from(number << 3));
        put_varint(out, value.cast_unsigned());
    }
}

fn put_series(out: &mut impl BufMut, series: &StoreSeries) {
    for (name, value) in &series.labels {
        put_key_len(out, SERIES_LABELS, label_len(name, value));
        put_field(out, LABEL_NAME, name.as_bytes());
        put_field(out, LABEL_VALUE, value.as_bytes());
    }
    for chunk in &series.chunks {
        put_key_len(out, SERIES_CHUNKS, aggr_chunk_len(chunk));
        put_int64(out, AGGR_MIN_TIME, chunk.min_time_ms);
        put_int64(out, AGGR_MAX_TIME, chunk.max_time_ms);
        for (number, part) in parts(chunk) {
            put_key_len(out, number, chunk_len(part));
            if part.encoding != ChunkEncoding::Xor {
                put_varint(out, u64::from(CHUNK_TYPE << 3));
                put_varint(out, encoding_number(part.encoding));
            }
            if !part.data.is_empty() {
                put_field(out, CHUNK_DATA, &part.data);
            }
        }
    }
}

#[cfg(test)]
mod tests;
