//! Whose data it is: the tenant, a part of every series' identity.

use std::fmt;
use std::sync::Arc;

/// The tenant of requests that name none, as in Thanos.
pub const DEFAULT_TENANT: &str = "default-tenant";

/// A validated tenant name; cheap to clone.
///
/// A tenant is also a directory of the data path and a label value, so it is not empty, holds no
/// `/`, is neither `.` nor `..`, and does not begin with a dot (`.aion` is the engine's own).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

/// Why a text is not a tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "tenant {text:?} is refused: {reason}; use a name without slashes, control characters and \
     a leading dot, of at most {} bytes",
    Tenant::BYTES_MAX
)]
pub struct TenantError {
    text: String,
    reason: &'static str,
}

impl Tenant {
    /// Longest accepted name in bytes; file systems allow 255.
    pub const BYTES_MAX: usize = 200;

    /// Checks a name that came from outside.
    ///
    /// # Errors
    /// [`TenantError`] when the name could not be a directory of its own.
    pub fn new(text: &str) -> Result<Tenant, TenantError> {
        let reason = if text.is_empty() {
            "it is empty"
        } else if text.len() > Self::BYTES_MAX {
            "it is too long"
        } else if text.starts_with('.') {
            "it begins with a dot"
        } else if text.contains(['/', '\\']) {
            "it holds a slash"
        } else if text.chars().any(char::is_control) {
            "it holds a control character"
        } else {
            return Ok(Tenant(Arc::from(text)));
        };
        let text = text.chars().take(Self::BYTES_MAX).collect();
        Err(TenantError { text, reason })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Tenant {
    fn default() -> Tenant {
        Tenant(Arc::from(DEFAULT_TENANT))
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_escape_their_directory_are_refused() {
        for bad in ["", ".", "..", ".aion", "a/b", "../x", "a\\b", "a\nb"] {
            assert!(Tenant::new(bad).is_err(), "{bad:?}");
        }
        for good in ["default-tenant", "team a", "Ünïcode", "a.b"] {
            assert_eq!(Tenant::new(good).unwrap().as_str(), good);
        }
    }
}
