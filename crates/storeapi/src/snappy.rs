//! gRPC compression by framed snappy, which tonic does not know and Thanos speaks: a layer for
//! both ends that packs and unpacks the messages of a body.
//!
//! Every body that comes in also passes a guard: nobody behind it allocates by a declared length.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::HeaderName};
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::framing::{Frames, Guard, HEADER_BYTES, frame_header};

const NAME: &str = "snappy";
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// Bytes by which an unpacked message grows at least before its bound is looked at again.
const GROW_BYTES: usize = 64 * 1024;

/// Which end of the call we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Unpacks requests; packs answers to those who packed their request.
    Server,
    /// Packs requests where told so; unpacks answers.
    Client {
        /// Whether to pack.
        compress: bool,
    },
}

/// Wraps a gRPC service or channel.
#[derive(Clone, Copy, Debug)]
pub struct SnappyLayer {
    side: Side,
    message_bytes_max: usize,
}

impl SnappyLayer {
    /// A layer for one end. Messages that come in may be `message_bytes_max` long when unpacked.
    pub fn new(side: Side, message_bytes_max: usize) -> SnappyLayer {
        SnappyLayer { side, message_bytes_max }
    }
}

impl<S> Layer<S> for SnappyLayer {
    type Service = Snappy<S>;

    fn layer(&self, inner: S) -> Snappy<S> {
        Snappy { inner, layer: *self }
    }
}

/// A service behind a [`SnappyLayer`].
#[derive(Clone, Debug)]
pub struct Snappy<S> {
    inner: S,
    layer: SnappyLayer,
}

impl<S, B, R> Service<Request<B>> for Snappy<S>
where
    S: Service<Request<Body>, Response = Response<R>>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let SnappyLayer { side, message_bytes_max } = self.layer;
        let (mut head, body) = request.into_parts();
        let body = Body::new(body);
        let (body, packs_answer) = match side {
            Side::Server => {
                let is_packed = take_snappy(&mut head.headers);
                (unpacked(body, is_packed, message_bytes_max), is_packed)
            }
            Side::Client { compress } => {
                head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(NAME));
                (if compress { packed(body, &mut head.headers) } else { body }, false)
            }
        };
        let answer = self.inner.call(Request::from_parts(head, body));
        Box::pin(async move {
            let (mut head, body) = answer.await?.into_parts();
            let body = Body::new(body);
            let body = match side {
                Side::Server if packs_answer => packed(body, &mut head.headers),
                Side::Server => body,
                Side::Client { .. } => {
                    let is_packed = take_snappy(&mut head.headers);
                    unpacked(body, is_packed, message_bytes_max)
                }
            };
            Ok(Response::from_parts(head, body))
        })
    }
}

fn take_snappy(headers: &mut HeaderMap) -> bool {
    let is_snappy = headers.get(ENCODING).is_some_and(|it| it.as_bytes() == NAME.as_bytes());
    if is_snappy {
        headers.remove(ENCODING);
    }
    is_snappy
}

fn packed(body: Body, headers: &mut HeaderMap) -> Body {
    // A body without frames (an error that is told by trailers only) needs no encoding.
    if body.is_end_stream() {
        return body;
    }
    headers.insert(ENCODING, HeaderValue::from_static(NAME));
    Body::new(Recoded::new(body, Recode::Pack(Frames::default())))
}

fn unpacked(body: Body, is_packed: bool, message_bytes_max: usize) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let recode = if is_packed {
        Recode::Unpack(Frames::default(), message_bytes_max)
    } else {
        Recode::Guard(Guard::default())
    };
    Body::new(Recoded::new(body, recode))
}

/// What to do with the messages of a body.
#[derive(Debug)]
enum Recode {
    Pack(Frames),
    Unpack(Frames, usize),
    Guard(Guard),
}

/// A body whose messages are changed on their way.
struct Recoded {
    inner: Body,
    recode: Recode,
    ready: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    is_over: bool,
}

impl Recoded {
    fn new(inner: Body, recode: Recode) -> Recoded {
        Recoded { inner, recode, ready: VecDeque::new(), trailers: None, is_over: false }
    }

