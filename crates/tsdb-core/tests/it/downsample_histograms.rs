//! Downsampling of histograms, also where Thanos loses windows, against plain sums.

use std::collections::BTreeMap;

use model::histogram::{CounterResetHint, Span};
use model::{Columns, FloatHistogram};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use proptest::proptest;
use testkit::golden;
use tsdb_core::block::ChunkData;
use tsdb_core::chunk::{Encoding, SeriesToChunks, Timed, Value, decode, sample_count};
use tsdb_core::downsample::read::{self, Aggregate};

use crate::downsample_golden::{BOTH, HOUR, downsample, inputs, series};

const START_MS: i64 = 1_756_684_800_000;

/// What a window of histograms comes to: how many, and their observations and sums together.
type Windows = BTreeMap<i64, (f64, f64, f64)>;

/// The windows of histograms that are in order of time, without stale markers and NaN sums. What
/// is put together in a chunk decides where the last window ends, so windows are named by their
/// start.
fn plain(raw: &Columns, window_ms: i64) -> Windows {
    let mut out = Windows::new();
    for (time_ms, histogram) in raw.histogram_timestamps_ms.iter().zip(&raw.histograms) {
        if histogram.sum.is_nan() {
            continue;
        }
        let window = out.entry(time_ms / window_ms).or_default();
        window.0 += 1.0;
        window.1 += histogram.count;
        window.2 += histogram.sum;
    }
    out
}

fn decoded(chunks: &[ChunkData]) -> Columns {
    let mut columns = Columns::default();
    for chunk in chunks {
        decode(chunk.encoding, &chunk.data, &mut columns).unwrap();
    }
    columns
}

/// The windows of aggregate chunks; a window that was cut comes together again.
fn written(chunks: &[ChunkData], window_ms: i64) -> Windows {
    let mut out = Windows::new();
    let mut last_ms = i64::MIN;
    for chunk in chunks {
        let part = |which| {
            let mut columns = Columns::default();
            assert!(read::aggregate(chunk, which, &mut columns).unwrap(), "{which:?} is absent");
            columns
        };
        let (count, sum, counter) =
            (part(Aggregate::Count), part(Aggregate::Sum), part(Aggregate::Counter));
        assert_eq!(count.timestamps_ms, sum.histogram_timestamps_ms);
        assert_eq!(count.timestamps_ms, counter.histogram_timestamps_ms);
        assert!(chunk.min_time_ms > last_ms, "chunks overlap");
        assert_eq!(count.timestamps_ms.first(), Some(&chunk.min_time_ms));
        assert_eq!(count.timestamps_ms.last(), Some(&chunk.max_time_ms));
        last_ms = chunk.max_time_ms;
        for (index, time_ms) in count.timestamps_ms.iter().enumerate() {
            let window = out.entry(time_ms / window_ms).or_default();
            window.0 += count.values[index];
            window.1 += sum.histograms[index].count;
            window.2 += sum.histograms[index].sum;
        }
        let mut averages = Columns::default();
        read::average(chunk, &mut Columns::default(), &mut averages).unwrap();
        assert_eq!(averages.histogram_timestamps_ms, count.timestamps_ms);
    }
    out
}

/// Equal counts, and sums but for rounding.
fn same(got: &Windows, want: &Windows, place: &str) {
    let counts = |it: &Windows| -> Vec<_> { it.iter().map(|it| (*it.0, it.1.0)).collect() };
    assert_eq!(counts(got), counts(want), "{place}");
    for (got, want) in got.values().zip(want.values()) {
        for (got, want) in [(got.1, want.1), (got.2, want.2)] {
            let is_near = (got - want).abs() <= 1e-9 * got.abs().max(want.abs());
            assert!(
                is_near || got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()),
                "{place}: {got} {want}"
            );
        }
    }
}

fn check(chunks: &[ChunkData], place: &str) -> usize {
    let raw = decoded(chunks);
    let (both, _) = downsample(BOTH, chunks);
    same(&written(&both.five_minutes, 300_000), &plain(&raw, 300_000), place);
    same(&written(&both.one_hour, 3_600_000), &plain(&raw, 3_600_000), place);
    let (later, _) = downsample(HOUR, &both.five_minutes);
    assert_eq!(later.one_hour, both.one_hour, "{place}: two passes");
    both.five_minutes.len()
}

