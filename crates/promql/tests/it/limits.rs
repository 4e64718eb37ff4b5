//! Queries that are stopped, and queries that want too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use model::histogram::Span as HistogramSpan;
use model::{Budget, Columns, FloatHistogram, Labels, Matcher, TimeRange};
use promql::parser::{Options as Syntax, parse};
use promql::storage::{SelectHints, SeriesStream, Storage, StorageError};
use promql::{Answer, Cancel, Engine, Error, Options, QueryResult, Session, SingleThread};

use crate::memory::{Memory, session};
use crate::workers::Threads;

const HOUR_MS: i64 = 3_600_000;

/// Series without end, one sample a second each.
#[derive(Debug)]
struct Endless;

impl Storage for Endless {
    fn select(
        &self,
        _: &[Matcher],
        range: TimeRange,
        _: &SelectHints,
        _: &Budget,
    ) -> Result<Box<dyn SeriesStream>, StorageError> {
        Ok(Box::new(EndlessStream { range, number: 0 }))
    }
}

struct EndlessStream {
    range: TimeRange,
    number: u64,
}

impl SeriesStream for EndlessStream {
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, StorageError> {
        columns.clear();
        for at in (self.range.start_ms..=self.range.end_ms).step_by(1000) {
            columns.push_float(at, 1.0);
        }
        self.number += 1;
        let number = format!("{:020}", self.number);
        Ok(Some(Labels::from_sorted([("__name__", "m_total"), ("n", &*number)])))
    }
}

fn endless(cancel: Cancel, budget: Budget) -> Session {
    Session { storage: Arc::new(Endless), workers: Arc::new(SingleThread), budget, cancel }
}

fn hour(engine: &Engine, query: &str, session: &Session) -> Result<Answer, Error> {
    let expr = parse(query, &Syntax::stable()).unwrap();
    engine.range(&expr, TimeRange::new(0, HOUR_MS), 1000, session)
}

#[test]
fn a_canceled_query_ends_soon() {
    // What folds, what joins, and what spends its time inside one series.
    for query in [
        "sum(rate(m_total[5m]))",
        "sum(m_total / m_total)",
        "count(sum_over_time(m_total[1h]))",
        "topk(3, m_total)",
        "quantile(0.5, m_total)",
    ] {
        let cancel = Cancel::new();
        let other = cancel.clone();
        std::thread::scope(|scope| {
            let query = scope.spawn(|| {
                let session = endless(cancel, Budget::unlimited());
                hour(&Engine::default(), query, &session)
            });
            std::thread::sleep(Duration::from_millis(50));
            other.cancel();
            // Far more than what is promised: the machine does other things too.
            let slept = (0..200).find(|_| {
                std::thread::sleep(Duration::from_millis(5));
                query.is_finished()
            });
            assert!(slept.is_some(), "it runs on for a second");
            assert!(matches!(query.join().unwrap(), Err(Error::Canceled)));
        });
    }
}

#[test]
fn a_deadline_is_kept_by_the_clock_that_came_in() {
    let now_ms = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&now_ms);
    // Time passes by being looked at.
    let tick = move || clock.fetch_add(1, Ordering::Relaxed);
    let cancel = Cancel::with_deadline(100, Arc::new(tick));
    let session = endless(cancel, Budget::unlimited());
    assert!(matches!(hour(&Engine::default(), "sum(m_total)", &session), Err(Error::Timeout)));
    assert_eq!(now_ms.load(Ordering::Relaxed), 102);
}

#[test]
fn memory_is_bounded_and_given_back() {
    let budget = Budget::unlimited().child("query", 4 << 20);
    for query in [
        "m_total",
        "sum by (n) (m_total)",
        "m_total * on (n) m_total",
        "sort(m_total)",
        "m_total or m_total",
        "quantile(0.5, m_total)",
        "{__name__=~\"m.*\"} * 2",
        "topk(100000, m_total)",
    ] {
        let session = endless(Cancel::new(), budget.clone());
        let answer = hour(&Engine::default(), query, &session);
        assert!(matches!(answer, Err(Error::Budget(_))), "{query}: {answer:?}");
        assert_eq!(budget.used_bytes(), 0, "{query}");
    }
}

