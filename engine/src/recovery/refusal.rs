//! What refuses an opening, and what is only damage.

use crate::catalog::CatalogError;
use crate::error::{Damage, OpenError};
use crate::segment::SegmentError;
use std::io;

/// The process has too many files open, or too little memory, or a newer version wrote the file: it is no damage.
pub(super) fn refuses_opening(error: &SegmentError) -> bool {
    error.is_out_of_resources() || matches!(error, SegmentError::TooNew(_))
}

pub(super) fn segment_refused(error: SegmentError) -> OpenError {
    let source = match error {
        SegmentError::TooNew(header) => return OpenError::too_new(header),
        SegmentError::Io { source, .. } => source,
        other @ SegmentError::Damage(_) => io::Error::other(other),
    };
    OpenError::Disk { action: "open the segments", source }
}

pub(crate) fn catalog_refused(action: &'static str, error: CatalogError) -> OpenError {
    let source = match error {
        CatalogError::TooNew(header) => return OpenError::too_new(header),
        CatalogError::Io { source, .. } => source,
        other @ CatalogError::Damage(_) => io::Error::other(other),
    };
    OpenError::Disk { action, source }
}

pub(super) fn damage_of(path: &str, error: &SegmentError) -> Damage {
    match error {
        SegmentError::Damage(damage) | SegmentError::TooNew(damage) => damage.clone(),
        SegmentError::Io { .. } => {
            Damage { file: path.to_owned(), offset: 0, part: "segment file", expected: 1, found: 0 }
        }
    }
}

/// For `?` on catalog files.
impl From<CatalogError> for Damage {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Damage(damage) | CatalogError::TooNew(damage) => damage,
            CatalogError::Io { file, .. } => {
                Self { file, offset: 0, part: "catalog file", expected: 1, found: 0 }
            }
        }
    }
}
