//! The codec behind every call of the StoreAPI: prost for all messages but the one that carries
//! the samples, which reads and writes itself.

use std::fmt;
use std::marker::PhantomData;

use bytes::{Buf as _, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::frame::SeriesResponse;

/// First allocation of a stream's buffer, in bytes.
const BUFFER_BYTES: usize = 16 * 1024;
/// How many bytes are gathered into one HTTP/2 data frame before they are sent.
const YIELD_BYTES: usize = 256 * 1024;

/// A message that knows its bytes.
pub(crate) trait WireMessage: Sized + Send + 'static {
    /// Appends the message.
    fn write(&self, out: &mut EncodeBuf<'_>) -> Result<(), Status>;
    /// Reads the message from all of `bytes`.
    fn read(bytes: Bytes) -> Result<Self, Status>;
}

impl<M: Message + Default + 'static> WireMessage for M {
    fn write(&self, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(self.encoded_len());
        self.encode(out).map_err(|error| Status::internal(error.to_string()))
    }

    fn read(bytes: Bytes) -> Result<M, Status> {
        M::decode(bytes).map_err(|error| Status::internal(format!("unreadable message: {error}")))
    }
}

impl WireMessage for SeriesResponse {
    fn write(&self, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        self.encode(out, |out, length| out.reserve(length));
        Ok(())
    }

    fn read(bytes: Bytes) -> Result<SeriesResponse, Status> {
        SeriesResponse::decode(&bytes)
            .map_err(|error| Status::internal(format!("unreadable message: {error}")))
    }
}

/// Makes encoders of `T` and decoders of `U`.
pub(crate) struct WireCodec<T, U>(PhantomData<fn() -> (T, U)>);

/// One direction of a [`WireCodec`].
pub(crate) struct Wire<T>(PhantomData<fn() -> T>);

impl<T, U> Default for WireCodec<T, U> {
    fn default() -> WireCodec<T, U> {
        WireCodec(PhantomData)
    }
}

impl<T, U> fmt::Debug for WireCodec<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WireCodec")
    }
}

impl<T> fmt::Debug for Wire<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl<T: WireMessage, U: WireMessage> Codec for WireCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = Wire<T>;
    type Decoder = Wire<U>;

    fn encoder(&mut self) -> Wire<T> {
        Wire(PhantomData)
    }

    fn decoder(&mut self) -> Wire<U> {
        Wire(PhantomData)
    }
}

impl<T: WireMessage> Encoder for Wire<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.write(out)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

impl<T: WireMessage> Decoder for Wire<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        // Not a copy: the bytes are split off the buffer of the stream.
        let length = source.remaining();
        T::read(source.copy_to_bytes(length)).map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}
