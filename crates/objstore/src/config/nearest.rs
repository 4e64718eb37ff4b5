//! Which known word was meant.

/// The candidate that takes the fewest edits to reach from `word`, if it is near enough to be
/// worth naming: at most a third of its length, and always at least two.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = candidates.into_iter().map(|it| (distance(word, it), it));
    let (edits, found) = near.min_by_key(|(edits, _)| *edits)?;
    (edits <= (found.len() / 3).max(2)).then_some(found)
}

/// Insertions, deletions and replacements of characters (Levenshtein's distance).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    // A word longer than any candidate's neighbourhood is not compared to its end.
    for (at, have) in from.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, want) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(have != *want);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_found_and_other_words_are_not() {
        let known = ["bucket", "endpoint", "access_key", "secret_key"];
        assert_eq!(nearest("buckett", known), Some("bucket"));
        assert_eq!(nearest("acess_key", known), Some("access_key"));
        assert_eq!(nearest("end_point", known), Some("endpoint"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
