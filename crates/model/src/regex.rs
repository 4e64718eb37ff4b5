//! Regular expressions with the syntax and meaning of Go's RE2, anchored at both ends.
//!
//! An expression is parsed once into a small tree of our own (Go's grammar, Go's error texts),
//! classified once, and only what is not a plain comparison of texts gets an engine.

use std::fmt;
use std::sync::Arc;

use crate::regex::engine::Engine;
use crate::regex::shape::Shape;

mod ast;
mod class;
mod engine;
mod escape;
mod nfa;
mod parse;
mod shape;
#[cfg(test)]
mod tests;

/// A compiled expression; cheap to clone.
#[derive(Clone)]
pub struct Regex(Arc<Compiled>);

struct Compiled {
    pattern: String,
    prefix: String,
    matcher: Matching,
}

enum Matching {
    Shape(Shape),
    Engine(Engine),
}

/// The text is not an expression of RE2, or one that is too large.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {reason}: `{quoted}`")]
pub struct RegexError {
    reason: &'static str,
    quoted: String,
}

impl RegexError {
    fn new(reason: &'static str, quoted: &str) -> RegexError {
        RegexError { reason, quoted: quoted.to_owned() }
    }
}

impl Regex {
    /// Compiles an expression, which then must match a whole text, `.` matching newlines too.
    ///
    /// # Errors
    /// [`RegexError`] when Go's `regexp/syntax` would refuse the expression, in its words, and
    /// when it would need more than a million instructions (Go's own bound is three times that).
    pub fn new(pattern: &str) -> Result<Regex, RegexError> {
        let ast = parse::parse(pattern)?;
        let matcher = match shape::classify(&ast) {
            Some(shape) => Matching::Shape(shape),
            None => Matching::Engine(Engine::new(&ast, pattern)?),
        };
        let prefix = match &matcher {
            Matching::Shape(shape) => shape.prefix(),
            Matching::Engine(_) => shape::required_prefix(&ast),
        };
        Ok(Regex(Arc::new(Compiled { pattern: pattern.to_owned(), prefix, matcher })))
    }

    /// The expression as it was given.
    pub fn as_str(&self) -> &str {
        &self.0.pattern
    }

    /// Whether the expression matches the whole text.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.0.matcher {
            Matching::Shape(shape) => shape.is_match(text),
            Matching::Engine(engine) => text.starts_with(&*self.0.prefix) && engine.is_match(text),
        }
    }

    /// The texts that the expression matches, sorted and without repetition, when they are few
    /// and known (`a|b|c`). The empty text may be among them; an empty list matches nothing.
    pub fn set_matches(&self) -> Option<&[String]> {
        match &self.0.matcher {
            Matching::Shape(Shape::Set(texts)) => Some(texts),
            Matching::Shape(_) | Matching::Engine(_) => None,
        }
    }

    /// A literal that every match begins with; empty when none is known.
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// Whether the expression is known to match every text (`.*`).
    pub fn matches_everything(&self) -> bool {
        matches!(&self.0.matcher, Matching::Shape(shape) if shape.matches_everything())
    }

    /// Whether the expression is known to match every text but the empty one (`.+`).
    pub fn matches_non_empty(&self) -> bool {
        matches!(&self.0.matcher, Matching::Shape(shape) if shape.matches_non_empty())
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({:?})", self.0.pattern)
    }
}