/// So many series, each of which must be charged by the time that the next one is pulled.
#[derive(Debug)]
struct Counted {
    series: u64,
    is_checked: bool,
}

struct CountedStream {
    inner: EndlessStream,
    series: u64,
    checked: Option<Budget>,
    pulled_bytes: usize,
}

impl Storage for Counted {
    fn select(
        &self,
        _: &[Matcher],
        range: TimeRange,
        _: &SelectHints,
        budget: &Budget,
    ) -> Result<Box<dyn SeriesStream>, StorageError> {
        Ok(Box::new(CountedStream {
            inner: EndlessStream { range, number: 0 },
            series: self.series,
            checked: self.is_checked.then(|| budget.clone()),
            pulled_bytes: 0,
        }))
    }
}

impl SeriesStream for CountedStream {
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, StorageError> {
        if let Some(budget) = &self.checked {
            assert!(budget.used_bytes() >= self.pulled_bytes, "{} series", self.inner.number);
        }
        if self.inner.number == self.series {
            columns.clear();
            return Ok(None);
        }
        let labels = self.inner.next(columns)?;
        self.pulled_bytes += columns.capacity_bytes();
        Ok(labels)
    }
}

fn counted(series: u64, is_checked: bool) -> Session {
    Session {
        storage: Arc::new(Counted { series, is_checked }),
        workers: Arc::new(Threads(8)),
        budget: Budget::unlimited().child("query", 1 << 30),
        cancel: Cancel::new(),
    }
}

#[test]
fn series_of_a_batch_are_charged_one_by_one_and_a_batch_is_bounded_in_bytes() {
    // All are of one batch: nothing is evaluated before the last one was pulled.
    let session = counted(100, true);
    hour(&Engine::default(), "sum(max_over_time(m_total[1m]))", &session).unwrap();
    assert_eq!(session.budget.used_bytes(), 0);
    // Batches of 128 series would take 128 MiB each.
    let session = counted(500, false);
    let expr = parse("count(max_over_time(m_total[14h]))", &Syntax::stable()).unwrap();
    let answer = Engine::default().instant(&expr, 14 * HOUR_MS, &session).unwrap();
    assert_eq!(answer.stats.samples, 500 * 14 * 3600);
    assert!(answer.stats.peak_bytes < 64 << 20, "{:?}", answer.stats);
}

#[test]
fn series_of_few_steps_are_charged_as_the_rows_that_come_of_them() {
    let series = (0..2000).map(|number| {
        let mut columns = Columns::default();
        columns.push_float(0, 1.0);
        let number = format!("{number:04}");
        (Labels::from_sorted([("__name__", "m"), ("n", &*number)]), columns)
    });
    let mut session = session(Memory::new(series.collect()));
    session.budget = Budget::unlimited().child("query", 8 << 20);
    // Each is at one step of 3,601: few entries of heaps, and rows of 58 MB.
    let expr = parse("count(topk(100000, m))", &Syntax::stable()).unwrap();
    let range = TimeRange::new(0, 300 * HOUR_MS);
    let answer = Engine::default().range(&expr, range, 300_000, &session);
    assert!(matches!(answer, Err(Error::Budget(_))), "{answer:?}");
    assert_eq!(session.budget.used_bytes(), 0);
}

#[test]
fn a_key_of_many_series_costs_as_much_as_it_has_series() {
    let series = (0..3000).map(|number| {
        let mut columns = Columns::default();
        columns.push_float(0, 1.0);
        let number = format!("{number:04}");
        (Labels::from_sorted([("__name__", "m"), ("n", &*number)]), columns)
    });
    let mut session = session(Memory::new(series.collect()));
    // Every pair of them would be 4.5 million conflicts.
    session.budget = Budget::unlimited().child("query", 8 << 20);
    let expr = parse("m * on () m", &Syntax::stable()).unwrap();
    let error = Engine::default().instant(&expr, 0, &session).unwrap_err().to_string();
    let pair = r#"[{__name__="m", n="0000"}, {__name__="m", n="0001"}]"#;
    assert!(error.contains("found duplicate series") && error.contains(pair), "{error}");
}

