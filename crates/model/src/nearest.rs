//! The known name that somebody meant when they wrote another.

/// The name among `known` that is nearest to `text`, if it is near enough to be a slip of the
/// hand: at most a third of its letters changed, added, left out or swapped.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = text.chars().count();
    let edits_max = (length / 3).clamp(1, 5);
    // However long a text is, it is compared only with names of about its length.
    let known = known.into_iter().filter(|it| it.chars().count().abs_diff(length) <= edits_max);
    let distances = known.map(|it| (distance(text, it), it));
    distances.filter(|(edits, _)| *edits <= edits_max).min().map(|(_, it)| it)
}

/// Letters changed, added, left out, or swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, &a) in left.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, &b) in right.iter().enumerate() {
            let changed = last[column] + usize::from(a != b);
            let added = line[column] + 1;
            let left_out = last[column + 1] + 1;
            let mut edits = changed.min(added).min(left_out);
            if row > 0 && column > 0 && a == right[column - 1] && left[row - 1] == b {
                edits = edits.min(before_last[column - 1] + 1);
            }
            line.push(edits);
        }
        before_last = std::mem::replace(&mut last, line);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let flags = ["grpc-address", "http-address", "tsdb.path", "tsdb.retention", "label"];
        let known = flags.into_iter().chain(["bucket", "endpoint", "access_key", "secret_key"]);
        assert_eq!(nearest(text, known), expected, "{text:?}");
    }

    #[test]
    fn slips_of_the_hand_are_understood() {
        check("http-adress", Some("http-address"));
        check("htpt-address", Some("http-address"));
        check("tsdb.paht", Some("tsdb.path"));
        check("lable", Some("label"));
        check("tsdb-retention", Some("tsdb.retention"));
        check("labels", Some("label"));
        check("buckett", Some("bucket"));
        check("acess_key", Some("access_key"));
        check("end_point", Some("endpoint"));
        check("colour", None);
        check("zzz", None);
        check("", None);
        check("retention", None);
        check(&"label".repeat(1_000_000), None);
    }
}
