//! Types: every operand, argument and selector is what stands there may be.
//!
//! Walks the tree in Prometheus' order and stops at what it would name first.

use crate::ast::{
    Aggregate, Binary, Call, Cardinality, Expr, Span, Subquery, Unary, ValueType, VectorMatching,
    VectorSelector,
};
use crate::functions::Variadic;
use crate::parser::Problem;
use crate::quote::quoted;

type Checked = Result<(), Problem>;

/// Checks a tree. Takes away the matching of operations that are not between vectors, and says
/// many-to-many for those of sets.
pub(crate) fn check(expr: &mut Expr, text: &[u8]) -> Checked {
    match expr {
        Expr::Number(_) | Expr::String(_) => Ok(()),
        Expr::Vector(it) => check_selector(it, true),
        Expr::Matrix(it) => check_selector(&it.selector, true),
        Expr::Subquery(it) => check_subquery(it, text),
        Expr::Call(it) => check_call(it, text),
        Expr::Aggregate(it) => check_aggregate(it, text),
        Expr::Binary(it) => check_binary(it, text),
        Expr::Unary(it) => check_unary(it, text),
        Expr::Paren(it) => check(&mut it.expr, text),
    }
}

fn problem<T>(span: Span, message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { span, message: message.into() })
}

fn check_subquery(subquery: &mut Subquery, text: &[u8]) -> Checked {
    check(&mut subquery.expr, text)?;
    let got = subquery.expr.value_type();
    if got != ValueType::Vector {
        let got = got.as_str();
        let message = format!("subquery is only allowed on instant vector, got {got} instead");
        return problem(subquery.span, message);
    }
    Ok(())
}

fn check_unary(unary: &mut Unary, text: &[u8]) -> Checked {
    check(&mut unary.expr, text)?;
    let got = unary.expr.value_type();
    if !matches!(got, ValueType::Scalar | ValueType::Vector) {
        let got = got.documented();
        let message = format!(
            "unary expression only allowed on expressions of type scalar or instant vector, got \
             \"{got}\""
        );
        return problem(unary.span, message);
    }
    Ok(())
}

fn check_aggregate(aggregate: &mut Aggregate, text: &[u8]) -> Checked {
    expect(&mut aggregate.expr, ValueType::Vector, "aggregation expression", text)?;
    match (aggregate.op.parameter(), &mut aggregate.param) {
        (Some(wanted), Some(param)) => expect(param, wanted, "aggregation parameter", text),
        _ => Ok(()),
    }
}

fn expect(expr: &mut Expr, wanted: ValueType, place: &str, text: &[u8]) -> Checked {
    check(expr, text)?;
    let got = expr.value_type();
    if got != wanted {
        let (wanted, got) = (wanted.documented(), got.documented());
        let message = format!("expected type {wanted} in {place}, got {got}");
        return problem(expr.span(), message);
    }
    Ok(())
}

fn check_call(call: &mut Call, text: &[u8]) -> Checked {
    let function = call.function;
    let (name, got) = (function.name, call.args.len());
    let (args_min, args_max) = (function.args_min(), function.args_max());
    let count = match function.variadic {
        Variadic::Exact if got != args_min => Some(args_min.to_string()),
        Variadic::Exact => None,
        _ if got < args_min => Some(format!("at least {args_min}")),
        _ => args_max.filter(|max| got > *max).map(|max| format!("at most {max}")),
    };
    if let Some(count) = count {
        let message = format!("expected {count} argument(s) in call to \"{name}\", got {got}");
        return problem(call.span, message);
    }
    let selects_info = name == "info";
    if selects_info && let Some(arg) = call.args.get(1) {
        check_info_selector(arg, call.span)?;
    }
    for (index, arg) in call.args.iter_mut().enumerate() {
        match arg {
            // What info() joins with may be told apart by conditions that everything fulfils.
            Expr::Vector(it) if selects_info && index == 1 => check_selector(it, false)?,
            _ => check(arg, text)?,
        }
        let (wanted, got) = (function.arg_type(index), arg.value_type());
        if let Some(wanted) = wanted.filter(|it| *it != got) {
            let (wanted, got) = (wanted.documented(), got.documented());
            let message =
                format!("expected type {wanted} in call to function \"{name}\", got {got}");
            return problem(arg.span(), message);
        }
    }
    Ok(())
}

