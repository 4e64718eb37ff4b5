//! `label_replace` and `label_join`: functions that change labels and nothing else.

use model::time::METRIC_NAME;
use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;

use crate::ast::{Call, Expr};
use crate::error::Error;
use crate::eval::merge::joined;
use crate::eval::pattern::translate;
use crate::eval::{Evaluator, Rows, Stream};
use crate::row::{Grid, Row};

impl<'a> Evaluator<'a> {
    pub(crate) fn label_replace(
        &self,
        call: &'a Call,
        vector: &'a Expr,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let texts = texts(call, |index| (index == 0).then_some("destination"))?;
        let [target, template, source, pattern] = texts.as_slice() else {
            return Err(Error::execution("label_replace() needs four texts"));
        };
        let invalid = || {
            Error::execution(format!("invalid regular expression in label_replace(): {pattern}"))
        };
        model::regex::Regex::new(pattern).map_err(|_| invalid())?;
        let regex = Regex::new(&format!("^(?s:{})$", translate(pattern))).map_err(|_| invalid())?;
        check_name(target, "destination", "label_replace")?;
        let (target, template, source) = (target.clone(), template.clone(), source.clone());
        let mut found = regex.create_captures();
        let change = move |row: &mut Row| {
            let value = row.labels.get(&source).unwrap_or_default();
            regex.captures(value, &mut found);
            if found.is_match() {
                let text = expand(&template, value, &found);
                row.labels = row.labels.to_builder().set(&target, &text).build();
                // A name that was given on purpose stays.
                row.drop_name &= target != METRIC_NAME;
            }
        };
        let input = self.vector(vector, grid)?;
        joined(self.context, Stream::new(Relabeled { input: input.rows, change }, false))
    }

    pub(crate) fn label_join(
        &self,
        call: &'a Call,
        vector: &'a Expr,
        grid: Grid,
    ) -> Result<Stream, Error> {
        let texts = texts(call, |index| match index {
            0 => Some("destination"),
            1 => None,
            _ => Some("source"),
        })?;
        let [target, separator, sources @ ..] = texts.as_slice() else {
            return Err(Error::execution("label_join() needs a label and a separator"));
        };
        for source in sources {
            check_name(source, "source", "label_join")?;
        }
        check_name(target, "destination", "label_join")?;
        let (target, separator, sources) = (target.clone(), separator.clone(), sources.to_vec());
        let change = move |row: &mut Row| {
            let values: Vec<&str> =
                sources.iter().map(|it| row.labels.get(it).unwrap_or_default()).collect();
            let text = values.join(&separator);
            row.labels = row.labels.to_builder().set(&target, &text).build();
            row.drop_name &= target != METRIC_NAME;
        };
        let input = self.vector(vector, grid)?;
        joined(self.context, Stream::new(Relabeled { input: input.rows, change }, false))
    }
}

/// The arguments after the vector, which are texts; `role` says for which the name of a label is
/// wanted, and of what.
fn texts(call: &Call, role: impl Fn(usize) -> Option<&'static str>) -> Result<Vec<String>, Error> {
    let function = call.function.name;
    let texts = call.args.iter().skip(1).enumerate().map(|(index, arg)| {
        let Expr::String(text) = arg.without_parens() else {
            return Err(Error::execution(format!("{function}() needs a text")));
        };
        if let Some(text) = text.value.as_str() {
            return Ok(text.to_owned());
        }
        Err(match role(index) {
            Some(role) => invalid_name(&text.value.to_str_lossy(), role, function),
            None => Error::execution(format!(
                "{function}() was given a text that is not UTF-8: {:?}",
                text.value
            )),
        })
    });
    texts.collect()
}

fn check_name(name: &str, role: &str, function: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(invalid_name(name, role, function));
    }
    Ok(())
}

fn invalid_name(name: &str, role: &str, function: &str) -> Error {
    Error::execution(format!("invalid {role} label name in {function}(): {name}"))
}

struct Relabeled<F> {
    input: Box<dyn Rows>,
    change: F,
}

impl<F: FnMut(&mut Row) + Send> Rows for Relabeled<F> {
    fn next(&mut self, row: &mut Row) -> Result<bool, Error> {
        let any = self.input.next(row)?;
        if any {
            (self.change)(row);
        }
        Ok(any)
    }
}

/// Fills a template with captures as Go's `Regexp.Expand` does: `$1`, `$name`, `${name}`, `$$`.
/// A name is as long as it can be; what does not exist is empty; a `$` that begins nothing stays.
fn expand(template: &str, text: &str, found: &Captures) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let Some((name, after)) = take_name(rest) else {
            out.push('$');
            continue;
        };
        let span = if name.bytes().all(|it| it.is_ascii_digit()) {
            name.parse().ok().and_then(|index: usize| found.get_group(index))
        } else {
            found.get_group_by_name(name)
        };
        out.push_str(span.and_then(|it| text.get(it.range())).unwrap_or_default());
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The name after a `$` and what follows it.
fn take_name(text: &str) -> Option<(&str, &str)> {
    let is_name = |it: char| it.is_alphanumeric() || it == '_';
    if let Some(inner) = text.strip_prefix('{') {
        let (name, after) = inner.split_once('}')?;
        return (!name.is_empty() && name.chars().all(is_name)).then_some((name, after));
    }
    let end = text.find(|it| !is_name(it)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled() {
        let regex = Regex::new("^(?s:(?P<first>[a-z]+)-(.*))$").unwrap();
        let mut found = regex.create_captures();
        regex.captures("ab-cd", &mut found);
        let cases = [
            ("$1/$2", "ab/cd"),
            ("${first}x", "abx"),
            ("$1x", ""),
            ("$$1", "$1"),
            ("$", "$"),
            ("a$-b", "a$-b"),
            ("${1", "${1"),
            ("$9", ""),
            ("$0", "ab-cd"),
        ];
        for (template, expected) in cases {
            assert_eq!(expand(template, "ab-cd", &found), expected, "{template}");
        }
    }
}
