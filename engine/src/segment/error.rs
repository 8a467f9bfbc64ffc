//! Why a segment could not be read.

use crate::error::Damage;
use crate::file_header::HeaderError;
use crate::io::{is_want_of_resources, os_code};
use std::io;

/// Why a segment could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// Its bytes are not those that were written.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The file could not be read, or is not there.
    #[error("read {file}")]
    Io {
        /// Path within the store.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
    /// It is whole, and a newer version wrote it.
    #[error("written by a newer version: {0}")]
    TooNew(Damage),
}

impl SegmentError {
    /// Whether the machine lacked file descriptors or memory: then nothing is known about the file.
    pub fn is_out_of_resources(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        os_code(source).is_some_and(is_want_of_resources)
    }

    /// The same in the words in which damage is counted and reported: a file that cannot be read is missing data too.
    pub fn to_damage(&self) -> Damage {
        match self {
            Self::Damage(damage) | Self::TooNew(damage) => damage.clone(),
            Self::Io { file, source } => Damage {
                file: file.clone(),
                offset: 0,
                part: "read",
                expected: 0,
                found: os_code(source).map_or(u64::MAX, |code| code as u64),
            },
        }
    }
}

impl From<HeaderError> for SegmentError {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::Damage(damage) => Self::Damage(damage),
            HeaderError::TooNew(damage) => Self::TooNew(damage),
        }
    }
}

pub(super) fn io_error(path: &str, source: io::Error) -> SegmentError {
    SegmentError::Io { file: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_descriptors_is_no_damage_however_it_is_wrapped() {
        let wrapped =
            |code| io_error("f", crate::io::in_context("open", "f", &io::Error::from_raw_os_error(code)));
        assert!(wrapped(libc::EMFILE).is_out_of_resources());
        assert!(io_error("f", io::Error::from_raw_os_error(libc::ENFILE)).is_out_of_resources());
        assert!(!wrapped(libc::EIO).is_out_of_resources());
    }
}
