//! A buffer whose growth is watched while an answer is written into it.
//!
//! Promise: whoever watches hears of the buffer after at most `STEP_BYTES` and one value more, and once at the end; so
//! limits of size, memory and time hold within that much, at the cost of one comparison per value.

/// Looks at what was written so far; an error ends the writing.
pub type Watch<'a, E> = &'a mut dyn FnMut(&Vec<u8>) -> Result<(), E>;

/// See the module.
pub struct Bounded<'a, E> {
    pub bytes: Vec<u8>,
    /// Length at which to look again.
    next_look: usize,
    watch: Watch<'a, E>,
}

/// Bytes between two looks.
const STEP_BYTES: usize = 64 * 1024;

impl<E> std::fmt::Debug for Bounded<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bounded").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl<'a, E> Bounded<'a, E> {
    /// `room` is made at once, so no more than the watch would allow should be asked for.
    pub fn new(room: usize, watch: Watch<'a, E>) -> Self {
        Self { bytes: Vec::with_capacity(room), next_look: STEP_BYTES, watch }
    }

    /// Goes on behind what is written already.
    pub fn behind(bytes: Vec<u8>, watch: Watch<'a, E>) -> Self {
        let next_look = bytes.len() + STEP_BYTES;
        Self { bytes, next_look, watch }
    }

    /// To be called after every value.
    #[inline]
    pub fn check(&mut self) -> Result<(), E> {
        if self.bytes.len() < self.next_look { Ok(()) } else { self.look() }
    }

    #[cold]
    fn look(&mut self) -> Result<(), E> {
        self.next_look = self.bytes.len() + STEP_BYTES;
        (self.watch)(&self.bytes)
    }

    /// The bytes, after a last look.
    pub fn finish(mut self) -> Result<Vec<u8>, E> {
        self.look()?;
        Ok(self.bytes)
    }
}
