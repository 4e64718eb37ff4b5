//! Our deduplication on the chunks of a run, as compaction uses it.

use std::ops::Range;

use model::histogram::CounterResetHint;
use model::{Columns, is_stale};

use crate::block::ChunkData;
use crate::chunk::times::check_times;
use crate::chunk::{Encoding, SeriesToChunks, Timed, Value, decode_values, xor};
use crate::compact::balance::EQUAL_TIME;
use crate::compact::{Balance, Merge, RunChunk, RunError, aggregates};
use crate::dedup::phases::REACH_MS;
use crate::dedup::phases::choose::{Chooser, Times};
use crate::dedup::phases::union::{Floats, timed_order};
use crate::dedup::split_overlapping;

/// Why samples of replicas are left out that are not followed.
pub const REPLICA: &str = "replica";

/// Follows one replica at a time. A chunk of which everything is chosen, and nothing else in its
/// span, is copied; so are chunks of a run in which nothing overlaps, without being decoded.
///
/// Of the windows of aggregate chunks the ones with the most samples are chosen.
#[derive(Debug, Default)]
pub struct PhasesMerge {
    resolution_ms: i64,
    chooser: Chooser,
    kept: Vec<bool>,
    lanes: Vec<Lane>,
    union: Floats,
    spare: Floats,
    encoder: SeriesToChunks,
}

/// Chunks of floats that follow one another, decoded.
#[derive(Debug, Default)]
struct Lane {
    columns: Columns,
    chunks: Vec<Part>,
    /// The first chunk that was not passed yet.
    next: usize,
}

/// A chunk of the run, and where its samples are in the lane.
#[derive(Debug)]
struct Part {
    place: usize,
    samples: Range<usize>,
}

/// A decoded sample, and where it was.
struct Placed {
    sample: Timed,
    chunk: usize,
    index: usize,
}

impl PhasesMerge {
    /// A rule without memory of any run, for raw blocks until told otherwise.
    pub fn new() -> PhasesMerge {
        PhasesMerge::default()
    }

    fn merge_floats(
        &mut self,
        run: &[RunChunk],
        out: &mut Vec<ChunkData>,
        balance: &mut Balance,
    ) -> Result<(), RunError> {
        let bounds: Vec<_> =
            run.iter().map(|it| (it.chunk.min_time_ms, it.chunk.max_time_ms)).collect();
        let lanes = split_overlapping(&bounds);
        self.lanes.resize_with(lanes.len(), Lane::default);
        let mut read = 0;
        for (lane, places) in self.lanes.iter_mut().zip(lanes) {
            lane.decode(run, &places)?;
            read += lane.columns.timestamps_ms.len();
        }
        self.union.clear();
        for Lane { columns, .. } in &self.lanes {
            let union = (self.union.times_ms.as_slice(), self.union.values.as_slice());
            self.spare.merge(union, (&columns.timestamps_ms, &columns.values));
            std::mem::swap(&mut self.union, &mut self.spare);
        }
        let distinct = self.union.times_ms.len();
        let values = &self.union.values;
        let of =
            Times { times_ms: &self.union.times_ms, is_stale: |it: usize| is_stale(values[it]) };
        self.chooser.choose(&of, &mut self.kept);
        self.union.retain(&self.kept);
        balance.drop_samples(EQUAL_TIME, (read - distinct) as u64);
        balance.drop_samples(REPLICA, (distinct - self.union.times_ms.len()) as u64);
        self.write_floats(run, out);
        Ok(())
    }

    /// Copies the chunks whose samples are exactly the next chosen ones, encodes the others.
    fn write_floats(&mut self, run: &[RunChunk], out: &mut Vec<ChunkData>) {
        let Floats { times_ms, values } = &self.union;
        let mut at = 0;
        while let Some(&time_ms) = times_ms.get(at) {
            let rest = (&times_ms[at..], &values[at..]);
            let whole = self.lanes.iter_mut().find_map(|it| it.whole_chunk(rest));
            if let Some((place, count)) = whole {
                self.encoder.finish(out);
                out.push(run[place].chunk.clone());
                at += count;
            } else {
                self.encoder.push_float(time_ms, values[at]);
                at += 1;
            }
        }
        self.encoder.finish(out);
    }

