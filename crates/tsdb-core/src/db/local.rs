//! The whole blocks on the local disk, by tenant.

use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{BlockId, Budget, Tenant};
use parking_lot::RwLock;

use crate::block::{self, Reader};
use crate::db::OpenReport;
use crate::db::cuts::{Cuts, TenantCut};
use crate::error::{Error, Result};
use crate::fs::{EntryKind, SharedFs};

/// A directory that file systems make themselves.
pub(crate) const LOST_AND_FOUND: &str = "lost+found";
/// Ends the name of a block's directory that is being removed.
const REMOVAL_SUFFIX: &str = ".tmp-for-deletion";

/// A block of a tenant, open.
#[derive(Debug)]
pub struct LocalBlock {
    /// Whose it is.
    pub tenant: Tenant,
    /// The block.
    pub reader: Reader,
}

impl LocalBlock {
    /// The block's name.
    pub fn id(&self) -> BlockId {
        self.reader.meta().ulid
    }
}

/// The blocks, each opened once.
#[derive(Debug)]
pub(crate) struct LocalBlocks {
    tenants: RwLock<HashMap<Tenant, Vec<Arc<LocalBlock>>>>,
    budget: Budget,
}

impl LocalBlocks {
    /// Opens all blocks below a directory, and removes what was begun or being removed when the
    /// last process ended. A block that cannot be opened is named and left alone.
    pub(crate) fn open(
        fs: &SharedFs,
        directory: &Path,
        budget: &Budget,
    ) -> Result<(LocalBlocks, OpenReport)> {
        let blocks = LocalBlocks { tenants: RwLock::default(), budget: budget.clone() };
        let mut report = OpenReport::default();
        let list = |path: &Path| fs.list(path).map_err(Error::io("list", path));
        for entry in list(directory)? {
            let Ok(tenant) = Tenant::new(&entry.name) else { continue };
            if entry.kind != EntryKind::Directory || entry.name == LOST_AND_FOUND {
                continue;
            }
            let parent = directory.join(&entry.name);
            block::writer::remove_unfinished(&**fs, &parent)?;
            for entry in list(&parent)?.iter().filter(|it| it.kind == EntryKind::Directory) {
                let path = parent.join(&entry.name);
                if entry.name.ends_with(REMOVAL_SUFFIX) {
                    fs.remove_directory(&path).map_err(Error::io("remove", &path))?;
                } else if let Ok(id) = entry.name.parse::<BlockId>() {
                    match blocks.add(fs, &tenant, &parent, id) {
                        Ok(()) => report.blocks += 1,
                        Err(error @ Error::Budget(_)) => return Err(error),
                        Err(error) => {
                            let text =
                                format!("block {id} of tenant {tenant} is not served: {error}");
                            report.problems.push(text);
                        }
                    }
                }
            }
        }
        Ok((blocks, report))
    }

    /// Opens a block and serves it from now on; one that is served already stays.
    pub(crate) fn add(
        &self,
        fs: &SharedFs,
        tenant: &Tenant,
        parent: &Path,
        id: BlockId,
    ) -> Result<()> {
        if self.of(tenant).iter().any(|it| it.id() == id) {
            return Ok(());
        }
        let reader = Reader::open(&**fs, &parent.join(id.to_string()), &self.budget)?;
        let block = Arc::new(LocalBlock { tenant: tenant.clone(), reader });
        let mut tenants = self.tenants.write();
        let blocks = tenants.entry(tenant.clone()).or_default();
        blocks.push(block);
        blocks.sort_by_key(|it| (it.reader.meta().min_time_ms, it.id()));
        Ok(())
    }

    /// The blocks of a tenant, oldest first.
    pub(crate) fn of(&self, tenant: &Tenant) -> Vec<Arc<LocalBlock>> {
        self.tenants.read().get(tenant).cloned().unwrap_or_default()
    }

    /// Tenants that have blocks.
    pub(crate) fn tenants(&self) -> Vec<Tenant> {
        self.tenants.read().keys().cloned().collect()
    }

    /// Takes a block out and removes it; readers that have it go on.
    pub(crate) fn remove(
        &self,
        fs: &SharedFs,
        tenant: &Tenant,
        parent: &Path,
        id: BlockId,
    ) -> Result<()> {
        if let Some(blocks) = self.tenants.write().get_mut(tenant) {
            blocks.retain(|it| it.id() != id);
        }
        let path = parent.join(id.to_string());
        let doomed = parent.join(format!("{id}{REMOVAL_SUFFIX}"));
        fs.rename(&path, &doomed).map_err(Error::io("rename", &path))?;
        fs.remove_directory(&doomed).map_err(Error::io("remove", &doomed))?;
        fs.sync_directory(parent).map_err(Error::io("sync", parent))
    }

    /// What the blocks say about the cuts, for when the file that should say it is damaged.
    pub(crate) fn cuts(&self) -> Cuts {
        let mut cuts = Cuts::empty();
        for (tenant, blocks) in &*self.tenants.read() {
            let cut_ms = blocks.iter().map(|it| it.reader.meta().max_time_ms).max();
            let cut = TenantCut { cut_ms, pending: None };
            cuts.tenants.insert(tenant.to_string(), cut);
        }
        cuts
    }
}
