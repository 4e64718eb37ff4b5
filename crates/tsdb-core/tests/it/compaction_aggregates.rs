//! Overlapping chunks of downsampled blocks, merged one-to-one.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::Columns;
use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};
use tsdb_core::block::ChunkData;
use tsdb_core::chunk::{Encoding, aggregate, decode, xor};
use tsdb_core::compact::{Balance, Merge as _, OneToOne, RunChunk, balance};
use tsdb_core::dedup::phases::PhasesMerge;

const RESOLUTION_MS: i64 = 300_000;

fn encode(samples: impl IntoIterator<Item = (i64, f64)>) -> Vec<u8> {
    let mut appender = xor::Appender::new();
    for (time, value) in samples {
        assert!(appender.append(time, value));
    }
    appender.to_bytes()
}

/// The raw counter: grows by 10 in every window, and is reset in the middle of some windows.
fn raw(window: usize, resets: &[usize]) -> f64 {
    let since = resets.iter().filter(|it| **it <= window).max().copied();
    since.map_or(1000.0 + 10.0 * window as f64, |it| 10.0 * (window - it) as f64 + 5.0)
}

/// What the counter counted up to the end of a window.
fn total(window: usize, resets: &[usize]) -> f64 {
    let mut total = raw(0, resets);
    for at in 1..=window {
        let (before, now) = (raw(at - 1, resets), raw(at, resets));
        total += if now >= before { now - before } else { now };
    }
    total
}

/// The aggregate chunk of some windows as a source with this salt saw them.
fn chunk(windows: std::ops::Range<usize>, resets: &[usize], salt: f64) -> ChunkData {
    let time = |window: usize| RESOLUTION_MS * (window as i64 + 1) - 1;
    let each = |value: f64| encode(windows.clone().map(|it| (time(it), value + it as f64)));
    let first = windows.start;
    // Begins with a raw value inside of the first window, carries on over resets, and ends with
    // the raw last value.
    let begin = (time(first) - 1000, raw(first, resets));
    let base = total(first, resets) - raw(first, resets);
    let body = windows.clone().map(|it| (time(it), total(it, resets) - base));
    let last = windows.end - 1;
    let counter =
        encode(std::iter::once(begin).chain(body).chain([(time(last), raw(last, resets))]));
    let (count, sum, min, max) = (each(salt), each(salt + 1.0), each(salt + 2.0), each(salt + 3.0));
    let data = aggregate::join([
        Some((Encoding::Xor, &count)),
        Some((Encoding::Xor, &sum)),
        Some((Encoding::Xor, &min)),
        Some((Encoding::Xor, &max)),
        Some((Encoding::Xor, &counter)),
    ]);
    ChunkData {
        encoding: Encoding::Aggregate,
        min_time_ms: time(first),
        max_time_ms: time(last),
        data: Bytes::from(data),
    }
}

fn part(chunk: &ChunkData, place: usize) -> Vec<(i64, f64)> {
    let parts = aggregate::split(&chunk.data).unwrap();
    let part = parts.in_order()[place].unwrap();
    let mut columns = Columns::default();
    decode(part.encoding, &chunk.data[part.range.clone()], &mut columns).unwrap();
    columns.timestamps_ms.into_iter().zip(columns.values).collect()
}

/// Reads counters as Thanos does: joins chunks, carries on over resets.
fn read_counters(chunks: &[ChunkData]) -> BTreeMap<i64, f64> {
    let mut read = BTreeMap::new();
    let (mut last, mut total) = (None::<(i64, f64)>, 0.0);
    for (time, value) in chunks.iter().flat_map(|it| part(it, 4)) {
        match last {
            None => total = value,
            Some((last_ms, _)) if time == last_ms => {
                last = Some((time, value));
                continue;
            }
            Some((last_ms, _)) if time < last_ms => continue,
            Some((_, before)) => total += if value >= before { value - before } else { value },
        }
        last = Some((time, value));
        read.insert(time, total);
    }
    read
}

fn merge(chunks: Vec<(usize, ChunkData)>) -> (Vec<ChunkData>, Balance) {
    let mut run: Vec<RunChunk> =
        chunks.into_iter().map(|(source, chunk)| RunChunk { source, chunk }).collect();
    run.sort_by_key(|it| (it.chunk.min_time_ms, it.chunk.max_time_ms, it.source));
    let (mut out, mut balance) = (Vec::new(), Balance::default());
    let mut merge = OneToOne::new();
    merge.begin(RESOLUTION_MS);
    merge.merge(&run, &mut out, &mut balance).unwrap();
    (out, balance)
}

#[test]
fn a_gap_of_the_first_source_is_filled_by_the_second() {
    let resets = [5, 30, 50, 90];
    let whole = chunk(20..80, &resets, 100.0);
    let (out, balance) = merge(vec![
        (0, chunk(0..40, &resets, 0.0)),
        (0, chunk(60..100, &resets, 0.0)),
        (1, whole.clone()),
    ]);
    assert_eq!(out.len(), 3);
    assert_eq!(balance.dropped[balance::EQUAL_TIME], 40);
    let counts: Vec<f64> = out.iter().flat_map(|it| part(it, 0)).map(|it| it.1).collect();
    let want = |it: usize| it as f64 + if (40..60).contains(&it) { 100.0 } else { 0.0 };
    assert_eq!(counts, (0..100).map(want).collect::<Vec<f64>>());
    // The counter goes on over both seams, though the second source counted from elsewhere.
    let counters = read_counters(&out);
    for window in 0..60 {
        let time = RESOLUTION_MS * (window as i64 + 1) - 1;
        assert_eq!(counters[&time], total(window, &resets), "window {window}");
    }
    // Behind the cut nothing tells a reset from a lower start; none is invented.
    let last = counters.values().last().unwrap();
    assert!(*last <= total(99, &resets) && *last >= total(99, &resets) - 600.0, "{last}");
}

