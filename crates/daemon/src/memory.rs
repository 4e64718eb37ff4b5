//! How much memory the process may use, and how much the allocator says is in use.
//!
//! The allocator of every process that links this crate is jemalloc.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use model::Budget;
use tikv_jemalloc_ctl::{epoch, stats};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bytes in use when [`refresh_allocated_bytes`] last asked.
static ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// What is assumed when nothing tells how much memory there is.
const FALLBACK_LIMIT_BYTES: usize = 1 << 30;

/// How much memory there is, and how much is in use.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// What the process may use: the flag, else the control group's limit, else the machine's.
    pub limit_bytes: usize,
    /// What the allocator has handed out; a cached figure, refreshed ten times a second, cheap
    /// enough to ask before every reservation.
    pub allocated_bytes: fn() -> usize,
}

impl Memory {
    /// Memory with the given limit.
    pub fn with_limit(limit_bytes: usize) -> Memory {
        Memory { limit_bytes, allocated_bytes }
    }

    /// A new account of all this memory. A process has one, [`crate::Context::budget`]: two would
    /// promise the memory twice.
    pub(crate) fn budget(self) -> Budget {
        Budget::process(self.limit_bytes, Some(self.allocated_bytes))
    }

    /// The lowest of what the control groups of this process and the machine allow.
    pub fn of_this_machine() -> Memory {
        Memory::with_limit(limit_below(Path::new("/")).unwrap_or(FALLBACK_LIMIT_BYTES))
    }
}

fn allocated_bytes() -> usize {
    ALLOCATED_BYTES.load(Ordering::Relaxed)
}

/// Asks the allocator; it gathers its counters only when told to, which costs microseconds.
pub(crate) fn refresh_allocated_bytes() {
    if epoch::advance().is_ok()
        && let Ok(bytes) = stats::allocated::read()
    {
        ALLOCATED_BYTES.store(bytes, Ordering::Relaxed);
    }
}

fn limit_below(root: &Path) -> Option<usize> {
    let groups = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let of_groups = groups.lines().flat_map(|line| group_limits(root, line));
    let of_machine = read(&root.join("proc/meminfo")).and_then(|text| total_bytes(&text));
    of_groups.chain(of_machine).min()
}

/// The limits of a control group and of all above it, for one line of `/proc/self/cgroup`
/// (`0::/path` in version 2, `5:memory:/path` in version 1).
fn group_limits(root: &Path, line: &str) -> Vec<usize> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return Vec::new() };
    let (mount, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|it| it == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let mount = root.join(mount);
    let mut directory = mount.join(path.trim_start_matches('/'));
    // Inside a container the path is often that of the host, and its own limit is at the mount.
    let mut files = vec![mount.join(file)];
    while directory != mount && directory.starts_with(&mount) {
        files.push(directory.join(file));
        directory = directory.parent().map_or_else(PathBuf::new, Path::to_owned);
    }
    files.iter().filter_map(|it| read(it)?.trim().parse().ok()).collect()
}

fn total_bytes(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|it| it.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[expect(clippy::disallowed_methods, reason = "the kernel's files about this process")]
fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "lays out a pretended root directory")]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: Option<usize>) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(limit_below(root.path()), expected, "{files:?}");
    }

    #[test]
    fn the_lowest_limit_counts() {
        let meminfo = ("proc/meminfo", "MemTotal:        2048 kB\nMemFree: 1 kB\n");
        check(&[], None);
        check(&[meminfo], Some(2 << 20));
        let version_2 = ("proc/self/cgroup", "0::/a/b\n");
        check(&[meminfo, version_2, ("sys/fs/cgroup/a/b/memory.max", "max\n")], Some(2 << 20));
        check(
            &[
                meminfo,
                version_2,
                ("sys/fs/cgroup/a/b/memory.max", "max\n"),
                ("sys/fs/cgroup/a/memory.max", "1048576\n"),
            ],
            Some(1 << 20),
        );
        check(&[meminfo, version_2, ("sys/fs/cgroup/memory.max", "4096\n")], Some(4096));
        check(
            &[
                meminfo,
                ("proc/self/cgroup", "4:cpu,cpuacct:/x\n5:memory:/x\n"),
                ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "8192\n"),
            ],
            Some(8192),
        );
    }

    #[test]
    fn a_path_that_leads_out_of_the_mount_is_not_followed() {
        check(&[("proc/self/cgroup", "0::/../../x\n"), ("x/memory.max", "1\n")], None);
    }

    #[test]
    fn the_allocator_tells_what_it_handed_out() {
        let held = vec![1_u8; 32 << 20];
        refresh_allocated_bytes();
        assert!(Memory::with_limit(1).limit_bytes == 1);
        assert!((Memory::with_limit(1).allocated_bytes)() >= held.len());
    }
}
