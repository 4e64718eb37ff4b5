//! Reads an expression: tokens in, checked syntax tree out.
//!
//! A Pratt parser over the grammar of Prometheus 3.14. The first error is the one that Prometheus
//! serves, in its words and at its place. Two habits of its generated parser decide which error is
//! the first, and are kept: some rules look at the next token before they act and some do not, and
//! an unexpected token is blamed on the innermost open rule that has a sentence for it.

mod aggregate;
mod binary;
mod duration;
mod expr;
mod selector;

use std::fmt;

use crate::ast::{Expr, LabelMatcher, Span};
use crate::check;
use crate::lexer::Lexer;
use crate::token::{Kind, Token};

/// What the parser accepts beyond the stable language, and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Functions and aggregations marked as experimental.
    pub experimental_functions: bool,
    /// `foo[1m + step()]`; Prometheus 3.14 has it always on.
    pub duration_expressions: bool,
    /// `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `fill`, `fill_left` and `fill_right`.
    pub fill_modifiers: bool,
    /// The longest text, at most 2^32−1.
    pub text_bytes_max: usize,
    /// The highest tree and the deepest nesting.
    pub depth_max: usize,
}

/// The longest text that the parser reads unless told otherwise.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// The highest tree that the parser builds unless told otherwise. Even without optimisation a
/// stack of 2 MiB holds it.
pub const DEPTH_MAX: usize = 250;

impl Options {
    /// As a Prometheus 3.14 server without feature flags.
    pub fn stable() -> Options {
        Options {
            experimental_functions: false,
            duration_expressions: true,
            extended_range_selectors: false,
            fill_modifiers: false,
            text_bytes_max: TEXT_BYTES_MAX,
            depth_max: DEPTH_MAX,
        }
    }

    /// Everything that Prometheus 3.14 can parse.
    pub fn all() -> Options {
        Options {
            experimental_functions: true,
            extended_range_selectors: true,
            fill_modifiers: true,
            ..Options::stable()
        }
    }
}

/// A text is not an expression. Shows as Prometheus says it, with line and column (in bytes, both
/// from 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
    /// Line and column of the start; `None` in an empty text.
    pub position: Option<(usize, usize)>,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{line}:{column}: ")?,
            None => write!(f, "unknown position: ")?,
        }
        write!(f, "parse error: {}", self.message)
    }
}

impl std::error::Error for ParseError {}

/// Reads an expression. The text need not be UTF-8, though what is not is refused wherever it
/// stands.
///
/// # Errors
/// [`ParseError`] with the first thing that is wrong.
pub fn parse(text: impl AsRef<[u8]>, options: &Options) -> Result<Expr, ParseError> {
    let text = text.as_ref();
    let mut parser = Parser::new(text, options)?;
    parser.whole_expr().map_err(|failure| parser.blame(failure)).and_then(|mut expr| {
        match check::check(&mut expr, text) {
            Ok(()) => Ok(expr),
            Err(error) => Err(positioned(text, error.span, error.message)),
        }
    })
}

/// Reads a selector as `match[]` takes it: a name, label matchers, nothing more. It may match
/// everything (`{}`); see [`LabelMatcher::matches_empty`].
///
/// # Errors
/// [`ParseError`] with the first thing that is wrong.
pub fn parse_selector(
    text: impl AsRef<[u8]>,
    options: &Options,
) -> Result<Vec<LabelMatcher>, ParseError> {
    let mut parser = Parser::new(text.as_ref(), options)?;
    parser.whole_selector().map_err(|failure| parser.blame(failure))
}

/// Something wrong at a place, its line not yet counted.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) span: Span,
    pub(crate) message: String,
}

/// Why a rule of the grammar was left.
#[derive(Debug)]
enum Failure {
    /// The error is known.
    Problem(Box<Problem>),
    /// The next token does not fit, and no rule has yet found words for it.
    Unexpected,
}

type Parsed<T> = Result<T, Failure>;

/// An expression and the height of its tree.
struct Tree {
    expr: Expr,
    height: usize,
}

