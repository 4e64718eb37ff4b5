//! Our deduplication beside Thanos' penalty, judged by a simulated truth; the table is in
//! `docs/deduplication.md`.

use std::path::Path;

use model::Columns;
use tsdb_core::dedup::Point;
use tsdb_core::dedup::penalty::Penalty;
use tsdb_core::dedup::phases::Deduplicator;

use crate::replicas::{Dice, START_MS, Scraper, Target, increase, resets};

const HOUR_MS: i64 = 3_600_000;
const LENGTH_MS: i64 = 6 * HOUR_MS;
/// The range of `rate` and the distance of its evaluations.
const RANGE_MS: i64 = 300_000;
const STEP_MS: i64 = 60_000;

struct Scenario {
    name: &'static str,
    scrapers: Vec<Scraper>,
    restarts_ms: Vec<i64>,
}

/// A scraper whose target answers up to 9 s late.
fn late(interval_ms: i64, offset_ms: i64) -> Scraper {
    Scraper { latency_ms: 9_000, ..Scraper::new(interval_ms, offset_ms) }
}

fn scenarios() -> Vec<Scenario> {
    let two = || vec![late(15_000, 2_310), late(15_000, 6_740)];
    let changed = |change: fn(&mut Scraper)| {
        let mut all = two();
        change(&mut all[0]);
        all
    };
    let scenario = |name, scrapers| Scenario { name, scrapers, restarts_ms: Vec::new() };
    let restarts = (1..12).map(|it| START_MS + it * HOUR_MS / 2 + 4_000).collect();
    vec![
        scenario("two replicas", two()),
        scenario("three replicas", [two(), vec![late(15_000, 11_920)]].concat()),
        scenario("intervals of a minute", vec![late(60_000, 2_310), late(60_000, 21_740)]),
        scenario(
            "one is down for a minute and a half",
            changed(|it| it.down_ms = (7_200_000, 7_290_000)),
        ),
        scenario("one dies for an hour", changed(|it| it.down_ms = (7_200_000, 10_800_000))),
        scenario("intervals of 15 s and 30 s", vec![late(15_000, 2_310), late(30_000, 21_740)]),
        scenario("one clock is 7 s ahead", changed(|it| it.ahead_ms = 7_000)),
        scenario("scrapes begin up to 100 ms late", {
            let mut all = two();
            all.iter_mut().for_each(|it| it.jitter_ms = 100);
            all
        }),
        scenario("each loses one scrape of fifty", {
            let mut all = two();
            all.iter_mut().for_each(|it| it.lost_percent = 2);
            all
        }),
        scenario("each loses one scrape of ten", {
            let mut all = two();
            all.iter_mut().for_each(|it| it.lost_percent = 10);
            all
        }),
        Scenario {
            name: "the target restarts every half hour",
            scrapers: two(),
            restarts_ms: restarts,
        },
    ]
}

#[derive(Debug, PartialEq)]
struct Score {
    samples: usize,
    false_resets: usize,
    /// Mean of the relative error of `rate`, in percent.
    error_percent: f64,
}

fn score(scenario: &Scenario, target: &Target, columns: &Columns) -> Score {
    let (times, values) = (&columns.timestamps_ms, &columns.values);
    let (mut sum, mut count) = (0.0, 0.0);
    let mut end = START_MS + RANGE_MS;
    while end <= START_MS + LENGTH_MS {
        let from = times.partition_point(|it| *it <= end - RANGE_MS);
        let to = times.partition_point(|it| *it <= end);
        if to - from > 1 {
            let truth = target.increase(times[from], times[to - 1]);
            sum += (increase(&values[from..to]) - truth).abs() / truth;
            count += 1.0;
        }
        end += STEP_MS;
    }
    let false_resets = resets(values).saturating_sub(scenario.restarts_ms.len());
    Score { samples: times.len(), false_resets, error_percent: 100.0 * sum / count }
}

fn penalty(replicas: &[&Columns], function: &str) -> Columns {
    let mut out = Columns::default();
    for point in Penalty::new(replicas, function).unwrap() {
        if let Point::Float(time, value) = point {
            out.push_float(time, value);
        }
    }
    out
}

fn row(scenario: &Scenario) -> (String, [Score; 3]) {
    let target = Target { restarts_ms: scenario.restarts_ms.clone() };
    let mut dice = Dice::new(4);
    let replicas: Vec<Columns> =
        scenario.scrapers.iter().map(|it| it.scrape(&target, LENGTH_MS, &mut dice)).collect();
    let replicas: Vec<&Columns> = replicas.iter().collect();
    let mut ours = Columns::default();
    Deduplicator::new().deduplicate(&replicas, &mut ours);
    let all = [ours, penalty(&replicas, "rate"), penalty(&replicas, "")];
    let scores = all.each_ref().map(|it| score(scenario, &target, it));
    let cells = scores
        .each_ref()
        .map(|it| format!("{} | {} | {:.2} %", it.samples, it.false_resets, it.error_percent));
    (format!("| {} | {} |", scenario.name, cells.join(" | ")), scores)
}

#[test]
fn counters_never_go_back_and_rates_are_no_worse_than_with_penalty() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/deduplication.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let mut missing = Vec::new();
    for scenario in scenarios() {
        let (row, [ours, adjusted, plain]) = row(&scenario);
        assert_eq!(ours.false_resets, 0, "{row}");
        assert!(ours.error_percent <= adjusted.error_percent * 1.05, "{row}");
        assert!(ours.error_percent <= plain.error_percent * 1.05, "{row}");
        // One replica's worth of samples, some more where windows change from one to another.
        let interval_ms = scenario.scrapers[0].interval_ms;
        let slots = usize::try_from(LENGTH_MS / interval_ms).unwrap();
        assert!(ours.samples <= slots + slots / 50, "{row}");
        if !docs.contains(&row) {
            missing.push(row);
        }
    }
    assert!(missing.is_empty(), "docs/deduplication.md lacks\n{}", missing.join("\n"));
}
