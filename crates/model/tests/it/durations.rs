//! Durations as text, against what Prometheus prints and parses.

use model::duration::{self, DURATION_MS_MAX};
use proptest::proptest;

use crate::floats::rows;

#[test]
fn parses_as_prometheus() {
    for row in rows("duration").unwrap_or_default() {
        let text = row["text"].as_str().unwrap();
        match (duration::parse_ms(text), row["error"].as_str()) {
            (Ok(ms), None) => {
                assert_eq!(ms, row["ms"].as_i64().unwrap(), "{text:?}");
                assert_eq!(duration::format_ms(ms), row["string"].as_str().unwrap());
            }
            (Err(error), Some(message)) => assert_eq!(error.to_string(), message),
            (parsed, error) => panic!("{text:?}: {parsed:?} and not {error:?}"),
        }
        let signed = duration::parse_signed_ms(text);
        match (signed, row["allow_negative_error"].as_str()) {
            (Ok(ms), None) => {
                assert_eq!(Some(ms * 1_000_000), row["allow_negative_ns"].as_i64(), "{text:?}");
            }
            (Err(error), Some(message)) => assert_eq!(error.to_string(), message),
            (parsed, error) => panic!("{text:?}: {parsed:?} and not {error:?}"),
        }
    }
}

#[test]
fn prints_as_prometheus() {
    for row in rows("duration_string").unwrap_or_default() {
        let text = duration::format_ms(row["ms"].as_i64().unwrap());
        assert_eq!(text, row["string"].as_str().unwrap());
    }
}

proptest! {
    #[test]
    fn prints_what_it_parses(ms in 0..=DURATION_MS_MAX) {
        assert_eq!(duration::parse_ms(&duration::format_ms(ms)).unwrap(), ms);
        assert_eq!(duration::parse_signed_ms(&duration::format_ms(-ms)).unwrap(), -ms);
    }
}
