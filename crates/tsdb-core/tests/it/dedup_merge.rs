//! Deduplication of chunks and blocks: what is copied, what is chosen, what is counted.

use bytes::Bytes;
use model::Histogram;
use model::histogram::Span;
use testkit::golden;
use tsdb_core::block::ChunkData;
use tsdb_core::chunk::xor::Appender;
use tsdb_core::chunk::{
    Encoding, SeriesToChunks, Timed, Value, aggregate, counted_samples, decode_values,
};
use tsdb_core::compact::{Balance, Merge, Options, RunChunk};
use tsdb_core::dedup::penalty::{LOST, PENALTY, PenaltyMerge};
use tsdb_core::dedup::phases::{PhasesMerge, REPLICA};

use crate::compaction::{compact_by, samples, sources};
use crate::downsample_golden::series;
use crate::replicas::{Dice, START_MS, Scraper, Target};

fn merged(merge: &mut dyn Merge, chunks: &[(usize, ChunkData)]) -> (Vec<ChunkData>, Balance) {
    let mut run: Vec<RunChunk> = Vec::new();
    run.extend(chunks.iter().map(|it| RunChunk { source: it.0, chunk: it.1.clone() }));
    run.sort_by_key(|it| (it.chunk.min_time_ms, it.chunk.max_time_ms, it.source));
    let count = |it: &ChunkData| counted_samples(it.encoding, &it.data).unwrap();
    let mut out = Vec::new();
    let in_samples = run.iter().map(|it| count(&it.chunk)).sum();
    let mut balance = Balance { in_samples, ..Balance::default() };
    merge.merge(&run, &mut out, &mut balance).unwrap();
    balance.out_samples = out.iter().map(count).sum();
    balance.check().unwrap();
    (out, balance)
}

fn float_chunks(offset_ms: i64, until_ms: i64) -> Vec<ChunkData> {
    let scraper = Scraper::new(15_000, offset_ms);
    let replica = scraper.scrape(&Target::default(), until_ms, &mut Dice::new(1));
    let (mut chunks, mut encoder) = (Vec::new(), SeriesToChunks::new());
    for (time, value) in replica.timestamps_ms.iter().zip(&replica.values) {
        encoder.push_float(*time, *value);
    }
    encoder.finish(&mut chunks);
    chunks
}

fn of(source: usize, chunks: &[ChunkData]) -> Vec<(usize, ChunkData)> {
    chunks.iter().map(|it| (source, it.clone())).collect()
}

#[test]
fn chunks_of_the_followed_replica_are_copied() {
    let until = 3 * 3_600_000;
    let (one, other) = (float_chunks(4_000, until), float_chunks(9_000, until));
    for (a, b) in [(&one, &other), (&other, &one)] {
        let (out, balance) = merged(&mut PhasesMerge::new(), &[of(0, a), of(1, b)].concat());
        assert_eq!(out, one, "the first in the absolute grid, whichever source it comes from");
        assert_eq!(balance.dropped[REPLICA], 720);
    }
}

#[test]
fn nothing_is_decoded_where_nothing_overlaps() {
    let chunks = float_chunks(0, 2 * 3_600_000);
    let broken = |it: &ChunkData| ChunkData { data: Bytes::from_static(&[0, 9]), ..it.clone() };
    let broken: Vec<ChunkData> = chunks.iter().map(broken).collect();
    let (out, _) = merged(&mut PhasesMerge::new(), &of(0, &broken));
    assert_eq!(out, broken);
}

#[test]
fn a_damaged_chunk_is_named() {
    let mut chunks = of(0, &float_chunks(0, 1_800_000));
    let mut other = float_chunks(5_000, 1_800_000);
    other[0].data = other[0].data.slice(..20);
    chunks.extend(of(7, &other));
    let run: Vec<RunChunk> =
        chunks.into_iter().map(|(source, chunk)| RunChunk { source, chunk }).collect();
    for merge in [&mut PhasesMerge::new() as &mut dyn Merge, &mut PenaltyMerge::new()] {
        let error = merge.merge(&run, &mut Vec::new(), &mut Balance::default()).unwrap_err();
        assert_eq!(error.source, 7, "{}", merge.name());
    }
}

