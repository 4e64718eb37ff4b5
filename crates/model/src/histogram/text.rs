//! The text of a histogram as Prometheus prints it in logs and labels.

use std::fmt;

use crate::float::append_g;
use crate::histogram::{Bucket, FloatHistogram};

impl fmt::Display for FloatHistogram {
    /// `{count:3, sum:5, [-1,-0.5):1, [-0.001,0.001]:1, (1,2]:1}`: buckets that are not empty,
    /// upwards.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", general(self.count), general(self.sum))?;
        let filled = |it: &Bucket| it.count != 0.0;
        for bucket in self.negative_reversed().filter(filled) {
            write!(f, ", {bucket}")?;
        }
        if self.zero_count != 0.0 {
            write!(f, ", {}", self.zero_bucket())?;
        }
        for bucket in self.positive().filter(filled) {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Bucket {
    /// `(1,2]:3`, with brackets for bounds that belong to the bucket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        let (lower, upper) = (general(self.lower), general(self.upper));
        write!(f, "{open}{lower},{upper}{close}:{}", general(self.count))
    }
}

fn general(value: f64) -> String {
    let mut text = Vec::with_capacity(24);
    append_g(&mut text, value);
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::histogram::{FloatHistogram, Span};

    #[test]
    fn texts_are_those_of_prometheus() {
        assert_eq!(FloatHistogram::default().to_string(), "{count:0, sum:0}");
        let it = FloatHistogram {
            schema: 0,
            count: 13.0,
            sum: 1e-7,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_buckets: vec![1.0, 0.0, 2.5],
            negative_spans: vec![Span { offset: 0, length: 2 }],
            negative_buckets: vec![3.0, 4.0],
            ..FloatHistogram::default()
        };
        let expected = "{count:13, sum:1e-07, [-2,-1):4, [-1,-0.5):3, [-0.001,0.001]:2, \
                        (0.5,1]:1, (2,4]:2.5}";
        assert_eq!(it.to_string(), expected);
        let custom = FloatHistogram {
            schema: -53,
            custom_values: vec![2.0],
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1.0, 1.0],
            ..FloatHistogram::default()
        };
        assert_eq!(custom.to_string(), "{count:0, sum:0, [-Inf,2]:1, (2,+Inf]:1}");
    }
}
