//! Operators between scalars and vectors; those between two vectors are joins and set operations.

use std::sync::Arc;

use model::FloatHistogram;

use crate::ast::{Binary, BinaryOp, Span, Unary, UnaryOp};
use crate::error::Error;
use crate::eval::account::HistogramAccount;
use crate::eval::merge::without_names;
use crate::eval::pair::{self, Combined, LastRemarks, Made, Remark};
use crate::eval::scalar::Scalars;
use crate::eval::select::Around;
use crate::eval::{Context, Evaluator, Rows, Stream, is_vector};
use crate::row::{Grid, Row, Sample};

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

/// The refusal of an operator between scalars that has no meaning there.
pub(crate) fn not_for_floats(op: BinaryOp) -> Error {
    Error::execution(format!("operator {:?} not allowed for Scalar operations", op.as_str()))
}

pub(crate) fn truth(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

/// How an operator makes a float of two, and whether there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Combine {
    /// Never a value: what the operator does it does to histograms.
    Trim,
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
        if matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
            return Ok(Combine::Trim);
        }
        let compare = comparison(op).ok_or_else(|| not_for_floats(op))?;
        Ok(if return_bool { Combine::Bool(compare) } else { Combine::Filter(compare) })
    }

    /// Whether the result is no longer what the metric name says.
    pub(crate) fn changes_meaning(self, op: BinaryOp) -> bool {
        match self {
            Combine::Arithmetic(_) => changes_schema(op),
            Combine::Bool(_) => true,
            Combine::Filter(_) | Combine::Trim => false,
        }
    }

    /// The value, unless it is filtered out; a filter keeps `kept`.
    #[inline]
    pub(crate) fn apply(self, lhs: f64, rhs: f64, kept: f64) -> Option<f64> {
        match self {
            Combine::Arithmetic(operation) => Some(operation(lhs, rhs)),
            Combine::Filter(compare) => compare(lhs, rhs).then_some(kept),
            Combine::Bool(compare) => Some(truth(compare(lhs, rhs))),
            Combine::Trim => None,
        }
    }
}

impl<'a> Evaluator<'a> {
    /// An operator of which at least one side is an instant vector.
    pub(crate) fn binary(&self, binary: &'a Binary, grid: Grid) -> Result<Stream, Error> {
        let mut below = self.below(Around::default());
        if matches!(binary.op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
            below = below.with_buckets();
        }
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
        self.with_scalar(binary, (combine, vector_left), (vector, scalar))
    }

    #[inline(never)]
    fn with_scalar(
        &self,
        binary: &'a Binary,
        (combine, vector_left): (Combine, bool),
        (vector, scalar): (Stream, Scalars),
    ) -> Result<Stream, Error> {
        let distinct = vector.distinct_without_name;
        let operation = WithScalar {
            context: Arc::clone(self.context),
            input: vector.rows,
            op: binary.op,
            combine,
            scalar,
            vector_left,
            span: binary.span,
            last: LastRemarks::default(),
            account: HistogramAccount::new(self.context)?,
        };
        let stream = Stream::new(operation, distinct);
        if combine.changes_meaning(binary.op) {
            without_names(self.context, stream)
        } else {
            Ok(stream)
        }
    }

    /// A sign before an instant vector.
    pub(crate) fn unary(&self, unary: &'a Unary, grid: Grid) -> Result<Stream, Error> {
        let stream = self.vector(&unary.expr, grid)?;
        if unary.op == UnaryOp::Plus {
            return Ok(stream);
        }
        let distinct = stream.distinct_without_name;
        let account = HistogramAccount::new(self.context)?;
        let negated = Negated { input: stream.rows, account };
        without_names(self.context, Stream::new(negated, distinct))
    }
}

/// Rows with the other sign.
struct Negated {
    input: Box<dyn Rows>,
    account: HistogramAccount,
}

impl Rows for Negated {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        let any = self.input.next(row)?;
        if any {
            row.values.iter_mut().for_each(|value| *value = -*value);
            self.account.begin_row();
            // The histogram that was met last and its negative: steps share them.
            let mut last: Option<(Arc<FloatHistogram>, Arc<FloatHistogram>)> = None;
            for (_, histogram) in &mut row.histograms {
                let known = last.take().filter(|(known, _)| Arc::ptr_eq(known, histogram));
                let negative = match known {
                    Some((_, negative)) => negative,
                    None => {
                        let mut negative = FloatHistogram::clone(histogram);
                        negative.mul(-1.0);
                        self.account.add(&negative)?;
                        Arc::new(negative)
                    }
                };
                let met = std::mem::replace(histogram, Arc::clone(&negative));
                last = Some((met, negative));
            }
        }
        Ok(any)
    }
}

/// A vector on one side of an operator and a scalar on the other.
struct WithScalar {
    context: Arc<Context>,
    input: Box<dyn Rows>,
    op: BinaryOp,
    combine: Combine,
    scalar: Scalars,
    vector_left: bool,
    span: Span,
    last: LastRemarks,
    account: HistogramAccount,
}

impl Rows for WithScalar {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        while self.input.next(row)? {
            self.context.cancel.check()?;
            for step in 0..row.values.len() {
                if row.present.get(step) {
                    self.combine_float(step, row);
                }
            }
            if !row.histograms.is_empty() {
                self.combine_histograms(row)?;
            }
            if !row.is_blank() {
                return Ok(true);
            }
        }
        self.last.leave(self.op, &self.context.notes, self.span);
        Ok(false)
    }
}

impl WithScalar {
    #[inline]
    fn combine_float(&mut self, step: usize, row: &mut Row) {
        let (value, scalar) = (row.values[step], self.scalar.at(step));
        let (lhs, rhs) = if self.vector_left { (value, scalar) } else { (scalar, value) };
        match self.combine.apply(lhs, rhs, value) {
            Some(value) => row.values[step] = value,
            None => {
                row.present.unset(step);
                if let Combine::Trim = self.combine {
                    self.last.set(step, Some(Remark::Types("float", "float")));
                }
            }
        }
    }

    fn combine_histograms(&mut self, row: &mut Row) -> Result<(), Error> {
        self.account.begin_row();
        // The pair that was combined last and what came of it: steps share a histogram.
        let mut last: Option<(Arc<FloatHistogram>, f64, Combined)> = None;
        for (step, histogram) in std::mem::take(&mut row.histograms) {
            let scalar = self.scalar.at(step);
            let known = last.take().filter(|(known, factor, _)| {
                Arc::ptr_eq(known, &histogram) && factor.to_bits() == scalar.to_bits()
            });
            let made = match known {
                Some((_, _, made)) => made,
                None => {
                    let (vector, number) = (Sample::Histogram(&histogram), Sample::Float(scalar));
                    let (lhs, rhs) =
                        if self.vector_left { (vector, number) } else { (number, vector) };
                    let made = pair::combine((self.op, self.combine), lhs, rhs);
                    if let Some(Made::Histogram(histogram)) = &made.0 {
                        self.account.add(histogram)?;
                    }
                    made
                }
            };
            self.last.set(step, made.1);
            if let Some(made) = made.0.clone() {
                made.put(step, row);
            }
            last = Some((histogram, scalar, made));
        }
        Ok(())
    }
}

/// Whether an operator makes something new of what the metric name says.
fn changes_schema(op: BinaryOp) -> bool {
    matches!(
        op,
        BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::Div
            | BinaryOp::Mod
            | BinaryOp::Pow
            | BinaryOp::Atan2
    )
}