#[test]
fn no_window_of_the_golden_series_is_lost() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let mut checked = 0;
    for name in ["thanos-raw-48h", "thanos-raw-12d"] {
        for (labels, chunks) in series(&shared, name) {
            if chunks.iter().any(|it| it.encoding != Encoding::Xor) && !labels.contains("nh_mixed")
            {
                check(&chunks, &labels);
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 13);
    let vectors = golden::read_jsonl_gz(&shared.join("golden/chunks/aggr.jsonl.gz"));
    for (id, chunks) in [("aggr-0187", 2), ("aggr-0189", 2)] {
        let vector = vectors.iter().find(|it| it["id"] == id).unwrap();
        assert_eq!(check(&inputs(vector), id), chunks, "{id}");
    }
}

#[test]
fn blocks_of_prometheus_with_every_encoding_are_downsampled() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let names = ["floats", "histograms", "xor2", "xor2-no-st", "index-v1", "ooo-merged"];
    let mut encodings = [0; 7];
    for name in names.map(|it| format!("prom-{it}")) {
        for (labels, chunks) in series(&shared, &name) {
            let of = |it: &ChunkData| usize::from(it.encoding.to_byte());
            chunks.iter().for_each(|it| encodings[of(it)] += 1);
            let is_float = |it: &ChunkData| matches!(it.encoding, Encoding::Xor | Encoding::Xor2);
            // Runs of floats and of histograms have windows of their own.
            let runs: Vec<&[ChunkData]> =
                chunks.chunk_by(|a, b| is_float(a) == is_float(b)).collect();
            for run in runs.iter().filter(|it| !is_float(&it[0])) {
                check(run, &labels);
            }
            let (both, counts) = downsample(BOTH, &chunks);
            let (later, _) = downsample(HOUR, &both.five_minutes);
            assert_eq!(later.one_hour, both.one_hour, "{labels}: two passes");
            let declared = chunks.iter().map(|it| sample_count(it.encoding, &it.data).unwrap());
            assert_eq!(counts.in_samples, declared.map(u64::from).sum::<u64>(), "{labels}");
        }
    }
    assert!(encodings[1..].iter().all(|it| *it > 0), "{encodings:?}");
}

fn histogram(kind: u8, step: u32, sum: f64) -> FloatHistogram {
    let count = f64::from(step);
    let mut histogram = FloatHistogram {
        schema: 3,
        zero_threshold: 0.001,
        zero_count: count,
        count: 3.0 * count,
        sum,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![count, count],
        ..FloatHistogram::default()
    };
    match kind {
        0 => {}
        1 => histogram.schema = 1,
        2 => histogram.zero_threshold = 0.01,
        3 => histogram.positive_spans = vec![Span { offset: 5, length: 2 }],
        4 => histogram.counter_reset_hint = CounterResetHint::Gauge,
        bounds => {
            histogram.schema = -53;
            histogram.zero_threshold = 0.0;
            histogram.zero_count = 0.0;
            histogram.count = 2.0 * count;
            histogram.custom_values = vec![1.0, f64::from(bounds)];
        }
    }
    histogram
}

fn sum() -> impl Strategy<Value = f64> {
    prop_oneof![
        10 => (0_u32..1000).prop_map(f64::from),
        1 => Just(f64::NAN),
        1 => Just(f64::from_bits(model::STALE_NAN_BITS)),
        1 => Just(f64::INFINITY),
    ]
}

proptest! {
    #[test]
    fn no_window_is_lost_whatever_changes_on_the_way(
        runs in prop::collection::vec((0_u8..8, 1_usize..12), 1..12),
        steps in prop::collection::vec((1_i64..400_000, 0_u32..50, sum()), 150),
        stays in any::<bool>(),
    ) {
        let mut encoder = SeriesToChunks::new();
        let mut at_ms = START_MS;
        let mut count = 0;
        let mut steps = steps.iter();
        for (kind, length) in runs {
            for (step_ms, growth, sum) in steps.by_ref().take(length) {
                at_ms += step_ms;
                count = if stays { count + growth } else { *growth };
                let value = Value::FloatHistogram(Box::new(histogram(kind, count, *sum)));
                encoder.push(&Timed { timestamp_ms: at_ms, value });
            }
        }
        let mut chunks = Vec::new();
        encoder.finish(&mut chunks);
        check(&chunks, "random");
    }
}

#[test]
fn counters_carry_on_and_resets_restart_them() {
    let at = |index: i64| START_MS + index * 60_000;
    let mut encoder = SeriesToChunks::new();
    for (index, step) in [1, 2, 3, 4, 5, 6, 2, 3, 4, 5].into_iter().enumerate() {
        let value = Value::FloatHistogram(Box::new(histogram(0, step, f64::from(step))));
        encoder.push(&Timed { timestamp_ms: at(i64::try_from(index).unwrap()), value });
    }
    let mut chunks = Vec::new();
    encoder.finish(&mut chunks);
    let (both, _) = downsample(BOTH, &chunks);
    let mut read = Columns::default();
    read::counter(&both.five_minutes, &mut Columns::default(), &mut read).unwrap();
    let counts: Vec<f64> = read.histograms.iter().map(|it| it.count).collect();
    // 1 to 6, then a reset and 2 to 5: 5 after the first window, 6 + 5 after the second.
    assert_eq!(counts, [15.0, 33.0]);
    let mut hour = Columns::default();
    read::counter(&both.one_hour, &mut Columns::default(), &mut hour).unwrap();
    assert_eq!(hour.histograms.last().unwrap().count, 33.0);
}
