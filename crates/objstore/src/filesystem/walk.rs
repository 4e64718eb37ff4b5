//! Lists a directory tree as a bucket: objects and common prefixes in the order of their keys.
#![expect(clippy::disallowed_methods, reason = "the part of the file system store that lists")]

use std::fs;
use std::io;
use std::path::Path;

use super::{TEMPORARY, modified_ms};
use crate::store::{ListPage, ObjectMeta};

/// Directories deeper than any key has parts are not descended into.
const DEPTH_MAX: usize = 512;

/// One call of a listing.
pub(super) struct Listing<'a> {
    pub(super) root: &'a Path,
    pub(super) prefix: &'a str,
    pub(super) delimiter: bool,
    /// The last entry of the page before.
    pub(super) after: Option<&'a str>,
    pub(super) entries_max: usize,
}

/// What a directory holds: its key (ending in `/` for a directory), and whether it is one.
struct Entry {
    key: String,
    is_directory: bool,
}

#[derive(Default)]
struct Progress {
    page: ListPage,
    last: String,
}

impl Listing<'_> {
    pub(super) fn run(&self) -> io::Result<ListPage> {
        let base = self.prefix.rfind('/').map_or("", |at| &self.prefix[..=at]);
        let mut progress = Progress::default();
        self.visit(base, 0, &mut progress)?;
        Ok(progress.page)
    }

    /// Lists one directory; answers whether the page is full.
    fn visit(&self, base: &str, depth: usize, progress: &mut Progress) -> io::Result<bool> {
        if depth > DEPTH_MAX {
            return Ok(false);
        }
        for entry in entries(self.root, base)? {
            if !entry.key.starts_with(self.prefix) || self.is_past(&entry) {
                continue;
            }
            let full = match entry.is_directory && !self.delimiter {
                true => self.visit(&entry.key, depth + 1, progress)?,
                false => self.emit(entry, progress)?,
            };
            if full {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an earlier page has the entry, and all that is in it.
    fn is_past(&self, entry: &Entry) -> bool {
        let Some(after) = self.after else { return false };
        let has_more = entry.is_directory && !self.delimiter && after.starts_with(&*entry.key);
        entry.key.as_str() <= after && !has_more
    }

    /// Adds an entry to the page; answers whether the page is full without it.
    fn emit(&self, entry: Entry, progress: &mut Progress) -> io::Result<bool> {
        let Progress { page, last } = progress;
        let object = match entry.is_directory {
            true if !holds_object(self.root, &entry.key, 0)? => return Ok(false),
            true => None,
            false => match object(self.root, &entry.key)? {
                None => return Ok(false),
                found => found,
            },
        };
        if page.objects.len() + page.prefixes.len() == self.entries_max {
            page.next = Some(std::mem::take(last));
            return Ok(true);
        }
        last.clone_from(&entry.key);
        match object {
            Some(object) => page.objects.push(object),
            None => page.prefixes.push(entry.key),
        }
        Ok(false)
    }
}

/// The files and directories of a directory in the order of their keys. Other kinds, and names
/// that are no text, are no objects.
fn entries(root: &Path, base: &str) -> io::Result<Vec<Entry>> {
    let found = match fs::read_dir(root.join(base)) {
        Err(error) if super::is_no_file(&error) => return Ok(Vec::new()),
        found => found?,
    };
    let mut entries = Vec::new();
    for entry in found {
        let entry = entry?;
        let kind = match entry.file_type() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            kind => kind?,
        };
        let Ok(name) = entry.file_name().into_string() else { continue };
        if base.is_empty() && name == TEMPORARY {
            continue;
        }
        if kind.is_dir() {
            entries.push(Entry { key: format!("{base}{name}/"), is_directory: true });
        } else if kind.is_file() {
            entries.push(Entry { key: format!("{base}{name}"), is_directory: false });
        }
    }
    entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Ok(entries)
}

fn object(root: &Path, key: &str) -> io::Result<Option<ObjectMeta>> {
    let metadata = match fs::symlink_metadata(root.join(key)) {
        // Deleted since the directory was read.
        Err(error) if super::is_no_file(&error) => return Ok(None),
        metadata => metadata?,
    };
    let modified_ms = modified_ms(metadata.modified()?);
    let size_bytes = metadata.len();
    Ok(Some(ObjectMeta { key: key.to_owned(), size_bytes, modified_ms, etag: None }))
}

/// Whether anything under a directory is an object; a bucket has no empty directories.
fn holds_object(root: &Path, base: &str, depth: usize) -> io::Result<bool> {
    if depth > DEPTH_MAX {
        return Ok(false);
    }
    for entry in entries(root, base)? {
        if !entry.is_directory || holds_object(root, &entry.key, depth + 1)? {
            return Ok(true);
        }
    }
    Ok(false)
}
