//! A byte stream that repairs what GoodWe gets wrong about Modbus TCP, below a client that takes it literally.
//!
//! The MBAP header carries the length of what follows, and some GoodWe firmware tells a wrong one; tokio-modbus, as
//! the protocol asks, cuts frames by that length and would wait for ever or cut in the middle. The dongle may also
//! append rubbish, hundreds of bytes of it, or send an answer twice. The length is redundant: the PDU tells its own.
//! So this stream sits between socket and client, finds the answer by the PDU's byte count, writes the right length
//! into the header and hands over that frame alone. Rubbish behind one answer may arrive when the next request is out,
//! so the answer is searched for, by its transaction id, unit, function and byte count.
//!
//! Invariants
//! 1. The client sees at most one frame per request it wrote, with the transaction id and unit of that request.
//! 2. Everything before the answer (rubbish, late or doubled answers to others) and behind it is dropped.
//! 3. Nothing is repaired but the length: function, byte count and data pass unchanged.

use crate::modbus::{READ, REFUSAL};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const HEADER_BYTES: usize = 7;
/// Header, function, byte count.
const HEAD_BYTES: usize = HEADER_BYTES + 2;
/// More than this without an answer in it is rubbish without end.
const MAX_BYTES: usize = 64 * 1024;
/// Reads from the socket to throw away what came before a request.
const MAX_DRAINED: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Lenient<S> {
    inner: S,
    /// The request whose answer has not come yet.
    waiting: Option<Waiting>,
    /// Bytes since that request that may hold the answer, and how many there were before them.
    came: Vec<u8>,
    dropped: usize,
    /// The repaired frame and how much of it the client has.
    frame: Vec<u8>,
    given: usize,
}

impl<S> Lenient<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, waiting: None, came: Vec::new(), dropped: 0, frame: Vec::new(), given: 0 }
    }

    /// Moves the answer from `came` to `frame`, if it is there whole.
    fn repair(&mut self) -> io::Result<bool> {
        let Some(waiting) = self.waiting else { return Ok(false) };
        let mut at = 0;
        while let Some(head) = self.came.get(at..at + HEAD_BYTES) {
            if let Some(pdu_len) = waiting.answered_by(head) {
                let Some(frame) = self.came.get(at..at + HEADER_BYTES + pdu_len) else { break };
                self.frame = frame.to_vec();
                self.frame[4..6].copy_from_slice(&((pdu_len + 1) as u16).to_be_bytes());
                (self.given, self.waiting) = (0, None);
                self.came.clear();
                return Ok(true);
            }
            if at == 0 && self.dropped == 0 && waiting.is_own_header(head) {
                return Err(invalid("an answer to another request"));
            }
            at += 1;
        }
        self.came.drain(..at);
        self.dropped += at;
        Ok(false)
    }
}

/// What is known of the answer before it comes.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    transaction: [u8; 2],
    unit: u8,
    data_len: u8,
}

impl Waiting {
    /// `request`: header, function, start, count.
    fn for_request(request: &[u8]) -> Option<Self> {
        let request: &[u8; 12] = request.try_into().ok()?;
        let data_len = u8::try_from(2 * u16::from_be_bytes([request[10], request[11]])).ok()?;
        Some(Self { transaction: [request[0], request[1]], unit: request[6], data_len })
    }

    fn is_own_header(self, head: &[u8]) -> bool {
        head[..2] == self.transaction && head[2..4] == [0, 0] && head[6] == self.unit
    }

    /// Length of the PDU, if an answer begins with these bytes.
    fn answered_by(self, head: &[u8]) -> Option<usize> {
        let (function, byte_count) = (head[HEADER_BYTES], head[HEADER_BYTES + 1]);
        match function {
            _ if !self.is_own_header(head) => None,
            READ if byte_count == self.data_len => Some(2 + usize::from(byte_count)),
            function if function == READ | REFUSAL => Some(2),
            _ => None,
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
            if this.dropped + this.came.len() > MAX_BYTES {
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
        // The client hands over a whole request at once; the socket may take it in parts, which the rest of it shows.
        if let Some(waiting) = Waiting::for_request(bytes) {
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
            (this.given, this.dropped) = (0, 0);
            this.waiting = Some(waiting);
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
        assert_eq!(
            repaired(&[&[0xA5; 700][..], &ANSWER].concat()).unwrap(),
            ANSWER,
            "rubbish of the answer before"
        );
        assert_eq!(
            repaired(&[&late[..7], &ANSWER].concat()).unwrap(),
            ANSWER,
            "the end of a late answer is lost"
        );
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
