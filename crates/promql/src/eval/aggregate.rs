//! Aggregations: rows are folded into their groups, in the order of the input, and forgotten.
//!
//! The order of the fold is that of the stream whatever runs beside it, so sums have the same bits
//! with any number of threads.

use std::sync::Arc;

use model::{Labels, Reservation};

use crate::ast::{Aggregate, AggregateOp, Span};
use crate::cancel::Pace;
use crate::error::Error;
use crate::eval::account::{GROWTH_BYTES, work_of};
use crate::eval::histogram_fold::{HistogramFold, Outcome};
use crate::eval::keys::{KeyTable, Subset};
use crate::eval::scalar::Scalars;
use crate::eval::select::Around;
use crate::eval::{Blocking, Context, Evaluator, Held, Rows, Stream};
use crate::kahan::Mean;
use crate::quantile::quantile;
use crate::row::{Grid, Presence, Row};

impl<'a> Evaluator<'a> {
    pub(crate) fn aggregate(&self, aggregate: &'a Aggregate, grid: Grid) -> Result<Stream, Error> {
        let around = Around {
            function: Some(aggregate.op.as_str()),
            grouping: &aggregate.grouping,
            by: !aggregate.without,
        };
        let below = self.below(around);
        match aggregate.op {
            AggregateOp::CountValues => return below.count_values(aggregate, grid),
            AggregateOp::Topk | AggregateOp::Bottomk => return below.top(aggregate, grid),
            AggregateOp::Limitk | AggregateOp::LimitRatio => return below.limit(aggregate, grid),
            _ => {}
        }
        let quantile = match (&aggregate.param, aggregate.op) {
            (Some(param), AggregateOp::Quantile) => {
                let quantiles = below.scalar(param, grid)?;
                self.remark_on_quantiles(&quantiles, param.span());
                quantiles
            }
            _ => Scalars::Same(f64::NAN),
        };
        let input = below.vector(&aggregate.expr, grid)?;
        let context = Arc::clone(self.context);
        let subset = Subset::new(&aggregate.grouping, !aggregate.without);
        let names_gone = !subset.contains(model::time::METRIC_NAME);
        let (op, span) = (aggregate.op, aggregate.expr.span());
        let rows = Blocking::new(move || {
            let mut fold = Fold::new(&context, op, subset, (grid.steps, span))?;
            fold.run(&context, input.rows)?;
            fold.finish(&context, &quantile)
        });
        Ok(Stream::new(rows, names_gone))
    }

    /// Warns of quantiles outside 0 to 1, the farthest on each side.
    fn remark_on_quantiles(&self, quantiles: &Scalars, span: Span) {
        let values = quantiles.values();
        let notes = &self.context.notes;
        if values.iter().any(|it| it.is_nan()) {
            notes.invalid_quantile(f64::NAN, span);
            // Beside a NaN there is neither a largest nor a smallest one.
            return;
        }
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
        if largest > 1.0 {
            notes.invalid_quantile(largest, span);
        }
        if smallest < 0.0 {
            notes.invalid_quantile(smallest, span);
        }
    }
}

/// All groups of one aggregation.
struct Fold {
    op: AggregateOp,
    keys: KeyTable,
    groups: Vec<Group>,
    steps: usize,
    /// Where remarks point to: what is aggregated.
    span: Span,
    reservation: Reservation,
    pace: Pace,
}

/// What a group has seen at every step.
struct Group {
    labels: Labels,
    present: Presence,
    state: State,
    /// Set once a histogram is met by an operator that folds them.
    histograms: Option<Box<HistogramFold>>,
    drop_name: bool,
}

/// The folded values of a group, one per step.
enum State {
    /// Sums and what rounding took from them.
    Sum { sums: Vec<f64>, lost: Vec<f64> },
    /// Means.
    Mean(Vec<Mean>),
    /// Minima, maxima, counts, or ones.
    Plain(Vec<f64>),
    /// Welford's running deviation.
    Deviation(Vec<Deviation>),
    /// All values, where nothing less will do.
    Values(Vec<Vec<f64>>),
}

