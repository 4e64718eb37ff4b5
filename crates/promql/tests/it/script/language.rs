//! Prometheus' language of test scripts: read and run.

#[path = "histogram.rs"]
pub(crate) mod histogram;
#[path = "parse.rs"]
pub(crate) mod parse;
#[path = "run.rs"]
pub(crate) mod run;

use std::path::Path;

use model::is_stale;

/// Name and text of every script of a directory, by name.
pub(crate) fn files(dir: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "test") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, std::fs::read_to_string(&path)?));
        }
    }
    files.sort();
    Ok(files)
}

/// Equal up to a millionth of their sum.
pub(crate) fn near(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let sum = a.abs() + b.abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return (a - b).abs() < 1e-6 * f64::MIN_POSITIVE;
    }
    (a - b).abs() / sum.min(f64::MAX) < 1e-6
}
