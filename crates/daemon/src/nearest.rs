//! The known name that somebody meant when they wrote another.

/// The name among `known` that is nearest to `text`, if it is near enough to be a slip of the
/// hand: at most a third of its letters changed, added, left out or swapped.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let edits_max = (text.chars().count() / 3).clamp(1, 5);
    let distances = known.into_iter().map(|it| (distance(text, it), it));
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
        let known = ["grpc-address", "http-address", "tsdb.path", "tsdb.retention", "label"];
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
        check("zzz", None);
        check("", None);
        check("retention", None);
    }
}
