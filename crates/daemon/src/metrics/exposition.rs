//! Joins the texts of several registries into one, in OpenMetrics or in Prometheus' older form.
//!
//! A family may come from several parts of the process; a text may describe it only once.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One metric family: what describes it, and its samples in the order of their registries.
#[derive(Default)]
struct Family<'a> {
    help: Option<&'a str>,
    kind: Option<&'a str>,
    unit: Option<&'a str>,
    samples: Vec<&'a str>,
}

/// One OpenMetrics text of what registries wrote, each without its `# EOF`.
pub(crate) fn open_metrics(texts: &[String]) -> String {
    let mut joined = String::with_capacity(texts.iter().map(String::len).sum());
    for (name, family) in families(texts) {
        describe(&mut joined, "HELP", name, family.help);
        describe(&mut joined, "TYPE", name, family.kind);
        describe(&mut joined, "UNIT", name, family.unit);
        for sample in family.samples {
            joined.push_str(sample);
            joined.push('\n');
        }
    }
    joined.push_str("# EOF\n");
    joined
}

/// The same in the text format 0.0.4: counters are described by their whole name, there are no
/// units and no exemplars, and some types have other names.
pub(crate) fn prometheus_text(texts: &[String]) -> String {
    let mut joined = String::with_capacity(texts.iter().map(String::len).sum());
    for (name, family) in families(texts) {
        let (kind, suffix) = match family.kind.unwrap_or("unknown") {
            "counter" => ("counter", "_total"),
            "info" => ("gauge", "_info"),
            "stateset" => ("gauge", ""),
            "unknown" => ("untyped", ""),
            other => (other, ""),
        };
        let name = format!("{name}{suffix}");
        describe(&mut joined, "HELP", &name, family.help);
        describe(&mut joined, "TYPE", &name, Some(kind));
        for sample in family.samples {
            joined.push_str(without_exemplar(sample));
            joined.push('\n');
        }
    }
    joined
}

fn families(texts: &[String]) -> BTreeMap<&str, Family<'_>> {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    for text in texts {
        let mut current = "";
        for line in text.lines() {
            let Some(comment) = line.strip_prefix("# ") else {
                families.entry(current).or_default().samples.push(line);
                continue;
            };
            let mut words = comment.splitn(3, ' ');
            let (Some(what), Some(name)) = (words.next(), words.next()) else { continue };
            let value = words.next().unwrap_or_default();
            current = name;
            let family = families.entry(name).or_default();
            match what {
                "HELP" => family.help.get_or_insert(value),
                "TYPE" => family.kind.get_or_insert(value),
                "UNIT" => family.unit.get_or_insert(value),
                _ => continue,
            };
        }
    }
    families.retain(|_, family| !family.samples.is_empty());
    families
}

fn describe(text: &mut String, what: &str, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# {what} {name} {value}");
    }
}

/// A sample line up to its exemplar, which begins with ` # ` outside of label values.
fn without_exemplar(line: &str) -> &str {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (index, byte) in line.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'#' if !is_quoted => return line[..index].trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVE: &str = "# HELP a_requests Answered.\n# TYPE a_requests counter\n\
        a_requests_total{component=\"receive\",x=\"# \\\" #\"} 1 # {id=\"7\"} 1.0\n\
        # HELP empty None.\n# TYPE empty gauge\n";
    const STORE: &str = "# HELP a_requests Answered.\n# TYPE a_requests counter\n\
        a_requests_total{component=\"store\"} 2\n\
        # HELP b_seconds Time.\n# TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 0.5\n";

    #[test]
    fn a_family_of_two_parts_is_described_once() {
        let text = open_metrics(&[RECEIVE.to_owned(), STORE.to_owned()]);
        assert_eq!(
            text,
            "# HELP a_requests Answered.\n# TYPE a_requests counter\n\
             a_requests_total{component=\"receive\",x=\"# \\\" #\"} 1 # {id=\"7\"} 1.0\n\
             a_requests_total{component=\"store\"} 2\n\
             # HELP b_seconds Time.\n# TYPE b_seconds gauge\n# UNIT b_seconds seconds\n\
             b_seconds 0.5\n# EOF\n"
        );
    }

    #[test]
    fn the_older_text_knows_no_units_exemplars_or_bare_counters() {
        let text = prometheus_text(&[RECEIVE.to_owned(), STORE.to_owned()]);
        assert_eq!(
            text,
            "# HELP a_requests_total Answered.\n# TYPE a_requests_total counter\n\
             a_requests_total{component=\"receive\",x=\"# \\\" #\"} 1\n\
             a_requests_total{component=\"store\"} 2\n\
             # HELP b_seconds Time.\n# TYPE b_seconds gauge\nb_seconds 0.5\n"
        );
    }
}
