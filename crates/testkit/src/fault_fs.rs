//! A file system in memory that fails, loses power and tears files exactly where a test says.
//!
//! What was not synced is not durable: contents need `sync_data`, names need `sync_directory`. A
//! test counts the mutating calls of a run, then repeats the run with the power going at each of
//! them, and opens what [`FaultFs::after_power_loss`] leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tsdb_core::fs::{Entry, EntryKind, File, Fs, Lock};

/// What is left of bytes and names that were not synced when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Everything is kept: the process was killed, the machine was not.
    Nothing,
    /// All of it is gone.
    Unsynced,
    /// Each file keeps a part of it, chosen from the seed, with garbage or zeros at its end; each
    /// directory keeps all or nothing of its changes.
    Torn(u64),
}

/// A fault that happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: this call and all later ones fail, half of an append may be done.
    PowerOff,
    /// The call fails with this error. Half of an append is done; a failed `sync_data` forgets
    /// what it should have written, as kernels do.
    Error(io::ErrorKind),
}

type Inode = usize;

#[derive(Clone, Debug)]
enum Node {
    File {
        data: Vec<u8>,
        durable: Vec<u8>,
        /// Whether a sync failed: what was written before it never reaches the disk any more.
        is_spoiled: bool,
    },
    Directory {
        names: BTreeMap<String, Inode>,
        durable: BTreeMap<String, Inode>,
    },
}

#[derive(Debug, Default)]
struct State {
    nodes: Vec<Node>,
    locked: BTreeSet<PathBuf>,
    mutation_count: u64,
    fault: Option<(u64, Fault)>,
    is_off: bool,
    capacity_bytes: Option<usize>,
    unreadable: BTreeSet<PathBuf>,
}

/// The file system; clones share it.
#[derive(Clone, Debug)]
pub struct FaultFs(Arc<Mutex<State>>);

#[derive(Debug)]
struct FaultFile {
    fs: FaultFs,
    inode: Inode,
    path: PathBuf,
    is_writable: bool,
}

#[derive(Debug)]
struct FaultLock {
    fs: FaultFs,
    path: PathBuf,
}

impl FaultFs {
    /// An empty file system.
    pub fn new() -> FaultFs {
        let root = Node::Directory { names: BTreeMap::new(), durable: BTreeMap::new() };
        FaultFs(Arc::new(Mutex::new(State { nodes: vec![root], ..State::default() })))
    }

    /// Mutating calls so far.
    pub fn mutation_count(&self) -> u64 {
        self.state().mutation_count
    }

    /// Lets `fault` happen at the mutating call number `at`, counted from the beginning.
    pub fn inject(&self, at: u64, fault: Fault) {
        self.state().fault = Some((at, fault));
    }

    /// Bounds the bytes of all files; appends beyond it fail as a full disk does.
    pub fn limit_capacity(&self, capacity_bytes: Option<usize>) {
        self.state().capacity_bytes = capacity_bytes;
    }

    /// Whether the power went.
    pub fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// The file system as the next process finds it; locks are gone.
    #[must_use]
    pub fn after_power_loss(&self, loss: Loss) -> FaultFs {
        let mut nodes = self.state().nodes.clone();
        let mut random = match loss {
            Loss::Torn(seed) => Some(seed),
            Loss::Nothing | Loss::Unsynced => None,
        };
        for node in &mut nodes {
            match node {
                Node::File { data, durable, .. } => {
                    lose_bytes(data, durable, loss, &mut random);
                    durable.clone_from(data);
                }
                Node::Directory { names, durable } => {
                    let forget = match loss {
                        Loss::Nothing => false,
                        Loss::Unsynced => true,
                        Loss::Torn(_) => next_random(&mut random).is_multiple_of(2),
                    };
                    if forget {
                        names.clone_from(durable);
                    }
                    durable.clone_from(names);
                }
            }
        }
        FaultFs(Arc::new(Mutex::new(State { nodes, ..State::default() })))
    }

    /// The file system as the next process finds it when this one was killed and the machine went
    /// on: everything is there, but what was not synced is still not durable.
    #[must_use]
    pub fn after_kill(&self) -> FaultFs {
        let mut nodes = self.state().nodes.clone();
        for node in &mut nodes {
            if let Node::File { is_spoiled, .. } = node {
                *is_spoiled = false;
            }
        }
        FaultFs(Arc::new(Mutex::new(State { nodes, ..State::default() })))
    }

    /// Lets every read of a file fail, as a disk does that cannot read the sector any more.
    pub fn make_unreadable(&self, path: &Path) {
        self.state().unreadable.insert(path.to_owned());
    }

