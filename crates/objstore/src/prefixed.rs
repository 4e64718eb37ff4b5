//! A part of a bucket that looks like a bucket of its own.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::error::Error;
use crate::key::{check_key, check_prefix};
use crate::store::{ListPage, ObjectMeta, ObjectStore, PutOutcome, Result, SharedStore};
use crate::upload::Upload;

/// Puts a prefix in front of every key, as Thanos' `prefix` setting does. Errors name whole keys.
#[derive(Debug)]
pub struct Prefixed {
    inner: SharedStore,
    /// Ends in `/`.
    prefix: String,
}

impl Prefixed {
    /// The store under `prefix`; slashes around it do not count, and without one it is the store
    /// itself.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the prefix is no key.
    pub fn wrap(inner: SharedStore, prefix: &str) -> Result<SharedStore> {
        let prefix = prefix.trim_matches('/');
        if prefix.is_empty() {
            return Ok(inner);
        }
        check_key(prefix)?;
        Ok(std::sync::Arc::new(Prefixed { inner, prefix: format!("{prefix}/") }))
    }

    fn full(&self, key: &str) -> Result<String> {
        check_key(key)?;
        Ok(format!("{}{key}", self.prefix))
    }

    fn strip(&self, key: String) -> Result<String> {
        match key.strip_prefix(&self.prefix) {
            Some(rest) => Ok(rest.to_owned()),
            None => Err(Error::Other {
                operation: "iter",
                cause: format!("the store listed a key that is not under {}", self.prefix).into(),
                key,
            }),
        }
    }

    fn strip_page(&self, page: ListPage) -> Result<ListPage> {
        let strip = |mut it: ObjectMeta| {
            it.key = self.strip(it.key)?;
            Ok(it)
        };
        let objects = page.objects.into_iter().map(strip).collect::<Result<_>>()?;
        let prefixes = page.prefixes.into_iter().map(|it| self.strip(it)).collect::<Result<_>>()?;
        Ok(ListPage { objects, prefixes, next: page.next })
    }
}

impl ObjectStore for Prefixed {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        delimiter: bool,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<ListPage>> {
        Box::pin(async move {
            check_prefix(prefix)?;
            let full = format!("{}{prefix}", self.prefix);
            self.strip_page(self.inner.list(&full, delimiter, page).await?)
        })
    }

    fn get<'a>(&'a self, key: &'a str, size_max_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move { self.inner.get(&self.full(key)?, size_max_bytes).await })
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move { self.inner.get_range(&self.full(key)?, range).await })
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(async move { self.inner.put(&self.full(key)?, body).await })
    }

    fn put_if_absent<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(async move { self.inner.put_if_absent(&self.full(key)?, body).await })
    }

    fn put_file<'a>(&'a self, key: &'a str, path: &'a Path) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(async move { self.inner.put_file(&self.full(key)?, path).await })
    }

    fn begin_upload<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(async move { self.inner.begin_upload(&self.full(key)?).await })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.inner.delete(&self.full(key)?).await })
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectMeta>> {
        Box::pin(async move {
            let mut meta = self.inner.head(&self.full(key)?).await?;
            key.clone_into(&mut meta.key);
            Ok(meta)
        })
    }

    fn abort_stale_uploads<'a>(
        &'a self,
        prefix: &'a str,
        before_ms: i64,
    ) -> BoxFuture<'a, Result<usize>> {
        Box::pin(async move {
            check_prefix(prefix)?;
            let full = format!("{}{prefix}", self.prefix);
            self.inner.abort_stale_uploads(&full, before_ms).await
        })
    }
}
