//! Vector selectors: a metric's name and conditions on labels.

use model::{MatchOp, Matcher};

use super::{Parsed, Parser, span_of};
use crate::ast::{BinaryOp, DurationArg, LabelMatcher, Span, Text, VectorSelector};
use crate::token::{Kind, Token};

/// The label that holds a metric's name.
const NAME_LABEL: &str = "__name__";
const RULE: &str = "label matching";

impl Parser<'_> {
    /// A selector that begins with the next token.
    pub(super) fn vector_selector(&mut self) -> Parsed<VectorSelector> {
        if self.peek()?.kind == Kind::LeftBrace {
            return self.selector(None);
        }
        let name = self.take()?;
        self.selector_named(name)
    }

    /// A selector whose name was taken already.
    pub(super) fn selector_named(&mut self, name: Token) -> Parsed<VectorSelector> {
        self.selector(Some(name))
    }

    fn selector(&mut self, name: Option<Token>) -> Parsed<VectorSelector> {
        let mut matchers = Vec::new();
        let mut span = name.map(span_of);
        if self.peek()?.kind == Kind::LeftBrace {
            let braces = self.label_matchers(&mut matchers)?;
            span = Some(span.unwrap_or(braces).to(braces));
        }
        let name_text = name.map(|it| Text::from(it.text(self.text).to_vec()));
        if let (Some(token), Some(text)) = (name, &name_text) {
            matchers.push(name_matcher(text.clone(), span_of(token)));
        }
        Ok(VectorSelector {
            name: name_text,
            matchers,
            offset: DurationArg::Fixed(0),
            at: None,
            anchored: false,
            smoothed: false,
            span: span.unwrap_or_default(),
        })
    }

    /// Everything between braces, and where they stand.
    fn label_matchers(&mut self, matchers: &mut Vec<LabelMatcher>) -> Parsed<Span> {
        let open = span_of(self.expect(Kind::LeftBrace)?);
        loop {
            if let Some(close) = self.take_if(Kind::RightBrace)? {
                return Ok(open.to(span_of(close)));
            }
            matchers.push(self.label_matcher()?);
            if let Some(close) = self.take_if(Kind::RightBrace)? {
                return Ok(open.to(span_of(close)));
            }
            let parsed = self.expect(Kind::Comma);
            self.within(parsed, RULE, "\",\" or \"}\"")?;
        }
    }

    fn label_matcher(&mut self) -> Parsed<LabelMatcher> {
        let token = self.peek()?;
        let name = match token.kind {
            Kind::Identifier => Text::from(token.text(self.text).to_vec()),
            Kind::String => self.unquote(token),
            _ => return Err(self.unexpected(RULE, "identifier or \"}\"")),
        };
        self.ahead = None;
        let op = match self.peek()?.kind {
            Kind::Equal => MatchOp::Equal,
            Kind::Operator(BinaryOp::Ne) => MatchOp::NotEqual,
            Kind::EqualRegex => MatchOp::Regex,
            Kind::NotEqualRegex => MatchOp::NotRegex,
            // A text alone is a metric's name.
            _ if token.kind == Kind::String => return Ok(name_matcher(name, span_of(token))),
            _ => return Err(self.unexpected(RULE, "label matching operator")),
        };
        self.ahead = None;
        let parsed = self.expect(Kind::String);
        let value_token = self.within(parsed, RULE, "string")?;
        let value = self.unquote(value_token);
        let span = span_of(token).to(span_of(value_token));
        match matches_empty(op, &value) {
            Ok(matches_empty) => Ok(LabelMatcher { name, op, value, matches_empty, span }),
            Err(message) => self.problem(span, message),
        }
    }

    /// The value of a string, whose escapes the lexer has checked.
    pub(super) fn unquote(&self, token: Token) -> Text {
        let quoted = token.text(self.text);
        let raw = quoted.first() == Some(&b'`');
        let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
        if raw || !inner.contains(&b'\\') {
            return Text::from(inner.to_vec());
        }
        let mut value = Vec::with_capacity(inner.len());
        let mut rest = inner;
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            if byte == b'\\' {
                rest = push_unescaped(&mut value, rest);
            } else {
                value.push(byte);
            }
        }
        Text::from(value)
    }
}

/// Appends what an escape stands for; gives what is behind it.
fn push_unescaped<'a>(value: &mut Vec<u8>, escape: &'a [u8]) -> &'a [u8] {
    let Some((&first, rest)) = escape.split_first() else { return escape };
    let byte = match first {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'0'..=b'7' => return push_byte(value, escape, 3, 8),
        b'x' => return push_byte(value, rest, 2, 16),
        b'u' => return push_code_point(value, rest, 4),
        b'U' => return push_code_point(value, rest, 8),
        other => other,
    };
    value.push(byte);
    rest
}

/// A number written as so many digits becomes one byte, which need not be UTF-8.
fn push_byte<'a>(value: &mut Vec<u8>, text: &'a [u8], digits: usize, radix: u32) -> &'a [u8] {
    let (digits, rest) = text.split_at(digits.min(text.len()));
    let number = std::str::from_utf8(digits).ok().and_then(|it| u8::from_str_radix(it, radix).ok());
    value.extend(number);
    rest
}

fn push_code_point<'a>(value: &mut Vec<u8>, text: &'a [u8], digits: usize) -> &'a [u8] {
    let (digits, rest) = text.split_at(digits.min(text.len()));
    let number = std::str::from_utf8(digits).ok().and_then(|it| u32::from_str_radix(it, 16).ok());
    if let Some(character) = number.and_then(char::from_u32) {
        value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    rest
}

fn name_matcher(value: Text, span: Span) -> LabelMatcher {
    let matches_empty = value.as_bytes().is_empty();
    LabelMatcher { name: Text::from(NAME_LABEL), op: MatchOp::Equal, value, matches_empty, span }
}

/// Whether a condition is fulfilled by a label that is not there, or why its expression is none.
fn matches_empty(op: MatchOp, value: &Text) -> Result<bool, String> {
    match op {
        MatchOp::Equal => Ok(value.as_bytes().is_empty()),
        MatchOp::NotEqual => Ok(!value.as_bytes().is_empty()),
        MatchOp::Regex | MatchOp::NotRegex => {
            let Some(pattern) = value.as_str() else {
                return matches_empty_bytes(op, value.as_bytes());
            };
            let matcher = Matcher::new(op, "", pattern).map_err(|error| error.to_string())?;
            Ok(matcher.matches_empty())
        }
    }
}

/// A pattern that is not UTF-8 is refused unless it is plain alternatives, which Prometheus never
/// gives to its regular expressions.
fn matches_empty_bytes(op: MatchOp, pattern: &[u8]) -> Result<bool, String> {
    if pattern.iter().any(|it| b"\\.+*?()[]{}^$".contains(it)) {
        let shown = String::from_utf8_lossy(pattern);
        return Err(format!("error parsing regexp: invalid UTF-8: `{shown}`"));
    }
    let empty = pattern.split(|it| *it == b'|').any(<[u8]>::is_empty);
    Ok(empty == (op == MatchOp::Regex))
}
