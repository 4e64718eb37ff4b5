//! The samples of one series, made into chunks as a merge of blocks writes them.

use bytes::Bytes;
use model::{FloatHistogram, Histogram};

use crate::block::ChunkData;
use crate::chunk::Encoding;
use crate::chunk::histogram::{Appended, Appender, Kind};
use crate::chunk::value::{Timed, Value};
use crate::chunk::xor;

/// Samples at which a merge begins the next chunk.
pub const SAMPLES_PER_CHUNK: u16 = 120;

/// Makes chunks of the samples of one series, in time order: a new one after
/// [`SAMPLES_PER_CHUNK`] samples, at every change of the kind of value, and where a histogram
/// cannot go into the chunk before. The bytes are those of Prometheus' encoder of merged series.
///
/// It can be used again after [`SeriesToChunks::finish`], and keeps the memory of floats.
#[derive(Debug, Default)]
pub struct SeriesToChunks {
    done: Vec<ChunkData>,
    /// The open chunk; the others are empty.
    floats: xor::Appender,
    /// How many floats the open chunk still takes; 0 where there is none. The chunk's own count
    /// was written with its narrow neighbours just before, and reading it would wait for them.
    floats_left: u32,
    histograms: Appender<Histogram>,
    float_histograms: Appender<FloatHistogram>,
    first_ms: i64,
}

impl SeriesToChunks {
    /// An encoder without samples.
    pub fn new() -> SeriesToChunks {
        SeriesToChunks::default()
    }

    /// Appends a float.
    pub fn push_float(&mut self, timestamp_ms: i64, value: f64) {
        if self.floats_left == 0 {
            self.end();
            self.first_ms = timestamp_ms;
            self.floats_left = u32::from(SAMPLES_PER_CHUNK);
        }
        self.floats_left -= 1;
        // A chunk that reached its count was ended above, far below the most that it can hold.
        let _fits = self.floats.append(timestamp_ms, value);
    }

    /// Appends a histogram with integer counts.
    pub fn push_histogram(&mut self, timestamp_ms: i64, histogram: &Histogram) {
        let count = self.histograms.sample_count();
        if count == 0 || count >= SAMPLES_PER_CHUNK {
            self.end();
            self.first_ms = timestamp_ms;
        }
        let open = (&mut self.histograms, &mut self.first_ms);
        self.done.extend(append(open, timestamp_ms, histogram));
    }

    /// Appends a histogram with float counts.
    pub fn push_float_histogram(&mut self, timestamp_ms: i64, histogram: &FloatHistogram) {
        let count = self.float_histograms.sample_count();
        if count == 0 || count >= SAMPLES_PER_CHUNK {
            self.end();
            self.first_ms = timestamp_ms;
        }
        let open = (&mut self.float_histograms, &mut self.first_ms);
        self.done.extend(append(open, timestamp_ms, histogram));
    }

    /// Appends a sample of any kind.
    pub fn push(&mut self, sample: &Timed) {
        match &sample.value {
            Value::Float(value) => self.push_float(sample.timestamp_ms, *value),
            Value::Histogram(it) => self.push_histogram(sample.timestamp_ms, it),
            Value::FloatHistogram(it) => self.push_float_histogram(sample.timestamp_ms, it),
        }
    }

    /// Ends the last chunk and appends all of them to `chunks`.
    pub fn finish(&mut self, chunks: &mut Vec<ChunkData>) {
        self.end();
        chunks.append(&mut self.done);
    }

    /// Ends the open chunk, if there is one.
    fn end(&mut self) {
        if !self.floats.is_empty() {
            self.done.push(ChunkData {
                encoding: Encoding::Xor,
                min_time_ms: self.first_ms,
                max_time_ms: self.floats.last_timestamp_ms(),
                data: Bytes::from(self.floats.to_bytes()),
            });
            self.floats.clear();
            self.floats_left = 0;
        }
        if !self.histograms.is_empty() {
            self.done.extend(std::mem::take(&mut self.histograms).to_chunk(self.first_ms));
        }
        if !self.float_histograms.is_empty() {
            self.done.extend(std::mem::take(&mut self.float_histograms).to_chunk(self.first_ms));
        }
    }
}

/// Appends a histogram to the open chunk; answers that chunk when it ended.
fn append<K: Kind>(
    (open, first_ms): (&mut Appender<K>, &mut i64),
    timestamp_ms: i64,
    histogram: &K,
) -> Option<ChunkData> {
    let Appended::NewChunk(next) = open.append(None, timestamp_ms, histogram) else {
        return None;
    };
    let ended = std::mem::replace(open, *next).to_chunk(*first_ms);
    *first_ms = timestamp_ms;
    ended
}
