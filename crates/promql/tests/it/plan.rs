//! What a query asks of the storage.

use std::sync::Arc;

use model::{Budget, Columns, Labels, Matcher, TimeRange};
use parking_lot::Mutex;
use promql::ast::Expr;
use promql::parser::{Options, parse};
use promql::storage::{SelectHints, SeriesStream, Storage, StorageError};
use promql::{Cancel, Engine, Session, SingleThread};

/// A select that a query made.
#[derive(Debug)]
struct Selection {
    matchers: Vec<Matcher>,
    range: TimeRange,
    hints: SelectHints,
}

/// A storage without series that remembers what it was asked.
#[derive(Debug, Default)]
struct Recorder {
    selections: Mutex<Vec<Selection>>,
}

impl Storage for Recorder {
    fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        hints: &SelectHints,
        _: &Budget,
    ) -> Result<Box<dyn SeriesStream>, StorageError> {
        let matchers = matchers.to_vec();
        self.selections.lock().push(Selection { matchers, range, hints: hints.clone() });
        Ok(Box::new(NoSeries))
    }
}

struct NoSeries;

impl SeriesStream for NoSeries {
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, StorageError> {
        columns.clear();
        Ok(None)
    }
}

/// The selects of a query, in the order in which they are opened; a step of 0 is an instant query
/// at the start of the range.
fn opened(expr: &Expr, range: TimeRange, step_ms: i64) -> Vec<Selection> {
    let recorder = Arc::new(Recorder::default());
    let session = Session {
        storage: Arc::<Recorder>::clone(&recorder),
        workers: Arc::new(SingleThread),
        budget: Budget::unlimited(),
        cancel: Cancel::new(),
    };
    if step_ms == 0 {
        Engine::default().instant(expr, range.start_ms, &session).unwrap();
    } else {
        Engine::default().range(expr, range, step_ms, &session).unwrap();
    }
    std::mem::take(&mut recorder.selections.lock())
}

fn selections(query: &str, range: TimeRange, step_ms: i64) -> Vec<(String, i64, i64)> {
    let expr = parse(query, &Options::stable()).unwrap();
    let selections = opened(&expr, range, step_ms);
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
    let selections = opened(&expr, range, 15_000);
    let hints = &selections[0].hints;
    assert_eq!((hints.function, hints.range_ms, hints.step_ms), (Some("rate"), 60_000, 15_000));
    let hints = &selections[1].hints;
    assert_eq!((hints.function, hints.range_ms, hints.by), (Some("avg"), 0, false));
    assert_eq!(hints.grouping, ["x"]);
}
