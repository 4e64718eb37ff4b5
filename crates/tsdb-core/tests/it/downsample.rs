//! Downsampling of floats against a plain reference, and against chance and damage.

use model::Columns;
use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof};
use proptest::proptest;
use testkit::golden;
use tsdb_core::block::ChunkData;
use tsdb_core::chunk::{Encoding, aggregate, decode, xor};
use tsdb_core::downsample::{Counts, Downsampled, Downsampler, Targets, read};

use crate::downsample_golden::{BOTH, FIVE, HOUR, downsample, series};
use crate::downsample_reference::{self as reference, Samples};

/// The float samples of an aggregate: count, sum, min, max and counter have the places 0 to 4.
pub(crate) fn part_samples(chunk: &ChunkData, part: usize) -> Samples {
    let parts = aggregate::split(&chunk.data).unwrap();
    let Some(part) = parts.in_order()[part] else { return Vec::new() };
    let mut columns = Columns::default();
    decode(part.encoding, &chunk.data[part.range.clone()], &mut columns).unwrap();
    columns.timestamps_ms.into_iter().zip(columns.values).collect()
}

/// The counts, which must say that no sample was lost and none invented.
pub(crate) fn checked(targets: Targets, counts: Counts) -> Counts {
    let kept = counts.in_samples - counts.stale - counts.nan - counts.backward;
    if targets.five_minutes {
        assert_eq!(counts.five_minutes_samples, kept);
    }
    if targets.one_hour {
        assert_eq!(counts.one_hour_samples, kept);
    }
    counts
}

/// A chunk of floats.
pub(crate) fn xor_chunk(samples: &[(i64, f64)]) -> ChunkData {
    let mut chunk = xor::Appender::new();
    for (time_ms, value) in samples {
        assert!(chunk.append(*time_ms, *value));
    }
    ChunkData {
        encoding: Encoding::Xor,
        min_time_ms: samples.first().map_or(0, |it| it.0),
        max_time_ms: samples.last().map_or(0, |it| it.0),
        data: chunk.to_bytes().into(),
    }
}

fn decoded(chunk: &ChunkData) -> reference::Chunk {
    reference::Chunk {
        min_time_ms: chunk.min_time_ms,
        max_time_ms: chunk.max_time_ms,
        parts: [0, 1, 2, 3, 4].map(|part| part_samples(chunk, part)),
    }
}

/// A text with every bit, but one NaN for all.
fn texts(chunks: &[reference::Chunk]) -> Vec<String> {
    let bits = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    let part = |samples: &Samples| -> Vec<(i64, u64)> {
        samples.iter().map(|it| (it.0, bits(it.1))).collect()
    };
    let text = |it: &reference::Chunk| {
        let parts = it.parts.each_ref().map(part);
        format!("{} {} {parts:x?}", it.min_time_ms, it.max_time_ms)
    };
    chunks.iter().map(text).collect()
}

fn check(chunks: &[Samples]) {
    let chunks: Vec<Samples> = chunks.iter().filter(|it| !it.is_empty()).cloned().collect();
    let raw: Vec<ChunkData> = chunks.iter().map(|it| xor_chunk(it)).collect();
    let (both, counts) = downsample(BOTH, &raw);
    assert_eq!(counts.in_samples, chunks.iter().map(|it| it.len() as u64).sum::<u64>());
    let fives: Vec<_> = both.five_minutes.iter().map(decoded).collect();
    let want = reference::five_minutes(&chunks);
    assert_eq!(texts(&fives), texts(&want));
    let hours: Vec<_> = both.one_hour.iter().map(decoded).collect();
    assert_eq!(texts(&hours), texts(&reference::one_hour(&want)));
    assert_eq!(downsample(FIVE, &raw).0.five_minutes, both.five_minutes);
    assert_eq!(downsample(HOUR, &raw).0.one_hour, both.one_hour);
    assert_eq!(downsample(HOUR, &both.five_minutes).0.one_hour, both.one_hour);
    for made in [&both.five_minutes, &both.one_hour] {
        for pair in made.windows(2) {
            assert!(pair[0].max_time_ms < pair[1].min_time_ms, "chunks overlap");
        }
        // What a querier sees of the counter is what the reference reader sees.
        let stored: Samples = made.iter().flat_map(|it| part_samples(it, 4)).collect();
        let mut read = Columns::default();
        read::counter(made, &mut Columns::default(), &mut read).unwrap();
        let got: Vec<_> = read.timestamps_ms.iter().zip(&read.values).collect();
        let (want, _) = reference::resets_applied(&stored);
        assert_eq!(
            format!("{got:?}"),
            format!("{:?}", want.iter().map(|it| (&it.0, &it.1)).collect::<Vec<_>>())
        );
    }
}

