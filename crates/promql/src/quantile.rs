//! Quantiles of plain values.

use std::cmp::Ordering;

/// The `q`-quantile of `values`, interpolated between neighbours. NaN without values or for a NaN
/// `q`; infinite for `q` outside 0 to 1. Leaves the values sorted, NaN first.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(nan_first);
    let last = values.len() - 1;
    let rank = q * crate::kernel::over_time::count(last);
    let lower = index(rank.floor()).min(last);
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// The order of values in which a NaN is smaller than everything.
pub(crate) fn nan_first(a: &f64, b: &f64) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// A whole number between 0 and the length of a slice as an index.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is whole, not negative and at most the length of a slice"
)]
fn index(value: f64) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile(0.75, &mut [1.0, 2.0]), 1.75);
        assert_eq!(quantile(1.0, &mut [1.0, 2.0]), 2.0);
        assert_eq!(quantile(-0.1, &mut [1.0]), f64::NEG_INFINITY);
        assert_eq!(quantile(1.1, &mut [1.0]), f64::INFINITY);
        assert!(quantile(0.5, &mut []).is_nan());
        assert!(quantile(0.0, &mut [1.0, f64::NAN]).is_nan());
    }
}
