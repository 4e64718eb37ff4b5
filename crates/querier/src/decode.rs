//! Chunks of one series into columns: replicas joined, the range cut out, damage named.
//!
//! Samples of replicas are joined by time, in the order of the chunks (by first and last time,
//! then by content): of two samples at the same time the first one counts. The result depends on
//! the samples alone and not on who sent which chunk.

use model::histogram::{CounterResetHint, FloatHistogram};
use model::{Columns, TimeRange};
use storeapi::store::{AggrChunk, Chunk, ChunkEncoding};
use tsdb_core::chunk::{self, Encoding};

/// Decodes the chunks of series one after the other and keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    merged_timestamps_ms: Vec<i64>,
    merged_values: Vec<f64>,
}

/// A chunk that could not be read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) range: TimeRange,
    pub(crate) why: String,
}

/// The most bytes that decoding these chunks takes, by the first bytes of each.
pub(crate) fn decoded_bytes_max(chunks: &[AggrChunk]) -> usize {
    let raw = chunks.iter().filter_map(|it| it.raw.as_ref());
    // Twice: the columns and what is merged beside them.
    2 * raw.map(|it| chunk::decoded_bytes_max(encoding_of(it), &it.data)).sum::<usize>()
}

fn encoding_of(chunk: &Chunk) -> Encoding {
    match chunk.encoding {
        ChunkEncoding::Xor => Encoding::Xor,
        ChunkEncoding::Histogram => Encoding::Histogram,
        ChunkEncoding::FloatHistogram => Encoding::FloatHistogram,
    }
}

impl Decoder {
    /// Fills `columns` with the samples inside of `range`, whatever it held before.
    pub(crate) fn decode(
        &mut self,
        chunks: &[AggrChunk],
        range: TimeRange,
        columns: &mut Columns,
    ) -> Vec<Unreadable> {
        columns.clear();
        let mut unreadable = Vec::new();
        for chunk in chunks {
            let span = TimeRange::new(chunk.min_time_ms, chunk.max_time_ms);
            if !range.overlaps(span) {
                continue;
            }
            let result = match &chunk.raw {
                Some(raw) => self.take(raw, columns),
                None => Err("it holds aggregates of a downsampled block only".to_owned()),
            };
            if let Err(why) = result {
                unreadable.push(Unreadable { range: span, why });
            }
        }
        join_histograms(columns);
        cut(&mut columns.timestamps_ms, &mut columns.values, range);
        cut(&mut columns.histogram_timestamps_ms, &mut columns.histograms, range);
        unreadable
    }

    /// Appends the samples of a chunk; those that are not newer than the one before in the chunk
    /// are left out.
    fn take(&mut self, chunk: &Chunk, columns: &mut Columns) -> Result<(), String> {
        let before = columns.timestamps_ms.len();
        let histograms_before = columns.histogram_timestamps_ms.len();
        let result = chunk::decode(encoding_of(chunk), &chunk.data, columns);
        let floats = (&mut columns.timestamps_ms, &mut columns.values);
        let are_floats_in_order = keep_increasing(floats, before);
        let histograms = (&mut columns.histogram_timestamps_ms, &mut columns.histograms);
        let is_in_order = keep_increasing(histograms, histograms_before) && are_floats_in_order;
        let follows = match (before.checked_sub(1), columns.timestamps_ms.get(before)) {
            (Some(last), Some(first)) => columns.timestamps_ms[last] < *first,
            _ => true,
        };
        if !follows {
            self.merge(columns, before);
        }
        result.map_err(|error| error.to_string())?;
        if !is_in_order {
            let why = "its times do not increase; samples out of order are left out";
            return Err(why.to_owned());
        }
        Ok(())
    }

    /// Merges the samples from `middle` on into those before, which win where times are equal.
    fn merge(&mut self, columns: &mut Columns, middle: usize) {
        let (timestamps, values) = (&mut columns.timestamps_ms, &mut columns.values);
        let first_ms = timestamps[middle];
        let from = timestamps[..middle].partition_point(|it| *it < first_ms);
        self.merged_timestamps_ms.clear();
        self.merged_values.clear();
        let (mut left, mut right) = (from, middle);
        while left < middle || right < timestamps.len() {
            let takes_left = match (left < middle, timestamps.get(right)) {
                (true, Some(right_ms)) => timestamps[left] <= *right_ms,
                (is_left, _) => is_left,
            };
            let at = if takes_left { left } else { right };
            if takes_left && timestamps.get(right) == Some(&timestamps[left]) {
                right += 1;
            }
            self.merged_timestamps_ms.push(timestamps[at]);
            self.merged_values.push(values[at]);
            if takes_left {
                left += 1;
            } else {
                right += 1;
            }
        }
        timestamps.truncate(from);
        values.truncate(from);
        timestamps.extend_from_slice(&self.merged_timestamps_ms);
        values.extend_from_slice(&self.merged_values);
    }
}