#[test]
fn a_subquery_of_too_many_steps_is_refused_before_anything_is_allocated() {
    let session = endless(Cancel::new(), Budget::unlimited().child("query", 64 << 20));
    let query = "sum(max_over_time(m_total[100y:1ms]))";
    let answer = hour(&Engine::default(), query, &session);
    assert!(matches!(answer, Err(Error::TooManySteps { limit: 50_000_000 })), "{answer:?}");
    let query = "sum(max_over_time(m_total[10h:1ms]))";
    let answer = hour(&Engine::default(), query, &session);
    assert!(matches!(answer, Err(Error::Budget(_))), "{answer:?}");
}

#[test]
fn samples_are_counted_and_bounded() {
    let engine = Engine::new(Options { samples_max: 10_000, ..Options::default() });
    let answer = hour(&engine, "sum(m_total)", &endless(Cancel::new(), Budget::unlimited()));
    let error = answer.unwrap_err();
    assert!(error.to_string().contains("too many samples"), "{error}");
    assert!(!error.is_transient());

    let mut columns = Columns::default();
    (0..10).for_each(|it| columns.push_float(it * 1000, 1.0));
    let storage = Memory::new(vec![(Labels::from_sorted([("__name__", "m")]), columns)]);
    let expr = parse("m[5s]", &Syntax::stable()).unwrap();
    let answer = Engine::default().instant(&expr, 9000, &session(storage)).unwrap();
    assert_eq!(answer.stats.samples, 5);
    assert!(answer.stats.peak_bytes > 0);
    let QueryResult::Matrix(matrix) = answer.result else { panic!("not a matrix") };
    assert_eq!(
        matrix[0].points().map(|(at, _)| at).collect::<Vec<_>>(),
        [5000, 6000, 7000, 8000, 9000]
    );
}

#[test]
fn an_aggregation_forgets_its_input() {
    let mut series = Vec::new();
    for number in 0..2000 {
        let number = format!("{number:04}");
        let mut columns = Columns::default();
        (0..60).for_each(|it| columns.push_float(it * 60_000, 1.0));
        let pairs = [("__name__", "m_total"), ("n", &*number)];
        series.push((Labels::from_sorted(pairs), columns));
    }
    let mut session = session(Memory::new(series));
    // 2,000 rows of 3,601 steps would be 65 MB.
    session.budget = Budget::unlimited().child("query", 1 << 20);
    let answer = hour(&Engine::default(), "sum(increase(m_total[5m])) / 2", &session).unwrap();
    assert_eq!(answer.stats.samples, 120_000);
    assert!(answer.stats.peak_bytes < 400_000, "{:?}", answer.stats);
    drop(answer);
    session.budget = Budget::unlimited().child("query", 1 << 20);
    hour(&Engine::default(), "topk(1, m_total * (time() % 7))", &session).unwrap();
    assert_eq!(session.budget.used_bytes(), 0);
}

/// Few histograms of many buckets, a minute apart.
fn few_large_histograms() -> Memory {
    let mut columns = Columns::default();
    for at in 0..8_u32 {
        columns.histogram_timestamps_ms.push(i64::from(at) * 60_000);
        columns.histograms.push(FloatHistogram {
            schema: 8,
            count: f64::from(at) * 10_000.0,
            sum: f64::from(at),
            positive_spans: vec![HistogramSpan { offset: 0, length: 10_000 }],
            positive_buckets: vec![f64::from(at); 10_000],
            ..FloatHistogram::default()
        });
    }
    Memory::new(vec![(Labels::from_sorted([("__name__", "h_total")]), columns)])
}

