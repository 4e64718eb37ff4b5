//! Which blocks of a snapshot are served: pure functions over values.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use model::BlockId;
use tsdb_core::block::Meta;

use crate::marker::DeletionMark;
use crate::view::{Snapshot, State};

/// Sources whose blocks are never too fresh: what they replace is older.
const SOURCES_NEVER_FRESH: [&str; 3] = ["bucket.repair", "compactor", "compactor.repair"];

/// What is filtered out; times in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filters {
    /// Blocks that end before are left out.
    pub min_time_ms: i64,
    /// Blocks that begin after are left out.
    pub max_time_ms: i64,
    /// Blocks younger than this are left out, but for those of the compactor.
    pub consistency_delay_ms: i64,
    /// Blocks that were marked for deletion longer ago than this are left out.
    pub ignore_deletion_marks_delay_ms: i64,
}

impl Filters {
    /// Filters that leave nothing out by time or age, and marked blocks after `delay_ms`.
    pub fn after_deletion_marks(delay_ms: i64) -> Filters {
        Filters {
            min_time_ms: i64::MIN,
            max_time_ms: i64::MAX,
            consistency_delay_ms: 0,
            ignore_deletion_marks_delay_ms: delay_ms,
        }
    }
}

/// What the filters left.
#[derive(Clone, Debug, Default)]
pub struct Filtered {
    /// The metas of the blocks that are served.
    pub kept: BTreeMap<BlockId, Arc<Meta>>,
    /// Blocks by state, under the names of Thanos' metric `thanos_blocks_meta_synced`; every
    /// block of the snapshot is counted once.
    pub states: BTreeMap<&'static str, usize>,
}

/// Applies filters in Thanos' order: time, consistency delay, deletion marks, duplicates.
pub fn apply(snapshot: &Snapshot, filters: &Filters, now_ms: i64) -> Filtered {
    let mut filtered = Filtered::default();
    for (id, block) in &snapshot.blocks {
        let state = match &block.state {
            State::Loaded(meta) => {
                let state = judge(meta, block.deletion.mark(), filters, now_ms);
                if state == "loaded" {
                    filtered.kept.insert(*id, Arc::clone(meta));
                    continue;
                }
                state
            }
            other => other.name(),
        };
        *filtered.states.entry(state).or_default() += 1;
    }
    let duplicates = duplicates(filtered.kept.values().map(|it| &**it));
    filtered.kept.retain(|id, _| !duplicates.contains(id));
    *filtered.states.entry("duplicate").or_default() += duplicates.len();
    *filtered.states.entry("loaded").or_default() += filtered.kept.len();
    filtered
}

fn judge(meta: &Meta, mark: Option<&DeletionMark>, filters: &Filters, now_ms: i64) -> &'static str {
    if !in_time(meta, filters.min_time_ms, filters.max_time_ms) {
        "time-excluded"
    } else if is_too_fresh(meta, now_ms, filters.consistency_delay_ms) {
        "too-fresh"
    } else if mark
        .is_some_and(|it| is_mark_older(it, now_ms, filters.ignore_deletion_marks_delay_ms))
    {
        "marked-for-deletion"
    } else {
        "loaded"
    }
}

/// Whether a block touches a span of time, both ends inclusive.
pub fn in_time(meta: &Meta, min_time_ms: i64, max_time_ms: i64) -> bool {
    meta.max_time_ms >= min_time_ms && meta.min_time_ms <= max_time_ms
}

/// Whether a block is younger than `delay_ms`, by its upload time or else the time in its ULID.
pub fn is_too_fresh(meta: &Meta, now_ms: i64, delay_ms: i64) -> bool {
    if SOURCES_NEVER_FRESH.contains(&&*meta.thanos.source) {
        return false;
    }
    now_ms.saturating_sub(uploaded_ms(meta)) < delay_ms
}

/// When a block came into the bucket, in ms: its upload time, or else the time in its ULID.
pub fn uploaded_ms(meta: &Meta) -> i64 {
    let stamped = model::text_time::parse_rfc3339_ms(&meta.thanos.upload_time);
    // Go's zero time lies before the epoch.
    let stamped = stamped.filter(|it| *it > 0);
    stamped.unwrap_or_else(|| i64::try_from(meta.ulid.timestamp_ms()).unwrap_or(i64::MAX))
}

/// Whether a mark was written more than `delay_ms` ago.
pub fn is_mark_older(mark: &DeletionMark, now_ms: i64, delay_ms: i64) -> bool {
    now_ms.saturating_sub(mark.deletion_time_s.saturating_mul(1000)) > delay_ms
}

/// The blocks whose samples another block of the same resolution and labels has too: all their
/// sources are among its sources. Of equals the one with the lowest ULID stays.
pub fn duplicates<'a>(metas: impl IntoIterator<Item = &'a Meta>) -> HashSet<BlockId> {
    type Group<'a> = (i64, &'a BTreeMap<String, String>);
    let mut groups: HashMap<Group<'a>, Vec<&'a Meta>> = HashMap::new();
    for meta in metas {
        let group = (meta.thanos.downsample.resolution_ms, &meta.thanos.labels);
        groups.entry(group).or_default().push(meta);
    }
    let mut found = HashSet::new();
    for group in groups.values_mut() {
        find_duplicates(group, &mut found);
    }
    found
}

fn find_duplicates(group: &mut [&Meta], found: &mut HashSet<BlockId>) {
    group.sort_by(|a, b| {
        let most_sources = b.compaction.sources.len().cmp(&a.compaction.sources.len());
        most_sources.then(a.ulid.cmp(&b.ulid))
    });
    // Whoever holds all sources of a block holds its first one: only those are compared.
    let mut holders: HashMap<BlockId, Vec<usize>> = HashMap::new();
    let mut kept: Vec<HashSet<BlockId>> = Vec::new();
    for meta in group.iter() {
        let sources: HashSet<BlockId> = match &meta.compaction.sources[..] {
            // A block that names none is its own.
            [] => HashSet::from([meta.ulid]),
            sources => sources.iter().copied().collect(),
        };
        let first = sources.iter().next().and_then(|it| holders.get(it));
        let is_held = first.is_some_and(|it| it.iter().any(|at| sources.is_subset(&kept[*at])));
        if is_held {
            found.insert(meta.ulid);
            continue;
        }
        for source in &sources {
            holders.entry(*source).or_default().push(kept.len());
        }
        kept.push(sources);
    }
}
