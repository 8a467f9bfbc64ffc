//! How much one migration may take. Each limit is told by name when it is reached.

/// Bounds of a migration; the defaults fit years of one home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files of a tree. The optimiser wrote some 400 a day in its first three months: about 40 000.
    pub files: usize,
    /// Folders below the tree's folder.
    pub depth: usize,
    /// Bytes of one JSON file, decompressed. A file is held in memory while it is read; a day of states took 3 MB.
    pub json_file_bytes: u64,
    /// Bytes of the store with its log, which are copied into a temporary folder.
    pub store_bytes: u64,
    /// Bytes of one text in the store.
    pub store_text_bytes: usize,
    /// Keys remembered over all files to find duplicates, at 16 bytes each.
    pub remembered_keys: usize,
    /// Refusals of one file that are told one by one; all are counted.
    pub refusals_per_file: u64,
    /// Names of unknown keys counted in one file.
    pub unknown_keys: usize,
    /// Holes listed.
    pub holes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files: 1_000_000,
            depth: 16,
            json_file_bytes: 32 << 20,
            store_bytes: 4 << 30,
            store_text_bytes: 256 << 10,
            remembered_keys: 20_000_000,
            refusals_per_file: 1_000,
            unknown_keys: 200,
            holes: 1_000,
        }
    }
}
