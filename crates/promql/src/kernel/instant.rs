//! The newest sample before each step, not older than the lookback delta.

use model::{Columns, is_stale};

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
}

/// Looks one series up at every step. The windows are as long as the lookback delta; a staleness
/// marker as the newest sample ends the series. Answers whether a native histogram was met, which
/// leaves its step without a value.
pub(crate) fn look_up(
    take: Take,
    windows: &Windows,
    columns: &Columns,
    row: &mut Row,
    pace: &mut Pace,
) -> Result<bool, Error> {
    let (ts, values) = (&*columns.timestamps_ms, &*columns.values);
    windows.slide(ts, pace, |step, window| {
        let newest = window.end - 1;
        if !is_stale(values[newest]) {
            let value = match take {
                Take::Value => values[newest],
                Take::Timestamp => seconds(ts[newest]),
            };
            row.put(step, value);
        }
    })?;
    let mut met = false;
    let histogram_ts = &*columns.histogram_timestamps_ms;
    if histogram_ts.is_empty() {
        return Ok(met);
    }
    windows.slide(histogram_ts, pace, |step, window| {
        let newest_ms = histogram_ts[window.end - 1];
        let float = ts.partition_point(|it| *it <= windows.end_ms(step));
        if float > 0 && ts[float - 1] >= newest_ms {
            return;
        }
        met |= !is_stale(columns.histograms[window.end - 1].sum);
        row.present.unset(step);
    })?;
    Ok(met)
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
