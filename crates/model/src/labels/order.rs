//! The order of label sets, found without taking them apart.

use std::cmp::Ordering;

use super::read_length;

/// Compares two encoded sets pair by pair, name before value.
///
/// Sets that are neighbours in some order begin alike. What they share is found word by word, and
/// only the lengths are read up to the text in which they first differ.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let shared = shared_prefix(a, b);
    if shared == a.len() || shared == b.len() {
        // A whole set is the beginning of the other one.
        return a.len().cmp(&b.len());
    }
    let mut at = 0;
    loop {
        let (length, text) = read_length(a, at);
        let end = text + length;
        if end > shared {
            let (other_length, other_text) = read_length(b, at);
            // The texts begin at one place, so one of them may be the beginning of the other.
            return a[text..end].cmp(&b[other_text..other_text + other_length]);
        }
        at = end;
    }
}

/// How many bytes are the same in both from the start.
fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    let ((a_words, _), (b_words, _)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let differing = a_words.iter().zip(b_words).position(|(a, b)| a != b);
    let at = 8 * differing.unwrap_or(a_words.len().min(b_words.len()));
    let (a, b) = (&a[at..], &b[at..]);
    at + a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()))
}
