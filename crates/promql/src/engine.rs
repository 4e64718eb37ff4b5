//! The engine: options, the two ways to ask, and the answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{Budget, Columns, FloatHistogram, Labels, TimeRange};

use crate::annotations::{Annotations, Notes};
use crate::ast::{Expr, MatrixSelector, ValueType};
use crate::cancel::Cancel;
use crate::duration;
use crate::error::Error;
use crate::eval::merge::drop_marked;
use crate::eval::scalar::Scalars;
use crate::eval::source::Series as _;
use crate::eval::{Context, Evaluator, collect, duration_ms, is_vector};
use crate::kernel::extended::bordered;
use crate::kernel::{Beside, Windows, drop_stale};
use crate::row::{Grid, Presence, Row, Steps};
use crate::storage::Storage;
use crate::workers::Workers;

/// What holds for every query of an engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// How old the newest sample of a series may be for an instant vector, in ms.
    pub lookback_ms: i64,
    /// The step of subqueries that name none, in ms.
    pub subquery_step_ms: i64,
    /// The most samples that one query may read from the storage.
    pub samples_max: u64,
    /// Metric names are taken away at the end of a query instead of by every operator that makes
    /// something new of its input.
    pub delayed_name_removal: bool,
    /// Counters began when the start timestamps of their samples say so.
    pub use_start_timestamps: bool,
    /// The label `__type__` says what is a counter, not the name of the metric.
    pub type_and_unit_labels: bool,
}

impl Default for Options {
    /// Prometheus' defaults, 5 minutes and 1 minute; as many samples as time allows, because memory
    /// is bounded by the budget.
    fn default() -> Options {
        Options {
            lookback_ms: 300_000,
            subquery_step_ms: 60_000,
            samples_max: u64::MAX,
            delayed_name_removal: false,
            use_start_timestamps: false,
            type_and_unit_labels: false,
        }
    }
}

/// What one query runs with.
#[derive(Clone, Debug)]
pub struct Session {
    /// Where the samples are.
    pub storage: Arc<dyn Storage>,
    /// Where evaluation runs.
    pub workers: Arc<dyn Workers>,
    /// The account of the query.
    pub budget: Budget,
    /// Stops the query.
    pub cancel: Cancel,
}

/// The result of a query.
#[derive(Clone, Debug)]
pub enum QueryResult {
    /// One number at the time of an instant query.
    Scalar(f64),
    /// A text.
    String(String),
    /// One value per series at the time of an instant query, in the order of the query.
    Vector(Vec<VectorSample>),
    /// Values of series over time, in order of labels.
    Matrix(Vec<Series>),
}

/// A series of an instant vector.
#[derive(Clone, Debug)]
pub struct VectorSample {
    /// The labels.
    pub labels: Labels,
    /// The value; without meaning beside a histogram.
    pub value: f64,
    /// The histogram that stands in place of a value.
    pub histogram: Option<Arc<FloatHistogram>>,
}

/// A series of a matrix.
#[derive(Clone, Debug)]
pub struct Series {
    /// The labels.
    pub labels: Labels,
    points: Points,
}

#[derive(Clone, Debug)]
enum Points {
    Row {
        grid: Grid,
        values: Vec<f64>,
        present: Presence,
        histograms: Vec<(usize, Arc<FloatHistogram>)>,
    },
    Samples(Columns),
}

impl Series {
    fn of_row(row: Row, grid: Grid) -> Series {
        let Row { labels, values, present, histograms, .. } = row;
        Series { labels, points: Points::Row { grid, values, present, histograms } }
    }

    /// Number of values and histograms.
    pub fn len(&self) -> usize {
        match &self.points {
            Points::Row { present, histograms, .. } => present.count() + histograms.len(),
            Points::Samples(columns) => columns.len(),
        }
    }

    /// Whether there is no value; the engine gives no such series.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Times in ms since the Unix epoch and values, in order of time.
    pub fn points(&self) -> PointIter<'_> {
        PointIter(match &self.points {
            Points::Row { grid, values, present, .. } => Source::Row(*grid, values, present.iter()),
            Points::Samples(columns) => {
                Source::Samples(columns.timestamps_ms.iter(), columns.values.iter())
            }
        })
    }
}

