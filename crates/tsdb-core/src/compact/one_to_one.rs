//! The plain merge: all samples of all sources in order of time, one for each timestamp.

use std::ops::Range;

use model::Columns;

use crate::block::ChunkData;
use crate::chunk::{self, DecodeError, Encoding, SeriesToChunks, Timed};
use crate::compact::balance::EQUAL_TIME;
use crate::compact::{Balance, Merge, RunChunk, RunError, aggregates};
use crate::error::Damage;

/// What Prometheus does where blocks overlap, and Thanos without a deduplication function: of
/// samples at one timestamp the one of the first source is kept; chunks have 120 samples.
///
/// Only one chunk of each source is decoded at a time.
#[derive(Debug, Default)]
pub struct OneToOne {
    /// Of the blocks; says which windows are the same.
    resolution_ms: i64,
    floats: Lanes<Floats>,
    values: Lanes<Values>,
    encoder: SeriesToChunks,
}

impl OneToOne {
    /// The merge, without samples yet.
    pub fn new() -> OneToOne {
        OneToOne::default()
    }
}

impl Merge for OneToOne {
    fn name(&self) -> &'static str {
        "one-to-one"
    }

    fn begin(&mut self, resolution_ms: i64) {
        self.resolution_ms = resolution_ms;
    }

    fn memory_bytes(&self, run: &[RunChunk]) -> usize {
        if run.iter().any(|it| it.chunk.encoding == Encoding::Aggregate) {
            return run.iter().map(RunChunk::merged_bytes).sum();
        }
        // One chunk of each source is decoded, but all that they become is held encoded.
        let encoded: usize = run.iter().map(|it| 2 * it.chunk.data.len()).sum();
        let largest = run.iter().map(RunChunk::merged_bytes).max().unwrap_or(0);
        let sources = run.iter().map(|it| it.source).max().unwrap_or(0) + 1;
        encoded.saturating_add(largest.saturating_mul(sources.min(run.len())))
    }

    fn merge(
        &mut self,
        run: &[RunChunk],
        out: &mut Vec<ChunkData>,
        balance: &mut Balance,
    ) -> Result<(), RunError> {
        if run.iter().any(|it| it.chunk.encoding == Encoding::Aggregate) {
            let dropped = aggregates::merge(run, self.resolution_ms, out)?;
            balance.drop_samples(EQUAL_TIME, dropped);
            return Ok(());
        }
        let all = |encoding| run.iter().all(|it| it.chunk.encoding == encoding);
        let dropped = if all(Encoding::Xor) {
            let paired = self.floats.merge_pair(run, &mut self.encoder)?;
            paired + self.floats.merge(run, &mut self.encoder)?
        } else {
            self.values.begin(run)?;
            self.values.merge(run, &mut self.encoder)?
        };
        balance.drop_samples(EQUAL_TIME, dropped);
        self.encoder.finish(out);
        Ok(())
    }
}

/// Decoded samples of a chunk.
trait Samples: Default {
    /// Decodes a chunk in the place of what was there.
    fn decode(&mut self, chunk: &ChunkData) -> Result<(), DecodeError>;
    /// The timestamps of the samples.
    fn times(&self) -> &[i64];
    /// Hands some of them on.
    fn push(&self, range: Range<usize>, encoder: &mut SeriesToChunks);
}

#[derive(Debug, Default)]
struct Floats(Columns);

impl Samples for Floats {
    fn decode(&mut self, chunk: &ChunkData) -> Result<(), DecodeError> {
        self.0.clear();
        chunk::decode(chunk.encoding, &chunk.data, &mut self.0)
    }

    fn times(&self) -> &[i64] {
        &self.0.timestamps_ms
    }

    fn push(&self, range: Range<usize>, encoder: &mut SeriesToChunks) {
        let times = self.0.timestamps_ms.get(range.clone()).unwrap_or_default();
        let values = self.0.values.get(range).unwrap_or_default();
        for (timestamp_ms, value) in times.iter().zip(values) {
            encoder.push_float(*timestamp_ms, *value);
        }
    }
}

