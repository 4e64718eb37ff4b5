//! Streaming uploads: an object that grows while it is sent, in parts, with bounded memory.
//!
//! A store implements [`Upload`], whose calls may be repeated, so that decorators retry, count and
//! break each part on its own. [`ObjectWriter`] is what callers use: it cuts bytes into parts,
//! hashes them, sends some parts while the next one is filled, and makes a plain write of an object
//! that fits into one part.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use md5::{Digest as _, Md5};
use tokio::task::{JoinError, JoinSet};

use crate::digest::hex;
use crate::error::Error;
use crate::store::{PutOutcome, Result, SharedStore};

/// Bytes of a part; the last one is smaller. S3 takes none below 5 MiB but the last.
pub const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts that are sent while the next one is filled.
pub const PARTS_IN_FLIGHT_MAX: usize = 3;
/// What S3 allows; with parts of [`PART_BYTES`] an object has at most 78 GiB.
const PARTS_MAX: u32 = 10_000;

/// A part of an object.
#[derive(Clone, Debug)]
pub struct Part {
    /// From 1, without gaps.
    pub number: u32,
    /// Where in the object it begins.
    pub offset_bytes: u64,
    /// Its bytes.
    pub body: Bytes,
}

/// What all parts of an object make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// How many parts there are.
    pub parts: u32,
    /// Bytes of all parts.
    pub size_bytes: u64,
    /// MD5 of all bytes, in hex.
    pub md5_hex: String,
}

/// An object that is sent in parts; nothing of it is visible before [`finish`](Upload::finish).
///
/// Each call may be repeated after a failure. One that is dropped unfinished is aborted as far as
/// that is possible; what stays is found by
/// [`abort_stale_uploads`](crate::ObjectStore::abort_stale_uploads).
pub trait Upload: Send + Sync + fmt::Debug {
    /// Stores a part, in place of one of the same number. Parts may come in any order, several at
    /// once; all but the last have the same size.
    fn put_part(&self, part: Part) -> BoxFuture<'_, Result<()>>;

    /// Joins the parts into the object, replacing one of the same key.
    fn finish<'a>(&'a self, whole: &'a Whole) -> BoxFuture<'a, Result<PutOutcome>>;

    /// Gives the parts up. An upload that is finished stays.
    fn abort(&self) -> BoxFuture<'_, Result<()>>;
}

/// Writes an object as its bytes come. At most one part and [`PARTS_IN_FLIGHT_MAX`] more are in
/// memory; parts go on being sent while the caller makes the next bytes.
#[derive(Debug)]
pub struct ObjectWriter {
    store: SharedStore,
    key: String,
    part_bytes: usize,
    buffer: BytesMut,
    md5: Md5,
    /// Bytes that are in parts.
    sent_bytes: u64,
    parts: u32,
    upload: Option<Arc<dyn Upload>>,
    /// The parts on their way, aborted when the writer is dropped.
    in_flight: JoinSet<Result<()>>,
    is_failed: bool,
}

impl ObjectWriter {
    /// A writer of an object; nothing is asked of the store before there is a part.
    pub fn new(store: SharedStore, key: &str) -> ObjectWriter {
        ObjectWriter {
            store,
            key: key.to_owned(),
            part_bytes: PART_BYTES,
            buffer: BytesMut::new(),
            md5: Md5::new(),
            sent_bytes: 0,
            parts: 0,
            upload: None,
            in_flight: JoinSet::new(),
            is_failed: false,
        }
    }

    /// The same with parts of another size.
    #[must_use]
    pub fn with_part_bytes(mut self, part_bytes: usize) -> ObjectWriter {
        self.part_bytes = part_bytes.max(1);
        self
    }

    /// The object's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Bytes written so far.
    pub fn size_bytes(&self) -> u64 {
        self.sent_bytes + self.buffer.len() as u64
    }

