//! Functions over range vectors: one series in, one row out.

use std::sync::Arc;

use crate::ast::{Call, Expr, Span};
use crate::cancel::Pace;
use crate::error::Error;
use crate::eval::batch::{Batches, Kernel, Work};
use crate::eval::merge::{Unique, drop_name};
use crate::eval::scalar::Scalars;
use crate::eval::select::{Around, has_one_name, histogram_met};
use crate::eval::source::{Computed, Series};
use crate::eval::{Context, Evaluator, Rows, Stream, duration_ms};
use crate::kernel::{RangeFunction, Windows, drop_stale, meets_histogram, range_function};
use crate::row::{Grid, Row};

impl<'a> Evaluator<'a> {
    /// A function over a range vector.
    pub(crate) fn range_call(
        &self,
        function: RangeFunction,
        call: &'a Call,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let around = Around { function: Some(call.function.name), ..Around::default() };
        let below = self.below(around);
        let mut scalars = Scalars::Same(f64::NAN);
        for arg in &call.args {
            if arg.value_type() == crate::ast::ValueType::Scalar {
                scalars = below.scalar(arg, grid)?;
            }
        }
        let source = below.range_source(call, grid)?;
        let plan = Plan { function, windows: source.windows, scalars };
        let rows = RangeCall {
            batches: Batches::new(self.context, plan, source.series, grid.steps),
            unique: (!source.one_name && !function.keeps_name())
                .then(|| Unique::new(self.context))
                .transpose()?,
            span: span_of(call),
            context: Arc::clone(self.context),
        };
        Ok(Stream::new(rows, !function.keeps_name() || source.one_name))
    }

    /// The series of the range vector among the arguments.
    fn range_source(&self, call: &'a Call, grid: Grid) -> Result<Source, Error> {
        for arg in &call.args {
            match arg.without_parens() {
                Expr::Matrix(matrix) => {
                    let range_ms = duration_ms(&matrix.range)?;
                    let windows = self.windows(&matrix.selector, range_ms, grid)?;
                    let series = Box::new(self.select(&matrix.selector, &windows, true)?);
                    return Ok(Source {
                        series,
                        windows,
                        one_name: has_one_name(&matrix.selector),
                    });
                }
                Expr::Subquery(subquery) => {
                    let (windows, inner) = self.subquery_grids(subquery, grid)?;
                    let stream = self.vector(&subquery.expr, inner)?;
                    let one_name = stream.distinct_without_name;
                    let series = Box::new(Computed::new(stream.rows, inner));
                    return Ok(Source { series, windows, one_name });
                }
                _ => {}
            }
        }
        let name = call.function.name;
        Err(Error::execution(format!("{name}() needs a range vector and was given none")))
    }
}

/// Where remarks on a call point to: its first argument. Prometheus forgets where a subquery stood
/// while it evaluates it, and points to the start of the query.
fn span_of(call: &Call) -> Span {
    match call.args.first().map(Expr::without_parens) {
        Some(Expr::Subquery(_)) => Span::default(),
        Some(argument) => argument.span(),
        None => call.span,
    }
}

struct Source {
    series: Box<dyn Series>,
    windows: Windows,
    one_name: bool,
}

/// What it takes to evaluate one series, whichever thread does it.
struct Plan {
    function: RangeFunction,
    windows: Windows,
    scalars: Scalars,
}

impl Kernel for Plan {
    fn evaluate(&self, work: &mut Work, pace: &mut Pace) -> Result<(), Error> {
        let Work { labels, columns, row, .. } = work;
        row.reset(labels.clone(), self.windows.grid.steps);
        if meets_histogram(&self.windows, columns, pace)? {
            return Err(histogram_met(row));
        }
        drop_stale(columns);
        let scalar = |step| self.scalars.at(step);
        range_function(self.function, &self.windows, columns, &scalar, (row, pace))
    }
}

struct RangeCall {
    context: Arc<Context>,
    batches: Batches<Plan>,
    /// Set where dropping the metric name may make series equal.
    unique: Option<Unique>,
    span: Span,
}

impl Rows for RangeCall {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        let any = self.batches.next(row)?;
        if any {
            self.finish(row)?;
        }
        Ok(any)
    }
}

impl RangeCall {
    /// Remarks on the row and takes its name away.
    fn finish(&mut self, row: &mut Row) -> Result<(), Error> {
        let function = self.batches.kernel().function;
        if function == RangeFunction::Quantile {
            self.remark_on_quantiles(row);
        }
        let name = row.labels.metric_name();
        if function.wants_counter() && !name.is_empty() && !looks_like_counter(name) {
            self.context.notes.possible_non_counter(name, self.span);
        }
        if !function.keeps_name() {
            let (labels, more) = drop_name(&row.labels);
            row.labels = labels;
            if more && self.unique.is_none() {
                self.unique = Some(Unique::new(&self.context)?);
            }
        }
        match &mut self.unique {
            Some(unique) => unique.check(&row.labels),
            None => Ok(()),
        }
    }
}

impl RangeCall {
    /// Warns of quantiles outside 0 to 1 at steps that have samples.
    fn remark_on_quantiles(&self, row: &Row) {
        let steps = match &self.batches.kernel().scalars {
            Scalars::Same(_) => 1,
            Scalars::Each(values) => values.len(),
        };
        for step in row.present.iter().take(steps) {
            let q = self.batches.kernel().scalars.at(step);
            if !(0.0..=1.0).contains(&q) {
                self.context.notes.invalid_quantile(q, self.span);
            }
        }
    }
}

/// Whether a metric is a counter by the convention of its name.
fn looks_like_counter(name: &str) -> bool {
    ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix))
}
