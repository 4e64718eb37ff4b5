//! Go's regular expressions in the words of `regex-automata`, where captures are needed.
//!
//! The expression was checked by Go's rules before. What differs is rewritten: Perl's classes know
//! ASCII only, `\Q…\E` quotes, a class has no operators inside, and a brace that is no repetition
//! is a brace.

use std::iter::Peekable;
use std::str::Chars;

/// The same expression for `regex-automata`.
pub(crate) fn translate(pattern: &str) -> String {
    let mut translator = Translator { rest: pattern, out: String::with_capacity(pattern.len()) };
    translator.run();
    translator.out
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
}

impl Translator<'_> {
    fn run(&mut self) {
        while let Some(it) = self.rest.chars().next() {
            match it {
                '\\' => self.escape(),
                '[' => self.class(),
                '{' if !is_repetition(self.rest) => self.replace(1, r"\{"),
                _ => self.copy(it.len_utf8()),
            }
        }
    }

    fn copy(&mut self, bytes: usize) {
        let (head, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.out.push_str(head);
        self.rest = rest;
    }

    fn replace(&mut self, bytes: usize, text: &str) {
        self.out.push_str(text);
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// A backslash outside of a class.
    fn escape(&mut self) {
        if let Some(quoted) = self.rest.strip_prefix(r"\Q") {
            let (literal, rest) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            literal.chars().for_each(|it| push_literal(&mut self.out, it));
            self.rest = rest;
            return;
        }
        match self.rest.chars().nth(1) {
            Some('b') => self.replace(2, r"(?-u:\b)"),
            Some(it) => match perl_class(it) {
                Some((negated, members)) => {
                    let text = format!("[{}{members}]", if negated { "^" } else { "" });
                    self.replace(2, &text);
                }
                None => self.copy(1 + it.len_utf8()),
            },
            None => self.copy(1),
        }
    }

    /// A class in brackets, up to the one that closes it.
    fn class(&mut self) {
        self.copy(1);
        if self.rest.starts_with('^') {
            self.copy(1);
        }
        let mut is_first = true;
        while let Some(it) = self.rest.chars().next() {
            match it {
                ']' if !is_first => {
                    self.copy(1);
                    return;
                }
                '[' if self.rest.starts_with("[:") && self.rest.contains(":]") => {
                    let end = self.rest.find(":]").map_or(self.rest.len(), |at| at + 2);
                    self.copy(end);
                }
                '\\' => self.escape_in_class(),
                // What would be an operator or a class inside the class.
                ']' | '[' | '&' | '~' => self.replace(1, &format!("\\{it}")),
                '-' if is_first || self.rest.starts_with("-]") || self.rest.starts_with("--") => {
                    self.replace(1, r"\-");
                }
                _ => self.copy(it.len_utf8()),
            }
            is_first = false;
        }
    }

    fn escape_in_class(&mut self) {
        match self.rest.chars().nth(1) {
            Some(it) => match perl_class(it) {
                Some((false, members)) => self.replace(2, members),
                Some((true, members)) => self.replace(2, &format!("[^{members}]")),
                None => self.copy(1 + it.len_utf8()),
            },
            None => self.copy(1),
        }
    }
}

/// Whether the class is negated, and its members.
fn perl_class(letter: char) -> Option<(bool, &'static str)> {
    let members = match letter.to_ascii_lowercase() {
        'd' => "0-9",
        's' => r"\t\n\f\r ",
        'w' => "0-9A-Za-z_",
        _ => return None,
    };
    Some((letter.is_ascii_uppercase(), members))
}

/// Whether a text begins with `{n}`, `{n,}` or `{n,m}`.
fn is_repetition(text: &str) -> bool {
    let mut chars = text.chars().peekable();
    let takes = |chars: &mut Peekable<Chars<'_>>, it: char| chars.next_if_eq(&it).is_some();
    let digits = |chars: &mut Peekable<Chars<'_>>| {
        let mut any = false;
        while chars.next_if(char::is_ascii_digit).is_some() {
            any = true;
        }
        any
    };
    if !takes(&mut chars, '{') || !digits(&mut chars) {
        return false;
    }
    if takes(&mut chars, ',') {
        digits(&mut chars);
    }
    takes(&mut chars, '}')
}

fn push_literal(out: &mut String, it: char) {
    if it.is_ascii_punctuation() {
        out.push('\\');
    }
    out.push(it);
}

#[cfg(test)]
mod tests {
    use regex_automata::meta::Regex;

    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        let cases = [
            (r"\Qa.b\E+", "a.bb", true),
            (r"\Qa.b\E+", "axb", false),
            (r"\w+", "é", false),
            (r"\W", "é", true),
            (r"\d", "٣", false),
            (r"[\d[]+", "1[2", true),
            (r"[\D]", "x", true),
            (r"[a&&b]+", "a&b", true),
            (r"[]a]+", "]a", true),
            (r"[^]a]", "b", true),
            (r"[a-c-]+", "b-", true),
            (r"[--/]", ".", true),
            (r"[[:alpha:]]+", "abc", true),
            (r"a{,2}", "a{,2}", true),
            (r"a{2}", "aa", true),
            (r"a{1,}", "aaa", true),
            (r"\bab\b", "ab", true),
            (r"(?P<x>a)(?i:B)", "ab", true),
        ];
        for (pattern, text, expected) in cases {
            let translated = format!("^(?s:{})$", translate(pattern));
            let regex = Regex::new(&translated).unwrap_or_else(|it| panic!("{pattern}: {it}"));
            assert_eq!(regex.is_match(text), expected, "{pattern} on {text}: {translated}");
        }
    }
}
