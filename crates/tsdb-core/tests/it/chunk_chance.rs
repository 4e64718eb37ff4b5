//! Histograms by chance: they come back from their chunks, and damage never does worse than an
//! error.

use std::collections::BTreeMap;

use model::histogram::buckets::Indices;
use model::histogram::integer::absolute;
use model::histogram::{CounterResetHint, FloatHistogram, Histogram, Span};
use model::{Columns, STALE_NAN_BITS, is_stale};
use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use tsdb_core::block::ChunkData;
use tsdb_core::chunk::{
    Encoding, SeriesToChunks, Timed, Value, aggregate, decode, decode_values, decoded_bytes_max,
    retain, rewrite_plain,
};

use crate::samples;

/// Spans that overlap nowhere, and where empty ones lie between others.
fn spans() -> impl Strategy<Value = Vec<Span>> {
    let span = (0..6_i32, 0..4_u32).prop_map(|(offset, length)| Span { offset, length });
    (-20..20_i32, prop::collection::vec(span, 0..5)).prop_map(|(first, mut spans)| {
        if let Some(span) = spans.first_mut() {
            span.offset = first;
        }
        spans
    })
}

/// The buckets of some spans, each with one of these counts.
fn buckets(spans: &[Span], counts: &[u32]) -> Vec<i64> {
    let mut before = 0;
    let counts = counts.iter().cycle().map(|it| i64::from(*it));
    let all = Indices::new(spans).zip(counts);
    all.map(|(_, count)| count - std::mem::replace(&mut before, count)).collect()
}

fn sum() -> impl Strategy<Value = f64> {
    prop_oneof![8 => any::<f64>(), 1 => Just(f64::from_bits(STALE_NAN_BITS)), 1 => Just(f64::NAN)]
}

fn hint() -> impl Strategy<Value = CounterResetHint> {
    prop_oneof![
        6 => Just(CounterResetHint::Unknown),
        2 => Just(CounterResetHint::Gauge),
        1 => Just(CounterResetHint::Reset),
        1 => Just(CounterResetHint::NotReset),
    ]
}

fn histogram() -> impl Strategy<Value = Histogram> {
    let layout = (
        prop_oneof![6 => Just(3), 2 => -4..9_i32, 1 => Just(-53), 1 => 9..53_i32],
        prop_oneof![4 => Just(0.001), 1 => Just(0.0), 1 => any::<f64>(), 1 => Just(0.25)],
        spans(),
        spans(),
        prop::collection::vec(prop_oneof![(0..100_u8).prop_map(f64::from), any::<f64>()], 0..4),
    );
    let counts = prop::collection::vec(prop_oneof![0..3_u32, any::<u32>()], 1..6);
    let numbers = (any::<u64>(), 0..50_u64, sum(), counts, hint());
    (layout, numbers).prop_map(|(layout, (count, zero_count, sum, counts, hint))| {
        let (schema, zero_threshold, positive_spans, negative_spans, custom_values) = layout;
        Histogram {
            schema,
            zero_threshold,
            zero_count,
            count,
            sum,
            positive_deltas: buckets(&positive_spans, &counts),
            negative_deltas: buckets(&negative_spans, &counts),
            positive_spans,
            negative_spans,
            custom_values: if schema == -53 { custom_values } else { Vec::new() },
            counter_reset_hint: hint,
        }
    })
}

/// Histograms that mostly grow out of one another, so that many share a chunk.
fn value() -> impl Strategy<Value = Vec<Value>> {
    let float = |it: &Histogram| Value::FloatHistogram(Box::new(it.to_float()));
    let run = (histogram(), 1..8_u32, any::<bool>(), spans());
    run.prop_map(move |(first, length, is_float, more)| {
        let grown = (1..=length).map(|factor| {
            let mut it = first.clone();
            it.count = it.count.saturating_add(u64::from(factor));
            if factor > 2 && it.negative_spans.is_empty() {
                it.negative_deltas = buckets(&more, &[1]);
                it.negative_spans.clone_from(&more);
            }
            for deltas in [&mut it.positive_deltas, &mut it.negative_deltas] {
                deltas.iter_mut().for_each(|it| *it = it.saturating_mul(i64::from(factor)));
            }
            if is_float { float(&it) } else { Value::Histogram(Box::new(it)) }
        });
        grown.collect()
    })
}

fn series() -> impl Strategy<Value = Vec<Timed>> {
    let floats = prop::collection::vec(any::<f64>().prop_map(Value::Float), 1..5);
    let runs = prop::collection::vec(prop_oneof![5 => value(), 1 => floats], 0..8);
    (runs, prop_oneof![4 => Just(15_000_i64), 1 => any::<i64>()]).prop_map(|(runs, step_ms)| {
        let times = (0..).map(|it: i64| it.wrapping_mul(step_ms));
        let values = runs.into_iter().flatten().zip(times);
        values.map(|(value, timestamp_ms)| Timed { timestamp_ms, value }).collect()
    })
}

