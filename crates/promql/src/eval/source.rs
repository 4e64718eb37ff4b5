//! Series with their samples as they come from the storage, or from a subquery.

use std::sync::Arc;

use model::{Columns, Labels, Reservation};

use crate::error::Error;
use crate::eval::{Context, Rows};
use crate::row::{Grid, Row};
use crate::storage::SeriesStream;

/// A source of series with samples in time order.
pub(crate) trait Series: Send {
    /// Clears `columns`, fills it with the next series' samples and gives its labels.
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, Error>;
}

/// Series of a storage; counts the samples and charges the columns.
pub(crate) struct Stored {
    context: Arc<Context>,
    stream: Box<dyn SeriesStream>,
    reservation: Reservation,
}

impl Stored {
    pub(crate) fn new(
        context: &Arc<Context>,
        stream: Box<dyn SeriesStream>,
    ) -> Result<Stored, Error> {
        let reservation = context.reservation()?;
        Ok(Stored { context: Arc::clone(context), stream, reservation })
    }
}

impl Series for Stored {
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, Error> {
        self.context.cancel.check()?;
        let labels = self.stream.next(columns)?;
        if labels.is_none() {
            let mut warnings = self.stream.take_warnings();
            self.context.storage_warnings.lock().append(&mut warnings);
        }
        self.context.count_samples(columns.len())?;
        // The buffers only grow to the largest series; several may be under way at once.
        let bytes = columns.capacity_bytes();
        if bytes > self.reservation.bytes() {
            self.reservation.resize(bytes)?;
        }
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
