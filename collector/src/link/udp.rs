//! Modbus RTU frames in datagrams, GoodWe's port 8899.
//!
//! An answer does not tell which request it belongs to, so: one request in flight, and each from a port of its own. A
//! late answer, or the second of a doubled one, goes to the port that asked and finds it closed; it can neither be
//! taken for the answer to the next request nor disable a block that was not refused. An answer may come split over
//! two datagrams; the second must be exactly the missing rest.

use super::Target;
use crate::modbus::{Answer, Malformed, ReadError, parse_rtu_answer, rtu_request};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// Asks "who is there"; dongles that fell silent on 8899 are found to answer again after it.
pub(crate) const WAKE_TEXT: &[u8] = b"WIFIKIT-214028-READ";
/// Larger than any answer, doubled ones included.
const DATAGRAM_BYTES: usize = 2048;

#[derive(Debug)]
pub(crate) struct UdpLink {
    address: SocketAddr,
    target: Target,
    /// The socket of the request before. It stays open until the next one is bound, so that the next has another port.
    last: Option<UdpSocket>,
}

impl UdpLink {
    pub(crate) async fn open(target: &Target) -> Result<Self, ReadError> {
        let address = target.resolve().await?[0];
        Ok(Self { address, target: target.clone(), last: None })
    }

    pub(crate) async fn read(&mut self, start: u16, count: u16) -> Result<Vec<u16>, ReadError> {
        let socket = bind_for(self.address).await?;
        // A connected socket takes datagrams of this peer only and hears its "port unreachable".
        socket.connect(self.address).await.map_err(ReadError::Connect)?;
        let socket = self.last.insert(socket);
        let request = rtu_request(self.target.unit, start, count);
        socket.send(&request).await.map_err(ReadError::Lost)?;
        let deadline = Instant::now() + self.target.timeout;
        let mut buffer = [0; DATAGRAM_BYTES];
        let mut came = Vec::new();
        let mut reason = None;
        loop {
            let len = match timeout_at(deadline, socket.recv(&mut buffer)).await {
                Ok(received) => received.map_err(ReadError::Lost)?,
                Err(_) => return Err(reason.map_or(ReadError::Silence, ReadError::Malformed)),
            };
            // Rubbish may come before the answer: say so only if no right one follows in time.
            match accept(&mut came, &buffer[..len], self.target.unit, count) {
                Ok(Answer::Words(words)) => return Ok(words),
                Ok(Answer::Refused(refusal)) => return Err(ReadError::Refused(refusal)),
                Ok(Answer::Short(_)) => {}
                Err(malformed) => reason = Some(malformed),
            }
        }
    }
}

/// Sends the packet that wakes a dongle. Nobody has to answer, and a host without such a port is no reason to give up.
pub(super) async fn wake(target: &Target, port: u16) -> Result<(), ReadError> {
    let address = SocketAddr::new(target.resolve().await?[0].ip(), port);
    let socket = bind_for(address).await?;
    socket.send_to(WAKE_TEXT, address).await.map(|_| ()).map_err(ReadError::Lost)
}

async fn bind_for(peer: SocketAddr) -> Result<UdpSocket, ReadError> {
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any).await.map_err(ReadError::Connect)
}

/// Joins a datagram to what came before and reads both, or reads it alone if it does not continue that.
fn accept(came: &mut Vec<u8>, datagram: &[u8], unit: u8, count: u16) -> Result<Answer, Malformed> {
    if let Ok(Answer::Short(missing)) = parse_rtu_answer(came, unit, count)
        && !came.is_empty()
        && datagram.len() == missing
    {
        came.extend_from_slice(datagram);
        let joined = parse_rtu_answer(came, unit, count);
        came.clear();
        return joined;
    }
    came.clear();
    let alone = parse_rtu_answer(datagram, unit, count);
    if let Ok(Answer::Short(_)) = alone {
        came.extend_from_slice(datagram);
    }
    alone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::rtu_answer;

    #[tokio::test]
    async fn a_dongle_is_woken_by_the_discovery_packet() {
        let dongle = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = Target {
            host: "127.0.0.1".into(),
            port: 8899,
            unit: 0xF7,
            timeout: std::time::Duration::from_secs(1),
        };
        wake(&target, dongle.local_addr().unwrap().port()).await.unwrap();
        let mut buffer = [0; 64];
        let len = dongle.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"WIFIKIT-214028-READ");
    }

    #[test]
    fn an_answer_may_come_in_two_pieces() {
        let whole = rtu_answer(0xF7, &[1, 2, 3]);
        for cut in 5..whole.len() {
            let mut came = Vec::new();
            let (first, rest) = whole.split_at(cut);
            assert_eq!(accept(&mut came, first, 0xF7, 3), Ok(Answer::Short(rest.len())), "cut at {cut}");
            assert_eq!(accept(&mut came, rest, 0xF7, 3), Ok(Answer::Words(vec![1, 2, 3])), "cut at {cut}");
        }
    }

    #[test]
    fn a_piece_that_does_not_fit_is_not_joined() {
        let whole = rtu_answer(0xF7, &[1, 2, 3]);
        let mut came = Vec::new();
        accept(&mut came, &whole[..8], 0xF7, 3).unwrap();
        assert_eq!(accept(&mut came, &whole, 0xF7, 3), Ok(Answer::Words(vec![1, 2, 3])));
        accept(&mut came, &whole[..8], 0xF7, 3).unwrap();
        assert!(accept(&mut came, &whole[9..], 0xF7, 3).is_err());
        assert!(came.is_empty());
    }
}
