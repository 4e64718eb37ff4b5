//! Overlapping chunks of downsampled blocks, merged window by window.
//!
//! Of a window that several sources have, that of one source is kept with all its aggregates, so
//! that they fit together. Where a chunk ends inside of a window, its source has two parts of that
//! window, which are kept together. Chunks are taken whole where nothing of them is left out, and
//! are cut else. The counter of a chunk carries on over the resets inside of it from the
//! value with which the chunk begins; where a cut chunk goes on behind another one, its counter is
//! moved so that it goes on from there, as otherwise readers would see a reset.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;
use model::{Columns, FloatHistogram};

use crate::block::ChunkData;
use crate::chunk::aggregate::{self, PARTS};
use crate::chunk::histogram::{Appended, Appender};
use crate::chunk::{self, DecodeError, Encoding, Timed, Value, xor};
use crate::compact::{RunChunk, RunError};
use crate::error::Damage;

/// Place of the count among the aggregates.
const COUNT: usize = 0;
/// Place of the counter among the aggregates.
const COUNTER: usize = PARTS - 1;

/// Which source's part of a window is kept.
#[derive(Clone, Copy, Debug)]
enum Prefer {
    /// That of the first source.
    First,
    /// The one with the most samples; of equally large ones that of the chunk whose bytes come
    /// first.
    Largest,
}

/// Merges a run of aggregate chunks; answers how many windows were left out. `resolution_ms` says
/// which windows are the same; 0 where only equal timestamps are. Of these that of the first
/// source is kept.
pub(super) fn merge(
    run: &[RunChunk],
    resolution_ms: i64,
    out: &mut Vec<ChunkData>,
) -> Result<u64, RunError> {
    merge_by(run, resolution_ms, Prefer::First, out)
}

/// As [`merge`], but of the same windows the one with the most samples is kept, whatever source it
/// comes from; of equally large ones that of the chunk whose bytes come first.
pub(crate) fn merge_largest(
    run: &[RunChunk],
    resolution_ms: i64,
    out: &mut Vec<ChunkData>,
) -> Result<u64, RunError> {
    merge_by(run, resolution_ms, Prefer::Largest, out)
}

/// A window of the run, or what a chunk has of it.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Equal for the same windows.
    key: i64,
    time_ms: i64,
    source: usize,
    /// Which chunk of the run.
    place: usize,
    /// Which of its windows.
    index: usize,
}