    /// Appends bytes. Waits while enough parts are on their way.
    ///
    /// # Errors
    /// When the store fails; then the object cannot be finished any more.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        self.check()?;
        self.md5.update(&bytes);
        while !bytes.is_empty() {
            // A full part is kept until more comes: an object of one part is a plain write.
            if self.buffer.len() == self.part_bytes {
                let body = std::mem::take(&mut self.buffer).freeze();
                self.send(body).await?;
            }
            if self.buffer.is_empty() && bytes.len() > self.part_bytes {
                let body = bytes.split_to(self.part_bytes);
                self.send(body).await?;
                continue;
            }
            let taken = bytes.len().min(self.part_bytes - self.buffer.len());
            self.buffer.extend_from_slice(&bytes.split_to(taken));
        }
        Ok(())
    }

    /// Sends the rest and makes the object visible.
    ///
    /// # Errors
    /// When the store fails, and when its entity tag shows other bytes than were sent; the parts
    /// are given up then.
    pub async fn finish(mut self) -> Result<PutOutcome> {
        let finished = self.try_finish().await;
        if finished.is_err() {
            // The first failure is the one to tell; what stays is cleaned up when it is old.
            let _ = self.give_up().await;
        }
        finished
    }

    /// Gives the object up: nothing of it becomes visible.
    ///
    /// # Errors
    /// When the store fails; the parts stay until they are cleaned up.
    pub async fn abort(mut self) -> Result<()> {
        self.give_up().await
    }

    async fn try_finish(&mut self) -> Result<PutOutcome> {
        self.check()?;
        let rest = std::mem::take(&mut self.buffer).freeze();
        if self.upload.is_none() {
            let outcome = self.store.put(&self.key, rest).await?;
            return self.compared(outcome);
        }
        if !rest.is_empty() {
            self.send(rest).await?;
        }
        while !self.in_flight.is_empty() {
            self.join_one().await?;
        }
        let md5_hex = hex(&std::mem::take(&mut self.md5).finalize());
        let whole = Whole { parts: self.parts, size_bytes: self.sent_bytes, md5_hex };
        match &self.upload {
            Some(upload) => {
                let outcome = upload.finish(&whole).await?;
                self.compared(outcome)
            }
            None => Err(self.failure("its upload is gone")),
        }
    }

    async fn give_up(&mut self) -> Result<()> {
        self.in_flight.shutdown().await;
        match self.upload.take() {
            Some(upload) => upload.abort().await,
            None => Ok(()),
        }
    }

    /// Begins to send a part, once few enough are on their way.
    async fn send(&mut self, body: Bytes) -> Result<()> {
        if self.parts == PARTS_MAX {
            self.is_failed = true;
            let size_bytes = self.size_bytes();
            let reason = format!("more than {size_bytes} bytes do not fit into {PARTS_MAX} parts");
            return Err(Error::invalid(&self.key, reason));
        }
        let upload = match &self.upload {
            Some(upload) => Arc::clone(upload),
            None => {
                let begun = self.store.begin_upload(&self.key).await;
                let begun = begun.inspect_err(|_| self.is_failed = true)?;
                Arc::clone(self.upload.insert(Arc::from(begun)))
            }
        };
        while self.in_flight.len() >= PARTS_IN_FLIGHT_MAX {
            self.join_one().await?;
        }
        self.parts += 1;
        let part = Part { number: self.parts, offset_bytes: self.sent_bytes, body };
        self.sent_bytes += part.body.len() as u64;
        // A task of the writer's own, which ends with it: a future that waits in here would only
        // go on while the caller waits too.
        self.in_flight.spawn(async move { upload.put_part(part).await });
        Ok(())
    }

    async fn join_one(&mut self) -> Result<()> {
        let sent = match self.in_flight.join_next().await {
            None => return Ok(()),
            Some(Ok(sent)) => sent,
            Some(Err(error)) => Err(self.lost(error)),
        };
        sent.inspect_err(|_| self.is_failed = true)
    }

    fn check(&self) -> Result<()> {
        match self.is_failed {
            true => Err(self.failure("an earlier part of it was not stored")),
            false => Ok(()),
        }
    }

    fn compared(&self, outcome: PutOutcome) -> Result<PutOutcome> {
        match &outcome.etag {
            Some(etag) if outcome.etag_is_md5 && !etag.eq_ignore_ascii_case(&outcome.md5_hex) => {
                let cause = format!("it arrived as {etag}, sent was {}", outcome.md5_hex);
                Err(Error::Unavailable {
                    operation: "upload",
                    key: self.key.clone(),
                    cause: cause.into(),
                })
            }
            _ => Ok(outcome),
        }
    }

    fn lost(&self, error: JoinError) -> Error {
        self.failure(&format!("the task that sent a part ended: {error}"))
    }

    fn failure(&self, cause: &str) -> Error {
        Error::Other { operation: "upload", key: self.key.clone(), cause: cause.into() }
    }
}

/// Checks that what a store has is what was sent: bytes and number of parts.
pub(crate) fn check_whole(key: &str, whole: &Whole, found: (u64, usize)) -> Result<()> {
    let (size_bytes, parts) = found;
    if size_bytes == whole.size_bytes && parts == usize::try_from(whole.parts).unwrap_or(0) {
        return Ok(());
    }
    let cause = format!(
        "{parts} parts of {size_bytes} bytes are there, {} of {} bytes were sent",
        whole.parts, whole.size_bytes
    );
    Err(Error::Other { operation: "upload", key: key.to_owned(), cause: cause.into() })
}
