//! What was cut into blocks, per tenant: the file that makes a cut one step.
//!
//! Before a block gets its name the cut is written down as pending; when the engine opens, a
//! pending cut is done exactly if the block is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Damage, Error, Result};
use crate::fs::{SharedFs, read_whole, write_atomic};

const FILE_BYTES_MAX: u64 = 64 << 20;
const VERSION: u32 = 1;

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cuts {
    version: u32,
    pub(crate) tenants: BTreeMap<String, TenantCut>,
    /// Whether the file could not be written since this changed.
    #[serde(skip)]
    pub(crate) is_unwritten: bool,
}

/// What was cut of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantCut {
    /// Samples before this time are in blocks; none before the first cut.
    pub(crate) cut_ms: Option<i64>,
    /// A cut under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<PendingCut>,
}

/// A cut whose block may or may not have got its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PendingCut {
    /// The block's ULID.
    pub(crate) block: String,
    /// What `cut_ms` becomes when the block is there.
    pub(crate) cut_ms: i64,
}

impl Cuts {
    pub(crate) fn empty() -> Cuts {
        Cuts { version: VERSION, tenants: BTreeMap::new(), is_unwritten: false }
    }

    /// The file's name in the engine's directory.
    pub(crate) fn path(engine_directory: &Path) -> PathBuf {
        engine_directory.join("cuts.json")
    }

    /// Reads the file; none when it is absent.
    ///
    /// # Errors
    /// The disk's, and corruption.
    pub(crate) fn read(fs: &SharedFs, path: &Path) -> Result<Option<Cuts>> {
        let bytes = match read_whole(&**fs, path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let cuts: Cuts = serde_json::from_slice(&bytes)
            .map_err(|error| Damage::new("state of the cuts", 0, error.to_string()).within(path))?;
        if cuts.version != VERSION {
            let what = format!("version {} of the state of the cuts", cuts.version);
            return Err(Error::Unsupported { path: path.to_owned(), what });
        }
        Ok(Some(cuts))
    }

    /// Replaces the file, durably.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn write(&self, fs: &SharedFs, path: &Path) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|it| Error::invalid(it.to_string()))?;
        write_atomic(&**fs, path, &bytes).map_err(Error::io("write", path))
    }
}
