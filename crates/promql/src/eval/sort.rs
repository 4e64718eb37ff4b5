//! `sort` and `sort_desc`.

use std::cmp::Ordering;
use std::sync::Arc;

use model::Labels;

use crate::ast::{Expr, Span};
use crate::error::Error;
use crate::eval::mapped::Mapped;
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
            let distinct = input.distinct_without_name;
            return Ok(Stream::new(Mapped { input: input.rows, change: |it| it }, distinct));
        }
        let distinct = input.distinct_without_name;
        let context = Arc::clone(self.context);
        let rows = Blocking::new(move || {
            let mut all = collect(&context, input.rows)?;
            // A histogram has no place in an order of values.
            all.rows.retain(|row| row.histograms.is_empty());
            all.rows.sort_by(|a, b| compare(a.values[0], b.values[0], descending));
            Ok(Held::charged(all.rows, all.reservation))
        });
        Ok(Stream::new(rows, distinct))
    }
}

impl<'a> Evaluator<'a> {
    /// Sorts an instant vector by the values of labels, numbers in them by their size. Over more
    /// than one step there is no order to give, which is remarked on.
    pub(crate) fn sorted_by_label(
        &self,
        vector: &'a Expr,
        (labels, descending): (&'a [Expr], bool),
        (span, grid): (Span, Grid),
    ) -> Result<Stream, Error> {
        let names = labels.iter().map(|label| match label.without_parens() {
            Expr::String(text) => Ok(text.value.to_str_lossy().into_owned()),
            _ => Err(Error::execution("sort_by_label() needs names of labels")),
        });
        let names: Vec<String> = names.collect::<Result<_, _>>()?;
        let input = self.vector(vector, grid)?;
        if grid.steps > 1 {
            self.context.notes.sort_in_range_query(span);
            return Ok(input);
        }
        let distinct = input.distinct_without_name;
        let context = Arc::clone(self.context);
        let rows = Blocking::new(move || {
            let mut all = collect(&context, input.rows)?;
            all.rows.sort_by(|a, b| {
                let order = by_labels(&a.labels, &b.labels, &names);
                if descending { order.reverse() } else { order }
            });
            Ok(Held::charged(all.rows, all.reservation))
        });
        Ok(Stream::new(rows, distinct))
    }
}

/// The order by these labels, then by all.
fn by_labels(a: &Labels, b: &Labels, names: &[String]) -> Ordering {
    let value = |labels: &Labels, name: &str| labels.get(name).unwrap_or_default().to_owned();
    let orders = names.iter().map(|name| natural(&value(a, name), &value(b, name)));
    orders.fold(Ordering::Equal, Ordering::then).then_with(|| a.cmp(b))
}

/// The order of texts in which runs of digits are numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut rest_a, mut rest_b) = (a, b);
    while !rest_a.is_empty() && !rest_b.is_empty() {
        let (chunk_a, after_a) = take_chunk(rest_a);
        let (chunk_b, after_b) = take_chunk(rest_b);
        let order = match (chunk_a.parse::<i64>(), chunk_b.parse::<i64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => chunk_a.cmp(chunk_b),
        };
        if order.is_ne() {
            return order;
        }
        (rest_a, rest_b) = (after_a, after_b);
    }
    // The shorter one first; texts that differ in zeros before a number by their bytes.
    rest_a.len().cmp(&rest_b.len()).then_with(|| a.cmp(b))
}

/// The run of digits or of others that a text begins with, and the rest.
fn take_chunk(text: &str) -> (&str, &str) {
    let is_digit = text.starts_with(|it: char| it.is_ascii_digit());
    let end = text.find(|it: char| it.is_ascii_digit() != is_digit).unwrap_or(text.len());
    text.split_at(end)
}

/// The order of values with NaN after everything else, in both directions.
fn compare(a: f64, b: f64, descending: bool) -> Ordering {
    match a.partial_cmp(&b) {
        Some(order) if descending => order.reverse(),
        Some(order) => order,
        None => a.is_nan().cmp(&b.is_nan()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_labels_are_numbers() {
        let mut values = ["v10", "v2", "v2a", "", "10", "9", "v"];
        values.sort_by(|a, b| natural(a, b));
        assert_eq!(values, ["", "9", "10", "v", "v2", "v2a", "v10"]);
    }
}
