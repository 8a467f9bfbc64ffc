//! What opening found and did, for people and for `/health`.

use crate::error::Damage;

/// The end of a file that a power cut tore; nothing in it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornEnd {
    /// Path within the store.
    pub file: String,
    /// Where the torn record begins.
    pub offset: u64,
}

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// True if the store was made by this opening.
    pub fresh: bool,
    /// True if it had been closed in order: every log with its sealing record.
    pub clean: bool,
    /// Records replayed from logs.
    pub replayed_records: u64,
    /// Rows in them that are in no segment yet.
    pub replayed_points: u64,
    /// Values in them.
    pub replayed_values: u64,
    /// Records that nobody was told of as stored, and that are therefore not there.
    pub void_records: u64,
    /// Ends of logs and of the manifest that a power cut tore.
    pub torn: Vec<TornEnd>,
    /// Damaged parts: points may be missing.
    pub damage: Vec<Damage>,
    /// True if the list of files was rebuilt from the files themselves.
    pub rebuilt: bool,
    /// Unfinished or unused files that were removed.
    pub orphans_removed: u64,
    /// What a person should look at.
    pub alarms: Vec<String>,
}