/// A running variance.
#[derive(Clone, Copy, Debug, Default)]
struct Deviation {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Deviation {
    #[inline]
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            // A first value that is not finite makes everything that follows a NaN.
            self.mean = value;
            self.squares = if value.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }
}

impl State {
    fn new(op: AggregateOp, steps: usize) -> State {
        match op {
            AggregateOp::Sum => State::Sum { sums: vec![0.0; steps], lost: vec![0.0; steps] },
            AggregateOp::Avg => State::Mean(vec![Mean::default(); steps]),
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                State::Deviation(vec![Deviation::default(); steps])
            }
            AggregateOp::Quantile => State::Values(vec![Vec::new(); steps]),
            _ => State::Plain(vec![0.0; steps]),
        }
    }

    /// Bytes per step of a group.
    fn step_bytes(op: AggregateOp) -> usize {
        match op {
            AggregateOp::Sum => 16,
            AggregateOp::Avg => size_of::<Mean>(),
            AggregateOp::Stddev | AggregateOp::Stdvar => size_of::<Deviation>(),
            AggregateOp::Quantile => size_of::<Vec<f64>>(),
            _ => 8,
        }
    }
}

impl Fold {
    fn new(
        context: &Context,
        op: AggregateOp,
        subset: Subset,
        (steps, span): (usize, Span),
    ) -> Result<Fold, Error> {
        let reservation = context.reservation()?;
        let keys = KeyTable::new(subset);
        let pace = context.pace();
        Ok(Fold { op, keys, groups: Vec::new(), steps, span, reservation, pace })
    }

    fn run(&mut self, context: &Context, mut input: Box<dyn Rows>) -> Result<(), Error> {
        let mut row = Row::default();
        while input.next(&mut row)? {
            context.cancel.check()?;
            let (id, is_new) = self.keys.find_or_add(&row.labels);
            if is_new {
                self.add_group(&row.labels)?;
            }
            if self.op == AggregateOp::Quantile {
                // Vectors grow by doubling: up to twice the values are allocated.
                self.reservation.grow(16 * row.present.count())?;
            }
            self.groups[id].drop_name |= row.drop_name;
            if self.groups[id].histograms.is_some() || !row.histograms.is_empty() {
                self.fold_histograms(context, id, &mut row)?;
            }
            self.groups[id].fold(self.op, &row);
        }
        Ok(())
    }

    /// Takes the histograms of a row in, as far as the operator does.
    fn fold_histograms(
        &mut self,
        context: &Context,
        id: usize,
        row: &mut Row,
    ) -> Result<(), Error> {
        let (op, span, notes) = (self.op, self.span, &context.notes);
        let group = &mut self.groups[id];
        match op {
            AggregateOp::Count | AggregateOp::Group => {
                // What a sample is does not matter.
                for (step, _) in row.histograms.drain(..) {
                    row.present.set(step);
                }
            }
            AggregateOp::Sum | AggregateOp::Avg => {
                let fold = group.histograms.get_or_insert_default();
                row.present.iter().for_each(|step| fold.add_float(step));
                let mut bytes = 0;
                for (step, histogram) in &row.histograms {
                    let had_float = group.present.get(*step);
                    let is_mean = op == AggregateOp::Avg;
                    let remarks = fold.add(*step, had_float, histogram, is_mean);
                    if remarks.mixed_buckets {
                        notes.mixed_buckets(row.labels.metric_name(), span);
                    }
                    if remarks.bounds_reconciled {
                        notes.bounds_reconciled("aggregation", span);
                    }
                    self.pace.spend(work_of(histogram))?;
                    bytes += remarks.grown_bytes;
                    if bytes > GROWTH_BYTES {
                        self.reservation.grow(std::mem::take(&mut bytes))?;
                    }
                }
                self.reservation.grow(bytes)?;
            }
            _ if !row.histograms.is_empty() => notes.ignored_in_aggregation(op.as_str(), span),
            _ => {}
        }
        Ok(())
    }

