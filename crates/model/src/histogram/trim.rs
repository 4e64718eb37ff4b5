//! Histograms without the observations above or below a value: PromQL's `</` and `>/`.

use crate::histogram::{Bucket, FloatHistogram};

/// Which observations stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those below the value.
    Below,
    /// Those above it.
    Above,
}

/// Of what kind the bounds of a bucket are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// Custom bounds: observations lie evenly between them.
    Linear,
    Positive,
    Negative,
}

/// What stays of a bucket, and where its observations are thought to lie.
struct Kept {
    count: f64,
    middle: f64,
}

impl FloatHistogram {
    /// Takes out the observations on the other side of `value`. Of the bucket that holds it a part
    /// stays, by interpolation; count and sum are estimated anew if anything was taken out.
    pub fn trim(&mut self, value: f64, keep: Keep) {
        let positive_scale =
            if self.uses_custom_buckets() { Scale::Linear } else { Scale::Positive };
        let positive: Vec<Bucket> = self.positive().collect();
        let negative: Vec<Bucket> = self.negative().collect();
        let mut rest = Rest::default();
        let has_positive =
            rest.trim_side(&positive, &mut self.positive_buckets, (value, keep, positive_scale));
        let has_negative =
            rest.trim_side(&negative, &mut self.negative_buckets, (value, keep, Scale::Negative));
        if self.zero_count > 0.0 {
            let mut zero = self.zero_bucket();
            // Without observations on a side the zero bucket holds none of it either.
            if has_negative && !has_positive {
                zero.upper = 0.0;
            } else if has_positive && !has_negative {
                zero.lower = 0.0;
            }
            let kept = trim_zero(&zero, value, keep);
            rest.changed |= self.zero_count != kept.count;
            self.zero_count = kept.count;
            rest.add(&kept);
        }
        if rest.changed {
            self.count = rest.count;
            self.sum = rest.sum;
            self.compact(0);
        }
    }
}

/// Count and sum of what stays.
#[derive(Default)]
struct Rest {
    count: f64,
    sum: f64,
    changed: bool,
}

impl Rest {
    fn add(&mut self, kept: &Kept) {
        self.sum += kept.middle * kept.count;
        self.count += kept.count;
    }

    /// Trims one side; true if it had any observation before.
    fn trim_side(
        &mut self,
        buckets: &[Bucket],
        counts: &mut [f64],
        (value, keep, scale): (f64, Keep, Scale),
    ) -> bool {
        let mut any = false;
        for (bucket, count) in buckets.iter().zip(counts) {
            if bucket.count == 0.0 {
                continue;
            }
            any = true;
            let (inside, partly) = match keep {
                Keep::Below => (bucket.upper <= value, bucket.lower < value),
                Keep::Above => (bucket.lower >= value, bucket.upper > value),
            };
            if inside {
                let middle = middle(bucket.lower, bucket.upper, scale);
                self.add(&Kept { count: bucket.count, middle });
            } else if partly {
                let kept = cut(bucket, value, keep, scale);
                self.changed |= *count != kept.count;
                *count = kept.count;
                self.add(&kept);
            } else {
                *count = 0.0;
                self.changed = true;
            }
        }
        any
    }
}

/// What stays of a bucket that holds `value`.
fn cut(bucket: &Bucket, value: f64, keep: Keep, scale: Scale) -> Kept {
    if bucket.lower == f64::NEG_INFINITY {
        return cut_lowest(bucket, value, keep);
    }
    if bucket.upper == f64::INFINITY {
        return match keep {
            // Where above its lower bound the observations lie is not known: none stays below.
            Keep::Below => Kept { count: 0.0, middle: bucket.lower },
            Keep::Above if value >= bucket.lower => Kept { count: bucket.count, middle: value },
            Keep::Above => Kept { count: 0.0, middle: bucket.lower },
        };
    }
    let below = if value <= bucket.lower {
        0.0
    } else if value >= bucket.upper {
        bucket.count
    } else {
        bucket.count * bucket.fraction_below(value, scale == Scale::Linear)
    };
    match keep {
        Keep::Below => Kept { count: below, middle: middle(bucket.lower, value, scale) },
        Keep::Above => {
            Kept { count: bucket.count - below, middle: middle(value, bucket.upper, scale) }
        }
    }
}

/// What stays of a bucket without a lower bound; one that ends above zero is thought to begin
/// there.
fn cut_lowest(bucket: &Bucket, value: f64, keep: Keep) -> Kept {
    let (upper, count) = (bucket.upper, bucket.count);
    let finite = |it: f64| if it.is_infinite() { 0.0 } else { it };
    let nothing = Kept { count: 0.0, middle: finite(upper) };
    match keep {
        Keep::Below if value >= upper => Kept { count, middle: 0.0 },
        Keep::Below if value > 0.0 && upper > 0.0 && upper != f64::INFINITY => {
            Kept { count: count * value / upper, middle: value / 2.0 }
        }
        Keep::Below if upper <= 0.0 => Kept { count, middle: value },
        Keep::Below => nothing,
        Keep::Above if value == f64::NEG_INFINITY => Kept { count, middle: 0.0 },
        Keep::Above if value >= 0.0 && upper > value && upper != f64::INFINITY => {
            Kept { count: count * (1.0 - value / upper), middle: (value + upper) / 2.0 }
        }
        Keep::Above => nothing,
    }
}

fn trim_zero(zero: &Bucket, value: f64, keep: Keep) -> Kept {
    let (lower, upper, count) = (zero.lower, zero.upper, zero.count);
    let all = Kept { count, middle: (lower + upper) / 2.0 };
    let nothing = Kept { count: 0.0, middle: 0.0 };
    let (fraction, middle) = match keep {
        Keep::Below if value <= lower => return nothing,
        Keep::Below if value >= upper => return all,
        Keep::Below => ((value - lower) / (upper - lower), (lower + value) / 2.0),
        Keep::Above if value <= lower => return all,
        Keep::Above if value >= upper => return nothing,
        Keep::Above => ((upper - value) / (upper - lower), (value + upper) / 2.0),
    };
    Kept { count: count * fraction, middle }
}

/// Where observations between two bounds are thought to lie on average.
fn middle(lower: f64, upper: f64, scale: Scale) -> f64 {
    if lower.is_infinite() {
        return match upper {
            upper if upper.is_infinite() => 0.0,
            upper if upper > 0.0 => upper / 2.0,
            upper => upper,
        };
    }
    if upper.is_infinite() {
        return lower;
    }
    match scale {
        Scale::Linear => (lower + upper) / 2.0,
        Scale::Positive => (lower * upper).abs().sqrt(),
        Scale::Negative => -(lower * upper).abs().sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Span;

    #[test]
    fn the_bucket_of_the_value_is_cut() {
        let it = FloatHistogram {
            count: 10.0,
            sum: 100.0,
            positive_spans: vec![Span { offset: 1, length: 3 }],
            positive_buckets: vec![2.0, 4.0, 4.0],
            ..FloatHistogram::default()
        };
        let mut below = it.clone();
        // Half of (2, 4] by logarithms.
        below.trim(8_f64.sqrt(), Keep::Below);
        assert_eq!(below.positive_buckets, [2.0, 2.0]);
        assert_eq!(below.count, 4.0);
        let mut above = it.clone();
        above.trim(4.0, Keep::Above);
        assert_eq!((above.positive_spans[0].offset, above.count), (3, 4.0));
        assert_eq!(above.sum, 4.0 * 32_f64.sqrt());
        let mut all = it.clone();
        all.trim(100.0, Keep::Below);
        assert_eq!(all, it);
    }
}