fn histogram(count: i64) -> Value {
    Value::Histogram(Box::new(Histogram {
        schema: 1,
        count: u64::try_from(2 * count).unwrap(),
        sum: 0.5,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_deltas: vec![count, 0],
        ..Histogram::default()
    }))
}

#[test]
fn histograms_are_followed_as_floats_are() {
    let chunks = |offset: i64| {
        let (mut chunks, mut encoder) = (Vec::new(), SeriesToChunks::new());
        for at in 0..200 {
            let timestamp_ms = START_MS + offset + 30_000 * at;
            encoder.push(&Timed { timestamp_ms, value: histogram(at) });
        }
        encoder.finish(&mut chunks);
        chunks
    };
    let (one, other) = (chunks(1_000), chunks(12_000));
    let both = [of(0, &other), of(1, &one)].concat();
    let (out, balance) = merged(&mut PhasesMerge::new(), &both);
    assert_eq!(out, other, "the first in the absolute grid");
    assert_eq!(balance.dropped[REPLICA], 200);
}

/// An aggregate chunk whose windows have these counts.
fn aggregates(counts: &[f64], value: f64) -> ChunkData {
    let times: Vec<i64> = (0..).map(|it| START_MS + 300_000 * it).take(counts.len()).collect();
    let encode = |values: &mut dyn FnMut(usize) -> f64, extra: Option<f64>| {
        let mut appender = Appender::new();
        for (at, time) in times.iter().enumerate() {
            assert!(appender.append(*time, values(at)));
        }
        if let Some(value) = extra {
            assert!(appender.append(times[times.len() - 1], value));
        }
        appender.to_bytes()
    };
    let mut total = 0.0;
    let mut counter = |_: usize| {
        total += value;
        total
    };
    let parts = [
        encode(&mut |at| counts[at], None),
        encode(&mut |at| counts[at] * value, None),
        encode(&mut |_| value, None),
        encode(&mut |_| value, None),
        encode(&mut counter, Some(value * counts.len() as f64)),
    ];
    let parts = parts.each_ref().map(|it| Some((Encoding::Xor, it.as_slice())));
    ChunkData {
        encoding: Encoding::Aggregate,
        min_time_ms: times[0],
        max_time_ms: times[times.len() - 1],
        data: Bytes::from(aggregate::join(parts)),
    }
}

#[test]
fn the_fuller_window_is_chosen_with_all_its_aggregates() {
    let one = aggregates(&[20.0, 20.0, 7.0, 7.0, 20.0, 20.0], 1.0);
    let other = aggregates(&[19.0, 19.0, 19.0, 19.0, 19.0, 19.0], 2.0);
    let expected = [
        (20.0, 20.0, 1.0),
        (20.0, 20.0, 1.0),
        (19.0, 38.0, 2.0),
        (19.0, 38.0, 2.0),
        (20.0, 20.0, 1.0),
        (20.0, 20.0, 1.0),
    ];
    for both in [[(0, one.clone()), (1, other.clone())], [(0, other.clone()), (1, one.clone())]] {
        let mut merge = PhasesMerge::new();
        merge.begin(300_000);
        let (out, balance) = merged(&mut merge, &both);
        assert_eq!(balance.dropped[REPLICA], 6);
        let mut got = Vec::new();
        for chunk in &out {
            let parts = aggregate::split(&chunk.data).unwrap();
            let columns = parts.in_order().map(|it| {
                let mut columns = model::Columns::default();
                let data = &chunk.data[it.unwrap().range.clone()];
                tsdb_core::chunk::decode(Encoding::Xor, data, &mut columns).unwrap();
                columns.values
            });
            let rows = columns[0].iter().zip(&columns[1]).zip(&columns[2]);
            got.extend(rows.map(|((count, sum), min)| (*count, *sum, *min)));
        }
        assert_eq!(got, expected);
    }
}