fn is_increasing(timestamps_ms: &[i64]) -> bool {
    timestamps_ms.is_sorted_by(|a, b| a < b)
}

/// Drops the samples from `from` on that are not newer than the one before; false when there were
/// any.
fn keep_increasing<T>((timestamps_ms, values): (&mut Vec<i64>, &mut Vec<T>), from: usize) -> bool {
    if is_increasing(&timestamps_ms[from..]) {
        return true;
    }
    let mut kept = from;
    for at in from..timestamps_ms.len() {
        if kept == from || timestamps_ms[kept - 1] < timestamps_ms[at] {
            timestamps_ms[kept] = timestamps_ms[at];
            values.swap(kept, at);
            kept += 1;
        }
    }
    timestamps_ms.truncate(kept);
    values.truncate(kept);
    false
}

/// Joins the histograms of chunks that overlap, by time; of two at the same time the first one
/// counts.
fn join_histograms(columns: &mut Columns) {
    if is_increasing(&columns.histogram_timestamps_ms) {
        return;
    }
    let times = std::mem::take(&mut columns.histogram_timestamps_ms);
    let histograms = std::mem::take(&mut columns.histograms);
    let mut joined: Vec<(i64, FloatHistogram)> = times.into_iter().zip(histograms).collect();
    joined.sort_by_key(|it| it.0);
    joined.dedup_by_key(|it| it.0);
    for (_, histogram) in &mut joined {
        // What a chunk says of a reset is about the histogram before in the chunk.
        if histogram.counter_reset_hint != CounterResetHint::Gauge {
            histogram.counter_reset_hint = CounterResetHint::Unknown;
        }
    }
    (columns.histogram_timestamps_ms, columns.histograms) = joined.into_iter().unzip();
}

