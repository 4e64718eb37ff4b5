//! Blocks: directories with chunk segments, an index, a meta.json and perhaps tombstones.

pub mod meta;
pub mod reader;
pub mod segments;
pub mod tombstones;
pub mod writer;

pub use crate::block::meta::Meta;
pub use crate::block::reader::{BlockSeries, Reader};
pub use crate::block::writer::{ChunkData, Writer};

/// Name of the index in a block's directory.
pub const INDEX_FILE: &str = "index";
/// Name of the meta in a block's directory.
pub const META_FILE: &str = "meta.json";
/// Name of the directory of the chunk segments in a block's directory.
pub const CHUNKS_DIRECTORY: &str = "chunks";
/// Name of the tombstones in a block's directory.
pub const TOMBSTONES_FILE: &str = "tombstones";
/// Ends the name of a block's directory that is not whole yet; Prometheus removes such ones too.
pub const UNFINISHED_SUFFIX: &str = ".tmp-for-creation";
