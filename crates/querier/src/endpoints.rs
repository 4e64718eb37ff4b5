//! Whom to ask: the stores named by flags, what each said of itself, and since when.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::Clock;
use futures_util::future::join_all;
use parking_lot::RwLock;
use storeapi::request::StoreInfo;
use storeapi::{ClientConfig, RemoteStore, Store};
use tracing::{info, warn};

use crate::config::EndpointsConfig;

/// How an endpoint was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spec {
    /// `host:port`, connected to as it stands.
    Address(String),
    /// `dns+host:port`: every IPv4 address that the name resolves to, or the IPv6 ones if it has no
    /// other; `dnsdualstack+` takes both.
    Dns {
        /// `host:port`.
        name: String,
        /// Whether IPv6 addresses count beside IPv4 ones.
        is_dual: bool,
    },
}

impl Spec {
    /// Reads an `--endpoint`.
    ///
    /// # Errors
    /// What is wrong, for the person who wrote it.
    pub(crate) fn parse(text: &str) -> Result<Spec, String> {
        let (scheme, address) = text.split_once('+').unwrap_or(("", text));
        let has_port = address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|it| it > 0)
        });
        match scheme {
            "dnssrv" | "dnssrvnoa" => Err(format!(
                "{text}: SRV records are not looked up: name the port with dns+host:port"
            )),
            "" | "dns" | "dnsdualstack" if !has_port => {
                Err(format!("{text}: an endpoint is host:port or dns+host:port"))
            }
            "" => Ok(Spec::Address(address.to_owned())),
            "dns" | "dnsdualstack" => {
                Ok(Spec::Dns { name: address.to_owned(), is_dual: scheme == "dnsdualstack" })
            }
            _ => Err(format!("{text}: unknown scheme {scheme:?}; known are dns+ and none")),
        }
    }
}

/// One store and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Where it is, or what it is called when it lives in this process.
    pub(crate) name: String,
    /// The store itself.
    pub(crate) store: Arc<dyn Store>,
    /// What it said of itself last; `None` when it never said anything.
    pub(crate) info: Option<StoreInfo>,
    /// Why it cannot be asked now.
    pub(crate) obstacle: Option<String>,
    /// When it was last asked, in ms since the Unix epoch; 0 is never.
    pub(crate) checked_ms: i64,
}

/// The stores of a querier; clones share them.
#[derive(Clone)]
pub(crate) struct Endpoints(Arc<Shared>);

struct Shared {
    config: EndpointsConfig,
    local: Vec<Arc<dyn Store>>,
    clock: Arc<dyn Clock>,
    remote: RwLock<BTreeMap<String, Remote>>,
}

struct Remote {
    store: Arc<RemoteStore>,
    info: Option<StoreInfo>,
    obstacle: Option<String>,
    checked_ms: i64,
    /// Since when the name service does not give this address any more.
    vanished_ms: Option<i64>,
}

