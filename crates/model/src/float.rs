//! Floats as Go prints and parses them.

/// Appends a value as Prometheus' JSON and labels show it: `strconv.FormatFloat(v, 'f', -1, 64)`,
/// with `NaN`, `+Inf` and `-Inf` by these names.
pub fn append_go(out: &mut Vec<u8>, value: f64) {
    if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else {
        out.extend_from_slice(value.to_string().as_bytes());
    }
}

/// The text of [`append_go`].
pub fn format_go(value: f64) -> String {
    let mut out = Vec::with_capacity(24);
    append_go(&mut out, value);
    String::from_utf8(out).unwrap_or_default()
}
