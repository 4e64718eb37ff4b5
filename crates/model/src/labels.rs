//! Label sets: sorted, validated, one allocation, cheap to clone.
//!
//! The pairs lie in one shared text: length of the name, name, length of the value, value, and so
//! on. A length is written in base 64 with one character for every six bits, least significant
//! first, where all but the last have bit 6 set. All of these are ASCII, so that the whole stays
//! one valid `str` and no slice of it needs to be checked again.

mod order;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use xxhash_rust::xxh64::Xxh64;

use crate::quote::GoQuoted;
use crate::time::METRIC_NAME;

/// A label set, sorted by name, without duplicates, empty names or empty values.
///
/// The order is Prometheus': pair by pair, name before value; a set that is a prefix of another
/// one sorts first.
#[derive(Clone, PartialEq, Eq)]
pub struct Labels(Arc<str>);

/// Why pairs are not a label set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// A label without a name.
    #[error("empty label name (value {value:?})")]
    EmptyName {
        /// The value that stood beside it.
        value: String,
    },
    /// The same name twice.
    #[error("label name {name:?} is not unique")]
    Duplicate {
        /// The repeated name.
        name: String,
    },
}

impl Labels {
    /// The set without any label.
    pub fn empty() -> Labels {
        Labels(Arc::from(""))
    }

    /// Builds a set from pairs in any order; pairs with an empty value are left out, because for
    /// Prometheus an empty label is an absent one.
    ///
    /// # Errors
    /// [`LabelsError`] for an empty or repeated name.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Labels, LabelsError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        for (name, value) in &pairs {
            if name.as_ref().is_empty() {
                return Err(LabelsError::EmptyName { value: value.as_ref().to_owned() });
            }
        }
        for two in pairs.windows(2) {
            if two[0].0.as_ref() == two[1].0.as_ref() {
                return Err(LabelsError::Duplicate { name: two[0].0.as_ref().to_owned() });
            }
        }
        Ok(Labels::from_sorted(pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))))
    }

    /// Builds a set from pairs that the caller knows to be sorted by name and unique.
    ///
    /// The hot path of everybody who decodes labels that were sorted when they were written.
    /// Pairs with an empty value are left out.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut text = String::with_capacity(256);
        let mut last: Option<&str> = None;
        for (name, value) in pairs {
            debug_assert!(last.is_none_or(|last| last < name), "labels must come sorted");
            last = Some(name);
            if !value.is_empty() {
                push_text(&mut text, name);
                push_text(&mut text, value);
            }
        }
        Labels(Arc::from(text))
    }

    /// The pairs, sorted by name.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.0 }
    }

    /// The value of a label, if the set has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        for (it, value) in self.iter() {
            match it.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(value),
                // Names are sorted: it does not come any more.
                Ordering::Greater => return None,
            }
        }
        None
    }

    /// The value of `__name__`, or the empty text.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or_default()
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether the set has no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The encoded pairs: equal exactly for equal sets. For hashing and for keys in memory; the
    /// form is private to the process and never written down.
    pub fn as_key(&self) -> &str {
        &self.0
    }

    /// Bytes of the encoded form, what an account is charged for the set.
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }

    /// XXH64 over names and values, each after its length: one byte below 255, else 255 and three
    /// bytes, least significant first. What PromQL's `limit_ratio` picks series by.
    pub fn length_prefixed_hash64(&self) -> u64 {
        let mut hasher = Xxh64::new(0);
        for text in self.iter().flat_map(|(name, value)| [name, value]) {
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
            match text.len() {
                0..255 => hasher.update(&length[..1]),
                _ => hasher.update(&[255, length[0], length[1], length[2]]),
            }
            hasher.update(text.as_bytes());
        }
        hasher.digest()
    }

    /// The hash by which the StoreAPI divides series into shards, see [`shard_hash`].
    pub fn hash64(&self) -> u64 {
        shard_hash(self.iter())
    }

    /// The set without the labels for which `drop` answers true.
    pub fn without(&self, mut drop: impl FnMut(&str) -> bool) -> Labels {
        Labels::from_sorted(self.iter().filter(|(name, _)| !drop(name)))
    }

    /// A builder that starts from this set.
    pub fn to_builder(&self) -> LabelsBuilder {
        let pairs = self.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        LabelsBuilder { pairs: pairs.collect() }
    }
}

/// XXH64 over `name 0xFF value 0xFF …`, which the StoreAPI takes modulo the number of shards.
///
/// A request hashes only the labels that its `by` or `without` chooses.
pub fn shard_hash<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> u64 {
    let mut hash = Xxh64::new(0);
    for (name, value) in pairs {
        hash.update(name.as_bytes());
        hash.update(&[0xff]);
        hash.update(value.as_bytes());
        hash.update(&[0xff]);
    }
    hash.digest()
}

