//! `and`, `or` and `unless`: which series of one side have, at a step, a partner on the other.
//!
//! Only the presence of the other side is held, one bit per key and step.

use std::sync::Arc;

use model::Reservation;

use crate::ast::{Binary, BinaryOp};
use crate::error::Error;
use crate::eval::keys::{KeyTable, Subset};
use crate::eval::merge::joined;
use crate::eval::{Context, Evaluator, Rows, Stream};
use crate::row::{Grid, Presence, Row};

impl<'a> Evaluator<'a> {
    pub(crate) fn set_operation(&self, binary: &'a Binary, grid: Grid) -> Result<Stream, Error> {
        let lhs = self.vector(&binary.lhs, grid)?;
        let rhs = self.vector(&binary.rhs, grid)?;
        let subset = match &binary.matching {
            Some(matching) => Subset::new(&matching.labels, matching.on),
            None => Subset::new(&[], false),
        };
        let seen = Seen::new(self.context, subset, grid.steps)?;
        let context = Arc::clone(self.context);
        if binary.op == BinaryOp::Or {
            let rows = Or { context, lhs: lhs.rows, rhs: rhs.rows, seen, left: true };
            return joined(self.context, Stream::new(rows, false));
        }
        let keep_partnered = binary.op == BinaryOp::And;
        let rows = Filter { context, lhs: lhs.rows, rhs: Some(rhs.rows), seen, keep_partnered };
        Ok(Stream::new(rows, lhs.distinct_without_name))
    }
}

/// At which steps a key has a series.
struct Seen {
    keys: KeyTable,
    present: Vec<Presence>,
    steps: usize,
    reservation: Reservation,
}

impl Seen {
    fn new(context: &Context, subset: Subset, steps: usize) -> Result<Seen, Error> {
        let reservation = context.reservation()?;
        Ok(Seen { keys: KeyTable::new(subset), present: Vec::new(), steps, reservation })
    }

    fn add(&mut self, row: &Row) -> Result<(), Error> {
        let (id, is_new) = self.keys.find_or_add(&row.labels);
        if is_new {
            self.reservation.grow(self.keys.last_key_bytes() + self.steps / 8 + 32)?;
            self.present.push(Presence::none(self.steps));
        }
        self.present[id].union(&row.filled());
        Ok(())
    }

    fn find(&mut self, row: &Row) -> Option<&Presence> {
        let id = self.keys.find(&row.labels)?;
        self.present.get(id)
    }
}

/// `and` keeps the steps with a partner, `unless` those without.
struct Filter {
    context: Arc<Context>,
    lhs: Box<dyn Rows>,
    /// Set until it was read.
    rhs: Option<Box<dyn Rows>>,
    seen: Seen,
    keep_partnered: bool,
}

impl Rows for Filter {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        if let Some(mut rhs) = self.rhs.take() {
            while rhs.next(row)? {
                self.context.cancel.check()?;
                self.seen.add(row)?;
            }
        }
        while self.lhs.next(row)? {
            self.context.cancel.check()?;
            match (self.seen.find(row), self.keep_partnered) {
                (Some(partners), true) => row.intersect(partners),
                (Some(partners), false) => row.subtract(partners),
                (None, true) => continue,
                (None, false) => {}
            }
            if !row.is_blank() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// `or` gives the left side and what of the right has no partner there.
struct Or {
    context: Arc<Context>,
    lhs: Box<dyn Rows>,
    rhs: Box<dyn Rows>,
    seen: Seen,
    left: bool,
}

impl Rows for Or {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        if self.left {
            if self.lhs.next(row)? {
                self.seen.add(row)?;
                return Ok(true);
            }
            self.left = false;
        }
        while self.rhs.next(row)? {
            self.context.cancel.check()?;
            if let Some(partners) = self.seen.find(row) {
                row.subtract(partners);
            }
            if !row.is_blank() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