#[derive(Debug, Default)]
struct Values {
    times: Vec<i64>,
    samples: Vec<Timed>,
}

impl Samples for Values {
    fn decode(&mut self, chunk: &ChunkData) -> Result<(), DecodeError> {
        self.times.clear();
        self.samples.clear();
        chunk::decode_values(chunk.encoding, &chunk.data, &mut self.samples)?;
        self.times.extend(self.samples.iter().map(|it| it.timestamp_ms));
        Ok(())
    }

    fn times(&self) -> &[i64] {
        &self.times
    }

    fn push(&self, range: Range<usize>, encoder: &mut SeriesToChunks) {
        for sample in self.samples.get(range).unwrap_or_default() {
            encoder.push(sample);
        }
    }
}

/// The chunks of one source in a run, decoded one after the other.
#[derive(Debug, Default)]
struct Lane<S> {
    source: usize,
    /// Places in the run of what is not decoded yet, the next one last.
    places: Vec<usize>,
    samples: S,
    at: usize,
}

impl<S: Samples> Lane<S> {
    /// The time of the next sample; none at the end.
    fn head(&self) -> Option<i64> {
        self.samples.times().get(self.at).copied()
    }

    /// Decodes the next chunk when the one before is used up.
    fn refill(&mut self, run: &[RunChunk]) -> Result<(), RunError> {
        while self.at >= self.samples.times().len() {
            let Some(place) = self.places.pop() else { return Ok(()) };
            let Some(RunChunk { source, chunk }) = run.get(place) else { continue };
            self.at = 0;
            self.samples.decode(chunk).map_err(RunError::of(*source))?;
            let times = self.samples.times();
            let inside = |it: &i64| (chunk.min_time_ms..=chunk.max_time_ms).contains(it);
            if !ascends(times)
                || !times.first().is_none_or(inside)
                || !times.last().is_none_or(inside)
            {
                let text = "timestamps do not ascend within the times that the index gives";
                let damage = Damage::new("chunk", 0, text);
                return Err(RunError { source: *source, damage });
            }
        }
        Ok(())
    }
}

/// Whether every time is above the one before; looks at all of them, several at once.
fn ascends(times: &[i64]) -> bool {
    times.windows(2).fold(true, |ascends, it| ascends & (it[0] < it[1]))
}

#[derive(Debug, Default)]
struct Lanes<S> {
    lanes: Vec<Lane<S>>,
    /// How many of the lanes this run has.
    count: usize,
}

impl<S: Samples> Lanes<S> {
    /// Hands all samples of a run on in order; answers how many were left out for the sake of
    /// another one at the same time.
    fn merge(&mut self, run: &[RunChunk], encoder: &mut SeriesToChunks) -> Result<u64, RunError> {
        let lanes = self.lanes.get_mut(..self.count).unwrap_or_default();
        let mut dropped = 0;
        while let Some((first, time_ms, next_ms)) = first_head(lanes) {
            let lane = &mut lanes[first];
            let from = lane.at;
            lane.at += 1;
            if next_ms == Some(time_ms) {
                for other in &mut *lanes {
                    if other.head() == Some(time_ms) {
                        other.at += 1;
                        dropped += 1;
                        other.refill(run)?;
                    }
                }
            } else {
                // All that comes before the head of any other lane.
                while lane.head().is_some_and(|it| next_ms.is_none_or(|next| it < next)) {
                    lane.at += 1;
                }
            }
            let lane = &mut lanes[first];
            lane.samples.push(from..lane.at, encoder);
            lane.refill(run)?;
        }
        Ok(dropped)
    }

