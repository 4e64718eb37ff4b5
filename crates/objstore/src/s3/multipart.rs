//! Large files in parts: a few at once, read from the disk while they are sent.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures_util::stream::{self, Stream, TryStreamExt as _};
use md5::{Digest as _, Md5};
use parking_lot::Mutex;
use tracing::warn;

use super::body::Section;
use super::{Bucket, is_md5_text, unquoted};
use crate::digest::{Md5Digest, hex};
use crate::error::Error;
use crate::key::check_prefix;
use crate::operation::Operation;
use crate::store::{PutOutcome, Result};

/// Parts in flight.
const PARTS_PARALLEL: usize = 4;
/// What S3 allows.
const PARTS_MAX: u64 = 10_000;

/// A part, hashed and not sent yet.
struct Part {
    number: i32,
    section: Section,
    digest: Md5Digest,
}

/// Uploads a file in parts; on failure nothing is left behind, if the store still answers.
pub(super) async fn upload(store: &Bucket, key: &str, whole: Section) -> Result<PutOutcome> {
    let size_bytes = whole.length;
    let retrier = &store.retrier;
    let upload_id = retrier.run(Operation::Upload, |_| create(store, key)).await?;
    let md5 = Arc::new(Mutex::new(Md5::new()));
    let parts = hashed_parts(store, key, whole, Arc::clone(&md5))
        .map_ok(|part| send_with_retries(store, key, &upload_id, part))
        .try_buffer_unordered(PARTS_PARALLEL)
        .try_collect::<Vec<CompletedPart>>();
    let finished = match parts.await {
        Ok(parts) => complete(store, key, &upload_id, (parts, size_bytes)).await,
        Err(error) => Err(error),
    };
    match finished {
        Ok(etag) => {
            let md5_hex = hex(&std::mem::take(&mut *md5.lock()).finalize());
            // The tag of an upload in parts is no MD5 of the contents; each part was compared.
            Ok(PutOutcome { size_bytes, md5_hex, etag, etag_is_md5: false })
        }
        Err(error) => {
            if let Err(abort_error) = abort(store, key, &upload_id).await {
                warn!(
                    key,
                    upload_id, "unfinished upload stays until it is two days old: {abort_error}"
                );
            }
            Err(error)
        }
    }
}

/// The parts of a file in order, each hashed when it is asked for.
fn hashed_parts<'a>(
    store: &Bucket,
    key: &'a str,
    whole: Section,
    md5: Arc<Mutex<Md5>>,
) -> impl Stream<Item = Result<Part>> + 'a {
    let part_bytes = store.config.part_bytes.max(whole.length.div_ceil(PARTS_MAX));
    stream::try_unfold((whole, 1), move |(rest, number)| {
        let md5 = Arc::clone(&md5);
        async move {
            if rest.length == 0 {
                return Ok(None);
            }
            let length = rest.length.min(part_bytes);
            let section = Section { length, ..rest.clone() };
            let digest = section.md5(key, Some(md5)).await?;
            let (offset, left) = (rest.offset + length, rest.length - length);
            let next = Section { path: rest.path, offset, length: left };
            Ok(Some((Part { number, section, digest }, (next, number + 1))))
        }
    })
}

pub(super) async fn create(store: &Bucket, key: &str) -> Result<String> {
    let _permit = store.permit().await;
    let metadata = Some(&store.config.user_metadata).filter(|it| !it.is_empty());
    let request = store
        .client
        .create_multipart_upload()
        .bucket(&store.config.bucket)
        .key(key)
        .set_metadata(metadata.map(|it| it.clone().into_iter().collect()))
        .set_server_side_encryption(store.encryption.kind.clone())
        .set_ssekms_key_id(store.encryption.kms_key_id.clone())
        .set_ssekms_encryption_context(store.encryption.kms_context.clone())
        .set_sse_customer_algorithm(store.encryption.customer_algorithm())
        .set_sse_customer_key(store.encryption.customer_key())
        .set_sse_customer_key_md5(store.encryption.customer_key_md5());
    let answer = store.send("upload", key, 0, request.send()).await?;
    answer.upload_id.ok_or_else(|| Error::Other {
        operation: "upload",
        key: key.to_owned(),
        cause: "the store began an upload in parts without naming it".into(),
    })
}

async fn send_with_retries(
    store: &Bucket,
    key: &str,
    upload_id: &str,
    part: Part,
) -> Result<CompletedPart> {
    let part = &part;
    store.retrier.run(Operation::Upload, move |_| send(store, key, upload_id, part)).await
}

async fn send(store: &Bucket, key: &str, upload_id: &str, part: &Part) -> Result<CompletedPart> {
    let outgoing = Outgoing {
        number: part.number,
        length: part.section.length,
        digest: part.digest,
        body: part.section.stream(key).await?,
    };
    send_part(store, key, upload_id, outgoing).await
}

