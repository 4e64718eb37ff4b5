//! Text in Go's quotes, as error texts and canonical expressions show it.

use std::fmt::Write as _;

use model::quote::{is_printable, write_escaped};

/// Appends the bytes in double quotes with Go's escapes (`strconv.Quote`).
pub(crate) fn push_quoted(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_escaped(out, character, '"');
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
}

/// The bytes in double quotes.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    push_quoted(&mut out, bytes);
    out
}

/// One character in single quotes; the end of input shows as U+FFFD.
pub(crate) fn quoted_char(character: Option<char>) -> String {
    let mut out = String::from("'");
    push_escaped(&mut out, character.unwrap_or(char::REPLACEMENT_CHARACTER), '\'');
    out.push('\'');
    out
}

/// A character as its code point, followed by itself where it can be shown (Go's `%#U`).
pub(crate) fn code_point(character: char) -> String {
    let number = u32::from(character);
    if is_printable(character) {
        format!("U+{number:04X} '{character}'")
    } else {
        format!("U+{number:04X}")
    }
}

fn push_escaped(out: &mut String, character: char, quote: char) {
    // Writing to a String cannot fail.
    let _ = write_escaped(out, character, quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_as_go_escapes_it() {
        assert_eq!(quoted("a\"'\\\n\u{7f}é\u{a0}\u{2028}".as_bytes()), {
            "\"a\\\"'\\\\\\n\\x7fé\\u00a0\\u2028\""
        });
        assert_eq!(quoted(b"\xff\x00"), "\"\\xff\\x00\"");
        assert_eq!(quoted("e\u{301}\u{e0001}".as_bytes()), "\"e\u{301}\\U000e0001\"");
        assert_eq!(quoted_char(Some('\'')), "'\\''");
        assert_eq!(quoted_char(None), "'\u{fffd}'");
        assert_eq!(code_point('.'), "U+002E '.'");
        assert_eq!(code_point('\n'), "U+000A");
    }
}
