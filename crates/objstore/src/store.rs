//! The narrow seam to an object store.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::error::Error;
use crate::upload::Upload;

/// The result of every call.
pub type Result<T> = std::result::Result<T, Error>;

/// What a listing or a `head` says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Full key, without the prefix that a decorator put in front.
    pub key: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// When it was last written, in ms since the Unix epoch, by the store's clock.
    pub modified_ms: i64,
    /// The entity tag without quotes; the MD5 of the contents in some stores, for some uploads.
    pub etag: Option<String>,
}

/// What one listing call gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Objects directly under the prefix (with a delimiter) or anywhere below it, by key.
    pub objects: Vec<ObjectMeta>,
    /// "Directories" under the prefix, ending in `/`; only with a delimiter. Some servers show one
    /// for a while after its last object was deleted.
    pub prefixes: Vec<String>,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

/// What was stored, as the sender saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOutcome {
    /// Bytes sent.
    pub size_bytes: u64,
    /// MD5 of the bytes sent, in hex, computed while sending.
    pub md5_hex: String,
    /// The entity tag that the store answered, without quotes.
    pub etag: Option<String>,
    /// Whether the store's tag for this upload is defined to be the MD5 of the contents (a single
    /// PUT without server-side encryption by KMS), so that the two can be compared.
    pub etag_is_md5: bool,
}

/// A bucket. Keys are `/`-separated, never begin with `/`, and hold no empty part, `.` or `..`.
///
/// Every write is visible to reads and listings that begin after it returned.
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// The bucket's name, for logs and metrics.
    fn name(&self) -> &str;

    /// One page of a listing. With `delimiter` only the level directly under `prefix` is listed.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        delimiter: bool,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<ListPage>>;

    /// A whole object; refused when it is larger than `size_max_bytes`.
    fn get<'a>(&'a self, key: &'a str, size_max_bytes: u64) -> BoxFuture<'a, Result<Bytes>>;

    /// A range of an object; shorter than asked only where the object ends.
    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>>;

    /// Writes an object, replacing one of the same key.
    fn put<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>>;

    /// Writes an object only where none has the key ([`Error::AlreadyExists`] otherwise).
    fn put_if_absent<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>>;

    /// Streams a local file into an object, in parts where it is large; memory stays bounded.
    fn put_file<'a>(&'a self, key: &'a str, path: &'a Path) -> BoxFuture<'a, Result<PutOutcome>>;

    /// Begins an object that is sent in parts: see [`ObjectWriter`](crate::ObjectWriter), which
    /// callers use.
    fn begin_upload<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Box<dyn Upload>>>;

    /// Removes an object; one that is absent is a success.
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>>;

    /// What the store knows of an object.
    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectMeta>>;

    /// Aborts multipart uploads of this bucket (under `prefix`) begun before `before_ms` that were
    /// never finished, and answers how many.
    fn abort_stale_uploads<'a>(
        &'a self,
        prefix: &'a str,
        before_ms: i64,
    ) -> BoxFuture<'a, Result<usize>>;
}

/// A shared bucket, the form in which components keep it.
pub type SharedStore = Arc<dyn ObjectStore>;
