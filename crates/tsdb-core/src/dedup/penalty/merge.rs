//! The penalty on the chunks of an overlapping run, with what Thanos loses on the way.

use std::vec::IntoIter;

use bytes::Bytes;
use model::Columns;

use crate::block::ChunkData;
use crate::chunk::aggregate::{self, PARTS};
use crate::chunk::value::Timed;
use crate::chunk::{Encoding, SeriesToChunks, counted_samples, decode_values, xor};
use crate::compact::{Balance, Merge, RunChunk, RunError, aggregates};
use crate::dedup::penalty::fold::{At, fold};
use crate::error::Damage;

/// Why samples are left out by the penalty, also those that Thanos' version of it loses.
pub const PENALTY: &str = "penalty";

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

    fn merge_floats(&mut self, run: &[RunChunk], out: &mut Vec<ChunkData>) -> Result<(), RunError> {
        let mut folded = Vec::new();
        for it in run.iter().filter(|it| it.chunk.encoding == Encoding::Xor) {
            let next = self.floats(it.source, &it.chunk.data)?;
            fold_or_begin(&mut folded, next);
        }
        for (timestamp_ms, value) in folded {
            self.encoder.push_float(timestamp_ms, value);
        }
        self.encoder.finish(out);
        Ok(())
    }

    fn merge_values(
        &mut self,
        run: &[RunChunk],
        encoding: Encoding,
        out: &mut Vec<ChunkData>,
    ) -> Result<(), RunError> {
        let mut folded: Vec<Timed> = Vec::new();
        for it in run.iter().filter(|it| it.chunk.encoding == encoding) {
            let mut next = Vec::new();
            decode_values(encoding, &it.chunk.data, &mut next).map_err(RunError::of(it.source))?;
            fold_or_begin(&mut folded, next);
        }
        for sample in &folded {
            self.encoder.push(sample);
        }
        self.encoder.finish(out);
        Ok(())
    }

    fn merge_aggregates(
        &mut self,
        run: &[RunChunk],
        out: &mut Vec<ChunkData>,
    ) -> Result<(), RunError> {
        if self.has_histograms(run)? {
            aggregates::merge_largest(run, self.resolution_ms, out)?;
            return Ok(());
        }
        let mut folded: [Option<Floats>; PARTS] = Default::default();
        // Thanos takes the first chunk last, so that the others win where times are equal.
        for it in run.iter().skip(1).chain(run.first()) {
            if it.chunk.encoding != Encoding::Aggregate {
                continue;
            }
            let parts = aggregate::split(&it.chunk.data)
                .map_err(|damage| RunError { source: it.source, damage })?;
            for (place, part) in parts.in_order().into_iter().enumerate() {
                let Some(part) = part else { continue };
                let data = it.chunk.data.get(part.range.clone()).unwrap_or_default();
                let next = self.floats(it.source, data)?;
                match &mut folded[place] {
                    Some(folded) => fold_aggregate(folded, &next),
                    empty => *empty = Some(next),
                }
            }
        }
        let [counts, others @ ..] = folded;
        for (timestamp_ms, value) in counts.unwrap_or_default() {
            self.encoder.push_float(timestamp_ms, value);
        }
        let mut counts = Vec::new();
        self.encoder.finish(&mut counts);
        let mut tails = others.map(|it| it.map(Vec::into_iter));
        for count in counts {
            let [sum, min, max, counter] = &mut tails;
            let bounds = (count.min_time_ms, count.max_time_ms);
            let parts = [
                Some(count.data.to_vec()),
                sum.as_mut().and_then(|it| bounded(it, bounds, false)),
                min.as_mut().and_then(|it| bounded(it, bounds, false)),
                max.as_mut().and_then(|it| bounded(it, bounds, false)),
                counter.as_mut().and_then(|it| bounded(it, bounds, true)),
            ];
            let parts = parts.each_ref().map(|it| it.as_deref().map(|it| (Encoding::Xor, it)));
            out.push(ChunkData {
                encoding: Encoding::Aggregate,
                min_time_ms: bounds.0,
                max_time_ms: bounds.1,
                data: Bytes::from(aggregate::join(parts)),
            });
        }
        Ok(())
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
        let mut before = 0;
        for it in run {
            before +=
                counted(&it.chunk).map_err(|damage| RunError { source: it.source, damage })?;
        }
        let begin = out.len();
        match first.chunk.encoding {
            Encoding::Xor => self.merge_floats(run, out)?,
            Encoding::Aggregate => self.merge_aggregates(run, out)?,
            encoding => self.merge_values(run, encoding, out)?,
        }
        let mut after = 0;
        for chunk in &out[begin..] {
            after += counted(chunk).map_err(|damage| RunError { source: first.source, damage })?;
        }
        balance.drop_samples(PENALTY, before.saturating_sub(after));
        Ok(())
    }
}

/// Folds what was decoded of a chunk; a run's first chunk is taken as it is.
fn fold_or_begin<T: At>(folded: &mut Vec<T>, next: Vec<T>) {
    if folded.is_empty() {
        *folded = next;
    } else {
        fold(folded, &next);
    }
}

/// Folds an aggregate. The counter has two samples at its last time, of which the first is read
/// where something is folded.
fn fold_aggregate(folded: &mut Floats, next: &[(i64, f64)]) {
    folded.dedup_by_key(|it| it.0);
    fold(folded, next);
}

/// The XOR chunk of the samples within `bounds`, and the last one twice in the counter. The sample
/// that is read to find the end is lost.
fn bounded(rest: &mut IntoIter<(i64, f64)>, bounds: (i64, i64), counter: bool) -> Option<Vec<u8>> {
    let mut appender = xor::Appender::new();
    let inside = rest.by_ref().skip_while(|it| it.0 < bounds.0).take_while(|it| it.0 <= bounds.1);
    for (timestamp_ms, value) in inside {
        // The count that gave the bounds is a chunk of 120 samples.
        let _fits = appender.append(timestamp_ms, value);
    }
    if appender.is_empty() {
        return None;
    }
    if counter {
        let _fits = appender.append(appender.last_timestamp_ms(), appender.last_value());
    }
    Some(appender.to_bytes())
}

fn counted(chunk: &ChunkData) -> Result<u64, Damage> {
    counted_samples(chunk.encoding, &chunk.data)
}
