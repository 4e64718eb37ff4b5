//! Queries that mean the same in Prometheus 2.42 and 3.14, and how two answers are compared.
//!
//! The range selectors of 3.0 are open to the left, so no sample may lie on the left edge of a
//! window: windows are whole seconds long as the scrape interval is, and times of evaluation lie
//! between scrapes. Rates are taken only of series that begin before every window.

use std::net::SocketAddr;

use testkit::query_api::{Rows, instant, range};

use crate::cluster::ADDED_LABELS;

/// Queries whose answers must be equal to the last bit.
const EXACT: &[&str] = &[
    "up",
    "go_goroutines",
    "process_resident_memory_bytes / 1024 / 1024",
    "{job=\"prometheus\",__name__=\"prometheus_build_info\"}",
    "{__name__=~\"go_gc.*\"}",
    "{__name__=~\"process_.+\",__name__!=\"process_start_time_seconds\"}",
    "prometheus_http_requests_total{handler=~\"/metrics|/-/ready\",code!=\"500\"}",
    "prometheus_tsdb_head_series offset 5s",
    "go_goroutines offset -3s",
    "go_goroutines @ start()",
    "go_goroutines @ end() - go_goroutines @ start()",
    "prometheus_engine_query_duration_seconds",
    "min_over_time(go_goroutines[20s])",
    "max_over_time(process_resident_memory_bytes[20s])",
    "count_over_time(scrape_samples_scraped[30s])",
    "last_over_time(scrape_duration_seconds[10s])",
    "present_over_time(up[10s])",
    "quantile_over_time(0.5, go_goroutines[20s])",
    "changes(go_goroutines[30s])",
    "resets(go_memstats_heap_alloc_bytes[30s])",
    "absent(no_such_metric{job=\"x\"})",
    "absent_over_time(no_such_metric[10s])",
    "sum by (job) (up)",
    "count by (__name__) ({__name__=~\"prometheus_tsdb_.*\"})",
    "count without (instance) (go_info)",
    "group by (job) (go_goroutines)",
    "min({__name__=~\"go_memstats_.*_bytes\"})",
    "max without (instance, job) (go_memstats_sys_bytes)",
    "topk(3, {__name__=~\"go_memstats_.*_bytes\"})",
    "bottomk(2, {__name__=~\"go_memstats_.*_sys_bytes\"})",
    "count_values(\"value\", up)",
    "go_memstats_alloc_bytes / go_memstats_sys_bytes",
    "go_memstats_alloc_bytes - on (instance) group_left () process_resident_memory_bytes",
    "prometheus_http_requests_total{handler=\"/metrics\"} * ignoring (code, handler) group_left up",
    "go_goroutines > 10",
    "go_goroutines > bool 1000",
    "up == 1 and on () go_goroutines > 0",
    "no_such_metric or up",
    "up unless on (job) no_such_metric",
    "go_goroutines % 7 + 2 ^ 3",
    "-go_goroutines",
    "label_replace(up, \"host\", \"$1\", \"instance\", \"(.*):.*\")",
    "label_join(up, \"both\", \"-\", \"job\", \"instance\")",
    "sort_desc(go_memstats_alloc_bytes)",
    "time()",
    "vector(1) + minute()",
    "day_of_month(process_start_time_seconds)",
    "timestamp(up)",
    "abs(-go_goroutines)",
    "ceil(process_cpu_seconds_total)",
    "floor(process_cpu_seconds_total * 10) / 10",
    "round(process_cpu_seconds_total, 0.5)",
    "clamp(go_goroutines, 5, 30)",
    "sgn(up - 2)",
    "sqrt(go_goroutines)",
    "scalar(go_goroutines) * 2",
];

/// Queries whose sums may be added up in another order or with another compensation.
const NEAR: &[&str] = &[
    "sum(rate(process_cpu_seconds_total[20s]))",
    "rate(go_memstats_mallocs_total[20s])",
    "increase(prometheus_tsdb_head_samples_appended_total[30s])",
    "irate(go_memstats_mallocs_total[10s])",
    "delta(go_memstats_heap_inuse_bytes[15s])",
    "idelta(go_goroutines[10s])",
    "deriv(process_resident_memory_bytes[20s])",
    "predict_linear(go_memstats_heap_objects[20s], 60)",
    "avg_over_time(go_goroutines[10s] offset 10s)",
    "sum_over_time(scrape_duration_seconds[20s])",
    "stddev_over_time(go_memstats_heap_alloc_bytes[20s])",
    "stdvar_over_time(go_goroutines[20s])",
    "sum by (handler) (rate(prometheus_http_requests_total{handler=\"/metrics\"}[20s]))",
    "avg({__name__=~\"go_memstats_.*_bytes\"})",
    "quantile(0.9, {__name__=~\"go_memstats_.*_bytes\"})",
    "stddev({__name__=~\"go_memstats_.*_bytes\"})",
    "histogram_quantile(0.9, rate(\
     prometheus_http_request_duration_seconds_bucket{handler=\"/metrics\"}[20s]))",
    "histogram_quantile(0.5, sum by (le) (\
     prometheus_http_response_size_bytes_bucket{handler=\"/metrics\"}))",
    "ln(go_goroutines) + log2(go_goroutines) + log10(go_goroutines) + exp(up)",
    "sum(go_memstats_alloc_bytes) / sum(go_memstats_sys_bytes)",
];

