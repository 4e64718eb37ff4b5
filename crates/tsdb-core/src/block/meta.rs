//! A block's meta.json: what Prometheus writes, and the section that Thanos adds.
//!
//! Written as Go writes it, byte for byte; read as leniently as Go reads it: keys in any case,
//! unknown keys, nulls and anything behind the value are accepted. See `docs/format/meta.md`.

use std::collections::BTreeMap;
use std::path::Path;

use model::{BlockId, Labels};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::error::{Damage, Error, Result};
use crate::fs::{self, Fs};

/// Larger metas are refused; the largest known ones list thousands of sources in some 100 KiB.
pub const SIZE_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// The only version of both formats.
const VERSION: u32 = 1;
/// How Go prints the zero time.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// The whole meta.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The block's name.
    #[serde(serialize_with = "write_id", deserialize_with = "read_id")]
    pub ulid: BlockId,
    /// First millisecond of the block.
    #[serde(rename = "minTime", default)]
    pub min_time_ms: i64,
    /// First millisecond behind the block.
    #[serde(rename = "maxTime", default)]
    pub max_time_ms: i64,
    /// What is in it.
    #[serde(default)]
    pub stats: Stats,
    /// Where it comes from.
    #[serde(default)]
    pub compaction: Compaction,
    /// Version of the format, 1.
    #[serde(default)]
    pub version: u32,
    /// What Thanos adds.
    #[serde(default)]
    pub thanos: Thanos,
}

/// Counts of what a block holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Samples of all kinds.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    /// Float samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_float_samples: u64,
    /// Histogram samples.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_histogram_samples: u64,
    /// Series.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    /// Chunks.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    /// Deleted intervals.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
}

/// From what a block was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compaction {
    /// 1 for a block cut from a head, one more for every compaction.
    pub level: u32,
    /// The blocks cut from a head that went into it.
    #[serde(
        serialize_with = "write_ids",
        deserialize_with = "read_ids",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub sources: Vec<BlockId>,
    /// Whether a compaction found nothing to keep, so that it may go.
    #[serde(skip_serializing_if = "is_false")]
    pub deletable: bool,
    /// The blocks that it was made of directly.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Parent>,
    /// Whether a compaction with it failed.
    #[serde(skip_serializing_if = "is_false")]
    pub failed: bool,
    /// Such as `from-out-of-order`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

/// A block that another one was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its name.
    #[serde(serialize_with = "write_id", deserialize_with = "read_id")]
    pub ulid: BlockId,
    /// Its first millisecond.
    #[serde(rename = "minTime", default)]
    pub min_time_ms: i64,
    /// The first millisecond behind it.
    #[serde(rename = "maxTime", default)]
    pub max_time_ms: i64,
}

/// Thanos' section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thanos {
    /// Version of the section: 1, or 0 where it is left out.
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub version: u32,
    /// External labels.
    pub labels: BTreeMap<String, String>,
    /// Resolution.
    pub downsample: Downsample,
    /// Which component made it: `receive`, `sidecar`, `compactor`, …
    pub source: String,
    /// Names of the chunk segments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub segment_files: Vec<String>,
    /// All files, sorted by path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// Rewrites done by a tool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rewrites: Vec<Rewrite>,
    /// Bounds of entries, so that a reader need not guess.
    pub index_stats: IndexStats,
    /// Whatever others added.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub extensions: Value,
    /// When it was uploaded, RFC 3339; Go's zero time in a local block.
    pub upload_time: String,
}

/// Resolution of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Downsample {
    /// 0 for raw samples, 300,000 or 3,600,000 ms.
    #[serde(rename = "resolution")]
    pub resolution_ms: i64,
}

/// A file of the block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct File {
    /// Path in the block's directory.
    pub rel_path: String,
    /// Size; left out for the meta itself.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: u64,
    /// Hash of the contents, when one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<FileHash>,
}

/// Hash of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileHash {
    /// `SHA256`.
    #[serde(rename = "hashFunc")]
    pub function: String,
    /// In hex.
    pub value: String,
}