    fn add_group(&mut self, labels: &Labels) -> Result<(), Error> {
        let labels = self.keys.subset().labels(labels);
        let bytes = self.keys.last_key_bytes()
            + labels.size_bytes()
            + size_of::<Group>()
            + self.steps.saturating_mul(State::step_bytes(self.op) + 1);
        self.reservation.grow(bytes)?;
        let present = Presence::none(self.steps);
        let state = State::new(self.op, self.steps);
        self.groups.push(Group { labels, present, state, histograms: None, drop_name: false });
        Ok(())
    }

    /// The rows of all groups, in the order in which they were met.
    fn finish(self, context: &Context, quantiles: &Scalars) -> Result<Held, Error> {
        let mut pace = self.pace;
        let mut rows = Vec::with_capacity(self.groups.len());
        for mut group in self.groups {
            let histograms = group.histograms.take();
            let mut row = group.finish(self.op, quantiles, &mut pace)?;
            if let Some(histograms) = histograms {
                put_histograms(*histograms, &mut row, (context, self.span));
            }
            if !row.is_blank() {
                rows.push(row);
            }
        }
        Ok(Held::charged(rows, self.reservation))
    }
}

/// Puts the folded histograms into the row of their group.
fn put_histograms(fold: HistogramFold, row: &mut Row, (context, span): (&Context, Span)) {
    for (step, outcome, collides) in fold.finish() {
        match outcome {
            Outcome::Histogram(histogram) => row.put_histogram(step, histogram),
            Outcome::Mixed => {
                context.notes.mixed_group(span);
                row.present.unset(step);
            }
            Outcome::Nothing => row.present.unset(step),
        }
        if collides {
            context.notes.reset_collision("aggregation", span);
        }
    }
}

impl Group {
    fn fold(&mut self, op: AggregateOp, row: &Row) {
        match &mut self.state {
            State::Sum { sums, lost } => {
                if self.present.is_full() && row.present.is_full() {
                    add_all(sums, lost, &row.values);
                } else {
                    add_some((sums, lost), &self.present, row);
                }
            }
            State::Mean(means) => row.iter().for_each(|(step, value)| means[step].add(value)),
            State::Deviation(states) => {
                row.iter().for_each(|(step, value)| states[step].add(value));
            }
            State::Values(values) => {
                row.iter().for_each(|(step, value)| values[step].push(value));
            }
            State::Plain(values) => {
                if self.present.is_full() && row.present.is_full() {
                    fold_plain_all(op, values, &row.values);
                } else {
                    fold_plain_some(op, (values, &self.present), row);
                }
            }
        }
        self.present.union(&row.present);
    }

    fn finish(self, op: AggregateOp, quantiles: &Scalars, pace: &mut Pace) -> Result<Row, Error> {
        pace.spend(self.present.steps())?;
        let values = match self.state {
            State::Sum { sums, lost } => sums.iter().zip(&lost).map(|(a, b)| a + b).collect(),
            State::Mean(means) => means.into_iter().map(Mean::value).collect(),
            State::Plain(values) => values,
            State::Deviation(states) => {
                let variance = states.into_iter().map(|it| it.squares / it.count);
                match op {
                    AggregateOp::Stddev => variance.map(f64::sqrt).collect(),
                    _ => variance.collect(),
                }
            }
            State::Values(mut values) => {
                let mut of_steps = Vec::with_capacity(values.len());
                for (step, values) in values.iter_mut().enumerate() {
                    pace.spend(values.len())?;
                    of_steps.push(quantile(quantiles.at(step), values));
                }
                of_steps
            }
        };
        let drop_name = self.drop_name;
        Ok(Row { labels: self.labels, values, present: self.present, drop_name, ..Row::default() })
    }
}

