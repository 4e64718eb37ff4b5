//! Downsampling of a run of floats: raw samples to windows, windows to longer windows.

use std::ops::Range;

use model::Columns;

use crate::downsample::clean::Found;
use crate::downsample::counter::{Seen, Walk};
use crate::downsample::encode::Encoder;
use crate::downsample::level::{COUNT, COUNTER, FloatLevel, MAX, MIN, SUM};
use crate::downsample::plan::{Step, batches};
use crate::downsample::windows::{
    COMPUTED_NAN, Fold, Timeline, aggregate_raw, fold_windows, total_windows,
};
use crate::error::Damage;

/// Windows that an aggregate chunk has at most: a chunk counts its samples with 16 bits, and a
/// counter has two more samples than windows.
const WINDOWS_MAX: usize = 65_000;

/// Buffers that are reused.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// A batch without its NaNs.
    batch: Columns,
    /// A counter with its resets applied.
    totals: Columns,
    /// Times at which a counter was NaN.
    nans_ms: Vec<i64>,
}

/// Aggregates the raw samples of a run into chunks at the end of `level`; answers how many NaNs
/// were left out. `found` tells what the samples are like.
pub(super) fn from_raw(
    samples: Timeline<'_>,
    found: Found,
    step: Step,
    level: &mut FloatLevel,
    scratch: &mut Scratch,
) -> u64 {
    let mut nans = 0;
    for batch in batches(samples.times, step) {
        let mut batch =
            Timeline { times: &samples.times[batch.clone()], values: &samples.values[batch] };
        if found.has_nan {
            scratch.batch.clear();
            let numbers = batch.times.iter().zip(batch.values).filter(|it| !it.1.is_nan());
            numbers.for_each(|it| scratch.batch.push_float(*it.0, *it.1));
            nans += (batch.times.len() - scratch.batch.len()) as u64;
            batch = Timeline::of(&scratch.batch);
        }
        while !batch.times.is_empty() {
            let (chunk, rest) = batch.split_at(samples_of_a_chunk(batch.times, step));
            aggregate_raw(chunk, step, !found.has_overlap, level);
            level.end_raw_chunk();
            batch = rest;
        }
    }
    nans
}

/// How many of a batch's samples fit into one chunk; all of them but for absurd batches.
fn samples_of_a_chunk(times: &[i64], step: Step) -> usize {
    if times.len() <= WINDOWS_MAX {
        return times.len();
    }
    let (mut windows, mut end_ms) = (0, -1);
    for (index, time_ms) in times.iter().enumerate() {
        if *time_ms > end_ms {
            if windows == WINDOWS_MAX {
                return index;
            }
            windows += 1;
            end_ms = step.window_end_ms(*time_ms);
        }
    }
    times.len()
}

/// Aggregates the chunks of a level into chunks of longer windows at the end of `coarse`. Chunks
/// are put together whole: the first and last samples of their counters are true raw values.
pub(super) fn from_windows(
    level: &FloatLevel,
    step: Step,
    coarse: &mut FloatLevel,
    scratch: &mut Scratch,
) {
    let chunks = level.chunks();
    let Some((first, last)) = chunks.first().zip(chunks.last()) else { return };
    let count = step.chunk_count(first.min_time_ms, last.max_time_ms, level.window_count());
    let group_size = (chunks.len() / count).max(1);
    let mut start = 0;
    while start < chunks.len() {
        let mut end = (start + group_size).min(chunks.len());
        while end > start + 1 && most_samples(level, start..end) > WINDOWS_MAX {
            end -= 1;
        }
        group(level, start..end, step, (coarse, scratch));
        coarse.end_chunk();
        start = end;
    }
}

fn most_samples(level: &FloatLevel, chunks: Range<usize>) -> usize {
    let parts = [COUNT, SUM, MIN, MAX, COUNTER];
    let counts = parts.map(|part| level.timeline(chunks.clone(), part).times.len());
    counts.into_iter().max().unwrap_or_default()
}

fn group(
    level: &FloatLevel,
    chunks: Range<usize>,
    step: Step,
    (coarse, scratch): (&mut FloatLevel, &mut Scratch),
) {
    let folds = [(COUNT, Fold::Sum), (SUM, Fold::Sum), (MIN, Fold::Min), (MAX, Fold::Max)];
    for (part, fold) in folds {
        let windows = level.timeline(chunks.clone(), part);
        fold_windows(windows, step, fold, &mut coarse.parts[part]);
    }
    let counter = level.timeline(chunks, COUNTER);
    fold_counter(counter, step, scratch, &mut coarse.parts[COUNTER]);
}

/// Brings counter aggregates, one behind the other, to longer windows.
///
/// NaN says nothing of a counter. A window in which it is all there is gets NaN, so that every
/// window that had a counter has one; Thanos leaves such windows out.
fn fold_counter(samples: Timeline<'_>, step: Step, scratch: &mut Scratch, out: &mut Columns) {
    let mut walk = Walk::default();
    let Scratch { totals, nans_ms, .. } = scratch;
    totals.clear();
    nans_ms.clear();
    for (time_ms, value) in samples.times.iter().zip(samples.values) {
        match walk.take(*time_ms, *value) {
            Seen::Total(total) => totals.push_float(*time_ms, total),
            Seen::NotANumber => nans_ms.push(*time_ms),
            Seen::Nothing => {}
        }
    }
    let (Some(first_ms), Some(last)) = (totals.timestamps_ms.first(), walk.last_value()) else {
        return;
    };
    // The first raw value stays the first.
    out.push_float(*first_ms, totals.values.first().copied().unwrap_or_default());
    let start = out.timestamps_ms.len();
    let totals = Timeline::of(totals);
    let mut end_ms = total_windows(totals, step, out);
    if !nans_ms.is_empty() {
        insert_windows(nans_ms, start, step, out);
        end_ms = out.timestamps_ms.last().copied().unwrap_or(end_ms);
    }
    // And the last raw value the last, at a time that is there already.
    out.push_float(end_ms, last);
}

/// Gives each window that has one of `nans_ms`, and nothing in `out` from `start` on, a NaN.
fn insert_windows(nans_ms: &[i64], start: usize, step: Step, out: &mut Columns) {
    let times = out.timestamps_ms.split_off(start);
    let values = out.values.split_off(start);
    let last_ms = times.last().max(nans_ms.last()).copied().unwrap_or_default();
    let mut windows = times.into_iter().zip(values).peekable();
    for nan_ms in nans_ms {
        let end_ms = step.window_end_ms(*nan_ms);
        while let Some((time_ms, value)) = windows.next_if(|it| it.0 <= end_ms) {
            out.push_float(time_ms, value);
        }
        let before_ms = out.timestamps_ms[start..].last();
        if before_ms.is_none_or(|it| step.window_end_ms(*it) < end_ms) {
            out.push_float(end_ms.min(last_ms), COMPUTED_NAN);
        }
    }
    windows.for_each(|it| out.push_float(it.0, it.1));
}

/// Encodes chunks of a level.
///
/// # Errors
/// When a chunk would have more samples than it can count.
pub(super) fn encode(
    level: &FloatLevel,
    chunks: Range<usize>,
    encoder: &mut Encoder,
) -> Result<(), Damage> {
    for index in chunks {
        for part in [COUNT, SUM, MIN, MAX, COUNTER] {
            encoder.floats(level.timeline(index..index + 1, part))?;
        }
        let chunk = level.chunks()[index];
        encoder.end_chunk(chunk.min_time_ms, chunk.max_time_ms);
    }
    Ok(())
}
