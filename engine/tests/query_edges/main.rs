//! The branches of a query that a random history reaches seldom: each test is the smallest that fails if its branch is
//! wrong. What is lost, deleted or late is put where it has to matter; what must be left then follows by hand.

#[macro_use]
#[path = "../support/read_modes.rs"]
mod read_modes;

mod folds;
mod last;
mod lost_files;
mod merging;
mod points;
mod scene;
