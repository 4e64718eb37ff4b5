//! The number of threads never shows in an answer.

use std::sync::Arc;

use model::histogram::Span;
use model::{Columns, FloatHistogram, Labels, TimeRange};
use promql::parser::{Options, parse};
use promql::{Engine, QueryResult, SingleThread, Workers};

use crate::memory::{Memory, session};
use crate::workers::Threads;

/// Counters with values whose sums depend on the order of addition.
fn storage() -> Memory {
    let mut state = 7_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        f64::from(u32::try_from(state >> 40).unwrap())
    };
    let series = (0..300).map(|number| {
        let mut columns = Columns::default();
        let mut value = 0.0;
        for at in 0..240 {
            value += random() * 1.1e-3;
            columns.push_float(at * 15_000, value);
        }
        let (job, instance) = (format!("job-{}", number % 7), format!("{number:03}"));
        let pairs = [("__name__", "m_total"), ("instance", &*instance), ("job", &*job)];
        (Labels::from_sorted(pairs), columns)
    });
    let mut series: Vec<(Labels, Columns)> = series.collect();
    for number in 0..40_u32 {
        let mut columns = Columns::default();
        let mut total = FloatHistogram {
            zero_threshold: 1e-9,
            positive_spans: vec![Span { offset: 1, length: 3 }],
            positive_buckets: vec![0.0; 3],
            ..FloatHistogram::default()
        };
        for at in 0..240 {
            for place in 0..3 {
                let more = random() * 1.1e-3;
                total.positive_buckets[place] += more;
                total.count += more;
                total.sum += more * 1.7;
            }
            columns.histogram_timestamps_ms.push(at * 15_000);
            columns.histograms.push(total.clone());
        }
        let instance = format!("{number:03}");
        let pairs = [("__name__", "h"), ("instance", &*instance)];
        series.push((Labels::from_sorted(pairs), columns));
    }
    Memory::new(series)
}

fn bits(query: &str, workers: Arc<dyn Workers>, storage: &Memory) -> Vec<(Labels, i64, u64)> {
    let expr = parse(query, &Options::stable()).unwrap();
    let mut session = session(storage.clone());
    session.workers = workers;
    let range = TimeRange::new(0, 3_600_000);
    let answer = Engine::default().range(&expr, range, 60_000, &session).unwrap();
    let QueryResult::Matrix(matrix) = answer.result else { panic!("not a matrix") };
    let points = matrix.iter().flat_map(|series| {
        let floats = series.points().map(|(at, value)| (at, vec![value]));
        let histograms = series.histograms().map(|(at, it)| {
            let buckets = it.positive_buckets.iter().copied();
            (at, [it.count, it.sum].into_iter().chain(buckets).collect())
        });
        let all = floats.chain(histograms).flat_map(|(at, numbers)| {
            numbers.into_iter().map(move |number| (at, number.to_bits()))
        });
        all.map(|(at, bits)| (series.labels.clone(), at, bits)).collect::<Vec<_>>()
    });
    points.collect()
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let storage = storage();
    for query in [
        "sum by (job) (rate(m_total[5m]))",
        "avg(increase(m_total[7m]))",
        "sum(m_total) / count(m_total)",
        "stddev by (job) (deriv(m_total[5m]))",
        "topk(3, avg_over_time(m_total[5m]))",
        "sum(max_over_time(rate(m_total[2m])[10m:30s]))",
        "sum(rate(h[5m]))",
        "avg(h)",
        "histogram_quantile(0.9, sum(increase(h[7m])))",
    ] {
        let alone = bits(query, Arc::new(SingleThread), &storage);
        assert!(!alone.is_empty());
        for width in [2, 3, 16] {
            assert_eq!(bits(query, Arc::new(Threads(width)), &storage), alone, "{query}");
        }
    }
}
