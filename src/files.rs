//! Files that are no part of a store: configuration, secrets, input of `write`, the folder of a demo, stamps of what is
//! imported.
//!
//! The one home of `std::fs` in this crate. Files of a store belong to `wattlog_engine::io`.
#![expect(clippy::disallowed_methods, reason = "this is the module that may")]

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Longest configuration or secret, in bytes: more is a mistake in the path.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Reads a small text file whole.
///
/// # Errors
/// Those of the operating system; `InvalidData` for text that is not UTF-8, `FileTooLarge` above 1 MiB.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_TEXT_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_TEXT_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 1 MiB"));
    }
    Ok(text)
}

/// Opens input for reading: a file, or standard input for `-`.
pub(crate) fn open_input(path: &Path) -> io::Result<Box<dyn Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    Ok(Box::new(fs::File::open(path)?))
}

/// Makes a file for output; `AlreadyExists` if there is one.
pub(crate) fn create_new(path: &Path) -> io::Result<Box<dyn Write>> {
    Ok(Box::new(fs::File::create_new(path)?))
}

/// Makes `path` and its parents, if they are not there.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Length and time of the last change of a file, in bytes and in nanoseconds since 1970 (0 where the system keeps none).
pub(crate) fn stamp(path: &Path) -> io::Result<(u64, i128)> {
    let data = fs::metadata(path)?;
    let changed = data.modified().ok().map_or(0, |changed| match changed.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    });
    Ok((data.len(), changed))
}

/// The path by which a file or folder is always known; as it was given if it cannot be followed.
pub(crate) fn canonical(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether a folder holds nothing at all.
pub(crate) fn is_empty_folder(path: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(path)?.next().is_none())
}

/// Writes a text that can be made again at any time (a man page): no sync.
pub(crate) fn write_text(path: &Path, text: &[u8]) -> io::Result<()> {
    fs::write(path, text)
}

/// A folder that goes away with the value.
pub(crate) fn temporary_folder(prefix: &str) -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(prefix).tempdir()
}
