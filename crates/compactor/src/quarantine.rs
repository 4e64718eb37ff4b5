//! What is wrong in the bucket: named once with the command that mends it, and kept away from.
//!
//! Some of it every sync sees again (metas that cannot be read, missing files). What a job found
//! out is remembered, also over restarts, until the block changes, goes, or is marked by hand. It
//! is kept in an object of its own that others ignore; without it everything is found out again.

mod entry;
mod findings;

use std::collections::{BTreeMap, HashSet};

use anyhow::Context as _;
use bucket::{Block, Snapshot};
use bytes::Bytes;
use model::BlockId;
use objstore::ObjectStore;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::plan::{Job, Kind};
use crate::quarantine::entry::fingerprint;
pub(crate) use crate::quarantine::entry::{Cause, Entry, Subject, text_of_time};
use crate::quarantine::findings::findings;
use crate::selection::Reserved;

/// Where it is kept.
pub(crate) const KEY: &str = "aion/compactor/quarantine.json";

/// Some hundred bytes an entry.
const SIZE_MAX_BYTES: u64 = 64 * 1024 * 1024;
const VERSION: u32 = 1;

#[derive(Debug, Deserialize, Serialize)]
struct Stored {
    version: u32,
    entries: Vec<Entry>,
}

/// What is wrong in the bucket.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    entries: BTreeMap<(Subject, Cause), Entry>,
    is_changed: bool,
    is_loaded: bool,
}

impl Quarantine {
    /// Reads what was known before, once.
    ///
    /// # Errors
    /// When the bucket fails in a way that may pass. An object that makes no sense is said, and
    /// replaced later; one that cannot be read is said, and what is found out goes into its place.
    pub(crate) async fn load(&mut self, store: &dyn ObjectStore) -> anyhow::Result<()> {
        if self.is_loaded {
            return Ok(());
        }
        let stored = match store.get(KEY, SIZE_MAX_BYTES).await {
            Ok(bytes) => decode(&bytes),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error @ objstore::Error::Invalid { .. }) => Err(error.to_string()),
            Err(error) if error.is_transient() => {
                return Err(error).context("read what is quarantined");
            }
            Err(error) => {
                warn!(
                    object = KEY,
                    %error, "cannot be read; what is wrong in the bucket is found out again"
                );
                Ok(Vec::new())
            }
        };
        self.is_loaded = true;
        match stored {
            Ok(entries) => {
                if !entries.is_empty() {
                    info!(entries = entries.len(), "what was quarantined before stays so");
                }
                let entries = entries.into_iter().map(|it| ((it.subject.clone(), it.cause), it));
                self.entries = entries.collect();
            }
            Err(reason) => {
                warn!(
                    object = KEY,
                    reason, "cannot be read; what is wrong in the bucket is found out again"
                );
                self.is_changed = true;
            }
        }
        Ok(())
    }

    /// Writes what has changed.
    ///
    /// # Errors
    /// When the bucket fails; another call tries again.
    pub(crate) async fn save(&mut self, store: &dyn ObjectStore) -> anyhow::Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        let entries = self.entries.values().cloned().collect();
        let body = serde_json::to_vec_pretty(&Stored { version: VERSION, entries })?;
        store.put(KEY, Bytes::from(body)).await.context("write what is quarantined")?;
        self.is_changed = false;
        Ok(())
    }

    /// Names what is new in the bucket and forgets what is no longer wrong.
    pub(crate) fn update(&mut self, snapshot: &Snapshot, now_ms: i64) {
        let found = findings(snapshot, now_ms);
        let found: BTreeMap<_, _> =
            found.into_iter().map(|it| ((it.subject.clone(), it.cause), it)).collect();
        let before = self.entries.len();
        self.entries.retain(|key, entry| match entry.cause.is_seen_by_sync() {
            true => found.contains_key(key),
            false => entry.holds(snapshot),
        });
        self.is_changed |= self.entries.len() != before;
        for entry in found.into_values() {
            self.add(entry);
        }
    }

    /// Keeps away from a block in which a job found damage.
    pub(crate) fn add_damaged(
        &mut self,
        snapshot: &Snapshot,
        (block, place, what): (BlockId, &str, &str),
        job: &Job,
        now_ms: i64,
    ) {
        self.add(Entry {
            subject: Subject::Block { block },
            cause: match job.kind {
                Kind::Compact { .. } => Cause::DamagedForCompaction,
                Kind::Downsample { .. } => Cause::DamagedForDownsampling,
            },
            what: what.to_owned(),
            place: place.to_owned(),
            since_ms: now_ms,
            command: mark_command(block, marker_of(job), what),
            files: snapshot.blocks.get(&block).map(fingerprint),
        });
    }

    /// Does not do a job again that went wrong in a way that no single block is to blame for.
    pub(crate) fn add_job(&mut self, job: &Job, cause: Cause, what: &str, now_ms: i64) {
        let commands = job.ids().map(|it| mark_command(it, marker_of(job), what));
        self.add(Entry {
            subject: Subject::Job { job: job.key() },
            cause,
            what: what.to_owned(),
            place: job.group.to_string(),
            since_ms: now_ms,
            command: commands.collect::<Vec<_>>().join("; "),
            files: None,
        });
    }

    /// What no job may touch.
    pub(crate) fn reserved(&self, busy: HashSet<BlockId>) -> Reserved {
        let mut reserved = Reserved { busy, ..Reserved::default() };
        for entry in self.entries.values().filter(|it| it.cause.forbids_jobs()) {
            match &entry.subject {
                Subject::Block { block } => drop(reserved.quarantined.insert(*block)),
                Subject::Job { job } => drop(reserved.quarantined_jobs.insert(job.clone())),
            }
        }
        reserved
    }

    /// Everything that is wrong.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Adds what was not known, and says so.
    fn add(&mut self, entry: Entry) {
        let key = (entry.subject.clone(), entry.cause);
        if self.entries.contains_key(&key) {
            return;
        }
        warn!(
            subject = %entry.subject,
            what = entry.what,
            place = entry.place,
            since = %entry.since(),
            command = entry.command,
            "quarantined, the others go on"
        );
        self.entries.insert(key, entry);
        self.is_changed = true;
    }
}

fn decode(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|it| it.to_string())?;
    match stored.version {
        VERSION => Ok(stored.entries),
        other => Err(format!("version {other}, {VERSION} expected")),
    }
}

fn marker_of(job: &Job) -> &'static str {
    match job.kind {
        Kind::Compact { .. } => bucket::layout::NO_COMPACT_MARK,
        Kind::Downsample { .. } => bucket::layout::NO_DOWNSAMPLE_MARK,
    }
}

/// The command that marks a block, ready for a shell.
fn mark_command(block: BlockId, marker: &str, details: &str) -> String {
    // Anything else could end the quotes.
    let is_plain = |it: &char| it.is_ascii_alphanumeric() || " .,:;_/=+-()".contains(*it);
    let details: String = details.chars().filter(is_plain).take(200).collect();
    format!(
        "aion tools bucket mark --objstore.config-file=bucket.yaml --id={block} \
         --marker={marker} --details='{details}'"
    )
}

/// Whether a mark of a block says that somebody has looked at it.
fn is_marked(block: &Block, cause: Cause) -> bool {
    match cause {
        Cause::DamagedForCompaction => block.no_compact.mark().is_some(),
        Cause::DamagedForDownsampling => block.no_downsample.mark().is_some(),
        _ => false,
    }
}
