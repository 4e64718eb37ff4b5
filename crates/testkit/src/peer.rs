//! Real processes in tests: their logs are kept and shown when something fails, and they end with
//! the value that holds them.
#![expect(clippy::disallowed_methods, reason = "tests start real processes and wait in real time")]

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(100);
/// How many lines of a log are shown.
const SHOWN_LINES: usize = 60;

/// A running process. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Peer {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Peer {
    /// Starts a process; what it says goes to the end of `<log_dir>/<name>.log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, log_dir: &Path) -> Peer {
        let log = log_dir.join(format!("{name}.log"));
        let open = || -> std::io::Result<(File, File)> {
            let file = File::options().create(true).append(true).open(&log)?;
            Ok((file.try_clone()?, file))
        };
        let (stdout, stderr) = open().unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Peer { name: name.to_owned(), child, log }
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `condition` holds.
    ///
    /// # Panics
    /// With the end of the log, when the process ends before or `limit` passes.
    pub fn wait_until(&mut self, what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !condition() {
            let name = &self.name;
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{name} ended with {status} before {what}:\n{}", self.log_end());
            }
            assert!(
                begin.elapsed() < limit,
                "{name}: not within {limit:?}: {what}\n{}",
                self.log_end()
            );
            thread::sleep(POLL);
        }
    }

    /// Ends the process at once, as a crash would.
    ///
    /// # Panics
    /// When it had ended already.
    pub fn kill(mut self) {
        let ended = self.child.try_wait();
        assert!(matches!(ended, Ok(None)), "{} had ended:\n{}", self.name, self.log_end());
        self.end();
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    ///
    /// # Panics
    /// With the end of the log, when it does not end well within `limit`.
    pub fn terminate(mut self, limit: Duration) {
        let name = self.name.clone();
        let asked = Command::new("kill").arg(self.id().to_string()).status();
        assert!(asked.is_ok_and(|it| it.success()), "{name} cannot be asked to end");
        let status = self.wait(limit);
        assert!(status.success(), "{name} ended with {status}:\n{}", self.log_end());
    }

    /// Waits until the process ends by itself.
    ///
    /// # Panics
    /// With the end of the log, when it does not end well within `limit`.
    pub fn wait_end(mut self, limit: Duration) {
        let status = self.wait(limit);
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.log_end());
    }

    fn wait(&mut self, limit: Duration) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            let name = &self.name;
            assert!(
                begin.elapsed() < limit,
                "{name} did not end within {limit:?}:\n{}",
                self.log_end()
            );
            thread::sleep(POLL);
        }
    }

    fn end(&mut self) {
        // It may have ended by itself, which is what is wanted here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Everything that the process has said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of the log.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default();
        shown.join("\n")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            let (name, log) = (&self.name, self.log_end());
            let _ = writeln!(std::io::stderr(), "--- the last words of {name}:\n{log}\n---");
        }
    }
}

/// A local address that is free now, and that this process gives to nobody else. Its port is below
/// those that the system gives to outgoing connections, which could take it before its owner does.
///
/// # Panics
/// When there is none.
pub fn free_address() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    for _ in 0..COUNT {
        // Processes that run at the same time begin at different places.
        let begin = std::process::id().wrapping_mul(641);
        let offset = begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).unwrap_or_default();
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            && let Ok(address) = listener.local_addr()
        {
            return address;
        }
    }
    panic!("no port from {FIRST} on is free")
}

/// The program of this name on the path.
///
/// # Panics
/// When it is missing: a test without its peer would show nothing.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|it| it.join(name)).find(|it| it.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is missing: run the tests by ./test, or install Debian's package prometheus")
    })
}