/// Cuts samples to the range.
fn cut<T>(timestamps_ms: &mut Vec<i64>, values: &mut Vec<T>, range: TimeRange) {
    let end = timestamps_ms.partition_point(|it| *it <= range.end_ms);
    timestamps_ms.truncate(end);
    values.truncate(end);
    let start = timestamps_ms.partition_point(|it| *it < range.start_ms);
    timestamps_ms.drain(..start);
    values.drain(..start);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{prop, proptest};

    use model::Histogram;
    use tsdb_core::chunk::histogram::{Appended, Appender};
    use tsdb_core::chunk::xor;

    use super::*;

    fn chunk(samples: &[(i64, f64)]) -> AggrChunk {
        let mut appender = xor::Appender::new();
        for (timestamp_ms, value) in samples {
            assert!(appender.append(*timestamp_ms, *value));
        }
        let data = appender.to_bytes().into();
        AggrChunk {
            min_time_ms: samples.iter().map(|it| it.0).min().unwrap_or_default(),
            max_time_ms: samples.iter().map(|it| it.0).max().unwrap_or_default(),
            raw: Some(Chunk { encoding: ChunkEncoding::Xor, data }),
            ..AggrChunk::default()
        }
    }

    fn decode(chunks: &[AggrChunk], range: TimeRange) -> (Vec<(i64, f64)>, Vec<Unreadable>) {
        let mut columns = Columns::default();
        columns.push_float(99, 99.0);
        let unreadable = Decoder::default().decode(chunks, range, &mut columns);
        let samples = columns.timestamps_ms.iter().copied().zip(columns.values.iter().copied());
        (samples.collect(), unreadable)
    }

    proptest! {
        #[test]
        fn chunks_are_joined_by_time_and_the_first_wins(
            content in prop::collection::vec(
                prop::collection::btree_map(0_i64..60, 0_u8..4, 1..20), 0..6),
            start_ms in 0_i64..60,
            end_ms in 0_i64..60,
        ) {
            let range = TimeRange::new(start_ms, end_ms);
            let mut expected = BTreeMap::new();
            let mut chunks = Vec::new();
            for samples in &content {
                let samples: Vec<_> =
                    samples.iter().map(|(at, value)| (*at, f64::from(*value))).collect();
                chunks.push(chunk(&samples));
                for (at, value) in samples {
                    expected.entry(at).or_insert(value);
                }
            }
            expected.retain(|at, _| range.contains(*at));
            let (samples, unreadable) = decode(&chunks, range);
            // Chunks outside of the range are never looked at, and cannot win.
            if chunks.iter().all(|it| {
                range.overlaps(TimeRange::new(it.min_time_ms, it.max_time_ms))
            }) {
                assert_eq!(samples, Vec::from_iter(expected));
            }
            assert!(unreadable.is_empty());
        }
    }

    #[test]
    fn damage_is_named_and_the_rest_is_kept() {
        let mut bad = chunk(&[(10, 1.0), (20, 2.0), (30, 3.0)]);
        if let Some(raw) = &mut bad.raw {
            raw.data.truncate(raw.data.len() - 2);
        }
        let disordered = chunk(&[(50, 1.0), (40, 2.0), (60, 3.0)]);
        let good = chunk(&[(70, 7.0)]);
        let (samples, unreadable) = decode(&[bad, disordered, good], TimeRange::ALL);
        assert!(samples.ends_with(&[(50, 1.0), (60, 3.0), (70, 7.0)]), "{samples:?}");
        assert_eq!(unreadable.len(), 2);
        assert_eq!(unreadable[0].range, TimeRange::new(10, 30));
    }

    fn histogram_chunk(samples: &[(i64, u64)]) -> AggrChunk {
        let mut appender = Appender::new();
        for (timestamp_ms, count) in samples {
            let histogram = Histogram { count: *count, zero_count: *count, ..Default::default() };
            assert!(matches!(appender.append(None, *timestamp_ms, &histogram), Appended::InPlace));
        }
        let data = appender.to_bytes().into();
        AggrChunk {
            min_time_ms: samples[0].0,
            max_time_ms: samples[samples.len() - 1].0,
            raw: Some(Chunk { encoding: ChunkEncoding::Histogram, data }),
            ..AggrChunk::default()
        }
    }

    #[test]
    fn histograms_are_joined_by_time_and_cut_to_the_range() {
        let chunks =
            [histogram_chunk(&[(10, 1), (20, 2), (90, 9)]), histogram_chunk(&[(20, 5), (30, 6)])];
        let check = |chunks: &[AggrChunk], start_ms, end_ms, expected: &[(i64, f64)]| {
            let mut columns = Columns::default();
            let range = TimeRange::new(start_ms, end_ms);
            let unreadable = Decoder::default().decode(chunks, range, &mut columns);
            assert_eq!(unreadable, []);
            let counts = columns.histograms.iter().map(|it| it.count);
            let times = columns.histogram_timestamps_ms.iter().copied();
            assert_eq!(times.zip(counts).collect::<Vec<_>>(), expected);
            columns.histograms
        };
        check(&chunks[..1], 0, 100, &[(10, 1.0), (20, 2.0), (90, 9.0)]);
        check(&chunks[..1], 20, 30, &[(20, 2.0)]);
        check(&chunks[..1], 30, 80, &[]);
        check(&chunks[..1], 91, 100, &[]);
        let all = [(10, 1.0), (20, 2.0), (30, 6.0), (90, 9.0)];
        let joined = check(&chunks, 0, 100, &all);
        // Between 30 and 90 nothing is known, though the chunk of the latter says so.
        assert!(joined.iter().all(|it| it.counter_reset_hint == CounterResetHint::Unknown));
    }

    #[test]
    fn damaged_histograms_cost_only_what_comes_after_the_damage() {
        let mut bad = histogram_chunk(&[(10, 1), (20, 2), (90, 9)]);
        if let Some(raw) = &mut bad.raw {
            raw.data.truncate(raw.data.len() - 1);
        }
        let mut columns = Columns::default();
        let unreadable = Decoder::default().decode(&[bad], TimeRange::ALL, &mut columns);
        assert_eq!(unreadable.len(), 1);
        assert_eq!(columns.histogram_timestamps_ms, [10, 20]);
    }
}
