//! `double_exponential_smoothing`: a moving average that follows the trend.

use crate::cancel::Pace;
use crate::error::Error;
use crate::kernel::Windows;
use crate::row::Row;

/// Evaluates it over every window; the scalars are the factors of smoothing and of trend.
pub(crate) fn evaluate(
    windows: &Windows,
    (ts, values): (&[i64], &[f64]),
    scalar: &dyn Fn(usize, usize) -> f64,
    row: &mut Row,
    pace: &mut Pace,
) -> Result<(), Error> {
    let mut failed = Ok(());
    windows.recompute(ts, pace, |step, window| {
        let (smoothing, trend) = (scalar(0, step), scalar(1, step));
        if failed.is_ok() {
            failed = check(smoothing, trend);
        }
        if window.len() > 1 {
            row.put(step, smooth(&values[window], smoothing, trend));
        }
    })?;
    failed
}

/// Refuses factors that are not between 0 and 1.
pub(crate) fn check(smoothing: f64, trend: f64) -> Result<(), Error> {
    // A NaN is neither too small nor too large.
    if smoothing <= 0.0 || smoothing >= 1.0 {
        let text = "invalid smoothing factor. Expected: 0 < sf < 1";
        return Err(Error::execution(format!("{text}, got: {smoothing:.6}")));
    }
    if trend <= 0.0 || trend >= 1.0 {
        let text = "invalid trend factor. Expected: 0 < tf < 1";
        return Err(Error::execution(format!("{text}, got: {trend:.6}")));
    }
    Ok(())
}

fn smooth(values: &[f64], smoothing: f64, trend_factor: f64) -> f64 {
    let (mut before, mut smoothed) = (0.0, values[0]);
    let mut trend = values[1] - values[0];
    for (at, value) in values.iter().enumerate().skip(1) {
        if at > 1 {
            trend = trend_factor * (smoothed - before) + (1.0 - trend_factor) * trend;
        }
        let next = smoothing * value + (1.0 - smoothing) * (smoothed + trend);
        (before, smoothed) = (smoothed, next);
    }
    smoothed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_followed() {
        assert!((smooth(&[1.0, 2.0, 3.0, 4.0], 0.5, 0.5) - 4.0).abs() < 1e-12);
        assert!(check(0.0, 0.5).is_err() && check(0.5, 1.0).is_err() && check(0.5, 0.5).is_ok());
    }
}
