//! The penalty on the chunks of an overlapping run, with what Thanos loses on the way.

use std::vec::IntoIter;

use bytes::Bytes;
use model::Columns;

use crate::block::ChunkData;
use crate::chunk::aggregate::{self, PARTS};
use crate::chunk::times::check_times;
use crate::chunk::value::Timed;
use crate::chunk::{Encoding, SeriesToChunks, counted_samples, decode_values, xor};
use crate::compact::{Balance, Merge, RunChunk, RunError, aggregates};
use crate::dedup::penalty::fold::{At, fold};
use crate::error::Damage;

/// Why samples are left out by the penalty, also those that Thanos' version of it loses.
pub const PENALTY: &str = "penalty";
/// What is lost of windows that are written, aggregate by aggregate, as it is by Thanos.
pub const LOST: [&str; PARTS - 1] =
    ["penalty: sum", "penalty: min", "penalty: max", "penalty: counter"];

/// Chunks of the encoding of a run's first chunk are folded in the order of the run, all others
/// are dropped. Counters are not adjusted.
///
/// Aggregates of floats are folded one by one, as Thanos does it with its losses. Aggregates of
/// histograms, at which Thanos panics, are chosen by window as ours are.
#[derive(Debug, Default)]
pub struct PenaltyMerge {
    resolution_ms: i64,
    encoder: SeriesToChunks,
    columns: Columns,
}

type Floats = Vec<(i64, f64)>;

impl PenaltyMerge {
    /// A rule without memory of any run, for raw blocks until told otherwise.
    pub fn new() -> PenaltyMerge {
        PenaltyMerge::default()
    }

