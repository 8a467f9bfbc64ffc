//! The datagram side: answers RTU requests as GoodWe's port 8899 does.

use super::Registers;
use super::faults::{FaultSwitch, Faults};
use super::tcp::PIECE_GAP;
use crate::modbus::{Refusal, parse_rtu_request, rtu_answer, rtu_refusal};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Answers under way; a device has one client, so more than this is a flood.
const MAX_ANSWERS: usize = 64;

pub(super) async fn serve(
    socket: UdpSocket,
    registers: Arc<Registers>,
    faults: FaultSwitch,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let socket = Arc::new(socket);
    let mut answers = JoinSet::new();
    let mut buffer = [0; 512];
    loop {
        let received = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            received = socket.recv_from(&mut buffer) => received,
            Some(_) = answers.join_next() => continue,
        };
        let (len, peer) = match received {
            Ok(received) => received,
            // A client that closed its port is reported here; the next one is none the worse for it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        let Some((unit, start, count)) = parse_rtu_request(&buffer[..len]) else { continue };
        let faults = faults.get();
        if faults.silence || faults.asleep || !registers.has_unit(unit) || answers.len() >= MAX_ANSWERS {
            continue;
        }
        let answer = answer(&registers, &faults, unit, start, count);
        answers.spawn(send(Arc::clone(&socket), peer, answer, faults));
    }
}

fn answer(registers: &Registers, faults: &Faults, unit: u8, start: u16, count: u16) -> Vec<u8> {
    if let Some(code) = faults.exception {
        return rtu_refusal(unit, Refusal(code));
    }
    if !faults.sentinel_night
        && let Some(datagram) = registers.datagram(unit, start, count)
    {
        return datagram;
    }
    match registers.read(unit, start, count, faults) {
        Ok(words) => rtu_answer(unit, &words),
        Err(refusal) => rtu_refusal(unit, refusal),
    }
}

async fn send(socket: Arc<UdpSocket>, peer: SocketAddr, answer: Vec<u8>, faults: Faults) {
    sleep(faults.delay).await;
    for (index, piece) in faults.pieces(answer, None).into_iter().enumerate() {
        if index > 0 {
            sleep(PIECE_GAP).await;
        }
        if let Err(error) = socket.send_to(&piece, peer).await {
            tracing::debug!(%peer, %error, "simulated answer not sent");
        }
    }
}
