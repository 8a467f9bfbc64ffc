//! Which files there are to read, and in which order.
//!
//! Promise: the same folder gives the same list. Links are not followed: a file they lead to is read where it lies, if that
//! is in the folder. What is not read stands in [`Tree::skipped`] with the reason.
//!
//! Order: stores before JSON, lists of readings before all other JSON, then by name. Of two records with one key the later
//! wins, and the files hold more of a decision than the store kept. Only neighbours tell the pass of a reading in the
//! repeated hour, and only lists hold neighbours: what they prove must be known when the same reading comes alone.

use crate::error::Error;
use crate::files::{self, EntryKind};
use crate::limits::Limits;
use crate::shape::{Name, of_name};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of the optimiser below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Files to read, in this order.
    pub files: Vec<FoundFile>,
    /// Files and folders that are not read.
    pub skipped: Vec<Skipped>,
}

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Name relative to the folder, with `/` between its parts; the bare name of a store outside it.
    pub name: Arc<str>,
    /// Where it is.
    pub path: PathBuf,
    /// How it is read.
    pub kind: FileKind,
    /// Its length when it was found.
    pub bytes: u64,
}

impl FoundFile {
    /// Its name without folders.
    pub(crate) fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// Files of a smaller turn are read first.
    fn turn(&self) -> u8 {
        match self.kind {
            FileKind::Store => 0,
            FileKind::Json if LISTS.iter().any(|prefix| self.file_name().starts_with(prefix)) => 1,
            FileKind::Json => 2,
        }
    }
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// JSON, JSON lines, either compressed with gzip.
    Json,
    /// SQLite, with its log beside it.
    Store,
}

/// A file or folder that is not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Name relative to the folder.
    pub name: String,
    /// A sentence for the owner.
    pub reason: String,
}

impl Tree {
    /// Finds the files below `folder`, and `store` beside them, wherever that is.
    ///
    /// Names the optimiser never used are looked at below its own folders `out` and `data` alone.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be listed or the store is no file; [`Error::Limit`] if there are too many files.
    pub fn scan(folder: &Path, store: Option<&Path>, limits: &Limits) -> Result<Self, Error> {
        let mut tree = Self { files: Vec::new(), skipped: Vec::new() };
        let mut folders = vec![(folder.to_owned(), String::new(), 0)];
        while let Some((path, prefix, depth)) = folders.pop() {
            let entries = match files::list(&path) {
                Ok(entries) => entries,
                Err(Error::Io { source, .. }) if depth > 0 => {
                    tree.skip(prefix, format!("it cannot be listed: {source}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            for entry in entries {
                let name = format!("{prefix}{}", entry.name);
                match entry.kind {
                    EntryKind::Folder
                        if entry.name.starts_with('.') || OTHERS.contains(&entry.name.as_str()) => {}
                    EntryKind::Folder if depth >= limits.depth => {
                        tree.skip(name, format!("more than {} folders deep (limit `depth`)", limits.depth));
                    }
                    EntryKind::Folder => folders.push((entry.path, format!("{name}/"), depth + 1)),
                    EntryKind::File { bytes } => tree.consider(name, entry.path, bytes, limits),
                    EntryKind::Link => {
                        tree.skip(name, "a link; what it leads to is not read through it".to_owned());
                    }
                    EntryKind::Other => tree.skip(name, "neither a file nor a folder".to_owned()),
                }
                if tree.files.len() + tree.skipped.len() > limits.files {
                    let what = format!("more than {} files", limits.files);
                    return Err(Error::Limit { limit: "files", path: folder.to_owned(), what });
                }
            }
        }
        if let Some(path) = store {
            let bytes = files::length(path)?;
            if !tree.files.iter().any(|file| files::same_file(&file.path, path)) {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                let name = Arc::from(name.as_ref());
                tree.files.push(FoundFile { name, path: path.to_owned(), kind: FileKind::Store, bytes });
            }
        }
        tree.files.sort_by(|a, b| (a.turn(), &a.name).cmp(&(b.turn(), &b.name)));
        tree.skipped.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tree)
    }

    fn skip(&mut self, name: String, reason: String) {
        self.skipped.push(Skipped { name, reason });
    }

    fn consider(&mut self, name: String, path: PathBuf, bytes: u64, limits: &Limits) {
        let file_name = name.rsplit('/').next().unwrap_or(&name);
        let lower = file_name.to_ascii_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| lower.ends_with(ending));
        let own_folder = name.split('/').rev().skip(1).any(|part| matches!(part, "out" | "data"));
        if ends(&[".db", ".sqlite", ".sqlite3"]) {
            if file_name.starts_with("goodwe") {
                self.files.push(FoundFile { name: Arc::from(name), path, kind: FileKind::Store, bytes });
            } else {
                self.skip(
                    name,
                    "a store the optimiser did not name so; pass it by its path if it is one".to_owned(),
                );
            }
        } else if ends(&[".json", ".jsonl", ".json.gz", ".jsonl.gz"]) {
            if of_name(file_name) == Name::Foreign && !own_folder {
                self.skip(name, "a name the optimiser never used".to_owned());
            } else if bytes > limits.json_file_bytes {
                let limit = limits.json_file_bytes;
                self.skip(name, format!("{bytes} bytes, more than {limit} (limit `json_file_bytes`)"));
            } else {
                self.files.push(FoundFile { name: Arc::from(name), path, kind: FileKind::Json, bytes });
            }
        } else if ends(&[".tmp"]) && of_name(file_name) != Name::Foreign {
            self.skip(name, "a file that was being written; the finished one counts".to_owned());
        }
        // Everything else (code, logs, a store's log beside it) is none of ours.
    }
}

/// Names of files that hold readings in their order.
const LISTS: [&str; 2] = ["historical_data_", "energy_data_"];
/// Folders of code and of other programs beside the optimiser's own.
const OTHERS: [&str; 5] = ["node_modules", "venv", "site-packages", "__pycache__", "target"];
