//! What a querier reads in downsampled blocks, as Thanos' querier reads it.

use model::{Columns, FloatHistogram};
use serde_json::Value;
use testkit::golden;
use tsdb_core::block::ChunkData;
use tsdb_core::chunk::DecodeError;
use tsdb_core::downsample::read::{self, Aggregate};

use crate::downsample_golden::series;
use crate::samples;

#[test]
fn views_are_those_of_thanos() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let (mut views, mut errors) = (0, 0);
    for name in ["thanos-5m", "thanos-1h", "thanos-12d-5m", "thanos-12d-1h"] {
        let file = format!("golden/blocks/{name}.expected.jsonl.gz");
        let lines = golden::read_jsonl_gz(&shared.join(file));
        let all = series(&shared, name);
        assert_eq!(all.len(), lines.len() - 1);
        for ((labels, chunks), line) in all.iter().zip(&lines[1..]) {
            let want = &line["views"];
            let place = format!("{name} {labels}");
            let counter = counter(chunks);
            let totals = floats(&counter);
            assert_eq!(totals, golden_floats(&want["counter_resets_applied"]), "{place}");
            assert_eq!(
                counter.histograms.is_empty(),
                want["average_histograms"].is_null() && want["average_error"].is_null(),
                "{place}"
            );
            views += usize::from(!totals.is_empty());
            let mut averages = Columns::default();
            let mut defective = Vec::new();
            let read = chunks.iter().try_for_each(|chunk| {
                let start = averages.histograms.len();
                read::average(chunk, &mut Columns::default(), &mut averages)?;
                defective.extend(as_thanos_reads(&averages.histograms[start..], chunk));
                Ok::<_, DecodeError>(())
            });
            assert_eq!(read.is_err(), want["average_error"].is_string(), "{place} {read:?}");
            if read.is_err() {
                errors += 1;
                continue;
            }
            assert_eq!(floats(&averages), golden_floats(&want["average"]), "{place}");
            averages.timestamps_ms.clear();
            averages.values.clear();
            averages.histograms = defective;
            let histograms = samples::texts(&samples::of(&want["average_histograms"]));
            assert_eq!(samples::column_texts(&averages), histograms, "{place}");
        }
    }
    assert!(views > 80, "{views} views");
    assert_eq!(errors, 4);
}

/// The averages of a chunk with the buckets that Thanos reads: it divides the buckets of a sum
/// where they lie, in its decoder, which then XORs the next ones with what the division left.
fn as_thanos_reads(averages: &[FloatHistogram], chunk: &ChunkData) -> Vec<FloatHistogram> {
    let (mut counts, mut sums) = (Columns::default(), Columns::default());
    read::aggregate(chunk, Aggregate::Count, &mut counts).unwrap();
    read::aggregate(chunk, Aggregate::Sum, &mut sums).unwrap();
    let mut out: Vec<FloatHistogram> = Vec::new();
    for (index, average) in averages.iter().enumerate() {
        let mut wrong = average.clone();
        if let Some(before) = out.last() {
            let sides: [fn(&mut FloatHistogram) -> &mut Vec<f64>; 2] =
                [|it| &mut it.positive_buckets, |it| &mut it.negative_buckets];
            for side in sides {
                let left = side(&mut before.clone()).clone();
                let (earlier, now) =
                    (&mut sums.histograms[index - 1].clone(), &mut sums.histograms[index].clone());
                let changes = side(earlier).iter().zip(side(now).iter());
                let changes = changes.map(|(a, b)| a.to_bits() ^ b.to_bits());
                let read = left.iter().zip(changes).map(|(left, change)| {
                    f64::from_bits(left.to_bits() ^ change) / counts.values[index]
                });
                *side(&mut wrong) = read.collect();
            }
        }
        out.push(wrong);
    }
    out
}

fn counter(chunks: &[ChunkData]) -> Columns {
    let mut out = Columns::default();
    read::counter(chunks, &mut Columns::default(), &mut out).unwrap();
    out
}

/// Times and bits; every NaN has the bits of one.
fn floats(columns: &Columns) -> Vec<(i64, u64)> {
    let values = columns.values.iter().map(|it| bits(*it));
    columns.timestamps_ms.iter().copied().zip(values).collect()
}

fn golden_floats(list: &Value) -> Vec<(i64, u64)> {
    let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let value = |it: &Value| bits(golden::bits(it[1].as_str().unwrap()));
    all.iter().map(|it| (it[0].as_i64().unwrap(), value(it))).collect()
}

fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}
