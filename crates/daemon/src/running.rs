//! A service from its start to its end.

use std::time::Duration;

use tracing::info;

use crate::{Context, Service};

/// How long tasks may take to end once they are told to.
const TASKS_GRACE: Duration = Duration::from_secs(60);

/// A service that has started.
#[derive(Debug)]
pub struct Running<S> {
    service: S,
    context: Context,
}

impl<S: Service> Running<S> {
    /// Starts a service; when that fails, what it had spawned already is stopped again.
    ///
    /// # Errors
    /// What [`Service::start`] says.
    pub async fn start(config: S::Config, context: Context) -> anyhow::Result<Running<S>> {
        match S::start(config, context.clone()).await {
            Ok(service) => Ok(Running { service, context }),
            Err(error) => {
                context.tasks.drain(TASKS_GRACE).await;
                Err(error)
            }
        }
    }

    /// The service.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// Stops the service in order: servers drain, tasks end, the service closes.
    ///
    /// # Errors
    /// What [`Service::close`] says.
    pub async fn stop(self) -> anyhow::Result<()> {
        info!(service = S::NAME, "stopping");
        self.context.readiness.set_not_ready("stopping");
        self.context.tasks.drain(TASKS_GRACE).await;
        self.service.close().await
    }
}
