//! The four images, built from the binaries of this build, pass one sample through.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use testkit::http::Client;
use testkit::peer::free_address;
use testkit::query_api::instant;
use testkit::remote_write::{HEADERS, TimeSeries, compress, encode};

use crate::cluster::{filesystem_bucket, now_ms};

const BASE: &str = "aion-test/base";
const HEALTHY_MAX: Duration = Duration::from_secs(120);
const ANSWER_MAX: Duration = Duration::from_secs(60);
const DAEMONS: [&str; 4] = ["receiver", "store-gateway", "compactor", "querier"];

#[test]
fn four_containers_pass_a_sample_through() {
    let docker = Docker::find();
    let dir = tempfile::tempdir().unwrap();
    docker.build_images(dir.path());

    let bucket = dir.path().join("bucket");
    fs::create_dir(&bucket).unwrap();
    // The daemons in the images are not root.
    docker.run("chmod", &["0777", bucket.to_str().unwrap()]);
    let (write, receiver_grpc, store_grpc) = (free_address(), free_address(), free_address());
    let config = format!("--objstore.config={}", filesystem_bucket(Path::new("/bucket")));
    let receiver = docker.start(
        "receiver",
        &bucket,
        &[
            "--tsdb.path=/data".to_owned(),
            "--label=replica=\"a\"".to_owned(),
            format!("--remote-write.address={write}"),
            format!("--grpc-address={receiver_grpc}"),
            config.clone(),
        ],
    );
    let grpc = format!("--grpc-address={store_grpc}");
    let sync = "--sync-block-duration=1s".to_owned();
    let data = "--data-dir=/data".to_owned();
    let store = docker.start("store-gateway", &bucket, &[data.clone(), grpc, sync, config.clone()]);
    let compactor = docker.start("compactor", &bucket, &["--wait".to_owned(), data, config]);
    let querier = docker.start(
        "querier",
        &bucket,
        &[
            format!("--grpc-address={}", free_address()),
            format!("--endpoint={receiver_grpc}"),
            format!("--endpoint={store_grpc}"),
            "--query.replica-label=replica".to_owned(),
            "--query.replica-label=tenant_id".to_owned(),
        ],
    );
    for container in [&receiver, &store, &compactor, &querier] {
        container.wait_healthy();
    }

    let time_ms = now_ms();
    send(write, time_ms);
    wait_for_sample(&querier, time_ms);
    // Asked to end, the receiver ships its whole head, and the bucket answers alone.
    receiver.stop();
    wait_for_sample(&querier, time_ms);
}

fn send(address: SocketAddr, time_ms: i64) {
    let series = TimeSeries::new(&[("__name__", "shipped"), ("job", "test")], &[(time_ms, 42.5)]);
    let body = compress(&encode(&[series]));
    let mut client = Client::new(address, Duration::from_secs(10));
    let answer = client.post("/api/v1/receive", HEADERS, &body).unwrap();
    assert!((200..300).contains(&answer.status), "{}: {}", answer.status, answer.text());
}

fn wait_for_sample(querier: &Container<'_>, time_ms: i64) {
    let begin = Instant::now();
    loop {
        let answer = instant(querier.http, "shipped", time_ms);
        let found = answer.as_ref().is_ok_and(|rows| {
            rows.series.values().flatten().any(|point| point == &(time_ms, "42.5".to_owned()))
        });
        if found {
            return;
        }
        assert!(begin.elapsed() < ANSWER_MAX, "no sample: {answer:?}\n{}", querier.log());
        thread::sleep(Duration::from_millis(200));
    }
}

/// The client of a Docker engine.
#[derive(Debug)]
struct Docker {
    program: PathBuf,
}

#[derive(Debug)]
struct Container<'a> {
    docker: &'a Docker,
    name: String,
    http: SocketAddr,
}