#[test]
fn aggregates_that_the_penalty_loses_are_counted() {
    let both = [aggregates(&[20.0; 250], 1.0), aggregates(&[19.0; 250], 2.0)];
    let (out, balance) =
        merged(&mut PenaltyMerge::new(), &[of(0, &both[..1]), of(1, &both[1..])].concat());
    assert_eq!(out.len(), 3);
    assert_eq!(balance.dropped[PENALTY], 250);
    for (place, name) in (1..).zip(LOST) {
        let mut times: Vec<i64> = Vec::new();
        for chunk in &out {
            times.extend(parts(chunk)[place].iter().flatten().map(|it| it.timestamp_ms));
        }
        times.dedup();
        assert_eq!(balance.lost.get(name), Some(&(250 - times.len() as u64)), "{name}");
        assert_eq!(balance.lost[name], 2, "one at each cut");
    }
    assert!(balance.to_string().ends_with(", 2 times lost penalty: sum"), "{balance}");
}

#[test]
fn chunks_of_another_encoding_are_dropped_and_counted() {
    let chunks = float_chunks(0, 1_800_000);
    let (mut others, mut encoder) = (Vec::new(), SeriesToChunks::new());
    for at in 0..50 {
        encoder.push(&Timed { timestamp_ms: START_MS + 1_000 + 30_000 * at, value: histogram(at) });
    }
    encoder.finish(&mut others);
    let (out, balance) =
        merged(&mut PenaltyMerge::new(), &[of(0, &chunks), of(1, &others)].concat());
    assert_eq!(out, chunks);
    assert_eq!(balance.dropped[PENALTY], 50);
}

/// The samples of each aggregate that a chunk has.
fn parts(chunk: &ChunkData) -> [Option<Vec<Timed>>; 5] {
    let parts = aggregate::split(&chunk.data).unwrap();
    parts.in_order().map(|part| {
        part.map(|part| {
            let mut samples = Vec::new();
            let data = &chunk.data[part.range.clone()];
            decode_values(part.encoding, data, &mut samples).unwrap();
            samples
        })
    })
}

/// The same aggregates of some of the windows, each of which counts one sample more.
fn fuller(chunk: &ChunkData, windows: std::ops::Range<usize>) -> ChunkData {
    let mut parts = parts(chunk);
    for sample in parts[0].iter_mut().flatten() {
        let Value::Float(count) = &mut sample.value else { panic!("a count is a float") };
        *count += 1.0;
    }
    let counts = parts[0].as_ref().unwrap()[windows].to_vec();
    let (first, last) = (counts[0].timestamp_ms, counts[counts.len() - 1].timestamp_ms);
    let encoded = parts.map(|part| {
        let mut encoder = SeriesToChunks::new();
        let inside = |it: &&Timed| (first..=last).contains(&it.timestamp_ms);
        part?.iter().filter(inside).for_each(|it| encoder.push(it));
        let mut chunks = Vec::new();
        encoder.finish(&mut chunks);
        assert_eq!(chunks.len(), 1);
        chunks.pop()
    });
    let data = encoded.each_ref().map(|it| it.as_ref().map(|it| (it.encoding, &*it.data)));
    ChunkData {
        encoding: Encoding::Aggregate,
        min_time_ms: first,
        max_time_ms: last,
        data: Bytes::from(aggregate::join(data)),
    }
}

#[test]
fn aggregates_of_histograms_are_chosen_by_window_under_the_penalty() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let mut tried = 0;
    for (labels, chunks) in series(&shared, "thanos-5m") {
        for chunk in &chunks {
            let split = aggregate::split(&chunk.data).unwrap();
            let is_sum_histogram = |it: &aggregate::Part| it.encoding == Encoding::FloatHistogram;
            if !split.sum.as_ref().is_some_and(is_sum_histogram) {
                continue;
            }
            let all = parts(chunk);
            let count = all[0].as_ref().unwrap().len();
            // Where the zero bucket grew, Thanos wrote counts without sums.
            if count < 6 || all.iter().flatten().any(|it| it.len() != count) {
                continue;
            }
            tried += 1;
            let chosen = count - 4..count - 2;
            let other = fuller(chunk, chosen.clone());
            for both in [[chunk, &other], [&other, chunk]] {
                let both = [(0, both[0].clone()), (1, both[1].clone())];
                let mut merge = PenaltyMerge::new();
                merge.begin(300_000);
                let (out, balance) = merged(&mut merge, &both);
                assert_eq!(balance.dropped[PENALTY], 2, "{labels}");
                for (place, part) in all.iter().enumerate() {
                    let got: Vec<Vec<Timed>> =
                        out.iter().filter_map(|it| parts(it)[place].clone()).collect();
                    let got: Vec<String> = got.iter().flatten().map(shown_value).collect();
                    let mut want = part.clone().unwrap_or_default();
                    if place == 0 {
                        want[chosen.clone()].clone_from_slice(parts(&other)[0].as_ref().unwrap());
                    }
                    let want: Vec<String> = want.iter().map(shown_value).collect();
                    assert_eq!(got, want, "{labels} {place}");
                }
            }
        }
    }
    assert!(tried > 0);
}

