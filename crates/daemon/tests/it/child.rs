//! Starts this very test binary again as a daemon, and reads what it says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::probe::Probe;

/// Set in the child: its arguments, one a line.
const ARGUMENTS: &str = "PROBE_ARGUMENTS";
/// Set in the child: to check the configuration only.
const CHECK: &str = "PROBE_CHECK";
const PATIENCE: Duration = Duration::from_secs(20);

/// In the child, the daemon; in the parent, nothing.
#[test]
fn child_process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let arguments = arguments.lines().map(Into::into).collect();
    let code = match std::env::var(CHECK) {
        Ok(_) => daemon::check::<Probe>("probe", arguments),
        Err(_) => daemon::run_with::<Probe>("probe", arguments),
    };
    // There is no way from an exit code to its number but the exit itself.
    std::process::exit(
        i32::from(format!("{code:?}").contains("(1)"))
            + 2 * i32::from(format!("{code:?}").contains("(2)")),
    );
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    lines: Receiver<String>,
    pub(crate) seen: Vec<String>,
}

/// How a daemon ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
    pub(crate) stdout: String,
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child::child_process", "--nocapture", "--quiet"]);
    command.env(ARGUMENTS, arguments.join("\n")).env_remove("RUST_BACKTRACE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a daemon to its end.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    end(command(arguments))
}

/// Checks a configuration.
pub(crate) fn check(arguments: &[&str]) -> Ended {
    let mut command = command(arguments);
    command.env(CHECK, "1");
    end(command)
}

pub(crate) fn end(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
    }
}

/// Starts a daemon on free ports.
pub(crate) fn start(arguments: &[&str]) -> Daemon {
    let free = ["--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"];
    let arguments: Vec<&str> = free.iter().chain(arguments).copied().collect();
    let mut child = command(&arguments).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let (sender, lines) = channel();
    std::thread::Builder::new()
        .spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })
        .unwrap();
    Daemon { child, lines, seen: Vec::new() }
}

impl Daemon {
    /// The next line that holds `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let Ok(line) = line else { panic!("no line with {text:?} in {:#?}", self.seen) };
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The address it listens on for HTTP.
    pub(crate) fn http_address(&mut self) -> String {
        let line = self.wait_for("listening for HTTP");
        line.split("address=").nth(1).unwrap().split(' ').next().unwrap().to_owned()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end: the exit code, and all lines.
    pub(crate) fn ended(mut self) -> (Option<i32>, Vec<String>) {
        let code = self.child.wait().unwrap().code();
        let mut seen = std::mem::take(&mut self.seen);
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(2)) {
            seen.push(line);
        }
        (code, seen)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole answer to a GET, head and body.
pub(crate) fn get(address: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
