//! Zero buckets of different width: the narrower one takes in buckets until both are equal.

use crate::histogram::FloatHistogram;
use crate::histogram::kahan::{Lost, add_kahan};

impl FloatHistogram {
    /// What the zero bucket would count if it were at least as wide as `threshold`, and how wide
    /// it then is, because it never ends inside a bucket that is not empty; last, what rounding
    /// took from the count.
    pub(super) fn widened_zero(&self, threshold: f64, lost: Option<&Lost>) -> (f64, f64, f64) {
        let mut threshold = threshold;
        'widen: loop {
            let mut count = self.zero_count;
            let mut count_lost = lost.map_or(0.0, |lost| lost.zero_count);
            if threshold <= self.zero_threshold {
                return (count, threshold, count_lost);
            }
            let of = |lost: &[f64], at: usize| lost.get(at).copied().unwrap_or_default();
            for (at, bucket) in self.positive().enumerate() {
                if bucket.lower >= threshold {
                    break;
                }
                add_kahan(bucket.count, &mut count, &mut count_lost);
                if let Some(lost) = lost {
                    add_kahan(of(&lost.positive, at), &mut count, &mut count_lost);
                }
                if bucket.upper > threshold {
                    if bucket.count != 0.0 {
                        threshold = bucket.upper;
                    }
                    break;
                }
            }
            for (at, bucket) in self.negative().enumerate() {
                if bucket.upper <= -threshold {
                    break;
                }
                add_kahan(bucket.count, &mut count, &mut count_lost);
                if let Some(lost) = lost {
                    add_kahan(of(&lost.negative, at), &mut count, &mut count_lost);
                }
                if bucket.lower < -threshold {
                    if bucket.count != 0.0 {
                        threshold = -bucket.lower;
                        continue 'widen;
                    }
                    break;
                }
            }
            return (count, threshold, count_lost);
        }
    }

    /// Makes the zero bucket as wide as that of `other` or wider; answers what that of `other`
    /// counts at this width, and what rounding took from it.
    pub(super) fn reconcile_zero(
        &mut self,
        other: &FloatHistogram,
        mut lost: Option<&mut Lost>,
    ) -> (f64, f64) {
        let (mut count, mut threshold, mut count_lost) =
            (other.zero_count, other.zero_threshold, 0.0);
        loop {
            if self.zero_threshold > threshold {
                (count, threshold, count_lost) = other.widened_zero(self.zero_threshold, None);
            }
            // Widths that are no numbers are equal to none and end this, too.
            if threshold.partial_cmp(&self.zero_threshold) != Some(std::cmp::Ordering::Greater) {
                return (count, count_lost);
            }
            let widened = self.widened_zero(threshold, lost.as_deref());
            let ours_lost;
            (self.zero_count, self.zero_threshold, ours_lost) = widened;
            if let Some(lost) = &mut lost {
                lost.zero_count = ours_lost;
            }
            self.empty_inside_zero(lost.as_deref_mut());
        }
    }

    /// Empties the buckets that the zero bucket has taken in, and compacts.
    fn empty_inside_zero(&mut self, lost: Option<&mut Lost>) {
        let threshold = self.zero_threshold;
        let positive = self.positive().take_while(|it| it.lower < threshold).count();
        let negative = self.negative().take_while(|it| it.upper > -threshold).count();
        self.positive_buckets[..positive].fill(0.0);
        self.negative_buckets[..negative].fill(0.0);
        match lost {
            Some(lost) => {
                lost.positive[..positive].fill(0.0);
                lost.negative[..negative].fill(0.0);
                lost.compact(self);
            }
            None => self.compact(0),
        }
    }
}
