//! An error as one line of text.

/// An error with its causes, outermost first, whatever line breaks libraries put into theirs.
///
/// Many errors tell their cause themselves; a cause that ends what was said so far is not said
/// again.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
        let text = lines.join(" ");
        if text.is_empty() || said.ends_with(&text) {
            continue;
        }
        if !said.is_empty() {
            said.push_str(": ");
        }
        said.push_str(&text);
    }
    said
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn every_cause_is_said_once_and_in_one_line() {
        let error = anyhow!("disk full\n  (os error 28)\n")
            .context("x.log: disk full (os error 28)")
            .context("write x.log")
            .context("--tsdb.path=data");
        assert_eq!(
            one_line(&error),
            "--tsdb.path=data: write x.log: x.log: disk full (os error 28)"
        );
        assert_eq!(one_line(&anyhow!("")), "");
    }
}
