//! All four daemons in one process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use testkit::http::Client;
use testkit::peer::{Peer, free_address};
use testkit::query_api::{self, instant};
use testkit::remote_write::{HEADERS, compress, push_series};

/// On a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Standalone {
    peer: Peer,
    http: SocketAddr,
    write: SocketAddr,
}

fn start(dir: &Path, more: &[&str]) -> Standalone {
    let (http, write) = (free_address(), free_address());
    let mut command = Command::new(env!("CARGO_BIN_EXE_aion"));
    command.arg("standalone").current_dir(dir).args([
        &format!("--http-address={http}"),
        &format!("--remote-write.address={write}"),
        "--grpc-address=127.0.0.1:0",
    ]);
    let mut peer = Peer::start("standalone", command.args(more), dir);
    peer.wait_until("it is ready", PATIENCE, || query_api::status(http, "/-/ready") == Some(200));
    Standalone { peer, http, write }
}

impl Standalone {
    fn wait_for(&mut self, query: &str) {
        let http = self.http;
        self.peer.wait_until(query, PATIENCE, || {
            instant(http, query, now_ms()).is_ok_and(|it| it.samples() > 0)
        });
    }

    fn write(&self, name: &str, time_ms: i64, value: f64) {
        let mut labels = Vec::new();
        for (label, text) in [("__name__", name), ("job", "test")] {
            let mut pair = vec![0x0a, u8::try_from(label.len()).unwrap()];
            pair.extend_from_slice(label.as_bytes());
            pair.extend_from_slice(&[0x12, u8::try_from(text.len()).unwrap()]);
            pair.extend_from_slice(text.as_bytes());
            labels.extend_from_slice(&[0x0a, u8::try_from(pair.len()).unwrap()]);
            labels.extend_from_slice(&pair);
        }
        let mut body = Vec::new();
        push_series(&mut body, &labels, &[(time_ms, value)]);
        let mut client = Client::new(self.write, PATIENCE);
        let answer = client.post("/api/v1/receive", HEADERS, &compress(&body)).unwrap();
        assert!((200..300).contains(&answer.status), "{}: {}", answer.status, answer.text());
    }
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since_epoch.as_millis()).unwrap()
}

#[test]
fn without_a_flag_there_is_something_to_see_and_samples_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let mut first = start(dir.path(), &[]);
    first.wait_for("up{job=\"aion\"} == 1");
    first.wait_for("sum by (component) (thanos_status{check=\"ready\"})");
    first.wait_for("rate(process_cpu_seconds_total{job=\"aion\"}[1m])");
    let took = begin.elapsed();
    let time_ms = now_ms();
    first.write("answer", time_ms, 42.0);
    first.wait_for("answer == 42");
    // Beside it, another one, in another directory.
    let other_dir = tempfile::tempdir().unwrap();
    let other = start(other_dir.path(), &[]);
    assert_eq!(instant(other.http, "answer", now_ms()).unwrap().samples(), 0);
    other.peer.terminate(PATIENCE);
    first.peer.terminate(PATIENCE);

    let mut again = start(dir.path(), &[]);
    again.wait_for("answer == 42");
    let rows = instant(again.http, "answer[1h]", now_ms()).unwrap();
    assert_eq!(rows.samples(), 1, "{rows:?}");
    let log = again.peer.log();
    again.peer.terminate(PATIENCE);
    assert!(log.contains("aion is ready."), "{log}");
    assert!(took < PATIENCE, "{took:?}");
}

#[test]
fn it_tells_how_to_run_the_same_as_four_processes() {
    let dir = tempfile::tempdir().unwrap();
    let mut standalone = start(dir.path(), &["--label=replica=\"it's\"", "--data-dir=some data"]);
    let path = dir.path().join("standalone.log");
    let read = || std::fs::read_to_string(&path).unwrap();
    standalone.peer.wait_until("it greets", PATIENCE, || read().contains("aion query "));
    let log = read();
    let binary = env!("CARGO_BIN_EXE_aion");
    let mut count = 0;
    for line in log.lines().filter_map(|it| it.strip_prefix("  aion ")) {
        let command = format!("'{binary}' check config {line}");
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {error}");
        count += 1;
    }
    assert_eq!(count, 4, "{log}");
    let address = standalone.http.to_string();
    let healthcheck = ["healthcheck", "--http-address", &address];
    let output = Command::new(binary).args(healthcheck).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    standalone.peer.terminate(PATIENCE);
}

#[test]
fn the_dashboard_asks_for_metrics_that_are_there() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker/grafana/dashboards/aion.json");
    let dashboard: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut names = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let words = target["expr"].as_str().unwrap().split(|it: char| !is_of_name(it));
            let prefixes = ["aion_", "grpc_server_", "http_", "process_", "prometheus_", "thanos_"];
            names.extend(
                words
                    .filter(|it| prefixes.iter().any(|prefix| it.starts_with(prefix)))
                    .map(str::to_owned),
            );
        }
    }
    assert!(names.len() >= 10, "{names:?}");
    let dir = tempfile::tempdir().unwrap();
    let mut standalone = start(dir.path(), &[]);
    let http = standalone.http;
    for name in names {
        standalone.peer.wait_until(&name, PATIENCE, || {
            let answer = Client::new(http, PATIENCE).get("/metrics");
            answer.is_ok_and(|it| {
                it.text().lines().any(|line| {
                    line.strip_prefix(&*name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                })
            })
        });
    }
    standalone.peer.terminate(PATIENCE);
}

fn is_of_name(it: char) -> bool {
    it.is_ascii_alphanumeric() || it == '_'
}

#[test]
fn a_part_that_cannot_start_ends_the_process_with_one_reason() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_aion"))
        .current_dir(dir.path())
        .args(["standalone", "--log.level=error", "--grpc-address=127.0.0.1:0"])
        .arg(format!("--http-address={}", free_address()))
        .arg(format!("--remote-write.address={address}"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let expected = format!("--remote-write.address={address}: cannot listen there");
    assert!(error.lines().last().unwrap().contains(&expected), "{error}");
}
