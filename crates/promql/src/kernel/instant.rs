//! The newest sample before each step, not older than the lookback delta.

use std::sync::Arc;

use model::{Columns, FloatHistogram, is_stale};

use crate::cancel::Pace;
use crate::error::Error;
use crate::kernel::Windows;
use crate::row::Row;

/// What an instant selector takes from a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// Its value.
    Value,
    /// Its time in seconds, for `timestamp()`.
    Timestamp,
    /// When it was begun, in seconds, for `start_timestamp()`.
    Start,
}

/// Looks one series up at every step. The windows are as long as the lookback delta; a staleness
/// marker as the newest sample ends the series. Histograms are taken out of the columns.
pub(crate) fn look_up(
    take: Take,
    windows: &Windows,
    columns: &mut Columns,
    row: &mut Row,
    pace: &mut Pace,
) -> Result<(), Error> {
    let (ts, values) = (&*columns.timestamps_ms, &*columns.values);
    let starts = &*columns.start_timestamps_ms;
    windows.slide(ts, pace, |step, window| {
        let newest = window.end - 1;
        if !is_stale(values[newest]) {
            let value = match take {
                Take::Value => values[newest],
                Take::Timestamp => seconds(ts[newest]),
                Take::Start => seconds(starts.get(newest).copied().unwrap_or_default()),
            };
            row.put(step, value);
        }
    })?;
    if columns.histogram_timestamps_ms.is_empty() {
        return Ok(());
    }
    let histogram_ts = &*columns.histogram_timestamps_ms;
    let starts = &*columns.histogram_start_timestamps_ms;
    let histograms = &mut columns.histograms;
    // The histogram that was taken last, and where it stood: steps share it.
    let mut taken: Option<(usize, Arc<FloatHistogram>)> = None;
    windows.slide(histogram_ts, pace, |step, window| {
        let newest = window.end - 1;
        let float = ts.partition_point(|it| *it <= windows.end_ms(step));
        if float > 0 && ts[float - 1] >= histogram_ts[newest] {
            return;
        }
        let known = taken.as_ref().filter(|(at, _)| *at == newest);
        let histogram = match known {
            Some((_, histogram)) => Arc::clone(histogram),
            None => Arc::new(std::mem::take(&mut histograms[newest])),
        };
        taken = Some((newest, Arc::clone(&histogram)));
        if histogram.is_stale() {
            row.present.unset(step);
            return;
        }
        match take {
            Take::Value => row.put_histogram(step, histogram),
            Take::Timestamp => row.put(step, seconds(histogram_ts[newest])),
            Take::Start => {
                row.put(step, seconds(starts.get(newest).copied().unwrap_or_default()));
            }
        }
    })
}

/// Milliseconds as seconds.
pub(crate) fn seconds(time_ms: i64) -> f64 {
    float(time_ms) / 1000.0
}

/// The nearest float; exact below 2^53, which is 285,000 years in ms.
#[expect(clippy::cast_precision_loss, reason = "what PromQL does with times")]
pub(crate) fn float(value: i64) -> f64 {
    value as f64
}
