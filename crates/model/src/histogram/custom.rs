//! Histograms whose custom bounds differ: their sums keep the bounds that both have.

use crate::histogram::FloatHistogram;
use crate::histogram::kahan::add_kahan;
use crate::histogram::spans::{Counts, Layout};

/// The bounds that both lists have; both ascend.
pub(super) fn intersect(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut common = Vec::new();
    let mut rest = b.iter().copied().peekable();
    for bound in a {
        while rest.next_if(|it| it < bound).is_some() {}
        if rest.peek() == Some(bound) {
            common.push(*bound);
        }
    }
    common
}

/// Buckets between the common bounds, to which others are added.
pub(super) struct Target {
    bounds: Vec<f64>,
    counts: Vec<f64>,
    lost: Vec<f64>,
}

impl Target {
    pub(super) fn new(bounds: Vec<f64>) -> Target {
        let buckets = bounds.len() + 1;
        Target { bounds, counts: vec![0.0; buckets], lost: vec![0.0; buckets] }
    }

    /// Adds the buckets of a histogram, and what rounding took from each where that is known.
    pub(super) fn add(&mut self, it: &FloatHistogram, lost: Option<&[f64]>) {
        self.each(it, |at, count, sum, sum_lost| {
            add_kahan(count, sum, sum_lost);
            if let Some(lost) = lost.and_then(|lost| lost.get(at)) {
                add_kahan(*lost, sum, sum_lost);
            }
        });
    }

    /// Subtracts the buckets of a histogram.
    pub(super) fn subtract(&mut self, it: &FloatHistogram) {
        self.each(it, |_, count, sum, lost| add_kahan(-count, sum, lost));
    }

    fn each(&mut self, it: &FloatHistogram, join: impl Fn(usize, f64, &mut f64, &mut f64)) {
        let mut to = 0;
        for (at, (index, count)) in
            Counts::new(&it.positive_spans, &it.positive_buckets).enumerate()
        {
            let bound = usize::try_from(index).ok().and_then(|index| it.custom_values.get(index));
            to = match bound {
                Some(bound) => to + self.bounds[to..].partition_point(|it| it < bound),
                None => self.bounds.len(),
            };
            join(at, count, &mut self.counts[to], &mut self.lost[to]);
        }
    }

    /// Makes the buckets those of a histogram; answers what rounding took from each.
    pub(super) fn finish(self, it: &mut FloatHistogram) -> Vec<f64> {
        let mut layout = Layout::default();
        let (mut counts, mut kept_lost) = (Vec::new(), Vec::new());
        for (index, (count, lost)) in (0_i32..).zip(self.counts.iter().zip(&self.lost)) {
            if *count == 0.0 && *lost == 0.0 {
                continue;
            }
            layout.push(index);
            counts.push(*count);
            kept_lost.push(*lost);
        }
        it.positive_spans = layout.spans;
        it.positive_buckets = counts;
        it.custom_values = self.bounds;
        kept_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_bounds_stay() {
        assert_eq!(intersect(&[1.0, 2.0, 4.0, 9.0], &[0.5, 2.0, 3.0, 9.0, 10.0]), [2.0, 9.0]);
        assert!(intersect(&[1.0], &[]).is_empty());
    }
}
