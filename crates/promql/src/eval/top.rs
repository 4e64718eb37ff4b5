//! `topk` and `bottomk`: the k largest or smallest series of each group at every step.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::{Labels, Reservation};

use crate::ast::{Aggregate, AggregateOp, Span};
use crate::cancel::Pace;
use crate::error::Error;
use crate::eval::keys::{KeyTable, Subset};
use crate::eval::scalar::Scalars;
use crate::eval::{Blocking, Context, Evaluator, Held, Rows, Stream};
use crate::general::general;
use crate::row::{Grid, Row};

impl<'a> Evaluator<'a> {
    pub(crate) fn top(&self, aggregate: &'a Aggregate, grid: Grid) -> Result<Stream, Error> {
        let Some(param) = &aggregate.param else {
            return Err(Error::execution("topk and bottomk need a number"));
        };
        let sizes = self.scalar(param, grid)?;
        let input = self.vector(&aggregate.expr, grid)?;
        let distinct = input.distinct_without_name;
        let context = Arc::clone(self.context);
        let subset = Subset::new(&aggregate.grouping, !aggregate.without);
        let largest = aggregate.op == AggregateOp::Topk;
        let span = aggregate.span;
        let rows = Blocking::new(move || {
            let mut top = Top {
                largest,
                sizes,
                steps: grid.steps,
                keys: KeyTable::new(subset),
                groups: Vec::new(),
                taken: Vec::new(),
                span,
                reservation: context.reservation()?,
            };
            top.run(&context, input.rows)
        });
        Ok(Stream::new(rows, distinct))
    }
}

/// A series in a heap: its number among all that were met, and its value.
type Ranked = (usize, f64);

struct Top {
    largest: bool,
    sizes: Scalars,
    steps: usize,
    keys: KeyTable,
    /// One heap per step for each group.
    groups: Vec<Vec<Heap>>,
    /// Every series that was ever in a heap, by its number.
    taken: Vec<Taken>,
    /// Where remarks point to.
    span: Span,
    reservation: Reservation,
}

/// A series that is in heaps, or was.
struct Taken {
    labels: Labels,
    /// The number of steps at which it still is in one.
    places: usize,
    drop_name: bool,
}

/// Bytes of a series in heaps beside its entries there.
fn taken_bytes(labels: &Labels) -> usize {
    size_of::<Taken>() + labels.size_bytes()
}

/// Bytes of a row of the answer, whose labels are those of the series and charged with it: its
/// own, twice because vectors of rows grow by doubling, and those of its steps.
fn row_bytes(steps: usize) -> usize {
    2 * size_of::<(usize, Row)>() + (steps.div_ceil(64) * 8) + steps.saturating_mul(8)
}

/// Bytes of an entry of the map from series to rows, half of which may be empty.
const PLACE_BYTES: usize = 4 * size_of::<usize>();

impl Top {
    fn run(&mut self, context: &Context, mut input: Box<dyn Rows>) -> Result<Held, Error> {
        let mut row = Row::default();
        let wanted = check_sizes(&self.sizes)?;
        while input.next(&mut row)? {
            context.cancel.check()?;
            if wanted {
                self.remark_on_histograms(context, &row);
                self.add(&row)?;
            }
        }
        let rows = if self.steps == 1 {
            self.in_order_of_value()?
        } else {
            self.in_order_of_series(&mut context.pace())?
        };
        (self.groups, self.taken) = (Vec::new(), Vec::new());
        let mut reservation = std::mem::replace(&mut self.reservation, context.reservation()?);
        reservation.resize(rows.iter().map(Row::size_bytes).sum())?;
        Ok(Held::charged(rows, reservation))
    }

    /// Tells that histograms have no place in an order, at steps where series are wanted.
    fn remark_on_histograms(&self, context: &Context, row: &Row) {
        if row.histograms.iter().any(|(step, _)| self.sizes.at(*step) >= 1.0) {
            let name = if self.largest { "topk" } else { "bottomk" };
            context.notes.ignored_in_aggregation(name, self.span);
        }
    }

    fn add(&mut self, row: &Row) -> Result<(), Error> {
        let (id, is_new) = self.keys.find_or_add(&row.labels);
        if is_new {
            let heaps = self.steps.saturating_mul(size_of::<Heap>());
            self.reservation.grow(self.keys.last_key_bytes() + heaps)?;
            self.groups.push(vec![Heap::default(); self.steps]);
        }
        let series = self.taken.len();
        let (mut places, mut grown) = (0, 0);
        for (step, value) in row.iter() {
            let size = whole(self.sizes.at(step));
            if size == 0 {
                continue;
            }
            match self.groups[id][step].offer((series, value), size, self.largest) {
                Offer::Refused => {}
                Offer::Added => {
                    places += 1;
                    grown += 1;
                }
                Offer::Replaced(other) => {
                    places += 1;
                    self.leave(other)?;
                }
            }
        }
        if places > 0 {
            // Heaps grow by doubling: up to twice the entries are allocated.
            let bytes = 2 * grown * size_of::<Ranked>() + taken_bytes(&row.labels);
            self.reservation.grow(bytes)?;
            let (labels, drop_name) = (row.labels.clone(), row.drop_name);
            self.taken.push(Taken { labels, places, drop_name });
        }
        Ok(())
    }

    /// Forgets the labels of a series that left its last heap.
    fn leave(&mut self, series: usize) -> Result<(), Error> {
        let taken = &mut self.taken[series];
        taken.places -= 1;
        if taken.places == 0 {
            let bytes = taken.labels.size_bytes();
            taken.labels = Labels::empty();
            self.reservation.resize(self.reservation.bytes().saturating_sub(bytes))?;
        }
        Ok(())
    }