impl Endpoints {
    /// Nobody was asked yet. Static addresses are known from the start.
    pub(crate) fn new(
        config: EndpointsConfig,
        local: Vec<Arc<dyn Store>>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Endpoints> {
        let shared = Shared { config, local, clock, remote: RwLock::default() };
        let endpoints = Endpoints(Arc::new(shared));
        for spec in &endpoints.0.config.specs {
            if let Spec::Address(address) = spec {
                endpoints.add(address)?;
            }
        }
        Ok(endpoints)
    }

    /// All stores as they are now, those of this process first.
    pub(crate) fn members(&self) -> Vec<Member> {
        let now_ms = self.0.clock.now_ms();
        let local = self.0.local.iter().map(|store| Member {
            name: store.name(),
            store: Arc::clone(store),
            info: Some(store.info()),
            obstacle: None,
            checked_ms: now_ms,
        });
        let remote = self.0.remote.read();
        let remote = remote.iter().map(|(address, it)| Member {
            name: address.clone(),
            store: Arc::<RemoteStore>::clone(&it.store),
            info: it.info.clone(),
            obstacle: it.obstacle.clone(),
            checked_ms: it.checked_ms,
        });
        local.chain(remote).collect()
    }

    /// Looks up the names, once.
    pub(crate) async fn resolve(&self) {
        let mut found = Vec::new();
        let mut is_whole = true;
        for spec in &self.0.config.specs {
            match spec {
                Spec::Address(address) => found.push(address.clone()),
                Spec::Dns { name, is_dual } => match tokio::net::lookup_host(name).await {
                    Ok(addresses) => {
                        let addresses: Vec<SocketAddr> = addresses.collect();
                        let has_v4 = addresses.iter().any(SocketAddr::is_ipv4);
                        let is_taken = |it: &&SocketAddr| *is_dual || !has_v4 || it.is_ipv4();
                        found.extend(addresses.iter().filter(is_taken).map(ToString::to_string));
                    }
                    // What the name stood for before stays.
                    Err(error) => {
                        is_whole = false;
                        warn!(name, %error, "cannot look up an endpoint, its old addresses stay");
                    }
                },
            }
        }
        for address in &found {
            if let Err(error) = self.add(address) {
                warn!(address, %error, "cannot use an endpoint");
            }
        }
        let now_ms = self.0.clock.now_ms();
        let forget_ms =
            i64::try_from(self.0.config.unhealthy_timeout.as_millis()).unwrap_or(i64::MAX);
        let mut remote = self.0.remote.write();
        for (address, it) in remote.iter_mut() {
            match (found.contains(address), it.vanished_ms) {
                (true, _) => it.vanished_ms = None,
                (false, None) if is_whole => it.vanished_ms = Some(now_ms),
                _ => {}
            }
        }
        // An address that is gone from the name service and does not answer is forgotten; one that
        // a flag names never is, so that no answer looks whole without it.
        remote.retain(|address, it| {
            let is_gone = it.obstacle.is_some()
                && it.vanished_ms.is_some_and(|since_ms| now_ms - since_ms > forget_ms);
            if is_gone {
                info!(address, "forgetting an endpoint that the name service does not give");
            }
            !is_gone
        });
    }

    /// Asks every store what it holds, all at the same time.
    pub(crate) async fn refresh(&self) {
        let stores: Vec<(String, Arc<RemoteStore>)> = {
            let remote = self.0.remote.read();
            remote.iter().map(|(address, it)| (address.clone(), Arc::clone(&it.store))).collect()
        };
        let deadline = self.0.config.info_timeout;
        let answers = join_all(stores.iter().map(|(_, store)| store.refresh(deadline))).await;
        let now_ms = self.0.clock.now_ms();
        let mut remote = self.0.remote.write();
        for ((address, _), answer) in stores.into_iter().zip(answers) {
            let Some(it) = remote.get_mut(&address) else { continue };
            let is_first = it.checked_ms == 0;
            it.checked_ms = now_ms;
            match answer {
                Ok(info) => {
                    if it.obstacle.take().is_some() || it.info.is_none() {
                        let component = &info.component;
                        info!(address, component, "an endpoint answers");
                    }
                    it.info = Some(info);
                }
                Err(error) => {
                    let error = error.to_string();
                    if it.obstacle.is_none() || is_first {
                        warn!(address, error, "an endpoint does not answer");
                    }
                    it.obstacle = Some(error);
                }
            }
        }
    }

    /// How often names are looked up.
    pub(crate) fn dns_interval(&self) -> Duration {
        self.0.config.dns_interval
    }

    /// Whether any endpoint is a name to be looked up.
    pub(crate) fn has_names(&self) -> bool {
        self.0.config.specs.iter().any(|it| matches!(it, Spec::Dns { .. }))
    }

    fn add(&self, address: &str) -> anyhow::Result<()> {
        if self.0.remote.read().contains_key(address) {
            return Ok(());
        }
        let config = ClientConfig {
            address: address.to_owned(),
            tls: self.0.config.tls.clone(),
            compress: self.0.config.compress,
            connect_timeout: crate::limits::CONNECT_TIMEOUT,
            response_timeout: self.0.config.response_timeout,
        };
        let remote = Remote {
            store: Arc::new(RemoteStore::new(config)?),
            info: None,
            obstacle: Some(format!("{address}: not asked yet")),
            checked_ms: 0,
            vanished_ms: None,
        };
        self.0.remote.write().entry(address.to_owned()).or_insert(remote);
        Ok(())
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints")
            .field("local", &self.0.local.len())
            .field("remote", &self.0.remote.read().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses_or_names() {
        let address = |it: &str| Spec::Address(it.to_owned());
        assert_eq!(Spec::parse("store:10901"), Ok(address("store:10901")));
        assert_eq!(Spec::parse("[::1]:10901"), Ok(address("[::1]:10901")));
        let dns = |is_dual| Spec::Dns { name: "store:10901".to_owned(), is_dual };
        assert_eq!(Spec::parse("dns+store:10901"), Ok(dns(false)));
        assert_eq!(Spec::parse("dnsdualstack+store:10901"), Ok(dns(true)));
        for text in ["store", ":10901", "store:0", "store:x", "dns+store", "x+store:1", ""] {
            assert!(Spec::parse(text).is_err(), "{text}");
        }
        assert!(Spec::parse("dnssrv+_grpc._tcp.store").unwrap_err().contains("SRV"));
    }
}