impl Docker {
    /// The client that `AION_DOCKER` names.
    fn find() -> Docker {
        let program = std::env::var_os("AION_DOCKER").unwrap_or_else(|| {
            panic!("no Docker: run the tests by ./test, or set AION_DOCKER to an engine's client")
        });
        Docker { program: PathBuf::from(program) }
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let program = if program == "docker" { self.program.as_path() } else { program.as_ref() };
        let mut command = Command::new(program);
        let output = command.args(args).env("DOCKER_BUILDKIT", "1").output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program:?} {args:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn build_images(&self, dir: &Path) {
        let binaries = Path::new(env!("CARGO_BIN_EXE_aion")).parent().unwrap();
        let context = dir.join("context");
        fs::create_dir_all(context.join("bin")).unwrap();
        for name in DAEMONS.iter().chain(&["aion"]) {
            let (from, to) = (binaries.join(name), context.join("bin").join(name));
            let copied = fs::copy(&from, &to);
            assert!(copied.is_ok(), "{} is not built: {copied:?}", from.display());
        }
        self.import_base(dir);
        let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker/Dockerfile");
        for name in DAEMONS {
            let (bin, tag) = (format!("BIN={name}"), format!("aion-test/{name}"));
            let (base, file) = (format!("BASE={BASE}"), dockerfile.to_str().unwrap());
            let mut args = vec!["build", "-q", "-f", file, "--target", "runtime", "-t", &tag];
            for argument in ["BINARIES=prebuilt", "PREBUILT=bin", &base, &bin] {
                args.extend(["--build-arg", argument]);
            }
            args.push(context.to_str().unwrap());
            self.run("docker", &args);
        }
    }

    /// Makes the base image from what the binaries need of this machine.
    fn import_base(&self, dir: &Path) {
        let root = dir.join("base");
        let linked = self.run("ldd", &[env!("CARGO_BIN_EXE_aion")]);
        let libraries = linked.split_whitespace().filter(|it| it.starts_with('/'));
        for path in libraries.chain(["/etc/ssl/certs/ca-certificates.crt"]) {
            let target = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(path, target).unwrap();
        }
        let archive = dir.join("base.tar");
        let (archive, root) = (archive.to_str().unwrap(), root.to_str().unwrap());
        self.run("tar", &["-C", root, "-cf", archive, "."]);
        self.run("docker", &["import", archive, BASE]);
    }

    fn start(&self, image: &str, bucket: &Path, args: &[String]) -> Container<'_> {
        let http = free_address();
        let name = format!("aion-test-{image}-{}", http.port());
        let (tag, address) = (format!("aion-test/{image}"), format!("AION_HTTP_ADDRESS={http}"));
        let volume = format!("{}:/bucket", bucket.display());
        let mut all = vec!["run", "-d", "--network=host", "--name", &name, "-e", &address];
        all.extend(["-v", &volume, &tag]);
        all.extend(args.iter().map(String::as_str));
        self.run("docker", &all);
        Container { docker: self, name, http }
    }
}

impl Container<'_> {
    fn wait_healthy(&self) {
        let begin = Instant::now();
        let format = "{{.State.Status}} {{.State.Health.Status}}";
        loop {
            let status = self.docker.run("docker", &["inspect", "-f", format, &self.name]);
            if status.trim() == "running healthy" {
                return;
            }
            let (name, status) = (&self.name, status.trim());
            let waiting = status == "running starting" && begin.elapsed() < HEALTHY_MAX;
            assert!(waiting, "{name} is {status}:\n{}", self.log());
            thread::sleep(Duration::from_millis(500));
        }
    }

    fn stop(&self) {
        self.docker.run("docker", &["stop", "--time=60", &self.name]);
        let code = self.docker.run("docker", &["inspect", "-f", "{{.State.ExitCode}}", &self.name]);
        assert_eq!(code.trim(), "0", "{} did not end well:\n{}", self.name, self.log());
    }

    fn log(&self) -> String {
        let output =
            Command::new(&self.docker.program).args(["logs", &self.name]).output().unwrap();
        let (out, err) = (output.stdout, output.stderr);
        format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err))
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // A test that failed says so itself; here only nothing must be left running.
        let mut command = Command::new(&self.docker.program);
        let _ = command.args(["rm", "-f", "-v", &self.name]).output();
    }
}