struct Parser<'a> {
    text: &'a [u8],
    lexer: Lexer<'a>,
    ahead: Option<Token>,
    options: &'a Options,
    /// How many rules that can contain themselves are open.
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a [u8], options: &'a Options) -> Result<Parser<'a>, ParseError> {
        let bytes_max = options.text_bytes_max.min(usize::try_from(u32::MAX).unwrap_or(usize::MAX));
        if text.len() > bytes_max {
            let length = text.len();
            let message =
                format!("the expression has {length} bytes, at most {bytes_max} are allowed");
            return Err(ParseError { message, span: Span::default(), position: Some((1, 1)) });
        }
        Ok(Parser { text, lexer: Lexer::new(text), ahead: None, options, depth: 0 })
    }

    fn whole_expr(&mut self) -> Parsed<Expr> {
        if self.peek()?.kind == Kind::End {
            return self.problem(Span::default(), "no expression found in input");
        }
        let tree = self.expr(0)?;
        self.expect(Kind::End)?;
        Ok(tree.expr)
    }

    fn whole_selector(&mut self) -> Parsed<Vec<LabelMatcher>> {
        let token = self.peek()?;
        if token.kind != Kind::LeftBrace && !token.kind.is_metric_name() {
            return Err(Failure::Unexpected);
        }
        let selector = self.vector_selector()?;
        self.expect(Kind::End)?;
        Ok(selector.matchers)
    }

    /// The next token, without taking it.
    fn peek(&mut self) -> Parsed<Token> {
        if let Some(token) = self.ahead {
            return Ok(token);
        }
        match self.lexer.next() {
            Ok(token) => {
                self.ahead = Some(token);
                Ok(token)
            }
            Err(error) => self.problem(span(error.start, self.text.len()), error.message),
        }
    }

    /// Takes the next token.
    fn take(&mut self) -> Parsed<Token> {
        let token = self.peek()?;
        self.ahead = None;
        Ok(token)
    }

    /// Takes the next token if it is of this kind.
    fn take_if(&mut self, kind: Kind) -> Parsed<Option<Token>> {
        let token = self.peek()?;
        if token.kind != kind {
            return Ok(None);
        }
        self.ahead = None;
        Ok(Some(token))
    }

    /// Takes the next token, which must be of this kind.
    fn expect(&mut self, kind: Kind) -> Parsed<Token> {
        self.take_if(kind)?.ok_or(Failure::Unexpected)
    }

    fn problem<T>(&self, span: Span, message: impl Into<String>) -> Parsed<T> {
        Err(Failure::Problem(Box::new(Problem { span, message: message.into() })))
    }

    /// Gives an unexpected token the sentence of the rule that was open, unless an inner rule had
    /// one.
    fn within<T>(&self, parsed: Parsed<T>, rule: &str, expected: &str) -> Parsed<T> {
        match parsed {
            Err(Failure::Unexpected) => Err(self.unexpected(rule, expected)),
            other => other,
        }
    }

    fn unexpected(&self, rule: &str, expected: &str) -> Failure {
        let end = Token { kind: Kind::End, start: self.text.len(), end: self.text.len() };
        let token = self.ahead.unwrap_or(end);
        let mut message = format!("unexpected {}", token.describe(self.text));
        if !rule.is_empty() {
            message.push_str(" in ");
            message.push_str(rule);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        Failure::Problem(Box::new(Problem { span: span_of(token), message }))
    }

    fn blame(&self, failure: Failure) -> ParseError {
        match failure {
            Failure::Problem(problem) => positioned(self.text, problem.span, problem.message),
            Failure::Unexpected => self.blame(self.unexpected("", "")),
        }
    }

    /// Opens a rule that can contain itself; [`Parser::leave`] closes it.
    fn enter(&mut self) -> Parsed<()> {
        self.depth += 1;
        self.check_height(self.depth)
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn check_height(&self, height: usize) -> Parsed<()> {
        let depth_max = self.options.depth_max;
        if height <= depth_max {
            return Ok(());
        }
        let at = self.ahead.map(span_of).unwrap_or_default();
        self.problem(at, format!("the expression is nested more than {depth_max} levels deep"))
    }
}

fn positioned(text: &[u8], span: Span, message: String) -> ParseError {
    let start = usize::try_from(span.start).unwrap_or(usize::MAX);
    let position = (!text.is_empty()).then(|| {
        let before = text.get(..start).unwrap_or(text);
        let line = 1 + before.iter().filter(|it| **it == b'\n').count();
        let line_start = before.iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1);
        (line, 1 + before.len() - line_start)
    });
    ParseError { message, span, position }
}

/// The span of byte positions, which the bound on the text's length keeps within 32 bits.
fn span(start: usize, end: usize) -> Span {
    let narrow = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
    Span::new(narrow(start), narrow(end))
}

fn span_of(token: Token) -> Span {
    span(token.start, token.end)
}
