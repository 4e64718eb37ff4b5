//! Golden data recorded from the real programs, read from where it lies.
#![expect(clippy::disallowed_methods, reason = "tests read their golden data from the disk")]

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

/// Where the shared data lies: `AION_SHARED`, else `shared` beside the checkout.
pub fn shared_dir() -> Option<PathBuf> {
    let beside =
        || Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).map(|it| it.join("shared"));
    let dir = std::env::var_os("AION_SHARED").map(PathBuf::from).or_else(beside)?;
    dir.is_dir().then_some(dir)
}

/// The shared data, or `None` where a developer has none and the test may pass over it.
///
/// # Panics
/// With `CI` set in the environment, where nothing is skipped.
pub fn shared_or_skip() -> Option<PathBuf> {
    let dir = shared_dir();
    assert!(
        dir.is_some() || std::env::var_os("CI").is_none(),
        "the shared golden data is missing: put it beside the checkout or set AION_SHARED"
    );
    dir
}

/// Every line of a gzipped JSON-lines file.
///
/// # Panics
/// When the file cannot be read or a line is not JSON; golden data is never damaged.
pub fn read_jsonl_gz(path: &Path) -> Vec<serde_json::Value> {
    let lines = read_lines_gz(path);
    let parsed = lines.iter().map(|line| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    });
    parsed.collect()
}

/// Every line of a gzipped text.
///
/// # Panics
/// When the file cannot be read.
pub fn read_lines_gz(path: &Path) -> Vec<String> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = BufReader::new(MultiGzDecoder::new(BufReader::new(file))).lines();
    lines.map(|line| line.unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
}

/// A float from the 16 hex digits of its bits.
///
/// # Panics
/// When the text is not such digits.
pub fn bits(text: &str) -> f64 {
    f64::from_bits(u64::from_str_radix(text, 16).unwrap_or_else(|_| panic!("{text:?} is not bits")))
}