fn chunks_of(samples: &[Timed]) -> Vec<ChunkData> {
    let mut encoder = SeriesToChunks::new();
    samples.iter().for_each(|it| encoder.push(it));
    let mut chunks = Vec::new();
    encoder.finish(&mut chunks);
    chunks
}

/// What of a sample must come back: empty buckets may be added, and hints are recomputed.
fn essence(sample: &Timed) -> String {
    let at = sample.timestamp_ms;
    let side = |spans: &[Span], counts: Vec<f64>| -> BTreeMap<i64, u64> {
        let all = Indices::new(spans).zip(counts).filter(|it| it.1 != 0.0);
        all.map(|(index, count)| (index, count.to_bits())).collect()
    };
    let is_gauge = |hint| hint == CounterResetHint::Gauge;
    let bits = |values: &[f64]| values.iter().map(|it| it.to_bits()).collect::<Vec<u64>>();
    match &sample.value {
        Value::Float(value) => format!("{at} {:x}", value.to_bits()),
        Value::Histogram(it) if is_stale(it.sum) => format!("{at} stale integer"),
        Value::FloatHistogram(it) if is_stale(it.sum) => format!("{at} stale float"),
        Value::Histogram(it) => format!(
            "{at} {} {:?} {} {} {:?} {:?} {}",
            it.schema,
            bits(&[it.zero_threshold + 0.0, it.sum]),
            it.count,
            it.zero_count,
            side(&it.positive_spans, absolute(&it.positive_deltas).collect()),
            side(&it.negative_spans, absolute(&it.negative_deltas).collect()),
            is_gauge(it.counter_reset_hint),
        ),
        Value::FloatHistogram(it) => format!(
            "{at} {} {:?} {:?} {:?} {}",
            it.schema,
            bits(&[it.zero_threshold + 0.0, it.sum, it.count, it.zero_count]),
            side(&it.positive_spans, it.positive_buckets.clone()),
            side(&it.negative_spans, it.negative_buckets.clone()),
            is_gauge(it.counter_reset_hint),
        ),
    }
}

fn essences(samples: &[Timed]) -> Vec<String> {
    samples.iter().map(essence).collect()
}

/// What a chunk gives, and whether it ends in an error; checks that columns agree with it, and
/// that their memory was foreseen.
fn read(encoding: Encoding, data: &[u8]) -> (Vec<Timed>, bool) {
    let (mut values, mut columns) = (Vec::new(), Columns::default());
    let error = decode_values(encoding, data, &mut values).err();
    assert_eq!(decode(encoding, data, &mut columns).err(), error);
    assert_eq!(columns.len(), values.len());
    let heap = columns.histograms.iter().map(FloatHistogram::heap_bytes).sum::<usize>();
    let histograms = columns.histograms.len() * (size_of::<FloatHistogram>() + 8);
    let used = 16 * columns.timestamps_ms.len() + histograms + heap;
    assert!(used <= decoded_bytes_max(encoding, data), "{encoding:?} {used}");
    (values, error.is_some())
}

/// The same chunk in the encoding with start timestamps, of which it has none.
fn with_starts(chunk: &ChunkData) -> Option<(Encoding, Vec<u8>)> {
    let encoding = match chunk.encoding {
        Encoding::Histogram => Encoding::HistogramStart,
        Encoding::FloatHistogram => Encoding::FloatHistogramStart,
        _ => return None,
    };
    let mut data = chunk.data.to_vec();
    data[0] |= data[2];
    data[2] = 0;
    Some((encoding, data))
}

const ENCODINGS: [Encoding; 6] = [
    Encoding::Xor,
    Encoding::Histogram,
    Encoding::FloatHistogram,
    Encoding::Xor2,
    Encoding::HistogramStart,
    Encoding::FloatHistogramStart,
];

