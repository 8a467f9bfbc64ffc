//! `import optimiser`: a tree of the GoodWe price optimiser becomes points of the store and records of the ledger.
//!
//! Promise: twice is once, and broken off at any moment and begun again is once too. What was read stands in the report as
//! stored, repaired, refused or already there, with file and place. The originals are only read.
//!
//! Invariants
//! 1. Every run reads every file, in the same order: what one file proves about another (which pass of a repeated hour,
//!    which record is a duplicate) is known again. Only the storing is left out for files that are done.
//! 2. A file is marked done if it was read to its end, after the store acknowledged all of its points under `always` and the
//!    ledger committed its records.
//! 3. A record that takes the place of one written in this run is written, also from a file that is done: the later of two
//!    records wins in the store as it does in one run. The place is its key in the files, or the point or the record of the
//!    ledger that it becomes: two keys can become one.
//! 4. A record of the ledger that somebody else changed last stays as it is.
//! 5. Memory is that of the reader (one JSON file, the keys it remembers), one batch and, of a run that finds files done, a
//!    hash for each point and record that it writes.
//!
//! `points` and `records` say what becomes of what (pure), `writer` stores it, `done` remembers files, `validate` compares,
//! `remove` takes it all out again, `report` tells. `settings` and `tariff` read the optimiser's configuration.

mod done;
mod mapping;
mod names;
mod points;
mod progress;
mod records;
mod remove;
mod report;
mod run;
pub(crate) mod settings;
mod tariff;
mod validate;
mod writer;

pub(crate) use points::{IMPORTED, OPTIMISER};
pub(crate) use remove::{Removal, RemovalReport, remove};
pub(crate) use report::ImportReport;
pub(crate) use run::{Files, Home, Mode, Plan, Stores, device_name, run, serial_of};
