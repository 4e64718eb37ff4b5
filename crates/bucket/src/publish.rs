//! A block that is written straight into the bucket, and becomes visible when all of it is there.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use model::BlockId;
use objstore::{ObjectStore, SharedStore};
use tokio::runtime::Handle;
use tracing::warn;
use tsdb_core::block::{INDEX_FILE, META_FILE, Meta};

use crate::delete::delete;
use crate::error::{Error, Result};
use crate::layout;
use crate::remote::RemoteSink;
use crate::upload::{fill_files, rfc3339, send_meta, verify_listed};
use crate::view::fetch_meta;

/// Objects that are deleted at once.
const PARALLEL: usize = 16;

/// What the beginning of a block led to.
#[derive(Debug)]
pub enum Begun {
    /// It is in the bucket already, whole: a job that ran before made it.
    Visible(Box<Meta>),
    /// It is to be written.
    Draft(Draft),
}

/// A block that is being written and that nobody sees yet.
#[derive(Debug)]
pub struct Draft {
    store: SharedStore,
    id: BlockId,
    sink: RemoteSink,
}

impl Draft {
    /// Begins a block, unless it is visible already. A meta that is damaged is replaced, like all
    /// other files.
    ///
    /// # Errors
    /// When the bucket fails; [`Error::Incomplete`] when the block is visible and not whole.
    pub async fn begin(store: &SharedStore, id: BlockId, runtime: Handle) -> Result<Begun> {
        match crate::upload::verify(&**store, id).await {
            Ok(Some(meta)) => return Ok(Begun::Visible(Box::new(meta))),
            Ok(None) => {}
            Err(Error::Corrupt { key, damage }) => {
                warn!("replacing corrupt object {key}: {damage}");
                store.delete(&key).await?;
            }
            Err(error) => return Err(error),
        }
        let sink = RemoteSink::new(Arc::clone(store), id, runtime);
        Ok(Begun::Draft(Draft { store: Arc::clone(store), id, sink }))
    }

    /// The block.
    pub fn id(&self) -> BlockId {
        self.id
    }

    /// Where its files go; clones are the same sink.
    pub fn sink(&self) -> &RemoteSink {
        &self.sink
    }

    /// Makes the block visible: compares every file with a new listing (size, and the entity tag
    /// that the store answered), takes away what an earlier try left beside them, marks included,
    /// fills the lists of files and the upload time, and writes `meta.json` last. Answers the meta
    /// as it is in the bucket. When anything fails, what was written is removed.
    ///
    /// # Errors
    /// When the bucket fails; [`Error::Unverified`] when a file is not there as it was sent;
    /// [`Error::Unfit`] for a meta of another block, one without external labels, and a block
    /// without an index or with a file that was not finished.
    pub async fn publish(self, meta: Meta, now_ms: i64) -> Result<Meta> {
        match self.try_publish(meta, now_ms).await {
            Ok(meta) => Ok(meta),
            Err(error) => {
                if let Err(left) = delete(&*self.store, self.id).await {
                    let id = self.id;
                    warn!(block = %id, "what was written of it stays for the clean-up: {left}");
                }
                Err(error)
            }
        }
    }

    /// Gives the block up and removes what was written; answers how many objects there were.
    ///
    /// # Errors
    /// When the bucket fails; what stays is no block, and goes as an upload that was given up.
    pub async fn discard(self) -> Result<usize> {
        delete(&*self.store, self.id).await
    }

    async fn try_publish(&self, mut meta: Meta, now_ms: i64) -> Result<Meta> {
        let unfit = |reason: String| Err(Error::Unfit { id: self.id, reason });
        let sent = self.sink.sent();
        if meta.ulid != self.id {
            return unfit(format!("the meta is that of block {}", meta.ulid));
        }
        if meta.thanos.labels.is_empty() {
            let reason = "no external labels, so that its series could not be told from others'";
            return unfit(reason.to_owned());
        }
        if let Some(path) = self.sink.unfinished() {
            return unfit(format!("{path} was begun and not finished"));
        }
        if !sent.iter().any(|it| it.name == INDEX_FILE) {
            return unfit("it has no index".to_owned());
        }
        verify_listed(&*self.store, self.id, &sent).await?;
        self.remove_others(&sent.iter().map(|it| &*it.name).collect::<Vec<_>>()).await?;
        let files = sent.iter().map(|it| (&*it.name, it.size_bytes));
        fill_files(&mut meta, files);
        meta.thanos.upload_time = rfc3339(now_ms);
        match send_meta(&*self.store, &meta).await {
            Ok(()) => Ok(meta),
            // It may have arrived although the answer did not.
            Err(error) => match fetch_meta(&*self.store, self.id).await {
                Ok(Some(found)) if found == meta => Ok(meta),
                _ => Err(error),
            },
        }
    }

    /// Takes away what is listed under the block and was not written now.
    async fn remove_others(&self, written: &[&str]) -> Result<()> {
        let listed = layout::list_block(&*self.store, self.id).await?;
        let others = listed.iter().map(|it| &*it.path);
        let others = others.filter(|it| *it != META_FILE && !written.contains(it));
        let others: Vec<String> = others.map(|it| layout::key(self.id, it)).collect();
        let store: &dyn ObjectStore = &*self.store;
        stream::iter(others)
            .map(|key| async move { store.delete(&key).await })
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await?;
        Ok(())
    }
}
