//! Everything that is valid PromQL is evaluated, histograms among floats too.

use model::{Columns, FloatHistogram, Labels, STALE_NAN_BITS, TimeRange};
use promql::functions::FUNCTIONS;
use promql::parser::{Options, parse};
use promql::{Engine, Error, QueryResult};

use crate::memory::{Memory, session};

fn instant(query: &str, storage: &Memory) -> Result<QueryResult, Error> {
    let expr = parse(query, &Options::all()).unwrap_or_else(|error| panic!("{query}: {error}"));
    let answer = Engine::default().instant(&expr, 600_000, &session(storage.clone()))?;
    Ok(answer.result)
}

fn floats() -> Memory {
    let series = ["a", "b"].map(|x| {
        let mut columns = Columns::default();
        (0..20).for_each(|it| columns.push_float(it * 30_000, 1.0));
        (Labels::from_sorted([("__name__", "m"), ("x", x)]), columns)
    });
    Memory::new(series.to_vec())
}

fn histogram(sum: f64, at_ms: i64) -> Memory {
    let columns = Columns {
        histogram_timestamps_ms: vec![at_ms],
        histograms: vec![FloatHistogram { sum, ..FloatHistogram::default() }],
        ..Columns::default()
    };
    Memory::new(vec![(Labels::from_sorted([("__name__", "h")]), columns)])
}

#[test]
fn every_function_is_evaluated() {
    use promql::ast::ValueType;
    for function in FUNCTIONS {
        let given = |value_type: &ValueType| match value_type {
            ValueType::Scalar => "0.5",
            ValueType::Vector => "m",
            ValueType::Matrix => "m[5m]",
            ValueType::String => "\"x\"",
        };
        let args: Vec<&str> = match function.name {
            "info" => vec!["m"],
            _ => function.arg_types.iter().map(given).collect(),
        };
        let query = format!("{}({})", function.name, args.join(", "));
        let answer = instant(&query, &floats());
        assert!(answer.is_ok(), "{query}: {answer:?}");
    }
}

#[test]
fn histograms_stand_where_they_are_and_nowhere_else() {
    let met = histogram(1.0, 590_000);
    for query in ["h", "sum(h)", "h * 2", "last_over_time(h[5m])", "label_join(h, \"x\", \"\")"] {
        match instant(query, &met) {
            Ok(QueryResult::Vector(samples)) => assert!(samples[0].histogram.is_some(), "{query}"),
            other => panic!("{query}: {other:?}"),
        }
    }
    for query in ["count(h)", "histogram_sum(h)", "timestamp(h)", "count_over_time(h[5m])"] {
        match instant(query, &met) {
            Ok(QueryResult::Vector(samples)) => assert!(samples[0].histogram.is_none(), "{query}"),
            other => panic!("{query}: {other:?}"),
        }
    }
    match instant("h[5m]", &met) {
        Ok(QueryResult::Matrix(series)) => {
            assert_eq!((series[0].points().count(), series[0].histograms().count()), (0, 1));
        }
        other => panic!("{other:?}"),
    }
    let before = histogram(1.0, 10_000);
    let stale = histogram(f64::from_bits(STALE_NAN_BITS), 590_000);
    for storage in [before, stale, floats()] {
        for query in ["h", "rate(h[5m])", "sum(h)", "histogram_quantile(0.9, h)", "abs(h)"] {
            match instant(query, &storage) {
                Ok(QueryResult::Vector(samples)) => assert!(samples.is_empty(), "{query}"),
                other => panic!("{query}: {other:?}"),
            }
        }
    }
}

#[test]
fn an_old_histogram_does_not_hide_a_new_float() {
    let mut columns = Columns {
        histogram_timestamps_ms: vec![500_000],
        histograms: vec![FloatHistogram::default()],
        ..Columns::default()
    };
    columns.push_float(590_000, 7.0);
    let storage = Memory::new(vec![(Labels::from_sorted([("__name__", "m")]), columns)]);
    match instant("m", &storage) {
        Ok(QueryResult::Vector(samples)) => assert_eq!(samples[0].value, 7.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_range_query_wants_numbers() {
    for query in ["\"text\"", "m[5m]", "m[5m:1m]"] {
        let expr = parse(query, &Options::all()).unwrap();
        let range = TimeRange::new(0, 60_000);
        let answer = Engine::default().range(&expr, range, 1000, &session(floats()));
        assert!(matches!(answer, Err(Error::BadQuery(_))), "{query}");
    }
}

#[test]
fn the_deepest_tree_fits_the_stack_of_a_thread() {
    let nested = |open: &str, close: &str, height: usize| {
        format!("{}m{}", open.repeat(height), close.repeat(height))
    };
    let queries = [
        nested("abs(", ")", 240),
        nested("-", "", 240),
        nested("sum by (x) (", ")", 240),
        nested("(", ")", 240),
        nested("label_replace(", r#", "z", "$1", "x", "(.*)")"#, 240),
        format!("m{}", " or m".repeat(240)),
        format!("m{}", " * m".repeat(240)),
        nested("max_over_time(", "[5m:1m])", 60),
    ];
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let evaluated = thread.spawn(move || {
        for query in queries {
            let answer = instant(&query, &floats());
            assert!(answer.is_ok(), "{:.40}: {answer:?}", query);
        }
    });
    evaluated.unwrap().join().unwrap();
}
