//! The least-squares line through a window.

use crate::kahan::Kahan;
use crate::kernel::instant::float;

/// A line by slope per second and value at a chosen time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) slope: f64,
    pub(crate) intercept: f64,
}

/// Fits a line; its intercept is the value at `zero_ms`. The window must not be empty.
pub(crate) fn fit(ts: &[i64], values: &[f64], zero_ms: i64) -> Line {
    let first = values[0];
    // A constant is a line without slope, whatever rounding would say.
    if values.iter().all(|value| *value == first) {
        return if first.is_infinite() {
            Line { slope: f64::NAN, intercept: f64::NAN }
        } else {
            Line { slope: 0.0, intercept: first }
        };
    }
    let mut n = 0.0;
    let (mut x_sum, mut y_sum) = (Kahan::default(), Kahan::default());
    let (mut xy_sum, mut xx_sum) = (Kahan::default(), Kahan::default());
    for (time_ms, y) in ts.iter().zip(values) {
        n += 1.0;
        let x = float(time_ms.saturating_sub(zero_ms)) / 1e3;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let (x, y) = (x_sum.total(), y_sum.total());
    let covariance = xy_sum.total() - x * y / n;
    let variance = xx_sum.total() - x * x / n;
    let slope = covariance / variance;
    Line { slope, intercept: y / n - slope * x / n }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found() {
        let line = fit(&[0, 1000, 2000, 3000], &[1.0, 3.0, 5.0, 7.0], 1000);
        assert_eq!(line, Line { slope: 2.0, intercept: 3.0 });
        let flat = fit(&[0, 10], &[4.0, 4.0], 0);
        assert_eq!(flat, Line { slope: 0.0, intercept: 4.0 });
        assert!(fit(&[0, 10], &[f64::INFINITY, f64::INFINITY], 0).slope.is_nan());
    }
}