/// Queries that also look at the whole seconds of the clock.
const SUBQUERIES: &[&str] = &[
    "max_over_time(rate(process_cpu_seconds_total[10s])[20s:5s])",
    "avg_over_time((go_goroutines * 2)[15s:3s])",
    "count_over_time(up[20s:2s])",
];

/// The relative difference that another order of summation may make.
const TOLERANCE: f64 = 1e-9;

/// When queries are evaluated: in the middle between two scrapes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// Whether the scrapes keep clear of whole seconds.
    clear_of_seconds: bool,
}

impl Window {
    /// The times between the scrapes of a second's distance at `first_ms` and `last_ms`, with
    /// `lead_ms` left out at the start for windows to look back.
    pub(crate) fn between(first_ms: i64, last_ms: i64, lead_ms: i64) -> Window {
        let phase = last_ms.rem_euclid(1000);
        let shift = if (phase + 500).rem_euclid(1000) == 0 { 400 } else { 500 };
        let start_ms = first_ms + lead_ms + shift;
        assert!(start_ms < last_ms, "scrapes from {first_ms} to {last_ms} are too few");
        Window { start_ms, end_ms: last_ms + shift - 1000, clear_of_seconds: phase != 0 }
    }
}

/// Asks both the same and compares; gives the number of samples compared.
pub(crate) fn compare_all(prometheus: SocketAddr, ours: SocketAddr, window: Window) -> usize {
    const STEP_MS: i64 = 5000;
    let exact = EXACT.iter().map(|it| (*it, false));
    let near = NEAR.iter().map(|it| (*it, true));
    let subqueries = SUBQUERIES.iter().map(|it| (*it, true));
    let subqueries = subqueries.filter(|_| window.clear_of_seconds);
    let mut samples = 0;
    let mut failures = Vec::new();
    for (query, near) in exact.chain(near).chain(subqueries) {
        let ask = |at: SocketAddr, time_ms: Option<i64>| match time_ms {
            Some(time_ms) => instant(at, query, time_ms),
            None => range(at, query, (window.start_ms, window.end_ms), STEP_MS),
        };
        let middle_ms = window.start_ms + (window.end_ms - window.start_ms) / 2000 * 1000;
        for time_ms in [Some(window.start_ms), Some(middle_ms), Some(window.end_ms), None] {
            let expected = ask(prometheus, time_ms).unwrap();
            assert!(expected.samples() > 0, "{query} finds nothing in Prometheus");
            samples += expected.samples();
            let answer = ask(ours, time_ms).map(|rows| rows.without(ADDED_LABELS));
            let difference = match answer {
                Ok(rows) if rows.warnings.iter().all(|it| is_known(it)) => {
                    difference(&expected, &rows, near)
                }
                Ok(rows) => Some(format!("warnings: {:?}", rows.warnings)),
                Err(error) => Some(error),
            };
            if let Some(difference) = difference {
                failures.push(format!("{query} at {time_ms:?}: {difference}"));
            }
        }
    }
    let count = failures.len();
    failures.truncate(20);
    assert!(count == 0, "{count} answers differ:\n{}", failures.join("\n"));
    samples
}

/// What Prometheus 2.42 does not say yet of the queries above.
fn is_known(warning: &str) -> bool {
    warning.contains("sort is ineffective for range queries")
}

/// What is not the same in two answers.
pub(crate) fn difference(expected: &Rows, got: &Rows, near: bool) -> Option<String> {
    if expected.result_type != got.result_type {
        return Some(format!("{} instead of {}", got.result_type, expected.result_type));
    }
    if let Some(extra) = got.series.keys().find(|it| !expected.series.contains_key(*it)) {
        return Some(format!("too many: {extra:?}"));
    }
    for (labels, points) in &expected.series {
        let Some(got_points) = got.series.get(labels) else {
            return Some(format!("missing: {labels:?}"));
        };
        let same_point = |(want, have): (&(i64, String), &(i64, String))| {
            want.0 == have.0 && (want.1 == have.1 || (near && is_near(&want.1, &have.1)))
        };
        let same =
            points.len() == got_points.len() && points.iter().zip(got_points).all(same_point);
        if !same {
            return Some(format!("{labels:?}\n  wanted {points:?}\n  got    {got_points:?}"));
        }
    }
    None
}

fn is_near(want: &str, have: &str) -> bool {
    let (Ok(want), Ok(have)) = (want.parse::<f64>(), have.parse::<f64>()) else { return false };
    let scale = want.abs().max(have.abs());
    want == have || (want - have).abs() <= scale * TOLERANCE
}
