//! Quantiles and fractions of classic histograms: cumulative counts by upper bound.

use std::cmp::Ordering;

/// A bucket: how many observations were at most `upper`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) upper: f64,
    pub(crate) count: f64,
}

/// What had to be changed so that counts never fall with growing bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ForcedMonotonicity {
    /// The lowest bound whose count was raised.
    pub(crate) lowest: f64,
    /// The highest bound whose count was raised.
    pub(crate) highest: f64,
    /// The most that a count was raised by.
    pub(crate) largest_change: f64,
}

/// Counts that differ relatively by less than this differ by rounding.
const ROUNDING: f64 = 1e-12;

/// The `q`-quantile, interpolated linearly inside its bucket, and what had to be repaired for it.
///
/// NaN without a `+Inf` bucket, with fewer than two buckets, or without observations; in the
/// highest bucket the bound below it; in a lowest bucket that ends at or below zero its bound.
pub(crate) fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<ForcedMonotonicity>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !prepare(buckets) {
        return (f64::NAN, None);
    }
    let forced = make_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, forced);
    }
    let mut rank = q * observations;
    // A NaN count is never at least the rank.
    let too_few = |it: &Bucket| it.count.partial_cmp(&rank).is_none_or(Ordering::is_lt);
    let at = buckets[..last].partition_point(too_few);
    if at == last {
        return (buckets[last - 1].upper, forced);
    }
    if at == 0 && buckets[0].upper <= 0.0 {
        return (buckets[0].upper, forced);
    }
    let (mut start, mut count) = (0.0, buckets[at].count);
    if at > 0 {
        start = buckets[at - 1].upper;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    (start + (buckets[at].upper - start) * (rank / count), forced)
}

/// The share of observations between `lower` and `upper`, interpolated linearly inside buckets.
pub(crate) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !prepare(buckets) {
        return f64::NAN;
    }
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank = |value| match rank_of(value, buckets) {
        None => count,
        Some(rank) if rank > count => count,
        Some(rank) => rank,
    };
    (rank(upper) - rank(lower)) / count
}

/// How many observations are estimated to be at most `value`; `None` above all buckets.
fn rank_of(value: f64, buckets: &[Bucket]) -> Option<f64> {
    let mut below = if buckets[0].upper <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let mut rank = 0.0;
    for bucket in buckets {
        if below >= value {
            return Some(rank);
        }
        if bucket.upper > value {
            // Nothing can be interpolated in a bucket without a lower end.
            return Some(if below == f64::NEG_INFINITY {
                bucket.count
            } else {
                rank + (bucket.count - rank) * (value - below) / (bucket.upper - below)
            });
        }
        rank = bucket.count;
        below = bucket.upper;
    }
    None
}

/// Sorts by bound and joins equal bounds; false without a `+Inf` bucket.
fn prepare(buckets: &mut Vec<Bucket>) -> bool {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    if buckets.last().is_none_or(|it| it.upper != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.upper == kept.upper;
        if same {
            kept.count += next.count;
        }
        same
    });
    true
}

/// Raises counts that are below an earlier one; differences by rounding are levelled silently.
fn make_monotonic(buckets: &mut [Bucket]) -> Option<ForcedMonotonicity> {
    let mut forced: Option<ForcedMonotonicity> = None;
    let mut highest_count = buckets[0].count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == highest_count {
            continue;
        }
        if nearly_equal(highest_count, count) {
            bucket.count = highest_count;
        } else if count < highest_count {
            bucket.count = highest_count;
            let it = forced.get_or_insert(ForcedMonotonicity {
                lowest: bucket.upper,
                highest: bucket.upper,
                largest_change: 0.0,
            });
            it.lowest = it.lowest.min(bucket.upper);
            it.highest = it.highest.max(bucket.upper);
            it.largest_change = it.largest_change.max(highest_count - count);
        } else {
            highest_count = count;
        }
    }
    forced
}

fn nearly_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < ROUNDING * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < ROUNDING
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|(upper, count)| Bucket { upper: *upper, count: *count }).collect()
    }

    #[test]
    fn quantiles_interpolate_in_their_bucket() {
        let mut it = buckets(&[(f64::INFINITY, 4.0), (1.0, 2.0), (2.0, 4.0)]);
        assert_eq!(quantile(0.75, &mut it), (1.5, None));
        assert_eq!(quantile(0.25, &mut it), (0.5, None));
        let mut high = buckets(&[(1.0, 1.0), (f64::INFINITY, 4.0)]);
        assert_eq!(quantile(0.9, &mut high), (1.0, None));
        assert!(quantile(0.5, &mut buckets(&[(1.0, 1.0)])).0.is_nan());
        assert!(quantile(0.5, &mut Vec::new()).0.is_nan());
    }

    #[test]
    fn falling_counts_are_raised_and_told() {
        let mut it = buckets(&[(1.0, 10.0), (2.0, 5.0), (f64::INFINITY, 20.0)]);
        let (value, forced) = quantile(0.25, &mut it);
        assert_eq!(value, 0.5);
        let expected = ForcedMonotonicity { lowest: 2.0, highest: 2.0, largest_change: 5.0 };
        assert_eq!(forced, Some(expected));
    }

    #[test]
    fn fractions_add_up() {
        let mut it = buckets(&[(1.0, 2.0), (2.0, 4.0), (f64::INFINITY, 4.0)]);
        assert_eq!(fraction(0.0, 1.5, &mut it), 0.75);
        assert_eq!(fraction(f64::NEG_INFINITY, f64::INFINITY, &mut it), 1.0);
        assert_eq!(fraction(2.0, 1.0, &mut it), 0.0);
    }
}
