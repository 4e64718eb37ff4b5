//! The samples of one series, made into chunks as a merge of blocks writes them.

use bytes::Bytes;

use crate::block::ChunkData;
use crate::chunk::Encoding;
use crate::chunk::value::{Timed, Value};
use crate::chunk::xor;

/// Samples at which a merge begins the next chunk.
pub const SAMPLES_PER_CHUNK: u16 = 120;

/// Makes chunks of the samples of one series, in time order: a new one after
/// [`SAMPLES_PER_CHUNK`] samples, at every change of the kind of value, and where a histogram
/// cannot go into the chunk before. The bytes are those of Prometheus' encoder of merged series.
///
/// It can be used again after [`SeriesToChunks::finish`], and keeps its memory.
#[derive(Debug, Default)]
pub struct SeriesToChunks {
    done: Vec<ChunkData>,
    floats: xor::Appender,
    first_ms: i64,
}

impl SeriesToChunks {
    /// An encoder without samples.
    pub fn new() -> SeriesToChunks {
        SeriesToChunks::default()
    }

    /// Appends a float.
    pub fn push_float(&mut self, timestamp_ms: i64, value: f64) {
        if self.floats.sample_count() >= SAMPLES_PER_CHUNK {
            self.end_floats();
        }
        if self.floats.is_empty() {
            self.first_ms = timestamp_ms;
        }
        // A chunk that reached its count was ended above, far below the most that it can hold.
        let _fits = self.floats.append(timestamp_ms, value);
    }

    /// Appends a sample of any kind.
    pub fn push(&mut self, sample: &Timed) {
        match &sample.value {
            Value::Float(value) => self.push_float(sample.timestamp_ms, *value),
            Value::Histogram(_) | Value::FloatHistogram(_) => {
                unreachable!("no chunk is decoded into histograms yet")
            }
        }
    }

    /// Ends the last chunk and appends all of them to `chunks`.
    pub fn finish(&mut self, chunks: &mut Vec<ChunkData>) {
        self.end_floats();
        chunks.append(&mut self.done);
    }

    fn end_floats(&mut self) {
        if self.floats.is_empty() {
            return;
        }
        let max_time_ms = self.floats.last_timestamp_ms();
        let data = Bytes::from(std::mem::take(&mut self.floats).to_bytes());
        let min_time_ms = self.first_ms;
        self.done.push(ChunkData { encoding: Encoding::Xor, min_time_ms, max_time_ms, data });
    }
}
