//! The account of the histograms that an operator makes.
//!
//! A row of floats is charged by its length. Histograms are charged as they are made, because one
//! may come of every step however few samples were read.

use std::sync::Arc;

use model::{FloatHistogram, Reservation};

use crate::cancel::Pace;
use crate::error::Error;
use crate::eval::Context;

/// Least bytes that an account grows by, so that most histograms cost it an addition.
pub(crate) const GROWTH_BYTES: usize = 64 << 10;

/// Bytes of buckets that cost as much time as one sample does.
const BYTES_PER_SAMPLE: usize = 128;

/// What the histograms of the largest row so far take: a row is let go, or charged by whoever keeps
/// it, before the next one is made.
pub(crate) struct HistogramAccount {
    reservation: Reservation,
    /// Of the row that is being made.
    row_bytes: usize,
    pace: Pace,
}

impl HistogramAccount {
    pub(crate) fn new(context: &Context) -> Result<HistogramAccount, Error> {
        let reservation = context.reservation()?;
        Ok(HistogramAccount { reservation, row_bytes: 0, pace: context.pace() })
    }

    /// Begins a row.
    pub(crate) fn begin_row(&mut self) {
        self.row_bytes = 0;
    }

    /// Charges a histogram of the row, and the time that it took to make it.
    pub(crate) fn add(&mut self, histogram: &FloatHistogram) -> Result<(), Error> {
        self.pace.spend(work_of(histogram))?;
        self.row_bytes = self.row_bytes.saturating_add(bytes_of(histogram));
        if let Some(more) = self.row_bytes.checked_sub(self.reservation.bytes())
            && more > 0
        {
            self.reservation.grow(more.max(GROWTH_BYTES))?;
        }
        Ok(())
    }
}

/// Bytes of a histogram in a row.
pub(crate) fn bytes_of(histogram: &FloatHistogram) -> usize {
    let entry = size_of::<(usize, Arc<FloatHistogram>)>();
    entry + size_of::<FloatHistogram>() + histogram.heap_bytes()
}

/// Units of work that it takes to look at a histogram, see [`Pace::spend`].
pub(crate) fn work_of(histogram: &FloatHistogram) -> usize {
    1 + histogram.heap_bytes() / BYTES_PER_SAMPLE
}
