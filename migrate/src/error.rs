//! What ends a migration. Damage in a file does not: that is a [`crate::Refusal`].

use std::path::PathBuf;

/// Why reading could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder or a file could not be read at all.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried: `read`, `list`, `copy`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A bound of [`crate::Limits`] was reached.
    #[error("{}: {what}; raise the limit `{limit}` if this is right", path.display())]
    Limit {
        /// Name of the bound.
        limit: &'static str,
        /// On what.
        path: PathBuf,
        /// How it was reached.
        what: String,
    },
    /// The store changed while it was copied.
    #[error("{} changes while it is copied: stop the optimiser, then try again", path.display())]
    StoreInUse {
        /// The store.
        path: PathBuf,
    },
    /// Whoever takes the records could not.
    #[error("hand on what was read in {file}")]
    Out {
        /// The file.
        file: String,
        /// What it said.
        source: OutError,
    },
}

/// What an [`crate::Out`] answers when it cannot take more.
pub type OutError = Box<dyn std::error::Error + Send + Sync>;
