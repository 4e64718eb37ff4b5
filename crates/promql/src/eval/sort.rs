//! `sort` and `sort_desc`.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::ast::{Expr, Span};
use crate::error::Error;
use crate::eval::{Blocking, Evaluator, Held, Stream, collect};
use crate::row::Grid;

impl<'a> Evaluator<'a> {
    /// Sorts an instant vector by value, NaN last. Over more than one step there is no order to
    /// give, which is remarked on.
    pub(crate) fn sorted(
        &self,
        vector: &'a Expr,
        descending: bool,
        (span, grid): (Span, Grid),
    ) -> Result<Stream, Error> {
        let input = self.vector(vector, grid)?;
        if grid.steps > 1 {
            self.context.notes.sort_in_range_query(span);
            return Ok(input);
        }
        let distinct = input.distinct_without_name;
        let context = Arc::clone(self.context);
        let rows = Blocking::new(move || {
            let mut all = collect(&context, input.rows)?;
            all.rows.sort_by(|a, b| compare(a.values[0], b.values[0], descending));
            Ok(Held::charged(all.rows, all.reservation))
        });
        Ok(Stream::new(rows, distinct))
    }
}

/// The order of values with NaN after everything else, in both directions.
fn compare(a: f64, b: f64, descending: bool) -> Ordering {
    match a.partial_cmp(&b) {
        Some(order) if descending => order.reverse(),
        Some(order) => order,
        None => a.is_nan().cmp(&b.is_nan()),
    }
}
