//! Evaluation: an expression over a grid of steps becomes a tree of operators, and rows are pulled
//! through it one series at a time.
//!
//! Everything that must be held (groups of an aggregation, the build side of a join) is charged to
//! the query's budget before it grows; everything else is one row per operator.

pub(crate) mod absent;
pub(crate) mod account;
pub(crate) mod aggregate;
pub(crate) mod batch;
pub(crate) mod binary;
pub(crate) mod call;
pub(crate) mod count_values;
pub(crate) mod histogram;
pub(crate) mod histogram_fold;
pub(crate) mod info;
pub(crate) mod invariant;
pub(crate) mod join;
pub(crate) mod keys;
pub(crate) mod label;
pub(crate) mod limit;
pub(crate) mod mapped;
pub(crate) mod math;
pub(crate) mod merge;
pub(crate) mod pair;
pub(crate) mod pattern;
pub(crate) mod range_call;
pub(crate) mod scalar;
pub(crate) mod select;
pub(crate) mod set;
pub(crate) mod sort;
pub(crate) mod source;
pub(crate) mod subquery;
pub(crate) mod top;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{Budget, Reservation};
use parking_lot::Mutex;

use crate::annotations::Notes;
use crate::ast::{At, DurationArg, Expr, ValueType};
use crate::cancel::{Cancel, Pace};
use crate::engine::Options;
use crate::error::Error;
use crate::eval::select::Around;
use crate::kernel::instant::Take;
use crate::row::{Grid, Row};
use crate::storage::Storage;
use crate::workers::Workers;

/// The most steps of a row, whatever the budget is: as many samples as Prometheus lets one query
/// hold.
const STEPS_MAX: u64 = 50_000_000;

/// Bytes of a step in a row: its value and its bit, rounded up.
const ROW_BYTES: usize = 9;

/// What every operator of one query shares.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) workers: Arc<dyn Workers>,
    pub(crate) budget: Budget,
    pub(crate) cancel: Cancel,
    pub(crate) options: Options,
    /// The grid of the whole query, which `start()`, `end()` and computed durations speak of.
    pub(crate) query: Grid,
    /// The last time that was asked for, which need not be a step.
    pub(crate) query_end_ms: i64,
    pub(crate) notes: Notes,
    pub(crate) samples: AtomicU64,
    /// One row for every operator.
    pub(crate) rows: Mutex<Reservation>,
}

impl Context {
    pub(crate) fn pace(&self) -> Pace {
        Pace::new(self.cancel.clone())
    }

    /// An account that a growing buffer adds to.
    pub(crate) fn reservation(&self) -> Result<Reservation, Error> {
        Ok(self.budget.reserve(0)?)
    }

    /// Charges the row of one operator, before anything of that length is allocated.
    pub(crate) fn hold_row(&self, steps: usize) -> Result<(), Error> {
        let steps_wanted = u64::try_from(steps).unwrap_or(u64::MAX);
        if steps_wanted > STEPS_MAX {
            return Err(Error::TooManySteps { limit: STEPS_MAX });
        }
        self.rows.lock().grow(steps.saturating_mul(ROW_BYTES))?;
        Ok(())
    }

    /// Counts samples that the storage gave.
    pub(crate) fn count_samples(&self, samples: usize) -> Result<(), Error> {
        let samples = u64::try_from(samples).unwrap_or(u64::MAX);
        let before = self.samples.fetch_add(samples, Ordering::Relaxed);
        let limit = self.options.samples_max;
        if before.saturating_add(samples) > limit {
            return Err(Error::TooManySamples { limit });
        }
        Ok(())
    }

    /// The time that `@` stands for.
    pub(crate) fn at_ms(&self, at: Option<At>) -> Option<i64> {
        at.map(|at| match at {
            At::Time(time_ms) => time_ms,
            At::Start => self.query.start_ms,
            At::End => self.query_end_ms,
        })
    }
}

/// The milliseconds of a written duration.
pub(crate) fn duration_ms(duration: &DurationArg) -> Result<i64, Error> {
    duration.fixed_ms().ok_or_else(|| Error::execution("a duration is not known"))
}

/// A source of rows. Rows without any value are never given.
pub(crate) trait Rows: Send {
    /// Pulls the next row into `row`, whose memory is used again; false at the end.
    fn next(&mut self, row: &mut Row) -> Result<bool, Error>;
}

/// A source of rows and what is known of all of them.
pub(crate) struct Stream {
    pub(crate) rows: Box<dyn Rows>,
    /// No two rows have the same labels once their metric names are taken away.
    pub(crate) distinct_without_name: bool,
}

impl Stream {
    pub(crate) fn new(rows: impl Rows + 'static, distinct_without_name: bool) -> Stream {
        Stream { rows: Box::new(rows), distinct_without_name }
    }

    /// No rows.
    pub(crate) fn empty() -> Stream {
        Stream::new(Nothing, true)
    }

    /// Rows that are there already.
    pub(crate) fn of(rows: Vec<Row>) -> Stream {
        Stream::new(Held::new(rows), false)
    }
}

struct Nothing;

impl Rows for Nothing {
    fn next(&mut self, _: &mut Row) -> Result<bool, Error> {
        Ok(false)
    }
}

/// Rows that were computed before, with the account that holds them.
pub(crate) struct Held {
    rows: std::vec::IntoIter<Row>,
    reservation: Option<Reservation>,
}

