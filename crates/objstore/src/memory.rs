//! A bucket in memory, for tests and simulations.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};

use crate::digest::md5_hex;
use crate::environment::Environment;
use crate::error::Error;
use crate::key::{check_key, check_prefix};
use crate::store::{ListPage, ObjectMeta, ObjectStore, PutOutcome, Result};
use crate::upload::{Part, Upload, Whole, check_whole};

/// Entries in a page of a listing.
const PAGE_ENTRIES_MAX: usize = 1000;

/// A bucket in memory. Its entity tags are the MD5 of the contents.
#[derive(Debug)]
pub struct MemoryStore {
    name: String,
    environment: Environment,
    page_entries_max: usize,
    objects: Arc<RwLock<BTreeMap<String, Object>>>,
}

#[derive(Clone, Debug)]
struct Object {
    body: Bytes,
    modified_ms: i64,
    md5_hex: String,
}

impl MemoryStore {
    /// An empty bucket; objects are stamped by the environment's clock.
    pub fn new(name: &str, environment: Environment) -> MemoryStore {
        let page_entries_max = PAGE_ENTRIES_MAX;
        MemoryStore {
            name: name.to_owned(),
            environment,
            page_entries_max,
            objects: Arc::default(),
        }
    }

    /// The same with shorter pages, so that few objects make many of them.
    #[must_use]
    pub fn with_page_entries_max(mut self, page_entries_max: usize) -> MemoryStore {
        self.page_entries_max = page_entries_max.max(1);
        self
    }

    /// Every object, by key.
    pub fn contents(&self) -> BTreeMap<String, Bytes> {
        let objects = self.objects.read();
        objects.iter().map(|(key, object)| (key.clone(), object.body.clone())).collect()
    }

    fn write(&self, key: &str, body: Bytes, only_if_absent: bool) -> Result<PutOutcome> {
        check_key(key)?;
        let now_ms = self.environment.now_ms();
        let mut objects = self.objects.write();
        if only_if_absent && objects.contains_key(key) {
            return Err(Error::AlreadyExists { key: key.to_owned() });
        }
        Ok(insert(&mut objects, key, body, now_ms))
    }

    fn object(&self, key: &str) -> Result<Object> {
        check_key(key)?;
        let found = self.objects.read().get(key).cloned();
        found.ok_or_else(|| Error::NotFound { key: key.to_owned() })
    }

    fn page(&self, prefix: &str, delimiter: bool, after: Option<&str>) -> Result<ListPage> {
        check_prefix(prefix)?;
        let objects = self.objects.read();
        let mut page = ListPage::default();
        let mut last: Option<String> = None;
        let start = after.filter(|it| *it > prefix).unwrap_or(prefix);
        for (key, object) in objects.range::<str, _>((Bound::Included(start), Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(prefix) else { break };
            let directory = rest.find('/').filter(|_| delimiter);
            let entry = directory.map_or(&**key, |at| &key[..=prefix.len() + at]);
            if after.is_some_and(|it| entry <= it) || last.as_deref() == Some(entry) {
                continue;
            }
            if page.objects.len() + page.prefixes.len() == self.page_entries_max {
                page.next = last;
                break;
            }
            last = Some(entry.to_owned());
            match directory {
                Some(_) => page.prefixes.push(entry.to_owned()),
                None => page.objects.push(meta(key, object)),
            }
        }
        Ok(page)
    }
}

/// Puts an object in its place, stamped with the given time.
fn insert(
    objects: &mut BTreeMap<String, Object>,
    key: &str,
    body: Bytes,
    modified_ms: i64,
) -> PutOutcome {
    let md5_hex = md5_hex(&body);
    let outcome = PutOutcome {
        size_bytes: body.len() as u64,
        md5_hex: md5_hex.clone(),
        etag: Some(md5_hex.clone()),
        etag_is_md5: true,
    };
    objects.insert(key.to_owned(), Object { body, modified_ms, md5_hex });
    outcome
}

/// An object that is sent in parts.
#[derive(Debug)]
struct MemoryUpload {
    key: String,
    environment: Environment,
    objects: Arc<RwLock<BTreeMap<String, Object>>>,
    parts: Mutex<BTreeMap<u32, Part>>,
    /// Set when the parts have become the object.
    outcome: Mutex<Option<PutOutcome>>,
}

impl MemoryUpload {
    fn join(&self, whole: &Whole) -> Result<PutOutcome> {
        let mut outcome = self.outcome.lock();
        if let Some(outcome) = &*outcome {
            return Ok(outcome.clone());
        }
        let parts = self.parts.lock();
        let mut body = BytesMut::new();
        for part in parts.values() {
            if part.offset_bytes != body.len() as u64 {
                let at = part.offset_bytes;
                let reason = format!("part {} at {at} follows {} bytes", part.number, body.len());
                return Err(Error::invalid(&self.key, reason));
            }
            body.extend_from_slice(&part.body);
        }
        check_whole(&self.key, whole, (body.len() as u64, parts.len()))?;
        let now_ms = self.environment.now_ms();
        let done = insert(&mut self.objects.write(), &self.key, body.freeze(), now_ms);
        Ok(outcome.insert(done).clone())
    }
}

impl Upload for MemoryUpload {
    fn put_part(&self, part: Part) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.parts.lock().insert(part.number, part);
            Ok(())
        })
    }

    fn finish<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(async move { self.join(whole) })
    }

    fn abort(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.parts.lock().clear();
            Ok(())
        })
    }
}

