//! Texts in double quotes as Go's `strconv.Quote` writes them.

use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use regex_syntax::hir::{Class, ClassUnicode, HirKind};

/// A text that displays itself in Go's quotes.
#[derive(Clone, Copy, Debug)]
pub struct GoQuoted<'t>(pub &'t str);

/// The text in Go's quotes.
pub fn go_quote(text: &str) -> String {
    GoQuoted(text).to_string()
}

impl fmt::Display for GoQuoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let mut plain_at = 0;
        for (at, each) in self.0.char_indices() {
            if matches!(each, ' '..='~') && each != '"' && each != '\\' {
                continue;
            }
            f.write_str(&self.0[plain_at..at])?;
            plain_at = at + each.len_utf8();
            write_escaped(f, each, '"')?;
        }
        f.write_str(&self.0[plain_at..])?;
        f.write_char('"')
    }
}

/// Writes a character as it stands between such quotes: escaped where it is the quote itself, a
/// backslash, or nothing that Go would show.
///
/// # Errors
/// Those of `out`.
pub fn write_escaped(out: &mut impl fmt::Write, each: char, quote: char) -> fmt::Result {
    match each {
        '\\' => out.write_str(r"\\"),
        '\x07' => out.write_str(r"\a"),
        '\x08' => out.write_str(r"\b"),
        '\x0c' => out.write_str(r"\f"),
        '\n' => out.write_str(r"\n"),
        '\r' => out.write_str(r"\r"),
        '\t' => out.write_str(r"\t"),
        '\x0b' => out.write_str(r"\v"),
        '\0'..='\x1f' | '\x7f' => write!(out, r"\x{:02x}", u32::from(each)),
        _ if each == quote => {
            out.write_char('\\')?;
            out.write_char(each)
        }
        _ if is_printable(each) => out.write_char(each),
        '\0'..='\u{ffff}' => write!(out, r"\u{:04x}", u32::from(each)),
        _ => write!(out, r"\U{:08x}", u32::from(each)),
    }
}

/// Whether Go would show a character (`strconv.IsPrint`): letters, marks, numbers, punctuation,
/// symbols and the ASCII space.
pub fn is_printable(each: char) -> bool {
    static PRINTABLE: LazyLock<ClassUnicode> = LazyLock::new(|| {
        let parsed =
            regex_syntax::parse(r"[\pL\pM\pN\pP\pS]").map(regex_syntax::hir::Hir::into_kind);
        match parsed {
            Ok(HirKind::Class(Class::Unicode(class))) => class,
            _ => ClassUnicode::empty(),
        }
    });
    if each.is_ascii() {
        return matches!(each, ' '..='~');
    }
    let ranges = PRINTABLE.ranges();
    let at = ranges.partition_point(|it| it.end() < each);
    ranges.get(at).is_some_and(|it| it.start() <= each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        for (text, expected) in [
            ("", r#""""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\0\x07\x08\t\n\x0b\x0c\r\x1b\x7f", r#""\x00\a\b\t\n\v\f\r\x1b\x7f""#),
            ("日本 é\u{301}😀\u{fffd}", "\"日本 é\u{301}😀\u{fffd}\""),
            ("\u{80}\u{a0}\u{200b}\u{2028}\u{feff}", r#""\u0080\u00a0\u200b\u2028\ufeff""#),
            ("\u{10ffff}\u{e0001}", r#""\U0010ffff\U000e0001""#),
        ] {
            assert_eq!(go_quote(text), expected);
        }
    }
}