const START_MS: i64 = 1_756_684_800_000;

/// Steps to the next sample: as scrapes come, with jitter, to the borders of windows, over gaps.
fn step() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => Just(15_000_i64),
        4 => 14_990_i64..15_010,
        2 => Just(300_000),
        1 => Just(299_999),
        1 => Just(1),
        2 => 1_i64..700_000,
        1 => Just(3_600_000),
        1 => 1_i64..150_000_000,
    ]
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        10 => (0_u32..1000).prop_map(f64::from),
        2 => Just(f64::from_bits(model::STALE_NAN_BITS)),
        2 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        2 => Just(-0.0),
        1 => Just(f64::MAX),
        2 => any::<f64>(),
    ]
}

proptest! {
    #[test]
    fn any_series_becomes_what_the_plain_rules_say(
        samples in prop::collection::vec((step(), value()), 1..400),
        sizes in prop::collection::vec(1_usize..130, 1..8),
    ) {
        let mut at_ms = START_MS;
        let samples: Samples = samples.into_iter().map(|(step_ms, value)| {
            at_ms += step_ms;
            (at_ms, value)
        }).collect();
        check(&cut(&samples, &sizes));
    }

    #[test]
    fn counters_of_many_chunks_become_what_the_plain_rules_say(
        step_ms in 1_000_i64..400_000,
        jitter_ms in 1_i64..900,
        reset_every in 2_usize..200,
        count in 1_usize..4000,
    ) {
        let mut value = 0.0;
        let samples: Samples = (0..count).map(|index| {
            value = if index % reset_every == 0 { 1.0 } else { value + 3.5 };
            let index = i64::try_from(index).unwrap();
            (START_MS + index * step_ms + index * 7919 % jitter_ms, value)
        }).collect();
        check(&cut(&samples, &[120]));
    }

    #[test]
    fn any_bytes_are_an_error_or_a_series_and_never_a_panic(
        data in prop::collection::vec(any::<u8>(), 0..300),
        encoding in prop_oneof![
            Just(Encoding::Xor), Just(Encoding::Xor2), Just(Encoding::Histogram),
            Just(Encoding::FloatHistogram), Just(Encoding::Aggregate),
        ],
    ) {
        let chunk = ChunkData { encoding, min_time_ms: 0, max_time_ms: 1, data: data.into() };
        let mut downsampler = Downsampler::new(BOTH);
        let mut out = Downsampled::default();
        let raw = downsampler.raw(std::slice::from_ref(&chunk), &mut out);
        if encoding == Encoding::Aggregate {
            prop_assert!(raw.is_err());
        }
        let _either = downsampler.aggregates(std::slice::from_ref(&chunk), &mut out);
        let mut columns = Columns::default();
        let _either = read::counter([&chunk], &mut Columns::default(), &mut columns);
        let _either = read::average(&chunk, &mut Columns::default(), &mut columns);
    }

    #[test]
    fn a_damaged_chunk_is_named_and_the_next_series_is_whole(
        damaged in 0_usize..5,
        cut_bytes in 1_usize..40,
    ) {
        let times = (0..600).map(|at| START_MS + at * 15_000);
        let samples: Samples = times.zip((0_u32..).map(f64::from)).collect();
        let good: Vec<ChunkData> = cut(&samples, &[120]).iter().map(|it| xor_chunk(it)).collect();
        let mut bad = good.clone();
        let length = bad[damaged].data.len() - cut_bytes;
        bad[damaged].data.truncate(length);
        let mut downsampler = Downsampler::new(BOTH);
        let mut out = Downsampled::default();
        let error = downsampler.raw(&bad, &mut out).unwrap_err();
        prop_assert_eq!(error.chunk, damaged);
        prop_assert_eq!(&out, &Downsampled::default());
        downsampler.raw(&good, &mut out).unwrap();
        prop_assert_eq!(out, downsample(BOTH, &good).0);
    }
}