/// A sample without what it knows of resets, which depends on where chunks begin.
fn shown_value(sample: &Timed) -> String {
    let mut sample = sample.clone();
    if let Value::FloatHistogram(it) = &mut sample.value {
        it.counter_reset_hint = Default::default();
    }
    shown(&sample)
}

fn shown(sample: &Timed) -> String {
    match &sample.value {
        Value::Float(value) => format!("{} {:016x}", sample.timestamp_ms, value.to_bits()),
        // The hint depends on where chunks begin.
        Value::Histogram(it) => {
            let it = Histogram { counter_reset_hint: Default::default(), ..(**it).clone() };
            format!("{} {it:?}", sample.timestamp_ms)
        }
        Value::FloatHistogram(it) => format!("{} {:?}", sample.timestamp_ms, it),
    }
}

#[test]
fn a_vertical_compaction_is_the_one_of_thanos() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let parents = ["thanos-vertical-in-a", "thanos-vertical-in-b"];
    let inputs = parents.map(|it| samples(&shared.join("golden/blocks").join(it)));
    let want = samples(&shared.join("golden/blocks/thanos-vertical-out-penalty"));
    let home = tempfile::tempdir().unwrap();
    let opened = sources(&shared, &parents);
    let mut merge = PenaltyMerge::new();
    let (report, out) = compact_by(&opened, home.path(), &Options::default(), &mut merge).unwrap();
    report.balance.check().unwrap();
    assert!(report.balance.dropped[PENALTY] > 1_000, "{}", report.balance);
    let got = samples(&out);
    assert_eq!(got.len(), want.len());
    for ((labels, got), (wanted, want)) in got.iter().zip(&want) {
        assert_eq!(labels, wanted);
        let times = |it: &[Timed]| it.iter().map(|it| it.timestamp_ms).collect::<Vec<_>>();
        assert_eq!(times(got), times(want), "{labels:?}");
        let differs: Vec<_> =
            got.iter().zip(want).filter(|(got, want)| shown(got) != shown(want)).collect();
        // At equal timestamps either input may win, in the whole series.
        let of_other = |it: &Timed| {
            inputs.iter().any(|input| {
                let series = input.iter().find(|(of, _)| of == labels);
                series.is_some_and(|(_, all)| all.iter().any(|sample| shown(sample) == shown(it)))
            })
        };
        assert!(differs.iter().all(|(got, _)| of_other(got)), "{labels:?}");
    }
}

#[test]
fn real_replicas_become_one_with_our_rule() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let home = tempfile::tempdir().unwrap();
    let opened = sources(&shared, &["thanos-vertical-in-a", "thanos-vertical-in-b"]);
    let mut merge = PhasesMerge::new();
    let (report, out) = compact_by(&opened, home.path(), &Options::default(), &mut merge).unwrap();
    report.balance.check().unwrap();
    assert!(report.balance.dropped[REPLICA] > 1_000, "{}", report.balance);
    let again = tempfile::tempdir().unwrap();
    let opened = sources(&shared, &["thanos-vertical-in-b", "thanos-vertical-in-a"]);
    let (_, other) = compact_by(&opened, again.path(), &Options::default(), &mut merge).unwrap();
    let text = |path| {
        let all = samples(path).into_iter();
        let line = |(labels, samples): (model::Labels, Vec<Timed>)| {
            format!("{labels:?} {:?}", samples.iter().map(shown).collect::<Vec<_>>())
        };
        all.map(line).collect::<Vec<_>>()
    };
    assert_eq!(text(&out), text(&other), "the order of the sources means nothing");
}
