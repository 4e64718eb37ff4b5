//! The blocks of a bucket as they are now, read with few calls.
//!
//! One listing of the whole bucket tells for every block which files it has and how large they
//! are; `meta.json` and marks are fetched only when the listing shows that they are new or changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use model::BlockId;
use objstore::ObjectStore;
use tsdb_core::block::meta::SIZE_MAX_BYTES;
use tsdb_core::block::{CHUNKS_DIRECTORY, INDEX_FILE, META_FILE, Meta};

use crate::error::{Error, Result};
use crate::layout::{self, StoredFile};
use crate::marker::{self, DeletionMark, Found, Mark, NoCompactMark, NoDownsampleMark};

/// What a block is worth.
#[derive(Clone, Debug)]
pub enum State {
    /// Whole, with a meta that can be read.
    Loaded(Arc<Meta>),
    /// Without `meta.json`: an upload that goes on, was given up, or a deletion that goes on.
    NoMeta,
    /// With a damaged `meta.json`; says what is wrong.
    Corrupt(String),
    /// With a meta that names files which are not there or have another size; withheld.
    Incomplete {
        /// The meta.
        meta: Arc<Meta>,
        /// The files that are missing.
        missing: Vec<String>,
    },
    /// Its meta could not be fetched this time.
    Failed(String),
}

impl State {
    /// The value of the label `state` of Thanos' metric `thanos_blocks_meta_synced`.
    pub fn name(&self) -> &'static str {
        match self {
            State::Loaded(_) => "loaded",
            State::NoMeta | State::Incomplete { .. } => "no-meta-json",
            State::Corrupt(_) => "corrupted-meta-json",
            State::Failed(_) => "failed",
        }
    }

    /// The meta, if the block is whole.
    pub fn meta(&self) -> Option<&Arc<Meta>> {
        match self {
            State::Loaded(meta) => Some(meta),
            _ => None,
        }
    }
}

/// A block of the bucket.
#[derive(Clone, Debug)]
pub struct Block {
    /// What it is worth.
    pub state: State,
    /// Its files, by path.
    pub files: Vec<StoredFile>,
    /// Whether it is to be deleted.
    pub deletion: Found<DeletionMark>,
    /// Whether compactions must keep away from it; also from one whose mark cannot be read.
    pub no_compact: Found<NoCompactMark>,
    /// Whether it is not downsampled.
    pub no_downsample: Found<NoDownsampleMark>,
}

impl Block {
    /// When anything of it was last written, in ms since the Unix epoch, by the store's clock.
    pub fn modified_ms(&self) -> i64 {
        self.files.iter().map(|it| it.modified_ms).max().unwrap_or(i64::MIN)
    }

    /// The size of one of its files in bytes.
    pub fn file_bytes(&self, path: &str) -> Option<u64> {
        self.files.iter().find(|it| it.path == path).map(|it| it.size_bytes)
    }
}

/// Something that is wrong in the bucket, and stopped nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The block.
    pub id: BlockId,
    /// What is wrong, with the object's name.
    pub text: String,
    /// Whether the next sync may see it right: then the snapshot is not all that is there.
    pub is_transient: bool,
}

/// The bucket at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// All blocks, whatever they are worth.
    pub blocks: BTreeMap<BlockId, Block>,
    /// What is wrong: damaged metas and marks, missing files, failed reads.
    pub troubles: Vec<Trouble>,
}

impl Snapshot {
    /// Whether everything listed was also read, so that what is absent here is absent. Whoever
    /// deletes or compacts must not do so otherwise.
    pub fn is_complete(&self) -> bool {
        !self.troubles.iter().any(|it| it.is_transient)
    }

    /// Another visible block of raw samples that was made of the one asked for: with its id among
    /// the sources, whatever became of its labels, and be it to be deleted.
    pub fn holder_of(&self, id: BlockId) -> Option<BlockId> {
        let holds = |meta: &Arc<Meta>| {
            meta.thanos.downsample.resolution_ms == 0 && meta.compaction.sources.contains(&id)
        };
        let mut others = self
            .blocks
            .iter()
            .filter(|(other, block)| **other != id && block.state.meta().is_some_and(holds));
        others.next().map(|(id, _)| *id)
    }
}

/// Keeps what was read between syncs.
#[derive(Debug)]
pub struct View {
    parallel: usize,
    read: HashMap<(BlockId, &'static str), (Version, Content)>,
}

/// What tells one state of an object from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    size_bytes: u64,
    modified_ms: i64,
    etag: Option<String>,
}