    fn push(&mut self, piece: Bytes) -> Result<(), Status> {
        match &mut self.recode {
            Recode::Guard(guard) => guard.push(piece, &mut self.ready),
            Recode::Pack(frames) => {
                frames.push(&piece);
                let too_long = |_| Status::internal("a message is too long for a frame");
                while let Some((_, message)) = frames.next(usize::MAX).map_err(too_long)? {
                    self.ready.push_back(pack(&message)?);
                }
            }
            Recode::Unpack(frames, length_max) => {
                frames.push(&piece);
                // Packed, a message is at most a little longer than it is.
                let packed_max = length_max.saturating_add(*length_max / 6 + 32);
                while let Some((is_packed, message)) =
                    frames.next(packed_max).map_err(|length| too_long(length, *length_max))?
                {
                    let frame = if is_packed {
                        unpack(&message, *length_max)?
                    } else {
                        framed(false, &message)?
                    };
                    self.ready.push_back(frame);
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Status> {
        self.is_over = true;
        match &mut self.recode {
            Recode::Guard(guard) => guard.finish(&mut self.ready),
            Recode::Pack(frames) | Recode::Unpack(frames, _) if !frames.is_empty() => {
                return Err(Status::internal("the stream ends inside of a message"));
            }
            Recode::Pack(_) | Recode::Unpack(..) => {}
        }
        Ok(())
    }
}

impl fmt::Debug for Recoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recoded").field("recode", &self.recode).finish_non_exhaustive()
    }
}

impl HttpBody for Recoded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.is_over {
                return Poll::Ready(self.trailers.take().map(|it| Ok(Frame::trailers(it))));
            }
            let frame = match Pin::new(&mut self.inner).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame,
            };
            let result = match frame {
                None => self.finish(),
                Some(Err(error)) => Err(error),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.push(piece),
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        self.finish()
                    }
                },
            };
            if let Err(status) = result {
                self.is_over = true;
                self.ready.clear();
                return Poll::Ready(Some(Err(status)));
            }
        }
    }
}

fn too_long(length: usize, length_max: usize) -> Status {
    Status::out_of_range(format!(
        "a message of {length} bytes is too long, at most {length_max} are taken"
    ))
}

fn framed(compressed: bool, message: &[u8]) -> Result<Bytes, Status> {
    let header = frame_header(compressed, message.len())
        .ok_or_else(|| Status::internal("a message is too long for a frame"))?;
    Ok([header.as_slice(), message].concat().into())
}

fn pack(message: &[u8]) -> Result<Bytes, Status> {
    let mut out = Vec::with_capacity(HEADER_BYTES + message.len() / 2 + 32);
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let mut encoder = snap::write::FrameEncoder::new(out);
    let written = encoder.write_all(message).and_then(|()| {
        let finished = encoder.into_inner();
        finished.map_err(|error| std::io::Error::other(error.to_string()))
    });
    let mut out = written.map_err(|error| Status::internal(format!("snappy: {error}")))?;
    let header = frame_header(true, out.len() - HEADER_BYTES)
        .ok_or_else(|| Status::internal("a message is too long for a frame"))?;
    out[..HEADER_BYTES].copy_from_slice(&header);
    Ok(out.into())
}

fn unpack(message: &[u8], length_max: usize) -> Result<Bytes, Status> {
    let mut out = vec![0; HEADER_BYTES];
    let mut decoder = snap::read::FrameDecoder::new(message);
    loop {
        let step = u64::try_from(GROW_BYTES.max(out.len())).unwrap_or(u64::MAX);
        let count = (&mut decoder).take(step).read_to_end(&mut out);
        let count = count.map_err(|error| {
            Status::internal(format!("a message is not framed snappy: {error}"))
        })?;
        if out.len() - HEADER_BYTES > length_max {
            return Err(too_long(out.len() - HEADER_BYTES, length_max));
        }
        if count == 0 {
            break;
        }
    }
    let header = frame_header(false, out.len() - HEADER_BYTES)
        .ok_or_else(|| Status::internal("a message is too long for a frame"))?;
    out[..HEADER_BYTES].copy_from_slice(&header);
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_bombs_do_not_go_off() {
        for length in [0, 1, 1000, 200_000] {
            let message = vec![b'x'; length];
            let frame = pack(&message).unwrap();
            assert_eq!(frame[0], 1);
            let back = unpack(&frame[HEADER_BYTES..], length).unwrap();
            assert_eq!(back, framed(false, &message).unwrap());
            if length > 0 {
                assert!(unpack(&frame[HEADER_BYTES..], length - 1).is_err());
            }
        }
        assert!(unpack(b"no snappy", 1000).is_err());
    }
}