/// One value more of `min`, `max`, `count` or `group`, at a step that has one.
#[inline]
fn fold_plain(op: AggregateOp, known: f64, value: f64) -> f64 {
    match op {
        AggregateOp::Group => 1.0,
        AggregateOp::Count => known + 1.0,
        AggregateOp::Max if !(known < value || known.is_nan()) => known,
        AggregateOp::Min if !(known > value || known.is_nan()) => known,
        _ => value,
    }
}

/// Folds a whole row into a whole group: a loop for each operator, without a branch in it, so that
/// it runs on vectors.
fn fold_plain_all(op: AggregateOp, known: &mut [f64], values: &[f64]) {
    let pairs = known.iter_mut().zip(values);
    match op {
        AggregateOp::Group => {}
        AggregateOp::Count => pairs.for_each(|(known, _)| *known += 1.0),
        AggregateOp::Max => {
            pairs.for_each(|(known, value)| *known = fold_plain(AggregateOp::Max, *known, *value));
        }
        _ => {
            pairs.for_each(|(known, value)| *known = fold_plain(AggregateOp::Min, *known, *value));
        }
    }
}

fn fold_plain_some(op: AggregateOp, (known, present): (&mut [f64], &Presence), row: &Row) {
    let counts = matches!(op, AggregateOp::Count | AggregateOp::Group);
    for (step, value) in row.iter() {
        known[step] = match present.get(step) {
            true => fold_plain(op, known[step], value),
            false if counts => 1.0,
            false => value,
        };
    }
}

/// Adds a whole row to a whole group; without a branch, so that the loop runs on vectors.
fn add_all(sums: &mut [f64], lost: &mut [f64], values: &[f64]) {
    for ((sum, lost), value) in sums.iter_mut().zip(lost).zip(values) {
        let total = *sum + *value;
        let of_sum = (*sum - total) + *value;
        let of_value = (*value - total) + *sum;
        let more = if sum.abs() >= value.abs() { of_sum } else { of_value };
        *lost = if total.is_infinite() { 0.0 } else { *lost + more };
        *sum = total;
    }
}

fn add_some((sums, lost): (&mut [f64], &mut [f64]), present: &Presence, row: &Row) {
    for (step, value) in row.iter() {
        if present.get(step) {
            let at = step..=step;
            add_all(&mut sums[at.clone()], &mut lost[at], &[value]);
        } else {
            sums[step] = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kahan::Kahan;

    #[test]
    fn the_loop_without_branches_has_the_bits_of_the_plain_one() {
        let terms = [1e100, 1.0, -1e100, 3.5, f64::MIN_POSITIVE, -7.25, 1e16, 1.0];
        let (mut sums, mut lost) = (vec![0.0; 1], vec![0.0; 1]);
        let mut plain = Kahan::default();
        for term in terms {
            add_all(&mut sums, &mut lost, &[term]);
            plain.add(term);
        }
        assert_eq!(
            (sums[0].to_bits(), lost[0].to_bits()),
            (plain.sum.to_bits(), plain.lost.to_bits())
        );
        add_all(&mut sums, &mut lost, &[f64::INFINITY]);
        assert_eq!((sums[0], lost[0]), (f64::INFINITY, 0.0));
    }

    #[test]
    fn whole_rows_fold_into_whole_groups_as_others_do() {
        let odd = [1.0, -0.0, 0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -7.5, 3.0, 1e300];
        let known: Vec<f64> = odd.iter().flat_map(|it| [*it; 9]).collect();
        let present = Presence::all(known.len());
        let row = Row { values: odd.repeat(9), present: present.clone(), ..Row::default() };
        for op in [AggregateOp::Max, AggregateOp::Min, AggregateOp::Count] {
            let (mut all, mut some) = (known.clone(), known.clone());
            fold_plain_all(op, &mut all, &row.values);
            fold_plain_some(op, (&mut some, &present), &row);
            let bits = |of: &[f64]| of.iter().map(|it| it.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&all), bits(&some), "{op:?}");
        }
    }
}
