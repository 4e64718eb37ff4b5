//! Whether a histogram from outside keeps the rules that everything else relies on.

use crate::histogram::schema::is_exponential;
use crate::histogram::{Error, FloatHistogram, Span};

impl FloatHistogram {
    /// Checks schema, spans, buckets, bounds and signs.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn validate(&self) -> Result<(), Error> {
        let schema = self.schema;
        check_side("positive", &self.positive_spans, self.positive_buckets.len())?;
        check_side("negative", &self.negative_spans, self.negative_buckets.len())?;
        if self.uses_custom_buckets() {
            self.check_bounds()?;
            let foreign = [
                (self.zero_count != 0.0, "a zero bucket"),
                (self.zero_threshold != 0.0, "a zero threshold"),
                (!self.negative_spans.is_empty(), "negative spans"),
            ];
            if let Some((_, what)) = foreign.into_iter().find(|(has, _)| *has) {
                return Err(Error::Foreign { schema, what });
            }
        } else if !is_exponential(schema) {
            return Err(Error::Schema { schema });
        } else if !self.custom_values.is_empty() {
            return Err(Error::Foreign { schema, what: "custom bounds" });
        }
        let counts = [("the count", self.count), ("the zero bucket", self.zero_count)];
        let buckets = self.positive_buckets.iter().chain(&self.negative_buckets);
        let mut all = counts.into_iter().chain(buckets.map(|count| ("a bucket", *count)));
        match all.find(|(_, count)| *count < 0.0) {
            Some((what, count)) => Err(Error::Negative { what, count }),
            None => Ok(()),
        }
    }

    fn check_bounds(&self) -> Result<(), Error> {
        let mut before = f64::NEG_INFINITY;
        for (at, bound) in self.custom_values.iter().enumerate() {
            // The lowest bound may be anything below +Inf.
            let ascends = *bound > before || at == 0 && *bound == before;
            if !ascends || *bound == f64::INFINITY {
                return Err(Error::Bound { number: at + 1, bound: *bound });
            }
            before = *bound;
        }
        let mut end = 0_u64;
        for (at, span) in self.positive_spans.iter().enumerate() {
            let offset = u64::try_from(span.offset).map_err(|_| Error::Offset {
                side: "positive",
                number: at + 1,
                offset: span.offset,
            })?;
            end += offset + u64::from(span.length);
        }
        let bounds = self.custom_values.len();
        if u64::try_from(bounds).is_ok_and(|bounds| bounds + 1 < end) {
            return Err(Error::BoundsTooFew { end, bounds });
        }
        Ok(())
    }
}

fn check_side(side: &'static str, spans: &[Span], given: usize) -> Result<(), Error> {
    let mut needed = 0_u64;
    for (at, span) in spans.iter().enumerate() {
        if at > 0 && span.offset < 0 {
            return Err(Error::Offset { side, number: at + 1, offset: span.offset });
        }
        needed += u64::from(span.length);
    }
    if u64::try_from(given) != Ok(needed) {
        return Err(Error::Buckets { side, needed, given });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_rules_are_found() {
        let span = |offset, length| Span { offset, length };
        let good = FloatHistogram {
            count: 3.0,
            positive_spans: vec![span(-2, 1), span(1, 1)],
            positive_buckets: vec![1.0, 2.0],
            ..FloatHistogram::default()
        };
        assert_eq!(good.validate(), Ok(()));
        let with = |change: fn(&mut FloatHistogram)| {
            let mut it = good.clone();
            change(&mut it);
            it.validate()
        };
        assert_eq!(with(|it| it.schema = 9), Err(Error::Schema { schema: 9 }));
        assert!(with(|it| it.positive_buckets.truncate(1)).is_err());
        assert!(with(|it| it.positive_spans[1].offset = -1).is_err());
        assert!(with(|it| it.positive_buckets[0] = -1.0).is_err());
        assert!(with(|it| it.custom_values.push(1.0)).is_err());
        let custom = FloatHistogram {
            schema: -53,
            custom_values: vec![1.0, 2.0],
            positive_spans: vec![span(0, 3)],
            positive_buckets: vec![1.0; 3],
            ..FloatHistogram::default()
        };
        assert_eq!(custom.validate(), Ok(()));
        let mut it = custom.clone();
        it.custom_values = vec![2.0, 1.0];
        assert_eq!(it.validate(), Err(Error::Bound { number: 2, bound: 1.0 }));
        it.custom_values = vec![2.0];
        assert_eq!(it.validate(), Err(Error::BoundsTooFew { end: 3, bounds: 1 }));
        it = custom;
        it.zero_count = 1.0;
        assert!(it.validate().is_err());
    }
}
