//! What was imported, how far it is, and what came of it.

use super::{check_end, check_name, empty_object};
use crate::record::{Invalid, record, words};
use serde_json::Value;
use wattlog_model::Timestamp;

words! {
    /// How far an import is.
    pub enum ImportStatus {
        /// Under way, or broken off: it can be resumed.
        Running = "running",
        /// Done.
        Completed = "completed",
        /// Given up; the report says why.
        Failed = "failed",
    }
}

record! {
    /// One import; its progress is written as it goes, so its changes leave no history.
    pub struct ImportRun in "import_runs"
    key ["run_key"] time "started_ns" filters ["run_key", "tool", "status"] history false
    {
        /// Names it: the same source gives the same.
        run_key: String => "run_key",
        /// `optimiser`, `line protocol`, ...
        tool: String => "tool",
        /// Where it reads from.
        source: String => "source",
        /// How far it is.
        status: ImportStatus => "status",
        /// When it began.
        #[serde(with = "crate::instant")] started: Timestamp => "started_ns",
        /// When it ended.
        #[serde(default, with = "crate::instant::maybe")] finished: Option<Timestamp> => "finished_ns",
        /// Where to go on.
        #[serde(default = "empty_object")] progress: Value => "progress",
        /// What was read, stored, repaired, refused.
        #[serde(default = "empty_object")] report: Value => "report",
    }
}

impl ImportRun {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("run_key", &self.run_key)?;
        check_name("tool", &self.tool)?;
        if (self.status == ImportStatus::Running) != self.finished.is_none() {
            return Err(Invalid::new("finished", "an import has an end if it is not running, and only then"));
        }
        check_end("finished", self.started, self.finished)
    }
}