    /// Group by group, the best series first: the answer of an instant query.
    fn in_order_of_value(&mut self) -> Result<Vec<Row>, Error> {
        let entries: usize = self.groups.iter().flatten().map(|heap| heap.0.len()).sum();
        self.reservation.grow(entries.saturating_mul(row_bytes(1)))?;
        let mut rows = Vec::with_capacity(entries);
        for group in &mut self.groups {
            for heap in group {
                for (series, value) in heap.best_first(self.largest) {
                    let mut row = Row::default();
                    row.reset(self.taken[series].labels.clone(), 1);
                    row.drop_name = self.taken[series].drop_name;
                    row.put(0, value);
                    rows.push(row);
                }
            }
        }
        Ok(rows)
    }

    fn in_order_of_series(&mut self, pace: &mut Pace) -> Result<Vec<Row>, Error> {
        let mut places: HashMap<usize, usize> = HashMap::new();
        let mut rows: Vec<(usize, Row)> = Vec::new();
        for group in &self.groups {
            for (step, heap) in group.iter().enumerate() {
                pace.spend(1 + heap.0.len())?;
                for (series, value) in &heap.0 {
                    let place = match places.entry(*series) {
                        Entry::Occupied(entry) => *entry.get(),
                        Entry::Vacant(entry) => {
                            self.reservation.grow(row_bytes(self.steps) + PLACE_BYTES)?;
                            let mut row = Row::default();
                            row.reset(self.taken[*series].labels.clone(), self.steps);
                            row.drop_name = self.taken[*series].drop_name;
                            rows.push((*series, row));
                            *entry.insert(rows.len() - 1)
                        }
                    };
                    rows[place].1.put(step, *value);
                }
            }
        }
        rows.sort_unstable_by_key(|(series, _)| *series);
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }
}

/// Whether any series is wanted at any step.
pub(crate) fn check_sizes(sizes: &Scalars) -> Result<bool, Error> {
    let sizes = sizes.values();
    let largest = sizes.iter().copied().fold(f64::MIN, f64::max);
    let smallest = sizes.iter().copied().fold(f64::MAX, f64::min);
    let any_nan = sizes.iter().any(|it| it.is_nan());
    if largest < 1.0 && !any_nan {
        return Ok(false);
    }
    if any_nan {
        return Err(Error::execution("Parameter value is NaN"));
    }
    if smallest <= I64_MIN {
        let text = format!("Scalar value {} underflows int64", general(smallest));
        return Err(Error::execution(text));
    }
    if largest >= I64_MAX {
        let text = format!("Scalar value {} overflows int64", general(largest));
        return Err(Error::execution(text));
    }
    Ok(true)
}

const I64_MIN: f64 = -9_223_372_036_854_775_808.0;
const I64_MAX: f64 = 9_223_372_036_854_775_808.0;

/// A checked size as a number of series.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are checked to be inside i64; a negative one becomes 0"
)]
pub(crate) fn whole(size: f64) -> usize {
    size.max(0.0) as usize
}

/// A binary heap whose root is the series to be replaced next.
///
/// It moves its elements exactly as Go's `container/heap` does, because among equal values that
/// decides which series stays.
#[derive(Clone, Debug, Default)]
struct Heap(Vec<Ranked>);

/// What came of a series that was offered to a heap.
enum Offer {
    Refused,
    Added,
    /// It took the place of this one.
    Replaced(usize),
}

impl Heap {
    /// Takes a series in if it belongs to the best `size`.
    fn offer(&mut self, entry: Ranked, size: usize, largest: bool) -> Offer {
        if self.0.len() < size {
            self.0.push(entry);
            self.up(largest);
            return Offer::Added;
        }
        let (other, worst) = self.0[0];
        let better = if largest { worst < entry.1 } else { worst > entry.1 };
        if better || (worst.is_nan() && !entry.1.is_nan()) {
            self.0[0] = entry;
            self.down(largest);
            return Offer::Replaced(other);
        }
        Offer::Refused
    }

    /// Whether the first element leaves before the second.
    fn worse(&self, a: usize, b: usize, largest: bool) -> bool {
        let (a, b) = (self.0[a].1, self.0[b].1);
        a.is_nan() || if largest { a < b } else { a > b }
    }

    fn up(&mut self, largest: bool) {
        let mut at = self.0.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.worse(at, parent, largest) {
                break;
            }
            self.0.swap(at, parent);
            at = parent;
        }
    }

    fn down(&mut self, largest: bool) {
        let (mut at, end) = (0, self.0.len());
        loop {
            let left = 2 * at + 1;
            if left >= end {
                break;
            }
            let right = left + 1;
            let child = if right < end && self.worse(right, left, largest) { right } else { left };
            if !self.worse(child, at, largest) {
                break;
            }
            self.0.swap(at, child);
            at = child;
        }
    }

    fn best_first(&mut self, largest: bool) -> Vec<Ranked> {
        let mut entries = std::mem::take(&mut self.0);
        entries.sort_by(|(_, a), (_, b)| {
            let order = b.partial_cmp(a);
            let order = order.map(|it| if largest { it } else { it.reverse() });
            // NaN is worse than everything, whichever end is wanted.
            order.unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        });
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_stay_and_nan_goes_first() {
        let mut heap = Heap::default();
        for (series, value) in [f64::NAN, 1.0, 5.0, 3.0, 4.0].into_iter().enumerate() {
            heap.offer((series, value), 3, true);
        }
        let best: Vec<f64> = heap.best_first(true).into_iter().map(|(_, value)| value).collect();
        assert_eq!(best, [5.0, 4.0, 3.0]);
    }
}
