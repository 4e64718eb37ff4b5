//! Rows whose values are changed one by one: by functions, signs and operators with a scalar.

use std::sync::Arc;

use crate::error::Error;
use crate::eval::{Context, Rows};
use crate::row::Row;

/// Rows whose floats are changed by a rule that knows the value alone; histograms go.
pub(crate) struct Mapped<F> {
    pub(crate) input: Box<dyn Rows>,
    pub(crate) change: F,
}

impl<F: Fn(f64) -> f64 + Send> Rows for Mapped<F> {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        while self.input.next(row)? {
            row.histograms.clear();
            if row.present.is_empty() {
                continue;
            }
            // Steps without a value hold something harmless: changing it costs less than asking.
            row.values.iter_mut().for_each(|value| *value = (self.change)(*value));
            return Ok(true);
        }
        Ok(false)
    }
}

/// Rows whose floats are changed by a rule that also knows the step, and that may take them out;
/// histograms go.
pub(crate) struct MappedByStep<F> {
    context: Arc<Context>,
    input: Box<dyn Rows>,
    change: F,
}

impl<F: Fn(usize, f64) -> Option<f64>> MappedByStep<F> {
    /// The rows of `input`, changed; those that lose all their values are left out.
    pub(crate) fn new(context: &Arc<Context>, input: Box<dyn Rows>, change: F) -> MappedByStep<F> {
        MappedByStep { context: Arc::clone(context), input, change }
    }
}

impl<F: Fn(usize, f64) -> Option<f64> + Send> Rows for MappedByStep<F> {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        while self.input.next(row)? {
            self.context.cancel.check()?;
            row.histograms.clear();
            for step in 0..row.values.len() {
                if !row.present.get(step) {
                    continue;
                }
                match (self.change)(step, row.values[step]) {
                    Some(value) => row.values[step] = value,
                    None => row.present.unset(step),
                }
            }
            if !row.present.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
