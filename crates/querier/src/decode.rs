//! Chunks of one series into columns: replicas joined, the range cut out, damage named.
//!
//! Samples of replicas are joined by time, in the order of the chunks (by first and last time,
//! then by content): of two samples at the same time the first one counts. The result depends on
//! the samples alone and not on who sent which chunk.

use model::histogram::FloatHistogram;
use model::{Columns, TimeRange};
use storeapi::store::{AggrChunk, Chunk, ChunkEncoding};
use tsdb_core::chunk::xor;

use crate::histogram_times::{self, Counts};

/// Bytes that a decoded sample takes.
const SAMPLE_BYTES: usize = 16;
/// Bytes that a histogram takes of which only the time and the sum are decoded.
const HISTOGRAM_BYTES: usize = SAMPLE_BYTES + size_of::<FloatHistogram>();

/// Decodes the chunks of series one after the other and keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    merged_timestamps_ms: Vec<i64>,
    merged_values: Vec<f64>,
    /// Times and sums of the histograms that were met.
    histograms: Vec<(i64, f64)>,
}

/// A chunk that could not be read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) range: TimeRange,
    pub(crate) why: String,
}

/// The most bytes that decoding these chunks takes, by the number of samples that each declares;
/// a chunk cannot hold more samples than two bits each.
pub(crate) fn decoded_bytes_max(chunks: &[AggrChunk]) -> usize {
    let bytes = |chunk: &AggrChunk| {
        let Some(Chunk { data, encoding }) = &chunk.raw else { return 0 };
        let declared = data.first_chunk().map_or(0, |it| usize::from(u16::from_be_bytes(*it)));
        let count = declared.min(data.len().saturating_mul(4));
        count * if *encoding == ChunkEncoding::Xor { SAMPLE_BYTES } else { HISTOGRAM_BYTES }
    };
    // Twice: the columns and what is merged beside them.
    2 * chunks.iter().map(bytes).sum::<usize>()
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
        self.histograms.clear();
        let mut unreadable = Vec::new();
        for chunk in chunks {
            let span = TimeRange::new(chunk.min_time_ms, chunk.max_time_ms);
            if !range.overlaps(span) {
                continue;
            }
            let result = match &chunk.raw {
                Some(raw) => match raw.encoding {
                    ChunkEncoding::Xor => self.floats(raw, columns),
                    ChunkEncoding::Histogram => self.histograms(Counts::Integer, raw, range),
                    ChunkEncoding::FloatHistogram => self.histograms(Counts::Float, raw, range),
                },
                None => Err("it holds aggregates of a downsampled block only".to_owned()),
            };
            if let Err(why) = result {
                unreadable.push(Unreadable { range: span, why });
            }
        }
        cut(columns, range);
        self.show_histograms(columns);
        unreadable
    }

    /// Collects when there is a native histogram in the range.
    fn histograms(
        &mut self,
        counts: Counts,
        chunk: &Chunk,
        range: TimeRange,
    ) -> Result<(), String> {
        histogram_times::read(counts, &chunk.data, |time_ms, sum| {
            if range.contains(time_ms) {
                self.histograms.push((time_ms, sum));
            }
        })
    }

    /// Tells the engine when there are native histograms, whose content is not decoded: it refuses
    /// the query when one of them is met by a window.
    fn show_histograms(&mut self, columns: &mut Columns) {
        self.histograms.sort_by_key(|(time_ms, _)| *time_ms);
        self.histograms.dedup_by_key(|(time_ms, _)| *time_ms);
        for (time_ms, sum) in &self.histograms {
            columns.histogram_timestamps_ms.push(*time_ms);
            columns.histograms.push(FloatHistogram { sum: *sum, ..FloatHistogram::default() });
        }
    }

    fn floats(&mut self, chunk: &Chunk, columns: &mut Columns) -> Result<(), String> {
        let before = columns.timestamps_ms.len();
        let result = xor::decode(&chunk.data, columns).map_err(|error| error.to_string());
        // A sample that breaks off in its middle has a time and no value.
        let whole = columns.timestamps_ms.len().min(columns.values.len());
        columns.timestamps_ms.truncate(whole);
        columns.values.truncate(whole);
        let result = result.and(if is_increasing(&columns.timestamps_ms[before..]) {
            Ok(())
        } else {
            keep_increasing(columns, before);
            Err("its times do not increase; samples out of order are left out".to_owned())
        });
        let follows = match (before.checked_sub(1), columns.timestamps_ms.get(before)) {
            (Some(last), Some(first)) => columns.timestamps_ms[last] < *first,
            _ => true,
        };
        if !follows {
            self.merge(columns, before);
        }
        result
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

/// Drops the samples from `from` on that are not newer than the one before.
fn keep_increasing(columns: &mut Columns, from: usize) {
    let mut kept = from;
    for at in from..columns.timestamps_ms.len() {
        let timestamp_ms = columns.timestamps_ms[at];
        if kept == from || columns.timestamps_ms[kept - 1] < timestamp_ms {
            columns.timestamps_ms[kept] = timestamp_ms;
            columns.values[kept] = columns.values[at];
            kept += 1;
        }
    }
    columns.timestamps_ms.truncate(kept);
    columns.values.truncate(kept);
}

/// Cuts the float samples to the range.
fn cut(columns: &mut Columns, range: TimeRange) {
    let end = columns.timestamps_ms.partition_point(|it| *it <= range.end_ms);
    columns.timestamps_ms.truncate(end);
    columns.values.truncate(end);
    let start = columns.timestamps_ms.partition_point(|it| *it < range.start_ms);
    columns.timestamps_ms.drain(..start);
    columns.values.drain(..start);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{prop, proptest};

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

    #[test]
    fn histograms_are_met_inside_of_the_range() {
        // Three without buckets, at 10, 20 and 90 ms: each number is its bits with its prefix.
        let bits = [
            "0000000000000011 00000000", // 3 samples, no flags
            "00000000 0 0 0",            // no width of the zero bucket, schema 0, no spans
            "110001010 0 0",             // at 10 ms; no counts
            "0000000000000000000000000000000000000000000000000000000000000000", // no sum
            "110001010 0 0 0",           // 10 ms later, all else the same
            "1110000111100 0 0 0",       // and 60 ms more than these later
        ];
        let bits: Vec<u8> = bits.concat().bytes().filter(|it| *it != b' ').collect();
        let byte = |bits: &[u8]| {
            bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | (bit - b'0') << (7 - at))
        };
        let data: Vec<u8> = bits.chunks(8).map(byte).collect();
        let raw = Some(Chunk { encoding: ChunkEncoding::Histogram, data: data.into() });
        let chunk = AggrChunk { min_time_ms: 10, max_time_ms: 90, raw, ..AggrChunk::default() };
        let check = |start_ms, end_ms, expected: &[i64]| {
            let mut columns = Columns::default();
            let range = TimeRange::new(start_ms, end_ms);
            Decoder::default().decode(std::slice::from_ref(&chunk), range, &mut columns);
            assert_eq!(columns.histogram_timestamps_ms, expected);
        };
        check(0, 100, &[10, 20, 90]);
        check(20, 100, &[20, 90]);
        check(20, 30, &[20]);
        check(30, 80, &[]);
        check(91, 100, &[]);
    }
}
