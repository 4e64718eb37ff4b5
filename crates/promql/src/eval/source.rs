//! Series with their samples as they come from the storage, or from a subquery.

use std::sync::Arc;

use model::{Columns, Labels};

use crate::error::Error;
use crate::eval::{Context, Rows};
use crate::row::{Grid, Row};
use crate::storage::SeriesStream;

/// A source of series with samples in time order.
pub(crate) trait Series: Send {
    /// Clears `columns`, fills it with the next series' samples and gives its labels.
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, Error>;
}

/// Series of a storage; counts the samples. Whoever holds the columns charges them.
pub(crate) struct Stored {
    context: Arc<Context>,
    stream: Box<dyn SeriesStream>,
}

impl Stored {
    pub(crate) fn new(context: &Arc<Context>, stream: Box<dyn SeriesStream>) -> Stored {
        Stored { context: Arc::clone(context), stream }
    }
}

impl Series for Stored {
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, Error> {
        self.context.cancel.check()?;
        let labels = self.stream.next(columns)?;
        self.context.count_samples(columns.len())?;
        Ok(labels)
    }
}

/// The rows of a subquery as series.
pub(crate) struct Computed {
    rows: Box<dyn Rows>,
    grid: Grid,
    row: Row,
}

impl Computed {
    pub(crate) fn new(rows: Box<dyn Rows>, grid: Grid) -> Computed {
        Computed { rows, grid, row: Row::default() }
    }
}

impl Series for Computed {
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, Error> {
        columns.clear();
        if !self.rows.next(&mut self.row)? {
            return Ok(None);
        }
        for (step, value) in self.row.iter() {
            columns.push_float(self.grid.time_ms(step), value);
        }
        Ok(Some(self.row.labels.clone()))
    }
}