/// A rewrite of a block by a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rewrite {
    /// The blocks that were rewritten.
    #[serde(
        serialize_with = "write_ids",
        deserialize_with = "read_ids",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub sources: Vec<BlockId>,
    /// What was deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deletions_applied: Vec<Deletion>,
    /// How labels were changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relabels_applied: Vec<Relabel>,
}

/// A deletion by a rewrite.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deletion {
    /// Of which series.
    pub matchers: Vec<DeletionMatcher>,
    /// In which intervals; everything where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub intervals: Vec<Interval>,
    /// Who asked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
}

/// A matcher as Go prints the type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeletionMatcher {
    /// 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`.
    pub r#type: u32,
    /// Label.
    pub name: String,
    /// Text or expression.
    pub value: String,
}

/// An interval as Go prints the type, both ends inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interval {
    /// First millisecond.
    #[serde(rename = "Mint")]
    pub min_time_ms: i64,
    /// Last millisecond.
    #[serde(rename = "Maxt")]
    pub max_time_ms: i64,
}

/// A relabelling rule of a rewrite.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Relabel {
    /// Labels whose values are joined.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_labels: Vec<String>,
    /// What is put between them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub separator: String,
    /// What they must match.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub regex: String,
    /// Divisor of the hash.
    #[serde(skip_serializing_if = "is_zero")]
    pub modulus: u64,
    /// Label that is set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_label: String,
    /// To what it is set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub replacement: String,
    /// What is done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
}

/// Largest entries of a block; 0 where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IndexStats {
    /// Bytes of the largest series entry.
    #[serde(rename = "series_max_size", skip_serializing_if = "is_zero")]
    pub series_max_bytes: u64,
    /// Bytes of the largest chunk.
    #[serde(rename = "chunk_max_size", skip_serializing_if = "is_zero")]
    pub chunk_max_bytes: u64,
}

impl Meta {
    /// The meta of a block cut from a head: its own source, level 1.
    pub fn of_head(ulid: BlockId, min_time_ms: i64, max_time_ms: i64) -> Meta {
        Meta {
            ulid,
            min_time_ms,
            max_time_ms,
            stats: Stats::default(),
            compaction: Compaction { level: 1, sources: vec![ulid], ..Compaction::default() },
            version: VERSION,
            thanos: Thanos { version: VERSION, ..Thanos::default() },
        }
    }

    /// Decodes a meta.json.
    ///
    /// # Errors
    /// When it is not one, or of an unknown version.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Meta, Damage> {
        let damage = |error: serde_json::Error| Damage::new("meta", 0, error.to_string());
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
        let first = values.next().ok_or_else(|| Damage::new("meta", 0, "it is empty"))?;
        let mut value = first.map_err(damage)?;
        canonical(&mut value, META_KEYS);
        let meta = Meta::deserialize(value).map_err(damage)?;
        if meta.version != VERSION {
            let text = format!("version {}, {VERSION} expected", meta.version);
            return Err(Damage::new("meta", 0, text));
        }
        if meta.thanos.version > VERSION {
            let text = format!("version {} of Thanos' section", meta.thanos.version);
            return Err(Damage::new("meta", 0, text));
        }
        Ok(meta)
    }

    /// Reads a meta.json from the disk.
    ///
    /// # Errors
    /// When the disk fails or it cannot be decoded.
    pub fn read(fs: &dyn Fs, path: &Path) -> Result<Meta> {
        let bytes = fs::read_whole(fs, path, SIZE_MAX_BYTES).map_err(Error::io("read", path))?;
        Meta::decode(&bytes).map_err(|it| it.within(path))
    }

    /// The bytes of the meta.json.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2048);
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut out, tabs);
        let written = self.serialize(&mut serializer);
        debug_assert!(written.is_ok(), "maps with text keys and plain values always serialize");
        out.push(b'\n');
        escape_as_go(out)
    }

    /// The external labels.
    ///
    /// # Errors
    /// When a name is empty.
    pub fn external_labels(&self) -> std::result::Result<Labels, model::labels::LabelsError> {
        Labels::from_pairs(&self.thanos.labels)
    }

    /// Whether a timestamp lies in the block.
    pub fn contains(&self, timestamp_ms: i64) -> bool {
        (self.min_time_ms..self.max_time_ms).contains(&timestamp_ms)
    }
}