    fn merge_values(
        &mut self,
        run: &[RunChunk],
        out: &mut Vec<ChunkData>,
        balance: &mut Balance,
    ) -> Result<(), RunError> {
        let mut all = Vec::new();
        let mut counts = Vec::with_capacity(run.len());
        for (chunk, it) in run.iter().enumerate() {
            let mut samples = Vec::new();
            let ChunkData { encoding, data, .. } = &it.chunk;
            decode_values(*encoding, data, &mut samples).map_err(RunError::of(it.source))?;
            check_times(&it.chunk, samples.iter().map(|it| it.timestamp_ms))
                .map_err(|damage| RunError { source: it.source, damage })?;
            counts.push(samples.len());
            let placed = |(index, sample)| Placed { sample, chunk, index };
            all.extend(samples.into_iter().enumerate().map(placed));
        }
        let read = all.len();
        all.sort_by(|one, other| {
            timed_order(&one.sample, &other.sample)
                .then(one.chunk.cmp(&other.chunk))
                .then(one.index.cmp(&other.index))
        });
        all.dedup_by_key(|it| it.sample.timestamp_ms);
        let distinct = all.len();
        let times_ms: Vec<i64> = all.iter().map(|it| it.sample.timestamp_ms).collect();
        let of = Times { times_ms: &times_ms, is_stale: |it: usize| all[it].sample.is_stale() };
        self.chooser.choose(&of, &mut self.kept);
        let mut kept = self.kept.iter();
        all.retain(|_| kept.next() == Some(&true));
        balance.drop_samples(EQUAL_TIME, (read - distinct) as u64);
        balance.drop_samples(REPLICA, (distinct - all.len()) as u64);
        forget_hints(&mut all);
        let mut rest = all.as_slice();
        while let Some((first, others)) = rest.split_first() {
            let count = counts.get(first.chunk).copied().unwrap_or_default();
            let is_next =
                |(index, it): (usize, &Placed)| it.chunk == first.chunk && it.index == index;
            let is_whole = rest.get(..count).is_some_and(|it| it.iter().enumerate().all(is_next));
            if is_whole && count > 0 {
                self.encoder.finish(out);
                out.push(run[first.chunk].chunk.clone());
                rest = &rest[count..];
            } else {
                self.encoder.push(&first.sample);
                rest = others;
            }
        }
        self.encoder.finish(out);
        Ok(())
    }
}

impl Merge for PhasesMerge {
    fn name(&self) -> &'static str {
        "phases"
    }

    fn begin(&mut self, resolution_ms: i64) {
        self.resolution_ms = resolution_ms;
    }

    fn reach_ms(&self) -> i64 {
        REACH_MS
    }

    fn merge(
        &mut self,
        run: &[RunChunk],
        out: &mut Vec<ChunkData>,
        balance: &mut Balance,
    ) -> Result<(), RunError> {
        let mut end_ms = None;
        let overlaps = |it: &RunChunk| {
            let overlaps = end_ms.is_some_and(|end| it.chunk.min_time_ms <= end);
            end_ms = end_ms.max(Some(it.chunk.max_time_ms));
            overlaps
        };
        if !run.iter().any(overlaps) {
            out.extend(run.iter().map(|it| it.chunk.clone()));
            return Ok(());
        }
        if run.iter().any(|it| it.chunk.encoding == Encoding::Aggregate) {
            let dropped = aggregates::merge_largest(run, self.resolution_ms, out)?;
            balance.drop_samples(REPLICA, dropped);
            return Ok(());
        }
        if run.iter().all(|it| it.chunk.encoding == Encoding::Xor) {
            self.merge_floats(run, out, balance)
        } else {
            self.merge_values(run, out, balance)
        }
    }
}

impl Lane {
    fn decode(&mut self, run: &[RunChunk], places: &[usize]) -> Result<(), RunError> {
        self.columns.clear();
        self.chunks.clear();
        self.next = 0;
        for &place in places {
            let RunChunk { source, chunk } = &run[place];
            let source = *source;
            let begin = self.columns.timestamps_ms.len();
            xor::decode(&chunk.data, &mut self.columns)
                .map_err(|damage| RunError { source, damage })?;
            let times = &self.columns.timestamps_ms[begin..];
            check_times(chunk, times.iter().copied())
                .map_err(|damage| RunError { source, damage })?;
            self.chunks.push(Part { place, samples: begin..begin + times.len() });
        }
        Ok(())
    }

    /// The chunk whose samples are exactly the first of these, and their number.
    fn whole_chunk(&mut self, rest: (&[i64], &[f64])) -> Option<(usize, usize)> {
        let (times, values) = (&self.columns.timestamps_ms, &self.columns.values);
        let first = *rest.0.first()?;
        let part = loop {
            let part = self.chunks.get(self.next)?;
            match times.get(part.samples.start).filter(|_| !part.samples.is_empty()) {
                Some(time) if *time == first => break part,
                Some(time) if *time > first => return None,
                _ => self.next += 1,
            }
        };
        let count = part.samples.len();
        let same_times = rest.0.get(..count)? == &times[part.samples.clone()];
        let same_bits = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
        let mut pairs = rest.1.iter().zip(&values[part.samples.clone()]);
        (same_times && pairs.all(same_bits)).then_some((part.place, count))
    }
}

/// What is known of resets of histograms holds only behind the sample that was before.
fn forget_hints(samples: &mut [Placed]) {
    let mut before = None;
    for it in samples {
        let place = Some((it.chunk, it.index));
        let follows = it.index > 0 && before == Some((it.chunk, it.index - 1));
        before = place;
        let hint = match &mut it.sample.value {
            Value::Float(_) => continue,
            Value::Histogram(histogram) => &mut histogram.counter_reset_hint,
            Value::FloatHistogram(histogram) => &mut histogram.counter_reset_hint,
        };
        if !follows && *hint != CounterResetHint::Gauge {
            *hint = CounterResetHint::Unknown;
        }
    }
}
