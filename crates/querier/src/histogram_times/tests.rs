//! Times of chunks that a real Prometheus wrote, and of damaged ones.

use model::{Budget, TimeRange};
use tsdb_core::block::Reader;
use tsdb_core::chunk::Encoding;
use tsdb_core::fs::disk::Disk;

use super::*;

/// A chunk as it lies in the block.
struct Stored {
    counts: Counts,
    data: Vec<u8>,
    /// First and last time.
    ends: [i64; 2],
}

/// The histogram chunks of the developers' block.
fn chunks() -> Option<Vec<Stored>> {
    let shared = testkit::golden::shared_or_skip()?;
    let block = shared.join("golden/http/bucket/01M83R73PPBQDHCEV30Z2175QW");
    let reader = Reader::open(&Disk, &block, &Budget::unlimited()).unwrap();
    let mut all = Vec::new();
    for series in reader.all(TimeRange::ALL, &Budget::unlimited()).unwrap() {
        for chunk in reader.chunks(&series.unwrap()).unwrap() {
            let counts = match chunk.encoding {
                Encoding::Histogram => Counts::Integer,
                Encoding::FloatHistogram => Counts::Float,
                _ => continue,
            };
            let ends = [chunk.min_time_ms, chunk.max_time_ms];
            all.push(Stored { counts, data: chunk.data.to_vec(), ends });
        }
    }
    Some(all)
}

fn times(counts: Counts, data: &[u8]) -> (Vec<i64>, Result<(), String>) {
    let mut times = Vec::new();
    let result = read(counts, data, |time_ms, _| times.push(time_ms));
    (times, result)
}

#[test]
fn chunks_of_prometheus_have_the_samples_that_they_declare() {
    let Some(chunks) = chunks() else { return };
    let mut kinds = [0, 0];
    for Stored { counts, data, ends } in &chunks {
        let (times, result) = times(*counts, data);
        assert_eq!(result, Ok(()), "{data:?}");
        assert_eq!(times.len(), usize::from(u16::from_be_bytes([data[0], data[1]])));
        assert_eq!([times[0], times[times.len() - 1]], *ends);
        kinds[usize::from(*counts == Counts::Float)] += 1;
    }
    assert!(kinds.iter().all(|it| *it > 0), "{kinds:?}");
}

#[test]
fn damage_costs_only_what_comes_after_it() {
    let Some(chunks) = chunks() else { return };
    for Stored { counts, data, .. } in chunks.iter().take(20) {
        let whole = times(*counts, data).0;
        for length in (0..data.len()).step_by(7) {
            let (times, _) = times(*counts, &data[..length]);
            assert_eq!(times, whole[..times.len()]);
        }
        // Whatever a broken byte says, the end is met in time.
        for at in (2..data.len()).step_by(5) {
            let mut broken = data.clone();
            broken[at] ^= 0xa5;
            let (times, _) = times(*counts, &broken);
            assert!(times.len() <= whole.len() && times.is_sorted());
        }
    }
}
