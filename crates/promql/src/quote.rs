//! Text in Go's quotes, as error texts and canonical expressions show it.

use std::fmt::Write as _;

/// Appends the bytes in double quotes with Go's escapes (`strconv.Quote`).
pub(crate) fn push_quoted(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_escaped(out, character, '"');
        }
        for byte in chunk.invalid() {
            push_format(out, format_args!("\\x{byte:02x}"));
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
    match character {
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        _ if character == quote => {
            out.push('\\');
            out.push(quote);
        }
        _ if is_printable(character) => out.push(character),
        _ => {
            let number = u32::from(character);
            match number {
                0..0x20 | 0x7f => push_format(out, format_args!("\\x{number:02x}")),
                0x80..=0xffff => push_format(out, format_args!("\\u{number:04x}")),
                _ => push_format(out, format_args!("\\U{number:08x}")),
            }
        }
    }
}

fn push_format(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(arguments);
}

/// Whether Go would show the character: letters, marks, numbers, punctuation, symbols and the
/// ASCII space. The standard library knows the same set behind its debug escapes; a letter goes
/// first because a mark is escaped only at the beginning of a text.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return matches!(character, ' '..='~');
    }
    let mut buffer = [b'a', 0, 0, 0, 0];
    let Some(tail) = buffer.get_mut(1..) else { return false };
    let length = character.encode_utf8(tail).len();
    let text = buffer.get(..=length).and_then(|it| std::str::from_utf8(it).ok());
    text.is_some_and(|text| text.escape_debug().nth(1) == Some(character))
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
