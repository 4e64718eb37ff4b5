//! Operators between scalars and vectors; those between two vectors are joins and set operations.

use crate::ast::{Binary, BinaryOp, Unary, UnaryOp};
use crate::error::Error;
use crate::eval::mapped::{Mapped, MappedByStep};
use crate::eval::merge::without_names;
use crate::eval::select::Around;
use crate::eval::{Evaluator, Stream, is_vector};
use crate::row::Grid;

/// A function of two numbers.
pub(crate) type Operation = fn(f64, f64) -> f64;

/// What an operator computes; `None` for comparisons and set operators.
pub(crate) fn arithmetic(op: BinaryOp) -> Option<Operation> {
    Some(match op {
        BinaryOp::Add => |a, b| a + b,
        BinaryOp::Sub => |a, b| a - b,
        BinaryOp::Mul => |a, b| a * b,
        BinaryOp::Div => |a, b| a / b,
        BinaryOp::Mod => |a, b| a % b,
        BinaryOp::Pow => f64::powf,
        BinaryOp::Atan2 => f64::atan2,
        _ => return None,
    })
}

/// What a comparison asks; `None` for other operators.
pub(crate) fn comparison(op: BinaryOp) -> Option<fn(f64, f64) -> bool> {
    Some(match op {
        BinaryOp::Eq => |a, b| a == b,
        BinaryOp::Ne => |a, b| a != b,
        BinaryOp::Gt => |a, b| a > b,
        BinaryOp::Lt => |a, b| a < b,
        BinaryOp::Ge => |a, b| a >= b,
        BinaryOp::Le => |a, b| a <= b,
        _ => return None,
    })
}

/// What an operator between two scalars computes; comparisons give 0 or 1.
pub(crate) fn scalar_operation(op: BinaryOp) -> Result<Box<dyn Fn(f64, f64) -> f64>, Error> {
    if let Some(operation) = arithmetic(op) {
        return Ok(Box::new(operation));
    }
    let compare = comparison(op).ok_or_else(|| not_for_floats(op))?;
    Ok(Box::new(move |a, b| truth(compare(a, b))))
}

/// The refusal of an operator that only native histograms have.
pub(crate) fn not_for_floats(op: BinaryOp) -> Error {
    Error::unsupported(&format!("the operator {}", op.as_str()))
}

pub(crate) fn truth(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

/// How an operator makes a value of two, and whether there is one.
#[derive(Clone, Copy)]
pub(crate) enum Combine {
    /// Always a value.
    Arithmetic(Operation),
    /// The left value where the comparison holds.
    Filter(fn(f64, f64) -> bool),
    /// 0 or 1.
    Bool(fn(f64, f64) -> bool),
}

impl Combine {
    pub(crate) fn new(op: BinaryOp, return_bool: bool) -> Result<Combine, Error> {
        if let Some(operation) = arithmetic(op) {
            return Ok(Combine::Arithmetic(operation));
        }
        let compare = comparison(op).ok_or_else(|| not_for_floats(op))?;
        Ok(if return_bool { Combine::Bool(compare) } else { Combine::Filter(compare) })
    }

    /// Whether the result is no longer what the metric name says.
    pub(crate) fn changes_meaning(self) -> bool {
        !matches!(self, Combine::Filter(_))
    }

    /// The value, unless it is filtered out; a filter keeps `kept`.
    #[inline]
    pub(crate) fn apply(self, lhs: f64, rhs: f64, kept: f64) -> Option<f64> {
        match self {
            Combine::Arithmetic(operation) => Some(operation(lhs, rhs)),
            Combine::Filter(compare) => compare(lhs, rhs).then_some(kept),
            Combine::Bool(compare) => Some(truth(compare(lhs, rhs))),
        }
    }
}

impl<'a> Evaluator<'a> {
    /// An operator of which at least one side is an instant vector.
    pub(crate) fn binary(&self, binary: &'a Binary, grid: Grid) -> Result<Stream, Error> {
        let below = self.below(Around::default());
        if is_vector(&binary.lhs) && is_vector(&binary.rhs) {
            if binary.op.is_set() {
                return below.set_operation(binary, grid);
            }
            return below.join(binary, grid);
        }
        let combine = Combine::new(binary.op, binary.return_bool)?;
        let vector_left = is_vector(&binary.lhs);
        let (vector, scalar) = if vector_left {
            (below.vector(&binary.lhs, grid)?, below.scalar(&binary.rhs, grid)?)
        } else {
            let scalar = below.scalar(&binary.lhs, grid)?;
            (below.vector(&binary.rhs, grid)?, scalar)
        };
        let distinct = vector.distinct_without_name;
        let change = move |step, value| {
            let scalar = scalar.at(step);
            let (lhs, rhs) = if vector_left { (value, scalar) } else { (scalar, value) };
            combine.apply(lhs, rhs, value)
        };
        let stream = Stream::new(MappedByStep::new(self.context, vector.rows, change), distinct);
        if combine.changes_meaning() { without_names(self.context, stream) } else { Ok(stream) }
    }

    /// A sign before an instant vector.
    pub(crate) fn unary(&self, unary: &'a Unary, grid: Grid) -> Result<Stream, Error> {
        let stream = self.vector(&unary.expr, grid)?;
        if unary.op == UnaryOp::Plus {
            return Ok(stream);
        }
        let distinct = stream.distinct_without_name;
        let negated = Mapped { input: stream.rows, change: |value: f64| -value };
        without_names(self.context, Stream::new(negated, distinct))
    }
}
