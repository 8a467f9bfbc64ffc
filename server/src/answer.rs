//! Answers of queries and of the ledger: bounded while they are written, counted until they are sent.
//!
//! Promise: an answer stops growing soon after it is longer than `answer`, after its time is over or its client is gone;
//! what all answers hold together never passes `answers_in_memory` by more than one growth of a buffer each, and the
//! memory of one counts until its last byte has been handed to the socket.

use crate::budget::{Charge, Peer};
use crate::error::ApiError;
use crate::options::Size;
use crate::state::ServerState;
use axum::body::{Body, Bytes};
use serde::Serialize;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use wattlog_engine::query::{QueryControl, QueryError};

/// Watches one answer while it is written.
#[derive(Debug)]
pub(crate) struct AnswerWatch {
    limit: Size,
    control: QueryControl,
    charge: Charge,
}

/// A finished answer together with the memory that it counts for.
#[derive(Debug)]
pub(crate) struct Answer {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl AnswerWatch {
    pub(crate) fn new(state: &ServerState, peer: Peer, control: &QueryControl) -> Self {
        let limit = state.shared.options.limits.answer;
        Self { limit, control: control.clone(), charge: state.shared.answers.charge(peer) }
    }

    /// To be called every so often while the answer grows.
    pub(crate) fn look(&mut self, bytes: &Vec<u8>) -> Result<(), ApiError> {
        if bytes.len() > self.limit.in_memory() {
            let message = format!(
                "the answer is longer than {}: ask for a shorter range, fewer fields or longer buckets, or use limit",
                self.limit
            );
            return Err(ApiError::beyond("answer", message));
        }
        if self.control.cancel.is_cancelled() {
            return Err(QueryError::Cancelled.into());
        }
        if self.control.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(QueryError::TimedOut.into());
        }
        self.charge.set(bytes.capacity() as u64)
    }

    /// An answer that is written already.
    ///
    /// # Errors
    /// As [`AnswerWatch::look`].
    pub(crate) fn written(mut self, bytes: Vec<u8>) -> Result<Answer, ApiError> {
        self.look(&bytes)?;
        Ok(self.finish(bytes))
    }

    /// The answer as it is to be sent.
    pub(crate) fn finish(self, bytes: Vec<u8>) -> Answer {
        Answer { bytes, _charge: self.charge }
    }
}

/// An answer that is written step by step and looked at as it grows.
#[derive(Debug)]
pub(crate) struct AnswerWriter {
    bytes: Vec<u8>,
    watch: AnswerWatch,
    /// Length at which it is looked at next.
    look_at: usize,
    /// Why it must not grow.
    refused: Option<ApiError>,
}

/// An answer is looked at each time it has grown by so much.
const LOOK_BYTES: usize = 64 << 10;

impl AnswerWriter {
    pub(crate) fn new(state: &ServerState, peer: Peer) -> Self {
        let watch = AnswerWatch::new(state, peer, &QueryControl::default());
        Self { bytes: Vec::new(), watch, look_at: LOOK_BYTES, refused: None }
    }

    /// # Errors
    /// As [`AnswerWatch::look`].
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), ApiError> {
        let written = serde_json::to_writer(&mut *self, value);
        written.map_err(|error| self.refused.take().unwrap_or_else(|| ApiError::internal(error.to_string())))
    }

    /// # Errors
    /// As [`AnswerWatch::look`].
    pub(crate) fn text(&mut self, text: impl AsRef<[u8]>) -> Result<(), ApiError> {
        let written = self.write_all(text.as_ref());
        written.map_err(|error| self.refused.take().unwrap_or_else(|| ApiError::internal(error.to_string())))
    }

    /// # Errors
    /// As [`AnswerWatch::look`].
    pub(crate) fn finish(mut self) -> Result<Answer, ApiError> {
        self.watch.look(&self.bytes)?;
        Ok(self.watch.finish(self.bytes))
    }
}

impl Write for AnswerWriter {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(part);
        if self.bytes.len() >= self.look_at {
            self.look_at = self.bytes.len() + LOOK_BYTES;
            if let Err(refused) = self.watch.look(&self.bytes) {
                self.refused = Some(refused);
                return Err(io::Error::other("the answer must not grow"));
            }
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A part of an answer that is sent while it is made, together with the memory that it counts for.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Vec<u8>,
    _charge: Charge,
}

impl Piece {
    /// Waits until there is room for it: what was begun is not to fail because others hold answers for a while.
    ///
    /// # Errors
    /// [`QueryError::Cancelled`] once the client is gone.
    pub(crate) fn new(
        state: &ServerState,
        peer: Peer,
        control: &QueryControl,
        bytes: Vec<u8>,
    ) -> Result<Self, QueryError> {
        let mut charge = state.shared.answers.charge(peer);
        let limits = &state.shared.options.limits;
        // One that is longer than all that may be held waits until it is alone, not for ever.
        let most = limits.answers_per_address.0.min(limits.answers_in_memory.0);
        while charge.set((bytes.capacity() as u64).min(most)).is_err() {
            if control.cancel.is_cancelled() {
                return Err(QueryError::Cancelled);
            }
            std::thread::sleep(ROOM_POLL);
        }
        Ok(Self { bytes, _charge: charge })
    }
}

/// How often to look whether there is room for a piece.
const ROOM_POLL: Duration = Duration::from_millis(20);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Answer> for Body {
    fn from(answer: Answer) -> Self {
        Self::from(Bytes::from_owner(answer))
    }
}
