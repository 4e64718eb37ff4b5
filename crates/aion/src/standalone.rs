//! All four daemons in one process, for one machine: no flags needed.

mod arguments;
mod greeting;
mod self_scrape;

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgMatches, Command};
use compactor::Compactor;
use daemon::{Context, Running, Service, config_of, flags, one_line};
use querier::Querier;
use receiver::Receiver;
use store_gateway::StoreGateway;
use tracing::{error, info};

use crate::standalone::arguments::Arguments;
use crate::standalone::self_scrape::SelfScrape;

/// The label that blocks get when `--label` names none: every block must say where it is from.
const DEFAULT_LABEL: &str = "replica=standalone";

/// The four daemons, in the order in which data goes through them.
pub(crate) struct Standalone {
    receiver: Running<Receiver>,
    store: Running<StoreGateway>,
    compactor: Running<Compactor>,
    querier: Running<Querier>,
}

/// What the flags say, checked by the daemons that they are for.
#[derive(Debug)]
pub(crate) struct Config {
    arguments: Arguments,
    self_scrape_interval: Duration,
    receiver: <Receiver as Service>::Config,
    store: <StoreGateway as Service>::Config,
    compactor: <Compactor as Service>::Config,
}

impl Service for Standalone {
    const NAME: &'static str = "standalone";
    type Config = Config;

    fn flags(command: Command) -> Command {
        let listeners = [
            ("http-address", "0.0.0.0:10902", "Where queries, health and metrics are answered."),
            ("grpc-address", "0.0.0.0:10901", "Where the querier answers over gRPC."),
            ("remote-write.address", "0.0.0.0:19291", "Where remote write is taken."),
        ];
        let command = listeners.into_iter().fold(command, |command, (name, default, help)| {
            command.arg(flags::value(name, help).default_value(default))
        });
        let command = command
            .arg(flags::value("data-dir", "Directory of all data.").default_value("./data"))
            .arg(
                flags::values("label", "Label of all blocks, name=\"value\".")
                    .default_value(DEFAULT_LABEL),
            )
            .arg(flags::duration("tsdb.min-block-duration", "2h", "Length of a block."))
            .arg(flags::duration("tsdb.max-block-duration", "2h", "Length of a block."))
            .arg(flags::values("query.replica-label", "Label that tells replicas apart."))
            .arg(flags::duration(
                "self-scrape.interval",
                "5s",
                "How often the process writes its own metrics to itself; 0 is never.",
            ));
        flags::config_pair(command, "objstore", "Bucket, as YAML; without it <data-dir>/bucket.")
    }

    fn config(flags: &ArgMatches) -> anyhow::Result<Config> {
        let minimum = flags::duration_of(flags, "tsdb.min-block-duration");
        let maximum = flags::duration_of(flags, "tsdb.max-block-duration");
        if minimum != maximum {
            bail!("--tsdb.min-block-duration and --tsdb.max-block-duration: must be equal");
        }
        let arguments = Arguments::from_flags(flags)?;
        // The querier's addresses are known only once the others listen; these stand for them.
        let unknown = "127.0.0.1:1".parse()?;
        config_of::<Querier>(&arguments.querier(unknown, unknown))?;
        Ok(Config {
            self_scrape_interval: flags::duration_of(flags, "self-scrape.interval"),
            receiver: config_of::<Receiver>(&arguments.receiver())?,
            store: config_of::<StoreGateway>(&arguments.store())?,
            compactor: config_of::<Compactor>(&arguments.compactor())?,
            arguments,
        })
    }

    async fn start(config: Config, context: Context) -> anyhow::Result<Standalone> {
        let Config { arguments, self_scrape_interval, receiver, store, compactor } = config;
        let receiver = start::<Receiver>(receiver, &context).await?;
        let store = match start::<StoreGateway>(store, &context).await {
            Ok(store) => store,
            Err(error) => return abandon(error, [stop(receiver)]).await,
        };
        let compactor = match start::<Compactor>(compactor, &context).await {
            Ok(compactor) => compactor,
            Err(error) => return abandon(error, [stop(store), stop(receiver)]).await,
        };
        let addresses = (receiver.service().grpc_address(), store.service().grpc_address());
        let of_querier = config_of::<Querier>(&arguments.querier(addresses.0, addresses.1))?;
        let querier = match start::<Querier>(of_querier, &context).await {
            Ok(querier) => querier,
            Err(error) => {
                let others = [stop(compactor), stop(store), stop(receiver)];
                return abandon(error, others).await;
            }
        };
        let http_address = querier.service().http_address();
        let remote_write = receiver.service().remote_write_address();
        if !self_scrape_interval.is_zero() {
            let scrape = SelfScrape::new(http_address, remote_write, self_scrape_interval);
            scrape.spawn(&context);
        }
        greeting::spawn_when_ready(&context, arguments.greeting(http_address, remote_write));
        context.readiness.set_ready();
        Ok(Standalone { receiver, store, compactor, querier })
    }

    /// Against the data: who answers goes first, who takes samples last.
    async fn close(self) -> anyhow::Result<()> {
        let Standalone { receiver, store, compactor, querier } = self;
        let mut first_error = None;
        for stop in [stop(querier), stop(compactor), stop(store), stop(receiver)] {
            if let Err(error) = stop.await {
                error!(error = one_line(&error), "a part did not close well");
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}

async fn start<S: Service>(config: S::Config, context: &Context) -> anyhow::Result<Running<S>> {
    info!(service = S::NAME, "starting a part");
    Running::start(config, context.part(S::NAME)).await.with_context(|| S::NAME)
}

type Stop = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

fn stop<S: Service + 'static>(running: Running<S>) -> Stop {
    Box::pin(async move { running.stop().await.with_context(|| S::NAME) })
}

/// Stops what had started already, and gives the error that made it vain.
async fn abandon<T, const N: usize>(
    reason: anyhow::Error,
    started: [Stop; N],
) -> anyhow::Result<T> {
    for stop in started {
        if let Err(error) = stop.await {
            error!(error = one_line(&error), "a part did not close well");
        }
    }
    Err(reason)
}
