//! Posting lists: series references, ascending, each once; decoding and set operations.

use crate::codec::Cursor;
use crate::error::Damage;
use crate::index::section;

/// When one list is this many times longer than the other, it is searched and not walked.
const GALLOP_RATIO: usize = 16;

/// Decodes the list whose length field stands at the start of `bytes`, which lie at `origin` of
/// the index; what is behind it is ignored.
///
/// # Errors
/// When it is cut short, its checksum is wrong, or its references do not ascend.
pub fn decode(bytes: &[u8], origin: u64) -> Result<Vec<u32>, Damage> {
    let content = section("posting list", bytes, origin)?;
    let mut cursor = Cursor::new_at("posting list", content, origin + 4);
    let count = cursor.u32()? as usize;
    let references = cursor.rest();
    if references.len() != count.saturating_mul(4) {
        let text = format!("{count} references declared in {} bytes", references.len());
        return Err(cursor.damage(text));
    }
    let (words, _) = references.as_chunks::<4>();
    let list: Vec<u32> = words.iter().map(|it| u32::from_be_bytes(*it)).collect();
    if !list.is_sorted_by(|a, b| a < b) {
        return Err(cursor.damage("references do not ascend"));
    }
    Ok(list)
}

/// The references that are in every one of the lists; the smallest list leads.
///
/// No list at all gives none.
pub fn intersect(mut lists: Vec<Vec<u32>>) -> Vec<u32> {
    lists.sort_by_key(Vec::len);
    let mut lists = lists.into_iter();
    let Some(mut kept) = lists.next() else { return Vec::new() };
    for list in lists {
        if kept.is_empty() {
            break;
        }
        retain_common(&mut kept, &list);
    }
    kept
}

/// Keeps in `kept` what is also in `list`.
pub fn retain_common(kept: &mut Vec<u32>, list: &[u32]) {
    filter_by(kept, list, true);
}

/// Takes out of `kept` what is in `list`.
pub fn subtract(kept: &mut Vec<u32>, list: &[u32]) {
    filter_by(kept, list, false);
}

/// The references that are in at least one of the lists.
pub fn union(mut lists: Vec<Vec<u32>>) -> Vec<u32> {
    // Pairs of neighbours in size are joined, so that a reference is moved log(lists) times.
    lists.retain(|it| !it.is_empty());
    while lists.len() > 1 {
        let mut joined = Vec::with_capacity(lists.len().div_ceil(2));
        let mut rest = lists.into_iter();
        while let Some(first) = rest.next() {
            joined.push(match rest.next() {
                Some(second) => union_two(&first, &second),
                None => first,
            });
        }
        lists = joined;
    }
    lists.pop().unwrap_or_default()
}

fn union_two(left: &[u32], right: &[u32]) -> Vec<u32> {
    let mut out = Vec::with_capacity(left.len() + right.len());
    let (mut a, mut b) = (0, 0);
    while let (Some(&x), Some(&y)) = (left.get(a), right.get(b)) {
        out.push(x.min(y));
        a += usize::from(x <= y);
        b += usize::from(y <= x);
    }
    out.extend_from_slice(&left[a..]);
    out.extend_from_slice(&right[b..]);
    out
}

/// Keeps what is (`common`) or is not in `list`.
fn filter_by(kept: &mut Vec<u32>, list: &[u32], common: bool) {
    if list.is_empty() {
        if common {
            kept.clear();
        }
        return;
    }
    let mut rest = list;
    if list.len() / GALLOP_RATIO > kept.len() {
        kept.retain(|reference| {
            rest = &rest[gallop(rest, *reference)..];
            (rest.first() == Some(reference)) == common
        });
        return;
    }
    let mut at = 0;
    kept.retain(|reference| {
        while list.get(at).is_some_and(|it| it < reference) {
            at += 1;
        }
        (list.get(at) == Some(reference)) == common
    });
}

/// How many of the list's first references are below `reference`, found in steps that double.
fn gallop(list: &[u32], reference: u32) -> usize {
    let mut step = 1;
    while list.get(step - 1).is_some_and(|it| *it < reference) {
        step *= 2;
    }
    let from = step / 2;
    let to = step.min(list.len());
    from.min(to) + list[from.min(to)..to].partition_point(|it| *it < reference)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn set_operations_are_those_of_sets(
            lists in prop::collection::vec(prop::collection::btree_set(0..200_u32, 0..80), 1..5),
            large in prop::collection::btree_set(0..40_000_u32, 0..3000),
        ) {
            let mut sets = lists;
            sets.push(large);
            let lists: Vec<Vec<u32>> = sets.iter().map(|it| it.iter().copied().collect()).collect();
            let joined: BTreeSet<u32> = sets.iter().flatten().copied().collect();
            prop_assert_eq!(union(lists.clone()), joined.iter().copied().collect::<Vec<u32>>());
            let mut common = sets[0].clone();
            common.retain(|it| sets.iter().all(|set| set.contains(it)));
            prop_assert_eq!(intersect(lists.clone()), common.iter().copied().collect::<Vec<u32>>());
            let mut left = lists[0].clone();
            for list in &lists[1..] {
                subtract(&mut left, list);
            }
            let mut only = sets[0].clone();
            only.retain(|it| !sets[1..].iter().any(|set| set.contains(it)));
            prop_assert_eq!(left, only.iter().copied().collect::<Vec<u32>>());
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let list = decode(&bytes, 0).unwrap_or_default();
            assert!(list.len() * 4 <= bytes.len());
        }
    }
}
