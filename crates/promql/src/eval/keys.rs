//! Keys of groups and joins: the part of a label set that two series must have in common.

use hashbrown::HashMap;
use model::Labels;
use model::time::METRIC_NAME;

/// Which labels of a series count.
#[derive(Clone, Debug)]
pub(crate) enum Subset {
    /// These alone.
    Only(Vec<String>),
    /// All but these.
    AllBut(Vec<String>),
}

impl Subset {
    /// From a list as written after `by`/`on` or `without`/`ignoring`.
    pub(crate) fn new(names: &[String], only: bool) -> Subset {
        let mut names = names.to_vec();
        if !only {
            names.push(METRIC_NAME.to_owned());
        }
        names.sort_unstable();
        names.dedup();
        if only { Subset::Only(names) } else { Subset::AllBut(names) }
    }

    /// Whether a label counts.
    pub(crate) fn contains(&self, name: &str) -> bool {
        match self {
            Subset::Only(names) => names.iter().any(|it| it == name),
            Subset::AllBut(names) => names.iter().all(|it| it != name),
        }
    }

    /// The labels that count.
    pub(crate) fn labels(&self, labels: &Labels) -> Labels {
        labels.without(|name| !self.contains(name))
    }

    /// Writes a text that is equal exactly for series that agree in the labels that count.
    pub(crate) fn write_key(&self, labels: &Labels, key: &mut Vec<u8>) {
        key.clear();
        match self {
            Subset::Only(names) => {
                for name in names {
                    push(key, labels.get(name).unwrap_or_default());
                }
            }
            Subset::AllBut(_) => {
                for (name, value) in labels.iter().filter(|(name, _)| self.contains(name)) {
                    push(key, name);
                    push(key, value);
                }
            }
        }
    }

    /// Whether series that differ in labels other than the metric name always differ in their key.
    pub(crate) fn is_everything(&self) -> bool {
        matches!(self, Subset::AllBut(names) if names.iter().all(|name| name == METRIC_NAME))
    }
}

/// A text with its length before it, so that no two lists of texts look the same.
fn push(key: &mut Vec<u8>, text: &str) {
    key.extend_from_slice(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
    key.extend_from_slice(text.as_bytes());
}

/// Numbers keys in the order in which they are met.
#[derive(Debug)]
pub(crate) struct KeyTable {
    subset: Subset,
    ids: HashMap<Box<[u8]>, usize>,
    key: Vec<u8>,
}

/// Bytes of a table entry beside the key itself.
const ENTRY_BYTES: usize = 40;

impl KeyTable {
    pub(crate) fn new(subset: Subset) -> KeyTable {
        KeyTable { subset, ids: HashMap::new(), key: Vec::new() }
    }

    pub(crate) fn subset(&self) -> &Subset {
        &self.subset
    }

    /// The number of the series' key, if the key was met.
    pub(crate) fn find(&mut self, labels: &Labels) -> Option<usize> {
        self.subset.write_key(labels, &mut self.key);
        self.ids.get(&*self.key).copied()
    }

    /// The number of the series' key and whether it is new.
    pub(crate) fn find_or_add(&mut self, labels: &Labels) -> (usize, bool) {
        if let Some(id) = self.find(labels) {
            return (id, false);
        }
        let id = self.ids.len();
        self.ids.insert(self.key.clone().into_boxed_slice(), id);
        (id, true)
    }

    /// Bytes that the newest key is charged with.
    pub(crate) fn last_key_bytes(&self) -> usize {
        self.key.len() + ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_see_only_what_counts() {
        let a = Labels::from_pairs([("__name__", "m"), ("x", "1"), ("y", "2")]).unwrap();
        let b = Labels::from_pairs([("__name__", "n"), ("x", "1"), ("y", "2")]).unwrap();
        let mut all = KeyTable::new(Subset::new(&[], false));
        assert_eq!(all.find_or_add(&a), (0, true));
        assert_eq!(all.find_or_add(&b), (0, false));
        let by = Subset::new(&["y".to_owned(), "y".to_owned(), "z".to_owned()], true);
        assert_eq!(by.labels(&a).to_string(), r#"{y="2"}"#);
        assert!(Subset::new(&[], false).is_everything());
        assert!(!by.is_everything());
    }
}
