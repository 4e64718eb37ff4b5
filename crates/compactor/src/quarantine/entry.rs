//! One thing that is wrong.

use std::fmt;

use bucket::layout::{DELETION_MARK, NO_COMPACT_MARK, NO_DOWNSAMPLE_MARK};
use bucket::{Block, Snapshot};
use jiff::Timestamp;
use model::BlockId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh64::Xxh64;

use crate::plan::JobKey;
use crate::quarantine::is_marked;

/// What something is wrong with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Subject {
    /// A block.
    Block {
        /// Its name.
        #[serde(serialize_with = "write_id", deserialize_with = "read_id")]
        block: BlockId,
    },
    /// A job, by what it does and its sources.
    Job {
        /// Its key.
        job: JobKey,
    },
}

/// What kind of wrong it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Cause {
    /// Its `meta.json` cannot be read.
    CorruptMeta,
    /// It lacks files that its meta names.
    Incomplete,
    /// Of a resolution, of times or with labels that cannot be planned with.
    Foreign,
    /// A mark beside it makes no sense and is not heeded.
    UnreadableMark,
    /// An upload that did not come to its end, and that will be deleted when it is old.
    Partial,
    /// A deletion that did not come to its end, and that will be finished.
    HalfDeleted,
    /// A compaction found damage in it.
    DamagedForCompaction,
    /// A downsampling found damage in it.
    DamagedForDownsampling,
    /// The samples that came out of a job are not those that went in.
    Unbalanced,
    /// A job failed in a way that another try does not mend.
    Failed,
}

impl Cause {
    /// Whether every sync sees it again.
    pub(crate) fn is_seen_by_sync(self) -> bool {
        match self {
            Cause::CorruptMeta
            | Cause::Incomplete
            | Cause::Foreign
            | Cause::UnreadableMark
            | Cause::Partial
            | Cause::HalfDeleted => true,
            Cause::DamagedForCompaction
            | Cause::DamagedForDownsampling
            | Cause::Unbalanced
            | Cause::Failed => false,
        }
    }

    /// Whether jobs keep away; a mark that is not heeded changes nothing.
    pub(crate) fn forbids_jobs(self) -> bool {
        self != Cause::UnreadableMark
    }

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Cause::CorruptMeta => "corrupt-meta",
            Cause::Incomplete => "incomplete",
            Cause::Foreign => "foreign",
            Cause::UnreadableMark => "unreadable-mark",
            Cause::Partial => "partial",
            Cause::HalfDeleted => "half-deleted",
            Cause::DamagedForCompaction => "damaged-for-compaction",
            Cause::DamagedForDownsampling => "damaged-for-downsampling",
            Cause::Unbalanced => "unbalanced",
            Cause::Failed => "failed",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(crate) subject: Subject,
    pub(crate) cause: Cause,
    /// What is wrong.
    pub(crate) what: String,
    /// The object, the place in a file, or the group.
    pub(crate) place: String,
    /// When it was first seen, in ms since the Unix epoch.
    pub(crate) since_ms: i64,
    /// What mends it.
    pub(crate) command: String,
    /// The files of the block as they were, to tell when they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) files: Option<String>,
}

impl Entry {
    /// Since when, as people read it.
    pub(crate) fn since(&self) -> String {
        text_of_time(self.since_ms)
    }

    /// Whether what a job found out still holds.
    pub(super) fn holds(&self, snapshot: &Snapshot) -> bool {
        let is_there = |it: BlockId| {
            let block = snapshot.blocks.get(&it);
            block.filter(|it| it.deletion.mark().is_none())
        };
        match &self.subject {
            Subject::Block { block } => is_there(*block).is_some_and(|it| {
                let is_same = self.files.as_ref().is_none_or(|files| *files == fingerprint(it));
                is_same && !is_marked(it, self.cause)
            }),
            Subject::Job { job } => {
                let sources = job.as_str().split(' ').skip(1);
                let is_planned = |it| is_there(it).is_some_and(|it| !is_kept_from(it, job));
                sources.map(str::parse).all(|id| id.is_ok_and(is_planned))
            }
        }
    }
}

/// Whether a mark of a block keeps it from such jobs.
fn is_kept_from(block: &Block, job: &JobKey) -> bool {
    match job.is_downsampling() {
        true => block.no_downsample.mark().is_some(),
        false => block.no_compact.mark().is_some(),
    }
}

/// A moment as RFC 3339 in seconds, such as in `2026-01-31T09:30:00Z`.
pub(crate) fn text_of_time(time_ms: i64) -> String {
    let time = Timestamp::from_millisecond(time_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    Timestamp::from_second(time.as_second()).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// What tells whether the files of a block have changed; marks are no part of it. The time of a
/// file counts only where the store has no entity tags.
pub(super) fn fingerprint(block: &Block) -> String {
    let mut hash = Xxh64::new(0);
    for file in &block.files {
        if [DELETION_MARK, NO_COMPACT_MARK, NO_DOWNSAMPLE_MARK].contains(&&*file.path) {
            continue;
        }
        hash.update(file.path.as_bytes());
        hash.update(&[0]);
        hash.update(&file.size_bytes.to_le_bytes());
        match &file.etag {
            Some(etag) => hash.update(etag.as_bytes()),
            None => hash.update(&file.modified_ms.to_le_bytes()),
        }
        hash.update(&[0]);
    }
    format!("{:016x}", hash.digest())
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Block { block } => write!(f, "block {block}"),
            Subject::Job { job } => write!(f, "job {job}"),
        }
    }
}

fn write_id<S: Serializer>(id: &BlockId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn read_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BlockId, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}
