//! A byte stream that repairs what GoodWe gets wrong about Modbus TCP, below a client that takes it literally.
//!
//! The MBAP header carries the length of what follows, and some GoodWe firmware tells a wrong one; tokio-modbus, as
//! the protocol asks, cuts frames by that length and would wait for ever or cut in the middle. The dongle may also
//! append rubbish, hundreds of bytes of it, or send an answer twice. The length is redundant: the PDU tells its own.
//! So this stream sits between socket and client, finds the answer by the PDU's byte count, writes the right length
//! into the header and hands over that frame alone.
//!
//! Invariants
//! 1. The client sees at most one frame per request it wrote, with the transaction id and unit of that request.
//! 2. Frames of other transactions (late or doubled answers) are skipped whole; bytes behind the answer are dropped.
//! 3. Nothing is repaired but the length: function, byte count and data pass unchanged.

use crate::modbus::{READ, REFUSAL};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const HEADER_BYTES: usize = 7;
/// More than this without an answer in it is rubbish without end.
const MAX_BYTES: usize = 16 * 1024;
/// Reads from the socket to throw away what came before a request.
const MAX_DRAINED: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Lenient<S> {
    inner: S,
    /// Transaction id and unit of the request whose answer has not come yet.
    waiting: Option<([u8; 2], u8)>,
    came: Vec<u8>,
    /// The repaired frame and how much of it the client has.
    frame: Vec<u8>,
    given: usize,
}

impl<S> Lenient<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, waiting: None, came: Vec::new(), frame: Vec::new(), given: 0 }
    }

    /// Moves the answer from `came` to `frame`, if it is there whole.
    fn repair(&mut self) -> io::Result<bool> {
        let Some((transaction, unit)) = self.waiting else { return Ok(false) };
        loop {
            let Some(header) = self.came.get(..HEADER_BYTES + 2) else { return Ok(false) };
            let pdu_len = match header[HEADER_BYTES] {
                READ if header[HEADER_BYTES + 1] % 2 == 1 => return Err(invalid("half a word")),
                READ => 2 + usize::from(header[HEADER_BYTES + 1]),
                function if function == READ | REFUSAL => 2,
                _ => return Err(invalid("an answer to another function")),
            };
            if header[2..4] != [0, 0] {
                return Err(invalid("no Modbus TCP header"));
            }
            let end = HEADER_BYTES + pdu_len;
            if self.came.len() < end {
                return Ok(false);
            }
            let ours = header[..2] == transaction && header[6] == unit;
            if !ours {
                self.came.drain(..end);
                continue;
            }
            self.frame.clear();
            self.frame.extend_from_slice(&self.came[..end]);
            self.frame[4..6].copy_from_slice(&((pdu_len + 1) as u16).to_be_bytes());
            (self.given, self.waiting) = (0, None);
            self.came.clear();
            return Ok(true);
        }
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.given < this.frame.len() {
                let len = out.remaining().min(this.frame.len() - this.given);
                out.put_slice(&this.frame[this.given..this.given + len]);
                this.given += len;
                return Poll::Ready(Ok(()));
            }
            if this.repair()? {
                continue;
            }
            let mut space = [0; 1024];
            let mut piece = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut piece))?;
            if piece.filled().is_empty() {
                // tokio-modbus would report the last error of the operating system, whatever that was.
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if this.waiting.is_some() {
                this.came.extend_from_slice(piece.filled());
            }
            if this.came.len() > MAX_BYTES {
                return Poll::Ready(Err(invalid("rubbish instead of an answer")));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        // The client writes a whole request at once: 12 bytes.
        if let (None, Some(header)) = (this.waiting, bytes.get(..HEADER_BYTES)) {
            for _ in 0..MAX_DRAINED {
                let mut space = [0; 1024];
                let mut stale = ReadBuf::new(&mut space);
                match Pin::new(&mut this.inner).poll_read(context, &mut stale) {
                    Poll::Ready(Ok(())) if !stale.filled().is_empty() => {}
                    _ => break,
                }
            }
            this.came.clear();
            this.frame.clear();
            this.given = 0;
            this.waiting = Some(([header[0], header[1]], header[6]));
        }
        Pin::new(&mut this.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const REQUEST: [u8; 12] = [0, 1, 0, 0, 0, 6, 0xF7, 3, 0x88, 0xB8, 0, 1];
    const ANSWER: [u8; 11] = [0, 1, 0, 0, 0, 5, 0xF7, 3, 2, 0x12, 0x34];

    /// What the client gets when the device sends `bytes` after the request.
    fn repaired(bytes: &[u8]) -> Result<Vec<u8>, io::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (device, client) = tokio::io::duplex(64 * 1024);
            let (mut device, mut client) = (device, Lenient::new(client));
            client.write_all(&REQUEST).await?;
            device.write_all(bytes).await?;
            drop(device);
            let mut all = Vec::new();
            let mut piece = [0; 7];
            loop {
                match client.read(&mut piece).await {
                    Ok(len) => all.extend_from_slice(&piece[..len]),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(all),
                    Err(error) => return Err(error),
                }
            }
        })
    }

    #[test]
    fn the_length_is_repaired_and_the_rest_dropped() {
        assert_eq!(repaired(&ANSWER).unwrap(), ANSWER);
        for length in [0_u16, 4, 6, 149, 0xFFFF] {
            let mut wrong = ANSWER.to_vec();
            wrong[4..6].copy_from_slice(&length.to_be_bytes());
            assert_eq!(repaired(&wrong).unwrap(), ANSWER, "length {length}");
            wrong.extend([0xA5; 512]);
            assert_eq!(repaired(&wrong).unwrap(), ANSWER, "length {length} and rubbish");
        }
        assert_eq!(repaired(&[ANSWER, ANSWER].concat()).unwrap(), ANSWER);
    }

    #[test]
    fn answers_to_other_requests_are_skipped() {
        let mut late = ANSWER;
        late[1] = 0;
        late[10] = 0x99;
        assert_eq!(repaired(&[late, ANSWER].concat()).unwrap(), ANSWER);
        assert!(repaired(&late).unwrap().is_empty());
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let refusal = [0, 1, 0, 0, 0, 9, 0xF7, 0x83, 2];
        assert_eq!(repaired(&refusal).unwrap(), [0, 1, 0, 0, 0, 3, 0xF7, 0x83, 2]);
    }

    #[test]
    fn half_an_answer_is_none() {
        for end in 0..ANSWER.len() {
            assert!(repaired(&ANSWER[..end]).unwrap().is_empty(), "{end} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_frame_at_most(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(frame) = repaired(&bytes) && !frame.is_empty() {
                let length = usize::from(u16::from_be_bytes([frame[4], frame[5]]));
                prop_assert_eq!(frame.len(), length + 6);
                prop_assert_eq!(&frame[..2], &REQUEST[..2]);
            }
        }
    }
}
