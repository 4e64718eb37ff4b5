//! Functions over range vectors: one series in, one row out.

use std::sync::Arc;

use crate::ast::{Call, Expr, Span};
use crate::cancel::Pace;
use crate::error::Error;
use crate::eval::batch::{Batches, Kernel, Work};
use crate::eval::merge::{Unique, drop_name};
use crate::eval::scalar::Scalars;
use crate::eval::select::{Around, has_one_name};
use crate::eval::source::{Computed, Series};
use crate::eval::{Context, Evaluator, Rows, Stream, duration_ms};
use crate::kernel::{
    Beside, RangeFunction, Windows, drop_stale, extended, range_function, start_times, window,
};
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
        let mut scalars = Vec::new();
        for arg in &call.args {
            if arg.value_type() == crate::ast::ValueType::Scalar {
                scalars.push(below.scalar(arg, grid)?);
            }
        }
        let source = below.range_source(call, grid)?;
        below.range_rows((function, call), (source, scalars), grid)
    }

    #[inline(never)]
    fn range_rows(
        &self,
        (function, call): (RangeFunction, &'a Call),
        (source, scalars): (Source, Vec<Scalars>),
        grid: Grid,
    ) -> Result<Stream, Error> {
        let (can, which) = function.looks_beside(source.windows.beside);
        if !can {
            let modifier =
                if source.windows.beside == Beside::Smoothed { "smoothed" } else { "anchored" };
            return Err(Error::execution(format!(
                "{modifier} modifier can only be used with: {which} - not with {}",
                call.function.name
            )));
        }
        let span = span_of(call);
        let windows = source.windows;
        let plan = Plan { function, windows, scalars, span, context: Arc::clone(self.context) };
        let delayed = self.context.options.delayed_name_removal;
        let rows = RangeCall {
            batches: Batches::new(self.context, plan, source.series, grid.steps),
            unique: (!delayed && !source.one_name && !function.keeps_name())
                .then(|| Unique::new(self.context))
                .transpose()?,
            span,
            context: Arc::clone(self.context),
        };
        if delayed {
            return Ok(Stream::new(rows, source.one_name));
        }
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
                    // Resets between the samples of a subquery are found by their buckets alone.
                    let stream = self.with_buckets().vector(&subquery.expr, inner)?;
                    let one_name = stream.distinct_without_name;
                    let series = Box::new(Computed::new(self.context, stream.rows, inner)?);
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
    scalars: Vec<Scalars>,
    span: Span,
    context: Arc<Context>,
}

impl Kernel for Plan {
    fn evaluate(&self, work: &mut Work, pace: &mut Pace) -> Result<(), Error> {
        let Work { labels, columns, row, account, .. } = work;
        row.reset(labels.clone(), self.windows.grid.steps);
        account.begin_row();
        drop_stale(columns);
        let (function, windows) = (self.function, &self.windows);
        let use_starts = self.context.options.use_start_timestamps && function.wants_starts();
        let remarks = if windows.beside != Beside::Nothing {
            extended::evaluate(function, windows, (columns, use_starts), (row, account), pace)?
        } else {
            let mut overlaps = 0;
            if use_starts && !columns.start_timestamps_ms.is_empty() {
                overlaps = start_times::evaluate(function, windows, columns, row, pace)?;
            } else {
                let scalar = |index: usize, step| self.scalars[index].at(step);
                range_function(function, windows, columns, &scalar, (row, pace))?;
            }
            if columns.histograms.is_empty() && overlaps == 0 {
                return Ok(());
            }
            let columns = (&*columns, use_starts);
            let mut remarks = window::evaluate(function, windows, columns, (row, account), pace)?;
            remarks.start_overlaps += overlaps;
            remarks
        };
        remarks.leave(&self.context.notes, labels.metric_name(), self.span);
        Ok(())
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
        if function.wants_counter() && !row.present.is_empty() {
            self.remark_on_non_counters(row);
        }
        if self.context.options.delayed_name_removal {
            row.drop_name |= !function.keeps_name();
            return Ok(());
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
    /// Tells that a metric does not look like a counter, by its type where that is a label.
    fn remark_on_non_counters(&self, row: &Row) {
        let (name, notes) = (row.labels.metric_name(), &self.context.notes);
        if name.is_empty() {
            return;
        }
        if self.context.options.type_and_unit_labels {
            let kind = row.labels.get("__type__").unwrap_or_default();
            if kind != "counter" && kind != "histogram" {
                notes.possible_non_counter_type(name, kind, self.span);
            }
        } else if !looks_like_counter(name) {
            notes.possible_non_counter(name, self.span);
        }
    }

    /// Warns of quantiles outside 0 to 1 at steps that have samples.
    fn remark_on_quantiles(&self, row: &Row) {
        let Some(quantiles) = self.batches.kernel().scalars.first() else { return };
        let steps = match quantiles {
            Scalars::Same(_) => 1,
            Scalars::Each(values) => values.len(),
        };
        for step in row.present.iter().take(steps) {
            let q = quantiles.at(step);
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