    /// Whether the run is of aggregates of histograms.
    fn has_histograms(&self, run: &[RunChunk]) -> Result<bool, RunError> {
        for it in run.iter().filter(|it| it.chunk.encoding == Encoding::Aggregate) {
            let parts = aggregate::split(&it.chunk.data)
                .map_err(|damage| RunError { source: it.source, damage })?;
            if parts.in_order().into_iter().flatten().any(|it| it.encoding != Encoding::Xor) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn floats(&mut self, source: usize, data: &[u8]) -> Result<Floats, RunError> {
        self.columns.clear();
        xor::decode(data, &mut self.columns).map_err(|damage| RunError { source, damage })?;
        let times = self.columns.timestamps_ms.iter().copied();
        Ok(times.zip(self.columns.values.iter().copied()).collect())
    }

    /// Answers how many samples were dropped.
    fn merge_floats(
        &mut self,
        run: &[RunChunk],
        out: &mut Vec<ChunkData>,
    ) -> Result<u64, RunError> {
        let (mut folded, mut dropped) = (Vec::new(), 0);
        for it in run {
            if it.chunk.encoding != Encoding::Xor {
                dropped += counted(it)?;
                continue;
            }
            let next = self.floats(it.source, &it.chunk.data)?;
            check(it, next.iter().map(At::at_ms))?;
            dropped += fold_or_begin(&mut folded, next);
        }
        for (timestamp_ms, value) in folded {
            self.encoder.push_float(timestamp_ms, value);
        }
        self.encoder.finish(out);
        Ok(dropped)
    }

    /// Answers how many samples were dropped.
    fn merge_values(
        &mut self,
        run: &[RunChunk],
        encoding: Encoding,
        out: &mut Vec<ChunkData>,
    ) -> Result<u64, RunError> {
        let mut folded: Vec<Timed> = Vec::new();
        let mut dropped = 0;
        for it in run {
            if it.chunk.encoding != encoding {
                dropped += counted(it)?;
                continue;
            }
            let mut next = Vec::new();
            decode_values(encoding, &it.chunk.data, &mut next).map_err(RunError::of(it.source))?;
            check(it, next.iter().map(At::at_ms))?;
            dropped += fold_or_begin(&mut folded, next);
        }
        for sample in &folded {
            self.encoder.push(sample);
        }
        self.encoder.finish(out);
        Ok(dropped)
    }

    /// Answers how many windows were dropped.
    fn merge_aggregates(
        &mut self,
        run: &[RunChunk],
        out: &mut Vec<ChunkData>,
        balance: &mut Balance,
    ) -> Result<u64, RunError> {
        if self.has_histograms(run)? {
            return aggregates::merge_largest(run, self.resolution_ms, out);
        }
        let (folded, dropped) = self.fold_aggregates(run)?;
        let [counts, others @ ..] = folded;
        for (timestamp_ms, value) in counts.unwrap_or_default() {
            self.encoder.push_float(timestamp_ms, value);
        }
        let mut counts = Vec::new();
        self.encoder.finish(&mut counts);
        let mut lost = others.each_ref().map(|it| windows_of(it.as_deref().unwrap_or_default()));
        let mut tails = others.map(|it| it.map(Vec::into_iter));
        for count in counts {
            let bounds = (count.min_time_ms, count.max_time_ms);
            let mut parts = [const { None }; PARTS];
            parts[0] = Some(count.data.to_vec());
            for (place, tail) in tails.iter_mut().enumerate() {
                let is_counter = place + 2 == PARTS;
                let kept = tail.as_mut().and_then(|it| bounded(it, bounds, is_counter));
                let Some((data, windows)) = kept else { continue };
                lost[place] = lost[place].saturating_sub(windows);
                parts[place + 1] = Some(data);
            }
            let parts = parts.each_ref().map(|it| it.as_deref().map(|it| (Encoding::Xor, it)));
            out.push(ChunkData {
                encoding: Encoding::Aggregate,
                min_time_ms: bounds.0,
                max_time_ms: bounds.1,
                data: Bytes::from(aggregate::join(parts)),
            });
        }
        for (name, lost) in LOST.into_iter().zip(lost) {
            balance.lose(name, lost);
        }
        Ok(dropped)
    }

    /// Folds each aggregate on its own; answers how many windows the counts lost.
    fn fold_aggregates(
        &mut self,
        run: &[RunChunk],
    ) -> Result<([Option<Floats>; PARTS], u64), RunError> {
        let mut folded: [Option<Floats>; PARTS] = Default::default();
        let mut dropped = 0;
        // Thanos takes the first chunk last, so that the others win where times are equal.
        for it in run.iter().skip(1).chain(run.first()) {
            let split = match it.chunk.encoding {
                Encoding::Aggregate => aggregate::split(&it.chunk.data)
                    .map_err(|damage| RunError { source: it.source, damage })?,
                _ => aggregate::Parts::default(),
            };
            if split.count.is_none() {
                dropped += counted(it)?;
            }
            for (place, part) in split.in_order().into_iter().enumerate() {
                let Some(part) = part else { continue };
                let data = it.chunk.data.get(part.range.clone()).unwrap_or_default();
                let next = self.floats(it.source, data)?;
                if place == 0 {
                    check(it, next.iter().map(At::at_ms))?;
                } else if !next.is_sorted_by_key(At::at_ms) {
                    let text = "an aggregate goes back in time";
                    let damage = Damage::new("aggregate chunk", part.range.start as u64, text);
                    return Err(RunError { source: it.source, damage });
                }
                let passed = match &mut folded[place] {
                    Some(folded) => fold_aggregate(folded, &next),
                    empty => {
                        *empty = Some(next);
                        0
                    }
                };
                dropped += if place == 0 { passed } else { 0 };
            }
        }
        Ok((folded, dropped))
    }
}

impl Merge for PenaltyMerge {
    fn name(&self) -> &'static str {
        "penalty"
    }

    fn begin(&mut self, resolution_ms: i64) {
        self.resolution_ms = resolution_ms;
    }

    fn merge(
        &mut self,
        run: &[RunChunk],
        out: &mut Vec<ChunkData>,
        balance: &mut Balance,
    ) -> Result<(), RunError> {
        let Some(first) = run.first() else { return Ok(()) };
        let dropped = match first.chunk.encoding {
            Encoding::Xor => self.merge_floats(run, out)?,
            Encoding::Aggregate => self.merge_aggregates(run, out, balance)?,
            encoding => self.merge_values(run, encoding, out)?,
        };
        balance.drop_samples(PENALTY, dropped);
        Ok(())
    }
}

/// Folds what was decoded of a chunk; a run's first chunk is taken as it is. Answers how many
/// samples were dropped.
fn fold_or_begin<T: At>(folded: &mut Vec<T>, next: Vec<T>) -> u64 {
    if folded.is_empty() {
        *folded = next;
        return 0;
    }
    fold(folded, &next)
}

/// Folds an aggregate. The counter has two samples at its last time, of which the first is read
/// where something is folded. Answers how many others were dropped.
fn fold_aggregate(folded: &mut Floats, next: &[(i64, f64)]) -> u64 {
    folded.dedup_by_key(|it| it.0);
    fold(folded, next)
}

/// The XOR chunk of the samples within `bounds`, and the last one twice in the counter; and at how
/// many times there are some. The sample that is read to find the end is lost.
fn bounded(
    rest: &mut IntoIter<(i64, f64)>,
    bounds: (i64, i64),
    counter: bool,
) -> Option<(Vec<u8>, u64)> {
    let mut appender = xor::Appender::new();
    let inside = rest.by_ref().skip_while(|it| it.0 < bounds.0).take_while(|it| it.0 <= bounds.1);
    let (mut windows, mut last_ms) = (0, None);
    for (timestamp_ms, value) in inside {
        // The count that gave the bounds is a chunk of 120 samples.
        let _fits = appender.append(timestamp_ms, value);
        windows += u64::from(last_ms != Some(timestamp_ms));
        last_ms = Some(timestamp_ms);
    }
    if appender.is_empty() {
        return None;
    }
    if counter {
        let _fits = appender.append(appender.last_timestamp_ms(), appender.last_value());
    }
    Some((appender.to_bytes(), windows))
}

/// At how many times there are samples.
fn windows_of(samples: &[(i64, f64)]) -> u64 {
    samples.chunk_by(|a, b| a.0 == b.0).count() as u64
}

fn check(it: &RunChunk, times_ms: impl Iterator<Item = i64>) -> Result<(), RunError> {
    check_times(&it.chunk, times_ms).map_err(|damage| RunError { source: it.source, damage })
}

fn counted(it: &RunChunk) -> Result<u64, RunError> {
    counted_samples(it.chunk.encoding, &it.chunk.data)
        .map_err(|damage| RunError { source: it.source, damage })
}
