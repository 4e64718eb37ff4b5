//! Marks: small objects beside a block that say what is to become of it.

use bytes::Bytes;
use model::BlockId;
use objstore::ObjectStore;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::layout;

/// Larger marks are not read; real ones have some hundred bytes.
const SIZE_MAX_BYTES: u64 = 64 * 1024;
/// The only version of all three.
const VERSION: u32 = 1;
/// The reason of marks that a person sets.
pub const MANUAL: &str = "manual";

/// What a block was marked for.
pub trait Mark: Serialize + DeserializeOwned + Send + Sync {
    /// The name of the object in the block.
    const FILE: &'static str;
    /// The block.
    fn id(&self) -> BlockId;
    /// Version of the format.
    fn version(&self) -> u32;
    /// What makes a mark meaningless although it can be decoded; none when it is sound.
    fn defect(&self) -> Option<String> {
        None
    }
}

/// The block is to be deleted, some time after the mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionMark {
    /// The block.
    #[serde(serialize_with = "write_id", deserialize_with = "read_id")]
    pub id: BlockId,
    /// Version of the format, 1.
    #[serde(default)]
    pub version: u32,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// When the mark was written, in seconds since the Unix epoch.
    #[serde(rename = "deletion_time", default)]
    pub deletion_time_s: i64,
}

/// No compaction may touch the block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoCompactMark {
    /// The block.
    #[serde(serialize_with = "write_id", deserialize_with = "read_id")]
    pub id: BlockId,
    /// Version of the format, 1.
    #[serde(default)]
    pub version: u32,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// When the mark was written, in seconds since the Unix epoch.
    #[serde(rename = "no_compact_time", default)]
    pub no_compact_time_s: i64,
    /// Why, for programs: `manual`, `index-size-exceeding`, …
    #[serde(default)]
    pub reason: String,
}

/// The block is not downsampled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoDownsampleMark {
    /// The block.
    #[serde(serialize_with = "write_id", deserialize_with = "read_id")]
    pub id: BlockId,
    /// Version of the format, 1.
    #[serde(default)]
    pub version: u32,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// When the mark was written, in seconds since the Unix epoch.
    #[serde(rename = "no_downsample_time", default)]
    pub no_downsample_time_s: i64,
    /// Why, for programs: `manual`.
    #[serde(default)]
    pub reason: String,
}

impl DeletionMark {
    /// A mark of this moment.
    pub fn new(id: BlockId, details: &str, now_ms: i64) -> DeletionMark {
        let deletion_time_s = now_ms.div_euclid(1000);
        DeletionMark { id, version: VERSION, details: details.to_owned(), deletion_time_s }
    }
}

impl NoCompactMark {
    /// A mark of this moment; the reason is for programs, the details are for people.
    pub fn new(id: BlockId, reason: &str, details: &str, now_ms: i64) -> NoCompactMark {
        NoCompactMark {
            id,
            version: VERSION,
            details: details.to_owned(),
            no_compact_time_s: now_ms.div_euclid(1000),
            reason: reason.to_owned(),
        }
    }
}

impl NoDownsampleMark {
    /// A mark of this moment; the reason is for programs, the details are for people.
    pub fn new(id: BlockId, reason: &str, details: &str, now_ms: i64) -> NoDownsampleMark {
        NoDownsampleMark {
            id,
            version: VERSION,
            details: details.to_owned(),
            no_downsample_time_s: now_ms.div_euclid(1000),
            reason: reason.to_owned(),
        }
    }
}

impl Mark for DeletionMark {
    const FILE: &'static str = layout::DELETION_MARK;

    fn id(&self) -> BlockId {
        self.id
    }

    fn version(&self) -> u32 {
        self.version
    }

    /// Without a time a mark would be older than every delay, and its block be deleted at once.
    fn defect(&self) -> Option<String> {
        (self.deletion_time_s <= 0).then(|| {
            let time_s = self.deletion_time_s;
            format!("deletion_time is {time_s} or absent, so that the mark has no age")
        })
    }
}