impl Default for Thanos {
    fn default() -> Thanos {
        Thanos {
            version: 0,
            labels: BTreeMap::new(),
            downsample: Downsample::default(),
            source: String::new(),
            segment_files: Vec::new(),
            files: Vec::new(),
            rewrites: Vec::new(),
            index_stats: IndexStats::default(),
            extensions: Value::Null,
            upload_time: ZERO_TIME.to_owned(),
        }
    }
}

/// Go escapes these inside of texts, and outside of texts JSON has none of them.
fn escape_as_go(bytes: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8(bytes).unwrap_or_default();
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text.into_bytes();
    }
    let mut out = String::with_capacity(text.len() + 64);
    for char in text.chars() {
        match char {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out.into_bytes()
}

/// A key and the keys of the object behind it; none where the keys are not ours to name.
struct Key(&'static str, &'static [Key]);

const fn leaf(name: &'static str) -> Key {
    Key(name, &[])
}

const META_KEYS: &[Key] = &[
    leaf("ulid"),
    leaf("minTime"),
    leaf("maxTime"),
    Key(
        "stats",
        &[
            leaf("numSamples"),
            leaf("numFloatSamples"),
            leaf("numHistogramSamples"),
            leaf("numSeries"),
            leaf("numChunks"),
            leaf("numTombstones"),
        ],
    ),
    Key(
        "compaction",
        &[
            leaf("level"),
            leaf("sources"),
            leaf("deletable"),
            Key("parents", &[leaf("ulid"), leaf("minTime"), leaf("maxTime")]),
            leaf("failed"),
            leaf("hints"),
        ],
    ),
    leaf("version"),
    Key("thanos", THANOS_KEYS),
];

const THANOS_KEYS: &[Key] = &[
    leaf("version"),
    leaf("labels"),
    Key("downsample", &[leaf("resolution")]),
    leaf("source"),
    leaf("segment_files"),
    Key(
        "files",
        &[leaf("rel_path"), leaf("size_bytes"), Key("hash", &[leaf("hashFunc"), leaf("value")])],
    ),
    Key(
        "rewrites",
        &[
            leaf("sources"),
            Key(
                "deletions_applied",
                &[
                    Key("matchers", &[leaf("Type"), leaf("Name"), leaf("Value")]),
                    Key("intervals", &[leaf("Mint"), leaf("Maxt")]),
                    leaf("request_id"),
                ],
            ),
            leaf("relabels_applied"),
        ],
    ),
    Key("index_stats", &[leaf("series_max_size"), leaf("chunk_max_size")]),
    leaf("extensions"),
    leaf("upload_time"),
];

/// Gives known keys their own spelling and drops nulls, which Go takes as absent.
fn canonical(value: &mut Value, keys: &'static [Key]) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|it| canonical(it, keys)),
        Value::Object(object) if !keys.is_empty() => {
            for Key(name, below) in keys {
                let spelled = |it: &&String| it.eq_ignore_ascii_case(name);
                let other = match object.contains_key(*name) {
                    true => None,
                    false => object.keys().find(spelled).cloned(),
                };
                if let Some(it) = other.and_then(|it| object.remove(&it)) {
                    object.insert((*name).to_owned(), it);
                }
                match object.get_mut(*name) {
                    Some(Value::Null) => drop(object.remove(*name)),
                    Some(it) => canonical(it, below),
                    None => {}
                }
            }
        }
        _ => {}
    }
}

// Serde hands these a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_false(value: &bool) -> bool {
    !*value
}

fn write_id<S: Serializer>(id: &BlockId, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn write_ids<S: Serializer>(
    ids: &[BlockId],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(ids.iter().map(ToString::to_string))
}

fn read_id<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<BlockId, D::Error> {
    parse_id(&String::deserialize(deserializer)?)
}

fn read_ids<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<BlockId>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.iter().map(|it| parse_id(it)).collect()
}

fn parse_id<E: serde::de::Error>(text: &str) -> std::result::Result<BlockId, E> {
    text.to_ascii_uppercase().parse().map_err(E::custom)
}
