//! The SDK's client as this crate needs it, and the encryption headers of its requests.
#![expect(clippy::disallowed_methods, reason = "the CA file is named by the operator")]

use std::path::Path;

use aws_config::BehaviorVersion;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::types::ServerSideEncryption;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder as ClientBuilder, Connector};
use aws_smithy_types::base64;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::config::{Encryption, S3Config};
use crate::digest::md5;
use crate::error::Error;
use crate::store::Result;

/// A client for the configured endpoint.
pub(super) async fn connect(config: &S3Config) -> Result<Client> {
    let builder = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(config.endpoint_url())
        .region(Region::new(config.region.clone()))
        .force_path_style(config.path_style)
        .credentials_provider(credentials(config).await)
        .http_client(http_client(config)?)
        // By default bodies get checksum trailers that many servers refuse.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        // Bodies have their own limits here, and retries their own decorator.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder().connect_timeout(config.http.connect_timeout).build(),
        )
        .retry_config(RetryConfig::disabled());
    Ok(Client::from_conf(builder.build()))
}

async fn credentials(config: &S3Config) -> SharedCredentialsProvider {
    match &config.keys {
        Some((access, secret)) => {
            let token = config.session_token.as_ref().map(|it| it.reveal().to_owned());
            let keys =
                Credentials::new(access.reveal(), secret.reveal(), token, None, "configuration");
            SharedCredentialsProvider::new(keys)
        }
        None => {
            let region = Region::new(config.region.clone());
            let chain = DefaultCredentialsChain::builder().region(region).build().await;
            SharedCredentialsProvider::new(chain)
        }
    }
}

fn http_client(config: &S3Config) -> Result<SharedHttpClient> {
    let tls = tls_context(config)?;
    let http = config.http.clone();
    Ok(ClientBuilder::new().build_with_connector_fn(move |settings, _| {
        let mut builder = Connector::builder()
            .pool_idle_timeout(http.idle_timeout)
            .pool_max_idle_per_host(http.idle_connections_max)
            .proxy_config(ProxyConfig::from_env());
        builder.set_connector_settings(settings.cloned());
        builder.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(tls.clone()).build()
    }))
}

fn tls_context(config: &S3Config) -> Result<TlsContext> {
    let trusted = match &config.http.ca_file {
        // Plain HTTP verifies nothing, and the machine may have no certificates at all.
        None if config.insecure => TrustStore::empty(),
        None => TrustStore::default(),
        Some(path) => TrustStore::empty().with_pem_certificate(checked_certificates(path)?),
    };
    let mut builder = TlsContext::builder().with_trust_store(trusted);
    if let Some(name) = &config.http.server_name {
        let name = name.as_str().try_into().map_err(|error| {
            Error::config(format!("config.http_config.tls_config.server_name {name:?}: {error}"))
        })?;
        builder = builder.with_additional_server_names(vec![name]);
    }
    builder.build().map_err(|error| Error::config(format!("config.http_config: {error}")))
}

/// The text of a certificate file; the SDK panics on one that it cannot read.
fn checked_certificates(path: &Path) -> Result<Vec<u8>> {
    let bad = |reason: String| {
        let path = path.display();
        Error::config(format!("config.http_config.tls_config.ca_file: {path}: {reason}"))
    };
    let text = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("no PEM certificate in it".to_owned()));
    }
    Ok(text)
}

/// What encryption adds to requests.
#[derive(Clone)]
pub(super) struct EncryptionHeaders {
    pub(super) kind: Option<ServerSideEncryption>,
    pub(super) kms_key_id: Option<String>,
    pub(super) kms_context: Option<String>,
    /// Key and its MD5, both in base 64.
    customer: Option<(String, String)>,
}

impl EncryptionHeaders {
    pub(super) fn new(encryption: &Encryption) -> EncryptionHeaders {
        let mut headers =
            EncryptionHeaders { kind: None, kms_key_id: None, kms_context: None, customer: None };
        match encryption {
            Encryption::Bucket => {}
            Encryption::Store => headers.kind = Some(ServerSideEncryption::Aes256),
            Encryption::KeyService { key_id, context } => {
                headers.kind = Some(ServerSideEncryption::AwsKms);
                headers.kms_key_id = Some(key_id.clone());
                headers.kms_context = (!context.is_empty()).then(|| context_header(context));
            }
            Encryption::Customer { key } => {
                headers.customer = Some((base64::encode(key.0), base64::encode(md5(&key.0))));
            }
        }
        headers
    }

    pub(super) fn customer_algorithm(&self) -> Option<String> {
        self.customer.as_ref().map(|_| "AES256".to_owned())
    }

    pub(super) fn customer_key(&self) -> Option<String> {
        self.customer.as_ref().map(|(key, _)| key.clone())
    }

    pub(super) fn customer_key_md5(&self) -> Option<String> {
        self.customer.as_ref().map(|(_, md5)| md5.clone())
    }

    /// Whether the entity tag of a single PUT is defined to be the MD5 of its contents.
    pub(super) fn keeps_md5_tags(&self) -> bool {
        self.kms_key_id.is_none() && self.customer.is_none()
    }
}

impl std::fmt::Debug for EncryptionHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncryptionHeaders").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The context as a JSON object in base 64.
fn context_header(context: &std::collections::BTreeMap<String, String>) -> String {
    let mut json = String::from("{");
    for (index, (name, value)) in context.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        json.push_str(comma);
        push_json(&mut json, name);
        json.push(':');
        push_json(&mut json, value);
    }
    json.push('}');
    base64::encode(json)
}

fn push_json(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            control if u32::from(control) < 0x20 => {
                json.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => json.push(other),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encryption_context_is_json_in_base_64() {
        let context = [("a", "b"), ("say", "\"hi\"\n\\")].map(|(k, v)| (k.into(), v.into()));
        let header = context_header(&context.into_iter().collect());
        let json = String::from_utf8(base64::decode(header).unwrap()).unwrap();
        assert_eq!(json, r#"{"a":"b","say":"\"hi\"\u000a\\"}"#);
    }

    #[test]
    fn a_bad_certificate_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let check = |text: &[u8], expected: &str| {
            std::fs::write(&path, text).unwrap();
            let error = checked_certificates(&path).expect_err(expected).to_string();
            assert!(error.contains(expected) && error.contains("ca.pem"), "{error}");
        };
        check(b"", "no PEM certificate");
        check(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ca.pem");
        check(b"-----BEGIN CERTIFICATE-----\n****\n-----END CERTIFICATE-----\n", "ca.pem");
        assert!(checked_certificates(&directory.path().join("none")).is_err());
    }
}
