//! Calls that a signal cut short are made again, here alone.
//!
//! Promise: nobody above the storage seam meets `ErrorKind::Interrupted`. One signal, or a few, cannot be noticed; a call that
//! is cut short [`INTERRUPTED_TRIES`] times in a row fails like any other, so no thread of the store turns for ever.
//!
//! Both disks come through here, so the simulated one tests the rule of the real one. Reads, writes and lengths that were cut
//! short may be made again by what POSIX says of EINTR. So may a sync: what it was to keep is still to be kept, and nothing has
//! failed yet (PostgreSQL's `pg_fsync` does the same). That is another thing than a sync that failed: see ADR 0004.

use std::io::{self, ErrorKind};

/// How often in a row a call may be cut short by a signal. Signals come singly or as a timer of some thousand a second,
/// between which a call of a working disk ends.
pub(super) const INTERRUPTED_TRIES: u32 = 100;

/// Makes `call` until no signal cuts it short.
///
/// # Errors
/// Its own; kind `Other` with the text of the last one after [`INTERRUPTED_TRIES`] calls.
pub(super) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 0;
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                tries += 1;
                if tries == INTERRUPTED_TRIES {
                    // Not the same kind: the standard library's loops would go on.
                    return Err(io::Error::other(format!("{error} ({tries} times in a row)")));
                }
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_short(times: u32) -> (io::Result<u32>, u32) {
        let mut made = 0;
        let result = uninterrupted(|| {
            made += 1;
            if made <= times { Err(ErrorKind::Interrupted.into()) } else { Ok(made) }
        });
        (result, made)
    }

    #[test]
    fn a_few_signals_are_not_noticed_and_an_endless_row_of_them_ends() {
        assert_eq!(cut_short(0).0.unwrap(), 1);
        assert_eq!(cut_short(1).0.unwrap(), 2);
        assert_eq!(cut_short(INTERRUPTED_TRIES - 1).0.unwrap(), INTERRUPTED_TRIES);
        let (result, made) = cut_short(u32::MAX);
        assert_eq!((result.unwrap_err().kind(), made), (ErrorKind::Other, INTERRUPTED_TRIES));
    }

    #[test]
    fn other_errors_are_told_at_once() {
        let mut made = 0;
        let result: io::Result<()> = uninterrupted(|| {
            made += 1;
            Err(ErrorKind::StorageFull.into())
        });
        assert_eq!((result.unwrap_err().kind(), made), (ErrorKind::StorageFull, 1));
    }
}
