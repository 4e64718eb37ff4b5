//! The rules of downsampling, written down plainly and slowly: what the fast code is compared with.

use std::collections::BTreeMap;

/// Samples in order of time.
pub(crate) type Samples = Vec<(i64, f64)>;

/// An aggregate chunk: times as the index has them, then count, sum, min, max, counter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) min_time_ms: i64,
    pub(crate) max_time_ms: i64,
    pub(crate) parts: [Samples; 5],
}

const FIVE_MS: i64 = 300_000;
const HOUR_MS: i64 = 3_600_000;

/// What is left of chunks of raw samples: no stale markers, nothing that goes back.
fn cleaned(chunks: &[Samples]) -> Samples {
    let mut out = Vec::new();
    for chunk in chunks {
        let mut last_ms = 0;
        for (time_ms, value) in chunk {
            if value.to_bits() != 0x7ff0_0000_0000_0002 && *time_ms >= last_ms {
                out.push((*time_ms, *value));
                last_ms = *time_ms;
            }
        }
    }
    out
}

#[expect(clippy::cast_precision_loss, reason = "as the rule has it")]
#[expect(clippy::cast_possible_truncation, reason = "as the rule has it")]
fn chunk_count(span_ms: i64, samples: usize, step_ms: i64, window_ms: i64) -> usize {
    let fullness = samples as f64 / (span_ms as f64 / step_ms as f64);
    let fullness = if fullness > 1.0 { 1.0 } else { fullness };
    let expected = ((span_ms / window_ms) as f64 * fullness) as i64 + 1;
    let mut count = 1;
    while expected / count > 140 {
        count += 1;
    }
    usize::try_from(count).unwrap()
}

fn end_ms(time_ms: i64, window_ms: i64) -> i64 {
    (time_ms / window_ms + 1) * window_ms - 1
}

/// Samples by window; the last one ends with the samples.
fn windows(samples: &[(i64, f64)], window_ms: i64) -> BTreeMap<i64, Vec<f64>> {
    let last_ms = samples.iter().map(|it| it.0).max().unwrap_or_default();
    let mut out: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (time_ms, value) in samples {
        out.entry(end_ms(*time_ms, window_ms).min(last_ms)).or_default().push(*value);
    }
    out
}

fn sum(values: &[f64]) -> f64 {
    let mut sum = 0.0;
    for value in values {
        sum += value;
    }
    sum
}

fn least(values: &[f64]) -> f64 {
    values.iter().fold(f64::MAX, |min, it| if *it < min { *it } else { min })
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().fold(f64::MIN, |max, it| if *it > max { *it } else { max })
}

fn totals(samples: &[(i64, f64)], window_ms: i64) -> Samples {
    let mut total = samples[0].1;
    let mut running = vec![(samples[0].0, total)];
    for pair in samples.windows(2) {
        let (before, value) = (pair[0].1, pair[1].1);
        total += if value < before { value } else { value - before };
        running.push((pair[1].0, total));
    }
    let windows = windows(&running, window_ms);
    windows.into_iter().map(|(at, totals)| (at, *totals.last().unwrap())).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
pub(crate) fn five_minutes(chunks: &[Samples]) -> Vec<Chunk> {
    let samples = cleaned(chunks);
    let Some((first, last)) = samples.first().zip(samples.last()) else { return Vec::new() };
    let count = chunk_count(last.0 - first.0, samples.len(), 60_000, FIVE_MS);
    let batch_size = samples.len() / count + 1;
    let mut out = Vec::new();
    let mut rest = &samples[..];
    while !rest.is_empty() {
        let mut size = batch_size.min(rest.len());
        let window_ms = end_ms(rest[size - 1].0, FIVE_MS);
        size += rest[size..].iter().take_while(|it| it.0 <= window_ms).count();
        let batch: Samples = rest[..size].iter().copied().filter(|it| !it.1.is_nan()).collect();
        rest = &rest[size..];
        let Some((first, last)) = batch.first().zip(batch.last()) else { continue };
        let windows = windows(&batch, FIVE_MS);
        let part = |of: fn(&[f64]) -> f64| -> Samples {
            windows.iter().map(|(at, values)| (*at, of(values))).collect()
        };
        let mut counter = vec![*first];
        counter.extend(totals(&batch, FIVE_MS));
        counter.push((counter.last().unwrap().0, last.1));
        out.push(Chunk {
            min_time_ms: *windows.keys().next().unwrap(),
            max_time_ms: *windows.keys().last().unwrap(),
            parts: [part(|it| it.len() as f64), part(sum), part(least), part(greatest), counter],
        });
    }
    out
}

/// Chunks of 5 minutes, put together to chunks of an hour.
pub(crate) fn one_hour(chunks: &[Chunk]) -> Vec<Chunk> {
    let Some((first, last)) = chunks.first().zip(chunks.last()) else { return Vec::new() };
    let samples = chunks.iter().map(|it| it.parts[0].len()).sum();
    let count = chunk_count(last.max_time_ms - first.min_time_ms, samples, FIVE_MS, HOUR_MS);
    let mut out = Vec::new();
    for group in chunks.chunks((chunks.len() / count).max(1)) {
        let joined = |part: usize| -> Samples {
            group.iter().flat_map(|it| it.parts[part].iter().copied()).collect()
        };
        let folded = |part: usize, of: fn(&[f64]) -> f64| -> Samples {
            let windows = windows(&joined(part), HOUR_MS);
            windows.into_iter().map(|(at, values)| (at, of(&values))).collect()
        };
        let parts = [
            folded(0, sum),
            folded(1, sum),
            folded(2, least),
            folded(3, greatest),
            hour_counter(&joined(4)),
        ];
        let times = parts[0].iter().map(|it| it.0);
        out.push(Chunk {
            min_time_ms: times.clone().min().unwrap(),
            max_time_ms: times.max().unwrap(),
            parts,
        });
    }
    out
}

fn hour_counter(samples: &[(i64, f64)]) -> Samples {
    let (applied, last) = resets_applied(samples);
    let mut out = vec![applied[0]];
    let mut windows: BTreeMap<i64, f64> = totals(&applied, HOUR_MS).into_iter().collect();
    // Windows in which the counter was NaN and nothing else.
    let last_ms = samples.iter().map(|it| it.0).max().unwrap();
    for (time_ms, _) in samples.iter().filter(|it| it.1.is_nan()) {
        let end = end_ms(*time_ms, HOUR_MS);
        if windows.range(end - HOUR_MS + 1..=end).next().is_none() {
            windows.insert(end.min(last_ms), f64::NAN);
        }
    }
    out.extend(windows.iter().map(|it| (*it.0, *it.1)));
    out.push((*windows.keys().last().unwrap(), last));
    out
}

/// What a reader sees of a counter, and the last raw value.
pub(crate) fn resets_applied(samples: &[(i64, f64)]) -> (Samples, f64) {
    let mut out: Samples = Vec::new();
    let (mut last, mut total) = ((i64::MIN, 0.0), 0.0);
    for (time_ms, value) in samples.iter().filter(|it| !it.1.is_nan()) {
        if out.is_empty() {
            total = *value;
        } else if *time_ms > last.0 {
            total += if *value >= last.1 { value - last.1 } else { *value };
        } else {
            if *time_ms == last.0 {
                last.1 = *value;
            }
            continue;
        }
        last = (*time_ms, *value);
        out.push((*time_ms, total));
    }
    (out, last.1)
}
