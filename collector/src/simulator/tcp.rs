//! The Modbus TCP side: tokio-modbus's server over a stream that can misbehave.

use super::Registers;
use super::faults::FaultSwitch;
use crate::modbus::Refusal;
use crate::sink::BoxFuture;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::Server;
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_util::sync::CancellationToken;

/// Between the pieces of a split answer.
pub(super) const PIECE_GAP: Duration = Duration::from_millis(20);

pub(super) async fn serve(
    listener: TcpListener,
    registers: Arc<Registers>,
    faults: FaultSwitch,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let on_connected = |stream: TcpStream, _peer| {
        let service = Holding { registers: Arc::clone(&registers), faults: faults.clone() };
        let stream = Misbehaving::new(stream, faults.clone());
        async move { Ok(Some((service, stream))) }
    };
    // A client that goes away in the middle of a request is no news.
    let on_error = |error: io::Error| tracing::debug!(%error, "simulated connection ended");
    Server::new(listener).serve_until(&on_connected, on_error, shutdown.cancelled_owned()).await.map(|_| ())
}

/// Answers requests for holding registers.
struct Holding {
    registers: Arc<Registers>,
    faults: FaultSwitch,
}

impl Service for Holding {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = BoxFuture<'static, Result<Option<Response>, ExceptionCode>>;

    fn call(&self, request: SlaveRequest<'static>) -> Self::Future {
        let (registers, faults) = (Arc::clone(&self.registers), self.faults.get());
        Box::pin(async move {
            sleep(faults.delay).await;
            if faults.silence {
                return Ok(None);
            }
            if let Some(code) = faults.exception {
                return Err(exception(Refusal(code)));
            }
            let Request::ReadHoldingRegisters(start, count) = request.request else {
                return Err(ExceptionCode::IllegalFunction);
            };
            // A unit that is not there keeps silent, as on a bus.
            if !registers.has_unit(request.slave) {
                return Ok(None);
            }
            match registers.read(request.slave, start, count, &faults) {
                Ok(words) => Ok(Some(Response::ReadHoldingRegisters(words))),
                Err(refusal) => Err(exception(refusal)),
            }
        })
    }
}

fn exception(refusal: Refusal) -> ExceptionCode {
    ExceptionCode::new(refusal.0)
}

/// A stream whose writer sends whole answers, which go out as the faults say: the server above knows nothing of it.
struct Misbehaving {
    inner: TcpStream,
    faults: FaultSwitch,
    /// What the server wrote since its last flush: one answer.
    answer: Vec<u8>,
    pieces: VecDeque<Vec<u8>>,
    gap: Option<Pin<Box<Sleep>>>,
}

impl Misbehaving {
    fn new(inner: TcpStream, faults: FaultSwitch) -> Self {
        Self { inner, faults, answer: Vec::new(), pieces: VecDeque::new(), gap: None }
    }
}

/// Where the header has its length.
const LENGTH_AT: usize = 4;

impl AsyncRead for Misbehaving {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, out)
    }
}

impl AsyncWrite for Misbehaving {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.answer.is_empty() {
            let answer = std::mem::take(&mut this.answer);
            this.pieces.extend(this.faults.get().pieces(answer, Some(LENGTH_AT)));
        }
        loop {
            if let Some(gap) = &mut this.gap {
                ready!(gap.as_mut().poll(context));
                this.gap = None;
            }
            let Some(piece) = this.pieces.front_mut() else {
                return Pin::new(&mut this.inner).poll_flush(context);
            };
            let written = ready!(Pin::new(&mut this.inner).poll_write(context, piece))?;
            piece.drain(..written);
            if piece.is_empty() {
                this.pieces.pop_front();
                if !this.pieces.is_empty() {
                    this.gap = Some(Box::pin(sleep(PIECE_GAP)));
                }
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
