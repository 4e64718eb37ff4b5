//! Functions over range vectors: one series in, one row out, some series at once where there are
//! threads for it.

use std::collections::VecDeque;
use std::sync::Arc;

use model::{Columns, Labels, Reservation};
use parking_lot::Mutex;

use crate::ast::{Call, Expr, Span};
use crate::cancel::{Cancel, Pace};
use crate::error::Error;
use crate::eval::merge::{Unique, drop_name};
use crate::eval::scalar::Scalars;
use crate::eval::select::{Around, has_one_name, histogram_met};
use crate::eval::source::{Computed, Series};
use crate::eval::{Context, Evaluator, Rows, Stream, duration_ms};
use crate::kernel::{RangeFunction, Windows, drop_stale, meets_histogram, range_function};
use crate::row::{Grid, Row};
use crate::workers::Task;

/// Series that a worker takes at once; enough for one hand-over to cost nothing beside them.
const BATCH_PER_WORKER: usize = 16;

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
        let plan = Plan {
            function,
            windows: source.windows,
            scalars,
            cancel: self.context.cancel.clone(),
        };
        let rows = RangeCall {
            plan: Arc::new(plan),
            series: source.series,
            unique: (!source.one_name && !function.keeps_name())
                .then(|| Unique::new(self.context))
                .transpose()?,
            span: span_of(call),
            spare: Vec::new(),
            ready: VecDeque::new(),
            reservation: self.context.reservation()?,
            pace: self.context.pace(),
            context: Arc::clone(self.context),
            ended: false,
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
    cancel: Cancel,
}

impl Plan {
    fn evaluate(&self, work: &mut Work, pace: &mut Pace) -> Result<(), Error> {
        let Work { labels, columns, row } = work;
        row.reset(labels.clone(), self.windows.grid.steps);
        if meets_histogram(&self.windows, columns, pace)? {
            return Err(histogram_met(row));
        }
        drop_stale(columns);
        let scalar = |step| self.scalars.at(step);
        range_function(self.function, &self.windows, columns, &scalar, (row, pace))
    }
}

/// One series on its way through the kernel; the buffers are used again.
#[derive(Default)]
struct Work {
    labels: Labels,
    columns: Columns,
    row: Row,
}

struct RangeCall {
    context: Arc<Context>,
    plan: Arc<Plan>,
    series: Box<dyn Series>,
    /// Set where dropping the metric name may make series equal.
    unique: Option<Unique>,
    span: Span,
    spare: Vec<Work>,
    ready: VecDeque<Work>,
    reservation: Reservation,
    pace: Pace,
    ended: bool,
}

impl Rows for RangeCall {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        loop {
            let Some(mut work) = self.ready.pop_front() else {
                if self.ended {
                    return Ok(false);
                }
                self.fill()?;
                continue;
            };
            let any = !work.row.present.is_empty();
            if any {
                std::mem::swap(row, &mut work.row);
                self.finish(row)?;
            }
            self.spare.push(work);
            if any {
                return Ok(true);
            }
        }
    }
}

impl RangeCall {
    /// Pulls and evaluates some series. Their order stays, so the number of workers never shows.
    fn fill(&mut self) -> Result<(), Error> {
        let width = self.context.workers.width().max(1);
        let wanted = if width == 1 { 1 } else { width * BATCH_PER_WORKER };
        let mut batch = Vec::with_capacity(wanted);
        while batch.len() < wanted {
            let mut work = self.spare.pop().unwrap_or_default();
            let Some(labels) = self.series.next(&mut work.columns)? else {
                self.ended = true;
                break;
            };
            work.labels = labels;
            batch.push(work);
        }
        if batch.len() <= 1 {
            for work in &mut batch {
                self.plan.evaluate(work, &mut self.pace)?;
            }
            self.ready.extend(batch);
            return Ok(());
        }
        let row_bytes = 9 * self.plan.windows.grid.steps;
        let bytes: usize = batch.iter().map(|it| it.columns.capacity_bytes() + row_bytes).sum();
        if bytes > self.reservation.bytes() {
            self.reservation.resize(bytes)?;
        }
        self.spread(batch, width)
    }

    /// Has the workers evaluate a batch, a run of neighbours each.
    fn spread(&mut self, mut batch: Vec<Work>, width: usize) -> Result<(), Error> {
        type Slot = Arc<Mutex<Option<Result<Vec<Work>, Error>>>>;
        let share = batch.len().div_ceil(width);
        let mut tasks: Vec<Task> = Vec::with_capacity(width);
        let mut slots: Vec<Slot> = Vec::with_capacity(width);
        while !batch.is_empty() {
            let rest = batch.split_off(share.min(batch.len()));
            let mut mine = std::mem::replace(&mut batch, rest);
            let slot: Slot = Arc::default();
            let (plan, answer) = (Arc::clone(&self.plan), Arc::clone(&slot));
            tasks.push(Box::new(move || {
                let mut pace = Pace::new(plan.cancel.clone());
                let done = mine.iter_mut().try_for_each(|it| plan.evaluate(it, &mut pace));
                *answer.lock() = Some(done.map(|()| mine));
            }));
            slots.push(slot);
        }
        self.context.workers.run(tasks);
        for slot in slots {
            let answer = slot.lock().take();
            let lost = || Error::execution("a worker ended without an answer");
            self.ready.extend(answer.ok_or_else(lost)??);
        }
        Ok(())
    }

    /// Remarks on the row and takes its name away.
    fn finish(&mut self, row: &mut Row) -> Result<(), Error> {
        let function = self.plan.function;
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
        let steps = match &self.plan.scalars {
            Scalars::Same(_) => 1,
            Scalars::Each(values) => values.len(),
        };
        for step in row.present.iter().take(steps) {
            let q = self.plan.scalars.at(step);
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
