//! Request bodies: received within bounds, decompressed within bounds.
//!
//! Promise: no number that a client states makes us allocate; what all bodies hold together never passes
//! `bodies_in_memory`, nor those of one address `bodies_per_address`; a body that comes too slowly is given up; a bomb is
//! found while it unfolds, not after. A refusal that is no fault of the body is 503, since clients throw away what was
//! answered 4xx.

use crate::budget::{Charge, Peer};
use crate::error::ApiError;
use crate::options::Limits;
use crate::state::ServerState;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use std::io::{ErrorKind, Read};
use std::time::Duration;
use tokio::time::Instant;

/// A body as it came, and how it is packed.
#[derive(Debug)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    gzip: bool,
    charge: Charge,
    limits: Limits,
}

/// A body ready to be read. It counts against the budget as long as it lives.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) bytes: Vec<u8>,
    charge: Charge,
}

/// Most room made ahead of the bytes themselves.
const FIRST_ROOM_BYTES: usize = 1 << 20;
/// When a client may send a body again that came too slowly.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Receives a whole body.
pub(crate) async fn receive(state: &ServerState, head: &Parts, mut body: Body) -> Result<Received, ApiError> {
    let limits = state.shared.options.limits;
    let gzip = is_gzip(&head.headers)?;
    let too_large = || {
        let message = format!("the body is larger than {}: send it in parts", limits.body);
        ApiError::too_large("body", message).closing()
    };
    let stated =
        head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if stated.is_some_and(|length| length > limits.body.0) {
        return Err(too_large());
    }
    let room = stated.map_or(0, |length| (length as usize).min(FIRST_ROOM_BYTES));
    let mut bytes = Vec::with_capacity(room);
    let mut charge = state.shared.bodies.charge(Peer::of(&head.extensions));
    let mut pace = Pace::begin();
    loop {
        let Ok(frame) = tokio::time::timeout(limits.body_idle_time.0, body.frame()).await else {
            let message = format!("no byte of the body came for {}", limits.body_idle_time);
            return Err(ApiError::unavailable(message, RETRY_AFTER).at_limit("body_idle_time").closing());
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ApiError::bad_request("the body ended before its end").closing())?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limits.body.in_memory() {
            return Err(too_large());
        }
        pace.came(data.len(), &limits)?;
        charge.add(data.len()).map_err(ApiError::closing)?;
        bytes.extend_from_slice(&data);
    }
    Ok(Received { bytes, gzip, charge, limits })
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, ApiError> {
    let Some(word) = headers.get(header::CONTENT_ENCODING) else { return Ok(false) };
    match word.as_bytes().to_ascii_lowercase().as_slice() {
        b"" | b"identity" => Ok(false),
        b"gzip" | b"x-gzip" => Ok(true),
        _ => {
            let message = "Content-Encoding must be gzip or identity";
            let error = ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported media type", message);
            Err(error.closing())
        }
    }
}

/// How fast a body comes: counted over windows of `body_idle_time`, so that a short pause is forgiven.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn begin() -> Self {
        Self { since: Instant::now(), bytes: 0 }
    }

    fn came(&mut self, bytes: usize, limits: &Limits) -> Result<(), ApiError> {
        self.bytes += bytes as u64;
        if self.since.elapsed() < limits.body_idle_time.0 {
            return Ok(());
        }
        if self.bytes < limits.least_per_window() {
            let message = format!("the body came at less than {} a second", limits.transfer_rate);
            return Err(ApiError::unavailable(message, RETRY_AFTER).at_limit("transfer_rate").closing());
        }
        *self = Self::begin();
        Ok(())
    }
}

impl Received {
    /// Unpacks the body. Costs processor time: call it off the async threads.
    pub(crate) fn unpack(mut self) -> Result<Plain, ApiError> {
        if self.gzip && !self.bytes.is_empty() {
            let mut unpacked = Vec::new();
            gunzip(&self.bytes, &self.limits, &mut unpacked, |bytes| self.charge.add(bytes))?;
            self.bytes = unpacked;
            self.charge.set(self.bytes.len() as u64)?;
        }
        Ok(Plain { bytes: self.bytes, charge: self.charge })
    }
}

impl Plain {
    /// Lets go of the bytes once they were read into something that holds `bytes`: the charge is for that from here on.
    pub(crate) fn read_into(self, bytes: usize) -> Result<Charge, ApiError> {
        let Self { bytes: body, mut charge } = self;
        drop(body);
        charge.set(bytes as u64)?;
        Ok(charge)
    }
}

fn gunzip(
    packed: &[u8],
    limits: &Limits,
    out: &mut Vec<u8>,
    mut charge: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    /// A short body of repetitions may pack better than any ratio without being a bomb.
    const FREE_BYTES: usize = 1 << 20;
    let most = packed.len().saturating_mul(limits.decompression_ratio as usize).max(FREE_BYTES);
    let mut decoder = MultiGzDecoder::new(packed);
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = match decoder.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(ApiError::bad_request("unexpected EOF"));
            }
            Err(error) => return Err(ApiError::bad_request(format!("gzip: {error}"))),
        };
        if out.len() + read > limits.decompressed_body.in_memory() {
            let message =
                format!("the body unpacks to more than {}: send it in parts", limits.decompressed_body);
            return Err(ApiError::too_large("decompressed_body", message));
        }
        if out.len() + read > most {
            let message =
                format!("the body unpacks to more than {} times its size", limits.decompression_ratio);
            return Err(ApiError::too_large("decompression_ratio", message));
        }
        charge(read)?;
        out.extend_from_slice(&chunk[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(packed: &[u8]) -> Result<Vec<u8>, (u16, String)> {
        let mut out = Vec::new();
        gunzip(packed, &Limits::default(), &mut out, |_| Ok(()))
            .map_err(|e| (e.status.as_u16(), e.message))?;
        Ok(out)
    }

    #[test]
    fn packed_bodies_come_out_whole_also_in_several_members() {
        let mut two = packed(b"a v=1\n");
        two.extend(packed(b"b v=2\n"));
        assert_eq!(unpacked(&two).unwrap(), b"a v=1\nb v=2\n");
    }

    #[test]
    fn every_cut_of_a_packed_body_is_refused() {
        let whole = packed(b"power,device_id=a v=1.5 1772359200000000000\n");
        for len in 1..whole.len() {
            let (status, _) = unpacked(&whole[..len]).unwrap_err();
            assert_eq!(status, 400, "{len} bytes");
        }
        assert_eq!(unpacked(&whole[..20]).unwrap_err(), (400, "unexpected EOF".to_owned()));
    }

    #[test]
    fn a_bomb_is_stopped_while_it_unfolds() {
        let bomb = packed(&vec![0; 40 << 20]);
        assert!(bomb.len() < 64 * 1024);
        let mut out = Vec::new();
        let error = gunzip(&bomb, &Limits::default(), &mut out, |_| Ok(())).unwrap_err();
        assert_eq!((error.status, error.limit), (StatusCode::PAYLOAD_TOO_LARGE, Some("decompression_ratio")));
        assert!(out.len() <= bomb.len() * 200, "{} bytes unfolded", out.len());
    }
}
