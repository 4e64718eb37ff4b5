//! A querier over stores that lie in memory.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use daemon::Context;
use flate2::read::GzDecoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use model::Labels;
use querier::{Config, Querier};
use serde_json::Value;
use std::io::Read as _;
use storeapi::Store;
use storeapi::StoreSeries;
use storeapi::store::{AggrChunk, Chunk, ChunkEncoding};
use tower::ServiceExt as _;
use tsdb_core::chunk::xor::Appender;

/// The HTTP API of a querier with these flags over these stores.
pub(crate) struct World {
    router: Router,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |it| it.to_str().unwrap())
    }
}

impl World {
    pub(crate) async fn new(flags: &[&str], stores: Vec<Arc<dyn Store>>) -> World {
        let flags: Vec<String> = flags.iter().map(|it| (*it).to_owned()).collect();
        let mut config: Config = daemon::config_of::<Querier>(&flags).unwrap();
        config.local_stores = stores;
        let context = Context::of_this_machine("query").unwrap();
        World { router: querier::router(&config, &context).await.unwrap() }
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(Request::get(target).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, target: &str, form: &str) -> Answer {
        let request = Request::post(target)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()));
        self.send(request.unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let wants_gzip = request.headers().contains_key(ACCEPT_ENCODING);
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = match head.headers.get(CONTENT_ENCODING) {
            Some(encoding) => {
                assert!(wants_gzip && encoding == "gzip", "{encoding:?} was not asked for");
                let mut text = String::new();
                GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
                text
            }
            None => String::from_utf8(bytes.to_vec()).unwrap(),
        };
        Answer { status: head.status, headers: head.headers, text }
    }
}

/// Labels from pairs.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

/// A series in chunks of 120 samples.
pub(crate) fn series(pairs: &[(&str, &str)], samples: &[(i64, f64)]) -> StoreSeries {
    let chunks = samples.chunks(120).map(|samples| {
        let mut appender = Appender::new();
        for (timestamp_ms, value) in samples {
            assert!(appender.append(*timestamp_ms, *value));
        }
        let data = appender.to_bytes().into();
        AggrChunk {
            min_time_ms: samples[0].0,
            max_time_ms: samples[samples.len() - 1].0,
            raw: Some(Chunk { encoding: ChunkEncoding::Xor, data }),
            ..AggrChunk::default()
        }
    });
    StoreSeries { labels: labels(pairs), chunks: chunks.collect() }
}