fn check_info_selector(arg: &Expr, call: Span) -> Checked {
    if arg.value_type() != ValueType::Vector {
        let got = arg.value_type().documented();
        let message =
            format!("expected type instant vector in call to function \"info\", got {got}");
        return problem(call, message);
    }
    match arg {
        Expr::Vector(it) if it.name.is_none() => Ok(()),
        Expr::Vector(it) => {
            problem(it.span, "expected label selectors only, got vector selector instead")
        }
        _ => problem(arg.span(), "expected label selectors only"),
    }
}

fn check_selector(selector: &VectorSelector, must_select: bool) -> Checked {
    if let Some(name) = &selector.name {
        let given = selector.matchers.len().saturating_sub(1);
        let mut others = selector.matchers.iter().take(given);
        if let Some(other) = others.find(|it| it.name == "__name__") {
            let (name, other) = (quoted(name.as_bytes()), quoted(other.value.as_bytes()));
            let message = format!("metric name must not be set twice: {name} or {other}");
            return problem(selector.span, message);
        }
        return Ok(());
    }
    if must_select && selector.matchers.iter().all(|it| it.matches_empty) {
        let message = "vector selector must contain at least one non-empty matcher";
        return problem(selector.span, message);
    }
    Ok(())
}

fn check_binary(binary: &mut Binary, text: &[u8]) -> Checked {
    check(&mut binary.lhs, text)?;
    check(&mut binary.rhs, text)?;
    let (lhs, rhs) = (binary.lhs.value_type(), binary.rhs.value_type());
    if binary.return_bool && !binary.op.is_comparison() {
        let message = "bool modifier can only be used on comparison operators";
        return problem(operator_span(binary, text), message);
    }
    let scalars = [lhs, rhs] == [ValueType::Scalar; 2];
    if binary.op.is_comparison() && !binary.return_bool && scalars {
        let message = "comparisons between scalars must use BOOL modifier";
        return problem(operator_span(binary, text), message);
    }
    let Some(mut matching) = binary.matching.take() else { return Ok(()) };
    if binary.op.is_set() && matching.cardinality == Cardinality::OneToOne {
        matching.cardinality = Cardinality::ManyToMany;
    }
    if matching.on
        && let Some(label) = matching.labels.iter().find(|it| matching.include.contains(it))
    {
        let label = quoted(label.as_bytes());
        let message = format!("label {label} must not occur in ON and GROUP clause at once");
        return problem(operator_span(binary, text), message);
    }
    for side in [&binary.lhs, &binary.rhs] {
        if !matches!(side.value_type(), ValueType::Scalar | ValueType::Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return problem(side.span(), message);
        }
    }
    if [lhs, rhs] == [ValueType::Vector; 2] {
        check_matching(binary, &matching)?;
        binary.matching = Some(matching);
        return Ok(());
    }
    if !matching.labels.is_empty() {
        return problem(binary.span, "vector matching only allowed between instant vectors");
    }
    if matching.fill_left.is_some() || matching.fill_right.is_some() {
        let message = "filling in missing series only allowed between instant vectors";
        return problem(binary.span, message);
    }
    if binary.op.is_set() {
        let op = binary.op.as_str();
        let message = format!("set operator \"{op}\" not allowed in binary scalar expression");
        return problem(binary.span, message);
    }
    Ok(())
}

/// Checks the matching of two vectors.
fn check_matching(binary: &Binary, matching: &VectorMatching) -> Checked {
    if !binary.op.is_set() {
        return Ok(());
    }
    if matching.cardinality != Cardinality::ManyToMany {
        let op = binary.op.as_str();
        return problem(binary.span, format!("no grouping allowed for \"{op}\" operation"));
    }
    if matching.fill_left.is_some() || matching.fill_right.is_some() {
        return problem(binary.span, "filling in missing series not allowed for set operators");
    }
    Ok(())
}

/// From the operator to its right side, spaces left out.
fn operator_span(binary: &Binary, text: &[u8]) -> Span {
    let mut span = Span::new(binary.lhs.span().end, binary.rhs.span().start);
    let is_space = |at: u32| {
        let byte = usize::try_from(at).ok().and_then(|at| text.get(at));
        byte.is_some_and(|it| matches!(it, b' ' | b'\t' | b'\n' | b'\r'))
    };
    while span.start < span.end && is_space(span.start) {
        span.start += 1;
    }
    while span.end > span.start && is_space(span.end - 1) {
        span.end -= 1;
    }
    span
}
