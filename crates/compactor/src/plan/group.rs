//! Which blocks belong together: of one resolution, with the same external labels.

use std::collections::BTreeMap;
use std::fmt;

use tsdb_core::block::Meta;

use crate::plan::{Candidate, Rules};
use crate::resolution::Resolution;

/// What a series is called when nothing but replica labels was there to tell it by.
const DEDUPED: &str = "deduped";

/// The external labels of a block without those that tell replicas apart, so that the blocks of
/// all replicas have the same.
pub(crate) fn labels_of(meta: &Meta, replica_labels: &[String]) -> BTreeMap<String, String> {
    let mut labels = meta.thanos.labels.clone();
    labels.retain(|name, _| !replica_labels.contains(name));
    if labels.is_empty()
        && let Some(first) = replica_labels.first()
    {
        labels.insert(first.clone(), DEDUPED.to_owned());
    }
    labels
}

/// What the blocks of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupKey {
    pub(crate) resolution: Resolution,
    /// External labels without those of replicas.
    pub(crate) labels: BTreeMap<String, String>,
}

impl GroupKey {
    pub(crate) fn of(block: &Candidate, rules: &Rules) -> GroupKey {
        let labels = labels_of(&block.meta, &rules.replica_labels);
        GroupKey { resolution: block.resolution, labels }
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{{", self.resolution.ms())?;
        for (at, (name, value)) in self.labels.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}