impl Ord for Labels {
    fn cmp(&self, other: &Labels) -> Ordering {
        // Merges compare clones of one set more often than anything else.
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        order::compare(&self.0, &other.0)
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_bytes().hash(state);
    }
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::empty()
    }
}

/// As Prometheus prints a label set: `{a="1", b="2"}`, metric name among the others, names in
/// quotes where PromQL needs them.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, value)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            f.write_str(comma)?;
            write_name(f, name)?;
            write!(f, "={}", GoQuoted(value))?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The pairs of a [`Labels`], sorted by name.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        if self.rest.is_empty() {
            return None;
        }
        let name = take_text(&mut self.rest);
        let value = take_text(&mut self.rest);
        Some((name, value))
    }
}

/// Changes a label set piece by piece.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    /// Sorted by name.
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Sets a label, replacing the value it had; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut LabelsBuilder {
        match self.pairs.binary_search_by(|(it, _)| it.as_str().cmp(name)) {
            Ok(at) if value.is_empty() => drop(self.pairs.remove(at)),
            Ok(at) => value.clone_into(&mut self.pairs[at].1),
            Err(_) if value.is_empty() => {}
            Err(at) => self.pairs.insert(at, (name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) -> &mut LabelsBuilder {
        self.set(name, "")
    }

    /// Keeps the labels for which `keep` answers true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) -> &mut LabelsBuilder {
        self.pairs.retain(|(name, _)| keep(name));
        self
    }

    /// The value that a label has now.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.binary_search_by(|(it, _)| it.as_str().cmp(name)).ok()?;
        Some(&self.pairs[found].1)
    }

    /// The finished set.
    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

/// Writes a label name, in quotes when PromQL could not read it without them.
pub(crate) fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let letter = |it: u8| it.is_ascii_alphabetic() || it == b'_';
    let mut bytes = name.bytes();
    let plain =
        bytes.next().is_some_and(letter) && bytes.all(|it| letter(it) || it.is_ascii_digit());
    if plain { f.write_str(name) } else { fmt::Display::fmt(&GoQuoted(name), f) }
}

fn push_text(out: &mut String, text: &str) {
    let mut length = text.len();
    while length >= 64 {
        // 64..=127 and 0..=63 are ASCII: the text stays valid UTF-8.
        out.push(ascii(64 | (length & 63)));
        length >>= 6;
    }
    out.push(ascii(length));
    out.push_str(text);
}

fn ascii(code: usize) -> char {
    debug_assert!(code < 128, "only ASCII codes are written");
    char::from(u8::try_from(code).unwrap_or_default())
}

fn take_text<'a>(rest: &mut &'a str) -> &'a str {
    let (length, at) = read_length(rest.as_bytes(), 0);
    let (text, after) = rest[at..].split_at(length);
    *rest = after;
    text
}

/// The length that is written at `at`, and where its text begins.
fn read_length(bytes: &[u8], mut at: usize) -> (usize, usize) {
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let byte = usize::from(bytes[at]);
        at += 1;
        length |= (byte & 63) << shift;
        if byte < 64 {
            return (length, at);
        }
        shift += 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_sorted_and_without_empty_values() {
        let long = "x".repeat(70_000);
        let set =
            Labels::from_pairs([("job", "api"), ("__name__", "up"), ("Zone", &*long), ("e", "")]);
        let set = set.unwrap();
        let pairs: Vec<_> = set.iter().collect();
        assert_eq!(pairs, [("Zone", &*long), ("__name__", "up"), ("job", "api")]);
        assert_eq!(set.metric_name(), "up");
        assert_eq!(set.len(), 3);
    }

    #[test]
    fn duplicates_and_empty_names_are_refused() {
        assert!(Labels::from_pairs([("a", "1"), ("a", "2")]).is_err());
        assert!(Labels::from_pairs([("", "1")]).is_err());
    }

    #[test]
    fn a_prefix_sorts_first() {
        let short = Labels::from_pairs([("a", "1")]).unwrap();
        let long = Labels::from_pairs([("a", "1"), ("k", "1")]).unwrap();
        let other = Labels::from_pairs([("a", "1"), ("m", "x")]).unwrap();
        assert!(short < long && long < other);
    }

    #[test]
    fn a_builder_keeps_the_order() {
        let mut builder = Labels::from_pairs([("b", "1"), ("d", "1")]).unwrap().to_builder();
        builder.set("c", "2").set("a", "0").set("d", "").remove("b");
        assert_eq!(builder.build().to_string(), r#"{a="0", c="2"}"#);
    }
}