impl Held {
    pub(crate) fn new(rows: Vec<Row>) -> Held {
        Held { rows: rows.into_iter(), reservation: None }
    }

    pub(crate) fn charged(rows: Vec<Row>, reservation: Reservation) -> Held {
        Held { rows: rows.into_iter(), reservation: Some(reservation) }
    }
}

impl Rows for Held {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        let Some(next) = self.rows.next() else { return Ok(false) };
        // Whoever keeps the row charges it again.
        if let Some(reservation) = &mut self.reservation {
            reservation.resize(reservation.bytes().saturating_sub(next.size_bytes()))?;
        }
        *row = next;
        Ok(true)
    }
}

/// An operator that computes all its rows when the first one is asked for.
pub(crate) struct Blocking<F> {
    state: BlockingState<F>,
}

enum BlockingState<F> {
    Waiting(F),
    Running(Held),
    Failed,
}

impl<F: FnOnce() -> Result<Held, Error> + Send> Blocking<F> {
    pub(crate) fn new(compute: F) -> Blocking<F> {
        Blocking { state: BlockingState::Waiting(compute) }
    }
}

impl<F: FnOnce() -> Result<Held, Error> + Send> Rows for Blocking<F> {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        if let BlockingState::Running(held) = &mut self.state {
            return held.next(row);
        }
        match std::mem::replace(&mut self.state, BlockingState::Failed) {
            BlockingState::Waiting(compute) => {
                let mut held = compute()?;
                let more = held.next(row);
                self.state = BlockingState::Running(held);
                more
            }
            BlockingState::Running(_) | BlockingState::Failed => Ok(false),
        }
    }
}

/// Pulls every row of a stream into memory.
pub(crate) fn collect(context: &Context, mut rows: Box<dyn Rows>) -> Result<Collected, Error> {
    let mut reservation = context.reservation()?;
    let mut all = Vec::new();
    let mut row = Row::default();
    while rows.next(&mut row)? {
        context.cancel.check()?;
        reservation.grow(row.size_bytes())?;
        all.push(std::mem::take(&mut row));
    }
    Ok(Collected { rows: all, reservation })
}

/// Rows in memory and what they are charged with.
pub(crate) struct Collected {
    pub(crate) rows: Vec<Row>,
    pub(crate) reservation: Reservation,
}

/// Builds operators for the expressions of one query.
#[derive(Clone, Copy)]
pub(crate) struct Evaluator<'a> {
    pub(crate) context: &'a Arc<Context>,
    /// What stands around the expression that is being built.
    pub(crate) around: Around<'a>,
    /// What is wanted of histograms.
    pub(crate) statistics: Statistics,
}

/// Whether counts and sums of histograms are all that an expression is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Statistics {
    /// Something above takes counts or sums alone.
    wanted: bool,
    /// Something above needs the buckets.
    buckets_needed: bool,
}

impl Statistics {
    fn are_enough(self) -> bool {
        self.wanted && !self.buckets_needed
    }

    /// What a function asks for.
    pub(crate) fn below_function(self, name: &str) -> Statistics {
        match name {
            "histogram_count" | "histogram_sum" | "histogram_avg" => {
                Statistics { wanted: true, ..self }
            }
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
                self.with_buckets()
            }
            _ => self,
        }
    }

    pub(crate) fn with_buckets(self) -> Statistics {
        Statistics { buckets_needed: true, ..self }
    }
}

impl<'a> Evaluator<'a> {
    /// For the whole expression of a query.
    pub(crate) fn new(context: &'a Arc<Context>) -> Evaluator<'a> {
        Evaluator { context, around: Around::default(), statistics: Statistics::default() }
    }

    /// The same below something that needs the buckets of histograms.
    pub(crate) fn with_buckets(self) -> Evaluator<'a> {
        Evaluator { statistics: self.statistics.with_buckets(), ..self }
    }

    /// The same below a function or operator.
    pub(crate) fn below(self, around: Around<'a>) -> Evaluator<'a> {
        Evaluator { around, ..self }
    }

    /// The rows of an instant vector over `grid`. All selects below are opened, nothing is pulled
    /// but the scalar arguments.
    pub(crate) fn vector(&self, expr: &'a Expr, grid: Grid) -> Result<Stream, Error> {
        if grid.steps == 0 {
            return Ok(Stream::empty());
        }
        self.context.hold_row(grid.steps)?;
        if grid.steps > 1 && invariant::is_step_invariant(expr) {
            let once = self.vector(expr, Grid::instant(grid.start_ms))?;
            return Ok(invariant::repeat(once, grid.steps));
        }
        match expr {
            Expr::Paren(paren) => self.vector(&paren.expr, grid),
            Expr::Unary(unary) => self.unary(unary, grid),
            Expr::Vector(selector) => self.instant_selector(selector, Take::Value, grid),
            Expr::Call(call) => self.call(call, grid),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate, grid),
            Expr::Binary(binary) => self.binary(binary, grid),
            Expr::Number(_) | Expr::String(_) | Expr::Matrix(_) | Expr::Subquery(_) => {
                let found = expr.value_type().documented();
                Err(Error::execution(format!("expected an instant vector, found a {found}")))
            }
        }
    }
}

/// Whether the expression is an instant vector.
pub(crate) fn is_vector(expr: &Expr) -> bool {
    expr.value_type() == ValueType::Vector
}
