//! A buffer whose growth is watched while an answer is written into it.
//!
//! Promise: whoever watches hears of the buffer after at most `STEP_BYTES` and one value more, and once at the end; so
//! limits of size, memory and time hold within that much, at the cost of one comparison per value.

/// Looks at what was written so far; an error ends the writing.
pub type Watch<'a, E> = &'a mut dyn FnMut(&Vec<u8>) -> Result<(), E>;

/// See the module.
pub(crate) struct Bounded<'a, E> {
    pub(crate) bytes: Vec<u8>,
    /// Length at which to look again.
    next_look: usize,
    watch: Watch<'a, E>,
}

/// Bytes between two looks.
const STEP_BYTES: usize = 64 * 1024;

impl<'a, E> Bounded<'a, E> {
    /// `room` is made at once, so no more than the watch would allow should be asked for.
    pub(crate) fn new(room: usize, watch: Watch<'a, E>) -> Self {
        Self { bytes: Vec::with_capacity(room), next_look: STEP_BYTES, watch }
    }

    /// Goes on behind what is written already.
    pub(crate) fn behind(bytes: Vec<u8>, watch: Watch<'a, E>) -> Self {
        let next_look = bytes.len() + STEP_BYTES;
        Self { bytes, next_look, watch }
    }

    /// To be called after every value.
    #[inline]
    pub(crate) fn check(&mut self) -> Result<(), E> {
        if self.bytes.len() < self.next_look { Ok(()) } else { self.look() }
    }

    #[cold]
    fn look(&mut self) -> Result<(), E> {
        self.next_look = self.bytes.len() + STEP_BYTES;
        (self.watch)(&self.bytes)
    }

    /// The bytes, after a last look.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, E> {
        self.look()?;
        Ok(self.bytes)
    }
}
