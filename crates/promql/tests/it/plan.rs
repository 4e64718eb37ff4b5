//! What a query asks of the storage.

use model::TimeRange;
use promql::Engine;
use promql::parser::{Options, parse};

fn selections(query: &str, range: TimeRange, step_ms: i64) -> Vec<(String, i64, i64)> {
    let expr = parse(query, &Options::stable()).unwrap();
    let selections = Engine::default().selections(&expr, range, step_ms).unwrap();
    let shown = selections.iter().map(|it| {
        let matchers: Vec<String> = it.matchers.iter().map(ToString::to_string).collect();
        (matchers.join(","), it.range.start_ms, it.range.end_ms)
    });
    shown.collect()
}

#[test]
fn ranges_are_open_on_the_left_and_follow_every_modifier() {
    let at = TimeRange::new(3_600_000, 3_600_000);
    let name = |it: &str| format!("__name__={it:?}");
    assert_eq!(selections("a", at, 0), [(name("a"), 3_300_001, 3_600_000)]);
    assert_eq!(selections("a offset 1m", at, 0), [(name("a"), 3_240_001, 3_540_000)]);
    assert_eq!(selections("rate(a[1m])", at, 0), [(name("a"), 3_540_001, 3_600_000)]);
    assert_eq!(selections("rate(a[1m] @ 100)", at, 0), [(name("a"), 40_001, 100_000)]);
    assert_eq!(
        selections("max_over_time(rate(a[1m])[10m:1m])", at, 0),
        [(name("a"), 3_000_001, 3_600_000)]
    );
    let range = TimeRange::new(3_600_000, 7_200_000);
    assert_eq!(
        selections("a + b", range, 60_000),
        [(name("a"), 3_300_001, 7_200_000), (name("b"), 3_300_001, 7_200_000)]
    );
    assert_eq!(selections("a @ end()", range, 60_000), [(name("a"), 6_900_001, 7_200_000)]);
}

#[test]
fn hints_name_what_is_around() {
    let expr =
        parse("sum by (job) (rate(a[1m])) > avg without (x) (b)", &Options::stable()).unwrap();
    let range = TimeRange::new(0, 60_000);
    let selections = Engine::default().selections(&expr, range, 15_000).unwrap();
    let hints = &selections[0].hints;
    assert_eq!((hints.function, hints.range_ms, hints.step_ms), (Some("rate"), 60_000, 15_000));
    let hints = &selections[1].hints;
    assert_eq!((hints.function, hints.range_ms, hints.by), (Some("avg"), 0, false));
    assert_eq!(hints.grouping, ["x"]);
}
