//! The reader of counter aggregates: one total that carries on over resets and over chunks.

/// What a sample of a counter means to the reader.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Seen {
    /// The total at a new time.
    Total(f64),
    /// NaN, which says nothing of the counter.
    NotANumber,
    /// The true last raw value at the time of the sample before, or one that goes back in time.
    Nothing,
}

/// A walk over the counter aggregates of a series, chunk after chunk.
///
/// An aggregate begins with the first raw sample and ends with the last raw value at a time that
/// it has already; between two chunks these tell whether the counter was reset.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walk {
    last: Option<(i64, f64)>,
    total: f64,
}

impl Walk {
    /// Takes the next sample.
    pub(super) fn take(&mut self, time_ms: i64, value: f64) -> Seen {
        if value.is_nan() {
            return Seen::NotANumber;
        }
        let Some((last_ms, last)) = self.last else {
            self.last = Some((time_ms, value));
            self.total = value;
            return Seen::Total(value);
        };
        if time_ms > last_ms {
            self.total += if value >= last { value - last } else { value };
            self.last = Some((time_ms, value));
            return Seen::Total(self.total);
        }
        if time_ms == last_ms {
            self.last = Some((last_ms, value));
        }
        Seen::Nothing
    }

    /// Tells that the series has a histogram at a time: the next float must be later.
    pub(super) fn pass(&mut self, time_ms: i64) {
        self.last = self.last.map(|(_, last)| (time_ms, last));
    }

    /// The last raw value.
    pub(super) fn last_value(&self) -> Option<f64> {
        self.last.map(|it| it.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_found_within_and_between_chunks() {
        let mut walk = Walk::default();
        // First raw, two windows, true last value; a chunk that goes on; one after a reset.
        let samples = [
            (5, 10.0, Seen::Total(10.0)),
            (9, 12.0, Seen::Total(12.0)),
            (19, 20.0, Seen::Total(20.0)),
            (19, 4.0, Seen::Nothing),
            (21, 5.0, Seen::Total(21.0)),
            (25, f64::NAN, Seen::NotANumber),
            (29, 9.0, Seen::Total(25.0)),
            (29, 9.0, Seen::Nothing),
            (31, 2.0, Seen::Total(27.0)),
            (30, 100.0, Seen::Nothing),
            (39, 3.0, Seen::Total(28.0)),
        ];
        for (time_ms, value, want) in samples {
            assert_eq!(walk.take(time_ms, value), want, "{time_ms}");
        }
        assert_eq!(walk.last_value(), Some(3.0));
    }
}
