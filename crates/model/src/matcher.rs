//! Label matchers: `=`, `!=`, `=~`, `!~`.

use std::fmt;

use crate::labels::{Labels, write_name};
use crate::quote::GoQuoted;
use crate::regex::{Regex, RegexError};

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

/// One condition on one label; an absent label counts as the empty text.
#[derive(Clone)]
pub struct Matcher {
    op: MatchOp,
    name: String,
    value: String,
    regex: Option<Regex>,
}

impl Matcher {
    /// Builds a matcher, compiling its expression where it has one.
    ///
    /// # Errors
    /// [`RegexError`] when the value of `=~` or `!~` is not a regular expression of RE2.
    pub fn new(op: MatchOp, name: &str, value: &str) -> Result<Matcher, RegexError> {
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(Regex::new(value)?),
        };
        Ok(Matcher { op, name: name.to_owned(), value: value.to_owned(), regex })
    }

    /// `name="value"`, which cannot fail.
    pub fn equal(name: &str, value: &str) -> Matcher {
        Matcher { op: MatchOp::Equal, name: name.to_owned(), value: value.to_owned(), regex: None }
    }

    /// How it compares.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The label that it looks at.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text or expression that it compares with.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The compiled expression of `=~` and `!~`.
    pub fn regex(&self) -> Option<&Regex> {
        self.regex.as_ref()
    }

    /// Whether a label value fulfils the condition.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => self.value == value,
            (MatchOp::NotEqual, _) => self.value != value,
            (MatchOp::Regex, regex) => regex.as_ref().is_some_and(|it| it.is_match(value)),
            (MatchOp::NotRegex, regex) => !regex.as_ref().is_some_and(|it| it.is_match(value)),
        }
    }

    /// Whether a series without the label fulfils the condition.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// Whether a label set fulfils the condition.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or_default())
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        self.op == other.op && self.name == other.name && self.value == other.value
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(f, &self.name)?;
        write!(f, "{}{}", self.op, GoQuoted(&self.value))
    }
}

impl fmt::Display for MatchOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        })
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
