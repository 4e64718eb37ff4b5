//! Subqueries: an instant vector evaluated at the times of its own that a window shows.

use crate::ast::Subquery;
use crate::error::Error;
use crate::eval::{Evaluator, duration_ms};
use crate::kernel::Windows;
use crate::row::Grid;

impl Evaluator<'_> {
    /// The windows of a subquery over `grid`, and the times at which what is in it is evaluated:
    /// multiples of its step, whatever the times of the query are.
    pub(crate) fn subquery_grids(
        &self,
        subquery: &Subquery,
        grid: Grid,
    ) -> Result<(Windows, Grid), Error> {
        let windows = Windows {
            offset_ms: duration_ms(&subquery.offset)?,
            at_ms: self.context.at_ms(subquery.at),
            ..Windows::plain(grid, duration_ms(&subquery.range)?)
        };
        let step_ms = match duration_ms(&subquery.step)? {
            0 => self.context.options.subquery_step_ms,
            step_ms => step_ms,
        };
        let inner = inner_grid(&windows, step_ms.max(1));
        // The columns that a row of it becomes: a time and a value for every step.
        self.context.hold_row(inner.steps)?;
        self.context.hold_row(inner.steps)?;
        Ok((windows, inner))
    }
}

/// The multiples of `step_ms` that any of the windows shows.
fn inner_grid(windows: &Windows, step_ms: i64) -> Grid {
    let after_ms = windows.start_ms(0);
    // Division rounds towards zero, so the multiple may lie on either side of the border.
    let mut start_ms = after_ms / step_ms * step_ms;
    if start_ms <= after_ms {
        start_ms = start_ms.saturating_add(step_ms);
    }
    Grid::range(start_ms, windows.end_ms(windows.grid.steps.saturating_sub(1)), step_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_multiples_of_the_step() {
        let windows = |at| Windows::plain(Grid::instant(at), 100);
        assert_eq!(inner_grid(&windows(100), 30), Grid::range(30, 100, 30));
        assert_eq!(inner_grid(&windows(130), 30), Grid::range(60, 130, 30));
        assert_eq!(inner_grid(&windows(-5), 30).start_ms, -90);
    }
}