#[test]
fn histograms_are_charged_as_they_are_made_whatever_was_read() {
    // 0.7 MB of samples, and a histogram of 80 kB at each of 541 steps: 43 MB. What comes of them
    // is small, so nothing but their making can be refused.
    let mut session = session(few_large_histograms());
    for query in [
        "count(rate(h_total[4m]))",
        "count(last_over_time(h_total[5m]))",
        "count(sum_over_time(h_total[8m]))",
        "count(h_total * time())",
        "count(-(h_total * time()))",
        "count(h_total + h_total)",
        "count(sum(h_total))",
        "count(avg by (a) (h_total or h_total))",
        "histogram_quantile(0.5, rate(h_total[4m]) * 2)",
        "sum(count_over_time((h_total @ 0)[9m:1s]))",
    ] {
        session.budget = Budget::unlimited().child("query", 12 << 20);
        let expr = parse(query, &Syntax::stable()).unwrap();
        let answer = Engine::default().range(&expr, TimeRange::new(0, 540_000), 1000, &session);
        assert!(matches!(answer, Err(Error::Budget(_))), "{query}");
        assert_eq!(session.budget.used_bytes(), 0, "{query}");
    }
}

#[test]
fn steps_that_share_a_histogram_are_charged_for_it_once() {
    let mut session = session(few_large_histograms());
    for query in ["h_total", "h_total * 2", "-h_total", "histogram_count(h_total * 2)"] {
        session.budget = Budget::unlimited().child("query", 6 << 20);
        let expr = parse(query, &Syntax::stable()).unwrap();
        let range = TimeRange::new(0, 540_000);
        let answer = Engine::default().range(&expr, range, 1000, &session).unwrap();
        drop(answer);
        assert_eq!(session.budget.used_bytes(), 0, "{query}");
    }
}

#[test]
fn native_histograms_answer_as_they_pass() {
    let series = (0..64).map(|number| {
        let mut columns = Columns::default();
        columns.histogram_timestamps_ms.push(0);
        columns.histograms.push(FloatHistogram {
            schema: 8,
            count: 10_000.0,
            positive_spans: vec![HistogramSpan { offset: 0, length: 10_000 }],
            positive_buckets: vec![1.0; 10_000],
            ..FloatHistogram::default()
        });
        let number = format!("{number:02}");
        (Labels::from_sorted([("__name__", "h"), ("n", &*number)]), columns)
    });
    let mut session = session(Memory::new(series.collect()));
    // All of them would be 5 MB.
    session.budget = Budget::unlimited().child("query", 1 << 20);
    for query in ["histogram_quantile(0.9, h)", "histogram_fraction(0, 1, h)"] {
        let expr = parse(query, &Syntax::stable()).unwrap();
        let answer = Engine::default().range(&expr, TimeRange::new(0, 10_000), 1000, &session);
        let QueryResult::Matrix(matrix) = answer.unwrap().result else { panic!("not a matrix") };
        assert_eq!(matrix.len(), 64, "{query}");
        assert_eq!(matrix[0].points().count(), 11, "{query}");
    }
}

#[test]
fn info_looks_series_up_by_key_and_charges_the_rows_it_makes() {
    let mut series = Vec::new();
    for number in 0..5000 {
        let number = format!("{number:04}");
        for (name, version) in [("m", None), ("target_info", Some(("version", "1")))] {
            let mut columns = Columns::default();
            columns.push_float(0, 1.0);
            let labels = [("__name__", name), ("instance", &*number), ("job", "j")];
            let labels = labels.into_iter().chain(version);
            series.push((Labels::from_sorted(labels), columns));
        }
    }
    let mut session = session(Memory::new(series));
    let expr = parse("count by (version) (info(m))", &Syntax::all()).unwrap();
    // A walk over all keys for each series would build 25 million label sets.
    let answer = Engine::default().instant(&expr, 0, &session).unwrap();
    let peak_bytes = answer.stats.peak_bytes;
    let QueryResult::Vector(vector) = answer.result else { panic!("not a vector") };
    assert_eq!(vector.len(), 1);
    session.budget = Budget::unlimited().child("query", peak_bytes * 3 / 4);
    let answer = Engine::default().instant(&expr, 0, &session);
    assert!(matches!(answer, Err(Error::Budget(_))), "{answer:?}");
    assert_eq!(session.budget.used_bytes(), 0);
}
