//! `limitk` and `limit_ratio`: some series of each group, whatever their values.

use std::sync::Arc;

use model::Reservation;

use crate::ast::{Aggregate, AggregateOp, Span};
use crate::error::Error;
use crate::eval::keys::{KeyTable, Subset};
use crate::eval::scalar::Scalars;
use crate::eval::top::{check_sizes, whole};
use crate::eval::{Context, Evaluator, Rows, Stream};
use crate::row::{Grid, Presence, Row};

impl<'a> Evaluator<'a> {
    pub(crate) fn limit(&self, aggregate: &'a Aggregate, grid: Grid) -> Result<Stream, Error> {
        let Some(param) = &aggregate.param else {
            return Err(Error::execution("limitk and limit_ratio need a number"));
        };
        let limits = self.scalar(param, grid)?;
        let input = self.vector(&aggregate.expr, grid)?;
        let distinct = input.distinct_without_name;
        let context = Arc::clone(self.context);
        if aggregate.op == AggregateOp::LimitRatio {
            self.check_ratios(&limits, param.span())?;
            return Ok(Stream::new(LimitRatio { context, input: input.rows, limits }, distinct));
        }
        let limits = if check_sizes(&limits)? { limits } else { Scalars::Same(0.0) };
        let keys = KeyTable::new(Subset::new(&aggregate.grouping, !aggregate.without));
        let reservation = context.reservation()?;
        let taken = Vec::new();
        let rows = LimitK { context, input: input.rows, limits, keys, taken, reservation };
        Ok(Stream::new(rows, distinct))
    }

    /// Warns of ratios outside -1 to 1, the farthest on each side.
    fn check_ratios(&self, ratios: &Scalars, span: Span) -> Result<(), Error> {
        let values = ratios.values();
        if values.iter().any(|it| it.is_nan()) {
            return Err(Error::execution("Ratio value is NaN"));
        }
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
        if largest > 1.0 {
            self.context.notes.invalid_ratio(largest, 1.0, span);
        }
        if smallest < -1.0 {
            self.context.notes.invalid_ratio(smallest, -1.0, span);
        }
        Ok(())
    }
}

/// The first series of each group that have a sample, step by step.
struct LimitK {
    context: Arc<Context>,
    input: Box<dyn Rows>,
    limits: Scalars,
    keys: KeyTable,
    /// How many series each group has taken at each step.
    taken: Vec<Vec<u32>>,
    reservation: Reservation,
}

impl Rows for LimitK {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        while self.input.next(row)? {
            self.context.cancel.check()?;
            let steps = row.values.len();
            let (id, is_new) = self.keys.find_or_add(&row.labels);
            if is_new {
                self.reservation.grow(self.keys.last_key_bytes() + 4 * steps)?;
                self.taken.push(vec![0; steps]);
            }
            let mut refused = Presence::none(steps);
            for step in row.filled().iter() {
                let taken = &mut self.taken[id][step];
                let limit = u32::try_from(whole(self.limits.at(step))).unwrap_or(u32::MAX);
                if *taken < limit {
                    *taken += 1;
                } else {
                    refused.set(step);
                }
            }
            row.subtract(&refused);
            if !row.is_blank() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The series whose hash lies in the wanted share of all hashes.
struct LimitRatio {
    context: Arc<Context>,
    input: Box<dyn Rows>,
    limits: Scalars,
}

impl Rows for LimitRatio {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        while self.input.next(row)? {
            self.context.cancel.check()?;
            let place = share(row.labels.length_prefixed_hash64());
            let mut refused = Presence::none(row.values.len());
            for step in row.filled().iter() {
                let ratio = self.limits.at(step).clamp(-1.0, 1.0);
                // A negative ratio takes what the positive rest of it leaves.
                let is_inside = if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio };
                if !is_inside {
                    refused.set(step);
                }
            }
            row.subtract(&refused);
            if !row.is_blank() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Where a hash lies between 0 and 1.
#[expect(clippy::cast_precision_loss, reason = "what Prometheus does with the hash")]
fn share(hash: u64) -> f64 {
    hash as f64 / u64::MAX as f64
}
