//! A gateway in this process, and raw calls to it.

use std::path::Path;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use daemon::{Context, Running, config_of};
use store_gateway::StoreGateway;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) running: Running<StoreGateway>,
    pub(crate) context: Context,
    _data_dir: tempfile::TempDir,
}

impl Gateway {
    /// Starts a gateway over a directory, with more flags, and waits until it is ready.
    pub(crate) async fn start(bucket: &Path, flags: &[&str]) -> Gateway {
        let gateway = Gateway::begin(bucket, flags).await;
        let readiness = gateway.context.readiness.clone();
        let ready = tokio::time::timeout(Duration::from_secs(30), readiness.part_changed(false));
        assert!(ready.await.unwrap(), "{:?}", readiness.obstacles());
        gateway
    }

    /// Starts a gateway over a directory, with more flags.
    pub(crate) async fn begin(bucket: &Path, flags: &[&str]) -> Gateway {
        let directory = bucket.display().to_string();
        let objstore = format!("type: FILESYSTEM\nconfig:\n  directory: {directory:?}\n");
        Gateway::begin_with(&objstore, flags).await
    }

    /// Starts a gateway over the bucket of a configuration.
    pub(crate) async fn begin_with(objstore: &str, flags: &[&str]) -> Gateway {
        let data_dir = tempfile::tempdir().unwrap();
        let mut arguments = vec![
            format!("--objstore.config={objstore}"),
            format!("--data-dir={}", data_dir.path().display()),
            "--http-address=127.0.0.1:0".to_owned(),
            "--grpc-address=127.0.0.1:0".to_owned(),
            "--sync-block-duration=200ms".to_owned(),
        ];
        arguments.extend(flags.iter().map(|it| (*it).to_owned()));
        let config = config_of::<StoreGateway>(&arguments).unwrap();
        let context = Context::of_this_machine("store").unwrap();
        let running = Running::start(config, context.clone()).await.unwrap();
        Gateway { running, context, _data_dir: data_dir }
    }

    /// Calls a method with a raw message; answers the raw messages of the answer and its status.
    pub(crate) async fn call(&self, method: &str, message: Bytes) -> (Vec<Bytes>, Code, String) {
        let address = format!("http://{}", self.running.service().grpc_address());
        let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
        let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(64 << 20);
        client.ready().await.unwrap();
        let path: PathAndQuery = method.parse().unwrap();
        let request = tonic::Request::new(message);
        let mut messages = Vec::new();
        let status = match client.server_streaming(request, path, Raw).await {
            Err(status) => status,
            Ok(answer) => {
                let mut stream = answer.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => messages.push(message),
                        Ok(None) => break Status::ok(""),
                        Err(status) => break status,
                    }
                }
            }
        };
        (messages, status.code(), status.message().to_owned())
    }

    /// Stops it.
    pub(crate) async fn stop(self) {
        self.running.stop().await.unwrap();
    }
}

/// Messages as they are.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}
