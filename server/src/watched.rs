//! The socket of a connection: tells [`Activity`] what passes, and puts words to the refusals that hyper makes alone.
//!
//! hyper answers a head it cannot read (400, 414, 431) by itself and without a body; nothing of ours is asked. Such an
//! answer is known by when it is written: nothing is owed to the client in the phases `Idle` and `Head`, so whatever is
//! written then is not from a route. In its place goes an error body like that of every other refusal.

use crate::activity::{Activity, Phase};
use crate::error::ApiError;
use crate::state::ServerState;
use axum::http::StatusCode;
use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    socket: S,
    activity: Arc<Activity>,
    state: ServerState,
    /// What is left to write of a refusal of ours in place of hyper's.
    refusal: Option<Bytes>,
}

impl<S> Watched<S> {
    pub(crate) fn new(socket: S, activity: Arc<Activity>, state: ServerState) -> Self {
        Self { socket, activity, state, refusal: None }
    }

    pub(crate) fn into_socket(self) -> S {
        self.socket
    }

    /// What to say in place of an answer that hyper made.
    fn refusal(&self, theirs: &[u8]) -> Option<Vec<u8>> {
        let status = theirs.strip_prefix(b"HTTP/1.")?.get(2..5)?;
        let status = StatusCode::from_bytes(status).ok().filter(StatusCode::is_client_error)?;
        let limits = &self.state.shared.options.limits;
        let error = match status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE if self.activity.head_bytes() < limits.header.0 => {
                let message = format!("the request has more than {} headers", limits.header_count);
                ApiError::new(status, "request too large", message).at_limit("header_count")
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => {
                let message = format!("request line and headers are longer than {}", limits.header);
                ApiError::new(status, "request too large", message).at_limit("header")
            }
            _ => ApiError::new(status, "invalid", "the request line or a header is no HTTP/1.1"),
        };
        Some(self.state.raw_refusal(&error.closing()))
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn noted(&self, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &poll {
            Poll::Ready(Ok(bytes)) => self.activity.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.activity.stalled(),
        }
        poll
    }

    /// True once a refusal of ours has left whole in place of `theirs`; false if there is none to write.
    fn poll_refusal(&mut self, cx: &mut Context<'_>, theirs: &[u8]) -> Poll<io::Result<bool>> {
        if self.refusal.is_none() && matches!(self.activity.phase(), Phase::Idle | Phase::Head) {
            self.refusal = self.refusal(theirs).map(Bytes::from);
            self.activity.enter(Phase::Sending);
        }
        let Some(mut rest) = self.refusal.take() else { return Poll::Ready(Ok(false)) };
        while !rest.is_empty() {
            let poll = Pin::new(&mut self.socket).poll_write(cx, &rest);
            match self.noted(poll) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => rest.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.refusal = Some(rest);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(true))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.socket).poll_read(cx, buf);
        self.activity.read(&buf.filled()[before..]);
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if ready!(self.poll_refusal(cx, buf))? {
            return Poll::Ready(Ok(buf.len()));
        }
        let poll = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.noted(poll)
    }

    /// hyper calls this when it holds nothing more to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.socket).poll_flush(cx);
        if matches!(poll, Poll::Ready(Ok(()))) {
            self.activity.flushed();
        }
        poll
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bufs.first().map_or(&[][..], |buf| buf);
        if ready!(self.poll_refusal(cx, first))? {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let poll = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.noted(poll)
    }
}
