//! The pieces of an expression that are spelled with a backslash or between brackets.

use regex_syntax::hir::ClassUnicode;

use crate::regex::RegexError;
use crate::regex::class;

/// What stands at a place, and how many bytes it takes; nothing when it stands not there.
pub(super) type Found<T> = Result<Option<(T, usize)>, RegexError>;

const CLASS_RANGE: &str = "invalid character class range";
const ESCAPE: &str = "invalid escape sequence";
const BRACKET: &str = "missing closing ]";

/// Takes characters from the front of a text and knows what was taken.
struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl Cursor<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.text[self.at..].chars().next()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn octal_digit(&mut self) -> Option<u32> {
        let digit = self.text[self.at..].chars().next()?.to_digit(8)?;
        self.at += 1;
        Some(digit)
    }

    fn taken(&self) -> &str {
        &self.text[..self.at]
    }
}

/// A single character spelled by an escape, as a code point; `text` begins with the backslash.
pub(super) fn single(text: &str) -> Result<(u32, usize), RegexError> {
    let mut cursor = Cursor { text, at: 1 };
    let Some(letter) = cursor.next() else {
        return Err(RegexError::new("trailing backslash at end of expression", ""));
    };
    let code = match letter {
        'a' => Some(0x07),
        'f' => Some(0x0c),
        'n' => Some(0x0a),
        'r' => Some(0x0d),
        't' => Some(0x09),
        'v' => Some(0x0b),
        'x' => hexadecimal(&mut cursor),
        '0' => Some(octal(0, &mut cursor)),
        '1'..='7' => {
            // One digit alone would be a back reference.
            let second = cursor.octal_digit();
            let first = u32::from(letter) - u32::from('0');
            second.map(|second| match cursor.octal_digit() {
                Some(third) => first * 64 + second * 8 + third,
                None => first * 8 + second,
            })
        }
        _ if letter.is_ascii() && !letter.is_ascii_alphanumeric() => Some(u32::from(letter)),
        _ => None,
    };
    match code {
        Some(code) => Ok((code, cursor.at)),
        None => Err(RegexError::new(ESCAPE, cursor.taken())),
    }
}

fn octal(first: u32, cursor: &mut Cursor<'_>) -> u32 {
    let mut code = first;
    for _ in 0..2 {
        match cursor.octal_digit() {
            Some(digit) => code = code * 8 + digit,
            None => break,
        }
    }
    code
}

fn hexadecimal(cursor: &mut Cursor<'_>) -> Option<u32> {
    let first = cursor.next()?;
    if first != '{' {
        let second = cursor.next();
        return Some(first.to_digit(16)? * 16 + second?.to_digit(16)?);
    }
    let (mut code, mut digits) = (0, 0);
    loop {
        match cursor.next()? {
            '}' => break,
            digit => code = code * 16 + digit.to_digit(16)?,
        }
        if code > 0x10ffff {
            return None;
        }
        digits += 1;
    }
    (digits > 0).then_some(code)
}

/// `\d` and its like at the front of `text`.
pub(super) fn perl_class(text: &str, fold: bool) -> Option<(ClassUnicode, usize)> {
    let &[b'\\', letter, ..] = text.as_bytes() else { return None };
    let class = class::perl(letter.to_ascii_lowercase())?;
    Some((class::negated(class::folded(class, fold), letter.is_ascii_uppercase()), 2))
}

/// `\pN`, `\p{Greek}`, `\P{^Greek}` at the front of `text`.
pub(super) fn unicode_class(text: &str, fold: bool) -> Found<ClassUnicode> {
    let &[b'\\', letter @ (b'p' | b'P'), ..] = text.as_bytes() else { return Ok(None) };
    let mut cursor = Cursor { text, at: 2 };
    let name = match cursor.next() {
        Some('{') => {
            let end = text.find('}').ok_or_else(|| RegexError::new(CLASS_RANGE, text))?;
            cursor.at = end + 1;
            &text[3..end]
        }
        _ => &text[2..cursor.at],
    };
    let positive = name.strip_prefix('^').unwrap_or(name);
    let negate = (letter == b'P') != (positive.len() != name.len());
    let found = class::unicode(positive);
    let class = found.ok_or_else(|| RegexError::new(CLASS_RANGE, cursor.taken()))?;
    Ok(Some((class::negated(class::folded(class, fold), negate), cursor.at)))
}

/// `[:alpha:]` at the front of `text`, inside brackets.
fn posix_class(text: &str, fold: bool) -> Found<ClassUnicode> {
    if !text.starts_with("[:") || text.len() <= 2 {
        return Ok(None);
    }
    let Some(end) = text[2..].find(":]") else { return Ok(None) };
    let (name, length) = (&text[2..2 + end], end + 4);
    let positive = name.strip_prefix('^').unwrap_or(name);
    let found = class::posix(positive);
    let class = found.ok_or_else(|| RegexError::new(CLASS_RANGE, &text[..length]))?;
    Ok(Some((class::negated(class::folded(class, fold), positive.len() != name.len()), length)))
}

/// The class between brackets at the front of `text`, and its length.
pub(super) fn bracket_class(text: &str, fold: bool) -> Result<(ClassUnicode, usize), RegexError> {
    let negate = text[1..].starts_with('^');
    let mut at = 1 + usize::from(negate);
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    let mut named = ClassUnicode::empty();
    let mut first = true;
    while first || !text[at..].starts_with(']') {
        first = false;
        if let Some((class, length)) = named_class(&text[at..], fold)? {
            named.union(&class);
            at += length;
            continue;
        }
        let range_at = at;
        let (low, length) = class_character(text, at)?;
        at += length;
        let mut high = low;
        let mut ahead = text[at..].chars();
        if ahead.next() == Some('-') && ahead.next().is_some_and(|it| it != ']') {
            let (code, length) = class_character(text, at + 1)?;
            (high, at) = (code, at + 1 + length);
            if high < low {
                return Err(RegexError::new(CLASS_RANGE, &text[range_at..at]));
            }
        }
        ranges.push((low, high));
    }
    let mut class = class::folded(class::from_code_points(&ranges), fold);
    class.union(&named);
    Ok((class::negated(class, negate), at + 1))
}

fn named_class(text: &str, fold: bool) -> Found<ClassUnicode> {
    if let Some(found) = posix_class(text, fold)? {
        return Ok(Some(found));
    }
    if let Some(found) = unicode_class(text, fold)? {
        return Ok(Some(found));
    }
    Ok(perl_class(text, fold))
}

/// A character of a class that begins at the front of `whole`, at byte `at`.
fn class_character(whole: &str, at: usize) -> Result<(u32, usize), RegexError> {
    match whole[at..].chars().next() {
        None => Err(RegexError::new(BRACKET, whole)),
        Some('\\') => single(&whole[at..]),
        Some(other) => Ok((u32::from(other), other.len_utf8())),
    }
}
