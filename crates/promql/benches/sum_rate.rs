//! `sum by (job) (rate(m_total[5m]))` over 20,000 series with 6 hours at 15 s, in samples per
//! second on one thread: what the engine costs when the samples are decoded already.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{Budget, Columns, Labels, Matcher, TimeRange};
use promql::parser::{Options, parse};
use promql::storage::{SelectHints, SeriesStream, Storage, StorageError};
use promql::{Cancel, Engine, Session, SingleThread};

const SERIES: usize = 20_000;
const INTERVAL_MS: i64 = 15_000;
const LENGTH_MS: i64 = 6 * 3_600_000;
const SEED: u64 = 42;

/// Many series that share a few columns: what is copied for each of them stands for decoding.
#[derive(Debug)]
struct Generated {
    labels: Vec<Labels>,
    columns: Arc<Vec<Columns>>,
}

impl Generated {
    fn new() -> Generated {
        let labels = (0..SERIES).map(|number| {
            let (job, instance) =
                (format!("job-{}", number % 50), format!("host-{number:06}:9100"));
            Labels::from_sorted([
                ("__name__", "http_requests_total"),
                ("cluster", "eu-west-1"),
                ("code", "200"),
                ("handler", "/api/v1/query_range"),
                ("instance", &*instance),
                ("job", &*job),
                ("method", "GET"),
            ])
        });
        let mut labels: Vec<Labels> = labels.collect();
        labels.sort();
        Generated { labels, columns: Arc::new((0..64).map(counter).collect()) }
    }
}

/// A counter that is scraped at its own offset, a few ms early or late, with a reset now and then.
fn counter(number: u64) -> Columns {
    let mut state = SEED ^ (number << 32);
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 40
    };
    let mut columns = Columns::default();
    let offset_ms = i64::try_from(random() % 15_000).unwrap_or(0);
    let mut value = 0_u32;
    for at in (0..LENGTH_MS).step_by(15_000) {
        let step = u32::try_from(random() % 100).unwrap_or(0);
        value = if random() % 500 == 0 { 0 } else { value + step };
        let jitter = i64::try_from(random() % 10).unwrap_or(0);
        columns.push_float(at + offset_ms + jitter, f64::from(value));
    }
    columns
}

impl Storage for Generated {
    fn select(
        &self,
        _: &[Matcher],
        _: TimeRange,
        _: &SelectHints,
        _: &Budget,
    ) -> Result<Box<dyn SeriesStream>, StorageError> {
        let labels = self.labels.clone().into_iter();
        Ok(Box::new(Stream { labels, columns: Arc::clone(&self.columns), at: 0 }))
    }
}

struct Stream {
    labels: std::vec::IntoIter<Labels>,
    columns: Arc<Vec<Columns>>,
    at: usize,
}

impl SeriesStream for Stream {
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, StorageError> {
        columns.clear();
        let Some(labels) = self.labels.next() else { return Ok(None) };
        let of_it = &self.columns[self.at % self.columns.len()];
        self.at += 1;
        columns.timestamps_ms.extend_from_slice(&of_it.timestamps_ms);
        columns.values.extend_from_slice(&of_it.values);
        Ok(Some(labels))
    }
}

fn sum_rate(criterion: &mut Criterion) {
    let session = Session {
        storage: Arc::new(Generated::new()),
        workers: Arc::new(SingleThread),
        budget: Budget::unlimited(),
        cancel: Cancel::new(),
    };
    let samples = u64::try_from(LENGTH_MS / INTERVAL_MS).unwrap_or(0) * 20_000;
    let mut group = criterion.benchmark_group("promql");
    group.throughput(Throughput::Elements(samples)).sample_size(10);
    group.measurement_time(Duration::from_secs(8)).warm_up_time(Duration::from_secs(1));
    let range = TimeRange::new(300_000, LENGTH_MS);
    for (query, name) in [
        ("sum by (job) (rate(http_requests_total[5m]))", "sum by (rate)"),
        ("max by (job) (max_over_time(http_requests_total[5m]))", "max by (max_over_time)"),
        ("max by (job) (http_requests_total)", "max by (selector)"),
    ] {
        let Ok(expr) = parse(query, &Options::stable()) else { continue };
        for step_ms in [60_000, 15_000] {
            group.bench_function(format!("{name}, step {} s", step_ms / 1000), |bencher| {
                bencher.iter(|| {
                    let answer = Engine::default().range(&expr, range, step_ms, &session);
                    black_box(answer.is_ok())
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, sum_rate);
criterion_main!(benches);