impl Series {
    /// Times in ms since the Unix epoch and histograms, in order of time; they lie between the
    /// values.
    pub fn histograms(&self) -> impl Iterator<Item = (i64, &FloatHistogram)> + '_ {
        let (of_row, of_samples) = match &self.points {
            Points::Row { grid, histograms, .. } => (Some((grid, histograms)), None),
            Points::Samples(columns) => (None, Some(columns)),
        };
        let of_row = of_row.into_iter().flat_map(|(grid, histograms)| {
            histograms.iter().map(|(step, it)| (grid.time_ms(*step), &**it))
        });
        let of_samples = of_samples.into_iter().flat_map(|columns| {
            columns.histogram_timestamps_ms.iter().copied().zip(&columns.histograms)
        });
        of_row.chain(of_samples)
    }
}

/// Times in ms and values of a [`Series`], in order of time.
#[derive(Clone, Debug)]
pub struct PointIter<'a>(Source<'a>);

#[derive(Clone, Debug)]
enum Source<'a> {
    Row(Grid, &'a [f64], Steps<'a>),
    Samples(std::slice::Iter<'a, i64>, std::slice::Iter<'a, f64>),
}

impl Iterator for PointIter<'_> {
    type Item = (i64, f64);

    #[inline]
    fn next(&mut self) -> Option<(i64, f64)> {
        match &mut self.0 {
            Source::Row(grid, values, steps) => {
                let step = steps.next()?;
                Some((grid.time_ms(step), values[step]))
            }
            Source::Samples(times, values) => Some((*times.next()?, *values.next()?)),
        }
    }
}

/// What a query cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples that were read from the storage.
    pub samples: u64,
    /// The most bytes that the query's account held at once.
    pub peak_bytes: usize,
}

/// A result and what is to be said about it.
#[derive(Debug)]
pub struct Answer {
    /// The result.
    pub result: QueryResult,
    /// Remarks of PromQL.
    pub annotations: Annotations,
    /// What the query cost.
    pub stats: Stats,
    /// Holds the memory of the result until it was sent.
    pub reservation: model::Reservation,
}

/// Evaluates expressions.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    options: Options,
}

impl Engine {
    /// An engine with these options.
    pub fn new(options: Options) -> Engine {
        Engine { options }
    }

    /// Evaluates an expression at one time.
    ///
    /// # Errors
    /// [`Error`]; see there for which of them are worth another try.
    pub fn instant(&self, expr: &Expr, at_ms: i64, session: &Session) -> Result<Answer, Error> {
        let expr = resolved(expr, 0, 0)?;
        let grid = Grid::instant(at_ms);
        let context = self.context(grid, at_ms, session)?;
        let evaluator = Evaluator::new(&context);
        let mut reservation = context.reservation()?;
        let result = match expr.value_type() {
            ValueType::String => QueryResult::String(text_of(&expr)),
            ValueType::Scalar => QueryResult::Scalar(evaluator.scalar(&expr, grid)?.at(0)),
            ValueType::Vector => {
                let rows = collect(&context, evaluator.vector(&expr, grid)?.rows)?;
                reservation = rows.reservation;
                let samples = drop_marked(rows.rows)?.into_iter().map(|mut row| VectorSample {
                    value: row.values.first().copied().unwrap_or(f64::NAN),
                    histogram: row.histograms.pop().map(|(_, histogram)| histogram),
                    labels: row.labels,
                });
                QueryResult::Vector(samples.collect())
            }
            ValueType::Matrix => {
                let mut series = match expr.without_parens() {
                    Expr::Matrix(matrix) => {
                        raw_samples(&evaluator, matrix, grid, &mut reservation)?
                    }
                    Expr::Subquery(subquery) => {
                        let (_, inner) = evaluator.subquery_grids(subquery, grid)?;
                        let rows =
                            collect(&context, evaluator.vector(&subquery.expr, inner)?.rows)?;
                        reservation = rows.reservation;
                        let rows = drop_marked(rows.rows)?.into_iter();
                        rows.map(|row| Series::of_row(row, inner)).collect()
                    }
                    _ => return Err(Error::execution("a range vector of an unknown kind")),
                };
                series.sort_by(|a, b| a.labels.cmp(&b.labels));
                QueryResult::Matrix(series)
            }
        };
        Ok(answer(&context, result, reservation))
    }