    /// The bytes of a file as a reader sees them now, for tests that damage files.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        let inode = state.find(path)?;
        match &state.nodes[inode] {
            Node::File { data, .. } => Ok(data.clone()),
            Node::Directory { .. } => Err(error(io::ErrorKind::IsADirectory, path)),
        }
    }

    /// Replaces the bytes of a file, synced, as damage on the disk would.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.find(path)?;
        let Node::File { data, durable, .. } = &mut state.nodes[inode] else {
            return Err(error(io::ErrorKind::IsADirectory, path));
        };
        *data = bytes.to_vec();
        *durable = bytes.to_vec();
        Ok(())
    }

    /// Every file, with its whole path, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state();
        let mut found = Vec::new();
        let mut open = vec![(0, PathBuf::from("/"))];
        while let Some((inode, path)) = open.pop() {
            match &state.nodes[inode] {
                Node::File { .. } => found.push(path),
                Node::Directory { names, .. } => {
                    open.extend(names.iter().map(|(name, inode)| (*inode, path.join(name))));
                }
            }
        }
        found.sort();
        found
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, inode: Inode, path: &Path, is_writable: bool) -> Box<dyn File> {
        let path = path.to_owned();
        Box::new(FaultFile { fs: self.clone(), inode, path, is_writable })
    }
}

impl Default for FaultFs {
    fn default() -> FaultFs {
        FaultFs::new()
    }
}

impl State {
    /// Counts a mutating call and says what is to happen to it.
    fn mutate(&mut self, path: &Path) -> Result<(), (io::Error, Option<Fault>)> {
        if self.is_off {
            return Err((power_is_off(path), None));
        }
        let at = self.mutation_count;
        self.mutation_count += 1;
        let Some((_, fault)) = self.fault.filter(|(wanted, _)| *wanted == at) else {
            return Ok(());
        };
        match fault {
            Fault::PowerOff => {
                self.is_off = true;
                Err((power_is_off(path), Some(fault)))
            }
            Fault::Error(kind) => Err((error(kind, path), Some(fault))),
        }
    }

    fn read_allowed(&self, path: &Path) -> io::Result<()> {
        if self.is_off { Err(power_is_off(path)) } else { Ok(()) }
    }

    fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut inode = 0;
        for part in parts(path) {
            let Node::Directory { names, .. } = &self.nodes[inode] else {
                return Err(error(io::ErrorKind::NotADirectory, path));
            };
            inode = *names.get(part).ok_or_else(|| error(io::ErrorKind::NotFound, path))?;
        }
        Ok(inode)
    }

    fn parent(&self, path: &Path) -> io::Result<(Inode, String)> {
        let name = path.file_name().and_then(|it| it.to_str());
        let name = name.ok_or_else(|| error(io::ErrorKind::InvalidInput, path))?;
        let parent = self.find(path.parent().unwrap_or(Path::new("/")))?;
        Ok((parent, name.to_owned()))
    }

    fn names(&mut self, directory: Inode, path: &Path) -> io::Result<&mut BTreeMap<String, Inode>> {
        match &mut self.nodes[directory] {
            Node::Directory { names, .. } => Ok(names),
            Node::File { .. } => Err(error(io::ErrorKind::NotADirectory, path)),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<Inode> {
        let (parent, name) = self.parent(path)?;
        let inode = self.nodes.len();
        let names = self.names(parent, path)?;
        if names.contains_key(&name) {
            return Err(error(io::ErrorKind::AlreadyExists, path));
        }
        names.insert(name, inode);
        self.nodes.push(node);
        Ok(inode)
    }

    fn used_bytes(&self) -> usize {
        let files = self.nodes.iter().map(|node| match node {
            Node::File { data, .. } => data.len(),
            Node::Directory { .. } => 0,
        });
        files.sum()
    }
}

impl Fs for FaultFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        state.mutate(path).map_err(|(error, _)| error)?;
        let inode = state.add(path, empty_file())?;
        Ok(self.file(inode, path, true))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let state = self.state();
        state.read_allowed(path)?;
        Ok(self.file(state.find(path)?, path, false))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let state = self.state();
        state.read_allowed(path)?;
        Ok(self.file(state.find(path)?, path, true))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.mutate(from).map_err(|(error, _)| error)?;
        let inode = state.find(from)?;
        let (parent, name) = state.parent(from)?;
        let (parent_to, name_to) = state.parent(to)?;
        state.names(parent, from)?.remove(&name);
        state.names(parent_to, to)?.insert(name_to, inode);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.mutate(path).map_err(|(error, _)| error)?;
        let inode = state.find(path)?;
        if matches!(state.nodes[inode], Node::Directory { .. }) {
            return Err(error(io::ErrorKind::IsADirectory, path));
        }
        let (parent, name) = state.parent(path)?;
        state.names(parent, path)?.remove(&name);
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let mut state = self.state();
        state.read_allowed(directory)?;
        let inode = state.find(directory)?;
        let names = state.names(inode, directory)?.clone();
        let entries = names.into_iter().map(|(name, inode)| {
            let kind = match state.nodes[inode] {
                Node::File { .. } => EntryKind::File,
                Node::Directory { .. } => EntryKind::Directory,
            };
            Entry { name, kind }
        });
        Ok(entries.collect())
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.mutate(path).map_err(|(error, _)| error)?;
        let mut so_far = PathBuf::from("/");
        for part in parts(path) {
            so_far.push(part);
            match state.find(&so_far) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let names = BTreeMap::new();
                    state.add(&so_far, Node::Directory { names, durable: BTreeMap::new() })?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.mutate(path).map_err(|(error, _)| error)?;
        state.find(path)?;
        let (parent, name) = state.parent(path)?;
        state.names(parent, path)?.remove(&name);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.mutate(path).map_err(|(error, _)| error)?;
        let inode = state.find(path)?;
        match &mut state.nodes[inode] {
            Node::Directory { names, durable } => durable.clone_from(names),
            Node::File { .. } => return Err(error(io::ErrorKind::NotADirectory, path)),
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut state = self.state();
        state.mutate(path).map_err(|(error, _)| error)?;
        if let Err(error) = state.find(path) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            state.add(path, empty_file())?;
        }
        if !state.locked.insert(path.to_owned()) {
            return Err(error(io::ErrorKind::WouldBlock, path));
        }
        Ok(Box::new(FaultLock { fs: self.clone(), path: path.to_owned() }))
    }
}

