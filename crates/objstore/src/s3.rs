//! A bucket behind an S3 API, by the AWS SDK.
//!
//! The SDK signs, sends and parses; it neither retries nor times out here. Retries are the
//! decorator's (and, for the parts of a large file, `multipart`'s), so that every one is counted.

mod body;
mod client;
mod failure;
mod multipart;
mod parts;

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::Object;
use aws_smithy_types::base64;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::S3Config;
use crate::digest::{Md5Digest, hex, md5};
use crate::environment::Environment;
use crate::error::Error;
use crate::key::{check_key, check_prefix};
use crate::metered::Metrics;
use crate::retry::{Retrier, RetryPolicy};
use crate::s3::body::Section;
use crate::s3::client::EncryptionHeaders;
use crate::store::{ListPage, ObjectMeta, ObjectStore, PutOutcome, Result};
use crate::upload::Upload;

/// The slowest upload that is waited for; below it a request counts as stuck.
const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 64 * 1024;
/// Requests in flight where the configuration has no limit.
const REQUESTS_MAX: usize = 1024;
/// The largest object of a single request.
const SINGLE_PUT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// A bucket behind an S3 API.
#[derive(Debug)]
pub struct S3Store {
    bucket: Arc<Bucket>,
}

/// What the store shares with its uploads.
#[derive(Debug)]
struct Bucket {
    client: Client,
    config: S3Config,
    encryption: EncryptionHeaders,
    /// For the parts of large files.
    retrier: Retrier,
    requests: Semaphore,
}

impl S3Store {
    /// A client for the configured bucket; nothing is asked of the server yet.
    ///
    /// # Errors
    /// [`Error::Config`] when a certificate cannot be read.
    pub async fn open(
        config: &S3Config,
        policy: RetryPolicy,
        environment: Environment,
        metrics: &Metrics,
    ) -> Result<S3Store> {
        let requests = config.http.connections_max.unwrap_or(REQUESTS_MAX);
        let bucket = Arc::new(Bucket {
            client: client::connect(config).await?,
            encryption: EncryptionHeaders::new(&config.encryption),
            retrier: Retrier::new(policy, environment, metrics.retries(&config.bucket)),
            requests: Semaphore::new(requests.min(Semaphore::MAX_PERMITS)),
            config: config.clone(),
        });
        Ok(S3Store { bucket })
    }
}

