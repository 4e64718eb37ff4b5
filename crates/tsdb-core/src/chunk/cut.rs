//! When the head ends a chunk of floats and begins the next one: Prometheus' rule, so that the
//! chunks come out the same.

use model::time::align_down;

/// Samples that a chunk is planned for.
const SAMPLES_WANTED: u32 = 120;
/// Samples at which the end of the chunk is predicted.
const SAMPLES_PREDICT: u32 = SAMPLES_WANTED / 4;
/// Samples that a chunk never exceeds.
const SAMPLES_MAX: u32 = 2 * SAMPLES_WANTED;
/// A chunk with more bytes than this takes no further sample: 1,024 less one large sample.
const BYTES_MAX: usize = 1024 - 19;

/// The planned end of an open chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutPlan {
    next_at_ms: i64,
}

/// What the rule looks at in an open chunk.
#[derive(Clone, Copy, Debug)]
pub struct OpenChunk {
    /// Time of its first sample in ms.
    pub start_ms: i64,
    /// Time of its last sample in ms.
    pub last_ms: i64,
    /// Number of its samples, at least 1.
    pub sample_count: u32,
    /// Bytes of its data with the header.
    pub size_bytes: usize,
}

impl CutPlan {
    /// The plan of a chunk whose first sample is at `start_ms`: it ends with the aligned range of
    /// `chunk_range_ms` (2 h, unless blocks are shorter).
    pub fn begin(start_ms: i64, chunk_range_ms: i64) -> CutPlan {
        let range_start_ms = align_down(start_ms, chunk_range_ms);
        CutPlan { next_at_ms: range_start_ms.saturating_add(chunk_range_ms) }
    }

    /// A plan whose end is known, as a snapshot keeps it.
    pub fn ending_at(next_at_ms: i64) -> CutPlan {
        CutPlan { next_at_ms }
    }

    /// The first timestamp that no longer belongs to the chunk.
    pub fn next_at_ms(&self) -> i64 {
        self.next_at_ms
    }

    /// Whether the chunk must end before a sample at `timestamp_ms` is appended; the next one then
    /// begins with that sample and a plan of its own. Asked once before every append.
    #[must_use]
    pub fn cut_before(&mut self, chunk: OpenChunk, timestamp_ms: i64) -> bool {
        if chunk.size_bytes > BYTES_MAX {
            return true;
        }
        if chunk.sample_count == SAMPLES_PREDICT {
            self.next_at_ms = predict_end_ms(chunk, self.next_at_ms);
        }
        timestamp_ms >= self.next_at_ms || chunk.sample_count >= SAMPLES_MAX
    }
}

/// Where a chunk ends so that the chunks of its range come out about equally long, judged by the
/// quarter of the wanted samples that it holds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the prediction is Prometheus', bit for bit, and that computes in floats"
)]
fn predict_end_ms(chunk: OpenChunk, range_end_ms: i64) -> i64 {
    let whole_ms = range_end_ms.saturating_sub(chunk.start_ms) as f64;
    let quarter_ms = chunk.last_ms.saturating_sub(chunk.start_ms).saturating_add(1) as f64;
    let ratio = f64::from(SAMPLES_WANTED / SAMPLES_PREDICT);
    let chunks = (whole_ms / (quarter_ms * ratio)).floor();
    if chunks <= 1.0 {
        return range_end_ms;
    }
    (chunk.start_ms as f64 + whole_ms / chunks) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE_MS: i64 = 7_200_000;

    fn open(start_ms: i64, last_ms: i64, sample_count: u32, size_bytes: usize) -> OpenChunk {
        OpenChunk { start_ms, last_ms, sample_count, size_bytes }
    }

    #[test]
    fn a_chunk_ends_with_its_range() {
        let mut plan = CutPlan::begin(1, RANGE_MS);
        assert!(!plan.cut_before(open(1, 1, 1, 20), RANGE_MS - 1));
        assert!(plan.cut_before(open(1, 1, 1, 20), RANGE_MS));
        assert_eq!(CutPlan::begin(-1, RANGE_MS).next_at_ms(), 0);
    }

    #[test]
    fn a_quarter_full_predicts_the_end() {
        let mut plan = CutPlan::begin(0, RANGE_MS);
        // 30 samples 15 s apart: 480 fit into the range, that is four chunks of 120.
        assert!(!plan.cut_before(open(0, 29 * 15_000, 30, 200), 30 * 15_000));
        assert_eq!(plan.next_at_ms(), RANGE_MS / 4);
    }

    #[test]
    fn size_and_count_have_hard_ends() {
        let mut plan = CutPlan::begin(0, RANGE_MS);
        assert!(!plan.cut_before(open(0, 10, 239, 1005), 20));
        assert!(plan.cut_before(open(0, 10, 240, 1005), 20));
        assert!(plan.cut_before(open(0, 10, 2, 1006), 20));
    }
}
