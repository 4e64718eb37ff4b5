//! `histogram_quantile` and `histogram_fraction` of classic histograms.

use std::sync::Arc;

use model::{Labels, Reservation};

use crate::ast::{Expr, Span};
use crate::buckets::{Bucket, ForcedMonotonicity, fraction, quantile};
use crate::error::Error;
use crate::eval::keys::{KeyTable, Subset};
use crate::eval::merge::without_names;
use crate::eval::{Blocking, Context, Evaluator, Held, Rows, Stream};
use crate::row::{Grid, Row};

/// The label that holds the upper bound of a bucket.
const BUCKET: &str = "le";

impl<'a> Evaluator<'a> {
    pub(crate) fn histogram_quantile(
        &self,
        q: &'a Expr,
        vector: &'a Expr,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let quantiles = self.scalar(q, grid)?;
        for value in quantiles.values().iter().filter(|it| !(0.0..=1.0).contains(*it)) {
            self.context.notes.invalid_quantile(*value, q.span());
        }
        let evaluate = move |step, buckets: &mut Vec<Bucket>| quantile(quantiles.at(step), buckets);
        self.of_buckets(vector, evaluate, grid)
    }

    pub(crate) fn histogram_fraction(
        &self,
        (lower, upper): (&'a Expr, &'a Expr),
        vector: &'a Expr,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let (lower, upper) = (self.scalar(lower, grid)?, self.scalar(upper, grid)?);
        let evaluate = move |step, buckets: &mut Vec<Bucket>| {
            (fraction(lower.at(step), upper.at(step), buckets), None)
        };
        self.of_buckets(vector, evaluate, grid)
    }

    /// Puts the buckets of every histogram together and evaluates them step by step.
    fn of_buckets<F>(&self, vector: &'a Expr, evaluate: F, grid: Grid) -> Result<Stream, Error>
    where
        F: Fn(usize, &mut Vec<Bucket>) -> (f64, Option<ForcedMonotonicity>) + Send + 'static,
    {
        let input = self.vector(vector, grid)?;
        let distinct = input.distinct_without_name;
        let context = Arc::clone(self.context);
        let span = vector.span();
        let rows = Blocking::new(move || {
            let histograms = Histograms::read(&context, input.rows, span)?;
            let mut rows = Vec::with_capacity(histograms.series.len());
            let mut buckets = Vec::new();
            for series in &histograms.series {
                let mut row = Row::default();
                row.reset(series.labels.clone(), grid.steps);
                for step in 0..grid.steps {
                    series.buckets_at(step, &mut buckets);
                    if buckets.is_empty() {
                        continue;
                    }
                    context.cancel.check()?;
                    let (value, forced) = evaluate(step, &mut buckets);
                    if let Some(forced) = forced {
                        context.notes.forced_monotonicity(forced, grid.time_ms(step), span);
                    }
                    row.put(step, value);
                }
                rows.push(row);
            }
            Ok(Held::charged(rows, histograms.reservation))
        });
        without_names(self.context, Stream::new(rows, distinct))
    }
}

/// Classic histograms by their labels without `le`.
struct Histograms {
    series: Vec<Histogram>,
    reservation: Reservation,
}

struct Histogram {
    labels: Labels,
    buckets: Vec<(f64, Row)>,
}

impl Histogram {
    fn buckets_at(&self, step: usize, buckets: &mut Vec<Bucket>) {
        buckets.clear();
        let present = self.buckets.iter().filter(|(_, row)| row.present.get(step));
        buckets
            .extend(present.map(|(upper, row)| Bucket { upper: *upper, count: row.values[step] }));
    }
}

impl Histograms {
    fn read(context: &Context, mut input: Box<dyn Rows>, span: Span) -> Result<Histograms, Error> {
        let mut read = Histograms { series: Vec::new(), reservation: context.reservation()? };
        // The metric name counts here, unlike in groups and joins.
        let mut keys = KeyTable::new(Subset::all_but(BUCKET));
        let mut row = Row::default();
        while input.next(&mut row)? {
            context.cancel.check()?;
            let bound = row.labels.get(BUCKET).unwrap_or_default();
            let Some(upper) = parse_bound(bound) else {
                context.notes.bad_bucket_label(bound, span);
                continue;
            };
            let (id, is_new) = keys.find_or_add(&row.labels);
            // Twice: the result has a row as long.
            read.reservation.grow(2 * row.size_bytes() + keys.last_key_bytes())?;
            if is_new {
                let labels = keys.subset().labels(&row.labels);
                read.series.push(Histogram { labels, buckets: Vec::new() });
            }
            read.series[id].buckets.push((upper, std::mem::take(&mut row)));
        }
        Ok(read)
    }
}

/// The number in a `le` label, by Go's rules where they differ from Rust's: too large a number is
/// none.
fn parse_bound(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let named = text.bytes().any(|it| it.eq_ignore_ascii_case(&b'n'));
    (value.is_finite() || named).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_numbers() {
        assert_eq!(parse_bound("+Inf"), Some(f64::INFINITY));
        assert_eq!(parse_bound("0.5"), Some(0.5));
        assert_eq!(parse_bound("1e400"), None);
        assert_eq!(parse_bound(""), None);
        assert_eq!(parse_bound("x"), None);
    }
}
