//! Where a demo keeps its store: a temporary folder, or one that is empty or a former demo's.
//!
//! Promise: made-up points never get into a store that is somebody's own.

use crate::failure::{Failure, Kind};
use crate::files;
use std::path::{Path, PathBuf};

/// Tells a former demo from a store that is somebody's own. Written before the store is.
const MARK: &str = "wattlog-demo";
const MARK_TEXT: &[u8] = b"`wattlog demo` made the store in this folder: its points are invented.\n";

#[derive(Debug)]
pub(super) enum Folder {
    /// Goes away with the value.
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Folder {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }
}

/// `wanted`, made if it is not there, or a temporary folder.
pub(super) fn open(wanted: Option<&Path>) -> Result<Folder, Failure> {
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Kind::Permission,
            _ => Kind::CannotCreate,
        };
        let name = wanted.map_or_else(|| "a temporary folder".to_owned(), |path| path.display().to_string());
        Failure::new(kind, format!("make {name}: {error}"))
    };
    let Some(folder) = wanted else {
        return files::temporary_folder("wattlog-demo-").map(Folder::Temporary).map_err(failed);
    };
    files::create_folder(folder).map_err(failed)?;
    let mark = folder.join(MARK);
    if !mark.exists() {
        if !files::is_empty_folder(folder).map_err(failed)? {
            let message = format!(
                "{}: neither empty nor a former demo (it has no file {MARK}): invented points do not go there",
                folder.display()
            );
            return Err(Failure::new(Kind::Usage, message));
        }
        files::write_text(&mark, MARK_TEXT).map_err(failed)?;
    }
    Ok(Folder::Kept(folder.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_points_stay_out_of_a_folder_that_holds_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("new/store");
        assert_eq!(open(Some(&below)).unwrap().path(), below);
        assert!(open(Some(&below)).is_ok(), "a former demo is taken again");
        let refused = open(Some(folder.path())).unwrap_err();
        assert_eq!(refused.kind(), Kind::Usage);
        assert!(refused.to_string().contains("neither empty nor a former demo"), "{refused}");
    }
}
