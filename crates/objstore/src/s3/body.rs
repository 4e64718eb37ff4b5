//! Bodies: sections of files on their way out, answers on their way in, none larger than agreed.
#![expect(
    clippy::disallowed_methods,
    reason = "files to upload are read outside the async threads"
)]

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, Length};
use bytes::{Bytes, BytesMut};
use md5::Md5;
use parking_lot::Mutex;

use crate::digest::{Md5Digest, md5_of_section};
use crate::error::Error;
use crate::store::Result;

/// Bytes that a file is read in while it is sent.
const SEND_STEP_BYTES: usize = 256 * 1024;
/// Most bytes that are set aside for an answer before any of it is there.
const RESERVE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A part of a local file.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) path: Arc<Path>,
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl Section {
    /// The whole file.
    pub(super) async fn of_file(key: &str, path: &Path) -> Result<Section> {
        let metadata = tokio::fs::metadata(path).await;
        let length = metadata.map_err(|error| unreadable(key, path, error))?.len();
        Ok(Section { path: Arc::from(path), offset: 0, length })
    }

    /// The MD5 of the section; `whole` takes the same bytes.
    pub(super) async fn md5(&self, key: &str, whole: Option<Arc<Mutex<Md5>>>) -> Result<Md5Digest> {
        let section = self.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            let file = File::open(&section.path)?;
            let mut whole = whole.as_ref().map(|it| it.lock());
            md5_of_section(&file, section.offset, section.length, whole.as_deref_mut())
        });
        match hashed.await {
            Ok(Ok(digest)) => Ok(digest),
            Ok(Err(error)) => Err(unreadable(key, &self.path, error)),
            Err(error) => Err(unreadable(key, &self.path, error)),
        }
    }

    /// The section as a body that is read while it is sent.
    pub(super) async fn stream(&self, key: &str) -> Result<ByteStream> {
        let builder = ByteStream::read_from()
            .path(&self.path)
            .offset(self.offset)
            .length(Length::Exact(self.length))
            .buffer_size(SEND_STEP_BYTES);
        builder.build().await.map_err(|error| unreadable(key, &self.path, error))
    }
}

fn unreadable(key: &str, path: &Path, error: impl std::error::Error) -> Error {
    let mut text = format!("{}: {error}", path.display());
    if let Some(source) = error.source() {
        text.push_str(&format!(": {source}"));
    }
    Error::Other { operation: "upload", key: key.to_owned(), cause: text.into() }
}

/// Checks that an answer holds the bytes that were asked for.
pub(super) fn check_range(
    key: &str,
    asked: &Range<u64>,
    content_range: Option<&str>,
    content_length: Option<i64>,
) -> Result<()> {
    let start = match content_range {
        Some(text) => first_byte(text),
        // A whole object: right where the range begins at 0 and the object ends within it.
        None => Some(0),
    };
    let fits = content_length
        .and_then(|it| u64::try_from(it).ok())
        .is_none_or(|length| length <= asked.end - asked.start);
    if start == Some(asked.start) && fits {
        return Ok(());
    }
    let cause = format!(
        "asked for bytes {}..{}, answered with Content-Range {content_range:?} and \
         {content_length:?} bytes",
        asked.start, asked.end
    );
    Err(Error::Other { operation: "get_range", key: key.to_owned(), cause: cause.into() })
}

/// The first number of `bytes 0-99/1000`.
fn first_byte(content_range: &str) -> Option<u64> {
    let (first, _) = content_range.strip_prefix("bytes ")?.split_once('-')?;
    first.trim().parse().ok()
}

/// Reads an answer.
pub(super) struct Reader<'a> {
    pub(super) operation: &'static str,
    pub(super) key: &'a str,
    pub(super) size_max: u64,
    pub(super) silence_max: Duration,
}

impl Reader<'_> {
    /// The whole body, which must be as long as was declared.
    pub(super) async fn read(&self, mut body: ByteStream, declared: Option<i64>) -> Result<Bytes> {
        let declared = declared.and_then(|it| u64::try_from(it).ok());
        if let Some(length) = declared.filter(|it| *it > self.size_max) {
            return Err(self.too_large(length));
        }
        let mut parts = BytesMut::new();
        while let Some(chunk) = self.next(&mut body).await? {
            let length = (parts.len() + chunk.len()) as u64;
            if length > self.size_max {
                return Err(self.too_large(length));
            }
            if parts.is_empty() {
                if declared == Some(length) {
                    // All of it in one piece: nothing to join.
                    return Ok(chunk);
                }
                let reserve = declared.unwrap_or(length).min(RESERVE_BYTES_MAX);
                parts.reserve(usize::try_from(reserve).unwrap_or(0));
            }
            parts.extend_from_slice(&chunk);
        }
        match declared {
            Some(length) if length != parts.len() as u64 => {
                Err(self.cut(format!("{} of {length} bytes", parts.len())))
            }
            _ => Ok(parts.freeze()),
        }
    }

    async fn next(&self, body: &mut ByteStream) -> Result<Option<Bytes>> {
        match tokio::time::timeout(self.silence_max, body.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
            Ok(Some(Err(error))) => Err(self.cut(error.to_string())),
            Err(_) => Err(self.cut(format!("nothing came for {:?}", self.silence_max))),
        }
    }

    fn too_large(&self, length: u64) -> Error {
        Error::invalid(self.key, format!("{length} bytes, at most {} expected", self.size_max))
    }

    fn cut(&self, how: String) -> Error {
        let cause = format!("the answer was cut: {how}").into();
        Error::Unavailable { operation: self.operation, key: self.key.to_owned(), cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_other_bytes_is_refused() {
        let check = |asked, range, length, good| {
            assert_eq!(
                check_range("k", &asked, range, length).is_ok(),
                good,
                "{asked:?} {range:?}"
            );
        };
        check(5..10, Some("bytes 5-9/100"), Some(5), true);
        check(5..10, Some("bytes 5-7/8"), Some(3), true);
        check(5..10, Some("bytes 0-4/100"), Some(5), false);
        check(5..10, Some("bytes 5-99/100"), Some(95), false);
        check(5..10, None, Some(100), false);
        check(5..10, Some("nonsense"), Some(5), false);
        check(0..10, None, Some(3), true);
        check(0..10, None, Some(11), false);
    }

    #[tokio::test]
    async fn bodies_are_bounded_and_whole() {
        let reader = |size_max| Reader {
            operation: "get",
            key: "k",
            size_max,
            silence_max: Duration::from_secs(1),
        };
        let body = || ByteStream::from_static(b"12345");
        assert_eq!(reader(5).read(body(), Some(5)).await.unwrap(), "12345");
        assert_eq!(reader(5).read(body(), None).await.unwrap(), "12345");
        assert_eq!(reader(0).read(ByteStream::from_static(b""), Some(0)).await.unwrap(), "");
        assert!(reader(5).read(body(), Some(6)).await.is_err());
        assert!(reader(6).read(body(), Some(6)).await.unwrap_err().is_transient());
        assert!(reader(4).read(body(), None).await.is_err());
        assert!(reader(9).read(body(), Some(i64::MAX)).await.is_err());
    }
}
