//! Times, spans and counts as Thanos' tools print them.

use jiff::Timestamp;

/// A time as RFC 3339 in UTC with whole seconds; the number itself where no calendar has it.
pub(super) fn time(time_ms: i64) -> String {
    match Timestamp::from_second(time_ms.div_euclid(1000)) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{time_ms}ms"),
    }
}

/// A span as Go prints durations: `48h0m0s`, `1m30.5s`, `250ms`, `0s`.
pub(super) fn span(span_ms: i64) -> String {
    let sign = if span_ms < 0 { "-" } else { "" };
    let all_ms = span_ms.unsigned_abs();
    if all_ms == 0 {
        return "0s".to_owned();
    }
    if all_ms < 1000 {
        return format!("{sign}{all_ms}ms");
    }
    let (hours, minutes) = (all_ms / 3_600_000, all_ms / 60_000 % 60);
    let (seconds, millis) = (all_ms / 1000 % 60, all_ms % 1000);
    let fraction = match millis {
        0 => String::new(),
        _ => format!(".{millis:03}").trim_end_matches('0').to_owned(),
    };
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}{fraction}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}{fraction}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

/// A count with a comma before every three digits.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the largest unit that leaves a number of at least 1, with one decimal.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_printed_as_go_prints_them() {
        let check = |span_ms, expected| assert_eq!(span(span_ms), expected);
        check(0, "0s");
        check(172_800_000, "48h0m0s");
        check(-28_800_000, "-8h0m0s");
        check(300_000, "5m0s");
        check(90_500, "1m30.5s");
        check(59_000, "59s");
        check(250, "250ms");
        check(3_600_001, "1h0m0.001s");
    }

    #[test]
    fn counts_bytes_and_times_are_for_people() {
        assert_eq!([grouped(0), grouped(999)], ["0", "999"]);
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
        assert_eq!(time(1_756_684_800_999), "2025-09-01T00:00:00Z");
        assert_eq!(time(-1), "1969-12-31T23:59:59Z");
        assert_eq!(time(i64::MAX), format!("{}ms", i64::MAX));
    }
}