impl Bucket {
    /// Waits until another request may be in flight; held until its answer was read.
    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.requests.acquire().await.ok()
    }

    /// Sends a request with a body of `body_bytes` and waits for the head of its answer.
    async fn send<T, E>(
        &self,
        operation: &'static str,
        key: &str,
        body_bytes: u64,
        request: impl Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let sending = Duration::from_secs(body_bytes / UPLOAD_BYTES_PER_SECOND_MIN);
        let patience = self.config.http.response_timeout.saturating_add(sending);
        // The SDK's futures are large.
        match tokio::time::timeout(patience, Box::pin(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failure::describe(operation, key, &self.config, error)),
            Err(_) => Err(failure::silence(operation, key, &self.config, patience)),
        }
    }

    /// `Content-MD5`, where it is to be sent.
    fn content_md5(&self, digest: Md5Digest) -> Option<String> {
        self.config.send_content_md5.then(|| base64::encode(digest))
    }

    async fn put_body(
        &self,
        key: &str,
        body: ByteStream,
        what: (u64, Md5Digest),
        only_if_absent: bool,
    ) -> Result<PutOutcome> {
        let (size_bytes, digest) = what;
        let _permit = self.permit().await;
        let metadata = Some(&self.config.user_metadata).filter(|it| !it.is_empty());
        let request = self
            .client
            .put_object()
            .bucket(&self.config.bucket)
            .key(key)
            .content_length(i64::try_from(size_bytes).unwrap_or(i64::MAX))
            .body(body)
            .set_content_md5(self.content_md5(digest))
            .set_if_none_match(only_if_absent.then(|| "*".to_owned()))
            .set_metadata(metadata.map(|it| it.clone().into_iter().collect()))
            .set_server_side_encryption(self.encryption.kind.clone())
            .set_ssekms_key_id(self.encryption.kms_key_id.clone())
            .set_ssekms_encryption_context(self.encryption.kms_context.clone())
            .set_sse_customer_algorithm(self.encryption.customer_algorithm())
            .set_sse_customer_key(self.encryption.customer_key())
            .set_sse_customer_key_md5(self.encryption.customer_key_md5());
        let answer = self.send("upload", key, size_bytes, request.send()).await?;
        let etag = answer.e_tag.as_deref().map(unquoted);
        let is_md5 = self.encryption.keeps_md5_tags() && etag.as_deref().is_some_and(is_md5_text);
        Ok(PutOutcome { size_bytes, md5_hex: hex(&digest), etag, etag_is_md5: is_md5 })
    }

    async fn put_bytes(&self, key: &str, body: Bytes, only_if_absent: bool) -> Result<PutOutcome> {
        check_key(key)?;
        let what = (body.len() as u64, md5(&body));
        self.put_body(key, ByteStream::from(body), what, only_if_absent).await
    }

    async fn put_path(&self, key: &str, path: &Path) -> Result<PutOutcome> {
        check_key(key)?;
        let whole = Section::of_file(key, path).await?;
        if whole.length > self.config.part_bytes && !self.config.disable_multipart {
            return multipart::upload(self, key, whole).await;
        }
        if whole.length > SINGLE_PUT_BYTES_MAX {
            let reason = format!(
                "{} bytes are more than one request takes, and disable_multipart is set",
                whole.length
            );
            return Err(Error::invalid(key, reason));
        }
        let digest = whole.md5(key, None).await?;
        let what = (whole.length, digest);
        self.put_body(key, whole.stream(key).await?, what, false).await
    }

    async fn fetch(&self, key: &str, range: Option<Range<u64>>, size_max: u64) -> Result<Bytes> {
        check_key(key)?;
        let operation = if range.is_some() { "get_range" } else { "get" };
        let header = match &range {
            Some(range) if range.start >= range.end => {
                let reason = format!("no bytes {}..{}", range.start, range.end);
                return Err(Error::invalid(key, reason));
            }
            // Servers count in 63 bits.
            Some(range) if range.end > i64::MAX.unsigned_abs() => {
                Some(format!("bytes={}-", range.start))
            }
            Some(range) => Some(format!("bytes={}-{}", range.start, range.end - 1)),
            None => None,
        };
        let _permit = self.permit().await;
        let request = self
            .client
            .get_object()
            .bucket(&self.config.bucket)
            .key(key)
            .set_range(header)
            .set_sse_customer_algorithm(self.encryption.customer_algorithm())
            .set_sse_customer_key(self.encryption.customer_key())
            .set_sse_customer_key_md5(self.encryption.customer_key_md5());
        let answer = self.send(operation, key, 0, request.send()).await?;
        if let Some(range) = range {
            body::check_range(key, &range, answer.content_range(), answer.content_length())?;
        }
        let reader = body::Reader {
            operation,
            key,
            size_max,
            silence_max: self.config.http.response_timeout,
        };
        reader.read(answer.body, answer.content_length).await
    }

    async fn list_page(
        &self,
        prefix: &str,
        delimiter: bool,
        page: Option<String>,
    ) -> Result<ListPage> {
        check_prefix(prefix)?;
        let delimiter = delimiter.then(|| "/".to_owned());
        let _permit = self.permit().await;
        if self.config.list_version_1 {
            let request = self
                .client
                .list_objects()
                .bucket(&self.config.bucket)
                .prefix(prefix)
                .set_delimiter(delimiter)
                .set_marker(page);
            let answer = self.send("iter", prefix, 0, request.send()).await?;
            let prefixes = answer.common_prefixes.unwrap_or_default();
            let mut page =
                page_of(answer.contents, prefixes.into_iter().filter_map(|it| it.prefix));
            if answer.is_truncated == Some(true) {
                // Without a delimiter a version 1 listing has no marker but its last key.
                let last = page.objects.last().map(|it| it.key.clone());
                let last = last.max(page.prefixes.last().cloned());
                page.next = answer.next_marker.filter(|it| !it.is_empty()).or(last);
            }
            return Ok(page);
        }
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.config.bucket)
            .prefix(prefix)
            .set_delimiter(delimiter)
            .set_continuation_token(page);
        let answer = self.send("iter", prefix, 0, request.send()).await?;
        let prefixes = answer.common_prefixes.unwrap_or_default();
        let mut page = page_of(answer.contents, prefixes.into_iter().filter_map(|it| it.prefix));
        if answer.is_truncated == Some(true) {
            page.next = answer.next_continuation_token;
        }
        Ok(page)
    }

    async fn delete_object(&self, key: &str) -> Result<()> {
        check_key(key)?;
        let _permit = self.permit().await;
        let request = self.client.delete_object().bucket(&self.config.bucket).key(key);
        match self.send("delete", key, 0, request.send()).await {
            Err(error) if error.is_not_found() => Ok(()),
            done => done.map(drop),
        }
    }

    async fn head_object(&self, key: &str) -> Result<ObjectMeta> {
        check_key(key)?;
        let _permit = self.permit().await;
        let request = self
            .client
            .head_object()
            .bucket(&self.config.bucket)
            .key(key)
            .set_sse_customer_algorithm(self.encryption.customer_algorithm())
            .set_sse_customer_key(self.encryption.customer_key())
            .set_sse_customer_key_md5(self.encryption.customer_key_md5());
        let answer = self.send("attributes", key, 0, request.send()).await?;
        Ok(ObjectMeta {
            key: key.to_owned(),
            size_bytes: answer.content_length.map_or(0, unsigned),
            modified_ms: answer.last_modified.and_then(|it| it.to_millis().ok()).unwrap_or(0),
            etag: answer.e_tag.as_deref().map(unquoted),
        })
    }
}