/// A part on its way.
pub(super) struct Outgoing {
    pub(super) number: i32,
    pub(super) length: u64,
    pub(super) digest: Md5Digest,
    pub(super) body: ByteStream,
}

/// Sends a part once, and compares its tag where that is defined to be its MD5.
pub(super) async fn send_part(
    store: &Bucket,
    key: &str,
    upload_id: &str,
    part: Outgoing,
) -> Result<CompletedPart> {
    let _permit = store.permit().await;
    let Outgoing { number, length, digest, body } = part;
    let request = store
        .client
        .upload_part()
        .bucket(&store.config.bucket)
        .key(key)
        .upload_id(upload_id)
        .part_number(number)
        .content_length(i64::try_from(length).unwrap_or(i64::MAX))
        .body(body)
        .set_content_md5(store.content_md5(digest))
        .set_sse_customer_algorithm(store.encryption.customer_algorithm())
        .set_sse_customer_key(store.encryption.customer_key())
        .set_sse_customer_key_md5(store.encryption.customer_key_md5());
    let answer = store.send("upload", key, length, request.send()).await?;
    let etag = answer.e_tag.as_deref().map(unquoted);
    let sent = hex(&digest);
    if store.encryption.keeps_md5_tags()
        && let Some(stored) = etag.filter(|it| is_md5_text(it) && *it != sent)
    {
        let cause = format!("part {number} arrived as {stored}, sent was {sent}").into();
        return Err(Error::Unavailable { operation: "upload", key: key.to_owned(), cause });
    }
    Ok(CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag).build())
}

/// Joins the parts; answers the entity tag.
async fn complete(
    store: &Bucket,
    key: &str,
    upload_id: &str,
    (mut parts, size_bytes): (Vec<CompletedPart>, u64),
) -> Result<Option<String>> {
    parts.sort_by_key(CompletedPart::part_number);
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let parts = &parts;
    let call = move |tried| async move {
        match complete_once(store, key, upload_id, parts.clone()).await {
            // The answer of an earlier try may have got lost: then the object is there.
            Err(error) if tried > 1 && error.is_not_found() => {
                let found = store.head_object(key).await?;
                if found.size_bytes == size_bytes { Ok(found.etag) } else { Err(error) }
            }
            done => done,
        }
    };
    store.retrier.run(Operation::Upload, call).await
}

pub(super) async fn complete_once(
    store: &Bucket,
    key: &str,
    upload_id: &str,
    parts: CompletedMultipartUpload,
) -> Result<Option<String>> {
    let _permit = store.permit().await;
    let request = store
        .client
        .complete_multipart_upload()
        .bucket(&store.config.bucket)
        .key(key)
        .upload_id(upload_id)
        .multipart_upload(parts)
        .set_sse_customer_algorithm(store.encryption.customer_algorithm())
        .set_sse_customer_key(store.encryption.customer_key())
        .set_sse_customer_key_md5(store.encryption.customer_key_md5());
    let answer = store.send("upload", key, 0, request.send()).await?;
    Ok(answer.e_tag.as_deref().map(unquoted))
}

pub(super) async fn abort(store: &Bucket, key: &str, upload_id: &str) -> Result<()> {
    let _permit = store.permit().await;
    let request = store
        .client
        .abort_multipart_upload()
        .bucket(&store.config.bucket)
        .key(key)
        .upload_id(upload_id);
    match store.send("abort_uploads", key, 0, request.send()).await {
        // Already finished or aborted.
        Err(error) if error.is_not_found() => Ok(()),
        done => done.map(drop),
    }
}

/// Aborts the uploads under a prefix that were begun before a time and never finished.
pub(super) async fn abort_stale(store: &Bucket, prefix: &str, before_ms: i64) -> Result<usize> {
    check_prefix(prefix)?;
    let mut aborted = 0;
    let mut markers: (Option<String>, Option<String>) = (None, None);
    loop {
        let page = {
            let _permit = store.permit().await;
            let request = store
                .client
                .list_multipart_uploads()
                .bucket(&store.config.bucket)
                .prefix(prefix)
                .set_key_marker(markers.0.take())
                .set_upload_id_marker(markers.1.take());
            store.send("abort_uploads", prefix, 0, request.send()).await?
        };
        for upload in page.uploads() {
            let begun_ms = upload.initiated().and_then(|it| it.to_millis().ok());
            if let (Some(key), Some(id)) = (upload.key(), upload.upload_id())
                && key.starts_with(prefix)
                && begun_ms.is_some_and(|it| it < before_ms)
            {
                abort(store, key, id).await?;
                aborted += 1;
            }
        }
        if page.is_truncated() != Some(true) || page.next_key_marker().is_none() {
            return Ok(aborted);
        }
        markers = (page.next_key_marker, page.next_upload_id_marker);
    }
}
