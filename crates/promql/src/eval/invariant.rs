//! Parts of a query that have the same value at every step are computed once.

use std::sync::Arc;

use crate::ast::Expr;
use crate::error::Error;
use crate::eval::{Rows, Stream};
use crate::row::Row;

/// Functions whose result moves with the step although their arguments do not.
const MOVES_WITH_TIME: [&str; 15] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "end",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
    "year",
];

/// Whether the expression has the same value at every step.
pub(crate) fn is_step_invariant(expr: &Expr) -> bool {
    match expr {
        Expr::Number(_) | Expr::String(_) => true,
        Expr::Vector(selector) => selector.at.is_some(),
        Expr::Matrix(matrix) => matrix.selector.at.is_some(),
        Expr::Subquery(subquery) => subquery.at.is_some(),
        Expr::Paren(paren) => is_step_invariant(&paren.expr),
        Expr::Unary(unary) => is_step_invariant(&unary.expr),
        Expr::Binary(binary) => is_step_invariant(&binary.lhs) && is_step_invariant(&binary.rhs),
        Expr::Aggregate(aggregate) => {
            is_step_invariant(&aggregate.expr)
                && aggregate.param.as_ref().is_none_or(is_step_invariant)
        }
        Expr::Call(call) => {
            // The time of a sample is its own, unlike that of a computed value.
            let of_sample = call.function.name == "timestamp"
                && call.args.iter().all(|it| matches!(it.without_parens(), Expr::Vector(_)));
            let fixed = !MOVES_WITH_TIME.contains(&call.function.name) || of_sample;
            fixed && call.args.iter().all(is_step_invariant)
        }
    }
}

/// Gives every row of one step for `steps` steps.
pub(crate) fn repeat(once: Stream, steps: usize) -> Stream {
    let distinct = once.distinct_without_name;
    Stream::new(Repeat { once: once.rows, steps }, distinct)
}

struct Repeat {
    once: Box<dyn Rows>,
    steps: usize,
}

impl Rows for Repeat {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        if !self.once.next(row)? {
            return Ok(false);
        }
        let value = row.values[0];
        let is_float = row.present.get(0);
        row.values.clear();
        row.values.resize(self.steps, value);
        row.present.clear(self.steps);
        if is_float {
            row.present.fill();
        } else if let Some((_, histogram)) = row.histograms.pop() {
            let steps = 0..self.steps;
            row.histograms.extend(steps.map(|step| (step, Arc::clone(&histogram))));
        }
        Ok(true)
    }
}
