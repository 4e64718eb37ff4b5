//! Compensated summation with Neumaier's improvement, as Prometheus sums.

/// A running sum and the part of it that rounding lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Kahan {
    pub(crate) sum: f64,
    pub(crate) lost: f64,
}

impl Kahan {
    /// A sum that begins with `sum`.
    pub(crate) fn from_value(sum: f64) -> Kahan {
        Kahan { sum, lost: 0.0 }
    }

    /// Adds one value.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        // The smaller of both operands is the one that lost digits. An infinite total has no
        // compensation: it would be a NaN.
        self.lost = if total.is_infinite() {
            0.0
        } else if self.sum.abs() >= value.abs() {
            self.lost + ((self.sum - total) + value)
        } else {
            self.lost + ((value - total) + self.sum)
        };
        self.sum = total;
    }

    /// The compensated sum.
    #[inline]
    pub(crate) fn total(self) -> f64 {
        self.sum + self.lost
    }
}

/// A mean that sums directly until the sum would overflow and goes on incrementally from there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    running: Kahan,
    count: f64,
    incremental: bool,
}

impl Mean {
    /// Adds one value.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.running = Kahan::from_value(value);
            return;
        }
        if !self.incremental {
            let mut next = self.running;
            next.add(value);
            if !next.sum.is_infinite() {
                self.running = next;
                return;
            }
            self.incremental = true;
            self.running.sum /= self.count - 1.0;
            self.running.lost /= self.count - 1.0;
        }
        let share = (self.count - 1.0) / self.count;
        self.running = Kahan { sum: share * self.running.sum, lost: share * self.running.lost };
        self.running.add(value / self.count);
    }

    /// The mean of what was added; NaN when nothing was.
    #[inline]
    pub(crate) fn value(self) -> f64 {
        if self.incremental {
            self.running.total()
        } else {
            self.running.sum / self.count + self.running.lost / self.count
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terms_survive_large_ones() {
        let mut sum = Kahan::default();
        for value in [1e100, 1.0, -1e100, 1.0] {
            sum.add(value);
        }
        assert_eq!(sum.total(), 2.0);
    }

    #[test]
    fn a_mean_does_not_overflow() {
        let mut mean = Mean::default();
        for _ in 0..4 {
            mean.add(f64::MAX);
        }
        assert!((mean.value() / f64::MAX - 1.0).abs() < 1e-12);
        assert!(Mean::default().value().is_nan());
    }
}