/// Like [`chunk`], for windows that end at these times.
fn chunk_at(times: &[i64], salt: f64) -> ChunkData {
    let each = |add: f64| encode(times.iter().map(|it| (*it, salt + add)));
    let (first, last) = (times[0], times[times.len() - 1]);
    let counter = encode(
        std::iter::once((first - 1000, salt))
            .chain(times.iter().map(|it| (*it, salt)))
            .chain([(last, salt)]),
    );
    let parts = [each(0.0), each(1.0), each(2.0), each(3.0), counter];
    let parts = parts.each_ref().map(|it| Some((Encoding::Xor, it.as_slice())));
    ChunkData {
        encoding: Encoding::Aggregate,
        min_time_ms: first,
        max_time_ms: last,
        data: Bytes::from(aggregate::join(parts)),
    }
}

#[test]
fn both_parts_of_a_window_that_two_chunks_share_are_kept() {
    let end = |window: i64| RESOLUTION_MS * (window + 1) - 1;
    // The first chunk ends with its last sample, inside of a window; the second goes on in it.
    let inside = end(2) - 120_000;
    let one = chunk_at(&[end(0), end(1), inside], 10.0);
    let two = chunk_at(&[end(2), end(3), end(4)], 20.0);
    let whole = chunk_at(&[end(0), end(1), end(2), end(3), end(4)], 15.0);
    let split = [(0, one.clone()), (0, two.clone()), (1, whole.clone())];
    let (out, balance) = merge(split.to_vec());
    assert_eq!(out, [one.clone(), two.clone()]);
    assert_eq!(balance.dropped[balance::EQUAL_TIME], 5);
    // The other way round none of the parts stays.
    let (out, balance) = merge(vec![(1, one.clone()), (1, two.clone()), (0, whole.clone())]);
    assert_eq!(out, std::slice::from_ref(&whole));
    assert_eq!(balance.dropped[balance::EQUAL_TIME], 6);
    // Where the most samples win, both parts together are more than the whole of the other.
    let mut phases = PhasesMerge::new();
    phases.begin(RESOLUTION_MS);
    let (mut out, mut balance) = (Vec::new(), Balance::default());
    let mut run = split.map(|(source, chunk)| RunChunk { source, chunk });
    run.sort_by_key(|it| (it.chunk.min_time_ms, it.chunk.max_time_ms, it.source));
    phases.merge(&run, &mut out, &mut balance).unwrap();
    let counts: Vec<(i64, f64)> = out.iter().flat_map(|it| part(it, 0)).collect();
    let want = [
        (end(0), 15.0),
        (end(1), 15.0),
        (inside, 10.0),
        (end(2), 20.0),
        (end(3), 20.0),
        (end(4), 20.0),
    ];
    assert_eq!(counts, want);
    assert_eq!(balance.dropped_samples(), 5);
}

#[test]
fn windows_are_charged_as_what_they_take_when_they_are_decoded() {
    // Windows that are all alike take a few bits each.
    let times: Vec<i64> = (0..10_000).map(|it| RESOLUTION_MS * (it + 1) - 1).collect();
    let chunk = chunk_at(&times, 1.0);
    let mut decoded_bytes = 0;
    for place in 0..5 {
        decoded_bytes += part(&chunk, place).len() * size_of::<(i64, f64)>();
    }
    assert!(chunk.data.len() * 60 < decoded_bytes, "{} bytes", chunk.data.len());
    // As they were and as they become.
    assert!(RunChunk { source: 0, chunk }.merged_bytes() >= 2 * decoded_bytes);
}

proptest! {
    #[test]
    fn every_window_is_kept_once_and_counters_grow(
        sources in prop::collection::vec(
            prop::collection::vec((1..6_usize, 1..40_usize), 1..4), 1..4),
        resets in prop::collection::vec(1..100_usize, 0..4),
    ) {
        let mut chunks = Vec::new();
        let mut model: BTreeMap<i64, f64> = BTreeMap::new();
        let mut windows_read = 0;
        for (source, spans) in sources.iter().enumerate() {
            let mut at = 0;
            for (gap, length) in spans {
                at += gap;
                let one = chunk(at..at + length, &resets, 1000.0 * source as f64);
                windows_read += *length as u64;
                for (time, count) in part(&one, 0) {
                    model.entry(time).or_insert(count);
                }
                at += length;
                chunks.push((source, one));
            }
        }
        let (out, balance) = merge(chunks);
        let counts: BTreeMap<i64, f64> = out.iter().flat_map(|it| part(it, 0)).collect();
        prop_assert_eq!(balance.dropped_samples(), windows_read - model.len() as u64);
        prop_assert_eq!(&counts, &model);
        prop_assert!(out.windows(2).all(|it| it[0].max_time_ms < it[1].min_time_ms));
        for chunk in &out {
            for place in 0..4 {
                let times: Vec<i64> = part(chunk, place).iter().map(|it| it.0).collect();
                prop_assert_eq!(times[0], chunk.min_time_ms);
                prop_assert_eq!(times[times.len() - 1], chunk.max_time_ms);
            }
        }
        // Never more than was counted, and never backwards.
        let counters = read_counters(&out);
        let totals: Vec<f64> = counters.values().copied().collect();
        prop_assert!(totals.is_sorted());
        let seen = totals[totals.len() - 1] - totals[0];
        prop_assert!(seen <= total(400, &resets), "{seen}");
    }
}
