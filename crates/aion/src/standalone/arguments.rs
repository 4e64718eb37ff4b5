//! What the four daemons of a standalone process would be given as processes of their own.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::ArgMatches;
use daemon::flags;

/// A listener that only this process needs: a free port of this machine alone.
const PRIVATE: &str = "127.0.0.1:0";

/// The flags of a standalone process, to be handed on.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    http_address: String,
    grpc_address: String,
    remote_write_address: String,
    data_dir: String,
    /// YAML of the bucket.
    objstore: String,
    labels: Vec<String>,
    block_duration: String,
    replica_labels: Vec<String>,
}

/// Where the listeners are that a standalone process hides, when each daemon is its own process.
struct Listeners {
    receiver: [&'static str; 2],
    store: [&'static str; 2],
    compactor: &'static str,
}

const HIDDEN: Listeners =
    Listeners { receiver: [PRIVATE; 2], store: [PRIVATE; 2], compactor: PRIVATE };
/// Ports as the tutorials of Thanos have them.
const OWN: Listeners = Listeners {
    receiver: ["127.0.0.1:10909", "127.0.0.1:10907"],
    store: ["127.0.0.1:19091", "127.0.0.1:19191"],
    compactor: "127.0.0.1:19095",
};

impl Arguments {
    pub(crate) fn from_flags(flags: &ArgMatches) -> anyhow::Result<Arguments> {
        let all = |name| {
            let values = flags.get_many::<String>(name).into_iter().flatten();
            values.cloned().collect::<Vec<String>>()
        };
        let data_dir = flags::text_of(flags, "data-dir");
        // YAML knows no escape between single quotes but the doubled quote.
        let quoted = data_dir.replace('\'', "''");
        let of_data_dir = format!("{{type: FILESYSTEM, config: {{directory: '{quoted}/bucket'}}}}");
        let block = flags.get_raw("tsdb.min-block-duration").and_then(|mut it| it.next());
        let block = block.and_then(|it| it.to_str()).context("--tsdb.min-block-duration")?;
        Ok(Arguments {
            http_address: flags::text_of(flags, "http-address"),
            grpc_address: flags::text_of(flags, "grpc-address"),
            remote_write_address: flags::text_of(flags, "remote-write.address"),
            objstore: flags::config_text(flags, "objstore")?.unwrap_or(of_data_dir),
            labels: all("label"),
            block_duration: block.to_owned(),
            replica_labels: all("query.replica-label"),
            data_dir,
        })
    }

    pub(crate) fn receiver(&self) -> Vec<String> {
        self.receiver_on(&HIDDEN)
    }

    pub(crate) fn store(&self) -> Vec<String> {
        self.store_on(&HIDDEN)
    }

    pub(crate) fn compactor(&self) -> Vec<String> {
        self.compactor_on(&HIDDEN)
    }

    pub(crate) fn querier(&self, receiver: SocketAddr, store: SocketAddr) -> Vec<String> {
        let mut arguments = vec![
            format!("--http-address={}", self.http_address),
            format!("--grpc-address={}", self.grpc_address),
            format!("--endpoint={receiver}"),
            format!("--endpoint={store}"),
        ];
        arguments
            .extend(self.replica_labels.iter().map(|it| format!("--query.replica-label={it}")));
        arguments
    }

    /// The commands that do the same as four processes, each with its arguments.
    pub(crate) fn as_four(&self) -> anyhow::Result<[(&'static str, Vec<String>); 4]> {
        let [_, receiver_grpc] = OWN.receiver;
        let [_, store_grpc] = OWN.store;
        Ok([
            ("receive", self.receiver_on(&OWN)),
            ("store", self.store_on(&OWN)),
            ("compact", self.compactor_on(&OWN)),
            ("query", self.querier(receiver_grpc.parse()?, store_grpc.parse()?)),
        ])
    }

    /// The directory of all data.
    pub(crate) fn data_dir(&self) -> &str {
        &self.data_dir
    }

    fn receiver_on(&self, listeners: &Listeners) -> Vec<String> {
        let [http, grpc] = listeners.receiver;
        let mut arguments = vec![
            format!("--http-address={http}"),
            format!("--grpc-address={grpc}"),
            format!("--remote-write.address={}", self.remote_write_address),
            format!("--tsdb.path={}/receive", self.data_dir),
            format!("--tsdb.min-block-duration={}", self.block_duration),
            format!("--tsdb.max-block-duration={}", self.block_duration),
            format!("--objstore.config={}", self.objstore),
        ];
        arguments.extend(self.labels.iter().map(|it| format!("--label={it}")));
        arguments
    }

    fn store_on(&self, listeners: &Listeners) -> Vec<String> {
        let [http, grpc] = listeners.store;
        vec![
            format!("--http-address={http}"),
            format!("--grpc-address={grpc}"),
            format!("--data-dir={}/store", self.data_dir),
            format!("--objstore.config={}", self.objstore),
        ]
    }

    fn compactor_on(&self, listeners: &Listeners) -> Vec<String> {
        vec![
            "--wait".to_owned(),
            format!("--http-address={}", listeners.compactor),
            format!("--data-dir={}/compact", self.data_dir),
            format!("--objstore.config={}", self.objstore),
        ]
    }
}
