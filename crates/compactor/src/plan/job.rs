//! One thing to do with some blocks.

use std::fmt;
use std::sync::Arc;

use model::BlockId;
use serde::{Deserialize, Serialize};
use tsdb_core::block::Meta;

use crate::plan::GroupKey;
use crate::resolution::Resolution;

const COMPACT: &str = "compact";
const DOWNSAMPLE: &str = "downsample";

/// What is done with the sources of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Merged into one block.
    Compact {
        /// Their ranges overlap.
        is_vertical: bool,
        /// The range of the window that they fill, or that of the blocks themselves, in ms.
        range_ms: i64,
    },
    /// Made coarser; there is one source.
    Downsample {
        /// One or both of 5m and 1h, the finer one first.
        targets: Vec<Resolution>,
    },
}

/// One thing to do with some blocks, and why.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) kind: Kind,
    pub(crate) group: GroupKey,
    /// By time.
    pub(crate) sources: Vec<Arc<Meta>>,
    /// All files of all sources.
    pub(crate) bytes: u64,
    pub(crate) reason: String,
    /// A block past its retention waits for the result.
    pub(crate) is_owed: bool,
}

/// What tells a job from every other one: what it does, with which blocks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct JobKey(String);

impl Job {
    /// The same for the same job of another plan.
    pub(crate) fn key(&self) -> JobKey {
        JobKey::of(self.name(), self.ids().collect())
    }

    /// `compact` or `downsample`.
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Compact { .. } => COMPACT,
            Kind::Downsample { .. } => DOWNSAMPLE,
        }
    }

    /// Its sources.
    pub(crate) fn ids(&self) -> impl Iterator<Item = BlockId> + '_ {
        self.sources.iter().map(|it| it.ulid)
    }

    /// Owed jobs come first, then compactions by range, then the rest; older times first.
    pub(crate) fn order(&self) -> (bool, bool, i64, i64, Option<BlockId>) {
        let min_time_ms = self.sources.first().map_or(0, |it| it.min_time_ms);
        let (is_downsampling, range_ms) = match self.kind {
            Kind::Compact { range_ms, .. } => (false, range_ms),
            Kind::Downsample { .. } => (true, 0),
        };
        let id = self.sources.first().map(|it| it.ulid);
        (!self.is_owed, is_downsampling, range_ms, min_time_ms, id)
    }
}

impl JobKey {
    /// That of the downsampling of a block.
    pub(crate) fn of_downsampling(block: BlockId) -> JobKey {
        JobKey::of(DOWNSAMPLE, vec![block])
    }

    fn of(name: &str, mut ids: Vec<BlockId>) -> JobKey {
        let mut key = name.to_owned();
        ids.sort_unstable();
        for id in ids {
            key.push(' ');
            key.push_str(&id.to_string());
        }
        JobKey(key)
    }

    /// Whether it is that of a downsampling.
    pub(crate) fn is_downsampling(&self) -> bool {
        self.0.split(' ').next() == Some(DOWNSAMPLE)
    }

    /// The key as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
