//! The number of threads never shows in an answer.

use std::sync::Arc;

use model::{Columns, Labels, TimeRange};
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
    Memory::new(series.collect())
}

fn bits(query: &str, workers: Arc<dyn Workers>, storage: &Memory) -> Vec<(Labels, i64, u64)> {
    let expr = parse(query, &Options::stable()).unwrap();
    let mut session = session(storage.clone());
    session.workers = workers;
    let range = TimeRange::new(0, 3_600_000);
    let answer = Engine::default().range(&expr, range, 60_000, &session).unwrap();
    let QueryResult::Matrix(matrix) = answer.result else { panic!("not a matrix") };
    let points = matrix.iter().flat_map(|series| {
        series.points().map(|(at, value)| (series.labels.clone(), at, value.to_bits()))
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
    ] {
        let alone = bits(query, Arc::new(SingleThread), &storage);
        assert!(!alone.is_empty());
        for width in [2, 3, 16] {
            assert_eq!(bits(query, Arc::new(Threads(width)), &storage), alone, "{query}");
        }
    }
}
