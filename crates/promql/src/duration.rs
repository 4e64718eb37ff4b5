//! Durations: as they are written, as they are printed, and expressions of them.

use std::fmt;

pub use model::duration::{DurationError as InvalidDuration, format_ms};

use crate::ast::{DurationArg, DurationExpr, DurationKind, DurationOp, Expr, Span, UnaryOp};

const NANOS_PER_MS: i64 = 1_000_000;
const NANOS_PER_SECOND: f64 = 1e9;

/// Reads a duration as Prometheus writes it (`1h30m`): units in falling order, each once, no sign,
/// no fraction; `0` needs no unit. The answer is in ns and at most 2^63−1.
///
/// # Errors
/// [`InvalidDuration`].
pub fn parse_ns(text: &str) -> Result<i64, InvalidDuration> {
    let duration_ms = model::duration::parse_ms(text)?;
    duration_ms.checked_mul(NANOS_PER_MS).ok_or(InvalidDuration::OutOfRange)
}

/// The seconds of a duration in ns, rounded as Go rounds them.
pub(crate) fn seconds_of_ns(duration_ns: i64) -> f64 {
    const NANOS: i64 = 1_000_000_000;
    (duration_ns / NANOS) as f64 + (duration_ns % NANOS) as f64 / NANOS_PER_SECOND
}

/// Whether seconds are too many for a duration: more than 2^63 ns either way.
pub(crate) fn is_out_of_range(seconds: f64) -> bool {
    const SECONDS_MAX: f64 = 9_223_372_036_854_775_808.0 / NANOS_PER_SECOND;
    !(-SECONDS_MAX..=SECONDS_MAX).contains(&seconds)
}

/// Seconds as ms, by way of whole ns, as Prometheus keeps a literal.
pub(crate) fn literal_ms(seconds: f64) -> i64 {
    saturating_i64((seconds * NANOS_PER_SECOND).round()) / NANOS_PER_MS
}

/// Seconds as ms for printing, cut to whole ns first.
pub(crate) fn printed_ms(seconds: f64) -> i64 {
    saturating_i64(seconds * NANOS_PER_SECOND) / NANOS_PER_MS
}

/// The whole part, at the nearest bound where it does not fit; NaN is 0.
#[expect(clippy::cast_possible_truncation, reason = "`as` from floats saturates, as it is meant")]
pub(crate) fn saturating_i64(value: f64) -> i64 {
    value as i64
}

/// A duration expression has no usable value. Shows as Prometheus says it, with start and end of
/// the expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationError {
    /// Where the expression stands.
    pub span: Span,
    /// What is wrong.
    pub message: &'static str,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.span.start, self.span.end, self.message)
    }
}

impl std::error::Error for DurationError {}

/// Computes every duration expression of `expr`, so that [`DurationArg::Fixed`] stands everywhere.
/// `step_ms` is the step of the query (0 for an instant query), `range_ms` the time from its first
/// step to its last.
///
/// # Errors
/// [`DurationError`] when one is NaN, infinite, out of range, divides by zero, or is not positive
/// where it must be (all but offsets).
pub fn resolve(expr: &mut Expr, step_ms: i64, range_ms: i64) -> Result<(), DurationError> {
    let query =
        Query { step_seconds: seconds_of_ms(step_ms), range_seconds: seconds_of_ms(range_ms) };
    query.visit(expr)
}

fn seconds_of_ms(duration_ms: i64) -> f64 {
    (duration_ms / 1000) as f64 + (duration_ms % 1000) as f64 / 1e3
}

struct Query {
    step_seconds: f64,
    range_seconds: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Sign {
    Any,
    Positive,
}

impl Query {
    fn visit(&self, expr: &mut Expr) -> Result<(), DurationError> {
        match expr {
            Expr::Number(_) | Expr::String(_) => Ok(()),
            Expr::Vector(it) => self.fix(&mut it.offset, Sign::Any),
            Expr::Matrix(it) => {
                self.fix(&mut it.range, Sign::Positive)?;
                self.fix(&mut it.selector.offset, Sign::Any)
            }
            Expr::Subquery(it) => {
                self.fix(&mut it.offset, Sign::Any)?;
                self.fix(&mut it.step, Sign::Positive)?;
                self.fix(&mut it.range, Sign::Positive)?;
                self.visit(&mut it.expr)
            }
            Expr::Call(it) => it.args.iter_mut().try_for_each(|arg| self.visit(arg)),
            Expr::Aggregate(it) => {
                self.visit(&mut it.expr)?;
                it.param.as_mut().map_or(Ok(()), |param| self.visit(param))
            }
            Expr::Binary(it) => {
                self.visit(&mut it.lhs)?;
                self.visit(&mut it.rhs)
            }
            Expr::Unary(it) => self.visit(&mut it.expr),
            Expr::Paren(it) => self.visit(&mut it.expr),
        }
    }

    fn fix(&self, argument: &mut DurationArg, sign: Sign) -> Result<(), DurationError> {
        let DurationArg::Expr(expr) = argument else { return Ok(()) };
        let seconds = self.seconds(expr)?;
        let fail = |message| Err(DurationError { span: expr.span, message });
        if !seconds.is_finite() {
            return fail("duration is NaN or infinite");
        }
        if seconds <= 0.0 && sign == Sign::Positive {
            return fail("duration must be greater than 0");
        }
        if is_out_of_range(seconds) {
            return fail("duration is out of range");
        }
        *argument = DurationArg::Fixed(saturating_i64(seconds * 1000.0));
        Ok(())
    }

    fn seconds(&self, expr: &DurationExpr) -> Result<f64, DurationError> {
        let seconds = match &expr.kind {
            DurationKind::Number(it) => it.value,
            DurationKind::Step => self.step_seconds,
            DurationKind::Range => self.range_seconds,
            DurationKind::Unary(UnaryOp::Plus, it) => self.seconds(it)?,
            DurationKind::Unary(UnaryOp::Minus, it) => -self.seconds(it)?,
            DurationKind::Binary(op, lhs, rhs) => {
                let (lhs, rhs) = (self.seconds(lhs)?, self.seconds(rhs)?);
                let fail = |message| Err(DurationError { span: expr.span, message });
                match op {
                    DurationOp::Add => lhs + rhs,
                    DurationOp::Sub => lhs - rhs,
                    DurationOp::Mul => lhs * rhs,
                    DurationOp::Div if rhs == 0.0 => return fail("division by zero"),
                    DurationOp::Div => lhs / rhs,
                    DurationOp::Mod if rhs == 0.0 => return fail("modulo by zero"),
                    DurationOp::Mod => lhs % rhs,
                    DurationOp::Pow => lhs.powf(rhs),
                    DurationOp::MinOf | DurationOp::MaxOf if lhs.is_nan() || rhs.is_nan() => {
                        f64::NAN
                    }
                    DurationOp::MinOf => lhs.min(rhs),
                    DurationOp::MaxOf => lhs.max(rhs),
                }
            }
        };
        Ok(seconds)
    }
}
