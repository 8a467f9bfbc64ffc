//! Modbus TCP, port 502, through tokio-modbus over the stream that repairs lengths ([`super::lenient`]).
//!
//! tokio-modbus makes the request, matches transaction, unit and function, and reads the data; connection, time-outs
//! and the byte count are ours. We use its general `call` with `ReadHoldingRegisters` and not the reader's method of
//! that name, which takes the number of words in the answer for granted.

use super::Target;
use super::lenient::Lenient;
use crate::modbus::{Malformed, ReadError, Refusal};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_modbus::client::{Client, Context, tcp};
use tokio_modbus::{Error, ExceptionCode, Request, Response, Slave};

pub(crate) struct TcpLink {
    context: Context,
    timeout: Duration,
}

impl std::fmt::Debug for TcpLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpLink").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl TcpLink {
    pub(crate) async fn open(target: &Target) -> Result<Self, ReadError> {
        let address = target.resolve().await?;
        let stream = target.within_connect_time(TcpStream::connect(address)).await?;
        stream.set_nodelay(true).map_err(ReadError::Connect)?;
        let context = tcp::attach_slave(Lenient::new(stream), Slave(target.unit));
        Ok(Self { context, timeout: target.timeout })
    }

    pub(crate) async fn read(&mut self, start: u16, count: u16) -> Result<Vec<u16>, ReadError> {
        let request = Request::ReadHoldingRegisters(start, count);
        let Ok(answer) = timeout(self.timeout, self.context.call(request)).await else {
            return Err(ReadError::Silence);
        };
        match answer {
            Ok(Ok(Response::ReadHoldingRegisters(words))) if words.len() == usize::from(count) => Ok(words),
            Ok(Ok(Response::ReadHoldingRegisters(words))) => {
                let (expected, found) = (2 * usize::from(count), 2 * words.len());
                Err(ReadError::Malformed(Malformed::ByteCount { expected, found }))
            }
            Ok(Ok(_)) | Err(Error::Protocol(_)) => Err(ReadError::Malformed(Malformed::Frame)),
            Ok(Err(exception)) => Err(ReadError::Refused(refusal(exception))),
            Err(Error::Transport(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(ReadError::Malformed(Malformed::Frame))
            }
            Err(Error::Transport(error)) => Err(ReadError::Lost(error)),
        }
    }

    pub(crate) async fn close(mut self) {
        // The device may be gone already; the socket is closed by dropping it in any case.
        let _ = timeout(self.timeout, self.context.disconnect()).await;
    }
}

fn refusal(exception: ExceptionCode) -> Refusal {
    Refusal(exception.into())
}
