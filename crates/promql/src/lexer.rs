//! Cuts the text of an expression into tokens.
//!
//! What a byte means depends on where it stands: inside braces, at the beginning of a range, inside
//! a range after a number. The modes, and the places that errors name, are those of Prometheus.

use crate::ast::BinaryOp;
use crate::quote::{code_point, quoted, quoted_char};
use crate::token::{Kind, Token, duration_keyword, keyword};

/// The rest of the input cannot be cut into tokens.
#[derive(Debug)]
pub(crate) struct LexError {
    /// Where; the error reaches to the end of the input.
    pub(crate) start: usize,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Statements,
    Braces,
    /// Inside brackets, before the next number.
    Duration,
}

#[derive(Debug)]
pub(crate) struct Lexer<'a> {
    input: &'a [u8],
    /// The first byte that was not read.
    pos: usize,
    /// Where the token begins that is being read.
    start: usize,
    mode: Mode,
    paren_depth: usize,
    bracket_open: bool,
    colon_seen: bool,
    /// Once a number was met in any bracket. Prometheus never takes this back.
    duration_seen: bool,
}

type Lexed = Result<Token, LexError>;

impl<'a> Lexer<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Lexer<'a> {
        Lexer {
            input,
            pos: 0,
            start: 0,
            mode: Mode::Statements,
            paren_depth: 0,
            bracket_open: false,
            colon_seen: false,
            duration_seen: false,
        }
    }

    /// The next token; [`Kind::End`] again and again at the end.
    pub(crate) fn next(&mut self) -> Lexed {
        self.skip_spaces_and_comments();
        match self.mode {
            Mode::Statements => self.statement(),
            Mode::Braces => self.inside_braces(),
            Mode::Duration => self.duration_expr(),
        }
    }

    fn statement(&mut self) -> Lexed {
        let Some(character) = self.advance() else {
            return self.end();
        };
        match character {
            ',' => self.emit(Kind::Comma),
            '=' if self.peek() == Some('=') => self.emit_two(Kind::Operator(BinaryOp::Eq)),
            '=' if self.peek() == Some('~') => self.fail("unexpected character after '=': '~'"),
            '=' => self.emit(Kind::Equal),
            '!' => match self.advance() {
                Some('=') => self.emit(Kind::Operator(BinaryOp::Ne)),
                other => {
                    let other = quoted_char(other);
                    self.fail(&format!("unexpected character after '!': {other}"))
                }
            },
            '<' => self.order(BinaryOp::Lt, BinaryOp::Le, BinaryOp::TrimUpper),
            '>' => self.order(BinaryOp::Gt, BinaryOp::Ge, BinaryOp::TrimLower),
            '0'..='9' => self.number_or_duration(),
            '.' if self.peek().is_some_and(|it| it.is_ascii_digit()) => self.number_or_duration(),
            '"' | '\'' => self.string(character),
            '`' => self.raw_string(),
            ':' | '_' | 'a'..='z' | 'A'..='Z' if self.bracket_open => {
                self.inside_brackets(character)
            }
            ':' | '_' | 'a'..='z' | 'A'..='Z' => self.word(),
            '{' => {
                self.mode = Mode::Braces;
                self.emit(Kind::LeftBrace)
            }
            '[' if self.bracket_open => self.fail("unexpected left bracket '['"),
            '[' => {
                self.colon_seen = false;
                self.bracket_open = true;
                self.mode = Mode::Duration;
                self.emit(Kind::LeftBracket)
            }
            ']' if !self.bracket_open => self.fail("unexpected right bracket ']'"),
            ']' => {
                self.bracket_open = false;
                self.emit(Kind::RightBracket)
            }
            '@' => self.emit(Kind::At),
            other => match self.arithmetic_or_paren(other) {
                Some(lexed) => lexed,
                None => self.fail(&format!("unexpected character: {}", quoted_char(Some(other)))),
            },
        }
    }

    fn end(&mut self) -> Lexed {
        if self.paren_depth != 0 {
            return self.fail("unclosed left parenthesis");
        }
        if self.bracket_open {
            return self.fail("unclosed left bracket");
        }
        self.emit(Kind::End)
    }

    /// A letter or colon behind a number inside brackets.
    fn inside_brackets(&mut self, character: char) -> Lexed {
        if character == ':' {
            if self.colon_seen {
                return self.fail("unexpected colon ':'");
            }
            self.colon_seen = true;
            return self.emit(Kind::Colon);
        }
        if let Some(kind) = self.duration_word(character) {
            return self.emit(kind);
        }
        let shown = quoted_char(Some(character));
        self.fail(&format!("unexpected character: {shown}, expected ':'"))
    }

    fn inside_braces(&mut self) -> Lexed {
        let Some(character) = self.advance() else {
            return self.fail("unexpected end of input inside braces");
        };
        match character {
            ',' => self.emit(Kind::Comma),
            '"' | '\'' => self.string(character),
            '`' => self.raw_string(),
            '=' if self.peek() == Some('~') => self.emit_two(Kind::EqualRegex),
            '=' => self.emit(Kind::Equal),
            '!' => match self.advance() {
                Some('~') => self.emit(Kind::NotEqualRegex),
                Some('=') => self.emit(Kind::Operator(BinaryOp::Ne)),
                other => {
                    let other = quoted_char(other);
                    self.fail(&format!("unexpected character after '!' inside braces: {other}"))
                }
            },
            '_' | 'a'..='z' | 'A'..='Z' => {
                while self.peek().is_some_and(is_alphanumeric) {
                    self.advance();
                }
                self.emit(Kind::Identifier)
            }
            '{' => self.fail("unexpected left brace '{'"),
            '}' => {
                self.mode = Mode::Statements;
                self.emit(Kind::RightBrace)
            }
            other => {
                let other = quoted_char(Some(other));
                self.fail(&format!("unexpected character inside braces: {other}"))
            }
        }
    }

    fn duration_expr(&mut self) -> Lexed {
        let Some(character) = self.advance() else {
            return self.fail("unexpected end of input in duration expression");
        };
        match character {
            ']' => {
                self.bracket_open = false;
                self.mode = Mode::Statements;
                self.emit(Kind::RightBracket)
            }
            ':' if !self.duration_seen => {
                self.start = self.pos;
                self.fail("unexpected colon before duration in duration expression")
            }
            ':' if self.colon_seen => {
                self.start = self.pos;
                self.fail("unexpected repeated colon in duration expression")
            }
            ':' => {
                self.colon_seen = true;
                self.emit(Kind::Colon)
            }
            ',' => self.emit(Kind::Comma),
            '0'..='9' => self.range_number(),
            '.' if self.peek().is_some_and(|it| it.is_ascii_digit()) => self.range_number(),
            other => {
                if let Some(kind) = self.duration_word(other) {
                    return self.emit(kind);
                }
                if let Some(lexed) = self.arithmetic_or_paren(other) {
                    return lexed;
                }
                let shown = quoted_char(Some(other));
                self.fail(&format!("unexpected character in duration expression: {shown}"))
            }
        }
    }

    fn range_number(&mut self) -> Lexed {
        self.duration_seen = true;
        self.mode = Mode::Statements;
        self.number_or_duration()
    }

    /// What means the same inside and outside of brackets.
    fn arithmetic_or_paren(&mut self, character: char) -> Option<Lexed> {
        let operator = match character {
            '+' => BinaryOp::Add,
            '-' => BinaryOp::Sub,
            '*' => BinaryOp::Mul,
            '/' => BinaryOp::Div,
            '%' => BinaryOp::Mod,
            '^' => BinaryOp::Pow,
            '(' => {
                self.paren_depth += 1;
                return Some(self.emit(Kind::LeftParen));
            }
            ')' => {
                if self.paren_depth == 0 {
                    self.start = self.pos;
                    return Some(self.fail("unexpected right parenthesis ')'"));
                }
                self.paren_depth -= 1;
                return Some(self.emit(Kind::RightParen));
            }
            _ => return None,
        };
        Some(self.emit(Kind::Operator(operator)))
    }

    fn order(&mut self, plain: BinaryOp, or_equal: BinaryOp, trim: BinaryOp) -> Lexed {
        match self.peek() {
            Some('=') => self.emit_two(Kind::Operator(or_equal)),
            Some('/') => self.emit_two(Kind::Operator(trim)),
            _ => self.emit(Kind::Operator(plain)),
        }
    }

    /// A word that may hold colons: a keyword, an identifier or a metric's name.
    fn word(&mut self) -> Lexed {
        while self.peek().is_some_and(|it| is_alphanumeric(it) || it == ':') {
            self.advance();
        }
        let word = self.input.get(self.start..self.pos).unwrap_or_default();
        let kind = match keyword(word) {
            // These are modifiers only before a parenthesis, so that metrics of these names stay
            // usable.
            Some(Kind::Fill | Kind::FillLeft | Kind::FillRight) if !self.paren_follows() => {
                Kind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(&b':') => Kind::MetricIdentifier,
            None => Kind::Identifier,
        };
        self.emit(kind)
    }

    fn paren_follows(&self) -> bool {
        let rest = self.input.get(self.pos..).unwrap_or_default();
        rest.iter().find(|it| !is_space(**it)) == Some(&b'(')
    }

    /// A keyword of duration expressions whose first letter was read.
    fn duration_word(&mut self, first: char) -> Option<Kind> {
        if !matches!(first, 's' | 'S' | 'r' | 'R' | 'm' | 'M') {
            return None;
        }
        while self.peek().is_some_and(is_alpha) {
            self.advance();
        }
        let word = self.input.get(self.start..self.pos)?;
        duration_keyword(&word.to_ascii_lowercase())
    }

    fn string(&mut self, quote: char) -> Lexed {
        loop {
            match self.advance() {
                Some('\\') => self.escape(quote)?,
                Some(char::REPLACEMENT_CHARACTER) => return self.fail("invalid UTF-8 rune"),
                None | Some('\n') => return self.fail("unterminated quoted string"),
                Some(character) if character == quote => return self.emit(Kind::String),
                Some(_) => {}
            }
        }
    }

    fn raw_string(&mut self) -> Lexed {
        loop {
            match self.advance() {
                Some(char::REPLACEMENT_CHARACTER) => return self.fail("invalid UTF-8 rune"),
                None => return self.fail("unterminated raw string"),
                Some('`') => return self.emit(Kind::String),
                Some(_) => {}
            }
        }
    }

    /// Checks an escape; its backslash was read.
    fn escape(&mut self, quote: char) -> Result<(), LexError> {
        let character = self.advance();
        let (digits, base, value_max) = match character {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(it) if it == quote => return Ok(()),
            Some('0'..='7') => (3, 8, 255),
            Some('x') => (2, 16, 255),
            Some('u') => (4, 16, u32::from(char::MAX)),
            Some('U') => (8, 16, u32::from(char::MAX)),
            None => return Err(self.error("escape sequence not terminated")),
            Some(other) => {
                return Err(self.error(&format!("unknown escape sequence {}", code_point(other))));
            }
        };
        let mut next = if base == 8 { character } else { self.advance() };
        let mut value: u32 = 0;
        for remaining in (0..digits).rev() {
            let Some(digit) = next else {
                return Err(self.error("escape sequence not terminated"));
            };
            let Some(digit_value) = digit.to_digit(base) else {
                let shown = code_point(digit);
                return Err(self.error(&format!("illegal character {shown} in escape sequence")));
            };
            value = value.wrapping_mul(base).wrapping_add(digit_value);
            if remaining > 0 {
                next = self.advance();
            }
        }
        if value > value_max || (0xd800..0xe000).contains(&value) {
            return Err(self.error("escape sequence is an invalid Unicode code point"));
        }
        Ok(())
    }

    fn number_or_duration(&mut self) -> Lexed {
        self.pos = self.start;
        if self.scan_number() {
            return self.emit(Kind::Number);
        }
        if self.scan_rest_of_duration() {
            return self.emit(Kind::Duration);
        }
        let text = quoted(self.input.get(self.start..self.pos).unwrap_or_default());
        self.fail(&format!("bad number or duration syntax: {text}"))
    }

    /// Reads what looks like a number; the parser finds out whether it is one.
    fn scan_number(&mut self) -> bool {
        let hexadecimal = self.accept("0") && self.accept("xX");
        let digits = if hexadecimal {
            self.accept("_");
            "0123456789abcdefABCDEF"
        } else {
            "0123456789"
        };
        self.accept(".");
        self.accept(digits);
        let (mut dot_seen, mut exponent_seen) = (false, false);
        while self.is(digits) || self.is("._eE") {
            if (self.is(".") && dot_seen) || (self.is("eE") && exponent_seen) {
                self.advance();
                return false;
            }
            if self.accept(".") {
                dot_seen = true;
                if self.accept("_.") || hexadecimal {
                    return false;
                }
            } else if self.accept("eE") {
                exponent_seen = true;
                self.accept("+-");
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else if self.accept("_") {
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else {
                while self.accept(digits) {}
            }
        }
        self.pos != self.start && !self.peek().is_some_and(is_alphanumeric)
    }

    /// Reads what follows the first digits of a duration; whether its units are right is found out
    /// later.
    fn scan_rest_of_duration(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while self.accept("0123456789") {
            while self.accept("0123456789") {}
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        if self.peek().is_some_and(is_alphanumeric) {
            self.advance();
            return false;
        }
        true
    }

    fn skip_spaces_and_comments(&mut self) {
        loop {
            match self.input.get(self.pos) {
                Some(byte) if is_space(*byte) => self.pos += 1,
                // Inside brackets a comment is possible only after a number.
                Some(b'#') if self.mode != Mode::Duration => {
                    let rest = self.input.get(self.pos..).unwrap_or_default();
                    let end = rest.iter().position(|it| matches!(it, b'\r' | b'\n'));
                    self.pos += end.unwrap_or(rest.len());
                }
                _ => break,
            }
        }
        self.start = self.pos;
    }

    fn peek(&self) -> Option<char> {
        decode(self.input.get(self.pos..)?).map(|(character, _)| character)
    }

    fn advance(&mut self) -> Option<char> {
        let (character, width) = decode(self.input.get(self.pos..)?)?;
        self.pos += width;
        Some(character)
    }

    fn is(&self, set: &str) -> bool {
        self.input.get(self.pos).is_some_and(|it| set.as_bytes().contains(it))
    }

    fn accept(&mut self, set: &str) -> bool {
        let accepted = self.is(set);
        self.pos += usize::from(accepted);
        accepted
    }

    fn emit_two(&mut self, kind: Kind) -> Lexed {
        self.advance();
        self.emit(kind)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the last step of functions that can fail")]
    fn emit(&mut self, kind: Kind) -> Lexed {
        Ok(Token { kind, start: self.start, end: self.pos })
    }

    fn error(&self, message: &str) -> LexError {
        LexError { start: self.start, message: message.to_owned() }
    }

    fn fail(&self, message: &str) -> Lexed {
        Err(self.error(message))
    }
}

/// The first character of the bytes and its width; what is not UTF-8 is one byte wide and reads as
/// U+FFFD.
pub(crate) fn decode(bytes: &[u8]) -> Option<(char, usize)> {
    let first = *bytes.first()?;
    if first.is_ascii() {
        return Some((char::from(first), 1));
    }
    let head = bytes.get(..bytes.len().min(4))?;
    let character = head.utf8_chunks().next().and_then(|it| it.valid().chars().next());
    Some(character.map_or((char::REPLACEMENT_CHARACTER, 1), |it| (it, it.len_utf8())))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_alpha(character: char) -> bool {
    character == '_' || character.is_ascii_alphabetic()
}

fn is_alphanumeric(character: char) -> bool {
    is_alpha(character) || character.is_ascii_digit()
}
