//! A label on the command line: `name="value"`, as Thanos quotes it, or `name=value`.

/// Reads a label: the value may be quoted as in Go, or stand as it is.
///
/// # Errors
/// Says what a label looks like; the name is checked too.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let refused = || format!("{text:?} is not a label such as replica=\"a\"");
    let (name, value) = text.split_once('=').ok_or_else(refused)?;
    let name = name.trim();
    let is_name = name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
        && name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
    if !is_name {
        return Err(format!("{text:?}: {name:?} is not the name of a label"));
    }
    let value = value.trim();
    let value = match value.strip_prefix('"') {
        Some(quoted) => unquote(quoted).ok_or_else(refused)?,
        None => match value.strip_prefix('`') {
            Some(raw) => raw.strip_suffix('`').ok_or_else(refused)?.to_owned(),
            None => value.to_owned(),
        },
    };
    Ok((name.to_owned(), value))
}

/// What stands up to the closing quote, which must be the last character.
fn unquote(quoted: &str) -> Option<String> {
    let mut value = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(value),
            '\\' => value.push(escaped(&mut characters)?),
            other => value.push(other),
        }
    }
}

fn escaped(characters: &mut std::str::Chars<'_>) -> Option<char> {
    let code_digits = match characters.next()? {
        'n' => return Some('\n'),
        't' => return Some('\t'),
        'r' => return Some('\r'),
        literal @ ('"' | '\\' | '\'') => return Some(literal),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return None,
    };
    let mut code = 0_u32;
    for _ in 0..code_digits {
        code = code.checked_mul(16)? + characters.next()?.to_digit(16)?;
    }
    // A byte above 0x7f is half of a character, and a value is text.
    (code_digits != 2 || code < 0x80).then(|| char::from_u32(code)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, &str)>) {
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parse_label(text).ok(), expected, "{text:?}");
    }

    #[test]
    fn labels_are_read() {
        check("replica=\"a\"", Some(("replica", "a")));
        check("replica=a", Some(("replica", "a")));
        check("replica=", Some(("replica", "")));
        check("a=\"b=\\\"c\\\"\"", Some(("a", "b=\"c\"")));
        check("a=\"\\n\\t\\\\\\u00e9\\x41\"", Some(("a", "\n\t\\éA")));
        check("a=`b\\n`", Some(("a", "b\\n")));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "a", "=b", "1a=b", "a-b=c", "a=\"b", "a=\"b\"c", "a=\"\\q\"", "a=`b"] {
            check(text, None);
        }
        check("a=\"\\xff\"", None);
        check("a=\"\\u12\"", None);
        check("a=\"\\ud800\"", None);
    }
}