    /// Evaluates an expression at every `step_ms` from `start_ms` to `end_ms`, both inclusive.
    ///
    /// # Errors
    /// [`Error`]; [`Error::BadQuery`] for an expression that is neither scalar nor instant vector.
    pub fn range(
        &self,
        expr: &Expr,
        range: TimeRange,
        step_ms: i64,
        session: &Session,
    ) -> Result<Answer, Error> {
        let value_type = expr.value_type();
        if !matches!(value_type, ValueType::Scalar | ValueType::Vector) {
            return Err(Error::BadQuery(format!(
                "invalid expression type {:?} for range query, must be Scalar or instant Vector",
                value_type.documented()
            )));
        }
        let length_ms = range.end_ms.saturating_sub(range.start_ms);
        let expr = resolved(expr, step_ms, length_ms)?;
        let grid = Grid::range(range.start_ms, range.end_ms, step_ms);
        let context = self.context(grid, range.end_ms, session)?;
        let evaluator = Evaluator::new(&context);
        let (rows, reservation) = if grid.steps == 0 {
            (Vec::new(), context.reservation()?)
        } else if is_vector(&expr) {
            let collected = collect(&context, evaluator.vector(&expr, grid)?.rows)?;
            let mut rows = drop_marked(collected.rows)?;
            rows.sort_by(|a, b| a.labels.cmp(&b.labels));
            (rows, collected.reservation)
        } else {
            context.hold_row(grid.steps)?;
            let values = match evaluator.scalar(&expr, grid)? {
                Scalars::Same(value) => vec![value; grid.steps],
                Scalars::Each(values) => values,
            };
            let present = Presence::all(grid.steps);
            let row = Row { values, present, ..Row::default() };
            (vec![row], context.reservation()?)
        };
        let series = rows.into_iter().map(|row| Series::of_row(row, grid)).collect();
        Ok(answer(&context, QueryResult::Matrix(series), reservation))
    }

    fn context(
        &self,
        query: Grid,
        query_end_ms: i64,
        session: &Session,
    ) -> Result<Arc<Context>, Error> {
        Ok(Arc::new(Context {
            storage: Arc::clone(&session.storage),
            workers: Arc::clone(&session.workers),
            rows: parking_lot::Mutex::new(session.budget.reserve(0)?),
            budget: session.budget.clone(),
            cancel: session.cancel.clone(),
            options: self.options.clone(),
            query,
            query_end_ms,
            notes: Notes::default(),
            samples: 0.into(),
        }))
    }
}

/// The expression with all its durations known.
fn resolved(expr: &Expr, step_ms: i64, length_ms: i64) -> Result<Expr, Error> {
    let mut expr = expr.clone();
    duration::resolve(&mut expr, step_ms, length_ms)
        .map_err(|error| Error::BadQuery(error.to_string()))?;
    Ok(expr)
}

fn text_of(expr: &Expr) -> String {
    match expr.without_parens() {
        Expr::String(text) => text.value.to_str_lossy().into_owned(),
        _ => String::new(),
    }
}

/// The samples of a range selector as they are stored.
fn raw_samples(
    evaluator: &Evaluator<'_>,
    matrix: &MatrixSelector,
    grid: Grid,
    reservation: &mut model::Reservation,
) -> Result<Vec<Series>, Error> {
    let windows = evaluator.windows(&matrix.selector, duration_ms(&matrix.range)?, grid)?;
    let mut source = evaluator.select(&matrix.selector, &windows, true)?;
    let mut all = Vec::new();
    let mut columns = Columns::default();
    while let Some(labels) = source.next(&mut columns)? {
        drop_stale(&mut columns);
        if windows.beside != Beside::Nothing {
            add_borders(&windows, &mut columns)?;
        }
        if columns.is_empty() {
            continue;
        }
        let histograms = columns.histograms.iter().map(FloatHistogram::heap_bytes).sum::<usize>();
        reservation.grow(columns.capacity_bytes() + histograms + labels.size_bytes())?;
        all.push(Series { labels, points: Points::Samples(std::mem::take(&mut columns)) });
    }
    Ok(all)
}

/// Makes the samples of a window and of what lies beside it those of an `anchored` or `smoothed`
/// selector.
fn add_borders(windows: &Windows, columns: &mut Columns) -> Result<(), Error> {
    let smoothed = windows.beside == Beside::Smoothed;
    if !columns.histograms.is_empty() {
        let modifier = if smoothed { "smoothed" } else { "anchored" };
        let text = format!("{modifier} modifier is not supported with histograms");
        return Err(Error::execution(text));
    }
    if columns.timestamps_ms.is_empty() {
        return Ok(());
    }
    let samples = (&columns.timestamps_ms[..], &columns.values[..]);
    let borders = (windows.start_ms(0), windows.end_ms(0));
    (columns.timestamps_ms, columns.values) = bordered(samples, borders, smoothed);
    columns.start_timestamps_ms.clear();
    Ok(())
}

fn answer(context: &Context, result: QueryResult, reservation: model::Reservation) -> Answer {
    let stats = Stats {
        samples: context.samples.load(Ordering::Relaxed),
        peak_bytes: context.budget.peak_bytes(),
    };
    Answer { result, annotations: context.notes.take(), stats, reservation }
}