impl Mark for NoCompactMark {
    const FILE: &'static str = layout::NO_COMPACT_MARK;

    fn id(&self) -> BlockId {
        self.id
    }

    fn version(&self) -> u32 {
        self.version
    }
}

impl Mark for NoDownsampleMark {
    const FILE: &'static str = layout::NO_DOWNSAMPLE_MARK;

    fn id(&self) -> BlockId {
        self.id
    }

    fn version(&self) -> u32 {
        self.version
    }
}

/// What was found where a mark could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<M> {
    /// No mark.
    Absent,
    /// A mark.
    Mark(M),
    /// Bytes that are no mark; as if there were none, but to be said.
    Unreadable(String),
}

impl<M> Found<M> {
    /// The mark, if there is one that can be read.
    pub fn mark(&self) -> Option<&M> {
        match self {
            Found::Mark(mark) => Some(mark),
            Found::Absent | Found::Unreadable(_) => None,
        }
    }
}

/// Reads a mark of a block.
///
/// # Errors
/// When the bucket fails, and for a mark of another version ([`Error::MarkVersion`]).
pub async fn read<M: Mark>(store: &dyn ObjectStore, id: BlockId) -> Result<Found<M>> {
    let key = layout::key(id, M::FILE);
    match store.get(&key, SIZE_MAX_BYTES).await {
        Ok(bytes) => decode(&key, &bytes),
        Err(error) if error.is_not_found() => Ok(Found::Absent),
        Err(objstore::Error::Invalid { reason, .. }) => Ok(Found::Unreadable(reason)),
        Err(error) => Err(error.into()),
    }
}

/// Writes a mark where the block has none of its kind; answers whether it had none.
///
/// # Errors
/// When the bucket fails.
pub async fn write<M: Mark>(store: &dyn ObjectStore, mark: &M) -> Result<bool> {
    let body = encode(mark);
    match store.put_if_absent(&layout::key(mark.id(), M::FILE), body).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_already_exists() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes a mark away; answers whether there was one.
///
/// # Errors
/// When the bucket fails.
pub async fn remove(store: &dyn ObjectStore, id: BlockId, file: &str) -> Result<bool> {
    let key = layout::key(id, file);
    match store.head(&key).await {
        Err(error) if error.is_not_found() => return Ok(false),
        found => drop(found?),
    }
    store.delete(&key).await?;
    Ok(true)
}

/// Decodes the mark of an object as Go decodes it: keys in any case, nulls as absent.
///
/// # Errors
/// For a mark of another version; what is no mark at all, and a deletion mark without a time, is
/// [`Found::Unreadable`].
pub fn decode<M: Mark>(key: &str, bytes: &[u8]) -> Result<Found<M>> {
    let read = serde_json::from_slice::<Map<String, Value>>(bytes).and_then(|object| {
        let object = object.into_iter().filter(|(_, value)| !value.is_null());
        let object: Map<_, _> =
            object.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        M::deserialize(Value::Object(object))
    });
    match read {
        Ok(mark) if mark.version() != VERSION => {
            Err(Error::MarkVersion { key: key.to_owned(), version: mark.version() })
        }
        Ok(mark) => Ok(mark.defect().map_or(Found::Mark(mark), Found::Unreadable)),
        Err(error) => Ok(Found::Unreadable(error.to_string())),
    }
}

/// The bytes of a mark, as Thanos writes them.
pub fn encode<M: Mark>(mark: &M) -> Bytes {
    let encoded = serde_json::to_vec(mark);
    debug_assert!(encoded.is_ok(), "plain texts and numbers always serialize");
    encoded.unwrap_or_default().into()
}

fn write_id<S: Serializer>(id: &BlockId, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn read_id<'de, D>(deserializer: D) -> std::result::Result<BlockId, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?.to_ascii_uppercase();
    text.parse().map_err(serde::de::Error::custom)
}
