//! The discovery side of a dongle: answers "who is there" with address, MAC and name, and wakes up by it.

use super::faults::FaultSwitch;
use crate::link::WAKE_TEXT;
use std::io;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

/// MAC (of a range that nobody is given) and name in the answer.
const WHO: &str = "020000SIM001,Solar-WiFi26SIM001";

pub(super) async fn serve(
    socket: UdpSocket,
    faults: FaultSwitch,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let answer = format!("{},{WHO}", socket.local_addr()?.ip());
    let mut buffer = [0; 64];
    loop {
        let received = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            received = socket.recv_from(&mut buffer) => received,
        };
        let (len, peer) = match received {
            Ok(received) => received,
            // As in `udp`: who closed its port did not want the answer.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        if buffer[..len] != *WAKE_TEXT {
            continue;
        }
        faults.wake();
        if let Err(error) = socket.send_to(answer.as_bytes(), peer).await {
            tracing::debug!(%peer, %error, "simulated answer not sent");
        }
    }
}