/// A small object, decoded; damaged ones too, so that they are read once.
#[derive(Clone, Debug)]
enum Content {
    Meta(Arc<Meta>),
    Deletion(Found<DeletionMark>),
    NoCompact(Found<NoCompactMark>),
    NoDownsample(Found<NoDownsampleMark>),
    Damaged(String),
}

struct Wanted {
    id: BlockId,
    file: &'static str,
    version: Version,
}

/// The small objects that are read.
const READ_FILES: [&str; 4] =
    [META_FILE, layout::DELETION_MARK, layout::NO_COMPACT_MARK, layout::NO_DOWNSAMPLE_MARK];

impl View {
    /// A view that knows nothing yet and fetches at most `parallel` objects at once.
    pub fn new(parallel: usize) -> View {
        View { parallel: parallel.max(1), read: HashMap::new() }
    }

    /// Lists the bucket, fetches what is new or changed, and answers what is there. A block that
    /// is damaged or cannot be read is named and stops nothing.
    ///
    /// # Errors
    /// When the bucket cannot be listed; the caller keeps its last snapshot.
    pub async fn sync(&mut self, store: &dyn ObjectStore) -> Result<Snapshot> {
        let listed = layout::list_blocks(store).await?;
        let wanted = self.wanted(&listed);
        let mut failed = Vec::new();
        let mut reads = stream::iter(wanted)
            .map(|wanted| async move {
                let content = fetch(store, wanted.id, wanted.file).await;
                (wanted, content)
            })
            .buffer_unordered(self.parallel);
        while let Some((wanted, content)) = reads.next().await {
            let place = (wanted.id, wanted.file);
            match content {
                Ok(Some(content)) => {
                    self.read.insert(place, (wanted.version, content));
                }
                // Deleted since it was listed.
                Ok(None) => drop(self.read.remove(&place)),
                Err(error) => {
                    self.read.remove(&place);
                    failed.push((place, error));
                }
            }
        }
        drop(reads);
        Ok(self.assemble(listed, failed))
    }

    /// Forgets what is gone and names what has to be read.
    fn wanted(&mut self, listed: &BTreeMap<BlockId, Vec<StoredFile>>) -> Vec<Wanted> {
        let mut known = std::mem::take(&mut self.read);
        let mut wanted = Vec::new();
        for (id, files) in listed {
            for file in files {
                let Some(name) = READ_FILES.into_iter().find(|it| *it == file.path) else {
                    continue;
                };
                let version = Version {
                    size_bytes: file.size_bytes,
                    modified_ms: file.modified_ms,
                    etag: file.etag.clone(),
                };
                match known.remove(&(*id, name)) {
                    Some((had, content)) if had == version => {
                        self.read.insert((*id, name), (had, content));
                    }
                    _ => wanted.push(Wanted { id: *id, file: name, version }),
                }
            }
        }
        wanted
    }