impl File for FaultFile {
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.fs.state();
        state.read_allowed(&self.path)?;
        if state.unreadable.contains(&self.path) {
            return Err(error(io::ErrorKind::Other, &self.path));
        }
        let Node::File { data, .. } = &state.nodes[self.inode] else {
            return Err(error(io::ErrorKind::IsADirectory, &self.path));
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(into.len());
        let bytes = data.get(start..end);
        into.copy_from_slice(bytes.ok_or_else(|| error(io::ErrorKind::UnexpectedEof, &self.path))?);
        Ok(())
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.fs.state();
        if !self.is_writable {
            return Err(error(io::ErrorKind::PermissionDenied, &self.path));
        }
        let mut outcome = state.mutate(&self.path);
        let room = state.capacity_bytes.map(|it| it.saturating_sub(state.used_bytes()));
        if outcome.is_ok() && room.is_some_and(|room| room < bytes.len()) {
            outcome = Err((error(io::ErrorKind::StorageFull, &self.path), None));
        }
        let done = match &outcome {
            Ok(()) => bytes.len(),
            Err((_, Some(_))) => bytes.len() / 2,
            Err((_, None)) => room.unwrap_or_default().min(bytes.len()),
        };
        if let Node::File { data, .. } = &mut state.nodes[self.inode] {
            data.extend_from_slice(&bytes[..done]);
        }
        outcome.map_err(|(error, _)| error)
    }

    fn truncate(&self, size_bytes: u64) -> io::Result<()> {
        let mut state = self.fs.state();
        state.mutate(&self.path).map_err(|(error, _)| error)?;
        if let Node::File { data, .. } = &mut state.nodes[self.inode] {
            data.resize(usize::try_from(size_bytes).map_err(io::Error::other)?, 0);
        }
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        let state = self.fs.state();
        state.read_allowed(&self.path)?;
        match &state.nodes[self.inode] {
            Node::File { data, .. } => Ok(data.len() as u64),
            Node::Directory { .. } => Err(error(io::ErrorKind::IsADirectory, &self.path)),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.fs.state();
        let outcome = state.mutate(&self.path);
        if let Node::File { data, durable, is_spoiled } = &mut state.nodes[self.inode] {
            // After a failed sync a reader still sees the pages, but the disk never will.
            *is_spoiled |= outcome.is_err();
            if !*is_spoiled {
                durable.clone_from(data);
            }
        }
        outcome.map_err(|(error, _)| error)
    }
}

impl Lock for FaultLock {}

impl Drop for FaultLock {
    fn drop(&mut self) {
        self.fs.state().locked.remove(&self.path);
    }
}

fn empty_file() -> Node {
    Node::File { data: Vec::new(), durable: Vec::new(), is_spoiled: false }
}

/// Leaves of `data` what the disk would still have.
fn lose_bytes(data: &mut Vec<u8>, durable: &[u8], loss: Loss, random: &mut Option<u64>) {
    match loss {
        Loss::Nothing => {}
        Loss::Unsynced => durable.clone_into(data),
        Loss::Torn(_) => {
            let is_appended = data.len() > durable.len() && data.starts_with(durable);
            if !is_appended {
                durable.clone_into(data);
                return;
            }
            let unsynced = data.len() - durable.len();
            let kept = index_below(next_random(random), unsynced + 1);
            data.truncate(durable.len() + kept);
            // Half of the time the end of what is left is not what was written.
            let spoiled = index_below(next_random(random), kept + 1);
            let start = data.len() - spoiled;
            match next_random(random) % 4 {
                0 => data[start..].fill(0),
                1 => data[start..].iter_mut().for_each(|byte| *byte ^= 0x5a),
                _ => {}
            }
        }
    }
}

/// The next number of the sequence that a seed begins (splitmix64).
fn next_random(state: &mut Option<u64>) -> u64 {
    let seed = state.unwrap_or_default().wrapping_add(0x9e37_79b9_7f4a_7c15);
    *state = Some(seed);
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn index_below(random: u64, bound: usize) -> usize {
    let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
    usize::try_from(random % bound).unwrap_or_default()
}

fn parts(path: &Path) -> impl Iterator<Item = &str> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    })
}

fn error(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {kind}", path.display()))
}

fn power_is_off(path: &Path) -> io::Error {
    io::Error::other(format!("{}: the power is off", path.display()))
}
