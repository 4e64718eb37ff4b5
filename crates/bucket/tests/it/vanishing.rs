//! A bucket in which somebody deletes each `meta.json` as soon as its writer looked at it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use objstore::store::Result;
use objstore::{ListPage, MemoryStore, ObjectMeta, ObjectStore, PutOutcome, Upload};

#[derive(Debug)]
pub(crate) struct Vanishing(Arc<MemoryStore>);

impl Vanishing {
    pub(crate) fn new(inner: Arc<MemoryStore>) -> Vanishing {
        Vanishing(inner)
    }
}

impl ObjectStore for Vanishing {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        delimiter: bool,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<ListPage>> {
        self.0.list(prefix, delimiter, page)
    }

    fn get<'a>(&'a self, key: &'a str, size_max_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.0.get(key, size_max_bytes)
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        self.0.get_range(key, range)
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        self.0.put(key, body)
    }

    fn put_if_absent<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        self.0.put_if_absent(key, body)
    }

    fn put_file<'a>(&'a self, key: &'a str, path: &'a Path) -> BoxFuture<'a, Result<PutOutcome>> {
        self.0.put_file(key, path)
    }

    fn begin_upload<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        self.0.begin_upload(key)
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        self.0.delete(key)
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectMeta>> {
        Box::pin(async move {
            let meta = self.0.head(key).await?;
            if key.ends_with("meta.json") {
                self.0.delete(key).await?;
            }
            Ok(meta)
        })
    }

    fn abort_stale_uploads<'a>(
        &'a self,
        prefix: &'a str,
        before_ms: i64,
    ) -> BoxFuture<'a, Result<usize>> {
        self.0.abort_stale_uploads(prefix, before_ms)
    }
}