/// Objects and prefixes of an answer; placeholders of directories, which end in `/`, are no
/// objects.
fn page_of(objects: Option<Vec<Object>>, prefixes: impl Iterator<Item = String>) -> ListPage {
    let objects = objects.unwrap_or_default().into_iter().filter_map(|it| {
        Some(ObjectMeta {
            size_bytes: it.size.map_or(0, unsigned),
            modified_ms: it.last_modified.and_then(|it| it.to_millis().ok()).unwrap_or(0),
            etag: it.e_tag.as_deref().map(unquoted),
            key: it.key.filter(|it| !it.ends_with('/'))?,
        })
    });
    let mut page =
        ListPage { objects: objects.collect(), prefixes: prefixes.collect(), next: None };
    // Some servers sort by another collation than bytes.
    page.objects.sort_by(|a, b| a.key.cmp(&b.key));
    page.prefixes.sort();
    page
}

fn unsigned(size: i64) -> u64 {
    u64::try_from(size).unwrap_or(0)
}

fn unquoted(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

fn is_md5_text(etag: &str) -> bool {
    etag.len() == 32 && etag.bytes().all(|it| it.is_ascii_hexdigit())
}

impl ObjectStore for S3Store {
    fn name(&self) -> &str {
        &self.bucket.config.bucket
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        delimiter: bool,
        page: Option<String>,
    ) -> BoxFuture<'a, Result<ListPage>> {
        Box::pin(self.bucket.list_page(prefix, delimiter, page))
    }

    fn get<'a>(&'a self, key: &'a str, size_max_bytes: u64) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(self.bucket.fetch(key, None, size_max_bytes))
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        let size_max = range.end.saturating_sub(range.start);
        Box::pin(self.bucket.fetch(key, Some(range), size_max))
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(self.bucket.put_bytes(key, body, false))
    }

    fn put_if_absent<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(self.bucket.put_bytes(key, body, true))
    }

    fn put_file<'a>(&'a self, key: &'a str, path: &'a Path) -> BoxFuture<'a, Result<PutOutcome>> {
        Box::pin(self.bucket.put_path(key, path))
    }

    fn begin_upload<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        Box::pin(parts::begin(Arc::clone(&self.bucket), key))
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.bucket.delete_object(key))
    }

    fn head<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectMeta>> {
        Box::pin(self.bucket.head_object(key))
    }

    fn abort_stale_uploads<'a>(
        &'a self,
        prefix: &'a str,
        before_ms: i64,
    ) -> BoxFuture<'a, Result<usize>> {
        Box::pin(multipart::abort_stale(&self.bucket, prefix, before_ms))
    }
}
