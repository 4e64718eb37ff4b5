//! Sizes in bytes as Thanos' flags take them.

/// Units, all powers of 1024: Thanos reads `KB` as `KiB`.
const UNITS: &[(&str, u32)] = &[
    ("", 0),
    ("B", 0),
    ("KB", 10),
    ("KIB", 10),
    ("MB", 20),
    ("MIB", 20),
    ("GB", 30),
    ("GIB", 30),
    ("TB", 40),
    ("TIB", 40),
    ("PB", 50),
    ("PIB", 50),
];

/// Reads a size: `250MB`, `2GiB`, `1.5GB`, `4096`.
///
/// # Errors
/// Says what a size looks like.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let refused = || format!("{text:?} is not a size such as 4096, 250MB or 2GiB");
    let number_end = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let unit = unit.trim().to_ascii_uppercase();
    let (_, shift) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| refused())?;
    let scaled = whole.checked_mul(1 << shift).ok_or_else(refused)?;
    scaled.checked_add(scaled_fraction(fraction, *shift).ok_or_else(refused)?).ok_or_else(refused)
}

fn scaled_fraction(fraction: &str, shift: u32) -> Option<u64> {
    if fraction.is_empty() {
        return Some(0);
    }
    if fraction.len() > 9 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let scaled = (fraction.parse::<u128>().ok()? << shift) / scale;
    u64::try_from(scaled).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(parse_bytes(text).ok(), expected, "{text:?}");
    }

    #[test]
    fn sizes_are_read() {
        check("0", Some(0));
        check("4096", Some(4096));
        check("250MB", Some(250 << 20));
        check("250MiB", Some(250 << 20));
        check("2GB", Some(2 << 30));
        check("1.5GB", Some(3 << 29));
        check("1KB", Some(1024));
        check("5 mb", Some(5 << 20));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "MB", "-1", "1XB", "1.2.3MB", "99999999999999999999", "999999999PB"] {
            check(text, None);
        }
    }
}