/// The windows that are kept, in order of time, and how many are not.
fn choose(chunks: &[Decoded<'_>], resolution_ms: i64, prefer: Prefer) -> (Vec<Window>, u64) {
    let mut windows = Vec::new();
    for (place, chunk) in chunks.iter().enumerate() {
        windows.extend(chunk.windows.iter().enumerate().map(|(index, time_ms)| {
            let key = time_ms.checked_div_euclid(resolution_ms).unwrap_or(*time_ms);
            Window { key, time_ms: *time_ms, source: chunk.source, place, index }
        }));
    }
    windows.sort_unstable_by_key(|it| (it.key, it.source, it.time_ms, it.place));
    let read = windows.len();
    let mut kept = Vec::with_capacity(read);
    for same in windows.chunk_by(|a, b| a.key == b.key) {
        let mut sources = same.chunk_by(|a, b| a.source == b.source);
        let chosen = match prefer {
            Prefer::First => sources.next(),
            Prefer::Largest => sources.min_by(|a, b| larger(chunks, a, b)),
        };
        kept.extend_from_slice(chosen.unwrap_or_default());
    }
    kept.dedup_by_key(|it| it.time_ms);
    let dropped = (read - kept.len()) as u64;
    (kept, dropped)
}

/// Puts what has more samples first, and of equals that whose bytes come first.
fn larger(chunks: &[Decoded<'_>], one: &[Window], other: &[Window]) -> Ordering {
    let count = |all: &[Window]| all.iter().map(|it| chunks[it.place].count_at(it.index)).sum();
    let (of_one, of_other): (f64, f64) = (count(one), count(other));
    let data = |all: &[Window]| all.first().map(|it| chunks[it.place].chunk.data.clone());
    of_other.total_cmp(&of_one).then_with(|| data(one).cmp(&data(other)))
}

fn merge_by(
    run: &[RunChunk],
    resolution_ms: i64,
    prefer: Prefer,
    out: &mut Vec<ChunkData>,
) -> Result<u64, RunError> {
    let mut chunks = Vec::with_capacity(run.len());
    for it in run {
        chunks.push(Decoded::of(it).map_err(RunError::of(it.source))?);
    }
    let (windows, dropped) = choose(&chunks, resolution_ms, prefer);
    let segments: Vec<Segment> = windows
        .chunk_by(|a, b| a.place == b.place && a.index + 1 == b.index)
        .filter_map(|it| {
            let (first, last) = (it.first()?, it.last()?);
            Some(Segment { place: first.place, windows: first.index..last.index + 1 })
        })
        .collect();
    let mut last_counter = None;
    for (at, segment) in segments.iter().enumerate() {
        let chunk = &chunks[segment.place];
        let next = segments.get(at + 1).filter(|it| it.windows.start == 0);
        let next_first = next.and_then(|it| chunks[it.place].first_counter());
        let cut = Cut { chunk, windows: segment.windows.clone(), last_counter, next_first };
        let source = chunk.source;
        out.push(cut.encode(&mut last_counter).map_err(RunError::of(source))?);
    }
    Ok(dropped)
}

/// Neighbouring windows of a chunk that are kept.
struct Segment {
    /// Which chunk of the run.
    place: usize,
    windows: Range<usize>,
}

/// A decoded aggregate.
enum Part {
    Floats(Columns),
    Histograms(Vec<Timed>),
}

/// A decoded aggregate chunk.
struct Decoded<'a> {
    source: usize,
    chunk: &'a ChunkData,
    /// Times of the windows.
    windows: Vec<i64>,
    parts: [Option<Part>; PARTS],
}

impl Decoded<'_> {
    fn of(run_chunk: &RunChunk) -> Result<Decoded<'_>, DecodeError> {
        let RunChunk { source, chunk } = run_chunk;
        if chunk.encoding != Encoding::Aggregate {
            let text = "samples and aggregates in one series";
            return Err(Damage::new("aggregate chunk", 0, text).into());
        }
        let split = aggregate::split(&chunk.data)?;
        let mut parts = [const { None }; PARTS];
        for (place, part) in parts.iter_mut().zip(split.in_order()) {
            let Some(part) = part else { continue };
            let data = chunk.data.get(part.range.clone()).unwrap_or_default();
            *place = Some(Part::decode(part.encoding, data)?);
        }
        // The counter has more times than there are windows, and comes last.
        let windows = parts.iter().flatten().next().map_or_else(Vec::new, Part::times);
        let inside = |it: &i64| (chunk.min_time_ms..=chunk.max_time_ms).contains(it);
        let (first, last) = (windows.first(), windows.last());
        let is_sorted = windows.is_sorted_by(|a, b| a < b);
        if !is_sorted || !first.is_none_or(inside) || !last.is_none_or(inside) {
            let text = "windows do not ascend within the times that the index gives";
            return Err(Damage::new("aggregate chunk", 0, text).into());
        }
        Ok(Decoded { source: *source, chunk, windows, parts })
    }

    /// How many samples a window says to stand for; 0 where that is not known.
    fn count_at(&self, window: usize) -> f64 {
        match &self.parts[COUNT] {
            Some(Part::Floats(counts)) => counts.values.get(window).copied().unwrap_or_default(),
            _ => 0.0,
        }
    }

    fn float_counter(&self) -> Option<&Columns> {
        match &self.parts[COUNTER] {
            Some(Part::Floats(columns)) => Some(columns),
            _ => None,
        }
    }

    /// The raw value with which the counter begins.
    fn first_counter(&self) -> Option<f64> {
        self.float_counter().and_then(|it| it.values.first().copied())
    }
}

impl Part {
    fn decode(encoding: Encoding, data: &[u8]) -> Result<Part, DecodeError> {
        if matches!(encoding, Encoding::Xor | Encoding::Xor2) {
            let mut columns = Columns::default();
            chunk::decode(encoding, data, &mut columns)?;
            return Ok(Part::Floats(columns));
        }
        let mut samples = Vec::new();
        chunk::decode_values(encoding, data, &mut samples)?;
        Ok(Part::Histograms(samples))
    }

    fn times(&self) -> Vec<i64> {
        match self {
            Part::Floats(columns) => columns.timestamps_ms.clone(),
            Part::Histograms(samples) => samples.iter().map(|it| it.timestamp_ms).collect(),
        }
    }
}

/// What is kept of a chunk.
struct Cut<'a> {
    chunk: &'a Decoded<'a>,
    windows: Range<usize>,
    /// The value that a reader has of the counter behind the chunk before, if there is one.
    last_counter: Option<f64>,
    /// The raw value with which the next chunk begins, if that is not cut at its start.
    next_first: Option<f64>,
}

