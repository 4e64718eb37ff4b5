//! Objects whose length nobody knows yet, sent in parts as they come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tracing::{debug, warn};

use super::Bucket;
use super::multipart::{Outgoing, abort, complete_once, create, send_part};
use crate::digest::md5;
use crate::error::Error;
use crate::key::check_key;
use crate::store::{PutOutcome, Result};
use crate::upload::{Part, Upload, Whole, check_whole};

/// A multipart upload.
#[derive(Debug)]
struct PartsUpload {
    bucket: Arc<Bucket>,
    key: String,
    upload_id: String,
    parts: Mutex<BTreeMap<u32, (CompletedPart, u64)>>,
    /// Whether the parts were asked to be joined: the answer may have got lost.
    was_joined: AtomicBool,
    /// Whether there is nothing left to abort.
    is_over: AtomicBool,
}

/// Begins a multipart upload.
pub(super) async fn begin(bucket: Arc<Bucket>, key: &str) -> Result<Box<dyn Upload>> {
    check_key(key)?;
    if bucket.config.disable_multipart {
        let reason = "an object that is sent while it is made needs parts, and disable_multipart \
                      is set in the object store configuration; remove it";
        return Err(Error::invalid(key, reason));
    }
    let upload_id = create(&bucket, key).await?;
    Ok(Box::new(PartsUpload {
        bucket,
        key: key.to_owned(),
        upload_id,
        parts: Mutex::default(),
        was_joined: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
    }))
}

impl PartsUpload {
    async fn send(&self, part: Part) -> Result<()> {
        let length = part.body.len() as u64;
        let number = i32::try_from(part.number);
        let number = number.map_err(|_| Error::invalid(&self.key, "a part's number is large"))?;
        let digest = md5(&part.body);
        let outgoing = Outgoing { number, length, digest, body: ByteStream::from(part.body) };
        let sent = send_part(&self.bucket, &self.key, &self.upload_id, outgoing).await?;
        self.parts.lock().insert(part.number, (sent, length));
        Ok(())
    }

    async fn join(&self, whole: &Whole) -> Result<PutOutcome> {
        let parts: Vec<CompletedPart> = {
            let parts = self.parts.lock();
            let size_bytes = parts.values().map(|(_, length)| length).sum();
            check_whole(&self.key, whole, (size_bytes, parts.len()))?;
            parts.values().map(|(part, _)| part.clone()).collect()
        };
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let is_again = self.was_joined.swap(true, Ordering::AcqRel);
        let joined = complete_once(&self.bucket, &self.key, &self.upload_id, parts).await;
        let etag = match joined {
            // The answer of an earlier try may have got lost: then the object is there.
            Err(error) if is_again && error.is_not_found() => {
                let found = self.bucket.head_object(&self.key).await?;
                if found.size_bytes != whole.size_bytes {
                    return Err(error);
                }
                found.etag
            }
            joined => joined?,
        };
        self.is_over.store(true, Ordering::Release);
        let (size_bytes, md5_hex) = (whole.size_bytes, whole.md5_hex.clone());
        // The tag of an upload in parts is no MD5 of the contents; each part was compared.
        Ok(PutOutcome { size_bytes, md5_hex, etag, etag_is_md5: false })
    }

    async fn give_up(&self) -> Result<()> {
        if self.is_over.load(Ordering::Acquire) {
            return Ok(());
        }
        abort(&self.bucket, &self.key, &self.upload_id).await?;
        self.is_over.store(true, Ordering::Release);
        Ok(())
    }
}

impl Upload for PartsUpload {
    fn put_part(&self, part: Part) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.send(part))
    }

    fn finish<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(self.join(whole))
    }

    fn abort(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.give_up())
    }
}

impl Drop for PartsUpload {
    /// Aborts what nobody ended, if the runtime still runs. Nobody waits for it: what the store
    /// does not hear of is aborted when it is two days old.
    fn drop(&mut self) {
        if self.is_over.load(Ordering::Acquire) {
            return;
        }
        let (key, upload_id) = (self.key.clone(), self.upload_id.clone());
        let Ok(runtime) = Handle::try_current() else {
            debug!(key, upload_id, "unfinished upload stays until it is two days old");
            return;
        };
        let bucket = Arc::clone(&self.bucket);
        runtime.spawn(async move {
            if let Err(error) = abort(&bucket, &key, &upload_id).await {
                warn!(key, upload_id, "unfinished upload stays until it is two days old: {error}");
            }
        });
    }
}
