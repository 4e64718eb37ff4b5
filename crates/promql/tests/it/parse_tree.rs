//! The syntax tree against what Prometheus shows of its own.

use model::MatchOp;
use promql::ast::{
    At, DurationArg, DurationExpr, DurationKind, Expr, UnaryOp, ValueType, VectorMatching,
    VectorSelector,
};
use promql::functions::Variadic;
use promql::parser::{Options, parse};
use serde_json::{Value, json};
use testkit::golden;

#[test]
fn golden_trees_are_built_alike() {
    let Some(shared) = golden::shared_or_skip() else { return };
    let lines = golden::read_lines_gz(&shared.join("golden/promql-parse/ast.jsonl.gz"));
    let mut compared = 0;
    for line in &lines {
        // A few trees are deeper than the JSON reader goes.
        let Ok(row) = serde_json::from_str::<Value>(line) else { continue };
        if row["http_code"] == 500 {
            continue;
        }
        let query = row["query"].as_str().unwrap();
        let tree = tree(&parse(query, &Options::all()).unwrap());
        assert_eq!(tree, row["ast"], "{query}");
        compared += 1;
    }
    assert!(compared > 550, "{compared} trees");
}

fn tree(expr: &Expr) -> Value {
    match expr {
        Expr::Number(it) => json!({"type": "numberLiteral", "val": number(it.value)}),
        Expr::String(it) => json!({"type": "stringLiteral", "val": it.value.to_str_lossy()}),
        Expr::Vector(it) => selector("vectorSelector", it),
        Expr::Matrix(it) => {
            let mut node = selector("matrixSelector", &it.selector);
            (node["range"], node["rangeExpr"]) = duration(&it.range);
            node
        }
        Expr::Subquery(it) => {
            let (range, range_expr) = duration(&it.range);
            let (step, step_expr) = duration(&it.step);
            let (offset, offset_expr) = duration(&it.offset);
            let (timestamp, start_or_end) = at(it.at);
            json!({
                "type": "subquery", "expr": tree(&it.expr), "range": range,
                "rangeExpr": range_expr, "step": step, "stepExpr": step_expr, "offset": offset,
                "offsetExpr": offset_expr, "timestamp": timestamp, "startOrEnd": start_or_end,
            })
        }
        Expr::Call(it) => {
            let types: Vec<_> = it.function.arg_types.iter().map(|it| name(*it)).collect();
            let variadic = match it.function.variadic {
                Variadic::Exact => 0,
                Variadic::Optional(count) => i64::try_from(count).unwrap(),
                Variadic::Unbounded => -1,
            };
            let func = json!({
                "name": it.function.name, "argTypes": types, "variadic": variadic,
                "returnType": name(it.function.return_type),
            });
            let args: Vec<_> = it.args.iter().map(tree).collect();
            json!({"type": "call", "func": func, "args": args})
        }
        Expr::Aggregate(it) => json!({
            "type": "aggregation", "op": it.op.as_str(), "expr": tree(&it.expr),
            "param": it.param.as_ref().map(tree), "grouping": it.grouping,
            "without": it.without,
        }),
        Expr::Binary(it) => json!({
            "type": "binaryExpr", "op": it.op.as_str(), "lhs": tree(&it.lhs),
            "rhs": tree(&it.rhs), "matching": it.matching.as_ref().map(matching),
            "bool": it.return_bool,
        }),
        Expr::Unary(it) => {
            json!({"type": "unaryExpr", "op": it.op.as_str(), "expr": tree(&it.expr)})
        }
        Expr::Paren(it) => json!({"type": "parenExpr", "expr": tree(&it.expr)}),
    }
}

fn name(value_type: ValueType) -> &'static str {
    value_type.as_str()
}

fn number(value: f64) -> String {
    model::float::format_f(value)
}

fn selector(kind: &str, selector: &VectorSelector) -> Value {
    let (offset, offset_expr) = duration(&selector.offset);
    let (timestamp, start_or_end) = at(selector.at);
    let matchers = selector.matchers.iter().map(|it| {
        let op = match it.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        json!({"type": op, "name": it.name.to_str_lossy(), "value": it.value.to_str_lossy()})
    });
    json!({
        "type": kind, "name": selector.name.as_ref().map_or("".into(), |it| it.to_str_lossy()),
        "matchers": matchers.collect::<Vec<_>>(), "offset": offset, "offsetExpr": offset_expr,
        "timestamp": timestamp, "startOrEnd": start_or_end, "anchored": selector.anchored,
        "smoothed": selector.smoothed,
    })
}

fn at(at: Option<At>) -> (Value, Value) {
    match at {
        None => (Value::Null, Value::Null),
        Some(At::Time(ms)) => (json!(ms), Value::Null),
        Some(At::Start) => (Value::Null, json!("start")),
        Some(At::End) => (Value::Null, json!("end")),
    }
}

fn duration(argument: &DurationArg) -> (Value, Value) {
    match argument {
        DurationArg::Fixed(ms) => (json!(ms), Value::Null),
        DurationArg::Expr(expr) => (json!(0), duration_expr(expr)),
    }
}

fn duration_expr(expr: &DurationExpr) -> Value {
    let node = |op: &str, lhs: Value, rhs: Value| {
        let mut node = json!({"type": "durationExpr", "op": op, "lhs": lhs, "rhs": rhs});
        node["wrapped"] = json!(expr.wrapped);
        node
    };
    match &expr.kind {
        DurationKind::Number(it) => {
            json!({"type": "numberLiteral", "val": number(it.value), "duration": it.duration})
        }
        DurationKind::Step => node("step", Value::Null, Value::Null),
        DurationKind::Range => node("range", Value::Null, Value::Null),
        DurationKind::Unary(UnaryOp::Plus, it) => node("+", Value::Null, duration_expr(it)),
        DurationKind::Unary(UnaryOp::Minus, it) => node("-", Value::Null, duration_expr(it)),
        DurationKind::Binary(op, lhs, rhs) => {
            node(op.as_str(), duration_expr(lhs), duration_expr(rhs))
        }
    }
}

fn matching(matching: &VectorMatching) -> Value {
    json!({
        "card": matching.cardinality.as_str(), "labels": matching.labels, "on": matching.on,
        "include": matching.include,
        "fillValues": {"lhs": fill(matching.fill_left), "rhs": fill(matching.fill_right)},
    })
}

/// JSON does not tell 2 from 2.0, the reader of these tests does.
fn fill(value: Option<f64>) -> Value {
    let text = value.map(number);
    text.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
}
