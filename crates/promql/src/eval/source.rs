//! Series with their samples as they come from the storage, or from a subquery.

use std::sync::Arc;

use model::histogram::CounterResetHint;
use model::{Columns, FloatHistogram, Labels};

use crate::error::Error;
use crate::eval::account::HistogramAccount;
use crate::eval::{Context, Rows};
use crate::row::{Grid, Row};
use crate::storage::SeriesStream;

/// A source of series with samples in time order.
pub(crate) trait Series: Send {
    /// Clears `columns`, fills it with the next series' samples and gives its labels.
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, Error>;

    /// Whether the name of the series given last is to be taken away at the end of the query.
    fn drops_name(&self) -> bool {
        false
    }
}

/// Series of a storage; counts the samples. Whoever holds the columns charges them.
pub(crate) struct Stored {
    context: Arc<Context>,
    stream: Box<dyn SeriesStream>,
    /// Nothing but counts and sums of histograms is wanted.
    statistics: bool,
}

impl Stored {
    pub(crate) fn new(
        context: &Arc<Context>,
        stream: Box<dyn SeriesStream>,
        statistics: bool,
    ) -> Stored {
        Stored { context: Arc::clone(context), stream, statistics }
    }
}

/// Takes the buckets of histograms away; the resets that they tell of become hints.
fn keep_statistics(histograms: &mut [FloatHistogram]) {
    for at in (0..histograms.len()).rev() {
        let (before, rest) = histograms.split_at_mut(at);
        let it = &mut rest[0];
        let before = before.iter().rev().find(|it| !it.is_stale());
        let counter_reset_hint = match (it.counter_reset_hint, before) {
            (CounterResetHint::Unknown, Some(before)) if !it.is_stale() => {
                if it.detect_reset(before) {
                    CounterResetHint::Reset
                } else {
                    CounterResetHint::NotReset
                }
            }
            (hint, _) => hint,
        };
        *it = FloatHistogram {
            schema: it.schema,
            count: it.count,
            sum: it.sum,
            counter_reset_hint,
            ..FloatHistogram::default()
        };
    }
}

impl Series for Stored {
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, Error> {
        self.context.cancel.check()?;
        let labels = self.stream.next(columns)?;
        self.context.count_samples(columns.len())?;
        if self.statistics {
            keep_statistics(&mut columns.histograms);
        }
        Ok(labels)
    }
}

/// The rows of a subquery as series.
pub(crate) struct Computed {
    rows: Box<dyn Rows>,
    grid: Grid,
    row: Row,
    account: HistogramAccount,
}

impl Computed {
    pub(crate) fn new(
        context: &Context,
        rows: Box<dyn Rows>,
        grid: Grid,
    ) -> Result<Computed, Error> {
        let account = HistogramAccount::new(context)?;
        Ok(Computed { rows, grid, row: Row::default(), account })
    }
}

impl Series for Computed {
    fn drops_name(&self) -> bool {
        self.row.drop_name
    }

    fn next(&mut self, columns: &mut Columns) -> Result<Option<Labels>, Error> {
        columns.clear();
        if !self.rows.next(&mut self.row)? {
            return Ok(None);
        }
        for (step, value) in self.row.iter() {
            columns.push_float(self.grid.time_ms(step), value);
        }
        self.account.begin_row();
        for (step, histogram) in self.row.histograms.drain(..) {
            if Arc::strong_count(&histogram) > 1 {
                self.account.add(&histogram)?;
            }
            columns.histogram_timestamps_ms.push(self.grid.time_ms(step));
            let mut histogram = Arc::unwrap_or_clone(histogram);
            // The samples between those that a subquery sees are not known: what the hints say of
            // resets does not hold here.
            if histogram.counter_reset_hint != CounterResetHint::Gauge {
                histogram.counter_reset_hint = CounterResetHint::Unknown;
            }
            columns.histograms.push(histogram);
        }
        Ok(Some(self.row.labels.clone()))
    }
}
