//! Scalars: one number per step, or the same one for all.

use crate::ast::{Call, Expr, UnaryOp};
use crate::error::Error;
use crate::eval::binary::scalar_operation;
use crate::eval::{Evaluator, invariant, math};
use crate::kernel::instant::seconds;
use crate::kernel::rate::duration_seconds;
use crate::row::{Grid, Row};

/// The values of a scalar over a grid.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalars {
    Same(f64),
    Each(Vec<f64>),
}

impl Scalars {
    /// The value at a step.
    #[inline]
    pub(crate) fn at(&self, step: usize) -> f64 {
        match self {
            Scalars::Same(value) => *value,
            Scalars::Each(values) => values[step],
        }
    }

    /// The different values, as far as that is known.
    pub(crate) fn values(&self) -> &[f64] {
        match self {
            Scalars::Same(value) => std::slice::from_ref(value),
            Scalars::Each(values) => values,
        }
    }

    fn map(self, change: impl Fn(f64) -> f64) -> Scalars {
        match self {
            Scalars::Same(value) => Scalars::Same(change(value)),
            Scalars::Each(mut values) => {
                values.iter_mut().for_each(|it| *it = change(*it));
                Scalars::Each(values)
            }
        }
    }

    fn zip(self, other: &Scalars, combine: impl Fn(f64, f64) -> f64) -> Scalars {
        match (self, other) {
            (Scalars::Same(a), Scalars::Same(b)) => Scalars::Same(combine(a, *b)),
            (Scalars::Same(a), Scalars::Each(b)) => {
                Scalars::Each(b.iter().map(|b| combine(a, *b)).collect())
            }
            (Scalars::Each(mut a), b) => {
                a.iter_mut().enumerate().for_each(|(step, it)| *it = combine(*it, b.at(step)));
                Scalars::Each(a)
            }
        }
    }
}

impl<'a> Evaluator<'a> {
    /// Computes a scalar over `grid`. The instant vectors in it are pulled now.
    pub(crate) fn scalar(&self, expr: &'a Expr, grid: Grid) -> Result<Scalars, Error> {
        self.context.cancel.check()?;
        match expr {
            Expr::Number(number) => Ok(Scalars::Same(number.value)),
            Expr::Paren(paren) => self.scalar(&paren.expr, grid),
            Expr::Unary(unary) => {
                let value = self.scalar(&unary.expr, grid)?;
                Ok(if unary.op == UnaryOp::Minus { value.map(|it| -it) } else { value })
            }
            Expr::Binary(binary) => {
                let lhs = self.scalar(&binary.lhs, grid)?;
                let rhs = self.scalar(&binary.rhs, grid)?;
                let operation = scalar_operation(binary.op)?;
                Ok(lhs.zip(&rhs, operation))
            }
            Expr::Call(call) => self.scalar_call(call, grid),
            _ => {
                let found = expr.value_type().documented();
                Err(Error::execution(format!("expected a scalar, found a {found}")))
            }
        }
    }

    fn scalar_call(&self, call: &'a Call, grid: Grid) -> Result<Scalars, Error> {
        match (call.function.name, call.args.as_slice()) {
            ("pi", _) => Ok(Scalars::Same(std::f64::consts::PI)),
            ("time", _) => {
                self.context.hold_row(grid.steps)?;
                Ok(Scalars::Each((0..grid.steps).map(|it| seconds(grid.time_ms(it))).collect()))
            }
            ("scalar", [vector]) if invariant::is_step_invariant(vector) && grid.steps > 1 => {
                let once = self.single_value(vector, Grid::instant(grid.start_ms))?;
                Ok(Scalars::Same(once.at(0)))
            }
            ("scalar", [vector]) => self.single_value(vector, grid),
            ("start", _) => Ok(Scalars::Same(seconds(self.context.query.start_ms))),
            ("end", _) => Ok(Scalars::Same(seconds(self.context.query_end_ms))),
            ("range", _) => {
                let query = &self.context;
                let length_ms = query.query_end_ms.saturating_sub(query.query.start_ms);
                Ok(Scalars::Same(duration_seconds(length_ms)))
            }
            ("step", _) => {
                let is_range = self.context.query.start_ms != self.context.query_end_ms;
                let step_ms = if is_range { self.context.query.step_ms } else { 0 };
                Ok(Scalars::Same(duration_seconds(step_ms)))
            }
            ("max_of", [a, b]) => Ok(self.scalar(a, grid)?.zip(&self.scalar(b, grid)?, math::max)),
            ("min_of", [a, b]) => Ok(self.scalar(a, grid)?.zip(&self.scalar(b, grid)?, math::min)),
            (name, _) => Err(Error::execution(format!("{name}() is no function of scalars"))),
        }
    }

    /// The value of the only series of a step; NaN where there is none or more than one.
    fn single_value(&self, vector: &'a Expr, grid: Grid) -> Result<Scalars, Error> {
        let mut rows = self.vector(vector, grid)?.rows;
        self.context.hold_row(grid.steps)?;
        let mut values = vec![f64::NAN; grid.steps];
        let mut seen = vec![false; grid.steps];
        let mut row = Row::default();
        while rows.next(&mut row)? {
            self.context.cancel.check()?;
            for (step, value) in row.iter() {
                values[step] = if seen[step] { f64::NAN } else { value };
                seen[step] = true;
            }
        }
        Ok(Scalars::Each(values))
    }
}
