//! Schemas of native histograms: where the buckets of each index end.

use crate::histogram::bound_table::BOUND_BITS;
use crate::histogram::buckets::{CUSTOM_SCHEMA, SCHEMA_MAX, SCHEMA_MIN};

/// Whether `schema` is an exponential one.
pub fn is_exponential(schema: i32) -> bool {
    (SCHEMA_MIN..=SCHEMA_MAX).contains(&schema)
}

/// The upper bound of bucket `index`, which is the lower bound of the next one.
///
/// With custom buckets: the bound of that index, infinite outside them. Otherwise
/// `2^(index * 2^-schema)`; the last bucket of finite values ends at `f64::MAX`, because the one
/// after it holds the infinities.
pub fn upper_bound(index: i32, schema: i32, custom_values: &[f64]) -> f64 {
    if schema != CUSTOM_SCHEMA {
        return exponential_bound(index, schema);
    }
    match usize::try_from(index) {
        Ok(index) => custom_values.get(index).copied().unwrap_or(f64::INFINITY),
        Err(_) => f64::NEG_INFINITY,
    }
}

pub(super) fn exponential_bound(index: i32, schema: i32) -> f64 {
    let index = i64::from(index);
    if schema < 0 {
        let exponent = index << schema.unsigned_abs().min(31);
        return if exponent == 1024 { f64::MAX } else { power_of_two(exponent) };
    }
    if schema > SCHEMA_MAX {
        // Reserved schemas: close enough to tell buckets apart until they are made coarser.
        let (whole, finer) = (exponential_index(index, schema), schema - SCHEMA_MAX);
        let above = index - (whole << finer.min(62));
        let step = (f64::from(SCHEMA_MAX) + f64::from(finer)).exp2();
        let whole = i32::try_from(whole).unwrap_or(i32::MAX);
        let above = i32::try_from(above).map_or(0.0, f64::from);
        return exponential_bound(whole, SCHEMA_MAX) * (above / step).exp2();
    }
    let per_power = 1_i64 << schema;
    let place = (index & (per_power - 1)) << (SCHEMA_MAX - schema);
    let exponent = (index >> schema) + 1;
    if place == 0 && exponent == 1025 {
        return f64::MAX;
    }
    let fraction = usize::try_from(place).map_or(0, |place| BOUND_BITS[place]);
    scale(f64::from_bits(fraction), exponent)
}

/// The index at the finest schema of the bucket bound below one of a reserved schema.
fn exponential_index(index: i64, schema: i32) -> i64 {
    index >> (schema - SCHEMA_MAX).min(62)
}

/// `value * 2^exponent`, with one rounding.
fn scale(value: f64, exponent: i64) -> f64 {
    // The value lies in [0.5, 1): two factors reach every result, and only the last one rounds.
    if exponent < -1000 {
        return value * power_of_two(exponent + 1000) * power_of_two(-1000);
    }
    if exponent > 1000 {
        return value * power_of_two(exponent - 1000) * power_of_two(1000);
    }
    value * power_of_two(exponent)
}

fn power_of_two(exponent: i64) -> f64 {
    match exponent {
        ..-1074 => 0.0,
        -1074..-1022 => f64::from_bits(1 << (exponent + 1074)),
        -1022..1024 => f64::from_bits((exponent + 1023).unsigned_abs() << 52),
        _ => f64::INFINITY,
    }
}

/// The binary logarithm, computed as Go does: that of the fraction, and the exponent added.
pub fn log2(value: f64) -> f64 {
    if !value.is_normal() || value < 0.0 {
        return value.log2();
    }
    const FRACTION: u64 = (1 << 52) - 1;
    let bits = value.to_bits();
    // Below 2^11, as the sign is not set.
    let exponent = u32::try_from(bits >> 52).map_or(0.0, f64::from) - 1022.0;
    let fraction = f64::from_bits(bits & FRACTION | 0.5_f64.to_bits());
    if fraction == 0.5 {
        return exponent - 1.0;
    }
    fraction.ln() * (1.0 / std::f64::consts::LN_2) + exponent
}

/// The index of the bucket at the coarser schema `to` that holds bucket `index` of schema `from`.
pub fn coarser_index(index: i32, from: i32, to: i32) -> i32 {
    let coarser = from.saturating_sub(to).clamp(0, 63);
    let index = ((i64::from(index) - 1) >> coarser) + 1;
    // Never farther from zero than the index was.
    i32::try_from(index).unwrap_or(i32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_prometheus() {
        // From its `TestGetBoundExponential` and the table that it prints.
        let cases = [
            (-1, -1, 0.25),
            (0, -1, 1.0),
            (1, -1, 4.0),
            (512, -1, f64::MAX),
            (513, -1, f64::INFINITY),
            (-1, 0, 0.5),
            (0, 0, 1.0),
            (1, 0, 2.0),
            (1024, 0, f64::MAX),
            (1025, 0, f64::INFINITY),
            (-1, 2, 0.8408964152537144),
            (0, 2, 1.0),
            (1, 2, 1.189207115002721),
            (4096, 2, f64::MAX),
            (4097, 2, f64::INFINITY),
            (1, 8, 1.0027112750502025),
            (-1074, 0, f64::from_bits(1)),
            (-1075, 0, 0.0),
            (-537, -1, f64::from_bits(1)),
        ];
        for (index, schema, bound) in cases {
            assert_eq!(upper_bound(index, schema, &[]), bound, "{index} of {schema}");
        }
    }

    #[test]
    fn logarithms_are_those_of_go() {
        assert_eq!([log2(1.0), log2(8.0), log2(0.25)], [0.0, 3.0, -2.0]);
        assert_eq!(log2(2.5), 1.3219280948873622);
        assert_eq!(log2(0.0), f64::NEG_INFINITY);
        assert!(log2(-1.0).is_nan());
        assert_eq!(log2(f64::from_bits(1)), -1074.0);
    }

    #[test]
    fn custom_bounds_are_infinite_outside() {
        let bounds = [1.0, 2.5];
        let of = |index| upper_bound(index, CUSTOM_SCHEMA, &bounds);
        assert_eq!([of(-1), of(0), of(1), of(2)], [f64::NEG_INFINITY, 1.0, 2.5, f64::INFINITY]);
    }

    #[test]
    fn indexes_of_any_schema_are_harmless() {
        for schema in [i32::MIN, -60, -31, -9, 9, 20, 52, 60, i32::MAX] {
            for index in [i32::MIN, -1, 0, 1, i32::MAX] {
                assert!(!upper_bound(index, schema, &[]).is_nan(), "{index} of {schema}");
                coarser_index(index, schema, 0);
            }
        }
        assert_eq!(coarser_index(3, 1, 0), 2);
        assert_eq!(coarser_index(2, 1, 0), 1);
        assert_eq!(coarser_index(-1, 1, 0), 0);
    }
}
