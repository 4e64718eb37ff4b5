//! Operators between two samples of which at least one is a histogram.

use std::sync::Arc;

use hashbrown::HashMap;
use model::FloatHistogram;
use model::histogram::{CounterResetHint, Joined, Keep};

use crate::annotations::Notes;
use crate::ast::{BinaryOp, Span};
use crate::eval::binary::Combine;
use crate::row::{Row, Sample};

/// What is to be said about a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remark {
    /// The operator does not combine samples of these kinds.
    Types(&'static str, &'static str),
    /// One histogram has custom buckets, the other exponential ones.
    Buckets,
    /// The histograms disagree about a counter reset.
    Collision,
    /// Custom bounds differed.
    Bounds,
}

impl Remark {
    pub(crate) fn leave(self, op: BinaryOp, notes: &Notes, span: Span) {
        let noun = if op == BinaryOp::Sub { "subtraction" } else { "addition" };
        match self {
            Remark::Types(lhs, rhs) => notes.incompatible_types(lhs, op.as_str(), rhs, span),
            Remark::Buckets => notes.incompatible_buckets(op.as_str(), span),
            Remark::Collision => notes.reset_collision(noun, span),
            Remark::Bounds => notes.bounds_reconciled(noun, span),
        }
    }
}

/// What an operator makes of two samples.
#[derive(Clone, Debug)]
pub(crate) enum Made {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Made {
    fn of(sample: Sample<'_>) -> Made {
        match sample {
            Sample::Float(value) => Made::Float(value),
            Sample::Histogram(histogram) => Made::Histogram(Arc::clone(histogram)),
        }
    }

    /// Puts it into a row, at a step after all that hold a histogram.
    pub(crate) fn put(self, step: usize, row: &mut Row) {
        match self {
            Made::Float(value) => row.put(step, value),
            Made::Histogram(histogram) => row.put_histogram(step, histogram),
        }
    }
}

/// What came of two samples, if anything, and what is to be said about it.
pub(crate) type Combined = (Option<Made>, Option<Remark>);

/// Makes what an operator makes of two samples.
pub(crate) fn combine(
    (op, combine): (BinaryOp, Combine),
    lhs: Sample<'_>,
    rhs: Sample<'_>,
) -> Combined {
    let kind = |sample| match sample {
        Sample::Float(_) => "float",
        Sample::Histogram(_) => "histogram",
    };
    let incompatible = (None, Some(Remark::Types(kind(lhs), kind(rhs))));
    match (lhs, rhs) {
        (Sample::Float(_), Sample::Float(_)) if matches!(combine, Combine::Trim) => incompatible,
        (Sample::Float(a), Sample::Float(b)) => (combine.apply(a, b, a).map(Made::Float), None),
        (Sample::Float(factor), Sample::Histogram(histogram)) if op == BinaryOp::Mul => {
            (Some(changed(histogram, |it| it.mul(factor))), None)
        }
        (Sample::Histogram(histogram), Sample::Float(value)) => match op {
            BinaryOp::Mul => (Some(changed(histogram, |it| it.mul(value))), None),
            BinaryOp::Div => (Some(changed(histogram, |it| it.div(value))), None),
            BinaryOp::TrimUpper => (Some(trimmed(histogram, value, Keep::Below)), None),
            BinaryOp::TrimLower => (Some(trimmed(histogram, value, Keep::Above)), None),
            _ => incompatible,
        },
        (Sample::Histogram(a), Sample::Histogram(b)) => match op {
            BinaryOp::Add => sum(a, |it| it.add(b)),
            BinaryOp::Sub => sum(a, |it| {
                let joined = it.sub(b);
                it.counter_reset_hint = CounterResetHint::Gauge;
                joined
            }),
            BinaryOp::Eq | BinaryOp::Ne => {
                let holds = a.equals(b) == (op == BinaryOp::Eq);
                let made = match combine {
                    Combine::Bool(_) => Some(Made::Float(if holds { 1.0 } else { 0.0 })),
                    _ => holds.then(|| Made::of(lhs)),
                };
                (made, None)
            }
            _ => incompatible,
        },
        _ => incompatible,
    }
}

fn changed(histogram: &FloatHistogram, change: impl Fn(&mut FloatHistogram)) -> Made {
    let mut histogram = histogram.clone();
    change(&mut histogram);
    histogram.compact(0);
    Made::Histogram(Arc::new(histogram))
}

fn trimmed(histogram: &FloatHistogram, value: f64, keep: Keep) -> Made {
    let mut histogram = histogram.clone();
    histogram.trim(value, keep);
    Made::Histogram(Arc::new(histogram))
}

fn sum(
    lhs: &FloatHistogram,
    join: impl Fn(&mut FloatHistogram) -> Result<Joined, model::histogram::Error>,
) -> Combined {
    let mut sum = lhs.clone();
    match join(&mut sum) {
        Err(_) => (None, Some(Remark::Buckets)),
        // Which of both is right is not known: there is no result.
        Ok(joined) if joined.hints_collide => (None, Some(Remark::Collision)),
        Ok(joined) => {
            sum.compact(0);
            let remark = joined.bounds_reconciled.then_some(Remark::Bounds);
            (Some(Made::Histogram(Arc::new(sum))), remark)
        }
    }
}

/// The last remark of every step: the earlier ones of a step are not told, as in Prometheus.
#[derive(Debug, Default)]
pub(crate) struct LastRemarks(HashMap<usize, Remark>);

impl LastRemarks {
    pub(crate) fn set(&mut self, step: usize, remark: Option<Remark>) {
        if let Some(remark) = remark {
            self.0.insert(step, remark);
        }
    }

    /// Tells what is left.
    pub(crate) fn leave(&mut self, op: BinaryOp, notes: &Notes, span: Span) {
        for remark in std::mem::take(&mut self.0).into_values() {
            remark.leave(op, notes, span);
        }
    }
}