    /// Deals the chunks of a run to lanes, in the order of sources, and decodes the first of each.
    fn begin(&mut self, run: &[RunChunk]) -> Result<(), RunError> {
        self.count = 0;
        for (place, chunk) in run.iter().enumerate().rev() {
            let lanes = self.lanes.get_mut(..self.count).unwrap_or_default();
            if let Some(lane) = lanes.iter_mut().find(|it| it.source == chunk.source) {
                lane.places.push(place);
                continue;
            }
            if self.count == self.lanes.len() {
                self.lanes.push(Lane::default());
            }
            let lane = &mut self.lanes[self.count];
            lane.source = chunk.source;
            lane.places.clear();
            lane.places.push(place);
            lane.at = usize::MAX;
            self.count += 1;
        }
        let lanes = self.lanes.get_mut(..self.count).unwrap_or_default();
        lanes.sort_by_key(|it| it.source);
        lanes.iter_mut().try_for_each(|it| it.refill(run))
    }
}

impl Lanes<Floats> {
    /// Begins a run, and if it has two lanes, as most have, goes on until one of them ends.
    fn merge_pair(
        &mut self,
        run: &[RunChunk],
        encoder: &mut SeriesToChunks,
    ) -> Result<u64, RunError> {
        self.begin(run)?;
        let mut dropped = 0;
        let lanes = self.lanes.get_mut(..self.count).unwrap_or_default();
        let [first, second] = lanes else { return Ok(0) };
        while first.head().is_some() && second.head().is_some() {
            let used = interleave(first.floats(), second.floats(), encoder);
            first.at += used.first;
            second.at += used.second;
            dropped += used.dropped;
            first.refill(run)?;
            second.refill(run)?;
        }
        Ok(dropped)
    }
}

impl Lane<Floats> {
    /// The samples that are decoded and not used.
    fn floats(&self) -> (&[i64], &[f64]) {
        let Columns { timestamps_ms, values, .. } = &self.samples.0;
        let times = timestamps_ms.get(self.at..).unwrap_or_default();
        (times, values.get(self.at..).unwrap_or_default())
    }
}

/// How many samples of either side were used, and how many of the second were left out.
#[derive(Debug, Default)]
struct Used {
    first: usize,
    second: usize,
    dropped: u64,
}

/// Merges samples until either side ends. Of two at one time the first one is kept.
///
/// Replicas take turns so regularly that the processor foresees whose turn it is: a branch costs
/// less here than a choice without one, which waits for the times.
fn interleave(
    (first_times, first_values): (&[i64], &[f64]),
    (second_times, second_values): (&[i64], &[f64]),
    encoder: &mut SeriesToChunks,
) -> Used {
    let mut used = Used::default();
    while let (Some(&first_ms), Some(&second_ms)) =
        (first_times.get(used.first), second_times.get(used.second))
    {
        if first_ms <= second_ms {
            let value = first_values.get(used.first).copied().unwrap_or_default();
            encoder.push_float(first_ms, value);
            used.first += 1;
            if first_ms == second_ms {
                used.second += 1;
                used.dropped += 1;
            }
        } else {
            let value = second_values.get(used.second).copied().unwrap_or_default();
            encoder.push_float(second_ms, value);
            used.second += 1;
        }
    }
    used
}

/// The first lane with the earliest head, its time, and the earliest head of the others.
fn first_head<S: Samples>(lanes: &[Lane<S>]) -> Option<(usize, i64, Option<i64>)> {
    let mut first: Option<(usize, i64)> = None;
    let mut next_ms = None;
    for (place, lane) in lanes.iter().enumerate() {
        let Some(time_ms) = lane.head() else { continue };
        match first {
            Some((_, first_ms)) if first_ms <= time_ms => {
                next_ms = Some(next_ms.map_or(time_ms, |it: i64| it.min(time_ms)));
            }
            before => {
                next_ms = before.map(|it| it.1);
                first = Some((place, time_ms));
            }
        }
    }
    first.map(|(place, time_ms)| (place, time_ms, next_ms))
}
