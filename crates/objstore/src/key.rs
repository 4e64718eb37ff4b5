//! Which texts are keys, so that none of them means something else on a disk.

use crate::error::Error;

/// The longest key of S3, in bytes.
const KEY_BYTES_MAX: usize = 1024;

/// Refuses whatever is not `/`-separated parts, none of them empty, `.` or `..`.
pub(crate) fn check_key(key: &str) -> Result<(), Error> {
    check_text(key)?;
    key.split('/').try_for_each(|part| check_part(key, part))
}

/// Refuses a prefix under which no key can be; the last part may be cut or empty.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), Error> {
    check_text(prefix)?;
    match prefix.rsplit_once('/') {
        None => Ok(()),
        Some((parents, _)) => parents.split('/').try_for_each(|part| check_part(prefix, part)),
    }
}

fn check_text(key: &str) -> Result<(), Error> {
    if key.len() > KEY_BYTES_MAX {
        let start: String = key.chars().take(64).collect();
        let reason = format!("a key of {} bytes, at most {KEY_BYTES_MAX} allowed", key.len());
        return Err(Error::invalid(&start, reason));
    }
    if key.contains('\0') {
        return Err(Error::invalid(key, "a key holds no NUL"));
    }
    Ok(())
}

fn check_part(key: &str, part: &str) -> Result<(), Error> {
    match part {
        "" => Err(Error::invalid(key, "a key has no empty part")),
        "." | ".." => Err(Error::invalid(key, "a key has no part . or ..")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_could_escape_are_refused() {
        for good in ["a", "a/b", "a/b.c/d..e", "...", "a b/ü"] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b"] {
            assert!(check_key(bad).is_err(), "{bad:?}");
        }
        assert!(check_key(&"k".repeat(1025)).is_err());
    }

    #[test]
    fn prefixes_may_be_cut_anywhere() {
        for good in ["", "a", "a/", "a/b", ".", "a/."] {
            assert!(check_prefix(good).is_ok(), "{good}");
        }
        for bad in ["/", "/a", "../", "a//", "a/../"] {
            assert!(check_prefix(bad).is_err(), "{bad:?}");
        }
    }
}