    fn assemble(
        &self,
        listed: BTreeMap<BlockId, Vec<StoredFile>>,
        failed: Vec<((BlockId, &'static str), Error)>,
    ) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (id, files) in listed {
            let state = self.state(id, &files);
            let block = Block {
                state,
                files,
                deletion: self.mark(id, |it| match it {
                    Content::Deletion(found) => Some(found.clone()),
                    _ => None,
                }),
                no_compact: self.mark(id, |it| match it {
                    Content::NoCompact(found) => Some(found.clone()),
                    _ => None,
                }),
                no_downsample: self.mark(id, |it| match it {
                    Content::NoDownsample(found) => Some(found.clone()),
                    _ => None,
                }),
            };
            snapshot.troubles.extend(troubles(id, &block));
            snapshot.blocks.insert(id, block);
        }
        for ((id, file), error) in failed {
            let text = format!("{}: {error}", layout::key(id, file));
            if file == META_FILE
                && let Some(block) = snapshot.blocks.get_mut(&id)
            {
                block.state = State::Failed(text.clone());
            }
            snapshot.troubles.push(Trouble { id, text, is_transient: true });
        }
        snapshot
    }

    fn state(&self, id: BlockId, files: &[StoredFile]) -> State {
        match self.read.get(&(id, META_FILE)) {
            None => State::NoMeta,
            Some((_, Content::Meta(meta))) => {
                let missing = missing_files(meta, files);
                let meta = Arc::clone(meta);
                match missing.is_empty() {
                    true => State::Loaded(meta),
                    false => State::Incomplete { meta, missing },
                }
            }
            Some((_, Content::Damaged(reason))) => State::Corrupt(reason.clone()),
            Some(_) => State::NoMeta,
        }
    }

    fn mark<M: Mark>(&self, id: BlockId, pick: impl Fn(&Content) -> Option<Found<M>>) -> Found<M> {
        let content = self.read.get(&(id, M::FILE));
        content.and_then(|(_, it)| pick(it)).unwrap_or(Found::Absent)
    }
}

/// What is wrong with a block that was read.
fn troubles(id: BlockId, block: &Block) -> Vec<Trouble> {
    let mut found = Vec::new();
    let mut add = |text| found.push(Trouble { id, text, is_transient: false });
    match &block.state {
        State::Corrupt(reason) => add(format!("corrupt object {}: {reason}", layout::meta_key(id))),
        State::Incomplete { missing, .. } => {
            add(format!("block {id} is not complete: {}", missing.join(", ")));
        }
        State::Loaded(_) | State::NoMeta | State::Failed(_) => {}
    }
    let mut mark = |file: &str, reason: &str| {
        add(format!("object {} is no mark and not heeded: {reason}", layout::key(id, file)));
    };
    if let Found::Unreadable(reason) = &block.deletion {
        mark(layout::DELETION_MARK, reason);
    }
    if let Found::Unreadable(reason) = &block.no_compact {
        mark(layout::NO_COMPACT_MARK, reason);
    }
    if let Found::Unreadable(reason) = &block.no_downsample {
        mark(layout::NO_DOWNSAMPLE_MARK, reason);
    }
    found
}

/// The files that a meta names and a listing does not have in that size. A meta that names none,
/// as Prometheus and old versions write it, needs an index and a chunk segment.
pub fn missing_files(meta: &Meta, listed: &[StoredFile]) -> Vec<String> {
    let size_of = |path: &str| listed.iter().find(|it| it.path == path).map(|it| it.size_bytes);
    if meta.thanos.files.is_empty() {
        let chunks = format!("{CHUNKS_DIRECTORY}/");
        let has_chunks = listed.iter().any(|it| it.path.starts_with(&chunks));
        let mut missing = Vec::new();
        if size_of(INDEX_FILE).is_none() {
            missing.push(INDEX_FILE.to_owned());
        }
        if !has_chunks && meta.stats.num_chunks > 0 {
            missing.push(chunks);
        }
        return missing;
    }
    let files = meta.thanos.files.iter().filter(|it| it.rel_path != META_FILE);
    let missing = files.filter_map(|file| match size_of(&file.rel_path) {
        Some(size) if size == file.size_bytes => None,
        Some(size) => Some(format!("{} ({size} of {} bytes)", file.rel_path, file.size_bytes)),
        None => Some(file.rel_path.clone()),
    });
    missing.collect()
}

/// Reads one small object; none when it is gone.
async fn fetch(store: &dyn ObjectStore, id: BlockId, file: &str) -> Result<Option<Content>> {
    let found = match file {
        layout::DELETION_MARK => Content::Deletion(fetch_mark(store, id).await?),
        layout::NO_COMPACT_MARK => Content::NoCompact(fetch_mark(store, id).await?),
        layout::NO_DOWNSAMPLE_MARK => Content::NoDownsample(fetch_mark(store, id).await?),
        _ => match fetch_meta(store, id).await {
            Ok(Some(meta)) => Content::Meta(Arc::new(meta)),
            Ok(None) => return Ok(None),
            Err(Error::Corrupt { damage, .. }) => Content::Damaged(damage.to_string()),
            Err(Error::Store(objstore::Error::Invalid { reason, .. })) => Content::Damaged(reason),
            Err(error) => return Err(error),
        },
    };
    Ok(Some(found))
}

/// Reads a mark; one of another version is named and, like any that cannot be read, stops nothing.
async fn fetch_mark<M: Mark>(store: &dyn ObjectStore, id: BlockId) -> Result<Found<M>> {
    match marker::read(store, id).await {
        Err(error @ Error::MarkVersion { .. }) => Ok(Found::Unreadable(error.to_string())),
        found => found,
    }
}

/// The meta of a block; none when there is no `meta.json`.
///
/// # Errors
/// When the bucket fails; [`Error::Corrupt`] for what is no meta, or the meta of another block.
pub async fn fetch_meta(store: &dyn ObjectStore, id: BlockId) -> Result<Option<Meta>> {
    let key = layout::meta_key(id);
    let bytes = match store.get(&key, SIZE_MAX_BYTES).await {
        Err(error) if error.is_not_found() => return Ok(None),
        got => got?,
    };
    match Meta::decode(&bytes) {
        Ok(meta) if meta.ulid == id => Ok(Some(meta)),
        Ok(meta) => {
            let reason = format!("it names block {}", meta.ulid);
            Err(Error::Corrupt { key, damage: tsdb_core::error::Damage::new("meta", 0, reason) })
        }
        Err(damage) => Err(Error::Corrupt { key, damage }),
    }
}