/// An aggregate chunk with these counts, sums, minima, maxima and counters.
fn aggregate_chunk(parts: [&[(i64, f64)]; 5]) -> ChunkData {
    let chunks = parts.map(xor_chunk);
    let parts = chunks.each_ref().map(|it| Some((Encoding::Xor, &*it.data)));
    let data = aggregate::join(parts).into();
    ChunkData { encoding: Encoding::Aggregate, data, ..chunks[0].clone() }
}

#[test]
fn windows_that_go_back_are_damage() {
    let good = [(299_999, 1.0), (599_999, 1.0), (899_999, 1.0)];
    let back = [(299_999, 1.0), (199_999, 1.0), (899_999, 1.0)];
    let stale = f64::from_bits(model::STALE_NAN_BITS);
    let stale = [(299_999, 1.0), (599_999, stale), (899_999, 1.0)];
    for place in 0..5 {
        for (bad, expected) in [(&back, "1 windows go back"), (&stale, "1 are stale")] {
            let mut parts: [&[(i64, f64)]; 5] = [&good; 5];
            let chunk = aggregate_chunk(parts);
            parts[place] = bad;
            let chunks = [chunk, aggregate_chunk(parts)];
            let mut out = Downsampled::default();
            let error = Downsampler::new(HOUR).aggregates(&chunks, &mut out).unwrap_err();
            assert_eq!(error.chunk, 1);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(out, Downsampled::default());
        }
    }
}

#[test]
fn counts_without_sums_give_no_average() {
    let counts = [(1, 2.0), (2, 4.0), (3, 8.0), (4, 16.0)];
    let sums = [(1, 4.0), (3, 8.0)];
    let averages = |counts: &[(i64, f64)], sums: &[(i64, f64)]| {
        let chunk = aggregate_chunk([counts, sums, &[], &[], &[]]);
        let mut out = Columns::default();
        let read = read::average(&chunk, &mut Columns::default(), &mut out);
        (read, out.timestamps_ms.into_iter().zip(out.values).collect::<Samples>())
    };
    let (read, got) = averages(&counts, &sums);
    read.unwrap();
    assert_eq!(got, [(1, 2.0), (3, 1.0)]);
    let (read, got) = averages(&counts[..2], &sums);
    assert!(read.unwrap_err().to_string().contains("the sum at 3 has none"));
    assert_eq!(got, [(1, 2.0)]);
}

/// Samples in chunks of these sizes, again and again.
fn cut(samples: &[(i64, f64)], sizes: &[usize]) -> Vec<Samples> {
    let mut out = Vec::new();
    let mut rest = samples;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, later) = rest.split_at((*size).min(rest.len()));
        out.push(chunk.to_vec());
        rest = later;
    }
    out
}

#[test]
fn start_timestamps_make_no_difference() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let mut compared = 0;
    for (labels, chunks) in series(&shared, "prom-xor2") {
        if chunks.len() < 2 || chunks.iter().any(|it| it.encoding != Encoding::Xor2) {
            continue;
        }
        let plain = |chunk: &ChunkData| {
            let mut columns = Columns::default();
            decode(chunk.encoding, &chunk.data, &mut columns).unwrap();
            let samples: Samples = columns.timestamps_ms.into_iter().zip(columns.values).collect();
            xor_chunk(&samples)
        };
        let all: Vec<ChunkData> = chunks.iter().map(plain).collect();
        let mixed = chunks.iter().zip(&all).enumerate();
        let mixed = mixed.map(|(index, (with, without))| [with, without][index % 2].clone());
        let want = downsample(BOTH, &all);
        assert_eq!(downsample(BOTH, &mixed.collect::<Vec<_>>()), want, "{labels}");
        assert_eq!(downsample(BOTH, &chunks), want, "{labels}");
        compared += 1;
    }
    assert!(compared > 0);
}

#[test]
fn a_batch_with_more_windows_than_a_chunk_can_count_becomes_several_chunks() {
    // Most samples lie in one window, so that all others, 7 days apart, are one batch.
    let mut samples: Samples = (0..300_000).map(|at| (START_MS + at, 1.0)).collect();
    let later = (1..140_000).map(|at| (START_MS + at * 300_000, 2.0));
    samples.extend(later);
    let (both, counts) = downsample(
        BOTH,
        &cut(&samples, &[60_000]).iter().map(|it| xor_chunk(it)).collect::<Vec<_>>(),
    );
    assert_eq!(counts.five_minutes_samples, 439_999);
    for chunk in &both.five_minutes {
        assert!(part_samples(chunk, 0).len() <= 65_000);
    }
    assert!(both.one_hour.len() > 1);
}
