//! The daemons of one cluster, as processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testkit::peer::{Peer, free_address};
use testkit::query_api;

/// How long a daemon may take until it is ready, on a machine that is busy.
pub(crate) const READY_MAX: Duration = Duration::from_secs(60);

/// Labels that the receiver adds to every series and the real Prometheus does not.
pub(crate) const ADDED_LABELS: &[&str] = &["replica", "tenant_id"];

/// Where the daemons of a cluster keep their files, and the bucket that they share.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) dir: PathBuf,
    /// The object store configuration in YAML.
    pub(crate) objstore: String,
}

/// A receiver and where it listens, also when it is started again.
#[derive(Clone, Debug)]
pub(crate) struct ReceiverAt {
    replica: &'static str,
    pub(crate) write: SocketAddr,
    pub(crate) grpc: SocketAddr,
    http: SocketAddr,
}

impl ReceiverAt {
    /// The receiver whose samples have this value of the label `replica`.
    pub(crate) fn new(replica: &'static str) -> ReceiverAt {
        ReceiverAt { replica, write: free_address(), grpc: free_address(), http: free_address() }
    }

    /// Where Prometheus sends what it scrapes.
    pub(crate) fn write_url(&self) -> String {
        format!("http://{}/api/v1/receive", self.write)
    }
}

/// A daemon that serves queries of some kind.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) peer: Peer,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Cluster {
    fn start(&self, name: &str, http: SocketAddr, args: &[String]) -> Peer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aion"));
        command.args(args).arg(format!("--http-address={http}")).current_dir(&self.dir);
        let mut peer = Peer::start(name, &mut command, &self.dir);
        peer.wait_until("it is ready", READY_MAX, || {
            query_api::status(http, "/-/ready") == Some(200)
        });
        peer
    }

    /// Starts a receiver whose blocks are `block_s` seconds long.
    pub(crate) fn receiver(&self, at: &ReceiverAt, block_s: u32) -> Peer {
        let args = [
            "receive".to_owned(),
            format!("--tsdb.path={}", self.dir.join(at.replica).display()),
            format!("--label=replica=\"{}\"", at.replica),
            format!("--remote-write.address={}", at.write),
            format!("--grpc-address={}", at.grpc),
            format!("--objstore.config={}", self.objstore),
            format!("--tsdb.min-block-duration={block_s}s"),
            format!("--tsdb.max-block-duration={block_s}s"),
        ];
        self.start(&format!("receive-{}", at.replica), at.http, &args)
    }

    /// Lets a compactor do all that is to be done with the bucket, replicas made one, and waits
    /// for its end. What it marks is deleted by the next one.
    pub(crate) fn compact(&self) {
        let args = [
            "compact".to_owned(),
            format!("--data-dir={}", self.dir.join("compact").display()),
            format!("--objstore.config={}", self.objstore),
            format!("--http-address={}", free_address()),
            "--deduplication.replica-label=replica".to_owned(),
            "--consistency-delay=0s".to_owned(),
            "--delete-delay=0s".to_owned(),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_aion"));
        command.args(args).current_dir(&self.dir);
        Peer::start("compact", &mut command, &self.dir).wait_end(Duration::from_secs(60));
    }

    /// Starts a store gateway over the bucket.
    pub(crate) fn store(&self) -> Serving {
        let (grpc, http) = (free_address(), free_address());
        let args = [
            "store".to_owned(),
            format!("--data-dir={}", self.dir.join("store").display()),
            format!("--grpc-address={grpc}"),
            format!("--objstore.config={}", self.objstore),
            "--sync-block-duration=3s".to_owned(),
        ];
        Serving { peer: self.start("store", http, &args), grpc, http }
    }

    /// Starts a querier over some stores.
    pub(crate) fn querier(&self, name: &str, endpoints: &[SocketAddr]) -> Serving {
        let (grpc, http) = (free_address(), free_address());
        let mut args = vec![
            "query".to_owned(),
            format!("--grpc-address={grpc}"),
            "--query.replica-label=replica".to_owned(),
        ];
        args.extend(endpoints.iter().map(|it| format!("--endpoint={it}")));
        Serving { peer: self.start(name, http, &args), grpc, http }
    }
}

/// The object store configuration of a bucket in a folder.
pub(crate) fn filesystem_bucket(dir: &Path) -> String {
    format!("type: FILESYSTEM\nconfig:\n  directory: {}\n", dir.display())
}

/// The clock that the processes see.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