fn meta(key: &str, object: &Object) -> ObjectMeta {
    ObjectMeta {
        key: key.to_owned(),
        size_bytes: object.body.len() as u64,
        modified_ms: object.modified_ms,
        etag: Some(object.md5_hex.clone()),
    }
}

/// The part of a body that a range names, by the rules of [`ObjectStore::get_range`].
fn slice(key: &str, body: &Bytes, range: Range<u64>) -> Result<Bytes> {
    let size = body.len() as u64;
    if range.start >= range.end || range.start >= size {
        let reason = format!("no bytes {}..{} in {size}", range.start, range.end);
        return Err(Error::invalid(key, reason));
    }
    // Both ends are at most the length of a slice.
    let bound = |at: u64| usize::try_from(at.min(size)).unwrap_or(body.len());
    Ok(body.slice(bound(range.start)..bound(range.end)))
}

impl ObjectStore for MemoryStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        delimiter: bool,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<ListPage>> {
        Box::pin(async move { self.page(prefix, delimiter, page.as_deref()) })
    }

    fn get<'a>(&'a self, key: &'a str, size_max_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move {
            let body = self.object(key)?.body;
            if body.len() as u64 > size_max_bytes {
                let reason = format!("{} bytes, at most {size_max_bytes} expected", body.len());
                return Err(Error::invalid(key, reason));
            }
            Ok(body)
        })
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move { slice(key, &self.object(key)?.body, range) })
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(async move { self.write(key, body, false) })
    }

    fn put_if_absent<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(async move { self.write(key, body, true) })
    }

    fn put_file<'a>(&'a self, key: &'a str, path: &'a Path) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(async move {
            let body = tokio::fs::read(path).await.map_err(|error| Error::Other {
                operation: "upload",
                key: key.to_owned(),
                cause: format!("{}: {error}", path.display()).into(),
            })?;
            self.write(key, body.into(), false)
        })
    }

    fn begin_upload<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(async move {
            check_key(key)?;
            let upload: Box<dyn Upload> = Box::new(MemoryUpload {
                key: key.to_owned(),
                environment: self.environment.clone(),
                objects: Arc::clone(&self.objects),
                parts: Mutex::default(),
                outcome: Mutex::default(),
            });
            Ok(upload)
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            check_key(key)?;
            self.objects.write().remove(key);
            Ok(())
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectMeta>> {
        Box::pin(async move { Ok(meta(key, &self.object(key)?)) })
    }

    fn abort_stale_uploads<'a>(
        &'a self,
        prefix: &'a str,
        _before_ms: i64,
    ) -> BoxFuture<'a, Result<usize>> {
        // A write is there or not, never half.
        Box::pin(async move { check_prefix(prefix).map(|()| 0) })
    }
}