proptest! {
    #[test]
    fn any_samples_come_back_from_their_chunks(samples in series()) {
        let mut all = Vec::new();
        for chunk in chunks_of(&samples) {
            let (values, failed) = read(chunk.encoding, &chunk.data);
            prop_assert!(!failed);
            prop_assert_eq!(values[0].timestamp_ms, chunk.min_time_ms);
            prop_assert_eq!(values[values.len() - 1].timestamp_ms, chunk.max_time_ms);
            if let Some((encoding, data)) = with_starts(&chunk) {
                prop_assert_eq!(samples::texts(&read(encoding, &data).0), samples::texts(&values));
                let plain = rewrite_plain(encoding, &data).unwrap().unwrap();
                prop_assert_eq!(plain.chunk.unwrap().data, &chunk.data);
            }
            all.extend(values);
        }
        prop_assert_eq!(essences(&all), essences(&samples));
    }

    #[test]
    fn what_is_kept_of_a_chunk_comes_back(samples in series(), kept in any::<u64>()) {
        for chunk in chunks_of(&samples) {
            let (values, _) = read(chunk.encoding, &chunk.data);
            let mut index = 0;
            let mut is_kept = |_| {
                index += 1;
                kept >> (index % 64) & 1 == 1
            };
            let left = retain(chunk.encoding, &chunk.data, &mut is_kept).unwrap();
            let left = left.map_or(Vec::new(), |it| read(it.encoding, &it.data).0);
            let want = (1..).zip(&values).filter(|(it, _)| kept >> (it % 64) & 1 == 1);
            let want: Vec<Timed> = want.map(|it| it.1.clone()).collect();
            prop_assert_eq!(essences(&left), essences(&want));
        }
    }

    #[test]
    fn a_chunk_cut_short_gives_a_prefix_and_an_error(samples in series()) {
        for chunk in chunks_of(&samples) {
            let whole = samples::texts(&read(chunk.encoding, &chunk.data).0);
            for end in 0..chunk.data.len() {
                let (values, failed) = read(chunk.encoding, &chunk.data[..end]);
                prop_assert!(failed);
                prop_assert!(whole.starts_with(&samples::texts(&values)));
            }
        }
    }

    #[test]
    fn damaged_chunks_never_panic(
        samples in series(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for chunk in chunks_of(&samples) {
            let mut data = chunk.data.to_vec();
            for (at, byte) in &damage {
                let at = at.index(data.len());
                data[at] = *byte;
            }
            for encoding in ENCODINGS {
                read(encoding, &data);
                // Even what is nonsense can be written again.
                let mut values = Vec::new();
                let _damaged = decode_values(encoding, &data, &mut values);
                chunks_of(&values);
            }
            let _damaged = aggregate::split(&data);
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for encoding in ENCODINGS {
            read(encoding, &bytes);
            let _damaged = rewrite_plain(encoding, &bytes);
        }
    }
}

#[test]
fn few_bytes_cannot_ask_for_much_memory() {
    // Four thousand empty spans, and as many histograms as a chunk can declare.
    let histogram = Histogram {
        positive_spans: vec![Span { offset: 0, length: 0 }; 4096],
        ..Histogram::default()
    };
    let mut appender = tsdb_core::chunk::histogram::Appender::<Histogram>::new();
    for at in 0..i64::from(u16::MAX) {
        let _in_place = appender.append(None, at, &histogram);
    }
    let data = appender.to_bytes();
    assert!(data.len() < 64 * 1024);
    let mut values = Vec::new();
    let error = decode_values(Encoding::Histogram, &data, &mut values).unwrap_err().to_string();
    assert!(error.contains("spans and bounds take over"), "{error}");
    assert!(values.len() > 1000 && values.len() < 3000, "{}", values.len());
    assert!(decoded_bytes_max(Encoding::Histogram, &data) < 128 * 1024 * 1024);
}

#[test]
fn a_full_chunk_of_histograms_is_followed_by_another() {
    let histogram = Histogram { count: 1, ..Histogram::default() };
    let mut appender = tsdb_core::chunk::histogram::Appender::<Histogram>::new();
    for at in 0..i64::from(u16::MAX) {
        let _in_place = appender.append(None, at, &histogram);
    }
    let before = appender.to_bytes();
    let appended = appender.append(None, i64::MAX, &histogram);
    let tsdb_core::chunk::histogram::Appended::NewChunk(next) = appended else {
        panic!("{appended:?}");
    };
    assert_eq!(appender.to_bytes(), before);
    assert_eq!((next.sample_count(), next.last_timestamp_ms()), (1, i64::MAX));
    assert_eq!(next.reset_header(), tsdb_core::chunk::histogram::ResetHeader::NotReset);
}

#[test]
fn spans_and_buckets_that_do_not_match_keep_what_they_have_in_common() {
    let mut histogram = Histogram {
        positive_spans: vec![Span { offset: 1, length: 2 }, Span { offset: 1, length: u32::MAX }],
        positive_deltas: vec![5, 0, 1],
        negative_deltas: vec![7],
        ..Histogram::default()
    };
    let sample =
        |it: &Histogram| Timed { timestamp_ms: 1, value: Value::Histogram(Box::new(it.clone())) };
    let chunks = chunks_of(&[sample(&histogram)]);
    let (values, failed) = read(chunks[0].encoding, &chunks[0].data);
    assert!(!failed);
    histogram.positive_spans[1].length = 1;
    histogram.negative_deltas.clear();
    assert_eq!(samples::texts(&values), samples::texts(&[sample(&histogram)]));
}
