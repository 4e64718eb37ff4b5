//! A response body that somebody watches to its end.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http::HeaderMap;
use hyper::body::{Frame, SizeHint};

/// Watches a body; dropped with it, at its end or when the client goes away.
pub(crate) trait Witness: Send + Unpin + 'static {
    /// The body ended with these trailers.
    fn trailers(&mut self, _: &HeaderMap) {}
}

/// A body and its witness; length and frames are those of the body.
pub(crate) struct Observed<W> {
    body: Body,
    witness: W,
}

impl<W: Witness> Observed<W> {
    pub(crate) fn wrap(body: Body, witness: W) -> Body {
        Body::new(Observed { body, witness })
    }
}

impl<W: Witness> HttpBody for Observed<W> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            this.witness.trailers(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
