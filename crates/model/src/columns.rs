//! Samples of one series, decoded into columns.

use crate::histogram::FloatHistogram;

/// Decoded samples of one series in time order: floats and histograms apart, each a pair of
/// columns of equal length.
///
/// A series may hold both kinds; readers that need them interleaved merge by time. The buffers
/// are meant to be reused: [`Columns::clear`] keeps their capacity.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// Times of the float samples in milliseconds since the Unix epoch, strictly increasing.
    pub timestamps_ms: Vec<i64>,
    /// Values of the float samples.
    pub values: Vec<f64>,
    /// Start timestamps of the float samples in ms; empty when the chunks carry none, else as
    /// long as `timestamps_ms` (0 = none for that sample).
    pub start_timestamps_ms: Vec<i64>,
    /// Times of the histogram samples in milliseconds since the Unix epoch, strictly increasing.
    pub histogram_timestamps_ms: Vec<i64>,
    /// The histogram samples.
    pub histograms: Vec<FloatHistogram>,
    /// Start timestamps of the histogram samples, as `start_timestamps_ms` of the floats.
    pub histogram_start_timestamps_ms: Vec<i64>,
}

impl Columns {
    /// Empties all columns and keeps their memory.
    pub fn clear(&mut self) {
        self.timestamps_ms.clear();
        self.values.clear();
        self.start_timestamps_ms.clear();
        self.histogram_timestamps_ms.clear();
        self.histograms.clear();
        self.histogram_start_timestamps_ms.clear();
    }

    /// Number of samples of both kinds.
    pub fn len(&self) -> usize {
        self.timestamps_ms.len() + self.histogram_timestamps_ms.len()
    }

    /// Whether there is no sample of either kind.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bits of the float sample at exactly this time.
    pub fn float_bits_at(&self, timestamp_ms: i64) -> Option<u64> {
        let index = self.timestamps_ms.binary_search(&timestamp_ms).ok()?;
        self.values.get(index).map(|it| it.to_bits())
    }

    /// Appends a float sample without a start timestamp.
    pub fn push_float(&mut self, timestamp_ms: i64, value: f64) {
        self.timestamps_ms.push(timestamp_ms);
        self.values.push(value);
        if !self.start_timestamps_ms.is_empty() {
            self.start_timestamps_ms.push(0);
        }
    }

    /// Appends a float sample with its start timestamp in ms; 0 means none.
    pub fn push_float_since(&mut self, timestamp_ms: i64, value: f64, start_ms: i64) {
        if start_ms != 0 {
            self.start_timestamps_ms.resize(self.timestamps_ms.len(), 0);
            self.start_timestamps_ms.push(start_ms);
            self.timestamps_ms.push(timestamp_ms);
            self.values.push(value);
        } else {
            self.push_float(timestamp_ms, value);
        }
    }

    /// Appends a histogram sample without a start timestamp.
    pub fn push_histogram(&mut self, timestamp_ms: i64, histogram: FloatHistogram) {
        self.histogram_timestamps_ms.push(timestamp_ms);
        self.histograms.push(histogram);
        if !self.histogram_start_timestamps_ms.is_empty() {
            self.histogram_start_timestamps_ms.push(0);
        }
    }

    /// Appends a histogram sample with its start timestamp in ms; 0 means none.
    pub fn push_histogram_since(
        &mut self,
        timestamp_ms: i64,
        histogram: FloatHistogram,
        start_ms: i64,
    ) {
        if start_ms != 0 {
            self.histogram_start_timestamps_ms.resize(self.histogram_timestamps_ms.len(), 0);
            self.histogram_start_timestamps_ms.push(start_ms);
            self.histogram_timestamps_ms.push(timestamp_ms);
            self.histograms.push(histogram);
        } else {
            self.push_histogram(timestamp_ms, histogram);
        }
    }

    /// Bytes that the columns hold, by capacity; what an account is charged for them.
    pub fn capacity_bytes(&self) -> usize {
        8 * (self.timestamps_ms.capacity()
            + self.values.capacity()
            + self.start_timestamps_ms.capacity()
            + self.histogram_timestamps_ms.capacity()
            + self.histogram_start_timestamps_ms.capacity())
            + size_of::<FloatHistogram>() * self.histograms.capacity()
            + self.histograms.iter().map(FloatHistogram::heap_bytes).sum::<usize>()
    }
}
