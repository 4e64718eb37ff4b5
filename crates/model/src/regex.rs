//! Regular expressions with the syntax and meaning of Go's RE2, anchored at both ends.

use std::sync::Arc;

/// A compiled expression; cheap to clone.
#[derive(Clone, Debug)]
pub struct Regex {
    whole: Arc<regex_automata::meta::Regex>,
}

/// The text is not an expression of RE2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RegexError {
    message: String,
}

impl Regex {
    /// Compiles an expression, which then must match a whole text, `.` matching newlines too.
    ///
    /// # Errors
    /// [`RegexError`] when Go's `regexp/syntax` would refuse the expression.
    pub fn new(pattern: &str) -> Result<Regex, RegexError> {
        let anchored = format!("^(?s:{pattern})$");
        let whole = regex_automata::meta::Regex::new(&anchored)
            .map_err(|error| RegexError { message: error.to_string() })?;
        Ok(Regex { whole: Arc::new(whole) })
    }

    /// Whether the expression matches the whole text.
    pub fn is_match(&self, text: &str) -> bool {
        self.whole.is_match(text)
    }

    /// The texts that the expression matches, when they are few and known (`a|b|c`).
    pub fn set_matches(&self) -> Option<&[String]> {
        None
    }

    /// A literal that every match begins with; empty when none is known.
    pub fn prefix(&self) -> &str {
        ""
    }
}
