//! An object that grows in a temporary file, and gets its name when it is whole and durable.
#![expect(clippy::disallowed_methods, reason = "the one file that puts a bucket on a disk")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::{Shared, TEMPORARY, failure, make_directories};
use crate::error::Error;
use crate::store::{PutOutcome, Result};
use crate::upload::{Part, Upload, Whole, check_whole};

/// An upload, shared with the blocking work that goes on for it.
#[derive(Debug)]
pub(super) struct FileUpload {
    growing: Arc<Growing>,
}

/// The temporary file of an upload; removed with it unless it has become the object.
#[derive(Debug)]
struct Growing {
    shared: Arc<Shared>,
    key: String,
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Numbers of the parts that are in the file.
    parts: BTreeSet<u32>,
    /// Set when the file has its name.
    outcome: Option<PutOutcome>,
    is_aborted: bool,
}

/// Creates the temporary file.
pub(super) fn begin(shared: Arc<Shared>, key: &str) -> Result<FileUpload> {
    let path = shared.path(key)?;
    let directory = shared.root.join(TEMPORARY);
    let created = make_directories(&directory).and_then(|()| shared.create_temporary(&directory));
    let (temporary, file) = created.map_err(|error| Error::Other {
        operation: "upload",
        key: key.to_owned(),
        cause: error.into(),
    })?;
    let (key, progress) = (key.to_owned(), Mutex::default());
    let growing = Growing { shared, key, path, temporary, file, progress };
    Ok(FileUpload { growing: Arc::new(growing) })
}

impl Growing {
    fn put_part(&self, part: &Part) -> Result<()> {
        let written = self.file.write_all_at(&part.body, part.offset_bytes);
        written.map_err(|error| failure("upload", &self.key, error))?;
        self.progress.lock().parts.insert(part.number);
        Ok(())
    }

    fn finish(&self, whole: &Whole) -> Result<PutOutcome> {
        let mut progress = self.progress.lock();
        if let Some(outcome) = &progress.outcome {
            return Ok(outcome.clone());
        }
        if progress.is_aborted {
            let cause = "the upload was aborted".into();
            return Err(Error::Other { operation: "upload", key: self.key.clone(), cause });
        }
        let fail = |error| failure("upload", &self.key, error);
        let size_bytes = self.file.metadata().map_err(fail)?.len();
        check_whole(&self.key, whole, (size_bytes, progress.parts.len()))?;
        self.file.sync_all().map_err(fail)?;
        let placed = self.shared.place(&self.temporary, &self.path, false);
        placed.map_err(|error| match error.kind() {
            // What is missing or in the way is not the object.
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => {
                Error::Other { operation: "upload", key: self.key.clone(), cause: error.into() }
            }
            _ => failure("upload", &self.key, error),
        })?;
        let md5_hex = whole.md5_hex.clone();
        let outcome = PutOutcome { size_bytes, md5_hex, etag: None, etag_is_md5: false };
        Ok(progress.outcome.insert(outcome).clone())
    }

    fn abort(&self) -> Result<()> {
        let mut progress = self.progress.lock();
        if progress.outcome.is_some() || progress.is_aborted {
            return Ok(());
        }
        match fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failure("abort_uploads", &self.key, error))
            }
            _ => {
                progress.is_aborted = true;
                Ok(())
            }
        }
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        // What cannot be removed now is removed when it is old.
        let _ = self.abort();
    }
}

impl FileUpload {
    /// Runs blocking work where it may block.
    fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Growing) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T>> {
        let growing = Arc::clone(&self.growing);
        Box::pin(async move {
            match tokio::task::spawn_blocking(move || work(&growing)).await {
                Ok(result) => result,
                Err(error) => {
                    let key = self.growing.key.clone();
                    Err(Error::Other { operation, key, cause: error.into() })
                }
            }
        })
    }
}

impl Upload for FileUpload {
    fn put_part(&self, part: Part) -> BoxFuture<'_, Result<()>> {
        self.run("upload", move |it| it.put_part(&part))
    }

    fn finish<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<PutOutcome>> {
        let whole = whole.clone();
        self.run("upload", move |it| it.finish(&whole))
    }

    fn abort(&self) -> BoxFuture<'_, Result<()>> {
        self.run("abort_uploads", Growing::abort)
    }
}
