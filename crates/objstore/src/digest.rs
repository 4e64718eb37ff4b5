//! MD5 as object stores want it: in hex for entity tags, in base 64 for `Content-MD5`.
#![expect(
    clippy::disallowed_methods,
    reason = "files to compare are read outside the async threads"
)]

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use md5::{Digest as _, Md5};

/// Bytes read from a file at once while it is hashed.
const STEP_BYTES: usize = 256 * 1024;

/// An MD5 digest.
pub(crate) type Md5Digest = [u8; 16];

/// The MD5 of some bytes, in lower-case hex.
pub fn md5_hex(bytes: &[u8]) -> String {
    hex(&md5(bytes))
}

/// The MD5 of a file, in lower-case hex; read outside the async threads.
///
/// # Errors
/// When the file cannot be read.
pub async fn md5_hex_of_file(path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || {
        let file = File::open(path)?;
        md5_of_section(&file, 0, file.metadata()?.len(), None)
    });
    Ok(hex(&hashed.await.map_err(io::Error::other)??))
}

pub(crate) fn md5(bytes: &[u8]) -> Md5Digest {
    Md5::digest(bytes).into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a text cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// The MD5 of a section of a file, which must be there in full; `whole` takes the same bytes.
pub(crate) fn md5_of_section(
    file: &File,
    offset: u64,
    length: u64,
    mut whole: Option<&mut Md5>,
) -> io::Result<Md5Digest> {
    let mut section = Md5::new();
    let mut buffer = vec![0; STEP_BYTES];
    let end = offset.saturating_add(length);
    let mut at = offset;
    while at < end {
        let step = usize::try_from(end - at).map_or(STEP_BYTES, |left| left.min(STEP_BYTES));
        let bytes = &mut buffer[..step];
        file.read_exact_at(bytes, at)?;
        section.update(&*bytes);
        if let Some(whole) = whole.as_deref_mut() {
            whole.update(&*bytes);
        }
        at += step as u64;
    }
    Ok(section.finalize().into())
}
