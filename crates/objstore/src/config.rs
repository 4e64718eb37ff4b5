//! Thanos' object store configuration: the YAML of `--objstore.config` and what it becomes.

mod duration;
pub(crate) mod s3;
mod yaml;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::nearest;
use serde::Deserialize;

use crate::config::s3::RawS3;
pub use crate::config::s3::{Encryption, S3Config, Secret};
use crate::environment::Environment;
use crate::error::Error;
use crate::filesystem::FilesystemStore;
use crate::metered::{Metered, Metrics};
use crate::prefixed::Prefixed;
use crate::retry::{Retry, RetryPolicy};
use crate::s3::S3Store;
use crate::store::{Result, SharedStore};

/// Tries of a call where the configuration names no number; Thanos' S3 client has the same.
const TRIES_DEFAULT: u32 = 10;
/// The types that Thanos knows and this crate does not.
const TYPES_OF_THANOS: [&str; 8] =
    ["GCS", "AZURE", "SWIFT", "COS", "ALIYUNOSS", "BOS", "OBS", "OCI"];

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the objects are.
    pub backend: Backend,
    /// Put in front of every key; empty for none.
    pub prefix: String,
    /// What the operator should hear about settings that were taken differently than written;
    /// the daemon logs each as a warning.
    pub notes: Vec<String>,
}

/// Where the objects are.
#[derive(Clone, Debug, PartialEq)]
pub enum Backend {
    /// An S3 API.
    S3(Box<S3Config>),
    /// A directory.
    Filesystem {
        /// The directory.
        directory: PathBuf,
    },
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Peek {
    #[serde(rename = "type", deserialize_with = "yaml::or_default")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "T: Default + Deserialize<'de>")]
struct Raw<T> {
    #[serde(rename = "type")]
    _kind: String,
    #[serde(default, deserialize_with = "yaml::or_default")]
    config: T,
    #[serde(default, deserialize_with = "yaml::or_default")]
    prefix: String,
    #[serde(default, deserialize_with = "yaml::or_default")]
    hedging_config: RawHedging,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFilesystem {
    #[serde(deserialize_with = "yaml::or_default")]
    directory: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHedging {
    #[serde(deserialize_with = "yaml::or_default")]
    enabled: bool,
    #[serde(rename = "up_to")]
    _up_to: Option<u64>,
    #[serde(rename = "quantile")]
    _quantile: Option<f64>,
}

impl Config {
    /// Reads and checks a configuration; touches nothing outside but the files that it names.
    ///
    /// # Errors
    /// [`Error::Config`] with the place and what to write instead: unknown keys (with the nearest
    /// known one), values of the wrong kind, types of stores that are not supported.
    pub fn parse(text: &str) -> Result<Config> {
        let kind = yaml::parse::<Peek>(text)?.kind;
        match kind.to_ascii_uppercase().as_str() {
            "S3" => Config::s3(yaml::parse(text)?),
            "FILESYSTEM" => Config::directory(yaml::parse(text)?),
            "" => Err(Error::config("the key type is missing: S3 or FILESYSTEM")),
            upper if TYPES_OF_THANOS.contains(&upper) => Err(Error::config(format!(
                "type {upper} is not supported, only S3 and FILESYSTEM are; many stores of other \
                 kinds offer an S3 API too, which type S3 can use"
            ))),
            _ => {
                let hint = nearest(&kind.to_ascii_uppercase(), ["S3", "FILESYSTEM"]);
                let hint = hint.map(|it| format!(", did you mean {it}?")).unwrap_or_default();
                Err(Error::config(format!("unknown type {kind:?}{hint}; S3 or FILESYSTEM")))
            }
        }
    }

    /// A bucket in a directory, without a file that says so.
    pub fn filesystem(directory: &Path) -> Config {
        let backend = Backend::Filesystem { directory: directory.to_owned() };
        Config { backend, prefix: String::new(), notes: Vec::new() }
    }

    fn directory(raw: Raw<RawFilesystem>) -> Result<Config> {
        if raw.config.directory.is_empty() {
            return Err(Error::config("config.directory is missing: where is the bucket?"));
        }
        let mut config = Config::filesystem(Path::new(&raw.config.directory));
        config.finish(raw.prefix, &raw.hedging_config)
    }

    fn s3(raw: Raw<RawS3>) -> Result<Config> {
        let mut notes = Vec::new();
        let backend = Backend::S3(Box::new(S3Config::check(raw.config, &mut notes)?));
        Config { backend, prefix: String::new(), notes }.finish(raw.prefix, &raw.hedging_config)
    }

    fn finish(&mut self, prefix: String, hedging: &RawHedging) -> Result<Config> {
        if hedging.enabled {
            self.notes.push("hedging_config is read but not acted on yet".to_owned());
        }
        self.prefix = prefix.trim_matches('/').to_owned();
        if !self.prefix.is_empty() {
            crate::key::check_key(&self.prefix)
                .map_err(|error| Error::config(format!("prefix: {error}")))?;
        }
        Ok(self.clone())
    }

    /// The store in words, for logs and errors: `S3 "thanos" at http://minio:9000`.
    pub fn describe(&self) -> String {
        match &self.backend {
            Backend::S3(config) => format!("S3 {:?} at {}", config.bucket, config.endpoint_url()),
            Backend::Filesystem { directory } => format!("FILESYSTEM {}", directory.display()),
        }
    }

    /// The store with retries, metrics and prefix. Nothing is asked of it yet: a store that cannot
    /// be reached is found out by the first call.
    ///
    /// # Errors
    /// [`Error::Config`] when certificates or keys cannot be read.
    pub async fn open(&self, environment: &Environment, metrics: &Metrics) -> Result<SharedStore> {
        let environment = environment.clone();
        let (store, tries): (SharedStore, u32) = match &self.backend {
            Backend::S3(config) => {
                let tries = config.max_retries.map_or(TRIES_DEFAULT, |it| it.saturating_add(1));
                let policy = RetryPolicy::with_tries(tries);
                let store = S3Store::open(config, policy, environment.clone(), metrics).await?;
                (Arc::new(store), tries)
            }
            Backend::Filesystem { directory } => {
                let store = FilesystemStore::new(directory, environment.clone());
                (Arc::new(store), TRIES_DEFAULT)
            }
        };
        let policy = RetryPolicy::with_tries(tries);
        let store = Arc::new(Retry::new(store, policy, environment.clone(), metrics));
        let store = Arc::new(Metered::new(store, environment, metrics));
        Prefixed::wrap(store, &self.prefix)
    }
}

#[cfg(test)]
mod tests;
