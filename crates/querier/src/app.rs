//! What every request of the querier shares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use daemon::{Clock, Context, Metrics};
use model::Budget;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::Semaphore;

use crate::config::{Config, QueryConfig};
use crate::endpoints::Endpoints;
use crate::fanout::Fanout;
use crate::limits::QUERY_MEMORY_PART;
use crate::pool::Pool;

/// What every request of the querier shares.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) query: QueryConfig,
    pub(crate) has_cors: bool,
    pub(crate) shown_flags: BTreeMap<String, String>,
    pub(crate) endpoints: Endpoints,
    pub(crate) fanout: Fanout,
    pub(crate) pool: Pool,
    /// As many permits as queries may run at once.
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started_ms: i64,
    pub(crate) metrics: QueryMetrics,
    budget: Budget,
    query_bytes_max: usize,
    queries: AtomicU64,
}

impl App {
    /// Starts the threads of queries and prepares everything else.
    ///
    /// # Errors
    /// A thread cannot be started, or an endpoint's address makes no sense.
    pub(crate) fn new(config: &Config, context: &Context) -> anyhow::Result<App> {
        let budget = context.budget.clone();
        let width = std::thread::available_parallelism().map_or(1, usize::from);
        let concurrent_max = config.query.concurrent_max;
        let endpoints = Endpoints::new(
            config.endpoints.clone(),
            config.local_stores.clone(),
            Arc::clone(&context.clock),
        )?;
        Ok(App {
            query: config.query.clone(),
            has_cors: config.has_cors,
            shown_flags: config.shown_flags.clone(),
            fanout: Fanout::new(endpoints.clone(), config.selector_labels.clone()),
            endpoints,
            pool: Pool::start(&context.tasks, concurrent_max, width)?,
            gate: Arc::new(Semaphore::new(concurrent_max)),
            clock: Arc::clone(&context.clock),
            started_ms: context.clock.now_ms(),
            metrics: QueryMetrics::register(&context.metrics, concurrent_max),
            query_bytes_max: budget.limit_bytes() / QUERY_MEMORY_PART,
            budget,
            queries: AtomicU64::new(0),
        })
    }

    /// An account for one request.
    pub(crate) fn request_budget(&self) -> Budget {
        let number = self.queries.fetch_add(1, Ordering::Relaxed);
        self.budget.child(format!("query {number}"), self.query_bytes_max)
    }

    /// The language that is spoken here.
    pub(crate) fn parser_options(&self) -> promql::parser::Options {
        promql::parser::Options {
            experimental_functions: self.query.features.experimental_functions,
            extended_range_selectors: self.query.features.extended_range_selectors,
            fill_modifiers: self.query.features.fill_modifiers,
            ..promql::parser::Options::stable()
        }
    }

    /// The account of calls to our own StoreAPI.
    pub(crate) fn call_budget(&self) -> storeapi::server::CallBudget {
        storeapi::server::CallBudget {
            budget: self.budget.clone(),
            call_bytes_max: self.query_bytes_max,
        }
    }
}

/// The metrics of queries, by Thanos' names where it has them.
#[derive(Clone, Debug)]
pub(crate) struct QueryMetrics {
    pub(crate) in_flight: Gauge<i64, AtomicI64>,
    pub(crate) waited: Histogram,
    pub(crate) samples: Counter,
    pub(crate) incomplete: Counter,
    pub(crate) endpoints: Gauge<i64, AtomicI64>,
    pub(crate) endpoints_failing: Gauge<i64, AtomicI64>,
}

impl QueryMetrics {
    fn register(metrics: &Metrics, concurrent_max: usize) -> QueryMetrics {
        let waits = [0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 120.0];
        let it = QueryMetrics {
            in_flight: Gauge::default(),
            waited: Histogram::new(waits),
            samples: Counter::default(),
            incomplete: Counter::default(),
            endpoints: Gauge::default(),
            endpoints_failing: Gauge::default(),
        };
        let most = Gauge::<i64, AtomicI64>::default();
        most.set(i64::try_from(concurrent_max).unwrap_or(i64::MAX));
        metrics.register(|registry| {
            let name = "thanos_query_concurrent_gate_queries";
            registry.register(format!("{name}_max"), "Queries that may run at once", most);
            let help = "Queries that run now";
            registry.register(format!("{name}_in_flight"), help, it.in_flight.clone());
            let help = "Seconds that queries waited to run";
            registry.register(
                "thanos_query_concurrent_gate_duration_seconds",
                help,
                it.waited.clone(),
            );
            let help = "Samples that queries read";
            registry.register("aion_query_samples", help, it.samples.clone());
            let help = "Answers that something was missing from";
            registry.register("aion_query_incomplete_answers", help, it.incomplete.clone());
            let help = "Stores that are asked";
            registry.register("aion_query_endpoints", help, it.endpoints.clone());
            let help = "Stores that do not answer";
            registry.register("aion_query_endpoints_failing", help, it.endpoints_failing.clone());
        });
        it
    }

    /// Counts the stores.
    pub(crate) fn count_endpoints(&self, endpoints: &Endpoints) {
        let members = endpoints.members();
        let failing = members.iter().filter(|it| it.obstacle.is_some()).count();
        self.endpoints.set(i64::try_from(members.len()).unwrap_or(i64::MAX));
        self.endpoints_failing.set(i64::try_from(failing).unwrap_or(i64::MAX));
    }
}

/// Milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
