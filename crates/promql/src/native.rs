//! Quantiles, fractions and deviations of native histograms.

use model::FloatHistogram;
use model::histogram::Bucket;
use model::histogram::schema::log2;

use crate::kahan::Kahan;

/// What is to be said about a result that observations without a number took part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NanRemark {
    /// The quantile lies among them.
    NanQuantile,
    /// They count as larger than everything.
    SkewedQuantile,
    /// They count in no fraction.
    ExcludedFromFractions,
}

/// The `q`-quantile: linear between the bounds of custom and zero buckets, exponential otherwise.
pub(crate) fn quantile(q: f64, it: &FloatHistogram) -> (f64, Option<NanRemark>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if it.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    let has_nan = it.sum.is_nan();
    // From the nearer end, unless NaN observations make the upper end unknown.
    let upwards = has_nan || q < 0.5;
    if upwards {
        find_quantile(it, q * it.count, (true, has_nan), it.all())
    } else {
        find_quantile(it, (1.0 - q) * it.count, (false, has_nan), it.all_reversed())
    }
}

fn find_quantile(
    it: &FloatHistogram,
    mut rank: f64,
    (upwards, has_nan): (bool, bool),
    mut buckets: impl Iterator<Item = Bucket>,
) -> (f64, Option<NanRemark>) {
    let mut found: Option<Bucket> = None;
    let mut count = 0.0;
    for bucket in buckets.by_ref() {
        found = Some(bucket);
        if bucket.count == 0.0 {
            continue;
        }
        count += bucket.count;
        if count >= rank {
            break;
        }
    }
    // Observations that are in no bucket leave nothing to interpolate in.
    let mut bucket = found.unwrap_or(Bucket {
        lower: 0.0,
        upper: 0.0,
        lower_inclusive: false,
        upper_inclusive: false,
        count: 0.0,
        index: 0,
    });
    if !it.uses_custom_buckets() && bucket.lower < 0.0 && bucket.upper > 0.0 {
        narrow_zero(it, &mut bucket);
    } else if it.uses_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, None);
        }
    }
    count = if count > it.count { it.count } else { count };
    if count < rank {
        // The quantile lies above all buckets.
        return if has_nan {
            (f64::NAN, Some(NanRemark::NanQuantile))
        } else {
            (bucket.upper, None)
        };
    }
    rank = if upwards { rank - (count - bucket.count) } else { count - rank };
    let mut remark = None;
    if has_nan {
        let counted = buckets.fold(count, |sum, bucket| sum + bucket.count);
        remark = (counted < it.count).then_some(NanRemark::SkewedQuantile);
    }
    (inside(it, &bucket, rank / bucket.count), remark)
}

/// Without observations on one side of zero the zero bucket holds none of it.
fn narrow_zero(it: &FloatHistogram, bucket: &mut Bucket) {
    match (it.negative_buckets.is_empty(), it.positive_buckets.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}

/// The value below which `fraction` of the observations of a bucket lie.
fn inside(it: &FloatHistogram, bucket: &Bucket, fraction: f64) -> f64 {
    if it.uses_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * fraction;
    }
    let lower = log2(bucket.lower.abs());
    let upper = log2(bucket.upper.abs());
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * fraction).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - fraction)).exp2()
    }
}

/// The share of observations between `lower` and `upper`.
pub(crate) fn fraction(lower: f64, upper: f64, it: &FloatHistogram) -> (f64, Option<NanRemark>) {
    if it.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let (mut count, mut rank) = (0.0, 0.0);
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut buckets = it.all();
    for mut bucket in buckets.by_ref() {
        count += bucket.count;
        let is_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if is_zero {
            narrow_zero(it, &mut bucket);
        }
        let linear = it.uses_custom_buckets() || is_zero;
        lower_rank = lower_rank.or_else(|| rank_in(&bucket, lower, (rank, linear)));
        upper_rank = upper_rank.or_else(|| rank_in(&bucket, upper, (rank, linear)));
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank += bucket.count;
    }
    let mut remark = None;
    if it.sum.is_nan() {
        count = buckets.fold(count, |sum, bucket| sum + bucket.count);
        remark = (count < it.count).then_some(NanRemark::ExcludedFromFractions);
    } else {
        count = it.count;
    }
    let at_most = |rank: Option<f64>| rank.filter(|rank| *rank <= count).unwrap_or(count);
    ((at_most(upper_rank) - at_most(lower_rank)) / it.count, remark)
}

/// How many observations are at most `value`, if that is decided by this bucket; `rank` of them lie
/// below it.
fn rank_in(bucket: &Bucket, value: f64, (rank, linear): (f64, bool)) -> Option<f64> {
    if bucket.lower >= value {
        return Some(rank);
    }
    if bucket.upper <= value || bucket.upper.is_nan() {
        return None;
    }
    if linear && bucket.lower == f64::NEG_INFINITY {
        // Nothing can be interpolated in a bucket without a lower end.
        return Some(bucket.count);
    }
    Some(rank + bucket.count * bucket.fraction_below(value, linear))
}

/// The population variance, each observation at the middle of its bucket: the arithmetic one in
/// custom buckets, zero in the zero bucket, the geometric one otherwise.
pub(crate) fn variance(it: &FloatHistogram) -> f64 {
    let mean = it.sum / it.count;
    let mut squares = Kahan::default();
    for bucket in it.all().filter(|it| it.count != 0.0) {
        let middle = if it.uses_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        let distance = middle - mean;
        squares.add(bucket.count * distance * distance);
    }
    squares.total() / it.count
}

#[cfg(test)]
mod tests {
    use model::histogram::Span;

    use super::*;

    fn example() -> FloatHistogram {
        FloatHistogram {
            count: 12.0,
            sum: 20.0,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![4.0, 6.0],
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn quantiles_are_exponential_inside_buckets() {
        let it = example();
        // Half of (1, 2] lies below its geometric middle.
        assert!((quantile(0.75, &it).0 - 2_f64.sqrt()).abs() < 1e-12);
        assert_eq!(quantile(0.0, &it).0, 0.0);
        assert_eq!(quantile(1.0, &it).0, 2.0);
        assert_eq!(quantile(-1.0, &it).0, f64::NEG_INFINITY);
        assert_eq!(quantile(2.0, &it).0, f64::INFINITY);
        let nan = FloatHistogram { count: 14.0, sum: f64::NAN, ..it };
        assert_eq!(quantile(0.1, &nan).1, Some(NanRemark::SkewedQuantile));
        assert_eq!(quantile(1.0, &nan).1, Some(NanRemark::NanQuantile));
    }

    #[test]
    fn fractions_add_up() {
        let it = example();
        assert_eq!(fraction(f64::NEG_INFINITY, f64::INFINITY, &it).0, 1.0);
        assert_eq!(fraction(1.0, 2_f64.sqrt(), &it).0, 0.25);
        assert_eq!(fraction(2.0, 1.0, &it).0, 0.0);
        assert!(fraction(f64::NAN, 1.0, &it).0.is_nan());
    }
}
