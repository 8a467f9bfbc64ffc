//! Request bodies: received within bounds, decompressed within bounds.
//!
//! Promise: no number that a client states makes us allocate; what all bodies hold together never passes
//! `bodies_in_memory`; a bomb is found while it unfolds, not after.

use crate::error::ApiError;
use crate::options::Limits;
use crate::state::ServerState;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes that bodies hold at the moment.
#[derive(Debug, Default)]
pub(crate) struct BodyBudget(AtomicU64);

/// The share of one body; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    state: ServerState,
    bytes: u64,
}

impl Charge {
    fn new(state: &ServerState) -> Self {
        Self { state: state.clone(), bytes: 0 }
    }

    fn add(&mut self, bytes: usize) -> Result<(), ApiError> {
        let shared = &self.state.shared;
        let limit = shared.options.limits.bodies_in_memory.0;
        let bytes = bytes as u64;
        if shared.bodies.0.fetch_add(bytes, Ordering::Relaxed) + bytes > limit {
            shared.bodies.0.fetch_sub(bytes, Ordering::Relaxed);
            shared.metrics.limit_reached("bodies_in_memory");
            let error =
                ApiError::unavailable("too many large bodies at a time, try again", Duration::from_secs(1));
            return Err(ApiError { close: true, ..error });
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.state.shared.bodies.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A body as it came, and how it is packed.
#[derive(Debug)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    gzip: bool,
    charge: Charge,
}

/// A body ready to be read. It counts against the budget as long as it lives.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) bytes: Vec<u8>,
    _charge: Charge,
}

/// Most room made ahead of the bytes themselves.
const FIRST_ROOM_BYTES: usize = 1 << 20;

/// Receives a whole body.
pub(crate) async fn receive(
    state: &ServerState,
    headers: &HeaderMap,
    body: Body,
) -> Result<Received, ApiError> {
    let limits = &state.shared.options.limits;
    let gzip = match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes().to_ascii_lowercase())
    {
        None => false,
        Some(word) if word.is_empty() || word == b"identity" => false,
        Some(word) if word == b"gzip" || word == b"x-gzip" => true,
        Some(_) => {
            let message = "Content-Encoding must be gzip or identity";
            let error = ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported media type", message);
            return Err(ApiError { close: true, ..error });
        }
    };
    let too_large = || {
        state.shared.metrics.limit_reached("body");
        ApiError::too_large(format!("the body is larger than {}: send it in parts", limits.body))
    };
    let stated =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if stated.is_some_and(|length| length > limits.body.0) {
        return Err(too_large());
    }
    let room = stated.map_or(0, |length| (length as usize).min(FIRST_ROOM_BYTES));
    let mut bytes = Vec::with_capacity(room);
    let mut charge = Charge::new(state);
    let mut body = body;
    loop {
        let Ok(frame) = tokio::time::timeout(limits.body_idle_time.0, body.frame()).await else {
            state.shared.metrics.limit_reached("body_idle_time");
            let message = format!("no byte of the body came for {}", limits.body_idle_time);
            let error = ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message);
            return Err(ApiError { close: true, ..error });
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ApiError {
            close: true,
            ..ApiError::bad_request("the body ended before its end")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limits.body.len() {
            return Err(too_large());
        }
        charge.add(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(Received { bytes, gzip, charge })
}

impl Received {
    /// Unpacks the body. Costs processor time: call it off the async threads.
    pub(crate) fn unpack(mut self) -> Result<Plain, ApiError> {
        if self.gzip && !self.bytes.is_empty() {
            let limits = self.charge.state.shared.options.limits;
            let mut unpacked = Vec::new();
            let result = gunzip(&self.bytes, &limits, &mut unpacked, |bytes| self.charge.add(bytes));
            result.map_err(|error| {
                if error.status == StatusCode::PAYLOAD_TOO_LARGE {
                    self.charge.state.shared.metrics.limit_reached("decompressed_body");
                }
                error
            })?;
            self.bytes = unpacked;
        }
        Ok(Plain { bytes: self.bytes, _charge: self.charge })
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
    let ratio = packed.len().saturating_mul(limits.decompression_ratio as usize).max(FREE_BYTES);
    let most = limits.decompressed_body.len().min(ratio);
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
        if out.len() + read > most {
            return Err(ApiError::too_large(format!(
                "the body unpacks to more than {} or {} times its size: send it in parts",
                limits.decompressed_body, limits.decompression_ratio
            )));
        }
        charge(read)?;
        out.extend_from_slice(&chunk[..read]);
    }
}

/// Kept by the state.
pub(crate) type SharedBudget = Arc<BodyBudget>;

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
        assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(out.len() <= bomb.len() * 200, "{} bytes unfolded", out.len());
    }
}