impl Cut<'_> {
    fn encode(&self, last_counter: &mut Option<f64>) -> Result<ChunkData, DecodeError> {
        let Decoded { chunk, windows, parts, .. } = self.chunk;
        if self.windows == (0..windows.len()) {
            let counter = self.chunk.float_counter();
            *last_counter = counter.and_then(|it| it.values.last().copied());
            return Ok((*chunk).clone());
        }
        let times = windows.get(self.windows.clone()).unwrap_or_default();
        let (min_time_ms, max_time_ms) = match (times.first(), times.last()) {
            (Some(first), Some(last)) => (*first, *last),
            _ => (chunk.min_time_ms, chunk.max_time_ms),
        };
        let kept = min_time_ms..=max_time_ms;
        let mut data: [Option<(Encoding, Vec<u8>)>; PARTS] = [const { None }; PARTS];
        for (place, part) in parts.iter().enumerate() {
            data[place] = match part {
                None => None,
                Some(Part::Floats(columns)) if place == COUNTER => {
                    Some((Encoding::Xor, self.float_counter(columns, last_counter)))
                }
                Some(Part::Floats(columns)) => {
                    let all = columns.timestamps_ms.iter().zip(&columns.values);
                    let floats = all.filter(|it| kept.contains(it.0)).map(|it| (*it.0, *it.1));
                    Some((Encoding::Xor, encode_floats(floats)))
                }
                Some(Part::Histograms(samples)) => {
                    let cut: Vec<&Timed> =
                        samples.iter().filter(|it| kept.contains(&it.timestamp_ms)).collect();
                    Some((Encoding::FloatHistogram, encode_histograms(&cut)?))
                }
            };
        }
        let data = data.each_ref().map(|it| it.as_ref().map(|it| (it.0, it.1.as_slice())));
        let data = Bytes::from(aggregate::join(data));
        Ok(ChunkData { encoding: Encoding::Aggregate, min_time_ms, max_time_ms, data })
    }

    fn is_cut_at_start(&self) -> bool {
        self.windows.start > 0
    }

    fn is_cut_at_end(&self) -> bool {
        self.windows.end < self.chunk.windows.len()
    }

    /// The counter of the kept windows: it begins with the raw first value or goes on from the
    /// chunk before, and ends with the value that the next chunk is compared with.
    fn float_counter(&self, columns: &Columns, last_counter: &mut Option<f64>) -> Vec<u8> {
        let (times, values) = (&columns.timestamps_ms, &columns.values);
        let time_at = |index: usize| self.chunk.windows.get(index).copied().unwrap_or_default();
        let first_ms = time_at(self.windows.start);
        let last_ms = time_at(self.windows.end.saturating_sub(1));
        // The last entry is the raw last value, at the time of the one before it.
        let body = times.len().saturating_sub(1);
        let from = match self.is_cut_at_start() {
            true => times.partition_point(|it| *it < first_ms),
            false => 0,
        };
        let to = times.partition_point(|it| *it <= last_ms).min(body);
        let before = from.checked_sub(1).and_then(|it| values.get(it)).zip(self.last_counter);
        let offset = before.map_or(0.0, |(before, last)| last - before);
        let offset = if offset.is_finite() { offset } else { 0.0 };
        let range = from..to.max(from);
        let mut floats: Vec<(i64, f64)> = times
            .get(range.clone())
            .unwrap_or_default()
            .iter()
            .zip(values.get(range).unwrap_or_default())
            .map(|(time_ms, value)| (*time_ms, value + offset))
            .collect();
        let end = if self.is_cut_at_end() {
            let end = floats.last().map(|it| it.1);
            // A next chunk that begins below would be taken for a reset, which is not known.
            end.zip(self.next_first).map(|(end, next)| end.min(next)).or(end)
        } else {
            values.last().copied()
        };
        let end_ms = floats.last().map_or(last_ms, |it| it.0);
        floats.extend(end.map(|it| (end_ms, it)));
        *last_counter = end;
        encode_floats(floats.into_iter())
    }
}

fn encode_floats(floats: impl Iterator<Item = (i64, f64)>) -> Vec<u8> {
    let mut appender = xor::Appender::new();
    for (time_ms, value) in floats {
        // No more go in than a chunk had.
        let _fits = appender.append(time_ms, value);
    }
    appender.to_bytes()
}

fn encode_histograms(samples: &[&Timed]) -> Result<Vec<u8>, DecodeError> {
    let mut appender = Appender::<FloatHistogram>::new();
    for sample in samples {
        let appended = match &sample.value {
            Value::FloatHistogram(it) => appender.append(None, sample.timestamp_ms, it),
            Value::Histogram(it) => appender.append(None, sample.timestamp_ms, &it.to_float()),
            Value::Float(_) => continue,
        };
        if let Appended::NewChunk(_) = appended {
            let text = "histograms of one aggregate do not go into one chunk";
            return Err(Damage::new("aggregate chunk", 0, text).into());
        }
    }
    Ok(appender.to_bytes())
}
